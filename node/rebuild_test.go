package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A standby that takes a new base copy closes its store, and discards it. Nobody goes on reading it: sessions end
// first, even those whose cursors hold tables of the store open, and later ones see the new one.
func TestRebuildEndsSessions(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	var rows []string
	for i := range 500 {
		rows = append(rows, fmt.Sprintf("('k%d', repeat('x', 1000))", i))
	}
	n1.exec("INSERT INTO kv VALUES " + strings.Join(rows, ", "))
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	n2.exec("WAIT FOR LSN '" + n1.lsn().String() + "'")
	n2.exec("CHECKPOINT") // what is read is in files

	var sessions []*pgconn.PgConn
	for _, statements := range []string{
		"BEGIN; DECLARE c CURSOR FOR SELECT key, value FROM kv; FETCH 3 FROM c",
		"BEGIN; SELECT value FROM kv WHERE key = 'k1'",
		"SELECT value FROM kv WHERE key = 'k1'",
	} {
		session := n2.connect().PgConn()
		if _, err := session.Exec(t.Context(), statements).ReadAll(); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, session)
	}
	r, _ := n2.node.present.load()
	r.giveUp(errRebuild)
	for _, session := range sessions {
		err := session.WaitForNotification(t.Context())
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57P01" {
			t.Errorf("a session on a standby that is rebuilt: %v, want 57P01", err)
		}
	}
	<-r.over
	if next, err := n2.node.present.await(t.Context()); err != nil || next.found.Control.Epoch == 0 {
		t.Fatal(err)
	}
	n2.exec("WAIT FOR LSN '" + n1.lsn().String() + "'")
	if got := n2.value("SELECT count(*)::text FROM kv"); got != "500" {
		t.Errorf("the new copy has %s rows, want 500", got)
	}
}

// A store that could not be closed is neither discarded nor opened again, whatever else ended the role.
func TestStoreLeftOpenIsFatal(t *testing.T) {
	n, err := New(newTestNode(t, "n1").cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.dir = startup.DataDir{FS: n.cfg.Machine.FS, Path: n.cfg.DataDir}
	n.server = n.newServer()
	if err := n.openStore(); err != nil {
		t.Fatal(err)
	}
	kv.NewTable(n.store, nil, new(wal.Position), kv.TableOptions{}) // and never closed
	if err := n.closeStore(errRebuilding()); err == nil || !IsFatal(errors.Join(errRebuild, err)) {
		t.Errorf("a table is open: %v, want a fatal error", err)
	}
}
