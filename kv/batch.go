package kv

import (
	"context"
	"fmt"
	"unsafe"

	"github.com/longship-db/longship/wal"
)

// A Batch collects commits in LSN order and is then applied as one: all of it or nothing is in the
// store after a crash. Not for concurrent use.
type Batch struct {
	bare        bool
	rows        []memRow
	chunk       []byte  // holds keys and values; what is in it is never written to again
	first, last wal.LSN // ends of the first and the last record; 0: empty
	size        int     // bytes of operations
}

// batchChunk is how much memory a batch takes at a time for keys and values, in bytes.
const batchChunk = 64 << 10

// NewBatch returns an empty batch. After Apply it can be filled again.
func (s *Store) NewBatch() *Batch { return &Batch{bare: s.bare} }

// Add adds the operations of the record that ends at end. Records without operations, such as those
// of other resource managers, move the applied LSN all the same. ops are copied. The error is
// ErrOrder, wrapped, if end is not past the record added before.
func (b *Batch) Add(end wal.LSN, ops []Op) error {
	if end <= b.last {
		return fmt.Errorf("add record ending at %s after %s: %w", end, b.last, ErrOrder)
	}
	if b.first == 0 {
		b.first = end
	}
	b.last = end
	for i := range ops {
		op := &ops[i]
		b.size += op.size()
		if !b.bare {
			b.rows = append(b.rows, b.row(end, op))
		}
	}
	return nil
}

// row copies what op says.
func (b *Batch) row(end wal.LSN, op *Op) memRow {
	n := len(op.Key) + len(op.Value)
	if n > cap(b.chunk)-len(b.chunk) {
		b.chunk = make([]byte, 0, max(n, batchChunk))
	}
	at := len(b.chunk)
	b.chunk = append(append(b.chunk, op.Key...), op.Value...)
	key := b.chunk[at : at+len(op.Key)]
	r := memRow{key: unsafe.String(unsafe.SliceData(key), len(key)), memVersion: memVersion{lsn: end, kind: op.Kind}}
	if op.Kind == Put {
		r.value = b.chunk[at+len(op.Key) : at+n : at+n]
	}
	return r
}

// End is the end of the last record in the batch, 0 if it is empty.
func (b *Batch) End() wal.LSN { return b.last }

// Size is the number of bytes in the batch's operations, also of those that it has dropped. A batch of some 100 KiB is
// efficient.
func (b *Batch) Size() int { return b.size }

// maxKeptRows is how many rows a batch keeps room for when it is emptied, at the most. One of 100 KiB has less.
const maxKeptRows = 32 << 10

// clear empties the batch, and keeps what memory is left of its chunk.
func (b *Batch) clear() {
	if cap(b.rows) > maxKeptRows { // a transaction of millions of rows has been in it
		b.rows = nil
	}
	clear(b.rows)
	b.rows, b.first, b.last, b.size = b.rows[:0], 0, 0, 0
}

// Apply makes the batch, and its end as the applied LSN, part of the store and empties it. On a node
// with a Table, Table.Apply must be called instead. The error is ErrOrder, wrapped, if the batch
// begins at or before the applied LSN; the cause of ctx if that ended while there was no room in memory, and nothing
// was done; any other is final for the store.
func (s *Store) Apply(ctx context.Context, b *Batch) error { return s.apply(ctx, b, func() {}) }

// apply is Apply. No memtable is retired in between the moves of the applied LSN and what applied does.
func (s *Store) apply(ctx context.Context, b *Batch, applied func()) error {
	if b.last == 0 {
		return nil
	}
	if applied := s.Applied(); b.first <= applied {
		return fmt.Errorf("apply record ending at %s, store is at %s: %w", b.first, applied, ErrOrder)
	}
	if err := s.awaitMemory(ctx); err != nil {
		return fmt.Errorf("apply up to %s: %w", b.last, err)
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	s.memory.insert(b.rows) // seen by nobody before the applied LSN has moved
	s.applied.Store(uint64(b.last))
	b.clear()
	applied()
	return nil
}
