package simulation

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const (
	alice, bob = "127.0.0.1", "127.0.0.2"
	bobAddress = "127.0.0.2:80"
)

// A pair is a connection and its two hosts.
type pair struct {
	net        *Network
	from, to   *Host
	ours       net.Conn
	theirs     net.Conn
	t          *testing.T
	acceptFrom net.Listener
}

// inPair runs a test in a bubble, with a connection.
func inPair(t *testing.T, test func(t *testing.T, p *pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pair{net: NewNetwork(rand.New(rand.NewPCG(1, 1))), t: t}
		p.from, p.to = p.net.Boot(alice), p.net.Boot(bob)
		var err error
		if p.acceptFrom, err = p.to.Listen("tcp", bobAddress); err != nil {
			t.Fatal(err)
		}
		p.connect()
		test(t, p)
		p.ours.Close()
		p.theirs.Close()
	})
}

func (p *pair) connect() {
	p.t.Helper()
	var err error
	if p.ours, err = p.from.Dial(p.t.Context(), "tcp", bobAddress); err != nil {
		p.t.Fatal(err)
	}
	if p.theirs, err = p.acceptFrom.Accept(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) send(c net.Conn, text string) {
	p.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		p.t.Fatal(err)
	}
}

// read reads with a deadline.
func (p *pair) read(c net.Conn, bytes int, limit time.Duration) (string, error) {
	c.SetReadDeadline(time.Now().Add(limit))
	b := make([]byte, bytes)
	n, err := io.ReadFull(c, b)
	return string(b[:n]), err
}

func (p *pair) wantRead(c net.Conn, want string) {
	p.t.Helper()
	if got, err := p.read(c, len(want), time.Minute); got != want || err != nil {
		p.t.Errorf("read %q, %v, want %q", got, err, want)
	}
}

func (p *pair) wantError(err, want error) {
	p.t.Helper()
	if !errors.Is(err, want) {
		p.t.Errorf("error %v, want %v", err, want)
	}
}

// What is written arrives in order, after a while, and the end behind it.
func TestConnectionKeepsOrder(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		began := time.Now()
		p.send(p.ours, "one ")
		p.send(p.ours, "two")
		p.ours.Close()
		p.wantRead(p.theirs, "one two")
		if time.Since(began) < leastDelay {
			t.Errorf("it took %v", time.Since(began))
		}
		_, err := p.read(p.theirs, 1, time.Minute)
		p.wantError(err, io.EOF)
		_, err = p.theirs.Write([]byte("too late"))
		p.wantError(err, syscall.ECONNRESET)
	})
}

// In a cut the connection looks idle. What was written arrives once it is over.
func TestCutAndHeal(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.net.Cut(alice, bob)
		p.send(p.ours, "lost?")
		_, err := p.read(p.theirs, 5, time.Hour)
		p.wantError(err, os.ErrDeadlineExceeded)
		p.send(p.theirs, "the other way")
		p.wantRead(p.ours, "the other way")
		if p.net.Reachable(alice, bob) || !p.net.Reachable(bob, alice) {
			t.Error("a cut of one way is none, or of both")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = p.from.Dial(ctx, "tcp", bobAddress)
		p.wantError(err, os.ErrDeadlineExceeded)
		p.net.Heal()
		p.wantRead(p.theirs, "lost?")
	})
}

// A buffer that is full holds up the writer, until its deadline or until somebody reads.
func TestBufferIsBounded(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.ours.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := p.ours.Write(make([]byte, 2*normalBuffer))
		p.wantError(err, os.ErrDeadlineExceeded)
		if n != normalBuffer {
			t.Errorf("%d bytes were taken, want %d", n, normalBuffer)
		}
		p.ours.SetWriteDeadline(time.Time{})
		done := make(chan error)
		go func() { _, err := p.ours.Write([]byte("more")); done <- err }()
		p.wantRead(p.theirs, string(make([]byte, normalBuffer))+"more")
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// After a reset one end may still read what was under way, while the other has connected anew.
func TestResetIsSeenLater(t *testing.T) {
	for range 20 {
		inPair(t, func(t *testing.T, p *pair) {
			p.net.Slow(alice, bob, 50*time.Millisecond)
			p.send(p.ours, "under way")
			if n := p.net.Reset(alice, bob, 100); n != 1 {
				t.Fatalf("%d connections reset", n)
			}
			old := p.theirs
			_, err := p.ours.Write([]byte("x"))
			if err == nil { // the other end is the first to know
				_, err = p.read(p.ours, 1, time.Minute)
			}
			p.wantError(err, syscall.ECONNRESET)
			p.connect()
			p.send(p.ours, "again")
			p.wantRead(p.theirs, "again")
			b, err := io.ReadAll(old)
			p.wantError(err, syscall.ECONNRESET)
			if s := string(b); s != "" && s != "under way" && s != "under wayx" {
				t.Errorf("read %q", s)
			}
		})
	}
}

// The end of a process ends its connections, and its port refuses new ones. One that lost its power says nothing;
// once it is on again it resets what it does not know.
func TestHostEnds(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.to.Kill()
		_, err := p.read(p.ours, 1, time.Minute)
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("error %v", err)
		}
		_, err = p.theirs.Write([]byte("x"))
		p.wantError(err, net.ErrClosed)
		_, err = p.acceptFrom.Accept()
		p.wantError(err, net.ErrClosed)
		_, err = p.from.Dial(t.Context(), "tcp", bobAddress)
		p.wantError(err, syscall.ECONNREFUSED)
		p.to = p.net.Boot(bob)
		_, err = p.from.Dial(t.Context(), "tcp", bobAddress)
		p.wantError(err, syscall.ECONNREFUSED)
	})
	inPair(t, func(t *testing.T, p *pair) {
		p.to.PowerOff()
		_, err := p.read(p.ours, 1, time.Hour)
		p.wantError(err, os.ErrDeadlineExceeded)
		_, err = p.from.Dial(t.Context(), "tcp", bobAddress)
		p.wantError(err, syscall.ETIMEDOUT)
		p.net.Boot(bob)
		_, err = p.read(p.ours, 1, retransmit)
		p.wantError(err, syscall.ECONNRESET)
	})
}
