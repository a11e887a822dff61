package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// WAIT FOR LSN returns when a node shows what is before that LSN, whatever becomes of the node meanwhile.
func TestWaitForLSN(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	end := n1.lsn()

	// What is long there, and what is on no timeline yet.
	for _, n := range []*testNode{n1, n2} {
		n.exec(fmt.Sprintf("WAIT FOR LSN '%s'", end))
		_, err := n.connect().Exec(t.Context(), fmt.Sprintf("WAIT FOR LSN '%s' TIMEOUT 50", end+1<<30))
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" {
			t.Errorf("%s: wait for an LSN in the future: %v, want 57014", n.cfg.Name, err)
		}
	}

	// What is to come, on both; and on the standby what comes after it has become the primary.
	target := end + 200
	onPrimary, onStandby := n1.wait(n1.connect(), target), n2.wait(n2.connect(), target)
	session := n2.connect()
	for n1.lsn() < target {
		n1.exec("INSERT INTO kv VALUES ('b', '1') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
	}
	for name, done := range map[string]chan error{"primary": onPrimary, "standby": onStandby} {
		if err := <-done; err != nil {
			t.Errorf("on the %s: %v", name, err)
		}
	}
	target = n1.lsn() + 1000
	lasting := n2.wait(session, target)
	ended := n1.connect()
	cut := n1.wait(ended, target)
	n2.switchTo("n2")
	if err := <-cut; err == nil {
		t.Error("the old primary says that it shows what was never in its log")
	}
	own := n2.connect()
	for n2.lsn() < target {
		if _, err := own.Exec(t.Context(), "INSERT INTO kv VALUES ('c', '1') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-lasting; err != nil {
		t.Errorf("on a standby that became the primary: %v", err)
	}
	var got string
	if err := session.QueryRow(t.Context(), "SELECT value FROM kv WHERE key = 'c'").Scan(&got); err != nil || got != "1" {
		t.Errorf("and it shows %q, %v", got, err)
	}
}

// What somebody waits for is wanted as soon as it may be applied, though nothing has been applied since the wait began.
// More than that is not, or redo would never linger again.
func TestWaitForLSNWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, r := &Node{present: newPresent()}, newTestReign()
		r.horizon = new(wal.Position)
		n.present.set(r)
		done := make(chan error, 1)
		go func() { done <- (&session{node: n, conn: &pgwire.Conn{}}).WaitLSN(t.Context(), 300) }()
		for _, step := range []struct{ horizon, want wal.LSN }{{100, 100}, {299, 299}, {300, 300}, {400, 300}} {
			r.horizon.Advance(step.horizon)
			synctest.Wait()
			if got := r.wanted.Load(); got != step.want {
				t.Errorf("with the horizon at %s, %s is wanted, not %s", step.horizon, got, step.want)
			}
		}
		if len(done) != 0 {
			t.Error("it does not wait")
		}
		r.applied.Advance(300)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// switchTo makes another node the primary, as soon as that has caught up.
func (n *testNode) switchTo(name string) {
	n.t.Helper()
	conn := n.connect()
	for {
		_, err := conn.Exec(n.t.Context(), "SELECT longship_switchover($1)", name)
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "55000" {
			continue
		}
		if err != nil {
			n.t.Fatal(err)
		}
		return
	}
}

// lsn is how far the primary's log is durable.
func (n *testNode) lsn() wal.LSN {
	n.t.Helper()
	lsn, err := wal.ParseLSN(n.value("SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil {
		n.t.Fatal(err)
	}
	return lsn
}

// wait begins to wait for lsn in a session.
func (n *testNode) wait(conn *pgx.Conn, lsn wal.LSN) chan error {
	done, begun := make(chan error, 1), make(chan struct{})
	go func() {
		close(begun)
		_, err := conn.Exec(context.Background(), fmt.Sprintf("WAIT FOR LSN '%s' TIMEOUT 60000", lsn))
		done <- err
	}()
	<-begun
	return done
}
