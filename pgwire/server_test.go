package pgwire

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// serve runs s on a loopback listener until the test ends, and returns its address.
func serve(t testing.TB, s *Server) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve() = %v", err)
		}
		if n := len(s.Conns()); n != 0 || len(s.sockets) != 0 {
			t.Errorf("Serve returned and left %d connections, %d sockets", n, len(s.sockets))
		}
	})
	return ln.Addr()
}

// dial connects to a server that serve runs.
func dial(t testing.TB, addr net.Addr) *client {
	t.Helper()
	nc, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &client{t: t, nc: nc, fe: pgproto3.NewFrontend(nc, nc)}
}

func cancelPacket(pid int32, key []byte) []byte {
	return packet(codeCancelRequest, string(binary.BigEndian.AppendUint32(nil, uint32(pid)))+string(key))
}

// A cancel request ends the running statement and nothing else, and only with the right key.
func TestCancelRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(Config{})
		c := newClient(t, s)
		c.connect()
		cancelWith := func(key [4]byte) {
			other := newClient(t, s)
			other.sendBytes(cancelPacket(s.Conns()[0].PID, key[:]))
			if got, _ := io.ReadAll(other.nc); len(got) != 0 {
				t.Errorf("answer to a cancel request: %q", got)
			}
		}
		secret := s.Conns()[0].secret
		cancelWith(secret) // idle: to no effect

		c.send(&pgproto3.Query{String: "wait; write"})
		waitBusy(s)
		wrong := secret
		wrong[3]++
		cancelWith(wrong)
		synctest.Wait()
		if _, ok := s.Conns()[0].busy(); !ok {
			t.Fatal("a wrong key cancelled the statement")
		}
		cancelWith(secret)
		want := []string{"E ERROR 57014 canceling statement due to user request", "Z I"}
		if got := c.untilReady(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := c.query("rows 0"); got[len(got)-1] != "Z I" {
			t.Errorf("after the cancel: %q", got)
		}
		// The next one can be cancelled, too: each has a context of its own from then on.
		c.send(&pgproto3.Query{String: "wait"})
		waitBusy(s)
		if !s.CancelBackend(s.Conns()[0].PID) || s.CancelBackend(4711) {
			t.Error("CancelBackend: want true for a connection, false for none")
		}
		if got := c.untilReady(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Termination reaches a connection whatever it is doing.
func TestTerminateSessions(t *testing.T) {
	reason := Errorf(CodeAdminShutdown, "terminating connection: not the primary any more")
	want := []string{"E FATAL 57P01 terminating connection: not the primary any more", "EOF"}
	for _, state := range []string{"idle", "running", "in a pipeline", "half a message"} {
		t.Run(state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(Config{})
				c := newClient(t, s)
				c.connect()
				switch state {
				case "running":
					c.send(&pgproto3.Query{String: "wait"})
				case "in a pipeline":
					c.send(&pgproto3.Parse{Query: "write"}, &pgproto3.Bind{}, &pgproto3.Execute{})
				case "half a message":
					c.sendBytes([]byte{'Q', 0, 0})
				}
				synctest.Wait()
				done := make(chan error)
				go func() { done <- s.TerminateSessions(t.Context(), reason) }()
				got := c.untilReady()
				if state == "in a pipeline" { // what was answered already comes first
					got = got[2:]
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
				if err := <-done; err != nil || len(s.Conns()) != 0 {
					t.Errorf("TerminateSessions() = %v with %d connections left", err, len(s.Conns()))
				}
			})
		})
	}
}

// A client that does not read its answers blocks its session, which holds a bounded amount of
// them, and cannot hold up the end.
func TestTerminateClientThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(Config{})
		c := newClient(t, s)
		c.connect()
		c.send(&pgproto3.Query{String: "big"})
		conn := waitBusy(s)
		synctest.Wait()
		if n := cap(conn.out.buf); n > 4<<20 {
			t.Errorf("%d bytes of output gathered", n)
		}
		start := time.Now()
		if err := s.TerminateSessions(t.Context(), adminShutdown()); err != nil {
			t.Error(err)
		}
		if got := time.Since(start); got != lastWords {
			t.Errorf("gone after %v, want %v", got, lastWords)
		}
	})
}

func TestTerminateBackend(t *testing.T) {
	s := newTestServer(Config{})
	c, other := newClient(t, s), newClient(t, s)
	c.connect()
	other.connect()
	if !s.TerminateBackend(s.Conns()[0].PID) || s.TerminateBackend(4711) {
		t.Error("TerminateBackend: want true for a connection, false for none")
	}
	want := []string{"E FATAL 57P01 terminating connection due to administrator command", "EOF"}
	if got := c.untilReady(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := other.query("rows 0"); got[len(got)-1] != "Z I" {
		t.Errorf("the other connection: %q", got)
	}
}

// The wait of TerminateSessions has an end of its own.
func TestTerminateGivesUp(t *testing.T) {
	s := newTestServer(Config{Handler: &fakeHandler{replication: func(_ context.Context, c *Conn, _ string) error {
		_, err := c.Receive() // deaf to its context
		return err
	}}})
	c := newClient(t, s)
	c.connect("replication", "true")
	c.send(&pgproto3.Query{String: "X"})
	waitBusy(s)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := s.TerminateReplication(ctx, adminShutdown(), everyone); err == nil || err.Error() != "enough" {
		t.Errorf("TerminateReplication() = %v", err)
	}
}

// A panic ends the session it happened in, and only that.
func TestPanicInSession(t *testing.T) {
	s := newTestServer(Config{})
	c, other := newClient(t, s), newClient(t, s)
	c.connect()
	other.connect()
	want := []string{"E FATAL XX000 internal error | detail: The session has failed; the server's log says more.", "EOF"}
	if got := c.query("panic"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := other.query("rows 0"); got[len(got)-1] != "Z I" {
		t.Errorf("the other connection: %q", got)
	}
}

// A statement whose client has vanished is cancelled, even if the client said goodbye first.
func TestClientGone(t *testing.T) {
	s := newTestServer(Config{})
	c := dial(t, serve(t, s))
	c.connect()
	c.send(&pgproto3.Query{String: "wait"}, &pgproto3.Terminate{})
	conn := waitBusy(s)
	c.nc.Close()
	select {
	case <-conn.done:
		if err := context.Cause(conn.ctx); err != ErrClientGone {
			t.Errorf("ended by %v, want %v", err, ErrClientGone)
		}
	case <-time.After(10 * time.Second):
		t.Error("the statement of a vanished client runs on")
	}
}

// Serve ends its connections and waits for them; its own end is in serve's cleanup.
func TestServeEnds(t *testing.T) {
	s := newTestServer(Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reason := Errorf(CodeAdminShutdown, "the server is going down")
	ctx, cancel := context.WithCancelCause(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()

	idle, silent := dial(t, ln.Addr()), dial(t, ln.Addr())
	idle.connect()
	cancel(reason)
	if got := idle.receive(); got != "E FATAL 57P01 the server is going down" {
		t.Errorf("idle connection: %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
	silent.nc.Close()
}

// Many connections come, ask and go at once while others are cancelled and terminated.
func TestManyConnections(t *testing.T) {
	s := newTestServer(Config{})
	addr := serve(t, s)
	stop := make(chan struct{})
	var wg, meddler sync.WaitGroup
	meddler.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, c := range s.Conns() {
				s.CancelBackend(c.PID)
				if i++; i%64 == 0 {
					s.TerminateBackend(c.PID)
				}
			}
		}
	})
	for range 8 {
		wg.Go(func() {
			for range 20 {
				c := dial(t, addr)
				c.connect()
				ended := false
				for range 5 {
					got := c.query("write; rows 2")
					if ended && len(got) > 1 {
						t.Errorf("answers after the end: %q", got)
					}
					ended = got[len(got)-1] == "EOF"
				}
				c.nc.Close()
			}
		})
	}
	wg.Wait()
	close(stop)
	meddler.Wait()
}
