package kv

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"unsafe"
	"weak"

	"github.com/cockroachdb/pebble/v2"
)

// An oldReader is a transaction that stays open, with a scan that stays where it is.
type oldReader struct {
	tx   *Txn
	want string // all that it sees
	next func() (Row, error, bool)
	stop func()
	seen string // what the scan has given
}

func newOldReader(x *testTable, opts TxnOptions) *oldReader {
	r := &oldReader{tx: x.Begin(opts)}
	r.want = sees(x, r.tx)
	r.next, r.stop = iter.Pull2(r.tx.Scan(x.t.Context(), everything))
	return r
}

var everything = Range{Unbounded: true}

// sees is all that a transaction sees.
func sees(x *testTable, tx *Txn) string {
	x.t.Helper()
	var b strings.Builder
	for row, err := range tx.Scan(x.t.Context(), everything) {
		if err != nil {
			x.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s=%s ", row.Key, bytes.TrimRight(row.Value, "."))
	}
	return b.String()
}

// step takes rows from the scan, and reports whether there was one more.
func (r *oldReader) step(t *testing.T, n int) bool {
	for range n {
		row, err, ok := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return false
		}
		r.seen += fmt.Sprintf("%s=%s ", row.Key, bytes.TrimRight(row.Value, "."))
	}
	return true
}

// Transactions and scans that stay open while others write see what they saw, and keep nothing of it in memory.
func TestOldTransactionsTakeNoMemory(t *testing.T) {
	const rounds, keys, perRound, memTableSize = 30, 50, 50, 200_000
	x := newTestTableOf(t, TableOptions{}, memTableSize)
	rng := rand.New(rand.NewPCG(1, 2))
	var readers []*oldReader
	var tables []weak.Pointer[memtable]
	var chunks []weak.Pointer[byte]
	for i := range rounds {
		for j := range perRound {
			key := fmt.Sprintf("key%02d", rng.IntN(keys))
			if rng.IntN(5) == 0 {
				x.delete(key)
			} else {
				x.put(key, fmt.Sprint(i, "-", j, " ", string(bytes.Repeat([]byte{'.'}, 8000))))
			}
			if rng.IntN(3) > 0 { // else some is pending when a transaction begins
				x.settleAll()
			}
			chunks = append(chunks, weak.Make(unsafe.SliceData(x.batch.chunk)))
			tables = append(tables, weak.Make(x.store.newestMemory()))
			if rng.IntN(perRound) == 0 {
				x.horizon.Advance(x.log.end)
				readers = append(readers, newOldReader(x, TxnOptions{Latest: rng.IntN(2) == 0}))
				readers[rng.IntN(len(readers))].step(t, rng.IntN(5))
			}
		}
	}
	x.settleAll()
	if err := x.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := x.MemoryBytes(); n == 0 || n > 5*memTableSize {
		t.Errorf("MemoryBytes() = %d for %d old transactions, want at most %d", n, len(readers), 5*memTableSize)
	}
	runtime.GC()
	if n := alive(tables); n > 4 {
		t.Errorf("%d memtables are in memory for %d old transactions, want at most 4", n, len(readers))
	}
	// Each scan may have the row that it gave last.
	if n := alive(chunks); n > len(readers)+10 {
		t.Errorf("%d pieces of rows are in memory for %d old transactions", n, len(readers))
	}
	for i, r := range readers {
		if got := sees(x, r.tx); got != r.want {
			t.Errorf("transaction %d of %d sees %q, at first it saw %q", i, len(readers), got, r.want)
		}
		for r.step(t, 1) {
		}
		if r.seen != r.want {
			t.Errorf("scan %d of %d gave %q, want %q", i, len(readers), r.seen, r.want)
		}
		r.stop()
		checkSettled(t, r.tx)
		r.tx.Rollback()
	}
}

// checkSettled looks at what Pebble says of itself where a transaction reads it: a crash at that time would have had
// redo begin there.
func checkSettled(t *testing.T, tx *Txn) {
	t.Helper()
	if tx.settled == nil {
		return
	}
	applied, err := readApplied(tx.settled.snapshot, &pebble.IterOptions{})
	if err != nil || applied > tx.at {
		t.Errorf("Pebble is at %s, %v, where a transaction sees it as of %s", applied, err, tx.at)
	}
}

// A memtable is not retired between the moves of the applied LSN and of the view: those who began then would see an
// earlier part of it, and be overlooked.
func TestMemtableIsNotRetiredBeforeTheViewMoves(t *testing.T) {
	s := newTestStore(t)
	b := s.NewBatch()
	moved := false
	err := errors.Join(b.Add(8, []Op{{Kind: Delete, Key: "k"}}), s.apply(t.Context(), b, func() {
		moved = s.Applied() == 8
		if s.applying.TryLock() {
			s.applying.Unlock()
			t.Error("a memtable could be retired")
		}
	}))
	if err != nil || !moved {
		t.Errorf("apply() = %v; the applied LSN is %s before the view moves, want 0/8", err, s.Applied())
	}
}

// alive counts those that have not been collected.
func alive[T any](pointers []weak.Pointer[T]) int {
	found := make(map[*T]bool)
	for _, p := range pointers {
		if v := p.Value(); v != nil {
			found[v] = true
		}
	}
	return len(found)
}
