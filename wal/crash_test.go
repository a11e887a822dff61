package wal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/slow"
)

// A power cut is the disk as it was found after one, and what had been promised before it.
type powerCut struct {
	disk    *vfs.MemFS
	flushed LSN
	what    string
}

// A cutter takes copies of a crashable file system just before syncs, with 0 to 100 % of what was
// not synced.
type cutter struct {
	disk    *vfs.MemFS
	flushed func() LSN

	mu   sync.Mutex
	rng  *rand.Rand
	cuts []powerCut
	wait int
}

func (c *cutter) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileWriteAt, errorfs.OpRename:
	default:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wait--; c.wait > 0 || c.flushed == nil {
		return nil
	}
	c.wait = 1 + c.rng.IntN(12)
	percent := []int{0, 10, 50, 90, 100}[c.rng.IntN(5)]
	flushed := c.flushed() // before the copy: what is promised now must be in it
	disk := c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.rng})
	c.cuts = append(c.cuts, powerCut{disk, flushed, fmt.Sprintf("cut %d before %v, %d %% kept, flushed %s", len(c.cuts), op.Kind, percent, flushed)})
	return nil
}

func (c *cutter) String() string { return "cutter" }

func newCutter(seed uint64) *cutter {
	return &cutter{disk: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed, 1))}
}

// recoverFrom does what a start after a crash does: it finds the end of the log, checks it against
// what was inserted and promised, and proves it. A second power cut, which keeps nothing that was
// not synced, finds the same log.
func (p powerCut) recoverFrom(t *testing.T, log []entry, s Scan) (*Dir, []entry, End) {
	t.Helper()
	d := NewDir(p.disk, "/pg_wal", testFormat)
	must(t, d.RemoveTemporary())
	got, end, err := find(d, s)
	if err != nil {
		t.Fatalf("%s: %v", p.what, err)
	}
	if end.LSN < p.flushed {
		t.Fatalf("%s: the log ends at %s (%s)", p.what, end.LSN, end.Reason)
	}
	if len(got) > len(log) || !slices.Equal(got, log[:len(got)]) {
		t.Fatalf("%s: read records that nobody wrote", p.what)
	}
	must(t, ProveTail(d, first, emptyLog.LSN, end.LSN))
	d = NewDir(p.disk.CrashClone(vfs.CrashCloneCfg{}), "/pg_wal", testFormat)
	again, end2, err := find(d, s)
	if err != nil || !slices.Equal(again, got) || end2.End != end.End {
		t.Fatalf("%s: proved up to %s, but a second cut left %s, %v", p.what, end.LSN, end2.LSN, err)
	}
	return d, got, end.End
}

// Whenever the power fails, everything that was reported flushed is there, what follows is cut and
// never called corruption, and the log goes on from there. Records are small, large, and larger than
// segments; some are flushed, some not; segments are allocated and recycled meanwhile.
func TestWriterPowerCuts(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(3) {
		c := newCutter(seed)
		d := newDir(t, errorfs.Wrap(c.disk, c))
		w := start(t, d, emptyLog, WriterConfig{Buffers: 16 * blockSize})
		c.mu.Lock()
		c.flushed = w.Flushed().Load
		c.mu.Unlock()
		rng := rand.New(rand.NewPCG(seed, 2))
		var log []entry
		for range 80 {
			data := randomData(rng)
			if rng.IntN(12) == 0 {
				data = pattern(rng.IntN(5 << 19))
			}
			log = append(log, w.insert(t, withWitness(w.Flushed().Load(), data), rng.IntN(4) == 0))
		}
		must(t, w.stop())
		for _, cut := range c.cuts {
			d, got, end := cut.recoverFrom(t, log, Scan{Witness: witness, Durable: lastEndAt(log, cut.flushed)})
			more := buildLog(t, d, end, true, pattern(100), pattern(3*PageSize), pattern(1<<20))
			wantLog(t, d, append(got, more...))
		}
		if len(c.cuts) < 10 {
			t.Errorf("only %d power cuts", len(c.cuts))
		}
	}
}

// lastEndAt is the end of the last record that ends at or before l.
func lastEndAt(log []entry, l LSN) (end LSN) {
	for _, e := range log {
		if e.End <= l {
			end = e.End
		}
	}
	return end
}

// The same on a standby, where bytes arrive in any portions and one goroutine writes while another
// syncs.
func TestRawWriterPowerCuts(t *testing.T) {
	slow.Test(t)
	source := newDir(t, vfs.NewMem())
	rng := rand.New(rand.NewPCG(7, 7))
	var payloads [][]byte
	for range 400 {
		payloads = append(payloads, randomData(rng))
	}
	payloads = append(payloads, pattern(3<<20), pattern(10))
	log := buildLog(t, source, emptyLog, false, payloads...)
	content := peek(t, source, emptyLog.LSN, log[len(log)-1].End)
	for seed := range uint64(5) {
		c := newCutter(seed)
		d := newDir(t, errorfs.Wrap(c.disk, c))
		w := NewRawWriter(d, History{Timeline: 1}, emptyLog.LSN, SyncFdatasync)
		c.mu.Lock()
		c.flushed = w.Flushed().Load
		c.mu.Unlock()
		stop, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- flushUntil(w, stop) }()
		rng := rand.New(rand.NewPCG(seed, 3))
		for rest := content; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(128<<10))
			if rng.IntN(2) == 0 {
				w.Expect(w.Written().Load() + LSN(rng.IntN(len(rest))))
			}
			_, err := w.Write(rest[:n])
			must(t, err)
			rest = rest[n:]
		}
		close(stop)
		must(t, <-done)
		must(t, w.Close())
		wantLog(t, d, log)
		for _, cut := range c.cuts {
			cut.flushed = lastEndAt(log, cut.flushed) // bytes of a record that is not whole are cut
			cut.recoverFrom(t, log, Scan{Durable: cut.flushed})
		}
	}
}

func flushUntil(w *RawWriter, stop chan struct{}) error {
	for {
		select {
		case <-stop:
			_, err := w.Flush()
			return err
		case <-w.Written().Changed(w.Flushed().Load()):
			if _, err := w.Flush(); err != nil {
				return err
			}
		}
	}
}

// A new timeline's first segment survives a cut whole or not at all, and an attempt repeated after a
// cut leaves nothing of the one before.
func TestCopyHeadPowerCuts(t *testing.T) {
	t.Run("unprepared", func(t *testing.T) { testCopyHeadPowerCuts(t, false) })
	t.Run("prepared", func(t *testing.T) { testCopyHeadPowerCuts(t, true) })
}

func testCopyHeadPowerCuts(t *testing.T, prepared bool) {
	c := newCutter(1)
	d := newDir(t, errorfs.Wrap(c.disk, c))
	log := buildLog(t, d, emptyLog, true, pattern(30_000), pattern(600), pattern(40_000))
	fork := log[1].End
	c.mu.Lock()
	c.flushed = func() LSN { return 0 }
	c.mu.Unlock()
	history := first.Child(2, fork, "no recovery target specified")
	if prepared {
		must(t, d.Prepare())
		must(t, d.Prepare()) // there is one already
	}
	must(t, d.CopyHead(1, 2, fork))
	must(t, d.WriteHistory(history))
	names, err := c.disk.List("/pg_wal")
	must(t, err)
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix) {
			t.Errorf("%s is left over", name)
		}
	}
	c.mu.Lock()
	c.flushed = nil
	c.mu.Unlock()

	cuts := append(c.cuts, powerCut{disk: c.disk.CrashClone(vfs.CrashCloneCfg{}), what: "when all was done"})
	for i, cut := range cuts {
		d := NewDir(cut.disk, "/pg_wal", testFormat)
		must(t, d.RemoveTemporary())
		h, err := d.ReadHistory(2)
		if done := i == len(cuts)-1; done && err != nil {
			t.Fatalf("%s: %v", cut.what, err)
		}
		if err == nil { // the history promises the segment
			got, end, err := find(d, Scan{History: h})
			if err != nil || !slices.Equal(got, log[:2]) || end.Timeline != 2 {
				t.Fatalf("%s: %v, %v", cut.what, got, err)
			}
		}
		spoilt, err := d.FS.Create(d.file(MinSegmentSize.FileName(2, 1)), diskCategory)
		must(t, err)
		_, err = spoilt.Write(pattern(1 << 20))
		must(t, err)
		must(t, spoilt.Close())
		must(t, d.CopyHead(1, 2, fork))
		must(t, d.WriteHistory(history))
		w := start(t, d, End{LSN: fork, Prev: log[1].LSN, Timeline: 2}, WriterConfig{})
		eor := EndOfRecovery{Timeline: 2, PrevTimeline: 1}
		_, e, err := w.InsertSystem(eor.Prepare())
		must(t, err)
		must(t, w.Flush(t.Context(), e))
		must(t, w.stop())
		got, end, err := find(d, Scan{History: history})
		if err != nil || len(got) != 3 || end.LSN != e {
			t.Fatalf("%s: on the new timeline: %v, %v, %v", cut.what, got, end, err)
		}
	}
}

// A file recycled into the log's way and used at once is as durable as a new one.
func TestRecycledSegmentIsDurable(t *testing.T) {
	disk := vfs.NewCrashableMem()
	d := newDir(t, disk)
	log := buildLog(t, d, emptyLog, true, pattern(900_000), pattern(900_000), pattern(900_000))
	// What RemoveBefore does, up to the moment before it syncs the directory.
	next := uint64(4)
	if ok, err := d.recycle(MinSegmentSize.FileName(1, 1), 1, &next, 4); !ok || err != nil {
		t.Fatal(ok, err)
	}
	last := log[2]
	more := buildLog(t, d, End{last.End, last.LSN, 1}, true, pattern(900_000))
	d = NewDir(disk.CrashClone(vfs.CrashCloneCfg{}), "/pg_wal", testFormat)
	got, end, err := find(d, Scan{Start: last.LSN, Prev: log[1].LSN})
	if err != nil || len(got) != 2 || got[1] != more[0] {
		t.Errorf("after the cut: %v, %v (%s)", got, err, end.Reason)
	}
}
