package pgwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// replicationServer runs command for each command of a replication connection.
func replicationServer(command func(ctx context.Context, c *Conn, text string) error) *Server {
	return newTestServer(Config{Handler: &fakeHandler{replication: command}})
}

func TestReplicationCommands(t *testing.T) {
	c := newClient(t, replicationServer(func(_ context.Context, c *Conn, text string) error {
		switch text {
		case "IDENTIFY_SYSTEM":
			c.SendRowDescription([]Column{{Name: "systemid", Type: 25, Size: -1, Mod: -1}, {Name: "dbname", Type: 25, Size: -1, Mod: -1}})
			c.SendTextRow([]byte("7"), nil)
			c.SendCommandComplete("IDENTIFY_SYSTEM")
			return nil
		case "HANGUP":
			return ErrHangup
		}
		return Errorf(CodeSyntaxError, "syntax error")
	}))
	if got := c.connect("replication", "true", "database", "replication"); got[len(got)-1] != "Z I" {
		t.Fatalf("connect: %q", got)
	}
	for _, tt := range []struct {
		send []pgproto3.FrontendMessage
		want []string
	}{
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "IDENTIFY_SYSTEM"}},
			[]string{"T systemid:25:0 dbname:25:0", `D "7" NULL`, "C IDENTIFY_SYSTEM", "Z I"}},
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "x"}}, []string{"E ERROR 42601 syntax error", "Z I"}},
		// Extended query is refused, and skipped up to Sync.
		{[]pgproto3.FrontendMessage{&pgproto3.Parse{Query: "x"}, &pgproto3.Bind{}, &pgproto3.Query{String: "x"}, &pgproto3.Sync{}},
			[]string{"E ERROR 08P01 extended query protocol not supported in a replication connection", "Z I"}},
		{[]pgproto3.FrontendMessage{&pgproto3.Sync{}}, []string{"Z I"}},
		{[]pgproto3.FrontendMessage{&pgproto3.FunctionCall{}},
			[]string{"E ERROR 08P01 fastpath function calls not supported in a replication connection", "Z I"}},
		{[]pgproto3.FrontendMessage{&pgproto3.CopyDone{}, &pgproto3.Flush{}, rawMessage{'Q', []byte("x")}},
			[]string{"E ERROR 08P01 invalid message format", "Z I"}},
		{[]pgproto3.FrontendMessage{&pgproto3.Query{String: "HANGUP"}}, []string{"EOF"}},
	} {
		c.send(tt.send...)
		if got := c.untilReady(); !slices.Equal(got, tt.want) {
			t.Errorf("%v: got %q, want %q", tt.send, got, tt.want)
		}
	}
}

// stream is a little walsender: it sends small and large pieces of copy data in one goroutine and
// receives in another, and ends with the client's CopyDone or its context.
func stream(ctx context.Context, c *Conn, _ string) error {
	c.Send(&pgproto3.CopyBothResponse{})
	if err := c.Flush(); err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() {
		for {
			m, err := c.Receive()
			if err != nil {
				received <- err
				return
			}
			if _, done := m.(*pgproto3.CopyDone); done {
				received <- nil
				return
			}
		}
	}()
	defer context.AfterFunc(ctx, func() { c.NetConn().SetReadDeadline(time.Unix(1, 0)) })()
	big := bytes.Repeat([]byte("x"), 100_000)
	for range 3 {
		c.SendCopyData([]byte("w"), big)
		c.SendCopyData([]byte("k"), []byte("small"))
	}
	c.SendCopyData(big, []byte("tail"))
	if err := c.Flush(); err != nil {
		return err
	}
	err := <-received
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		c.SendCommandComplete("COPY 0")
		return nil
	}
	if err == nil {
		c.Send(&pgproto3.CopyDone{})
		c.SendCommandComplete("START_STREAMING")
		c.SendCommandComplete("START_REPLICATION")
	}
	return err
}

func TestCopyBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := replicationServer(stream)
		c := newClient(t, s)
		c.connect("replication", "true")
		want := []string{"W"}
		for range 3 {
			want = append(want, fmt.Sprintf("d 100001 %.40q", "w"+strings.Repeat("x", 50)), `d 6 "ksmall"`)
		}
		want = append(want, fmt.Sprintf("d 100004 %.40q", strings.Repeat("x", 50)))
		begin := func() {
			c.send(&pgproto3.Query{String: "START_REPLICATION"})
			for i, line := range want {
				if got := c.receive(); got != line {
					t.Fatalf("message %d: got %q, want %q", i, got, line)
				}
			}
		}
		begin()
		c.send(&pgproto3.CopyData{Data: []byte("r")}, &pgproto3.CopyDone{})
		wantEnd := []string{"CopyDone", "C START_STREAMING", "C START_REPLICATION", "Z I"}
		if got := c.untilReady(); !slices.Equal(got, wantEnd) {
			t.Errorf("end of copy: got %q, want %q", got, wantEnd)
		}
		begin() // the connection is reusable, and its deadlines are its own again
		go s.TerminateReplication(context.Background(), adminShutdown(), everyone)
		wantEnd = []string{"C COPY 0", "EOF"} // PostgreSQL's end of a walsender at shutdown
		if got := c.untilReady(); !slices.Equal(got, wantEnd) {
			t.Errorf("shutdown: got %q, want %q", got, wantEnd)
		}
	})
}

// A replication connection between commands is told; SQL connections are left alone.
func TestTerminateIdleReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := replicationServer(stream)
		c, sql := newClient(t, s), newClient(t, s)
		c.connect("replication", "database")
		sql.connect()
		done := make(chan error)
		go func() { done <- s.TerminateReplication(t.Context(), adminShutdown(), everyone) }()
		want := []string{"E FATAL 57P01 terminating connection due to administrator command", "EOF"}
		if got := c.untilReady(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := sql.query("rows 0"); got[len(got)-1] != "Z I" {
			t.Errorf("the SQL connection: %q", got)
		}
	})
}

// A deadline in the middle of a message loses nothing of it.
func TestReceiveResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan string, 1)
		c := newClient(t, replicationServer(func(_ context.Context, c *Conn, _ string) error {
			timeouts := 0
			for {
				c.NetConn().SetReadDeadline(time.Now().Add(time.Second))
				m, err := c.Receive()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					timeouts++
					continue
				}
				if err != nil {
					return err
				}
				got <- fmt.Sprintf("%s after %d timeouts", m.(*pgproto3.CopyData).Data, timeouts)
				return ErrHangup
			}
		}))
		c.connect("replication", "true")
		c.send(&pgproto3.Query{String: "x"})
		synctest.Wait()
		msg, _ := (&pgproto3.CopyData{Data: []byte("status")}).Encode(nil)
		for _, part := range [][]byte{msg[:3], msg[3:7], msg[7:]} {
			time.Sleep(2500 * time.Millisecond)
			c.nc.Write(part)
		}
		if line := <-got; line != "status after 7 timeouts" {
			t.Errorf("received %q", line)
		}
		io.Copy(io.Discard, c.nc)
	})
}
