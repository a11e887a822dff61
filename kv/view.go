package kv

import (
	"slices"
	"sync"

	"github.com/longship-db/longship/wal"
)

// A view is the table as transactions see it that began between two batches of the applier: the store at one time,
// and the commits after it that are, or were when the store moved on, pending.
//
// It keeps memtables from being freed. So when one is written to Pebble, those who still read an older view are each
// given a snapshot of Pebble as of what they see (settle), which takes disk and no memory, however long they stay.
type view struct {
	applied wal.LSN
	base    *base // of reading; released when the last transaction has ended, as it may be in the middle of a read

	// The pending commits after applied. While the view is the current one that is the table's own
	// tree; when the table replaces the view it leaves a clone here, from before it drops what the
	// next view's reading holds. Guarded by Table.mu.
	overlay *versionTree

	mu      sync.Mutex // guards what follows, and what is said so in Txn. Taken after Table.mu
	reading *reading   // nil once all transactions are settled
	current bool       // the table's: transactions may come
	first   *Txn       // those that read it: a list, see Txn.next
}

// enter adds a transaction that reads the view at LSN at. The caller holds Table.mu, and the view is the current one.
func (v *view) enter(tx *Txn, at wal.LSN) {
	tx.view, tx.at = v, at
	v.mu.Lock()
	tx.reading.Store(v.reading)
	if tx.next = v.first; tx.next != nil {
		tx.next.previous = tx
	}
	v.first = tx
	v.mu.Unlock()
}

// leave removes a transaction that has ended.
func (v *view) leave(tx *Txn) {
	v.mu.Lock()
	if tx.next != nil {
		tx.next.previous = tx.previous
	}
	if tx.previous != nil {
		tx.previous.next = tx.next
	} else {
		v.first = tx.next
	}
	tx.next, tx.previous, tx.left = nil, nil, true
	settled := tx.settled
	unused := v.first == nil && !v.current
	v.mu.Unlock()
	if settled != nil {
		settled.release()
	}
	if unused {
		v.base.release()
	}
}

// isRead reports whether transactions read the view.
func (v *view) isRead() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.first != nil
}

// retire says that no more transactions come.
func (v *view) retire() {
	v.mu.Lock()
	v.current = false
	unused := v.first == nil
	v.mu.Unlock()
	if unused {
		v.base.release()
	}
}

// unsettled returns the transactions that are to be settled once Pebble holds everything up to end.
func (v *view) unsettled(end wal.LSN) (txns []*Txn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for tx := v.first; tx != nil; tx = tx.next {
		if tx.settled == nil && tx.at <= end {
			txns = append(txns, tx)
		}
	}
	return txns
}

// settle has a transaction read Pebble alone, as of what it sees.
func (v *view) settle(tx *Txn, b *base) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if tx.left {
		return
	}
	b.refs.Add(1)
	tx.settled = b
	tx.reading.Store(&reading{applied: tx.at, cache: v.reading.cache, base: b})
}

// interrupt has the scans under way let go of what they read from; they go on from where they are.
func (v *view) interrupt() {
	v.mu.Lock()
	var scans []*scan
	for tx := v.first; tx != nil; tx = tx.next {
		scans = append(scans, tx.scans...)
	}
	v.mu.Unlock()
	for _, s := range scans {
		s.interrupt()
	}
}

// shrink lets go of what is in memory if nobody reads that any more. The caller holds Table.mu.
func (v *view) shrink() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for tx := v.first; tx != nil; tx = tx.next {
		if tx.settled == nil {
			return
		}
	}
	v.reading, v.overlay = nil, nil
}

// unsettled returns the transactions on older views that see nothing past end. The store calls it when it has retired
// a memtable that ends there, in between two calls of Apply: so whoever begins later sees everything up to end, at the
// least.
func (t *Table) unsettled(end wal.LSN) (txns []*Txn) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, v := range t.older {
		txns = append(txns, v.unsettled(end)...)
	}
	return txns
}

// letGo has older views keep no memory that nobody needs, after transactions have been settled.
func (t *Table) letGo() {
	t.mu.RLock()
	older := slices.Clone(t.older)
	t.mu.RUnlock()
	for _, v := range older {
		v.interrupt() // before the overlay goes, which they would miss
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range older {
		v.shrink()
	}
}

// isOver reports whether the table is closed, and nobody reads it any more.
func (t *Table) isOver() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view == nil && !slices.ContainsFunc(t.older, (*view).isRead)
}

// addTable says that transactions of t will read the store.
func (s *Store) addTable(t *Table) {
	s.mu.Lock()
	s.tables = append(s.tables, t)
	s.mu.Unlock()
}

// readBy returns the tables whose transactions read the store.
func (s *Store) readBy() []*Table {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.tables)
}

// forgetTables drops the tables that are over.
func (s *Store) forgetTables() {
	s.mu.Lock()
	s.tables = slices.DeleteFunc(s.tables, (*Table).isOver)
	s.mu.Unlock()
}

// MemoryBytes is about how much memory the newest part of the table takes, which is applied and not written to
// files, or is kept for transactions that see an older state.
func (t *Table) MemoryBytes() int {
	t.mu.RLock()
	views := slices.Clone(t.older)
	if t.view != nil { // the table is not closed
		views = append(views, t.view)
	}
	t.mu.RUnlock()
	seen := make(map[*memtable]bool)
	n := 0
	for _, v := range views {
		for _, m := range v.memory() {
			if m != nil && !seen[m] {
				seen[m] = true
				n += m.size()
			}
		}
	}
	return n
}

func (v *view) memory() (m [2]*memtable) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reading != nil {
		m = v.reading.memory
	}
	return m
}
