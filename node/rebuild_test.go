package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// Where a base copy takes the place of a standby's data, its store is closed, and removed. Nobody goes on reading it:
// sessions end first, even those whose cursors hold tables of the store open, and later ones see the new one. The node
// is the member that it was.
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
	before := n2.node.identity()
	r, _ := n2.node.present.load()
	r.stopStream(&wal.RemovedError{Segment: "a segment"})
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
	if now := n2.node.identity(); now != before {
		t.Errorf("the node is %+v now, and was %+v", now, before)
	}
}

// A standby whose copy is of an epoch that came to nothing, with no log of its own yet, takes another one.
func TestUnbegunCopyIsReplaced(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	r, _ := n2.node.present.load()
	r.stopStream(fmt.Errorf("%w: at the fork", walreceiver.ErrUnbegun))
	<-r.over
	if _, err := n2.node.present.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	n2.exec("WAIT FOR LSN '" + n1.lsn().String() + "'")
	if got := n2.value("SELECT value FROM kv WHERE key = 'a'"); got != "1" {
		t.Errorf("a = %q in the new copy, want 1", got)
	}
}

// A standby whose log nobody can repair takes a base copy; if none can be taken now, it follows on. So does one whose
// upstream cannot send it what is damaged there.
func TestCopyForDamage(t *testing.T) {
	n1 := newTestNode(t, "n1")
	var full atomic.Bool
	n1.cfg.Machine.FS = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpMkdirAll && strings.Contains(op.Path, backupFolder) {
			return errorfs.ErrInjected
		}
		return nil
	}))
	n1.start()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	for _, upstream := range []bool{false, true} {
		for _, refused := range []bool{true, false} {
			n1.exec("INSERT INTO kv VALUES ('a', '2') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
			n2.exec("WAIT FOR LSN '" + n1.lsn().String() + "'")
			full.Store(refused)
			r, _ := n2.node.present.load()
			store := n2.node.store
			if upstream {
				r.stopStream(&wal.DamagedError{Segment: "a segment"})
			} else {
				r.replaceByCopy()
			}
			<-r.over
			next, err := n2.node.present.await(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n1.exec("INSERT INTO kv VALUES ('a', '3') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
			n2.exec("WAIT FOR LSN '" + n1.lsn().String() + "'")
			if kept := n2.node.store == store; kept != refused || next.stream == nil {
				t.Errorf("upstream damaged %v, copy refused %v: the data is what it was: %v", upstream, refused, kept)
			}
		}
	}
}

// A standby that takes a new base copy is what it was until that is complete: it answers reads, and a request to seal
// with the log that it has, durably, and at once. That is the end of the copy.
func TestCopyUntilSealed(t *testing.T) {
	n1 := newTestNode(t, "n1")
	var holding atomic.Bool
	sending, release := make(chan struct{}, 1), make(chan struct{})
	n1.cfg.Machine.FS = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpOpen && strings.Contains(op.Path, backupFolder) && holding.CompareAndSwap(true, false) {
			sending <- struct{}{}
			<-release
		}
		return nil
	}))
	n1.start()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	t.Cleanup(func() { close(release) })
	n2.exec("WAIT FOR LSN '" + n1.lsn().String() + "'")
	holding.Store(true)
	r, _ := n2.node.present.load()
	r.stopStream(&wal.RemovedError{Segment: "a segment"})
	<-sending

	if got := n2.value("SELECT value FROM kv WHERE key = 'a'"); got != "1" {
		t.Errorf("while the copy is taken a = %q", got)
	}
	end, id := r.stream.Flushed().Load(), n2.node.memberID()
	answer, err := n2.node.Seal(t.Context(), election.SealRequest{Epoch: 2})
	if err != nil || answer.ID != id || answer.Promised != 2 || answer.Position != (raftlog.Position{Epoch: 1, LSN: end}) {
		t.Errorf("the answer is %+v, %v, want that of %s at %s", answer, err, id, end)
	}
	control, err := startup.ReadControl(n2.node.dir.FS, n2.node.dir.Global())
	if err != nil || control.PromisedEpoch != 2 {
		t.Errorf("epoch %d is promised, %v", control.PromisedEpoch, err)
	}
	if there, err := wal.Exists(n2.node.dir.FS, n2.node.dir.Copy().Path); there || err != nil {
		t.Errorf("the copy is there: %v, %v", there, err)
	}
}

// A copy that is complete when the role ends for another reason is given up.
func TestCompleteCopyGivesWay(t *testing.T) {
	d := startup.DataDir{FS: vfs.NewMem(), Path: "data"}
	r := &reign{node: &Node{dir: d, log: slog.New(slog.DiscardHandler)}}
	complete, stopping := &replacement{}, errShuttingDown()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for _, test := range []struct {
		name string
		ctx  context.Context
		req  *sealRequest
		end  error
		want error
	}{
		{"nothing else", t.Context(), nil, complete, complete},
		{"a request to seal", t.Context(), &sealRequest{}, complete, errRoleEnds},
		{"the node stops", stopped, nil, complete, errRoleEnds},
		{"no copy", t.Context(), &sealRequest{}, stopping, stopping},
	} {
		if err := d.FS.MkdirAll(d.Copy().Path, 0o700); err != nil {
			t.Fatal(err)
		}
		end := r.unlessOver(test.ctx, test.req, test.end)
		there, err := wal.Exists(d.FS, d.Copy().Path)
		if end != test.want || there != (test.want != errRoleEnds) || err != nil {
			t.Errorf("%s: the role ends with %v; the copy is there: %v, %v", test.name, end, there, err)
		}
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
	if err := n.closeStore(errRebuilding()); err == nil || !IsFatal(errors.Join(&replacement{}, err)) {
		t.Errorf("a table is open: %v, want a fatal error", err)
	}
}
