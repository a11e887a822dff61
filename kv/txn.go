package kv

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"

	"github.com/longship-db/longship/wal"
)

// TxnOptions say what a transaction reads.
type TxnOptions struct {
	// Own is the end of the session's last acknowledged commit: it is shown even if the horizon has
	// not passed it (because the session asked for less). On a standby, reads wait until it is there.
	Own wal.LSN

	// Latest shows every commit in the log and not only those within the horizon, so that writing
	// what was read does not conflict with what is on its way. No answer may depend on that before
	// the horizon has passed it: a Commit without writes waits, and for other ends there is WaitSeen.
	Latest bool

	// Exclusive keeps others from committing from the first read to the end of the transaction, which
	// cannot conflict then. It implies Latest. For short transactions that lost too often.
	Exclusive bool

	// ReadOnly transactions write nothing: Put and Delete return ErrReadOnly. What they read is not remembered.
	ReadOnly bool

	// Long transactions outlive what they are given: they copy keys, which may be a small part of something large.
	Long bool
}

// A Txn is a transaction. It reads the table at one position, which the first read settles, with its
// own writes on top, and must be ended by Commit or Rollback. Not for concurrent use.
type Txn struct {
	table *Table
	opts  TxnOptions

	view    *view                   // nil before the first read
	at      wal.LSN                 // commits up to here are visible
	reading atomic.Pointer[reading] // the view's, or, once settled, Pebble as of at

	// Guarded by view.mu.
	next, previous *Txn
	left           bool    // has ended
	settled        *base   // that of reading, if it is not the view's
	scans          []*scan // under way

	seen wal.LSN // the newest pending version read, if opts.Latest

	reads  readSet
	writes writeSet

	done  bool
	ended chan struct{} // closed at the end of an exclusive transaction; nil if it is not (yet) one

	pivot  version // scratch space of Get
	lookup lookup
}

// Begin returns a new transaction.
func (t *Table) Begin(opts TxnOptions) *Txn {
	opts.Latest = opts.Latest || opts.Exclusive
	return &Txn{table: t, opts: opts}
}

// open settles what the transaction reads.
func (tx *Txn) open(ctx context.Context) error {
	switch {
	case tx.done:
		return ErrTxnDone
	case tx.view != nil:
		return nil
	}
	t := tx.table
	if t.log == nil {
		if err := t.applied.Wait(ctx, tx.opts.Own); err != nil {
			return err
		}
	} else if tx.opts.Exclusive && tx.ended == nil {
		if err := t.become(ctx, tx); err != nil {
			return err
		}
	}
	return t.enter(tx)
}

// Get returns the row of key, if there is one.
func (tx *Txn) Get(ctx context.Context, key string) (Row, bool, error) {
	if err := tx.open(ctx); err != nil {
		return Row{}, false, err
	}
	if op := tx.writes.find(key); op != nil {
		return op.row(), op.Kind != Delete, nil
	}
	if tx.remembers() {
		tx.reads.addKey(key, tx.opts.Long)
	}
	tx.pivot.key, tx.pivot.lsn = key, tx.at
	v := tx.table.find(tx.view, &tx.pivot)
	tx.pivot.key = "" // it may be a small part of something large
	if v != nil {
		tx.note(v)
		if v.kind == Delete {
			return Row{}, false, nil
		}
		return v.row(), true, nil
	}
	return tx.reading.Load().get(ctx, key, &tx.lookup)
}

// remembers reports whether it matters at the end what was read: only what writes is checked against others.
func (tx *Txn) remembers() bool { return !tx.opts.ReadOnly && tx.table.log != nil }

// noteRange remembers that a range was read.
func (tx *Txn) noteRange(r Range) {
	if tx.remembers() {
		tx.reads.addRange(r, tx.opts.Long)
	}
}

// ReadBytes is about how much memory it takes, in bytes, to remember what was read.
func (tx *Txn) ReadBytes() int { return tx.reads.bytes }

// note remembers that the transaction depends on a pending version.
func (tx *Txn) note(v *version) {
	if tx.opts.Latest {
		tx.seen = max(tx.seen, v.lsn)
	}
}

// Put sets the value of key; nil is SQL's NULL. The value is copied. The error may be a *LimitError.
func (tx *Txn) Put(key string, value []byte) error {
	if value == nil {
		return tx.write(Op{Kind: PutNull, Key: key})
	}
	return tx.write(Op{Kind: Put, Key: key, Value: value})
}

// Delete removes the row of key, if there is one. The error may be a *LimitError.
func (tx *Txn) Delete(key string) error { return tx.write(Op{Kind: Delete, Key: key}) }

// Savepoint returns a mark for RollbackTo. Marks are numbers that grow.
func (tx *Txn) Savepoint() int {
	tx.writes.marked = true
	return len(tx.writes.undo)
}

// RollbackTo takes back what was written since the mark was made. What was read stays read: it may have
// decided what the client does next.
func (tx *Txn) RollbackTo(mark int) { tx.writes.undoTo(mark) }

// ReleaseSavepoints forgets all marks.
func (tx *Txn) ReleaseSavepoints() {
	tx.writes.marked, tx.writes.undo, tx.writes.undoSize = false, nil, 0
}

func (tx *Txn) write(op Op) error {
	switch {
	case tx.done:
		return ErrTxnDone
	case tx.table.log == nil, tx.opts.ReadOnly:
		return ErrReadOnly
	}
	if err := op.check(); err != nil {
		return err
	}
	if tx.opts.Long {
		op.Key = strings.Clone(op.Key)
	}
	if op.Value != nil {
		op.Value = bytes.Clone(op.Value)
	}
	return tx.writes.add(op)
}

// Commit ends the transaction. If it wrote, the result is its commit LSN, the end of its record in
// the log, which is now to be waited for as durably as the session wants. If it did not, the result
// is 0, once the horizon has passed what it read.
//
// ErrConflict, a full disk (from the log), and the end of ctx while waiting for room mean that
// nothing was committed. The end of ctx while waiting for the horizon means that the transaction,
// which wrote nothing, may not be answered.
func (tx *Txn) Commit(ctx context.Context) (wal.LSN, error) {
	if tx.done {
		return 0, ErrTxnDone
	}
	defer tx.end()
	if len(tx.writes.ops) > 0 {
		return tx.table.commit(ctx, tx)
	}
	tx.end() // others need not wait for this one
	return 0, tx.WaitSeen(ctx)
}

// WaitSeen waits until the horizon has passed everything a Latest transaction has read. An answer
// that is not a commit, such as an error about a row that exists, must wait for it. It may be called
// after the end of the transaction, and returns at once for others than Latest.
func (tx *Txn) WaitSeen(ctx context.Context) error { return tx.table.horizon.Wait(ctx, tx.seen) }

// Rollback ends the transaction without a trace. After Commit or Rollback it does nothing.
func (tx *Txn) Rollback() { tx.end() }

func (tx *Txn) end() {
	if tx.done {
		return
	}
	tx.done = true
	if tx.ended != nil {
		tx.table.resign(tx)
	}
	if tx.view != nil {
		tx.view.leave(tx)
	}
}
