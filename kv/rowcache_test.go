package kv

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/longship-db/longship/wal"
)

// What is kept counts, is no more than there is room for, and is never large.
func TestRowCacheIsBounded(t *testing.T) {
	const limit = 16 * 10_000
	c := newRowCache(limit)
	for i := range 10_000 {
		c.put(Row{Key: fmt.Sprint(i % 3000), Value: make([]byte, i%700)}, 0)
	}
	c.put(Row{Key: "large", Value: make([]byte, rowCacheLargest)}, 0)
	if _, ok := c.get("large", 0); ok {
		t.Error("a large row is kept")
	}
	total := 0
	for i := range c.shards {
		bytes := 0
		for _, r := range c.shards[i].rows {
			bytes += r.size()
		}
		if bytes != c.shards[i].bytes {
			t.Errorf("%d bytes, and %d are counted", bytes, c.shards[i].bytes)
		}
		total += bytes
	}
	if total > limit || total < limit/2 {
		t.Errorf("%d bytes of at most %d", total, limit)
	}
}

// A row is for those who read the base that it is from, or a later one, and only the newest base's are kept.
func TestRowCacheBases(t *testing.T) {
	c := newRowCache(1 << 20)
	get := func(key string, base uint64, want bool) {
		t.Helper()
		if _, ok := c.get(key, base); ok != want {
			t.Errorf("%s as of base %d: found %v, want %v", key, base, ok, want)
		}
	}
	c.put(Row{Key: "a"}, 0)
	c.put(Row{Key: "b"}, 0)
	c.advance(1, []string{"b", "c"})
	get("a", 0, true)
	get("a", 1, true)
	get("b", 1, false)
	c.put(Row{Key: "b"}, 0)
	get("b", 1, false)
	c.put(Row{Key: "b"}, 1)
	get("b", 1, true)
	get("b", 0, false)
}

// The key of a row may be a part of something long, which is not to stay in memory for it.
func TestRowCacheCopiesKeys(t *testing.T) {
	c := newRowCache(1 << 20)
	statement := strings.Repeat("key", 1000)
	c.put(Row{Key: statement[:3]}, 0)
	if r, _ := c.get("key", 0); unsafe.StringData(r.Key) == unsafe.StringData(statement) {
		t.Error("the key is a part of the statement")
	}
}

// While a memtable with many keys gets into Pebble, whoever reads one of them sees what was written last, and never
// again what was there before.
func TestRowCacheWhileMemtableIsWritten(t *testing.T) {
	const keys, rounds = 5000, 8
	s := newTestStore(t)
	done := make(chan error, 1)
	go func() {
		b := s.NewBatch()
		ops := make([]Op, keys)
		for i := range rounds {
			for j := range ops {
				ops[j] = Op{Kind: Put, Key: fmt.Sprint(j), Value: fmt.Append(nil, i)}
			}
			if err := errors.Join(b.Add(wal.LSN(i+1), ops), s.Apply(t.Context(), b), s.Flush(t.Context())); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var last wal.LSN
	var l lookup
	for key := fmt.Sprint(keys - 1); ; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		r := s.read()
		row, _, err := r.get(t.Context(), key, &l)
		r.base.release()
		if err != nil || row.LSN < last {
			t.Fatalf("%s, %v, after %s was read", row.LSN, err, last)
		}
		last = row.LSN
	}
}
