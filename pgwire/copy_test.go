package pgwire

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A cancel request ends a COPY that waits for its client, and leaves the connection as it should be: what
// the client goes on sending is read past, a message that was cut in half too.
func TestCancelCopyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(Config{})
		c := newClient(t, s)
		c.connect()
		for range 2 { // the deadline that woke it is gone the second time
			c.send(&pgproto3.Query{String: "begin; copyin"}, &pgproto3.CopyData{Data: []byte("abc")})
			c.checkLines("C BEGIN", "CopyInResponse")
			synctest.Wait()
			if a := s.Conns()[0].Activity(); !a.Working || a.Waits == nil || *a.Waits != clientRead {
				t.Errorf("while it waits for its client: %+v", a)
			}
			half, _ := (&pgproto3.CopyData{Data: []byte("abcdef")}).Encode(nil)
			c.sendBytes(half[:7])
			synctest.Wait()
			if !s.CancelBackend(s.Conns()[0].PID) {
				t.Fatal("no such connection")
			}
			c.checkLines("E ERROR 57014 canceling statement due to user request", "Z E")
			if e := s.Conns()[0].waits.Load(); e != nil {
				t.Errorf("afterwards it waits for %v", e)
			}
			c.sendBytes(half[7:])
			synctest.Wait()
			c.send(&pgproto3.CopyData{Data: []byte("abc")}, &pgproto3.CopyDone{}, &pgproto3.Query{String: "commit"})
			c.checkLines("C COMMIT", "Z I")
		}
	})
}

func (c *client) checkLines(want ...string) {
	c.t.Helper()
	var got []string
	for range want {
		got = append(got, c.receive())
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("got %q, want %q", got, want)
	}
}

// A connection that ends in the middle of a COPY tells why, or ends in silence if nobody listens.
func TestCopyInEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(Config{})
		c := newClient(t, s)
		c.connect()
		c.send(&pgproto3.Query{String: "copyin"})
		c.checkLines("CopyInResponse")
		go s.TerminateSessions(t.Context(), Errorf(CodeAdminShutdown, "not the primary any more"))
		c.checkLines("E FATAL 57P01 not the primary any more", "EOF")

		gone := newClient(t, s)
		gone.connect()
		gone.send(&pgproto3.Query{String: "copyin"}, &pgproto3.CopyData{Data: []byte("abc")})
		gone.checkLines("CopyInResponse")
		gone.nc.Close()
		synctest.Wait()
		if n := len(s.Conns()); n != 0 {
			t.Errorf("%d connections are left of a client that has gone", n)
		}
	})
}

// A client that does not read what a COPY sends holds up its own session and no other, and memory holds
// a buffer of it.
func TestCopyOutBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(Config{})
		c := newClient(t, s)
		c.connect()
		c.send(&pgproto3.Query{String: "copyout 1000;big"})
		synctest.Wait()
		other := newClient(t, s)
		other.connect()
		if got := other.query("rows 1"); got[len(got)-1] != "Z I" {
			t.Errorf("another session answers %q", got)
		}
		c.nc.Close()
		synctest.Wait()
		if n := len(s.Conns()); n != 1 {
			t.Errorf("%d connections, want the other one alone", n)
		}
	})
}

// A cancel request in the middle of a pipeline takes with it what the implicit transaction has done, and
// what is still to come up to Sync. One that comes between two of its messages finds nothing to cancel.
func TestCancelPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(Config{})
		c := newClient(t, s)
		c.connect()
		pid := s.Conns()[0].PID
		write := []pgproto3.FrontendMessage{&pgproto3.Parse{Query: "write"}, &pgproto3.Bind{}, &pgproto3.Execute{}}
		c.send(append(write, &pgproto3.Flush{})...)
		c.checkLines("ParseComplete", "BindComplete", "C INSERT 0 1")
		synctest.Wait()
		s.CancelBackend(pid)
		c.send(append([]pgproto3.FrontendMessage{&pgproto3.Parse{Query: "wait"}, &pgproto3.Bind{}, &pgproto3.Execute{}}, append(write, &pgproto3.Sync{})...)...)
		synctest.Wait()
		s.CancelBackend(pid)
		c.checkLines("ParseComplete", "BindComplete", "E ERROR 57014 canceling statement due to user request", "Z I")
		want := []string{"T log:25:0", `D "write"`, `D "wait"`, `D "fail"`, `D "finish"`, "C SELECT 4", "Z I"}
		if got := c.query("log"); !slices.Equal(got, want) {
			t.Errorf("the session was asked for %q, want %q", got, want)
		}
	})
}
