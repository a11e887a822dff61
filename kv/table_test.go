package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// A fakeLog is a log in memory, which remembers what the records say.
type fakeLog struct {
	flushed wal.Position

	mu      sync.Mutex
	err     error // of the next Inserts
	end     wal.LSN
	xids    []uint32
	commits []logged

	// If set, called by Insert before it returns, without mu: the rest of the node may be that fast.
	inserted func(logged)
}

// A logged commit is a record of the fakeLog.
type logged struct {
	end    wal.LSN
	commit Commit
}

func (l *fakeLog) Insert(p *wal.Prepared, xid uint32) (start, end wal.LSN, err error) {
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return 0, 0, l.err
	}
	commit, err := DecodeCommit(mainData(p))
	if err != nil {
		panic(err)
	}
	start = l.end
	l.end += wal.LSN(p.Size()+7) &^ 7
	l.xids = append(l.xids, xid)
	entry := logged{l.end, commit}
	l.commits = append(l.commits, entry)
	l.mu.Unlock()
	if l.inserted != nil {
		l.inserted(entry)
	}
	return start, entry.end, nil
}

func (l *fakeLog) Flushed() *wal.Position { return &l.flushed }

// since returns the commits after lsn.
func (l *fakeLog) since(lsn wal.LSN) []logged {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.commits)
	for i > 0 && l.commits[i-1].end > lsn {
		i--
	}
	return l.commits[i:]
}

// mainData is the payload of a record that is not in a log yet, see wal.Prepare.
func mainData(p *wal.Prepared) []byte {
	const header, idShort = 24, 255
	b := reflect.ValueOf(p).Elem().FieldByName("bytes").Bytes()[header:]
	if b[0] == idShort {
		return b[2:]
	}
	if n := int(binary.LittleEndian.Uint32(b[1:])); n != len(b)-5 {
		panic(fmt.Sprintf("%d bytes of main data, header says %d", len(b)-5, n))
	}
	return b[5:]
}

// A testTable is a table on memory, with what a node has around it.
type testTable struct {
	*Table
	t       testing.TB
	log     *fakeLog
	horizon *wal.Position
	batch   *Batch
}

func newTestTable(t testing.TB, opts TableOptions) *testTable {
	t.Helper()
	return newTestTableOf(t, opts, 2<<10) // so that some memtables are written out
}

func newTestTableOf(t testing.TB, opts TableOptions, memTableSize int) *testTable {
	t.Helper()
	store := openTestStore(t, vfs.NewMem(), StoreOptions{MemTableSize: memTableSize})
	x := &testTable{t: t, log: &fakeLog{}, horizon: new(wal.Position), batch: store.NewBatch()}
	x.Table = NewTable(store, x.log, x.horizon, opts)
	t.Cleanup(func() {
		x.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// applyTo applies the commits of the log up to lsn, as one batch.
func (x *testTable) applyTo(lsn wal.LSN) error {
	for _, c := range x.log.since(x.store.Applied()) {
		if c.end <= lsn {
			if err := x.batch.Add(c.end, c.commit.Ops); err != nil {
				return err
			}
		}
	}
	return x.Apply(x.t.Context(), x.batch)
}

// put commits one value.
func (x *testTable) put(key, value string) wal.LSN {
	x.t.Helper()
	return x.write(func(tx *Txn) error { return tx.Put(key, []byte(value)) })
}

// delete commits that there is no such row.
func (x *testTable) delete(key string) wal.LSN {
	x.t.Helper()
	return x.write(func(tx *Txn) error { return tx.Delete(key) })
}

func (x *testTable) write(f func(*Txn) error) wal.LSN {
	x.t.Helper()
	tx := x.Begin(TxnOptions{})
	if err := f(tx); err != nil {
		x.t.Fatal(err)
	}
	end, err := tx.Commit(x.t.Context())
	if err != nil {
		x.t.Fatal(err)
	}
	return end
}

// settleAll moves the horizon to the end of the log and applies everything.
func (x *testTable) settleAll() {
	x.t.Helper()
	x.horizon.Advance(x.log.end)
	if err := x.applyTo(math.MaxUint64); err != nil {
		x.t.Fatal(err)
	}
}

// read is the value of key to a transaction, "-" if there is no row.
func (x *testTable) read(tx *Txn, key string) string {
	x.t.Helper()
	row, ok, err := tx.Get(x.t.Context(), key)
	if err != nil {
		x.t.Fatal(err)
	}
	if !ok {
		return "-"
	}
	return string(row.Value)
}

// scan is the keys of r to a transaction.
func (x *testTable) scan(tx *Txn, r Range) string {
	x.t.Helper()
	var keys []string
	for row, err := range tx.Scan(x.t.Context(), r) {
		if err != nil {
			x.t.Fatal(err)
		}
		keys = append(keys, row.Key)
	}
	return strings.Join(keys, " ")
}

func (x *testTable) mustRead(opts TxnOptions, key, want string) {
	x.t.Helper()
	tx := x.Begin(opts)
	defer tx.Rollback()
	if got := x.read(tx, key); got != want {
		x.t.Errorf("Get(%s) with %+v = %q, want %q", key, opts, got, want)
	}
}

// DESIGN, section 4, point 5: a session sees everything ≤ max(horizon, its own commits), never
// anything else.
func TestVisibility(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	first := x.put("k", "1")
	second := x.put("k", "2")

	x.mustRead(TxnOptions{}, "k", "-")
	x.mustRead(TxnOptions{Own: first}, "k", "1")
	x.mustRead(TxnOptions{Own: second}, "k", "2")
	x.mustRead(TxnOptions{Own: second + 1000}, "k", "2")
	x.mustRead(TxnOptions{Latest: true}, "k", "2")

	if err := x.applyTo(first); !errors.Is(err, ErrPastHorizon) {
		t.Errorf("Apply past the horizon = %v, want ErrPastHorizon", err)
	}
	x.horizon.Advance(first)
	x.mustRead(TxnOptions{}, "k", "1")
	tx := x.Begin(TxnOptions{})
	defer tx.Rollback()
	x.read(tx, "other") // settles what it sees
	x.batch = x.store.NewBatch()
	x.settleAll()
	x.mustRead(TxnOptions{}, "k", "2")
	if got := x.read(tx, "k"); got != "1" {
		t.Errorf("older transaction reads %q, want 1", got)
	}
	if n := x.PendingBytes(); n != 0 {
		t.Errorf("PendingBytes() = %d with all applied, want 0", n)
	}
	if got := x.AppliedPosition().Load(); got != second {
		t.Errorf("AppliedPosition() = %s, want %s", got, second)
	}
}

func TestTxnSeesOwnWrites(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	for _, k := range []string{"a", "b", "c", "d"} {
		x.put(k, "old")
	}
	x.settleAll()
	x.put("d", "pending")

	tx := x.Begin(TxnOptions{Latest: true})
	if err := errors.Join(tx.Put("aa", []byte{}), tx.Put("b", nil), tx.Delete("c"), tx.Put("d", []byte("new")), tx.Delete("zz")); err != nil {
		t.Fatal(err)
	}
	if got := x.scan(tx, Range{Unbounded: true}); got != "a aa b d" {
		t.Errorf("Scan = %q, want a aa b d", got)
	}
	for key, want := range map[string]Row{
		"aa": {Key: "aa", Value: []byte{}},
		"b":  {Key: "b"},
		"d":  {Key: "d", Value: []byte("new")},
	} {
		if got, ok, err := tx.Get(t.Context(), key); !ok || err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Get(%s) = %+v, %v, %v, want %+v", key, got, ok, err, want)
		}
	}
	end, err := tx.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tx = x.Begin(TxnOptions{Own: end})
	defer tx.Rollback()
	if got := x.scan(tx, Range{Lo: "aa", Hi: "d"}); got != "aa b" {
		t.Errorf("Scan [aa, d) = %q, want aa b", got)
	}
	if row, _, _ := tx.Get(t.Context(), "b"); row.LSN != end || row.Value != nil {
		t.Errorf("row b = %+v, want NULL at %s", row, end)
	}
}

func TestConflicts(t *testing.T) {
	everything := Range{Unbounded: true}
	tests := []struct {
		name     string
		read     func(x *testTable, tx *Txn)
		write    string // by another transaction, after the read
		conflict bool
	}{
		{"blind write", func(*testTable, *Txn) {}, "a", false},
		{"key read", func(x *testTable, tx *Txn) { x.read(tx, "a") }, "a", true},
		{"absent key read", func(x *testTable, tx *Txn) { x.read(tx, "aa") }, "aa", true},
		{"other key", func(x *testTable, tx *Txn) { x.read(tx, "a") }, "b", false},
		{"own write read", func(x *testTable, tx *Txn) { tx.Put("a", nil); x.read(tx, "a") }, "a", false},
		{"row of a range", func(x *testTable, tx *Txn) { x.scan(tx, Range{Lo: "a", Hi: "b"}) }, "a", true},
		{"phantom", func(x *testTable, tx *Txn) { x.scan(tx, Range{Lo: "a", Hi: "b"}) }, "aa", true},
		{"end of range", func(x *testTable, tx *Txn) { x.scan(tx, Range{Lo: "a", Hi: "b"}) }, "b", false},
		{"whole table", func(x *testTable, tx *Txn) { x.scan(tx, everything) }, "z", true},
		{"empty range", func(x *testTable, tx *Txn) { x.scan(tx, Range{Lo: "b", Hi: "a"}) }, "aa", false},
		{"scan stopped before", func(x *testTable, tx *Txn) {
			for range tx.Scan(x.t.Context(), everything) {
				break
			}
		}, "aa", false},
		{"scan stopped at", func(x *testTable, tx *Txn) {
			for range tx.Scan(x.t.Context(), everything) {
				break
			}
		}, "a", true},
		{"many keys", func(x *testTable, tx *Txn) {
			for i := range 100 {
				x.read(tx, fmt.Sprint(i))
			}
		}, "77", true},
	}
	for _, tt := range tests {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/applied=%t", tt.name, applied), func(t *testing.T) {
				x := newTestTable(t, TableOptions{})
				x.put("a", "1")
				x.put("b", "1")
				x.settleAll()
				tx := x.Begin(TxnOptions{})
				tt.read(x, tx)
				x.put(tt.write, "2")
				if applied {
					x.settleAll()
				}
				if err := tx.Put("w", nil); err != nil {
					t.Fatal(err)
				}
				_, err := tx.Commit(t.Context())
				if errors.Is(err, ErrConflict) != tt.conflict || err != nil && !tt.conflict {
					t.Errorf("Commit() = %v, want conflict %t", err, tt.conflict)
				}
			})
		}
	}
}

// A scan that fails has read up to the last row that it gave: its transaction may go on, from a savepoint.
func TestFailedScanIsRead(t *testing.T) {
	for _, tt := range []struct {
		write    string // by another transaction, after the scan
		conflict bool
	}{{"0000", true}, {"0100", true}, {"0100x", true}, {"last", true}, {"behind", false}} {
		t.Run(tt.write, func(t *testing.T) {
			x := newTestTable(t, TableOptions{})
			for i := range 2 * ctxInterval {
				x.put(fmt.Sprintf("%04d", i), "1")
			}
			x.settleAll()
			tx := x.Begin(TxnOptions{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var last string
			var failed error
			for row, err := range tx.Scan(ctx, Range{Unbounded: true}) {
				if failed = err; err == nil {
					last = row.Key
				}
				cancel()
			}
			if failed == nil || last == "" {
				t.Fatalf("scan ended at %q with %v, want an error on the way", last, failed)
			}
			switch tt.write {
			case "last":
				tt.write = last
			case "behind":
				tt.write = last + "\x00"
			}
			x.put(tt.write, "2")
			if err := tx.Put("w", nil); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Commit(t.Context()); errors.Is(err, ErrConflict) != tt.conflict || err != nil && !tt.conflict {
				t.Errorf("Commit() = %v, want conflict %t", err, tt.conflict)
			}
		})
	}
}

// A read-write transaction that began before what is pending conflicts with it; a Latest one
// does not.
func TestLatestAvoidsConflictWithPending(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	x.put("k", "1")
	for _, latest := range []bool{false, true} {
		tx := x.Begin(TxnOptions{Latest: latest})
		x.read(tx, "k")
		tx.Put("k", []byte("2"))
		if _, err := tx.Commit(t.Context()); (err == nil) != latest {
			t.Errorf("latest=%t: Commit() = %v", latest, err)
		}
	}
}

// An answer must never depend on what a failover could undo.
func TestLatestWaitsForWhatItRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		horizon := new(wal.Position)
		tx := &Txn{table: &Table{horizon: horizon}, seen: 0x100}
		done := false
		go func() {
			if _, err := tx.Commit(t.Context()); err != nil {
				t.Error(err)
			}
			done = true
		}()
		synctest.Wait()
		horizon.Advance(0xff)
		synctest.Wait()
		if done {
			t.Error("Commit returned before the horizon passed what was read")
		}
		horizon.Advance(0x100)
		synctest.Wait()
		if !done {
			t.Error("Commit still waits after the horizon passed what was read")
		}
	})

	x := newTestTable(t, TableOptions{})
	x.put("k", "1")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		opts TxnOptions
		key  string
		want error
	}{
		{TxnOptions{Latest: true}, "k", context.Canceled},
		{TxnOptions{Latest: true}, "other", nil},
		{TxnOptions{Own: x.log.end}, "k", nil},
	} {
		tx := x.Begin(tt.opts)
		x.read(tx, tt.key)
		if err := tx.WaitSeen(ended); !errors.Is(err, tt.want) {
			t.Errorf("%+v reading %s: WaitSeen() = %v, want %v", tt.opts, tt.key, err, tt.want)
		}
		if _, err := tx.Commit(ended); !errors.Is(err, tt.want) {
			t.Errorf("%+v reading %s: Commit() = %v, want %v", tt.opts, tt.key, err, tt.want)
		}
	}
}

// A commit that comes between the check without the lock and the lock conflicts too.
func TestConflictAtTheLastMoment(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	tx := x.Begin(TxnOptions{Latest: true})
	defer tx.Rollback()
	x.read(tx, "k")
	tx.Put("k", nil)
	checked, err := x.validate(tx, tx.at)
	if err != nil {
		t.Fatal(err)
	}
	x.put("k", "1")
	_, _, err = x.tryCommit(tx, newCommit(tx.writes.ops), x.encode(tx.writes.ops), checked)
	if !errors.Is(err, ErrConflict) {
		t.Errorf("tryCommit() = %v, want ErrConflict", err)
	}
}

// The applier reads the log, so it may be done with a commit before that is pending.
func TestApplierOvertakesCommit(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	older := x.Begin(TxnOptions{Latest: true})
	x.read(older, "k")
	x.log.inserted = func(c logged) {
		x.horizon.Advance(c.end)
		if err := x.applyTo(c.end); err != nil {
			t.Error(err)
		}
	}
	end := x.put("k", "1")
	if x.store.Applied() != end || x.PendingBytes() != 0 || x.pending.tree.Len() != 0 {
		t.Errorf("applied %s, %d bytes and %d versions pending, want %s and none",
			x.store.Applied(), x.PendingBytes(), x.pending.tree.Len(), end)
	}
	x.mustRead(TxnOptions{}, "k", "1")
	if got := x.read(older, "k"); got != "-" {
		t.Errorf("older transaction reads %q, want no row", got)
	}
	older.Put("k", nil)
	if _, err := older.Commit(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("older transaction's Commit() = %v, want ErrConflict", err)
	}
}

// While an exclusive transaction runs, others wait to commit, and it cannot conflict.
func TestExclusive(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()

	tx := x.Begin(TxnOptions{Exclusive: true})
	x.read(tx, "k")
	other := x.Begin(TxnOptions{})
	other.Put("k", nil)
	if _, err := other.Commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit beside an exclusive transaction = %v, want it to wait until its context ends", err)
	}
	second := x.Begin(TxnOptions{Exclusive: true})
	if _, _, err := second.Get(ended, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("second exclusive transaction's Get = %v, want it to wait", err)
	}
	second.Rollback()
	tx.Put("k", []byte("1"))
	if _, err := tx.Commit(t.Context()); err != nil {
		t.Errorf("Commit() = %v", err)
	}
	x.put("k", "2")

	tx = x.Begin(TxnOptions{Exclusive: true})
	x.read(tx, "k")
	tx.Rollback()
	x.put("k", "3")
}

// Commits wait for room, and go on when the applier has made some.
func TestPendingIsBounded(t *testing.T) {
	x := newTestTable(t, TableOptions{MaxPendingBytes: 2000})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	big := make([]byte, 1500)
	commit := func(ctx context.Context) error {
		tx := x.Begin(TxnOptions{})
		tx.Put("k", big)
		_, err := tx.Commit(ctx)
		return err
	}
	if err := commit(ended); err != nil { // does not wait
		t.Fatal(err)
	}
	if err := commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit without room = %v, want it to wait until its context ends", err)
	}
	done := make(chan error)
	go func() { done <- commit(t.Context()) }()
	x.settleAll()
	if err := <-done; err != nil {
		t.Errorf("Commit after room was made = %v", err)
	}
	x.settleAll()
	big = make([]byte, 5000)
	if err := commit(t.Context()); err != nil {
		t.Errorf("Commit larger than the bound with nothing pending = %v, want nil", err)
	}
}

// What is too old to be checked conflicts.
func TestHistoryIsBounded(t *testing.T) {
	x := newTestTable(t, TableOptions{MaxHistoryBytes: 100})
	tx := x.Begin(TxnOptions{})
	x.read(tx, "k")
	for i := range 20 {
		x.put(fmt.Sprintf("other%d", i), "")
		x.settleAll()
	}
	if n := x.pending.historyBytes; n > 100 {
		t.Errorf("%d bytes of history, want at most 100", n)
	}
	tx.Put("k", nil)
	if _, err := tx.Commit(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("Commit() = %v, want ErrConflict", err)
	}
	x.settleAll()
	x.put("a", "")
	x.settleAll()
	if n := len(x.pending.log) + len(x.older); n != 0 {
		t.Errorf("%d commits and old views kept for nobody", n)
	}
}

func TestStandby(t *testing.T) {
	store := newTestStore(t)
	horizon := new(wal.Position)
	horizon.Advance(0x200)
	table := NewTable(store, nil, horizon, TableOptions{})
	defer table.Close()
	tx := table.Begin(TxnOptions{Own: 0x100})
	if err := errors.Join(tx.Put("k", nil)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Put() = %v, want ErrReadOnly", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := tx.Get(ended, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get before the standby is there = %v, want it to wait", err)
	}
	b := store.NewBatch()
	if err := errors.Join(b.Add(0x100, []Op{{Kind: PutNull, Key: "k"}}), table.Apply(t.Context(), b)); err != nil {
		t.Fatal(err)
	}
	if row, ok, err := tx.Get(t.Context(), "k"); !ok || err != nil || row.LSN != 0x100 {
		t.Errorf("Get = %+v, %v, %v, want the row at 0/100", row, ok, err)
	}
	if tx.at != 0x100 {
		t.Errorf("transaction reads at %s, want the applied LSN", tx.at)
	}
	if end, err := tx.Commit(t.Context()); end != 0 || err != nil {
		t.Errorf("Commit() = %s, %v, want 0/0, nil", end, err)
	}
}

// A new primary's unproven tail is not shown, but counts.
func TestRecover(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	key := []byte("k")
	if err := x.Recover(0x100, []Op{{Kind: Put, Key: "k", Value: key}}); err != nil {
		t.Fatal(err)
	}
	if err := x.Recover(0x100, nil); !errors.Is(err, ErrOrder) {
		t.Errorf("Recover of the same record = %v, want ErrOrder", err)
	}
	key[0] = 'x' // it is the reader's buffer
	x.mustRead(TxnOptions{}, "k", "-")
	x.mustRead(TxnOptions{Latest: true}, "k", "k")
	x.horizon.Advance(0x100)
	x.mustRead(TxnOptions{}, "k", "k")
}

func TestTransactionIDs(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	x.put("k", "")
	x.SetNextXID(math.MaxUint32 - 1)
	x.put("k", "")
	x.put("k", "")
	x.put("k", "")
	if want := []uint32{3, math.MaxUint32 - 1, math.MaxUint32, 3}; !slices.Equal(x.log.xids, want) {
		t.Errorf("transaction ids %v, want %v", x.log.xids, want)
	}
	if x.NextXID() != 4 {
		t.Errorf("NextXID() = %d, want 4", x.NextXID())
	}
}

// What the log refuses is not committed and takes no transaction id.
func TestLogRefuses(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	x.log.err = errors.New("no space left on device")
	tx := x.Begin(TxnOptions{})
	tx.Put("k", []byte("1"))
	if _, err := tx.Commit(t.Context()); !errors.Is(err, x.log.err) {
		t.Errorf("Commit() = %v, want %v", err, x.log.err)
	}
	x.mustRead(TxnOptions{Latest: true}, "k", "-")
	x.log.err = nil
	x.put("k", "2")
	if x.log.xids[0] != 3 {
		t.Errorf("first transaction id %d, want 3", x.log.xids[0])
	}
}

// The record says what the writer knew.
func TestCommitRecord(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	first := x.put("k", "1")
	x.horizon.Advance(first)
	x.log.flushed.Advance(first + 8)
	x.put("k", "2")
	got := x.log.commits[1].commit
	if got.Horizon != first || got.Flushed != first+8 || got.Time == 0 {
		t.Errorf("record has horizon %s, flushed %s, time %d", got.Horizon, got.Flushed, got.Time)
	}
}

func TestTxnLimits(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	tx := x.Begin(TxnOptions{})
	isLimit := func(err error, what string) {
		t.Helper()
		if limit, ok := errors.AsType[*LimitError](err); !ok || limit.What != what {
			t.Errorf("got %v, want a LimitError of the %s", err, what)
		}
	}
	isLimit(tx.Put("", nil), "key")
	isLimit(tx.Delete(strings.Repeat("k", MaxKeySize+1)), "key")
	isLimit(tx.Put("k", make([]byte, MaxValueSize+1)), "value")
	value := make([]byte, MaxValueSize)
	for i := range 3 {
		if err := tx.Put(fmt.Sprint(i), value); err != nil {
			t.Fatal(err)
		}
	}
	isLimit(tx.Put("3", value), "commit")
	if err := tx.Put("2", nil); err != nil { // makes room
		t.Fatal(err)
	}
	if err := tx.Put("3", value); err != nil {
		t.Fatal(err)
	}
	tx.Rollback()
	tx.Rollback()
	if err := tx.Put("k", nil); !errors.Is(err, ErrTxnDone) {
		t.Errorf("Put after Rollback = %v, want ErrTxnDone", err)
	}
	if _, err := tx.Commit(t.Context()); !errors.Is(err, ErrTxnDone) {
		t.Errorf("Commit after Rollback = %v, want ErrTxnDone", err)
	}
	if _, _, err := tx.Get(t.Context(), "k"); !errors.Is(err, ErrTxnDone) {
		t.Errorf("Get after Rollback = %v, want ErrTxnDone", err)
	}
}

// What savepoints keep counts towards the limit of a commit, and is let go with them.
func TestSavepointMemory(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	tx := x.Begin(TxnOptions{})
	defer tx.Rollback()
	value := bytes.Repeat([]byte{'x'}, MaxValueSize)
	mark := tx.Savepoint()
	writes := 0
	for err := error(nil); err == nil; writes++ {
		if err = tx.Put("a", value); err != nil && !limitOf(err, "commit") {
			t.Fatal(err)
		}
	}
	if writes > MaxCommitSize/MaxValueSize+1 {
		t.Errorf("%d versions of a value are kept", writes)
	}
	tx.RollbackTo(mark)
	if _, ok, err := tx.Get(t.Context(), "a"); ok || err != nil {
		t.Errorf("after RollbackTo the row is there: %v, %v", ok, err)
	}
	for range writes - 1 {
		if err := tx.Put("a", value); err != nil {
			t.Fatal(err)
		}
	}
	tx.ReleaseSavepoints()
	for range writes {
		if err := tx.Put("a", value); err != nil {
			t.Fatalf("without savepoints: %v", err)
		}
	}
}

func limitOf(err error, what string) bool {
	e, ok := errors.AsType[*LimitError](err)
	return ok && e.What == what
}

// Going back restores what was written, where it is found, and its size, for few keys and for many.
func TestWriteSetUndo(t *testing.T) {
	for _, keys := range []int{3, 4 * smallSet} {
		random := rand.New(rand.NewPCG(1, uint64(keys)))
		var s writeSet
		s.marked = true
		var marks []int
		var saved []map[string]Op
		now := map[string]Op{}
		for range 2000 {
			switch n := random.IntN(20); {
			case n == 0:
				marks, saved = append(marks, len(s.undo)), append(saved, maps.Clone(now))
			case n == 1 && len(marks) > 0:
				i := random.IntN(len(marks))
				s.undoTo(marks[i])
				now = maps.Clone(saved[i])
				marks, saved = marks[:i+1], saved[:i+1]
			default:
				op := Op{Kind: Put, Key: fmt.Sprint("k", random.IntN(keys)), Value: make([]byte, random.IntN(10))}
				if err := s.add(op); err != nil {
					t.Fatal(err)
				}
				now[op.Key] = op
			}
			size := 0
			for key, want := range now {
				size += want.size()
				if got := s.find(key); got == nil || len(got.Value) != len(want.Value) {
					t.Fatalf("%d keys: %s is %+v, want %+v", keys, key, got, want)
				}
			}
			if len(s.ops) != len(now) || s.size != size {
				t.Fatalf("%d keys: %d operations of %d bytes, want %d of %d", keys, len(s.ops), s.size, len(now), size)
			}
		}
	}
}
