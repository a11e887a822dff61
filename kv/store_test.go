package kv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/wal"
)

func openTestStore(t testing.TB, fs vfs.FS, opts StoreOptions) *Store {
	t.Helper()
	s, err := OpenStore(fs, "data/store", opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newTestStore(t testing.TB) *Store {
	s := openTestStore(t, vfs.NewMem(), StoreOptions{})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// contents reads the whole store, as "value@LSN" by key.
func contents(t testing.TB, s *Store) map[string]string {
	t.Helper()
	var all wal.Position
	all.Advance(s.Applied())
	table := NewTable(s, nil, &all, TableOptions{})
	defer table.Close()
	tx := table.Begin(TxnOptions{})
	defer tx.Rollback()
	rows := make(map[string]string)
	for row, err := range tx.Scan(t.Context(), Range{Unbounded: true}) {
		if err != nil {
			t.Fatal(err)
		}
		rows[row.Key] = describe(row)
	}
	return rows
}

func describe(r Row) string {
	if r.Value == nil {
		return fmt.Sprintf("NULL@%s", r.LSN)
	}
	return fmt.Sprintf("%q@%s", r.Value, r.LSN)
}

// applyOps does to a model of the table what a commit does to the table.
func applyOps(rows map[string]string, end wal.LSN, ops []Op) {
	for _, op := range ops {
		if op.Kind == Delete {
			delete(rows, op.Key)
		} else {
			rows[op.Key] = describe(Row{Value: op.Value, LSN: end})
		}
	}
}

func randomOps(rng *rand.Rand) []Op {
	ops := make([]Op, rng.IntN(4))
	for i := range ops {
		ops[i] = Op{Kind: Kind(1 + rng.IntN(3)), Key: fmt.Sprintf("key%03d", rng.IntN(200))}
		if ops[i].Kind == Put {
			ops[i].Value = make([]byte, rng.IntN(500))
		}
	}
	return ops
}

// After a crash the store holds exactly the commits up to its applied LSN, and that is at least what
// it said was durable.
func TestStoreCrashLeavesPrefix(t *testing.T) {
	slow.Test(t)
	t.Run("alone", func(t *testing.T) { testCrashLeavesPrefix(t, false) })
	t.Run("beside old transactions", func(t *testing.T) { testCrashLeavesPrefix(t, true) })
}

func testCrashLeavesPrefix(t *testing.T, read bool) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)

	type crash struct {
		fs      *vfs.MemFS
		durable wal.LSN
	}
	var (
		mem     = vfs.NewCrashableMem()
		durable atomic.Uint64
		mu      sync.Mutex // guards what follows: files are synced by several goroutines
		random  = rand.New(rand.NewPCG(seed, 1))
		crashes []crash
	)
	cutPower := func() {
		mu.Lock()
		defer mu.Unlock()
		known := wal.LSN(durable.Load()) // before, since it may move
		cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random}
		crashes = append(crashes, crash{mem.CrashClone(cfg), known})
	}
	// Right before each thing is made durable, and now and then after.
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpRename, errorfs.OpLink:
			cutPower()
		}
		return nil
	}))

	s := openTestStore(t, fs, StoreOptions{MemTableSize: 64 << 10})
	var all wal.Position
	all.Advance(math.MaxUint64)
	table := NewTable(s, nil, &all, TableOptions{})
	readers := make([]*Txn, 10)
	states := map[wal.LSN]map[string]string{0: {}}
	rows := make(map[string]string)
	b := s.NewBatch()
	var end wal.LSN
	for i := range 300 {
		for range 1 + rng.IntN(8) {
			end += wal.LSN(8 + rng.IntN(100))
			ops := randomOps(rng)
			applyOps(rows, end, ops)
			if err := b.Add(end, ops); err != nil {
				t.Fatal(err)
			}
			if read { // memtables are written in parts
				states[end] = maps.Clone(rows)
			}
		}
		if err := table.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		states[end] = maps.Clone(rows)
		if i := rng.IntN(len(readers)); read && rng.IntN(3) == 0 {
			if readers[i] != nil {
				readers[i].Rollback()
			}
			readers[i] = table.Begin(TxnOptions{})
			if _, _, err := readers[i].Get(t.Context(), "key"); err != nil {
				t.Fatal(err)
			}
		}
		if rng.IntN(30) == 0 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			durable.Store(uint64(end))
			cutPower()
		}
		if i%10 == 0 {
			lsn, err := s.DurableApplied()
			if err != nil {
				t.Fatal(err)
			}
			durable.Store(max(durable.Load(), uint64(lsn)))
			cutPower()
		}
	}
	for _, tx := range readers {
		if tx != nil {
			tx.Rollback()
		}
	}
	table.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	durable.Store(uint64(end))
	cutPower() // Close has flushed

	found := make(map[wal.LSN]bool)
	for i, c := range crashes {
		s, err := OpenStore(c.fs, "data/store", StoreOptions{})
		if err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		applied := s.Applied()
		want, ok := states[applied]
		if !ok || applied < c.durable {
			t.Errorf("crash %d: applied %s, want the end of a batch, or of a record, at least %s", i, applied, c.durable)
		}
		if got := contents(t, s); !maps.Equal(got, want) {
			t.Errorf("crash %d: store at %s holds %v, want %v", i, applied, got, want)
		}
		if lsn, err := s.DurableApplied(); err != nil || lsn != applied {
			t.Errorf("crash %d: DurableApplied() = %s, %v, want %s", i, lsn, err, applied)
		}
		found[applied] = true
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d crashes, %d different states", len(crashes), len(found))
	if len(found) < 5 {
		t.Errorf("crashes left %d different states, want more to have been tested", len(found))
	}
}

func TestStoreFlushAndReopen(t *testing.T) {
	fs := vfs.NewMem()
	s := openTestStore(t, fs, StoreOptions{})
	b := s.NewBatch()
	if err := s.Apply(t.Context(), b); err != nil || s.Applied() != 0 {
		t.Errorf("empty batch: Apply() = %v, Applied() = %s, want nil, 0/0", err, s.Applied())
	}
	add := func(end wal.LSN, ops ...Op) {
		t.Helper()
		if err := b.Add(end, ops); err != nil {
			t.Fatal(err)
		}
	}
	checkLSNs := func(applied, durable wal.LSN) {
		t.Helper()
		got, err := s.DurableApplied()
		if err != nil || s.Applied() != applied || got != durable {
			t.Errorf("applied %s, durable %s, %v, want %s and %s", s.Applied(), got, err, applied, durable)
		}
	}
	checkLSNs(0, 0)
	add(0x100, Op{Kind: Put, Key: "a", Value: []byte{}}, Op{Kind: PutNull, Key: "b"})
	add(0x200) // of another resource manager
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	checkLSNs(0x200, 0)
	if n := s.Size(); n < 2 {
		t.Errorf("Size() = %d with two rows in memory", n)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkLSNs(0x200, 0x200)
	add(0x300, Op{Kind: Put, Key: "a", Value: []byte("1")}, Op{Kind: Put, Key: "a", Value: []byte("2")}, Op{Kind: Delete, Key: "b"})
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	checkLSNs(0x300, 0x200)

	if err := s.Checkpoint(t.Context(), "data/copy"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": `"2"@0/300`}
	for _, dir := range []string{"data/store", "data/copy"} {
		s, err := OpenStore(fs, dir, StoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := contents(t, s); s.Applied() != 0x300 || !maps.Equal(got, want) {
			t.Errorf("%s: at %s holds %v, want %v at 0/300", dir, s.Applied(), got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoreOrder(t *testing.T) {
	s := newTestStore(t)
	b := s.NewBatch()
	if err := b.Add(0x100, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(0x100, nil); !errors.Is(err, ErrOrder) {
		t.Errorf("Add at the same LSN = %v, want ErrOrder", err)
	}
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(0x100, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), b); !errors.Is(err, ErrOrder) {
		t.Errorf("Apply of what is applied = %v, want ErrOrder", err)
	}
	if s.Applied() != 0x100 {
		t.Errorf("Applied() = %s, want 0/100", s.Applied())
	}
}

// A flush that fails once is repeated; one that goes on failing ends in the fatal hook.
func TestStoreFailingFlush(t *testing.T) {
	errDisk := errors.New("input/output error")
	for _, tt := range []struct {
		name     string
		failures int32
		fatal    bool
	}{{"once", 1, false}, {"for good", 1 << 30, true}} {
		t.Run(tt.name, func(t *testing.T) {
			var failures atomic.Int32
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && failures.Add(-1) >= 0 {
					return errDisk
				}
				return nil
			}))
			fatal := make(chan error, 1)
			s := openTestStore(t, fs, StoreOptions{Fatal: func(err error) { fatal <- err }})
			b := s.NewBatch()
			if err := b.Add(8, []Op{{Kind: Put, Key: "k", Value: []byte("v")}}); err != nil {
				t.Fatal(err)
			}
			if err := s.Apply(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			failures.Store(tt.failures)
			err := s.Flush(t.Context())
			if tt.fatal {
				if !errors.Is(err, errDisk) || !errors.Is(<-fatal, errDisk) {
					t.Errorf("Flush() = %v, want %v, and Fatal called with it", err, errDisk)
				}
				failures.Store(0) // let the background work of this test end
				return
			}
			if err := errors.Join(err, s.Close()); err != nil || len(fatal) != 0 {
				t.Errorf("Flush and Close = %v with %d fatal errors, want none", err, len(fatal))
			}
		})
	}
}

// A full disk fails a flush as often as it is asked for, and is no reason to give up: reads go on, and
// so does the flush when there is room.
func TestStoreDiskFull(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && full.Load() {
			return &os.PathError{Op: "open", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	}))
	s := openTestStore(t, fs, StoreOptions{Fatal: func(err error) { t.Errorf("Fatal(%v)", err) }})
	b := s.NewBatch()
	if err := b.Add(8, []Op{{Kind: Put, Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	for range maxFailures {
		if err := s.Flush(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Flush() on a full disk = %v, want %v", err, syscall.ENOSPC)
		}
	}
	if applied, err := readApplied(s.db, &pebble.IterOptions{}); err != nil || applied != 8 {
		t.Errorf("a read on a full disk gives %s, %v", applied, err)
	}
	full.Store(false)
	for err := s.Flush(t.Context()); err != nil; err = s.Flush(t.Context()) {
		if !errors.Is(err, syscall.ENOSPC) { // an attempt that had begun before may still fail
			t.Fatal(err)
		}
	}
	if durable, err := s.DurableApplied(); err != nil || durable != 8 {
		t.Errorf("DurableApplied() = %s, %v, want 0/8", durable, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestStoreFlushEndsWithContext(t *testing.T) {
	release := make(chan struct{})
	var block atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if block.Load() && op.Kind == errorfs.OpCreate {
			<-release
		}
		return nil
	}))
	s := openTestStore(t, fs, StoreOptions{})
	b := s.NewBatch()
	if err := errors.Join(b.Add(8, []Op{{Kind: Delete, Key: "k"}}), s.Apply(t.Context(), b)); err != nil {
		t.Fatal(err)
	}
	block.Store(true)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if err := s.Flush(ctx); !errors.Is(err, cause) {
		t.Errorf("Flush() = %v, want %v", err, cause)
	}
	close(release)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A store of a format to come is refused, not misread.
func TestStoreRefusesOtherVersion(t *testing.T) {
	fs := vfs.NewMem()
	s := openTestStore(t, fs, StoreOptions{})
	if err := s.db.Set(appliedKey, []byte("\x02\x00\x00\x00\x00\x00\x00\x00\x00"), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(fs, "data/store", StoreOptions{}); err == nil {
		t.Error("OpenStore of version 2 succeeded, want an error")
	}
}

// A power cut while the store is made, or opened again, leaves one that opens.
func TestStoreCrashWhileOpening(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		mem := vfs.NewCrashableMem()
		var crashes []*vfs.MemFS
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			switch op.Kind {
			case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpRename:
				crashes = append(crashes, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: random}))
			}
			return nil
		}))
		for range 2 {
			s, err := OpenStore(fs, "data/store", StoreOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for i, c := range crashes {
			s, err := OpenStore(c, "data/store", StoreOptions{})
			if err != nil {
				t.Fatalf("seed %d, crash %d: %v", seed, i, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
