package kv

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/longship-db/longship/wal"
)

// pendingChunk is how many pending versions a scan takes at a time: the lock is held for that long,
// and never while the caller looks at a row or the store is read.
const pendingChunk = 128

// ctxInterval is how many rows a scan goes through between two looks at its context.
const ctxInterval = 256

// Scan returns the rows of r in the order of their keys (of their bytes). It sees the transaction's
// own writes up to when the iteration began; writing while it goes on is allowed. After an error,
// which comes with a zero row, the iteration is over. If it ends early, by the caller or by an error,
// what has been read is up to the last row given and no further.
func (tx *Txn) Scan(ctx context.Context, r Range) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if err := tx.open(ctx); err != nil {
			yield(Row{}, err)
			return
		}
		if r.isEmpty() {
			return
		}
		s, err := tx.newScan(ctx, r)
		if err != nil {
			yield(Row{}, err)
			return
		}
		defer s.close()
		for last := ""; ; {
			row, ok, err := s.next()
			switch {
			case err != nil:
				tx.reads.addRange(Range{Lo: r.Lo, Hi: last + "\x00"})
				yield(Row{}, err)
				return
			case !ok:
				tx.reads.addRange(r)
				return
			}
			if last = row.Key; !yield(row, nil) {
				tx.reads.addRange(Range{Lo: r.Lo, Hi: last + "\x00"})
				return
			}
		}
	}
}

// A scan merges what the transaction wrote over what is pending over what is stored, in memory and on disk.
type scan struct {
	tx  *Txn
	ctx context.Context
	r   Range

	own []Op // what is left of them

	pending []*version // the next ones, visible and one a key: what is left of chunk
	chunk   []*version
	resume  version // where those after them begin
	more    bool    // whether there may be any

	memory []*memScan // the newest first
	stored *pebble.Iterator
	steps  int
}

func (tx *Txn) newScan(ctx context.Context, r Range) (*scan, error) {
	opts := pebble.IterOptions{LowerBound: appendRowKey(nil, r.Lo), UpperBound: []byte{rowPrefix + 1}}
	if !r.Unbounded {
		opts.UpperBound = appendRowKey(nil, r.Hi)
	}
	stored, err := tx.view.base.snapshot.NewIterWithContext(ctx, &opts)
	if err != nil {
		return nil, fmt.Errorf("scan table: %w", err)
	}
	stored.First()
	s := &scan{tx: tx, ctx: ctx, r: r, own: tx.writes.inRange(r), stored: stored, more: true}
	s.resume = version{key: r.Lo, lsn: ^wal.LSN(0)} // before every version of Lo
	for _, m := range tx.view.memory {
		if m != nil {
			s.memory = append(s.memory, m.scan(r, tx.view.applied))
		}
	}
	return s, nil
}

func (s *scan) close() {
	// What can go wrong in reading, next has reported.
	_ = s.stored.Close()
}

// next returns the next row; ok is false at the end.
func (s *scan) next() (row Row, ok bool, err error) {
	for {
		if s.steps++; s.steps%ctxInterval == 0 && s.ctx.Err() != nil {
			return Row{}, false, context.Cause(s.ctx)
		}
		if len(s.pending) == 0 && s.more {
			s.refill()
		}
		key, ok := s.lowest()
		if !ok {
			if err := s.stored.Error(); err != nil {
				return Row{}, false, fmt.Errorf("scan table: %w", err)
			}
			return Row{}, false, nil
		}
		if row, ok, err = s.take(key); ok || err != nil {
			return row, ok, err
		}
	}
}

// refill takes the next chunk of pending versions.
func (s *scan) refill() {
	t := s.tx.table
	s.pending = s.chunk[:0]
	s.more = false
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.treeOf(s.tx.view).AscendGreaterOrEqual(&s.resume, func(v *version) bool {
		if !s.r.below(v.key) {
			return false
		}
		if n := len(s.pending); v.lsn > s.tx.at || n > 0 && s.pending[n-1].key == v.key {
			return true // not visible, or there is a newer one
		}
		if len(s.pending) == pendingChunk {
			s.more = true
			return false
		}
		s.pending = append(s.pending, v)
		return true
	})
	s.chunk = s.pending
	if s.more {
		s.resume = version{key: s.pending[pendingChunk-1].key} // LSN 0: after every version of it
	}
}

// lowest returns the lowest key that any of them has.
func (s *scan) lowest() (key string, ok bool) {
	if len(s.own) > 0 {
		key, ok = s.own[0].Key, true
	}
	if len(s.pending) > 0 && (!ok || s.pending[0].key < key) {
		key, ok = s.pending[0].key, true
	}
	for _, m := range s.memory {
		if next := m.peek(); next != nil && (!ok || next.key < key) {
			key, ok = next.key, true
		}
	}
	if s.stored.Valid() {
		if k := s.stored.Key()[1:]; !ok || string(k) < key {
			key, ok = string(k), true
		}
	}
	return key, ok
}

// take moves all of them past key and returns its row as the uppermost of them has it; ok is false if
// that deleted it.
func (s *scan) take(key string) (row Row, ok bool, err error) {
	if s.stored.Valid() && string(s.stored.Key()[1:]) == key {
		var value []byte
		if value, err = s.stored.ValueAndErr(); err == nil {
			row, err = parseRow(key, value)
		}
		ok = err == nil
		s.stored.Next()
	}
	for _, m := range slices.Backward(s.memory) {
		if next := m.peek(); next != nil && next.key == key {
			row, ok = next.row(key)
			m.skip()
		}
	}
	var pending *version
	if len(s.pending) > 0 && s.pending[0].key == key {
		pending = s.pending[0]
		s.pending = s.pending[1:]
		row, ok = pending.row(), pending.kind != Delete
	}
	if len(s.own) > 0 && s.own[0].Key == key {
		op := &s.own[0]
		s.own = s.own[1:]
		row, ok = op.row(), op.Kind != Delete
	} else if pending != nil {
		s.tx.note(pending)
	}
	if err != nil {
		return Row{}, false, fmt.Errorf("scan table: %w", err)
	}
	return row, ok, nil
}
