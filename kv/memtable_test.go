package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"github.com/longship-db/longship/wal"
)

// Whatever is written to a memtable: what is read as of any LSN, by key and in order, is what was written
// last up to there. Scans in between, which put keys in order, change nothing.
func TestMemtableAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringOfN(rapid.SampledFrom([]rune("abc")), 1, 4, -1)
		m := newMemtable(rapid.IntRange(0, 300).Draw(t, "room"))
		var written []memRow
		at := func(lsn wal.LSN) map[string]memVersion {
			rows := make(map[string]memVersion)
			for _, r := range written {
				if r.lsn <= lsn {
					rows[r.key] = r.memVersion
				}
			}
			return rows
		}
		show := func(key string, v memVersion) string { return fmt.Sprintf("%s %s %q@%s", key, v.kind, v.value, v.lsn) }
		end := wal.LSN(0)
		lsns := func() wal.LSN { return wal.LSN(rapid.Uint64Range(0, uint64(end)).Draw(t, "as of")) }
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				rows := make([]memRow, rapid.IntRange(1, 3*insertChunk/2).Draw(t, "n"))
				for i := range rows {
					end += wal.LSN(rapid.IntRange(0, 1).Draw(t, "another record"))
					rows[i] = memRow{key: key.Draw(t, "key"), memVersion: memVersion{lsn: end, kind: Put, value: fmt.Append(nil, len(written)+i)}}
					if rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
						rows[i].kind, rows[i].value = Delete, nil
					}
				}
				m.insert(rows)
				written = append(written, rows...)
			},
			"get": func(t *rapid.T) {
				k, lsn := key.Draw(t, "key"), lsns()
				want, wantOK := at(lsn)[k]
				got, ok := m.get(k, lsn)
				if ok != wantOK || show(k, got) != show(k, want) {
					t.Errorf("get(%s, %s) = %s, %v, want %s, %v", k, lsn, show(k, got), ok, show(k, want), wantOK)
				}
			},
			"scan": func(t *rapid.T) {
				r := Range{Lo: key.Draw(t, "lo"), Hi: key.Draw(t, "hi"), Unbounded: rapid.Bool().Draw(t, "unbounded")}
				lsn := lsns()
				var got, want []string
				for s := m.scan(r, lsn); s.peek() != nil; s.skip() {
					got = append(got, show(s.peek().key, s.peek().memVersion))
				}
				rows := at(lsn)
				for _, k := range slices.Sorted(maps.Keys(rows)) {
					if k >= r.Lo && r.below(k) {
						want = append(want, show(k, rows[k]))
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("scan(%+v, %s) = %q, want %q", r, lsn, got, want)
				}
			},
			"": func(t *rapid.T) {
				runs, _ := m.sorted()
				if !slices.IsSortedFunc(runs, func(a, b []uint32) int { return cmp.Compare(len(b), len(a)) }) {
					t.Errorf("%d runs, not the longest first", len(runs))
				}
				ids, keys := m.whole(func() {})
				if !slices.IsSortedFunc(ids, func(a, b uint32) int { return strings.Compare(keys[a], keys[b]) }) || len(ids) != len(at(end)) {
					t.Errorf("the whole has %d keys, in order or not, want %d in order", len(ids), len(at(end)))
				}
			},
		})
	})
}

// A memtable that is written out while a batch is applied holds all of the batch or nothing of it: what Pebble has
// is the table as of the LSN that it says.
func TestStoreWritesWholeBatches(t *testing.T) {
	const rows, batches = 2000, 200
	s := newTestStore(t)
	done := make(chan error, 1)
	go func() {
		b := s.NewBatch()
		for i := range batches {
			ops := make([]Op, rows)
			for j := range ops {
				ops[j] = Op{Kind: Put, Key: fmt.Sprint(j), Value: fmt.Append(nil, i)}
			}
			if err := errors.Join(b.Add(wal.LSN(i+1), ops), s.Apply(t.Context(), b)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkWhole(t, s, rows)
	}
}

// checkWhole looks at what Pebble holds, past the memtables.
func checkWhole(t *testing.T, s *Store, rows int) {
	t.Helper()
	base := s.read().base
	defer base.release()
	applied, err := readApplied(base.snapshot, &pebble.IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	it, err := base.snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{rowPrefix}})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	n := 0
	for it.First(); it.Valid(); it.Next() {
		row, err := parseRow(string(it.Key()[1:]), it.Value())
		if err != nil || row.LSN != applied {
			t.Fatalf("row %q of a batch is as of %s, %v; Pebble's applied LSN is %s", row.Key, row.LSN, err, applied)
		}
		n++
	}
	if applied > 0 && n != rows {
		t.Fatalf("Pebble at %s holds %d rows, want %d", applied, n, rows)
	}
}

// What is applied can be read all the time that it takes to be written out.
func TestStoreReadsWhatIsWrittenOut(t *testing.T) {
	release := make(chan struct{})
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			<-release
		}
		return nil
	}))
	stalled := make(stallWatcher, 10)
	s := openTestStore(t, fs, StoreOptions{MemTableSize: 64 << 10, Logger: slog.New(stalled)})
	var stop atomic.Bool
	ended := make(chan error, 1)
	go func() { // one row after the other, each of its own
		b := s.NewBatch()
		var err error
		for end := wal.LSN(1); err == nil && !stop.Load(); end++ {
			err = errors.Join(b.Add(end, []Op{{Kind: Put, Key: fmt.Sprint(end), Value: make([]byte, 1000)}}), s.Apply(t.Context(), b))
		}
		ended <- err
	}()
	<-stalled // Pebble takes no more, and the writer waits for it
	from := int(s.Applied())
	rows := len(contents(t, s))
	if to := int(s.Applied()); rows < from || rows > to {
		t.Errorf("the store shows %d rows, want %d to %d", rows, from, to)
	}
	stop.Store(true)
	close(release)
	if err := errors.Join(<-ended, s.Close()); err != nil {
		t.Error(err)
	}
}

// A stallWatcher is a logger that tells when Pebble takes no more.
type stallWatcher chan struct{}

func (w stallWatcher) Enabled(context.Context, slog.Level) bool { return true }
func (w stallWatcher) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w stallWatcher) WithGroup(string) slog.Handler            { return w }
func (w stallWatcher) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "store writes stall" {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return nil
}

// Who applies to a store that can write nothing out any more waits for room, and learns that there will be none.
func TestStoreApplyEndsWhenBroken(t *testing.T) {
	errDisk := errors.New("input/output error")
	var failing atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			return errDisk
		}
		return nil
	}))
	s := openTestStore(t, fs, StoreOptions{MemTableSize: 64 << 10, Fatal: func(error) {}})
	failing.Store(true)
	defer failing.Store(false) // let the background work of this test end
	b := s.NewBatch()
	var err error
	for end := wal.LSN(1); err == nil; end++ {
		err = errors.Join(b.Add(end, []Op{{Kind: Put, Key: fmt.Sprint(end), Value: make([]byte, 1000)}}), s.Apply(t.Context(), b))
	}
	if !errors.Is(err, errDisk) {
		t.Errorf("Apply() = %v, want %v", err, errDisk)
	}
}

// Who applies while the disk is full waits for room, and can be called off: the batch is whole, and is applied later.
func TestStoreApplyEndsWithContext(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			return syscall.ENOSPC
		}
		return nil
	}))
	s := openTestStore(t, fs, StoreOptions{MemTableSize: 64 << 10})
	full.Store(true)
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	var end wal.LSN
	b := s.NewBatch()
	fill := func() error {
		end++
		return errors.Join(b.Add(end, []Op{{Kind: Put, Key: fmt.Sprint(end), Value: make([]byte, 1000)}}), s.Apply(ctx, b))
	}
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			err = fill()
		}
		ended <- err
	}()
	for !s.isStuck() { // until Pebble takes no more, and there is no room in memory
		runtime.Gosched()
	}
	cancel(cause)
	if err := <-ended; !errors.Is(err, cause) {
		t.Fatalf("Apply() = %v, want %v", err, cause)
	}
	if s.Applied() != end-1 || b.End() != end {
		t.Errorf("applied up to %s, the batch ends at %s, want %s and %s", s.Applied(), b.End(), end-1, end)
	}
	full.Store(false)
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if n := len(contents(t, s)); n != int(end) {
		t.Errorf("%d rows, want %d", n, end)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// isStuck reports whether Apply would wait for room.
func (s *Store) isStuck() bool { return s.newestMemory().size() >= 2*s.limit }

// What a transaction of very many rows has taken in memory is not kept for the next ones.
func TestLargeTransactionLeavesNoRoom(t *testing.T) {
	const limit = 64 << 10
	s := openTestStore(t, vfs.NewMem(), StoreOptions{MemTableSize: limit})
	b := s.NewBatch()
	ops := make([]Op, maxKeptRows+1)
	for i := range ops {
		ops[i] = Op{Kind: Put, Key: fmt.Sprint(i)}
	}
	if err := errors.Join(b.Add(1, ops), s.Apply(t.Context(), b), s.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	if n := cap(b.rows); n > maxKeptRows {
		t.Errorf("the batch keeps room for %d rows, want %d at the most", n, maxKeptRows)
	}
	if n := cap(s.newestMemory().versions); n*memRowOverhead > limit {
		t.Errorf("the next memtable has room for %d rows of %d bytes, and is retired with %d", n, memRowOverhead, limit)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
