package startup

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// A writtenLog is a log made record by record, without a store.
type writtenLog struct {
	t *testing.T
	d DataDir
	w *wal.Writer
	k *task
}

// newLog begins a log on timeline 1, all of it this node's own.
func newLog(t *testing.T) *writtenLog {
	t.Helper()
	d := newCluster(t, vfs.NewCrashableMem())
	r := recoverDir(t, d)
	l := &writtenLog{t: t, d: d, w: wal.NewWriter(r.Dir, r.End, wal.WriterConfig{})}
	l.k = start(l.w.Run)
	return l
}

// commit inserts a commit with a value of the given size, and flushes it.
func (l *writtenLog) commit(size int) (start, end wal.LSN) {
	l.t.Helper()
	c := kv.Commit{Time: 1, Flushed: l.w.Flushed().Load(), Ops: []kv.Op{{Kind: kv.Put, Key: "k", Value: make([]byte, size)}}}
	return l.insert(wal.Prepare(wal.RmgrLongship, kv.InfoCommit, kv.AppendCommit(nil, &c)))
}

func (l *writtenLog) insert(p *wal.Prepared) (start, end wal.LSN) {
	l.t.Helper()
	start, end, err := l.w.Insert(p, 3)
	must(l.t, err)
	must(l.t, l.w.Flush(l.t.Context(), end))
	return start, end
}

// crash ends the log and writes b over what is at at.
func (l *writtenLog) crash(at wal.LSN, b []byte) {
	l.t.Helper()
	l.k.stop(l.t)
	f, err := l.d.FS.OpenReadWrite(l.d.FS.PathJoin(l.d.WAL(), segment.FileName(1, segment.Segno(at))), vfs.WriteCategoryUnspecified)
	must(l.t, err)
	_, err = f.WriteAt(b, segment.Offset(at))
	must(l.t, err)
	must(l.t, f.Close())
}

// A record that knew of a later flush proves that what is unreadable before it is no torn tail. On
// another node's log it proves nothing: that knew of its own flushes.
func TestWitness(t *testing.T) {
	for _, own := range []bool{true, false} {
		l := newLog(t)
		bad, _ := l.commit(100)
		l.commit(100)
		l.crash(bad+30, []byte{0xff, 0xff})
		if !own {
			c, err := ReadControl(l.d.FS, l.d.Global())
			must(t, err)
			c.ReignStart = 0
			must(t, c.Write(l.d.FS, l.d.Global()))
		}
		_, err := Recover(l.d, testIdentity, quiet)
		corrupt, ok := errors.AsType[*wal.CorruptError](err)
		if ok != own || own && corrupt.At != bad || !own && err != nil {
			t.Errorf("own log %v: %v", own, err)
		}
	}
}

// Nor do records from before this node's reign prove anything here.
func TestWitnessOfAnotherReign(t *testing.T) {
	l := newLog(t)
	bad, _ := l.commit(100)
	_, end := l.commit(100)
	l.crash(bad+30, []byte{0xff, 0xff})
	c, err := ReadControl(l.d.FS, l.d.Global())
	must(t, err)
	c.ReignStart = end
	must(t, c.Write(l.d.FS, l.d.Global()))
	if r := recoverDir(t, l.d); r.End.LSN != segment.Start(1) {
		t.Errorf("the log ends at %s", r.End.LSN)
	}
}

// A checkpoint whose redo position is the end of a page names the first record of the next page, which
// was not flushed for all that: that record may be torn.
func TestCheckpointAtPageBoundaryIsNoWitness(t *testing.T) {
	l := newLog(t)
	_, end := l.commit(100)
	const overhead = 24 + 5 + 32 + 3 + 1 + 4 // headers of record, fragment, commit, operation, and the key
	_, end = l.commit(int(wal.PageSize-end%wal.PageSize) - overhead)
	if end%wal.PageSize != 0 {
		t.Fatalf("the record ends at %s", end)
	}
	redo := end
	c := kv.Commit{Ops: []kv.Op{{Kind: kv.Put, Key: "k", Value: make([]byte, 2*wal.PageSize)}}}
	torn, _ := l.insert(wal.Prepare(wal.RmgrLongship, kv.InfoCommit, kv.AppendCommit(nil, &c)))
	cp := wal.Checkpoint{Redo: testIdentity.Format().RecordStart(redo), Timeline: 1, PrevTimeline: 1}
	if cp.Redo == redo {
		t.Fatal("nothing to test")
	}
	l.insert(cp.Prepare(wal.XLOGCheckpointOnline))
	l.crash(torn-24, make([]byte, 24+100))
	if r := recoverDir(t, l.d); r.End.LSN != redo {
		t.Errorf("the log ends at %s, want %s", r.End.LSN, redo)
	}
}

// What the control file says was flushed is not cut, whatever became of it.
func TestDurableIsNotCut(t *testing.T) {
	l := newLog(t)
	bad, end := l.commit(100)
	l.crash(bad, make([]byte, 200))
	c, err := ReadControl(l.d.FS, l.d.Global())
	must(t, err)
	c.Durable = end
	must(t, c.Write(l.d.FS, l.d.Global()))
	for range 2 {
		_, err := Recover(l.d, testIdentity, quiet)
		if _, ok := errors.AsType[*wal.CorruptError](err); !ok {
			t.Errorf("%v, want a CorruptError", err)
		}
	}
	must(t, l.d.FS.Remove(l.d.FS.PathJoin(l.d.WAL(), segment.FileName(1, 1))))
	if _, err := Recover(l.d, testIdentity, quiet); err == nil {
		t.Error("without the segment: no error")
	}
}

// A clean stop is believed only of a log that ends where it ended then.
func TestCleanIsVerified(t *testing.T) {
	d := newCluster(t, vfs.NewCrashableMem())
	p := startPrimary(t, d)
	p.commitFlushed(0, 5)
	p.shutdown()
	r := recoverDir(t, d)
	if !r.Clean || r.Control.Clean {
		t.Errorf("clean %v, then %v", r.Clean, r.Control.Clean)
	}
	if r = recoverDir(t, d); r.Clean {
		t.Error("running is not clean")
	}
	// Something is written, but not synced, behind the end of a clean stop.
	c := r.Control
	c.Clean = true
	must(t, c.Write(d.FS, d.Global()))
	w := wal.NewWriter(r.Dir, r.End, wal.WriterConfig{})
	_, end, err := w.Insert(wal.Prepare(wal.RmgrXLOG, wal.XLOGNoop), 0)
	must(t, err)
	b := make([]byte, end-r.End.LSN)
	for n := 0; n < len(b); {
		m, _ := w.ReadBuffered(b[n:], r.End.LSN+wal.LSN(n))
		n += m
	}
	raw := wal.NewRawWriter(r.Dir, r.History, r.End.LSN, wal.SyncFdatasync)
	_, err = raw.Write(b)
	must(t, err)
	must(t, raw.Close())
	if r = recoverDir(t, d); r.Clean {
		t.Error("a log that goes on behind a clean stop counts as stopped cleanly")
	}
	d.FS = after(d.FS)
	if r = recoverDir(t, d); r.End.LSN != end {
		t.Errorf("the log ends at %s, want %s", r.End.LSN, end)
	}
}

// The horizon is the highest that a record or the control file tells of, and outlives the next start.
func TestHorizonIsFound(t *testing.T) {
	l := newLog(t)
	_, known := l.commit(10)
	for _, horizon := range []wal.LSN{known, segment.Start(1)} {
		c := kv.Commit{Horizon: horizon}
		l.insert(wal.Prepare(wal.RmgrLongship, kv.InfoCommit, kv.AppendCommit(nil, &c)))
	}
	l.k.stop(t)
	r := recoverDir(t, l.d)
	onDisk, err := ReadControl(l.d.FS, l.d.Global())
	if err != nil || r.Horizon != known || onDisk.Horizon != known {
		t.Errorf("horizon %s, on disk %s, %v, want %s", r.Horizon, onDisk.Horizon, err, known)
	}
}

// Nor is a transaction id used twice that the log has, and the control file has not.
func TestTransactionIDsAreFound(t *testing.T) {
	l := newLog(t)
	l.commit(10)
	l.k.stop(t)
	r := recoverDir(t, l.d)
	onDisk, err := ReadControl(l.d.FS, l.d.Global())
	if err != nil || r.Control.NextXID != 4 || onDisk.NextXID != 4 {
		t.Errorf("the next transaction is %d, on disk %d, %v; want 4", r.Control.NextXID, onDisk.NextXID, err)
	}
}

// A record of ours of a type that this version does not know is not passed over, by anybody.
func TestUnknownRecord(t *testing.T) {
	l := newLog(t)
	from, end := l.insert(wal.Prepare(wal.RmgrLongship, 0x70, []byte("from the future")))
	l.k.stop(t)
	if _, err := Recover(l.d, testIdentity, quiet); err == nil || !strings.Contains(err.Error(), "unknown record type 0x70") {
		t.Error(err)
	}
	store, err := openStore(l.d)
	must(t, err)
	dir, h := wal.NewDir(l.d.FS, l.d.WAL(), testIdentity.Format()), wal.History{Timeline: 1}
	_, err = LoadPending(dir, h, from, end, 3, func(wal.LSN, []kv.Op) error { t.Error("loaded"); return nil })
	if err == nil {
		t.Error("LoadPending passed it over")
	}
	var limit, applied wal.Position
	limit.Advance(end)
	redo := &Redo{Reader: wal.NewReader(wal.NewRawReader(dir, h, nil), from, 0), Limits: []*wal.Position{&limit}, Batch: store.NewBatch(), Apply: store.Apply, Applied: &applied}
	if err := redo.CatchUp(t.Context()); err == nil || applied.Load() != 0 {
		t.Errorf("redo passed it over: %v", err)
	}
}

func TestXIDAfter(t *testing.T) {
	tests := []struct{ next, used, want uint32 }{
		{3, 0, 3},
		{0, 0, 3},
		{3, 3, 4},
		{10, 5, 10},
		{10, 10, 11},
		{10, 4_000_000_000, 10},     // before the wrap
		{4_000_000_000, 5, 6},       // behind it
		{4294967295, 4294967295, 3}, // at it
		{4294967290, 4294967294, 1<<32 - 1},
	}
	for _, tt := range tests {
		if got := xidAfter(tt.next, tt.used); got != tt.want {
			t.Errorf("xidAfter(%d, %d) = %d, want %d", tt.next, tt.used, got, tt.want)
		}
	}
}
