package kv

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A gap is a part of a base between two neighbouring keys: what lies there need not be looked up. Who inserts many rows
// looks each up first, to be sure that it is new, and mostly they are neighbours, of which none is there: a comparison
// tells, where Pebble takes microseconds. It serves one transaction.
type gap struct {
	of        *base // nil: no gap is known
	low, high []byte
	unbounded bool // there is nothing behind low

	misses   int // rows in a row that were looked up in vain, since a gap was looked for
	patience int // how many there are before the next is; doubles whenever a gap was of no use
	cost     int // of the last search, in lookups
}

// leastPatience is how many rows must be looked up in vain before a gap is looked for: they are many where it helps. It
// takes as long as some lookups, but all rows that were deleted there, and that Pebble still has, are passed over one by
// one: a million of them take a second. The next search waits until as much time has gone into lookups.
const (
	leastPatience = 200
	mostPatience  = 1 << 20
	lookupTime    = 4 * time.Microsecond
)

// covers reports whether key lies in the gap of b.
func (g *gap) covers(b *base, key []byte) bool {
	if g.of != b || bytes.Compare(key, g.low) <= 0 || !g.unbounded && bytes.Compare(key, g.high) >= 0 {
		return false
	}
	g.patience = max(leastPatience, g.cost)
	return true
}

// found is told that a row was there.
func (g *gap) found() { g.misses = 0 }

// missed is told that b has no row of key. Now and then it looks which gap that lies in.
func (g *gap) missed(ctx context.Context, b *base, key []byte) error {
	g.misses++
	if g.patience = max(g.patience, leastPatience); g.misses < g.patience {
		return nil
	}
	begun := time.Now()
	defer func() { g.searched(time.Since(begun)) }()
	return g.find(ctx, b, key)
}

// searched notes how long a search has taken.
func (g *gap) searched(took time.Duration) {
	g.cost = min(int(took/lookupTime), mostPatience)
	g.misses, g.patience = 0, max(min(2*g.patience, mostPatience), g.cost)
}

// find makes it the gap of b in which key lies.
func (g *gap) find(ctx context.Context, b *base, key []byte) error {
	it, err := b.snapshot.NewIter(&pebble.IterOptions{SkipPoint: until(ctx)})
	if err != nil {
		return err
	}
	g.of, g.low, g.high, g.unbounded = b, g.low[:0], g.high[:0], true
	err = g.seek(it, key)
	if err = errors.Join(err, it.Close()); err != nil { // what was not found may be there
		*g = gap{}
		return err
	}
	return nil
}

func (g *gap) seek(it *pebble.Iterator, key []byte) (err error) {
	defer ended(&err)
	if it.SeekLT(key) {
		g.low = append(g.low, it.Key()...)
	}
	err = it.Error() // the next seek forgets it
	if it.SeekGE(key) {
		g.high, g.unbounded = append(g.high, it.Key()...), false
	}
	return err
}

// An ending is the panic by which a search among rows that were deleted ends with its context: Pebble knows no other way
// out of a seek. The iterator is good for nothing then but to be closed.
type ending struct{ error }

// until looks at ctx now and then, for each row that an iterator comes to, deleted or not. It skips none.
func until(ctx context.Context) func(key []byte) (skip bool) {
	rows := 0
	return func([]byte) bool {
		if rows++; rows%ctxInterval == 0 && ctx.Err() != nil {
			panic(ending{context.Cause(ctx)})
		}
		return false
	}
}

// ended, deferred, makes an ending the error of what has been searching.
func ended(err *error) {
	switch r := recover().(type) {
	case nil:
	case ending:
		*err = r.error
	default:
		panic(r)
	}
}
