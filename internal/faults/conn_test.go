package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A world is a table and a peer, n2, whose end of each connection the test holds.
type world struct {
	t     *testing.T
	table *Table
	dial  DialFunc
	peers chan net.Conn
}

// inWorld runs a test in a bubble. Whatever it leaves broken and open is gone once the table is closed.
func inWorld(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, peers: make(chan net.Conn, 10)}
		w.table = NewTable(func(peer string) []string {
			return map[string][]string{"n2": {"n2:5433", "127.0.0.1:6000"}, "n3": {"n3:5433"}}[peer]
		})
		w.dial = w.table.Dialer(Raft, func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			w.peers <- there
			return here, nil
		})
		test(w)
		w.table.Close()
	})
}

// connect makes a connection to n2.
func (w *world) connect() (here, there net.Conn) {
	w.t.Helper()
	here, err := w.dial(w.t.Context(), "tcp", "n2:5433")
	if err != nil {
		w.t.Fatal(err)
	}
	return here, <-w.peers
}

func (w *world) inject(text string) int {
	w.t.Helper()
	f, err := Parse(text)
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := w.table.Inject(f)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) send(c net.Conn, s string) {
	w.t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		w.t.Fatalf("Write(%q) = %d, %v", s, n, err)
	}
}

// arrives verifies what comes next, and that it does so after d.
func (w *world) arrives(c net.Conn, want string, d time.Duration) {
	w.t.Helper()
	begin, b := time.Now(), make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		w.t.Fatalf("%q arrives, %v, want %q", b, err, want)
	}
	if took := time.Since(begin); took != d {
		w.t.Fatalf("%q arrives after %v, want %v", want, took, d)
	}
}

// silence verifies that nothing comes, the end of the connection included.
func (w *world) silence(c net.Conn) {
	w.t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Hour))
	defer c.SetReadDeadline(time.Time{})
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatalf("Read() = %d, %v, want nothing for an hour", n, err)
	}
}

func (w *world) hits(want ...int64) {
	w.t.Helper()
	for i, a := range w.table.Active() {
		if a.Hits != want[i] {
			w.t.Errorf("fault %q has hit %d times, want %d", a.Fault, a.Hits, want[i])
		}
	}
}

// A table without faults changes nothing.
func TestNoFault(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.send(here, "hello")
		w.arrives(there, "hello", 0)
		w.send(there, "you too")
		w.arrives(here, "you too", 0)
		there.Close()
		if _, err := here.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read() = %v after the peer has closed, want EOF", err)
		}
	})
}

// What is sent into a cut arrives when that is healed, and not before; so does the end.
func TestCutTo(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.inject("cut to n2")
		w.send(here, "one")
		w.send(here, "two")
		w.send(there, "still heard")
		w.arrives(here, "still heard", 0)
		w.silence(there)
		w.hits(1)
		here.Close()
		if _, err := here.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write() after Close() = %v", err)
		}
		w.silence(there)
		if n := w.table.Heal(0); n != 1 {
			t.Errorf("Heal(0) = %d, want 1", n)
		}
		w.arrives(there, "onetwo", 0)
		if _, err := there.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read() = %v after all that was sent, want EOF", err)
		}
	})
}

// What comes through a cut is not seen before that is healed, nor that the peer is gone.
func TestCutFrom(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.inject("cut from n2")
		w.send(here, "still sent")
		w.arrives(there, "still sent", 0)
		w.send(there, "lost?")
		there.Close()
		w.silence(here)
		w.table.Heal(0)
		w.arrives(here, "lost?", 0)
		if _, err := here.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read() = %v at the end, want EOF", err)
		}
	})
}

// While nothing arrives one way, nothing is confirmed, and so TCP stops the other way, soon.
func TestUnconfirmed(t *testing.T) {
	for _, cut := range []string{"cut to n2", "cut from n2"} {
		inWorld(t, func(w *world) {
			here, there := w.connect()
			w.inject(cut)
			open, from := here, there // the way that is open
			if cut == "cut to n2" {
				open, from = there, here
			}
			time.Sleep(unconfirmed - time.Nanosecond)
			w.send(open, "before")
			w.arrives(from, "before", 0)
			time.Sleep(time.Nanosecond)
			w.send(open, "after")
			w.silence(from)
			w.table.Heal(0)
			w.arrives(from, "after", 0)
		})
	}
}

// A read that began before the cut does not see through it.
func TestCutDuringRead(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		got := make(chan string)
		go func() {
			b := make([]byte, 10)
			n, err := here.Read(b)
			got <- string(b[:n])
			if err != nil {
				t.Errorf("Read() = %v", err)
			}
		}()
		synctest.Wait()
		w.inject("cut from n2")
		w.send(there, "later")
		synctest.Wait()
		select {
		case s := <-got:
			t.Fatalf("%q was read through a cut", s)
		default:
		}
		w.table.Heal(0)
		if s := <-got; s != "later" {
			t.Errorf("%q was read, want %q", s, "later")
		}
	})
}

// Closing a connection ends what waits for it on this side.
func TestCloseDuringCut(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.inject("cut n2")
		done := make(chan error)
		go func() { _, err := here.Read(make([]byte, 1)); done <- err }()
		go func() { _, err := here.Write(make([]byte, laneRoom+1)); done <- err }()
		synctest.Wait()
		here.Close()
		for range 2 {
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Errorf("closed, what waited ends with %v", err)
			}
		}
		w.silence(there)
	})
}

// A fault is one of the peer, the kind and the direction that it names.
func TestElsewhere(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.inject("cut n3")
		w.inject("cut n2 replication,commands,gossip")
		w.send(here, "hello")
		w.arrives(there, "hello", 0)
		w.send(there, "you too")
		w.arrives(here, "you too", 0)
		w.hits(0, 0)
		w.inject("cut * raft")
		w.silence(here)
	})
}

// Whoever connects into a cut waits, until it is healed or patience ends.
func TestDial(t *testing.T) {
	for _, cut := range []string{"cut to n2", "cut from n2", "cut n2 raft"} {
		inWorld(t, func(w *world) {
			w.inject(cut)
			ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
			defer cancel()
			c, err := w.dial(ctx, "tcp", "n2:5433")
			if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
				t.Errorf("%s: dial = %v, %v, want a timeout", cut, c, err)
			}
			begin := time.Now()
			if _, err := w.dial(w.t.Context(), "tcp", "n2:5433"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != dialPatience {
				t.Errorf("%s: dial ends with %v after %v, want %v", cut, err, time.Since(begin), dialPatience)
			}
			time.AfterFunc(time.Minute, func() { w.table.Heal(0) })
			here, there := w.connect()
			w.send(here, "hello")
			w.arrives(there, "hello", 0)
		})
	}
}

// A member is known by all its addresses, and localhost by its number.
func TestAddresses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.inject("cut n2")
		for _, address := range []string{"n2:5433", "localhost:6000", "127.0.0.1:6000"} {
			ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
			if _, err := w.dial(ctx, "tcp", address); err == nil {
				t.Errorf("%s can be reached", address)
			}
			cancel()
		}
		for _, address := range []string{"n3:5433", "localhost:6001", "n2:6000"} {
			if _, err := w.dial(w.t.Context(), "tcp", address); err != nil {
				t.Errorf("%s: %v", address, err)
			}
		}
	})
}

// With a delay everything arrives so much later, and not the slower for it.
func TestDelay(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.inject("delay to n2 50ms")
		w.inject("delay n2 50ms")
		w.send(here, "one")
		time.Sleep(10 * time.Millisecond)
		w.send(here, "two")
		w.arrives(there, "one", 90*time.Millisecond)
		w.arrives(there, "two", 10*time.Millisecond)
		w.send(there, "back")
		w.arrives(here, "back", 50*time.Millisecond)
		begin := time.Now()
		w.connect()
		if took := time.Since(begin); took != 150*time.Millisecond {
			t.Errorf("connecting took %v, want a round trip", took)
		}
	})
}

// With a limit each second carries so much.
func TestLimit(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.inject("limit to n2 1MB")
		w.inject("limit n2 100kB")
		begin := time.Now()
		go here.Write(make([]byte, 300<<10))
		if _, err := io.ReadFull(there, make([]byte, 300<<10)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin).Round(100 * time.Millisecond); took != 3*time.Second {
			t.Errorf("300 kB took %v at 100 kB/s", took)
		}
		go there.Write(make([]byte, 200<<10))
		if _, err := io.ReadFull(here, make([]byte, 200<<10)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin).Round(100 * time.Millisecond); took < 4700*time.Millisecond {
			t.Errorf("another 200 kB had come after %v", took)
		}
	})
}

// No more is on its way than fits; then writers wait, until their deadline.
func TestBackpressure(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.inject("cut to n2")
		here.SetWriteDeadline(time.Now().Add(time.Second))
		text := strings.Repeat("0123456789", laneRoom/10+100)
		n, err := here.Write([]byte(text))
		if n != laneRoom || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write() = %d, %v, want %d and a timeout", n, err, laneRoom)
		}
		here.SetWriteDeadline(time.Time{})
		w.table.Heal(0)
		go here.Write([]byte(text[n:]))
		got := make([]byte, len(text))
		if _, err := io.ReadFull(there, got); err != nil || !bytes.Equal(got, []byte(text)) {
			t.Errorf("what arrives is not what was sent: %v", err)
		}
	})
}

// A deadline that is moved counts from then on, and one that has passed counts no more.
func TestDeadline(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		here.SetDeadline(time.Unix(1, 0))
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read() = %v past the deadline", err)
		}
		if _, err := here.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write() = %v past the deadline", err)
		}
		here.SetDeadline(time.Now().Add(time.Second))
		here.SetDeadline(time.Now().Add(time.Minute))
		time.AfterFunc(30*time.Second, func() { there.Write([]byte("x")) })
		w.arrives(here, "x", 30*time.Second)
		begin := time.Now()
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != 30*time.Second {
			t.Errorf("Read() = %v after %v, want a timeout after 30s", err, time.Since(begin))
		}
		go func() { // as election.conn does when its context ends
			time.Sleep(time.Second)
			here.SetDeadline(time.Unix(1, 0))
		}()
		here.SetDeadline(time.Now().Add(time.Minute))
		begin = time.Now()
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("Read() = %v after %v, want a timeout after 1s", err, time.Since(begin))
		}
	})
}

// The error of the real connection is the one that is seen, after what it has carried.
func TestBrokenConnection(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		go func() { there.Write([]byte("last")); there.Close() }()
		w.arrives(here, "last", 0)
		synctest.Wait()
		here.Write([]byte("x"))
		synctest.Wait()
		if _, err := here.Write([]byte("y")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Write() = %v, want that of the pipe", err)
		}
	})
}

// A closed table takes its connections along, however they are cut, and lets no new ones be.
func TestCloseTable(t *testing.T) {
	inWorld(t, func(w *world) {
		here, there := w.connect()
		w.inject("cut n2")
		w.send(here, "never")
		w.table.Close()
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read() = %v", err)
		}
		if b, err := io.ReadAll(there); len(b) > 0 || err != nil {
			t.Errorf("the peer reads %q, %v", b, err)
		}
		w.table.Heal(0)
		if _, err := w.dial(w.t.Context(), "tcp", "n2:5433"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial = %v", err)
		}
	})
}

func TestPackets(t *testing.T) {
	inWorld(t, func(w *world) {
		p := w.table.Packets(Gossip)
		var sent, received []string
		var mu sync.Mutex // which nobody waits for: it orders what a timer does
		note := func(list *[]string, s string) func() {
			return func() { mu.Lock(); defer mu.Unlock(); *list = append(*list, s) }
		}
		send := func(s string) { p.Send("n2:5433", note(&sent, s)) }
		receive := func(s string) { p.Receive("n2:5433", note(&received, s)) }
		send("a")
		receive("a")
		w.inject("cut to n2 gossip")
		send("b")
		receive("b")
		w.table.Heal(0)
		w.inject("cut n2 raft")
		w.inject("delay from n2 gossip 1s")
		send("c")
		receive("c")
		mu.Lock()
		if got := strings.Join(sent, "") + " " + strings.Join(received, ""); got != "ac ab" {
			t.Errorf("sent and received: %s, want ac ab", got)
		}
		mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(received, ""); got != "abc" {
			t.Errorf("received %s a second later, want abc", got)
		}
		w.hits(0, 1)
	})
}

func TestInject(t *testing.T) {
	inWorld(t, func(w *world) {
		if _, err := w.table.Inject(Fault{Effect: Cut, Peer: "n9"}); !errors.Is(err, ErrUnknownPeer) {
			t.Errorf("Inject() = %v for a peer that nobody knows", err)
		}
		one, two := w.inject("cut n2"), w.inject("stall")
		if n := w.table.Heal(one); n != 1 {
			t.Errorf("Heal(%d) = %d", one, n)
		}
		if n := w.table.Heal(one); n != 0 {
			t.Errorf("Heal(%d) = %d the second time", one, n)
		}
		if a := w.table.Active(); len(a) != 1 || a[0].ID != two || a[0].Fault.Effect != Stall || !a[0].Since.Equal(time.Now()) {
			t.Errorf("Active() = %+v", a)
		}
		for range maxFaults - 1 {
			w.inject("full")
		}
		if _, err := w.table.Inject(Fault{Effect: Full}); err == nil {
			t.Error("there is no limit")
		}
	})
}
