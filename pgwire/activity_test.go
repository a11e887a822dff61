package pgwire

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// What a connection is doing, at each step of a conversation: in which state, on what, and since when to a second.
func TestActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(Config{})
		watched := t.Context()
		go s.watchClients(watched)
		c := newClient(t, s)
		c.connect("application_name", "app")
		check := func(step, query string, working bool, tx byte, since time.Time) {
			t.Helper()
			synctest.Wait()
			a := s.Conns()[0].Activity()
			if late := a.Since.Sub(since); a.Working != working || a.TxStatus != tx || a.Query != query || late < 0 || late > watchInterval {
				t.Errorf("%s: %+v; want %q, working %v, %c, since %v", step, a, query, working, tx, since)
			}
		}
		start := time.Now()
		time.Sleep(time.Minute)
		check("connected", "", false, 'I', start)
		begun := time.Now()
		c.query("begin")
		time.Sleep(time.Minute)
		check("in a block", "begin", false, 'T', begun)
		c.send(&pgproto3.Parse{Name: "p", Query: "wait"}, &pgproto3.Bind{PreparedStatement: "p"}, &pgproto3.Sync{})
		c.untilReady()
		c.query("rows 1")
		c.send(&pgproto3.Bind{PreparedStatement: "p"}, &pgproto3.Execute{}, &pgproto3.Sync{})
		begun = time.Now()
		check("just begun", "wait", true, 'T', begun)
		time.Sleep(time.Minute)
		check("working", "wait", true, 'T', begun)
		s.CancelBackend(s.Conns()[0].PID)
		c.untilReady()
		check("cancelled", "wait", false, 'E', time.Now())
		c.query("commit")
		c.query(strings.Repeat("x", queryShown-1) + "é")
		check("long", strings.Repeat("x", queryShown-1), false, 'I', time.Now())
		if app := s.Conns()[0].Activity().Application; app != "app" {
			t.Errorf("application_name %q", app)
		}
	})
}
