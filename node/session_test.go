package node

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/pgwire"
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

// A commit that meets a log which has failed was not inserted: the client is told so, and may retry it.
func TestCommitAfterTheLogFailed(t *testing.T) {
	err := clientError(fmt.Errorf("write commit to log: %w", wal.ErrWriterStopped))
	e, ok := errors.AsType[*pgwire.Error](err)
	if !ok || e.Code != pgwire.CodeCrashShutdown || e.Severity != "FATAL" {
		t.Errorf("%v, want a FATAL error with %s", err, pgwire.CodeCrashShutdown)
	}
}
