package kv

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/wal"
)

// A Log is where commits are written: a *wal.Writer.
type Log interface {
	// Insert appends the record and returns where it starts and ends. It does not wait for the disk,
	// unless the log's buffer is full.
	Insert(p *wal.Prepared, xid uint32) (start, end wal.LSN, err error)
	Flushed() *wal.Position
}

// TableOptions are the options of NewTable. The zero value of a field means its default.
type TableOptions struct {
	// MaxPendingBytes bounds the commits in the log that the store does not hold yet, in bytes of
	// keys, values and what it takes to find them. Further ones wait in Commit. Default 256 MiB.
	MaxPendingBytes int

	// MaxHistoryBytes bounds the keys remembered of commits that the store holds already, to check
	// transactions against that began before. What exceeds it is forgotten, oldest first, and such
	// transactions fail with ErrConflict. Default 64 MiB.
	MaxHistoryBytes int
}

// A Table is the table as clients see it: the store, the commits after it, and transactions on both.
// It lasts as long as the node's role does: on a primary it has a log, on a standby it has none.
//
// One goroutine applies (Store.NewBatch, Apply). The other methods may be called by any.
type Table struct {
	store   *Store
	log     Log // nil on a standby
	horizon *wal.Position
	opts    TableOptions

	applied wal.Position // what a transaction that begins now sees at the least

	// commitMu puts commits in order: from the check to the insertion into pending, the next commit
	// waits. Taken before mu.
	commitMu  sync.Mutex
	nextXID   atomic.Uint32 // changed under commitMu
	exclusive *Txn          // whose commit is the only one allowed; nil: all are

	// What readers need to know of a commit that is between log and pending, see settle.
	inserting atomic.Bool
	added     atomic.Uint64 // a wal.LSN: the end of the newest commit in pending

	pendingBytes atomic.Int64 // grows under commitMu, shrinks in dropStored

	mu      sync.RWMutex // never held over I/O
	pending pendingLog
	view    *view   // the current one
	older   []*view // those that transactions still hold, oldest first
}

// NewTable returns the table over store. Nothing past horizon is shown, except to those who wrote
// it or wait for it. log is nil on a standby. Close must be called before the store's.
func NewTable(store *Store, log Log, horizon *wal.Position, opts TableOptions) *Table {
	opts.MaxPendingBytes = cmp.Or(opts.MaxPendingBytes, 256<<20)
	opts.MaxHistoryBytes = cmp.Or(opts.MaxHistoryBytes, 64<<20)
	t := &Table{store: store, log: log, horizon: horizon, opts: opts}
	t.pending.tree = newVersionTree()
	t.view = t.newView()
	store.addTable(t)
	t.applied.Advance(t.view.applied)
	t.added.Store(uint64(t.view.applied))
	t.nextXID.Store(firstXID)
	return t
}

// newView must be called by the goroutine that applies: the store must not move meanwhile.
func (t *Table) newView() *view {
	r := t.store.read()
	return &view{applied: r.applied, base: r.base, reading: r, current: true}
}

// Close ends the table: it is neither applied to nor written to any more. Transactions that have read something, and
// have no log, see what they saw until they end, which must be before the store is closed. Those of a primary must
// have ended: what they saw past the horizon may not be what comes to be there.
func (t *Table) Close() {
	t.mu.Lock()
	if t.view == nil {
		t.mu.Unlock()
		return
	}
	old := t.replace(nil)
	t.mu.Unlock()
	old.retire()
	t.store.forgetTables()
}

// Recover makes the commit whose record ends at end pending: one that a new primary found in its
// log past the horizon, and so must neither apply nor overlook. In LSN order, before the first
// transaction. ops are copied.
func (t *Table) Recover(end wal.LSN, ops []Op) error {
	if last := wal.LSN(t.added.Load()); end <= last {
		return fmt.Errorf("recover record ending at %s after %s: %w", end, last, ErrOrder)
	}
	own := make([]Op, len(ops))
	for i, op := range ops {
		own[i] = Op{Kind: op.Kind, Key: op.Key, Value: slices.Clone(op.Value)} // newCommit copies keys
	}
	t.add(newCommit(own), end)
	return nil
}

// AppliedPosition is the LSN up to which every commit is in the store and shown to all.
func (t *Table) AppliedPosition() *wal.Position { return &t.applied }

// PendingBytes is the memory that pending commits take, see TableOptions.MaxPendingBytes.
func (t *Table) PendingBytes() int64 { return t.pendingBytes.Load() }

// firstXID is the first transaction id PostgreSQL gives out; those below mean something else.
const firstXID = 3

// NextXID is the transaction id that the next commit gets.
func (t *Table) NextXID() uint32 { return t.nextXID.Load() }

// SetNextXID sets the transaction id that the next commit gets, as recovery found it.
func (t *Table) SetNextXID(xid uint32) {
	t.commitMu.Lock()
	t.nextXID.Store(max(xid, firstXID))
	t.commitMu.Unlock()
}

// Apply writes a batch to the store, empties it, and drops from pending what the store now holds.
// Errors are those of Store.Apply, and ErrPastHorizon, which means that the node must stop.
func (t *Table) Apply(ctx context.Context, b *Batch) error {
	end := b.End()
	if h := t.horizon.Load(); end > h {
		return fmt.Errorf("apply up to %s, horizon is %s: %w", end, h, ErrPastHorizon)
	}
	return t.store.apply(ctx, b, t.trim)
}

// trim replaces the current view by one of the store as it is now, and pending by what is after it.
func (t *Table) trim() {
	next := t.newView()

	t.mu.Lock()
	old := t.replace(next)
	t.dropStored()
	t.mu.Unlock()

	old.retire()
	t.applied.Advance(next.applied)
}

// replace makes next the current view, nil: there will be none, and returns the one before. The caller holds mu, and
// retires that.
func (t *Table) replace(next *view) (old *view) {
	old, t.view = t.view, next
	t.older = slices.DeleteFunc(t.older, func(v *view) bool { return !v.isRead() })
	if old.isRead() {
		old.overlay = t.pending.tree.Clone()
		t.older = append(t.older, old)
	}
	return old
}

// dropStored drops from pending what the current view's reading holds. The caller holds mu.
func (t *Table) dropStored() {
	// A transaction reads at its view's applied LSN or later.
	needed := t.view.applied
	if len(t.older) > 0 {
		needed = t.older[0].applied
	}
	freed := t.pending.trim(t.view.applied, needed, t.opts.MaxHistoryBytes)
	t.pendingBytes.Add(-int64(freed))
}

// add makes the commit pending.
func (t *Table) add(c *commit, end wal.LSN) {
	t.pendingBytes.Add(int64(c.bytes))
	t.mu.Lock()
	t.pending.add(c, end)
	t.added.Store(uint64(end))
	if end <= t.view.applied { // the applier, which reads the log, was faster
		t.dropStored()
	}
	t.mu.Unlock()
}

// settle returns a position up to which every commit has passed the rule, and is in pending or the
// store: the horizon, once a commit that the horizon overtook on its way from the log into pending
// has arrived there.
func (t *Table) settle() wal.LSN {
	h := t.horizon.Load()
	// If a commit ≤ h is not yet in pending, it was inserted before the horizon could pass it: then
	// inserting is true and added below h. The lock is free once it has arrived.
	if t.inserting.Load() && h > wal.LSN(t.added.Load()) {
		t.commitMu.Lock()
		//lint:ignore SA2001 only to wait for the commit that holds it
		t.commitMu.Unlock()
	}
	return h
}

// enter has a transaction read the current view, and settles at which position. The error is ErrClosed.
func (t *Table) enter(tx *Txn) error {
	upTo := max(t.settle(), tx.opts.Own)
	t.mu.RLock()
	defer t.mu.RUnlock()
	v := t.view
	if v == nil {
		return ErrClosed
	}
	added := wal.LSN(t.added.Load())
	if tx.opts.Latest {
		upTo = added
	}
	// The store may have moved past upTo; it is within the horizon all the same.
	v.enter(tx, max(v.applied, min(upTo, added)))
	return nil
}

// find returns the newest version of pivot.key that is pending in v, at or before pivot.lsn; nil if
// the store has it. Its reading is to be loaded after that, see Table.letGo.
func (t *Table) find(v *view, pivot *version) (found *version) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.treeOf(v).AscendGreaterOrEqual(pivot, func(x *version) bool {
		if x.key == pivot.key {
			found = x
		}
		return false
	})
	return found
}

// treeOf returns the pending versions of v; others, later than what is seen, if all that read v are settled. The
// caller holds mu.
func (t *Table) treeOf(v *view) *versionTree {
	if v.overlay != nil {
		return v.overlay
	}
	return t.pending.tree
}

// validate reports ErrConflict if a commit after checked wrote what tx read. It returns the position
// up to which that is now known.
func (t *Table) validate(tx *Txn, checked wal.LSN) (wal.LSN, error) {
	if tx.reads.empty() {
		return checked, nil
	}
	t.mu.RLock()
	commits, ok := t.pending.since(checked)
	t.mu.RUnlock()
	if !ok {
		return checked, ErrConflict
	}
	for _, c := range commits {
		if slices.ContainsFunc(c.keys, tx.reads.contains) {
			return checked, ErrConflict
		}
		checked = c.end
	}
	return checked, nil
}

// commit writes the transaction to the log and makes it pending. After an error it is neither.
func (t *Table) commit(ctx context.Context, tx *Txn) (wal.LSN, error) {
	if t.log == nil {
		return 0, ErrReadOnly
	}
	c := newCommit(tx.writes.ops)
	record := t.encode(tx.writes.ops)
	for {
		// Most of the checking happens here, so that little is left under the lock.
		checked, err := t.validate(tx, tx.at)
		if err != nil {
			return 0, err
		}
		end, wait, err := t.tryCommit(tx, c, record, checked)
		if err != nil || wait == nil {
			return end, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// tryCommit is what happens under the commit lock. If the commit has to wait for something first,
// nothing is done, and wait is closed when it may try again.
func (t *Table) tryCommit(tx *Txn, c *commit, record *wal.Prepared, checked wal.LSN) (end wal.LSN, wait <-chan struct{}, err error) {
	t.commitMu.Lock()
	defer t.commitMu.Unlock()
	if t.exclusive != nil && t.exclusive != tx {
		return 0, t.exclusive.ended, nil
	}
	applied := t.applied.Load()
	if n := t.pendingBytes.Load(); n > 0 && n+int64(c.bytes) > int64(t.opts.MaxPendingBytes) {
		return 0, t.applied.Changed(applied), nil
	}
	if _, err := t.validate(tx, checked); err != nil {
		return 0, nil, err
	}

	t.inserting.Store(true)
	defer t.inserting.Store(false)
	xid := t.nextXID.Load()
	_, end, err = t.log.Insert(record, xid)
	if err != nil {
		return 0, nil, fmt.Errorf("write commit to log: %w", err)
	}
	t.nextXID.Store(max(xid+1, firstXID))
	t.add(c, end)
	return end, nil, nil
}

// become makes tx the one transaction that may commit, until it ends.
func (t *Table) become(ctx context.Context, tx *Txn) error {
	for {
		t.commitMu.Lock()
		holder := t.exclusive
		if holder == nil {
			t.exclusive = tx
			tx.ended = make(chan struct{})
		}
		t.commitMu.Unlock()
		if holder == nil {
			return nil
		}
		select {
		case <-holder.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// resign ends what become began.
func (t *Table) resign(tx *Txn) {
	t.commitMu.Lock()
	t.exclusive = nil
	t.commitMu.Unlock()
	close(tx.ended)
}

// maxPooledBuffer is the largest encoding buffer kept for the next commit, in bytes.
const maxPooledBuffer = 64 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// encode makes the record, all but what it takes the lock to know.
func (t *Table) encode(ops []Op) *wal.Prepared {
	buf := buffers.Get().(*[]byte)
	*buf = AppendCommit((*buf)[:0], &Commit{
		Time:    wal.TimestampOf(time.Now()),
		Horizon: t.horizon.Load(),
		Flushed: t.log.Flushed().Load(),
		Ops:     ops,
	})
	record := wal.Prepare(wal.RmgrLongship, InfoCommit, *buf)
	if cap(*buf) <= maxPooledBuffer {
		buffers.Put(buf)
	}
	return record
}
