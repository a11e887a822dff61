package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/wal"
)

// Whatever was looked up before, in whichever base, what a lookup finds is what is there.
func TestGap(t *testing.T) {
	synctest.Test(t, testGap) // where a search takes no time: none is put off
}

func testGap(t *testing.T) {
	s := newTestStore(t)
	rng := rand.New(rand.NewPCG(1, 1))
	b, present := s.NewBatch(), map[string]bool{}
	var l lookup
	covered := 0
	for round := range 20 {
		var ops []Op
		for range rng.IntN(4) {
			op := Op{Kind: Put, Key: fmt.Sprintf("%03d", rng.IntN(1000)), Value: []byte("v")}
			if rng.IntN(3) == 0 {
				op.Kind, op.Value = Delete, nil
			}
			present[op.Key] = op.Kind == Put
			ops = append(ops, op)
		}
		if len(ops) > 0 {
			apply(t, s, b, wal.LSN(round+1), ops)
		}
		r := s.read()
		begin := rng.IntN(1000)
		for i := range 1000 {
			key := fmt.Sprintf("%03d", (begin+i)%1000)
			if rng.IntN(4) == 0 {
				key = fmt.Sprintf("%03d", rng.IntN(1000))
			}
			if l.gap.covers(r.base, appendRowKey(nil, key)) {
				covered++
			}
			_, found, err := r.get(t.Context(), key, &l)
			if err != nil || found != present[key] {
				t.Fatalf("round %d, key %s: found %v, %v, want %v", round, key, found, err, present[key])
			}
		}
		r.base.release()
	}
	if covered < 5000 {
		t.Errorf("%d of 20000 lookups were in a gap that was known", covered)
	}
}

// apply writes ops and has Pebble hold them.
func apply(t *testing.T, s *Store, b *Batch, lsn wal.LSN, ops []Op) {
	t.Helper()
	if err := b.Add(lsn, ops); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What was not there in one base may be in the next, and no longer in memory.
func TestGapOfEarlierBase(t *testing.T) {
	s := newTestStore(t)
	b := s.NewBatch()
	var l lookup
	find := func(key string, want bool) {
		t.Helper()
		r := s.read()
		defer r.base.release()
		if _, found, err := r.get(t.Context(), key, &l); err != nil || found != want {
			t.Errorf("%s: found %v, %v, want %v", key, found, err, want)
		}
	}
	for range 2 * leastPatience {
		find("between", false)
	}
	for i, key := range []string{"between", "x", "y", "z"} {
		apply(t, s, b, wal.LSN(i+1), []Op{{Kind: Put, Key: key}})
	}
	find("between", true)
}

// What cannot be read is not missing: the files fail once, and Pebble forgets that when it looks the other way.
func TestGapOfWhatCannotBeRead(t *testing.T) {
	var failures atomic.Int32
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && failures.Add(-1) >= 0 {
			return errors.New("the disk cannot read")
		}
		return nil
	}))
	s := openTestStore(t, fs, StoreOptions{CacheSize: 1})
	defer s.Close()
	var ops []Op
	for i := range 1000 {
		ops = append(ops, Op{Kind: Put, Key: fmt.Sprintf("%04d", i), Value: bytes.Repeat([]byte("v"), 1000)})
	}
	apply(t, s, s.NewBatch(), 1, ops)
	r := s.read()
	defer r.base.release()
	failed := 0
	for n := range int32(20) {
		var g gap
		failures.Store(n)
		if err := g.find(t.Context(), r.base, appendRowKey(nil, "0500x")); err != nil {
			failed++
		}
		failures.Store(0)
		if g.covers(r.base, appendRowKey(nil, "0100")) {
			t.Errorf("after %d reads failed a row that is there lies in a gap", n)
		}
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
}

// A search that took long, for all that was deleted there, is not made again before that has paid.
func TestGapThatTakesLong(t *testing.T) {
	b := &base{}
	g := gap{of: b, unbounded: true, patience: leastPatience}
	g.searched(time.Second)
	const want = int(time.Second / lookupTime)
	if g.patience < want {
		t.Errorf("the next search comes after %d lookups, want %d", g.patience, want)
	}
	if !g.covers(b, []byte("key")) || g.patience < want {
		t.Errorf("once it was of use, after %d lookups, want %d", g.patience, want)
	}
}

// A search among many rows that were deleted ends with its statement, and so does a lookup that begins one.
func TestGapAmongDeleted(t *testing.T) {
	s := newTestStore(t)
	b := s.NewBatch()
	var puts, deletes []Op
	for i := range 10 * ctxInterval {
		key := fmt.Sprintf("%05d", i)
		puts, deletes = append(puts, Op{Kind: Put, Key: key}), append(deletes, Op{Kind: Delete, Key: key})
	}
	apply(t, s, b, 1, puts)
	before := s.read() // while somebody reads the rows, Pebble cannot drop them
	defer before.base.release()
	apply(t, s, b, 2, deletes)
	r := s.read()
	defer r.base.release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var l lookup
	var err error
	for i := 0; err == nil && i < 2*leastPatience; i++ {
		_, _, err = r.get(ctx, fmt.Sprintf("%05dx", 5*ctxInterval), &l)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("get() = %v", err)
	}
	if _, found, err := r.get(t.Context(), "00001x", &l); found || err != nil {
		t.Errorf("afterwards: %v, %v", found, err)
	}
}

// Who looks up what is not there, but not in one place, looks for gaps ever more rarely.
func TestGapsOfNoUse(t *testing.T) {
	s := newTestStore(t)
	var ops []Op
	for i := range 1000 {
		ops = append(ops, Op{Kind: Put, Key: fmt.Sprintf("%03d", i), Value: []byte("v")})
	}
	apply(t, s, s.NewBatch(), 1, ops)
	r := s.read()
	defer r.base.release()
	var l lookup
	looked := 0
	for i := range 1000 {
		before := l.gap.high
		if _, found, err := r.get(t.Context(), fmt.Sprintf("%03dx", i*7%1000), &l); found || err != nil {
			t.Fatal(found, err)
		}
		if string(before) != string(l.gap.high) {
			looked++
		}
	}
	if looked == 0 || looked > 10 {
		t.Errorf("looked for a gap %d times", looked)
	}
}
