package startup

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/wal"
)

// stoppedPrimary makes a cluster with n transactions, all flushed, and crashes it.
func stoppedPrimary(t *testing.T, fsys vfs.FS, n int) DataDir {
	t.Helper()
	d := newCluster(t, fsys)
	p := startPrimary(t, d)
	p.commitFlushed(0, n)
	p.stop()
	return d
}

func TestBeginTimeline(t *testing.T) {
	d := stoppedPrimary(t, vfs.NewCrashableMem(), 20)
	r := recoverDir(t, d)
	end, old := r.End, r.History
	must(t, BeginTimeline(d, r, 3, "because"))
	want := old.Child(3, end.LSN, "because")
	if !bytes.Equal(r.History.Format(), want.Format()) || r.End != (wal.End{LSN: end.LSN, Prev: end.Prev, Timeline: 3}) {
		t.Errorf("history %s, end %+v", r.History.Format(), r.End)
	}
	c, err := ReadControl(d.FS, d.Global())
	if err != nil || c != r.Control || c.Epoch != 3 || c.Timeline != 3 || c.PromisedEpoch != 3 || c.ReignStart != end.LSN {
		t.Errorf("control %+v, %v", c, err)
	}
}

// A node opens the epoch that it is given, which may be any later one, unless that epoch or a later
// one has left a trace here, or a later one has been promised: to the disk, whatever r says.
func TestBeginTimelineEpoch(t *testing.T) {
	nothing := func(DataDir, *Recovered) error { return nil }
	promise := func(epoch uint64) func(DataDir, *Recovered) error {
		return func(d DataDir, _ *Recovered) error { return promise(d, epoch) }
	}
	used := func(err error) bool { return errors.Is(err, ErrEpochUsed) }
	over := func(err error) bool { _, ok := errors.AsType[*EpochError](err); return ok }
	tests := []struct {
		name  string
		leave func(d DataDir, r *Recovered) error
		epoch uint64
		want  func(error) bool // nil: the epoch is opened
	}{
		{"the next", nothing, 2, nil},
		{"a later one", nothing, 77, nil},
		{"the last", nothing, math.MaxUint32, nil},
		{"none", nothing, 0, over},
		{"its own", nothing, 1, used},
		{"past the last", nothing, 1 << 32, func(err error) bool { return err != nil }},
		{"a history", func(_ DataDir, r *Recovered) error {
			return r.Dir.WriteHistory(r.History.Child(4, segment.Start(1), ""))
		}, 4, used},
		{"a later history", func(_ DataDir, r *Recovered) error {
			return r.Dir.WriteHistory(r.History.Child(5, segment.Start(1), ""))
		}, 4, used},
		{"an earlier history", func(_ DataDir, r *Recovered) error {
			return r.Dir.WriteHistory(r.History.Child(3, segment.Start(1), ""))
		}, 4, nil},
		{"a segment", func(_ DataDir, r *Recovered) error { return r.Dir.Allocate(6, 9) }, 6, used},
		{"a later segment", func(_ DataDir, r *Recovered) error { return r.Dir.Allocate(7, 9) }, 6, used},
		{"promised", promise(8), 8, nil},
		{"a later one promised", promise(9), 8, over},
	}
	for _, tt := range tests {
		d := newCluster(t, vfs.NewCrashableMem())
		r := recoverDir(t, d)
		must(t, tt.leave(d, r))
		before, err := ReadControl(d.FS, d.Global())
		must(t, err)
		err = BeginTimeline(d, r, tt.epoch, "")
		c, readErr := ReadControl(d.FS, d.Global())
		must(t, readErr)
		switch {
		case tt.want == nil && (err != nil || uint64(r.End.Timeline) != tt.epoch || c.Epoch != tt.epoch || c.PromisedEpoch != tt.epoch):
			t.Errorf("%s: %v, control %+v", tt.name, err, c)
		case tt.want != nil && (!tt.want(err) || c != before || r.End.Timeline != 1):
			t.Errorf("%s: %v, control %+v, before %+v", tt.name, err, c, before)
		}
	}
}

// A promise that is given while a node takes office ends the office: the check comes with the commit.
func TestPromiseWhileTakingOffice(t *testing.T) {
	disk := vfs.NewCrashableMem()
	d := stoppedPrimary(t, disk, 3)
	r := recoverDir(t, d)
	promised := false
	d.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRename && strings.Contains(op.Path, "history") && !promised {
			promised = true
			return promise(DataDir{FS: disk, Path: d.Path}, 4)
		}
		return nil
	}))
	r.Dir = wal.NewDir(d.FS, d.WAL(), testIdentity.Format())
	err := BeginTimeline(d, r, 3, "")
	if _, over := errors.AsType[*EpochError](err); !over || !promised || r.End.Timeline != 2 {
		t.Errorf("promised %v, %v, timeline %d", promised, err, r.End.Timeline)
	}
	if r := recoverDir(t, d); r.Control.PromisedEpoch != 4 || r.Control.Epoch != 2 {
		t.Errorf("%+v", r.Control)
	}
}

// Whenever the power fails while a node takes office, it has lost nothing, and takes office with a
// timeline that nobody can have seen.
func TestBeginTimelinePowerCuts(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(2) {
		c := newCutter(t, seed, 1)
		d := stoppedPrimary(t, c.fs(), 25)
		r := recoverDir(t, d)
		c.on(func(cut func() *vfs.MemFS) error { return takesOffice(t, DataDir{FS: cut(), Path: d.Path}, 25) })
		must(t, BeginTimeline(d, r, 3, ""))
		c.off()
		must(t, takesOffice(t, DataDir{FS: after(c.disk), Path: d.Path}, 25))
	}
}

func takesOffice(t *testing.T, d DataDir, n int) error {
	l, err := load(d)
	if err != nil || l.n != n {
		return fmt.Errorf("%d transactions: %w", l.n, err)
	}
	dir := wal.NewDir(d.FS, d.WAL(), testIdentity.Format())
	seen, err := dir.Histories()
	if err != nil {
		return err
	}
	p := startPrimary(t, d)
	if tli := p.log.End.Timeline; slices.Contains(seen, tli) || p.log.Control.Epoch != uint64(tli) {
		return fmt.Errorf("took timeline %d, epoch %d; histories %v", tli, p.log.Control.Epoch, seen)
	}
	p.commitFlushed(n, n+3)
	p.stop()
	if l, err = load(d); l.n != n+3 {
		err = fmt.Errorf("%d transactions in the new epoch: %w", l.n, err)
	}
	return err
}

// A node that lacks what is known to be committed does not lead.
func TestLogBehind(t *testing.T) {
	d := stoppedPrimary(t, vfs.NewCrashableMem(), 5)
	r := recoverDir(t, d)
	r.Horizon = r.End.LSN + 8
	if err := BeginTimeline(d, r, 3, ""); !errors.Is(err, ErrLogBehind) {
		t.Errorf("horizon past the end: %v", err)
	}
	r = recoverDir(t, d)
	r.End.Prev = 0
	if err := BeginTimeline(d, r, 3, ""); !errors.Is(err, ErrLogBehind) {
		t.Errorf("last record unknown: %v", err)
	}
}

// A fork is a log with a tail over several segments, of which only what lies before the point at was
// ever within the horizon.
type fork struct {
	d   DataDir
	at  wal.LSN
	end wal.LSN
	n   int // transactions before at
	log []byte
}

// newFork makes one. If even is set, at is the start of a segment.
func newFork(t *testing.T, fsys vfs.FS, even bool) fork {
	t.Helper()
	d := newCluster(t, fsys)
	p := newPrimary(t, d, recoverDir(t, d))
	p.run()
	f := fork{d: d, n: 30}
	f.at = p.commitFlushed(0, 30)
	for even && segment.Offset(f.at) != 0 {
		_, err := p.writer.Switch()
		must(t, err)
		must(t, p.writer.Flush(t.Context(), p.writer.Inserted().Load()))
		// The completed segment may be followed by a checkpoint's record at once: then try another.
		p.held.Store(true)
		if f.at = p.horizon.Load(); segment.Offset(f.at) != 0 {
			p.held.Store(false)
		}
	}
	must(t, p.applied.Wait(t.Context(), f.at))
	p.held.Store(true)
	f.end = p.commitFlushed(30, 150)
	if segment.Segno(f.end) < segment.Segno(f.at)+2 {
		t.Fatalf("a tail from %s to %s is too short for the test", f.at, f.end)
	}
	must(t, p.checkpointer.Request(t.Context()))
	f.end = p.writer.Flushed().Load()
	p.stop()
	f.log = f.read(t, d, d.WAL(), p.log.History)
	return f
}

// read returns the tail's bytes as found in a folder, nil if not all of it is there.
func (f fork) read(t *testing.T, d DataDir, folder string, h wal.History) []byte {
	t.Helper()
	r := wal.NewRawReader(wal.NewDir(d.FS, folder, testIdentity.Format()), h, nil)
	defer r.Close()
	b := make([]byte, f.end-f.at)
	for n := 0; n < len(b); {
		m, err := r.ReadAt(b[n:], f.at+wal.LSN(n))
		if err != nil {
			return nil
		}
		n += m
	}
	return b
}

// cutAgain does what a node does after a crash: it finds its log, applies nothing of the tail, and
// cuts. Then nothing of the tail is in the log, all of it is in a folder, and another power cut
// changes none of that.
func (f fork) cutAgain(t *testing.T, d DataDir) error {
	l, err := load(d)
	if err != nil {
		return err
	}
	if l.n < f.n || l.store > f.at || l.end.LSN < f.at {
		return fmt.Errorf("%d transactions, store at %s, log ends at %s", l.n, l.store, l.end.LSN)
	}
	r, err := Recover(d, testIdentity, quiet)
	if err != nil {
		return err
	}
	if err := Cut(d, r, f.at, f.at); err != nil {
		return err
	}
	if err := f.isCut(t, d, r); err != nil {
		return err
	}
	d.FS = after(d.FS)
	if r, err = Recover(d, testIdentity, quiet); err != nil {
		return err
	}
	return f.isCut(t, d, r)
}

func (f fork) isCut(t *testing.T, d DataDir, r *Recovered) error {
	c := r.Control
	if r.End.LSN != f.at || c.Durable > f.at || c.Horizon > f.at || r.Horizon > f.at || c.ReignStart != 0 || c.Checkpoint >= f.at {
		return fmt.Errorf("cut at %s: end %s, horizon %s, control %+v", f.at, r.End.LSN, r.Horizon, c)
	}
	segments, err := r.Dir.Segments()
	if err != nil {
		return err
	}
	for _, s := range segments {
		if s.Segno > segment.Segno(f.at) {
			return fmt.Errorf("segment %s is still there", s.Name)
		}
	}
	orphans, err := d.Orphans()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("2-%X-%X", uint64(f.at)>>32, uint32(f.at))
	i := slices.IndexFunc(orphans, func(o Orphan) bool { return o.Name == name })
	if i < 0 {
		return fmt.Errorf("orphans: %+v, want %s", orphans, name)
	}
	if !bytes.Equal(f.read(t, d, orphans[i].Path, r.History), f.log) {
		return fmt.Errorf("orphan %s does not hold the tail", name)
	}
	if err := f.isSummary(orphans[i]); err != nil {
		return err
	}
	l, err := load(d)
	if l.n != f.n && err == nil {
		err = fmt.Errorf("%d transactions, want %d", l.n, f.n)
	}
	return err
}

// isSummary checks that an orphan is summarised as the transactions that newFork puts behind at.
func (f fork) isSummary(o Orphan) error {
	var want []OrphanOp
	for i := 30; i < 150; i++ {
		for _, op := range transaction(i) {
			want = append(want, OrphanOp{Key: op.Key, Kind: op.Kind.String()})
		}
	}
	if o.Err != nil || o.Epoch != 2 || o.Fork != f.at || o.End != f.end || o.Transactions != 120 || o.Truncated || o.Unreadable != 0 || o.Time.IsZero() {
		return fmt.Errorf("summary %+v, %v", o.Summary, o.Err)
	}
	last := o.Fork
	for i, op := range o.Operations {
		if op.LSN < last || op.LSN > f.end || op.LSN == f.at {
			return fmt.Errorf("operation %d at %s, after %s", i, op.LSN, last)
		}
		last, o.Operations[i].LSN = op.LSN, 0
	}
	if !slices.Equal(o.Operations, want) {
		return fmt.Errorf("%d operations, want %d, or others", len(o.Operations), len(want))
	}
	return nil
}

// Whenever the power fails while a tail is cut off, the log can be cut again, and the tail is kept.
func TestCutPowerCuts(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(4) {
		c := newCutter(t, seed, 3)
		f := newFork(t, c.fs(), seed%2 == 1)
		r := recoverDir(t, f.d)
		c.on(func(cut func() *vfs.MemFS) error { return f.cutAgain(t, DataDir{FS: cut(), Path: f.d.Path}) })
		must(t, Cut(f.d, r, f.at, f.at))
		c.off()
		must(t, f.isCut(t, f.d, r))
		must(t, f.cutAgain(t, DataDir{FS: after(c.disk), Path: f.d.Path}))
		if c.cuts < 3 {
			t.Errorf("%d power cuts", c.cuts)
		}
	}
}

// A node whose disk fills up after the cut tries again, with a log that it believes to be as long as
// before.
func TestCutTwice(t *testing.T) {
	f := newFork(t, vfs.NewCrashableMem(), false)
	r := recoverDir(t, f.d)
	must(t, Cut(f.d, r, f.at, f.at))
	r.End.LSN = f.end
	must(t, Cut(f.d, r, f.at, f.at))
	must(t, f.isCut(t, f.d, r))
	if orphans, err := f.d.Orphans(); err != nil || len(orphans) != 1 {
		t.Errorf("%d orphans, %v: what had been cut was kept as a tail", len(orphans), err)
	}
}

// Another tail that leaves the log at the same place is kept beside the first.
func TestCutAnotherTail(t *testing.T) {
	f := newFork(t, vfs.NewCrashableMem(), false)
	r := recoverDir(t, f.d)
	must(t, f.cutAgain(t, f.d))
	w := wal.NewRawWriter(r.Dir, r.History, f.at, wal.SyncFdatasync)
	n := int(segment.Start(segment.Segno(f.at)+1) - f.at)
	_, err := w.Write(bytes.Repeat([]byte{1}, n))
	must(t, err)
	_, err = w.Flush()
	must(t, err)
	must(t, w.Close())
	r.End.LSN = f.at + wal.LSN(n)
	must(t, Cut(f.d, r, f.at, f.at))
	must(t, f.isCut(t, f.d, r))
	orphans, err := f.d.Orphans()
	must(t, err)
	other := orphans[len(orphans)-1]
	if len(orphans) != 2 || other.Name != orphans[0].Name+"-2" || other.Err != nil || other.Unreadable != f.at || other.Transactions != 0 {
		t.Errorf("%+v", orphans)
	}
}

func TestCutNothing(t *testing.T) {
	d := stoppedPrimary(t, vfs.NewCrashableMem(), 5)
	r := recoverDir(t, d)
	end := r.End
	must(t, Cut(d, r, end.LSN, 0))
	must(t, Cut(d, r, end.LSN+8, 0))
	if ok, err := wal.Exists(d.FS, d.orphans()); r.End != end || ok || err != nil {
		t.Error(r.End, ok, err)
	}
}

// A store that holds what the log is to lose cannot be cut, and nothing is; but the tail is kept, for
// the directory is made anew. A tail that cannot be kept is not given up.
func TestStoreAhead(t *testing.T) {
	disk := vfs.NewCrashableMem()
	f := newFork(t, disk, false)
	full := true
	broken := DataDir{Path: f.d.Path, FS: errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full && op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "orphans") {
			return syscall.ENOSPC
		}
		return nil
	}))}
	r := recoverDir(t, broken)
	if err := Cut(broken, r, f.at, f.at+8); errors.Is(err, ErrStoreAhead) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	full = false
	for range 2 {
		err := Cut(broken, r, f.at, f.at+8)
		if !errors.Is(err, ErrStoreAhead) || !strings.Contains(err.Error(), "never happens in a cluster with a rule") {
			t.Fatal(err)
		}
	}
	f.d.FS = after(disk)
	if r = recoverDir(t, f.d); r.End.LSN != f.end {
		t.Errorf("the log ends at %s, want %s", r.End.LSN, f.end)
	}
	must(t, f.d.Discard())
	_, _, err := f.d.Open()
	must(t, err)
	orphans, err := f.d.Orphans()
	if err != nil || len(orphans) != 1 || !bytes.Equal(f.read(t, f.d, orphans[0].Path, r.History), f.log) {
		t.Fatalf("%+v, %v", orphans, err)
	}
	must(t, f.isSummary(orphans[0]))
}

// The first segments of a tail may be gone, if the store is past the fork: what is there is kept.
func TestStoreFarAhead(t *testing.T) {
	f := newFork(t, vfs.NewCrashableMem(), false)
	r := recoverDir(t, f.d)
	must(t, f.d.FS.Remove(f.d.FS.PathJoin(f.d.WAL(), segment.FileName(2, segment.Segno(f.at)))))
	for range 2 {
		if err := Cut(f.d, r, f.at, f.end); !errors.Is(err, ErrStoreAhead) {
			t.Fatal(err)
		}
	}
	orphans, err := f.d.Orphans()
	if err != nil || len(orphans) != 1 || orphans[0].Unreadable != f.at {
		t.Fatalf("%+v, %v", orphans, err)
	}
	dir := wal.NewDir(f.d.FS, orphans[0].Path, testIdentity.Format())
	if files, err := dir.Segments(); err != nil || len(files) == 0 || files[0].Segno != segment.Segno(f.at)+1 {
		t.Error(files, err)
	}
}

// A node moves to the timeline of the primary that it follows, as walreceiver prepares it. At every
// crash it is on the old one or the new, and never believes what was said of the tail it has cut.
func TestSwitchTimelinePowerCuts(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(4) {
		c := newCutter(t, seed, 1)
		f := newFork(t, c.fs(), false)
		r := recoverDir(t, f.d)
		before := r.Control // what a checkpointer still believes
		before.Horizon = f.end
		must(t, Cut(f.d, r, f.at, f.at))
		child := r.History.Child(5, f.at, "")
		must(t, r.Dir.WriteHistory(child))
		must(t, r.Dir.CopyHead(2, 5, f.at))
		onIt := func(fsys vfs.FS, mustBe wal.TimelineID) error {
			d := DataDir{FS: fsys, Path: f.d.Path}
			r, err := Recover(d, testIdentity, quiet)
			if err != nil {
				return err
			}
			if mustBe != 0 && r.End.Timeline != mustBe || r.End.LSN != f.at || r.Horizon > f.at {
				return fmt.Errorf("on timeline %d, end %s, horizon %s", r.End.Timeline, r.End.LSN, r.Horizon)
			}
			l, err := load(d)
			if err == nil && l.n != f.n {
				err = fmt.Errorf("%d transactions", l.n)
			}
			return err
		}
		r.Control = before
		c.on(func(cut func() *vfs.MemFS) error { return onIt(cut(), 0) })
		must(t, SwitchTimeline(f.d, r, child, wal.End{LSN: f.at, Timeline: 5}))
		c.off()
		if r.Control.PromisedEpoch != 5 || r.Control.Epoch != 5 || r.Control.ReignStart != 0 {
			t.Errorf("%+v", r.Control)
		}
		must(t, onIt(after(c.disk), 5))
	}
}

// Who follows a new timeline from exactly where its own log ends has nothing to cut. What comes is written by
// another node, and proves nothing of this one's disk: so this node's own reign is over in the control file,
// too.
func TestSwitchWithoutCut(t *testing.T) {
	p := startPrimary(t, newCluster(t, vfs.NewCrashableMem()))
	p.commitFlushed(0, 5)
	p.stop()
	r := recoverDir(t, p.d)
	if r.Control.ReignStart == 0 {
		t.Fatal("nothing to test")
	}
	end := wal.End{LSN: r.End.LSN, Prev: r.End.Prev, Timeline: 5}
	child := r.History.Child(5, end.LSN, "")
	must(t, r.Dir.CopyHead(r.End.Timeline, 5, end.LSN))
	must(t, r.Dir.WriteHistory(child))
	must(t, SwitchTimeline(p.d, r, child, end))
	if c, err := ReadControl(p.d.FS, p.d.Global()); err != nil || c.ReignStart != 0 || c.Timeline != 5 || c.Durable != end.LSN {
		t.Errorf("%+v, %v", c, err)
	}
}
