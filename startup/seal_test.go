package startup

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/wal"
)

// stopWriter ends a primary's flusher, after which the log ends where the result says.
func (p *primary) stopWriter() wal.LSN {
	p.t.Helper()
	p.tasks[0].stop(p.t)
	p.tasks = p.tasks[1:]
	return p.writer.Flushed().Load()
}

// A seal is on disk when it is answered, and the next start neither proves what is known nor loses it.
func TestSeal(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	horizon := p.writer.Flushed().Load()
	must(t, p.horizon.Wait(t.Context(), horizon))
	p.held.Store(true)
	p.commitFlushed(0, 100)
	end := p.stopWriter()
	must(t, p.checkpointer.Seal(5, end))
	c := p.checkpointer.Control()
	onDisk, err := ReadControl(p.d.FS, p.d.Global())
	if err != nil || onDisk != c || c.PromisedEpoch != 5 || c.Epoch != 2 || c.Durable != end || c.Horizon != horizon || c.NextXID != p.table.NextXID() || c.Clean {
		t.Errorf("sealed: %+v, on disk %+v, %v", c, onDisk, err)
	}
	must(t, p.checkpointer.Seal(5, end))
	must(t, p.checkpointer.Seal(7, end))
	if _, over := errors.AsType[*EpochError](p.checkpointer.Seal(6, end)); !over {
		t.Error("an older epoch was sealed for")
	}
	p.stop()

	var proved int64
	disk := after(p.d.FS)
	p.d.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt && op.Offset < segment.Offset(end) {
			proved++
		}
		return nil
	}))
	r := recoverDir(t, p.d)
	if r.End.LSN != end || r.LastEpoch() != 2 || r.Control.PromisedEpoch != 7 || r.Horizon != horizon || proved != 0 {
		t.Errorf("end %s, epoch %d, control %+v, %d writes before the end", r.End.LSN, r.LastEpoch(), r.Control, proved)
	}
	if err := BeginTimeline(p.d, r, 6, ""); err == nil {
		t.Error("an epoch was opened that the seal says is over")
	}
	must(t, BeginTimeline(p.d, r, 7, ""))
}

func TestEpochAt(t *testing.T) {
	first := wal.History{Timeline: 1}
	// Epoch 2 wrote nothing, 4 and 5 did; 3 has another parent.
	h := first.Child(2, 0x100, "").Child(4, 0x100, "").Child(5, 0x180, "")
	tests := []struct {
		h    wal.History
		end  wal.LSN
		want uint64
	}{
		{first, 0, 1},
		{first, 0x5000, 1},
		{h, 0x80, 1},
		{h, 0x100, 1}, // it has switched and received nothing: the parent's, and its parent's
		{h, 0x101, 4},
		{h, 0x180, 4},
		{h, 0x188, 5},
		{h, math.MaxUint64, 5},
	}
	for _, tt := range tests {
		if got := EpochAt(tt.h, tt.end); got != tt.want {
			t.Errorf("EpochAt(%d, %s) = %d, want %d", tt.h.Timeline, tt.end, got, tt.want)
		}
		r := &Recovered{History: tt.h, End: wal.End{LSN: tt.end, Timeline: tt.h.Timeline}}
		if got := r.LastEpoch(); got != tt.want {
			t.Errorf("LastEpoch() = %d, want %d", got, tt.want)
		}
	}
}

// What is sealed is neither checkpointed nor changed: not when a checkpoint is due, nor when one is
// asked for, nor at shutdown. It is no failure, and the old epoch's writer may be there still.
func TestSealEndsCheckpoints(t *testing.T) {
	p := startPrimary(t, newCluster(t, vfs.NewCrashableMem()))
	p.commitFlushed(0, 40)
	p.applyAll()
	end := p.writer.Flushed().Load()
	must(t, p.checkpointer.Seal(5, end))
	sealed := p.checkpointer.Control()
	for range 2 {
		if err := p.checkpointer.Request(t.Context()); !errors.Is(err, ErrSealed) {
			t.Errorf("CHECKPOINT after the seal: %v", err)
		}
	}
	p.checkpointer.Kick()
	must(t, p.checkpointer.Shutdown(t.Context()))
	if err := p.checkpointer.write(func(*Control) {}); !errors.Is(err, ErrSealed) {
		t.Errorf("the control file was written: %v", err)
	}
	if _, err := p.checkpointer.record(t.Context(), end, wal.XLOGCheckpointOnline); !errors.Is(err, ErrSealed) {
		t.Errorf("a record was written: %v", err)
	}
	onDisk, err := ReadControl(p.d.FS, p.d.Global())
	if err != nil || onDisk != sealed || p.checkpointer.Control() != sealed || p.writer.Inserted().Load() != end {
		t.Errorf("%+v, %v, sealed as %+v at %s, the log ends at %s", onDisk, err, sealed, end, p.writer.Inserted().Load())
	}
	must(t, p.checkpointer.Promise(6)) // but more may be promised
	p.stop()                           // Run has no complaint
}

// A seal in the middle of a checkpoint, wherever that is, is the last that the control file says.
func TestSealDuringCheckpoint(t *testing.T) {
	for _, step := range []string{"record", "save", "needed"} {
		var p *primary
		var end wal.LSN
		seal := func(at string) {
			if at == step && end == 0 {
				end = p.writer.Flushed().Load()
				must(t, p.checkpointer.Seal(5, end))
			}
		}
		p = quietPrimary(t, vfs.NewCrashableMem())
		p.commitFlushed(0, 40)
		p.applyAll()
		c := p.checkpointer
		nextXID := c.NextXID
		c.NextXID = func() uint32 {
			if end == 0 && c.mu.TryLock() { // asked for the record, not for the control file
				c.mu.Unlock()
				seal("record")
			}
			return nextXID()
		}
		c.Save = func() error { seal("save"); return nil }
		c.Needed = func() wal.Needs { seal("needed"); return wal.Needs{} }
		err := p.checkpoint(true)
		if want := step != "needed"; errors.Is(err, ErrSealed) != want || !want && err != nil {
			t.Errorf("sealed at %s: %v", step, err)
		}
		control, err := ReadControl(p.d.FS, p.d.Global())
		if err != nil || control.PromisedEpoch != 5 || control.Durable != end || p.writer.Inserted().Load() != end {
			t.Errorf("sealed at %s at %s, the log ends at %s: %+v, %v", step, end, p.writer.Inserted().Load(), control, err)
		}
		p.stop()
		if r := recoverDir(t, p.d); r.End.LSN != end {
			t.Errorf("sealed at %s at %s, found %s", step, end, r.End.LSN)
		}
	}
}

// Nothing is called durable that is not, and nothing that is known to be durable is given up.
func TestSealElsewhere(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	defer p.stop()
	p.commitFlushed(0, 3)
	must(t, p.checkpoint(true))
	before := p.checkpointer.Control()
	behind := p.commit(3) // not flushed
	for _, end := range []wal.LSN{before.Durable - 8, behind} {
		if err := p.checkpointer.Seal(5, end); err == nil {
			t.Errorf("sealed at %s, durable from %s to %s", end, before.Durable, p.writer.Flushed().Load())
		}
	}
	onDisk, err := ReadControl(p.d.FS, p.d.Global())
	if err != nil || onDisk != before {
		t.Errorf("%+v, %v, before %+v", onDisk, err, before)
	}
	must(t, p.checkpoint(true)) // a seal that fails seals nothing
}

// A checkpoint that finds the writer stopped is no reason to end the process: who stopped it knows.
func TestCheckpointAfterWriter(t *testing.T) {
	p := startPrimary(t, newCluster(t, vfs.NewCrashableMem()))
	p.commitFlushed(0, 3)
	p.applyAll()
	end := p.stopWriter()
	if err := p.checkpointer.Request(t.Context()); !errors.Is(err, wal.ErrWriterStopped) {
		t.Error(err)
	}
	must(t, p.checkpointer.Seal(5, end))
	p.stop()
}

// A checkpointer that does not know that the log was cut, and moved, since, seals what is there now; a
// horizon that it learnt behind the fork means nothing.
func TestSealAfterCut(t *testing.T) {
	f := newFork(t, vfs.NewCrashableMem(), false)
	s := newStandby(t, f.d)
	s.horizon.Advance(f.end) // under less than a rule
	s.restartpoint()
	known := s.checkpointer.Control()
	must(t, Cut(f.d, s.log, f.at, f.at))
	child := s.log.History.Child(5, f.at, "")
	must(t, s.log.Dir.WriteHistory(child))
	must(t, s.log.Dir.CopyHead(2, 5, f.at))
	must(t, s.checkpointer.Promise(5))
	if c := s.checkpointer.Control(); c.Durable != f.at || c.ReignStart != 0 || known.Durable != f.end {
		t.Errorf("after the cut at %s a promise brought back %+v", f.at, c)
	}
	s.log.Horizon = s.horizon.Load()
	must(t, SwitchTimeline(f.d, s.log, child, wal.End{LSN: f.at, Timeline: 5}))
	if s.log.Horizon > f.at {
		t.Errorf("the log ends at %s, and its horizon is %s", f.at, s.log.Horizon)
	}
	must(t, s.checkpointer.Seal(6, f.at))
	c := s.checkpointer.Control()
	if c.PromisedEpoch != 6 || c.Timeline != 5 || c.Durable != f.at || c.Horizon > f.at || c.ReignStart != 0 {
		t.Errorf("%+v", c)
	}
	s.stop()
	if r := recoverDir(t, f.d); r.End.LSN != f.at || r.LastEpoch() != 2 || r.Horizon > f.at {
		t.Errorf("end %s, last epoch %d, horizon %s", r.End.LSN, r.LastEpoch(), r.Horizon)
	}
}

// What was cut and has grown again is cut again, at the same place.
func TestCutAgainAfterGrowth(t *testing.T) {
	f := newFork(t, vfs.NewCrashableMem(), false)
	r := recoverDir(t, f.d)
	must(t, Cut(f.d, r, f.at, f.at))
	child := r.History.Child(5, f.at, "")
	must(t, r.Dir.WriteHistory(child))
	must(t, r.Dir.CopyHead(2, 5, f.at))
	must(t, SwitchTimeline(f.d, r, child, wal.End{LSN: f.at, Timeline: 5}))
	w := wal.NewWriter(r.Dir, r.End, wal.WriterConfig{})
	k := start(w.Run)
	_, end, err := w.Insert(wal.Prepare(wal.RmgrXLOG, wal.XLOGNoop), 0)
	must(t, err)
	must(t, w.Flush(t.Context(), end))
	k.stop(t)
	r.End.LSN = end
	must(t, Cut(f.d, r, f.at, f.at))
	orphans, err := f.d.Orphans()
	if err != nil || len(orphans) != 2 || orphans[1].Epoch != 5 || orphans[1].Fork != f.at || r.End.LSN != f.at {
		t.Errorf("%d orphans, %v, the log ends at %s", len(orphans), err, r.End.LSN)
	}
	if r = recoverDir(t, f.d); r.End.LSN != f.at {
		t.Errorf("the log ends at %s, want %s", r.End.LSN, f.at)
	}
}

// Whenever the power fails during a seal, the log is whole; once Seal has returned the promise stands,
// even if the process dies and the power fails after that.
func TestSealPowerCuts(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(4) {
		c := newCutter(t, seed, 1)
		d := newCluster(t, c.fs())
		p := startPrimary(t, d)
		p.commitFlushed(0, 30)
		end := p.stopWriter()
		sealed := func(d DataDir, epochs ...uint64) error {
			l, err := load(d)
			if err != nil {
				return err
			}
			control, err := ReadControl(d.FS, d.Global())
			if err == nil && (l.n != 30 || l.end.LSN != end || !slices.Contains(epochs, control.PromisedEpoch)) {
				err = fmt.Errorf("%d transactions up to %s, control %+v", l.n, l.end.LSN, control)
			}
			return err
		}
		c.on(func(cut func() *vfs.MemFS) error { return sealed(DataDir{FS: cut(), Path: d.Path}, 2, 5) })
		must(t, p.checkpointer.Seal(5, end))
		c.on(func(cut func() *vfs.MemFS) error { return sealed(DataDir{FS: cut(), Path: d.Path}, 5, 8) })
		must(t, promise(d, 8))
		c.off()
		must(t, sealed(DataDir{FS: after(c.disk), Path: d.Path}, 8))
		if c.cuts < 4 {
			t.Errorf("%d power cuts", c.cuts)
		}
		p.stop()
	}
}

// A promise given by others than the checkpointer is not lost when it writes next.
func TestPromiseBesideCheckpointer(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	defer p.stop()
	must(t, promise(p.d, 6))
	p.commitFlushed(0, 3)
	must(t, p.checkpoint(true))
	if c := p.checkpointer.Control(); c.PromisedEpoch != 6 {
		t.Errorf("promised %d", c.PromisedEpoch)
	}
	if err := p.checkpointer.Promise(5); err == nil {
		t.Error("an older epoch was promised")
	}
}

// Nor is one that is given while the log is being recovered.
func TestPromiseMeanwhile(t *testing.T) {
	disk := vfs.NewCrashableMem()
	d := stoppedPrimary(t, disk, 10)
	promised := false
	proving := DataDir{Path: d.Path, FS: errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt && !promised {
			promised = true
			return promise(d, 5)
		}
		return nil
	}))}
	if r := recoverDir(t, proving); !promised || r.Control.PromisedEpoch != 5 {
		t.Errorf("promised %v, %+v", promised, r.Control)
	}
}

// Nobody else changes the control file between the reading and the replacing.
func TestControlIsLocked(t *testing.T) {
	d := newCluster(t, vfs.NewMem())
	steps := 0
	d.FS = errorfs.Wrap(d.FS, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if steps++; op.Kind == errorfs.OpFileClose {
			return nil
		}
		if lock, ok := controlLocks.Load(d); !ok || lock.(*sync.Mutex).TryLock() {
			t.Errorf("%v of %s without the lock", op.Kind, op.Path)
		}
		return nil
	}))
	must(t, promise(d, 5))
	if lock, _ := controlLocks.Load(d); steps == 0 || !lock.(*sync.Mutex).TryLock() {
		t.Errorf("%d steps, and the lock is still held", steps)
	}
}
