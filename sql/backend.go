package sql

import (
	"context"
	"errors"
	"iter"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// Limits of a row (DESIGN section 9), in bytes.
const (
	MaxKeyLen   = 2 << 10
	MaxValueLen = 16 << 20
)

// ErrConflict is returned, possibly wrapped, by Txn.Commit if what the transaction read has changed
// since. Single statements are then run again; the client is told 40001 otherwise.
var ErrConflict = errors.New("what the transaction has read has changed")

// A Backend is one connection's view of the node. Its errors, and those of a Txn, are *pgwire.Error,
// ErrConflict, or wrap the end of ctx.
//
// A Backend may also be a Checkpointer, an LSNWaiter, an Explainer, a SystemAlterer and a SettingJudge, for
// CHECKPOINT, WAIT FOR LSN, EXPLAIN and ALTER SYSTEM.
type Backend interface {
	Begin(ctx context.Context, m TxnMode) (Txn, error)
	Catalog() *Catalog
}

// A Checkpointer runs CHECKPOINT: it returns when the checkpoint is complete.
type Checkpointer interface {
	Checkpoint(ctx context.Context) error
}

// An LSNWaiter runs WAIT FOR LSN: it returns when the node shows everything up to lsn.
type LSNWaiter interface {
	WaitLSN(ctx context.Context, lsn wal.LSN) error
}

// An Explainer runs EXPLAIN, and returns lines for people. Of a failover: who could become primary now and
// who not, and why. Of a commit: whether the log up to lsn is durable under the rule, and what is missing.
type Explainer interface {
	ExplainFailover(ctx context.Context) ([]string, error)
	ExplainCommit(ctx context.Context, lsn wal.LSN) ([]string, error)
}

// A SystemAlterer runs ALTER SYSTEM: it writes settings for the whole cluster, which nobody goes by before
// a reload. If it fails it says whether it is known that nothing was changed.
type SystemAlterer interface {
	WriteSetting(ctx context.Context, name, value string) error
	ResetSetting(ctx context.Context, name string) error // "": all

	// SettingWritten reports whether a value is written, perhaps by a newer version that knows the name.
	SettingWritten(name string) bool
}

// A SettingJudge is asked before ALTER SYSTEM writes a value that can be read: what it makes of the cluster
// as it is, for the client to be warned of, or why it is refused.
type SettingJudge interface {
	JudgeSetting(name, value string) (warnings []string, err error)
}

// A TxnMode says what a transaction is for.
type TxnMode struct {
	ReadOnly  bool // nothing will be written: reads are at a snapshot
	Explicit  bool // several statements: reads are at a snapshot, a conflict ends in 40001
	Exclusive bool // the statement lost too many conflicts: it must not meet another
}

// A Txn is a transaction on kv. It is used by one goroutine and ends with Commit, whatever that
// returns, or Rollback.
//
// A Txn that reads what is not yet acknowledged must also have WaitSeen(ctx) error: it returns when
// everything read is. It is called before an error goes to the client that may depend on what was
// read; Commit waits by itself.
type Txn interface {
	// Get returns the row of key, valid until the transaction ends.
	Get(ctx context.Context, key string) (Row, bool, error)
	// Scan yields the rows of a range by ascending key, those included that this transaction has written
	// before the iteration began. A Value is valid until the next step. The last pair may carry an error.
	// An iteration may stand still while the transaction reads and writes; it is over before that ends.
	Scan(ctx context.Context, r Range) iter.Seq2[Row, error]
	// Put writes a row; a nil value is NULL. The Txn may keep value, which nobody modifies.
	Put(key string, value []byte) error
	Delete(key string) error
	// Savepoint returns a mark, RollbackTo takes back what was written since, and ReleaseSavepoints says
	// that no mark is needed any more.
	Savepoint() int
	RollbackTo(mark int)
	ReleaseSavepoints()
	// ReadBytes is how much memory the transaction takes to remember what it has read, which grows until it ends.
	ReadBytes() int
	// Commit returns once the commit is acknowledged at the given level. An error with an LSN says that
	// the commit is in the log, but the wait for its acknowledgement ended early: the outcome is unknown.
	Commit(ctx context.Context, level SyncLevel) (Committed, error)
	Rollback()
}

// A Committed is what came of a commit.
type Committed struct {
	LSN   wal.LSN   // end of its record; 0: nothing was written
	Level SyncLevel // what had been reached when it was acknowledged: what was asked for, or less if the rule asks for less

	// AtRisk: the rule could not be met, and the primary has acknowledged it alone (synchronous_mode).
	AtRisk bool
}

// seenWaiter is the optional method of a Txn described there.
type seenWaiter interface {
	WaitSeen(ctx context.Context) error
}

// A Row is a row of kv.
type Row struct {
	Key   string
	Value []byte  // nil is NULL
	LSN   wal.LSN // of the commit that wrote it; 0 for this transaction's own writes, shown as NULL
}

// A Range is the keys in [Lo, Hi), or all from Lo on if Unbounded.
type Range struct {
	Lo, Hi    string
	Unbounded bool
}

// SyncLevel is a value of synchronous_commit.
type SyncLevel = syncrep.Level

// Columns of kv, in order.
const (
	keyColumn = iota
	valueColumn
	lsnColumn
)

var kvColumns = []Column{{"key", Text}, {"value", Text}, {"lsn", PgLSN}}

// rowValue is one column of a row. It shares the row's memory.
func rowValue(r *Row, column int) Value {
	switch column {
	case keyColumn:
		return TextValue(r.Key)
	case valueColumn:
		if r.Value == nil {
			return Null
		}
		return TextValue(stringOf(r.Value))
	default:
		return LSNOrNull(r.LSN)
	}
}
