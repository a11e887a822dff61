package kv

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/longship-db/longship/wal"
)

// A base is what Pebble held at one time. It is closed when nobody reads it any more.
type base struct {
	number   uint64 // one more than that of the base before
	snapshot *pebble.Snapshot
	refs     atomic.Int32 // the store has one while the base is the current one
}

func newBase(db *pebble.DB, number uint64) *base {
	b := &base{number: number, snapshot: db.NewSnapshot()}
	b.refs.Store(1)
	return b
}

func (b *base) release() {
	if b.refs.Add(-1) == 0 {
		_ = b.snapshot.Close() // fails only if called twice
	}
}

// A reading is the store as of its applied LSN at one time: what is read later is not in it.
type reading struct {
	applied wal.LSN
	memory  [2]*memtable // the newest first; nil if there is none
	cache   *rowCache
	base    *base
}

// read begins a reading; its base is to be released.
func (s *Store) read() *reading {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.base.refs.Add(1)
	return &reading{applied: s.Applied(), memory: [2]*memtable{s.memory, s.retired}, cache: s.cache, base: s.base}
}

// A lookup is what one who reads rows by key keeps from one to the next.
type lookup struct {
	buf []byte // scratch space
	gap gap
}

// get reads a row.
func (r *reading) get(ctx context.Context, key string, l *lookup) (Row, bool, error) {
	for _, m := range r.memory {
		if m == nil {
			continue
		}
		if v, ok := m.get(key, r.applied); ok {
			row, ok := v.row(key)
			return row, ok, nil
		}
	}
	if row, ok := r.cache.get(key, r.base.number); ok {
		return row, true, nil
	}
	l.buf = appendRowKey(l.buf[:0], key)
	if l.gap.covers(r.base, l.buf) {
		return Row{}, false, nil
	}
	stored, closer, err := r.base.snapshot.Get(l.buf)
	if errors.Is(err, pebble.ErrNotFound) {
		if err = l.gap.missed(ctx, r.base, l.buf); err == nil {
			return Row{}, false, nil
		}
	}
	if err != nil {
		return Row{}, false, fmt.Errorf("read row %q: %w", key, err)
	}
	l.gap.found()
	row, err := parseRow(key, stored)
	if err := errors.Join(err, closer.Close()); err != nil {
		return Row{}, false, err
	}
	r.cache.put(row, r.base.number)
	return row, true, nil
}
