package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A commit that gives up waiting at the gate is the end of its transaction: what that held of the store
// would keep the store from being closed.
func TestCommitEndsAtTheGate(t *testing.T) {
	store, err := kv.OpenStore(vfs.NewMem(), "store", kv.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	table := kv.NewTable(store, nil, new(wal.Position), kv.TableOptions{})
	r := &reign{primary: &primary{}}
	mustClose(t, &r.primary.gate)
	tx := &txn{Txn: table.Begin(kv.TxnOptions{}), session: &session{node: &Node{}, conn: &pgwire.Conn{}}, reign: r}
	if _, _, err := tx.Get(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tx.Commit(canceled, syncrep.On); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v, want %v", err, context.Canceled)
	}
	table.Close()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// What only reads remembers nothing of it, and what lasts for several statements keeps no texts of theirs.
func TestModeOfTransaction(t *testing.T) {
	store, err := kv.OpenStore(vfs.NewMem(), "store", kv.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var log struct{ kv.Log } // is never written to
	r := &reign{table: kv.NewTable(store, log, new(wal.Position), kv.TableOptions{}), opened: make(chan struct{})}
	close(r.opened)
	n := &Node{present: newPresent()}
	n.present.set(r)
	for _, test := range []struct {
		mode     sql.TxnMode
		remember bool
		copies   bool
	}{
		{sql.TxnMode{}, true, false},
		{sql.TxnMode{Explicit: true}, true, true},
		{sql.TxnMode{ReadOnly: true}, false, false},
		{sql.TxnMode{ReadOnly: true, Explicit: true}, false, false},
	} {
		tx, err := (&session{node: n, conn: &pgwire.Conn{}}).Begin(t.Context(), test.mode)
		if err != nil {
			t.Fatal(err)
		}
		const part = 64 << 20 // much more than others let go of meanwhile
		before := inUse()
		func() {
			text := strings.Repeat("k", part)
			if _, _, err := tx.Get(t.Context(), text[:8]); err != nil {
				t.Error(err)
			}
		}()
		if remembers := tx.ReadBytes() > 0; remembers != test.remember {
			t.Errorf("%+v: it remembers %d bytes", test.mode, tx.ReadBytes())
		}
		if kept := inUse()-before > part/2; kept != (test.remember && !test.copies) {
			t.Errorf("%+v: it keeps the text around a key: %t", test.mode, kept)
		}
		e, refused := errors.AsType[*pgwire.Error](tx.Put("key", nil))
		if refused != test.mode.ReadOnly || refused && (e.Code != pgwire.CodeReadOnlySQLTransaction || e.Message != kv.ErrReadOnly.Error()) {
			t.Errorf("%+v: Put() = %v", test.mode, e)
		}
		tx.Rollback()
	}
	r.table.Close()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// inUse is how much memory is in use, in bytes.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A commit that meets a log which has failed was not inserted: the client is told so, and may retry it.
func TestCommitAfterTheLogFailed(t *testing.T) {
	err := clientError(fmt.Errorf("write commit to log: %w", wal.ErrWriterStopped))
	e, ok := errors.AsType[*pgwire.Error](err)
	if !ok || e.Code != pgwire.CodeCrashShutdown || e.Severity != "FATAL" {
		t.Errorf("%v, want a FATAL error with %s", err, pgwire.CodeCrashShutdown)
	}
}
