package kv

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"
	"weak"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/wal"
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

// Sessions of a standby outlive its role, and with it the table: those who have read go on reading what they saw, and
// take no memory; for others the table is not there any more.
func TestTransactionsOutliveTable(t *testing.T) {
	x := newTestTableOf(t, TableOptions{}, 1<<20)
	for i := range 10 {
		x.put(fmt.Sprint("key", i), "1")
	}
	x.settleAll()
	late := x.Begin(TxnOptions{})
	r := newOldReader(x, TxnOptions{})
	r.step(t, 3)
	memory := weak.Make(x.store.newestMemory())

	x.Close()
	x.Close()
	x.Table = NewTable(x.store, x.log, x.horizon, TableOptions{})
	for i := range 10 {
		x.put(fmt.Sprint("key", i), "2")
	}
	x.settleAll()
	if err := x.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.put("key", "2") // the view before has been the current one
	x.settleAll()
	runtime.GC()
	if memory.Value() != nil {
		t.Error("the memtable that a transaction on the closed table has read is in memory")
	}
	if got := sees(x, r.tx); got != r.want {
		t.Errorf("the transaction sees %q, at first it saw %q", got, r.want)
	}
	for r.step(t, 1) {
	}
	if r.seen != r.want {
		t.Errorf("the scan gave %q, want %q", r.seen, r.want)
	}
	if _, _, err := late.Get(t.Context(), "key1"); !errors.Is(err, ErrClosed) {
		t.Errorf("Get() by who begins to read = %v, want %v", err, ErrClosed)
	}
	r.stop()
	r.tx.Rollback()
	late.Rollback()
	x.put("key", "3")
	x.settleAll()
	if err := x.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(x.store.readBy()); n != 1 {
		t.Errorf("the store knows %d tables, want 1", n)
	}
}

// Where files cannot be read a scan ends with an error, and not with rows from memory that come after the gap.
func TestScanEndsWhereItCannotRead(t *testing.T) {
	var failing atomic.Bool
	errDisk := errors.New("input/output error")
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			return errDisk
		}
		return nil
	}))
	s := openTestStore(t, fs, StoreOptions{})
	var horizon wal.Position
	horizon.Advance(2)
	table := NewTable(s, nil, &horizon, TableOptions{})
	const rows = 2000
	var stored []Op
	for i := range rows {
		stored = append(stored, Op{Kind: Put, Key: fmt.Sprintf("%04d", i), Value: make([]byte, 100)})
	}
	b := s.NewBatch()
	err := errors.Join(b.Add(1, stored), table.Apply(t.Context(), b), s.Flush(t.Context()),
		b.Add(2, []Op{{Kind: Put, Key: "later"}}), table.Apply(t.Context(), b))
	if err != nil {
		t.Fatal(err)
	}
	tx := table.Begin(TxnOptions{})
	n := 0
	var failed error
	for row, err := range tx.Scan(t.Context(), everything) {
		failing.Store(true)
		if failed = err; err == nil && row.Key != fmt.Sprintf("%04d", n) {
			t.Errorf("row %d is %q", n, row.Key)
		}
		n++
	}
	if !errors.Is(failed, errDisk) || n > rows {
		t.Errorf("after %d of %d rows: %v, want %v", n, rows, failed, errDisk)
	}
	failing.Store(false)
	tx.Rollback()
	table.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Keys of commits stay in memory for as long as an old transaction may conflict with them. They may be parts of
// statements, which are not to stay with them.
func TestCommitCopiesKeys(t *testing.T) {
	statement := strings.Repeat("key", 1000)
	c := newCommit([]Op{{Kind: Delete, Key: statement[3:6]}, {Kind: Delete, Key: statement[6:9]}})
	from := uintptr(unsafe.Pointer(unsafe.StringData(statement)))
	for _, key := range append(c.keys, c.versions[0].key, c.versions[1].key) {
		if at := uintptr(unsafe.Pointer(unsafe.StringData(key))); key != "key" || at >= from && at < from+uintptr(len(statement)) {
			t.Errorf("the key %q is a part of the statement", key)
		}
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
