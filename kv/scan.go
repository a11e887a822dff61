package kv

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

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
// what has been read is up to where it has come and no further.
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
		for {
			row, ok, err := s.next()
			switch {
			case err != nil:
				tx.noteRange(Range{Lo: r.Lo, Hi: s.position()})
				yield(Row{}, err)
				return
			case !ok:
				tx.noteRange(r)
				return
			}
			if !yield(row, nil) {
				tx.noteRange(Range{Lo: r.Lo, Hi: s.position()})
				return
			}
		}
	}
}

// A scan merges what the transaction wrote over what is pending over what is stored, in memory and on disk.
type scan struct {
	tx  *Txn
	ctx context.Context

	mu   sync.Mutex // held while the scan moves, as interrupt may come from elsewhere
	r    Range      // what is left of it
	last string     // the key that it has moved past; it may be shared with a memtable
	any  bool       // whether there is one

	own []Op // what is left of them

	pending []*version // the next ones, visible and one a key: what is left of chunk
	chunk   []*version
	resume  version // where those after them begin
	more    bool    // whether there may be any

	memory []*memScan       // the newest first
	stored *pebble.Iterator // nil if the scan is interrupted
	steps  int
}

func (tx *Txn) newScan(ctx context.Context, r Range) (*scan, error) {
	s := &scan{tx: tx, ctx: ctx, r: r, own: tx.writes.inRange(r)}
	tx.view.mu.Lock()
	tx.scans = append(tx.scans, s)
	tx.view.mu.Unlock()
	s.mu.Lock()
	err := s.begin()
	s.mu.Unlock()
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// begin opens what is read, at the beginning of what is left. The caller holds mu.
func (s *scan) begin() error {
	if s.tx.done {
		return ErrTxnDone
	}
	r := s.tx.reading.Load()
	opts := pebble.IterOptions{LowerBound: appendRowKey(nil, s.r.Lo), UpperBound: []byte{rowPrefix + 1}}
	if !s.r.Unbounded {
		opts.UpperBound = appendRowKey(nil, s.r.Hi)
	}
	stored, err := r.base.snapshot.NewIterWithContext(s.ctx, &opts)
	if err != nil {
		return fmt.Errorf("scan table: %w", err)
	}
	stored.First()
	s.stored = stored
	s.more = true
	s.resume = version{key: s.r.Lo, lsn: ^wal.LSN(0)} // before every version of Lo
	for _, m := range r.memory {
		if m != nil {
			s.memory = append(s.memory, m.scan(s.r, r.applied))
		}
	}
	return nil
}

// interrupt has the scan let go of memory and files. It begins anew where it is when the next row is asked for,
// which may take hours, or never happen.
func (s *scan) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored == nil {
		return
	}
	_ = s.stored.Close() // reports what went wrong in reading, which is tried again, or over
	s.stored, s.memory, s.pending, s.chunk, s.resume = nil, nil, nil, nil, version{}
	s.r.Lo, s.last, s.any = s.left(), "", false
}

// left is where the range that is left begins. The caller holds mu.
func (s *scan) left() string {
	if s.any {
		return s.last + "\x00"
	}
	return s.r.Lo
}

// position is the key that the scan has come to, with nothing left before it.
func (s *scan) position() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left()
}

func (s *scan) close() {
	s.interrupt()
	s.tx.view.mu.Lock()
	s.tx.scans = slices.DeleteFunc(s.tx.scans, func(x *scan) bool { return x == s })
	s.tx.view.mu.Unlock()
}

// next returns the next row; ok is false at the end.
func (s *scan) next() (row Row, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored == nil {
		if err := s.begin(); err != nil {
			return Row{}, false, err
		}
	}
	for {
		if s.steps++; s.steps%ctxInterval == 0 && s.ctx.Err() != nil {
			return Row{}, false, context.Cause(s.ctx)
		}
		if len(s.pending) == 0 && s.more {
			s.refill()
		}
		if !s.stored.Valid() { // at its end, or where it cannot be read, and what follows in memory must not be given
			if err := s.stored.Error(); err != nil {
				return Row{}, false, fmt.Errorf("scan table: %w", err)
			}
		}
		key, ok := s.lowest()
		if !ok {
			return Row{}, false, nil
		}
		row, ok, err = s.take(key)
		s.last, s.any = key, true
		if ok || err != nil {
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
