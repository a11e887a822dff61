package startup

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/wal"
)

// requested makes a checkpoint when everything has been applied.
func (p *primary) requested() Control {
	p.t.Helper()
	p.applyAll()
	must(p.t, p.checkpointer.Request(p.t.Context()))
	return p.checkpointer.Control()
}

// quietPrimary starts a primary whose checkpoints are made by the test alone.
func quietPrimary(t *testing.T, fsys vfs.FS) *primary {
	t.Helper()
	p := startPrimary(t, newCluster(t, fsys))
	p.stopCheckpointer()
	return p
}

func (p *primary) checkpoint(forced bool) error {
	p.applyAll()
	return p.checkpointer.checkpoint(p.t.Context(), forced, wal.XLOGCheckpointOnline)
}

// segments lists the numbers of the segments of the primary's own timeline.
func (p *primary) segments() (list []uint64) {
	p.t.Helper()
	files, err := p.log.Dir.Segments()
	must(p.t, err)
	for _, f := range files {
		if f.Timeline == p.log.End.Timeline {
			list = append(list, f.Segno)
		}
	}
	return list
}

func TestCheckpoint(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	defer p.stop()
	end := p.commitFlushed(0, 100)
	must(t, p.checkpoint(false))
	c := p.checkpointer.Control()
	onDisk, err := ReadControl(p.d.FS, p.d.Global())
	if err != nil || onDisk != c {
		t.Errorf("on disk %+v, %v, in memory %+v", onDisk, err, c)
	}
	if c.Redo != end || c.Checkpoint < end || c.Durable <= c.Checkpoint || c.Horizon > c.Durable || c.NextXID != p.table.NextXID() {
		t.Errorf("%+v after a checkpoint at %s", c, end)
	}
	if first := p.segments()[0]; first != segment.Segno(end) {
		t.Errorf("segments from %d, want %d", first, segment.Segno(end))
	}
	r := wal.NewReader(wal.NewRawReader(p.log.Dir, p.log.History, nil), end, 0)
	defer r.Close()
	rec, ok, err := r.Next(c.Durable)
	if !ok || err != nil || rec.LSN != c.Checkpoint || !rec.IsXLOG(wal.XLOGCheckpointOnline) {
		t.Fatalf("%+v, %v", rec, err)
	}
	cp, err := wal.ParseCheckpoint(rec.Data)
	if err != nil || cp.Redo != p.log.Dir.Format.RecordStart(end) || cp.Timeline != 2 || cp.NextXID != uint64(c.NextXID) {
		t.Errorf("%+v, %v", cp, err)
	}
}

// An idle node writes no checkpoints, one after the other, about each other. CHECKPOINT does.
func TestNothingNew(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	defer p.stop()
	p.commitFlushed(0, 10)
	must(t, p.checkpoint(false))
	before := p.checkpointer.Control()
	for range 3 {
		must(t, p.checkpoint(false))
	}
	if c := p.checkpointer.Control(); c != before {
		t.Errorf("%+v, before %+v", c, before)
	}
	must(t, p.checkpoint(true))
	if c := p.checkpointer.Control(); c.Checkpoint <= before.Checkpoint {
		t.Errorf("%+v after a forced checkpoint, before %+v", c, before)
	}
}

// Heartbeats alone are not worth a checkpoint, unless their volume is; a commit is.
func TestHeartbeatsAreNoNews(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	defer p.stop()
	p.commitFlushed(0, 10)
	must(t, p.checkpoint(false))
	beats := func(n int) {
		for range n {
			_, _, err := p.writer.Insert(wal.Heartbeat(time.Now()), 0)
			must(t, err)
		}
		must(t, p.writer.Flush(t.Context(), p.writer.Inserted().Load()))
	}
	before := p.checkpointer.Control()
	beats(1)
	must(t, p.checkpoint(false))
	if c := p.checkpointer.Control(); c != before {
		t.Errorf("%+v after a heartbeat, before %+v", c, before)
	}
	for !p.checkpointer.due() {
		beats(2000)
	}
	must(t, p.checkpoint(false))
	volume := p.checkpointer.Control()
	if volume.Redo <= before.Redo {
		t.Errorf("redo from %s after %d MB of heartbeats", volume.Redo, testRetention.MaxWALSize>>20)
	}
	p.commitFlushed(10, 11)
	must(t, p.checkpoint(false))
	if c := p.checkpointer.Control(); c.Redo <= volume.Redo {
		t.Errorf("redo from %s after a commit, before %s", c.Redo, volume.Redo)
	}
}

// A checkpoint on a full disk fails, changes nothing, and is made when there is room.
func TestCheckpointOnFullDisk(t *testing.T) {
	var full, broken bool
	var mu sync.Mutex
	disk := vfs.NewCrashableMem()
	p := startPrimary(t, newCluster(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "control.tmp") {
			if full {
				return syscall.ENOSPC
			}
			if broken {
				return syscall.EIO
			}
		}
		return nil
	}))))
	set := func(f, b bool) {
		mu.Lock()
		defer mu.Unlock()
		full, broken = f, b
	}
	p.commitFlushed(0, 20)
	before := p.requested()
	end := p.commitFlushed(20, 40)
	p.applyAll()
	set(true, false)
	for range 2 {
		if err := p.checkpointer.Request(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("on a full disk: %v", err)
		}
		if c := p.checkpointer.Control(); c != before {
			t.Errorf("%+v after a failure, before %+v", c, before)
		}
	}
	set(false, false)
	if c := p.requested(); c.Redo < end {
		t.Errorf("redo at %s, want %s at least", c.Redo, end)
	}
	// Any other failure ends the process.
	set(false, true)
	if err := p.checkpointer.Request(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if err := <-p.tasks[2].done; !errors.Is(err, syscall.EIO) {
		t.Errorf("Run returned %v", err)
	}
	p.tasks = p.tasks[:2]
	p.stop()
}

// WAL that a slot or a base copy needs stays, and goes when it is not needed any more; so does what
// wal_keep_size asks for.
func TestWALIsKept(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	defer p.stop()
	retention := testRetention
	p.checkpointer.Retention = func() wal.Retention { return retention }
	p.needed = segment.Start(2) + 77
	end := p.commitFlushed(0, 280)
	now := segment.Segno(end)
	if now < 6 {
		t.Fatalf("only %d segments", now)
	}
	must(t, p.checkpoint(true))
	if first := p.segments()[0]; first != 2 {
		t.Errorf("segments from %d, a slot needs 2", first)
	}
	p.needed, retention.KeepSize = 0, 2<<20
	must(t, p.checkpoint(true))
	if first := p.segments()[0]; first != now-2 {
		t.Errorf("segments from %d, wal_keep_size asks for %d", first, now-2)
	}
	retention.KeepSize = 0
	must(t, p.checkpoint(true))
	if first := p.segments()[0]; first != now {
		t.Errorf("segments from %d, redo needs %d", first, now)
	}
}

// The positions of slots are made durable before they are asked for, and the control file is written
// before any WAL is let go.
func TestCheckpointOrder(t *testing.T) {
	var mu sync.Mutex
	var steps []string
	step := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		if n := len(steps); n == 0 || steps[n-1] != s {
			steps = append(steps, s)
		}
	}
	p := quietPrimary(t, errorfs.Wrap(vfs.NewCrashableMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch {
		case op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, "control.tmp"):
			step("control")
		case (op.Kind == errorfs.OpRename || op.Kind == errorfs.OpRemove) && strings.Contains(op.Path, "pg_wal/0000000"):
			step("remove")
		}
		return nil
	})))
	defer p.stop()
	p.checkpointer.Save = func() error { step("save"); return nil }
	p.checkpointer.Invalidate = func(uint64) (bool, error) { step("invalidate"); return false, nil }
	p.commitFlushed(0, 100)
	p.applyAll()
	steps = nil
	must(t, p.checkpoint(true))
	if want := []string{"save", "control", "invalidate", "remove"}; !slices.Equal(steps, want) {
		t.Errorf("%q, want %q", steps, want)
	}
	// If the slots cannot be saved, or asked, nothing is removed.
	boom := errors.New("boom")
	p.checkpointer.Save = func() error { return boom }
	before := p.checkpointer.Control()
	p.commitFlushed(100, 150)
	if err := p.checkpoint(true); !errors.Is(err, boom) || p.checkpointer.Control() != before {
		t.Errorf("%v, %+v", err, p.checkpointer.Control())
	}
	p.checkpointer.Save = func() error { return nil }
	p.checkpointer.Invalidate = func(uint64) (bool, error) { return false, boom }
	segments := p.segments()
	if err := p.checkpoint(true); !errors.Is(err, boom) || !slices.Equal(p.segments(), segments) {
		t.Errorf("%v, %v", err, p.segments())
	}
}

// Somebody who comes to need WAL while it is about to go keeps it. Should the arithmetic be wrong, nothing
// goes, the log says so, and the checkpoint is complete.
func TestRemovalRefused(t *testing.T) {
	var out bytes.Buffer
	p := quietPrimary(t, vfs.NewCrashableMem())
	defer p.stop()
	p.checkpointer.Log = slog.New(slog.NewTextHandler(&out, nil))
	needs := func(sequence ...wal.LSN) func() wal.Needs {
		return func() wal.Needs {
			n := wal.Needs{Slots: sequence[0]}
			sequence = sequence[min(1, len(sequence)-1):]
			return n
		}
	}
	p.commitFlushed(0, 100)
	p.applyAll()
	first := p.segments()[0]
	start := wal.LSN(segment) // of segment 1
	p.checkpointer.Needed = needs(0, start)
	must(t, p.checkpoint(true))
	if p.segments()[0] != first || strings.Contains(out.String(), "refusing") {
		t.Errorf("a slot that came late: segments %v\n%s", p.segments(), &out)
	}
	redo := p.checkpointer.Control().Redo
	p.checkpointer.Needed = needs(0, start, 0, start) // it is never seen when it counts
	p.commitFlushed(100, 110)
	p.applyAll()
	must(t, p.checkpoint(true))
	if p.segments()[0] != first || !strings.Contains(out.String(), "refusing to remove WAL that is needed") {
		t.Errorf("a slot that is not seen: segments %v\n%s", p.segments(), &out)
	}
	if p.checkpointer.Control().Redo <= redo {
		t.Error("the checkpoint was not completed")
	}
	p.checkpointer.Needed = needs(0)
	must(t, p.checkpoint(true))
	if p.segments()[0] == first {
		t.Error("nothing was removed when nothing was needed")
	}
}

// A shutdown with something behind its checkpoint is not a clean one.
func TestShutdownIsWhole(t *testing.T) {
	for _, late := range []bool{false, true} {
		p := quietPrimary(t, vfs.NewCrashableMem())
		p.commitFlushed(0, 5)
		p.applyAll()
		p.checkpointer.Save = func() error {
			if late { // nobody asks for a flush, but everything is flushed in the end
				_, _, err := p.writer.Insert(wal.Prepare(wal.RmgrXLOG, wal.XLOGNoop), 0)
				return err
			}
			return nil
		}
		must(t, p.checkpointer.Shutdown(t.Context()))
		c := p.checkpointer.Control()
		p.stop()
		r := recoverDir(t, p.d)
		if c.Clean && c.Durable != r.End.LSN || !late && !c.Clean {
			t.Errorf("clean %v at %s, the log ends at %s", c.Clean, c.Durable, r.End.LSN)
		}
	}
}

// promise is what a node without a role promises.
func promise(d DataDir, epoch uint64) error {
	_, err := d.changeControl(func(c *Control) error { return c.Promise(epoch) })
	return err
}

// A promise outlives the process, and is never taken back.
func TestPromise(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	c := p.checkpointer
	must(t, c.Promise(2))
	must(t, c.Promise(9))
	must(t, c.Promise(9))
	if err := c.Promise(8); err == nil {
		t.Error("an older epoch was promised")
	}
	p.commitFlushed(0, 3)
	must(t, p.checkpoint(true)) // it is not overwritten
	p.stop()
	p.d.FS = after(p.d.FS)
	r := recoverDir(t, p.d)
	if r.Control.PromisedEpoch != 9 {
		t.Errorf("promised %d", r.Control.PromisedEpoch)
	}
	must(t, promise(p.d, 9))
	must(t, promise(p.d, 11))
	err := promise(p.d, 10)
	if over, ok := errors.AsType[*EpochError](err); !ok || *over != (EpochError{Epoch: 10, Promised: 11}) {
		t.Error(err)
	}
	if err := promise(p.d, 1<<32); err == nil {
		t.Error("an epoch was promised that can never be")
	}
	p.d.FS = after(p.d.FS)
	if r = recoverDir(t, p.d); r.Control.PromisedEpoch != 11 {
		t.Errorf("promised %d", r.Control.PromisedEpoch)
	}
}

// Redo starts from what the store would have after a crash, not from what it has taken in.
func TestRedoStartsWhereTheStoreIsDurable(t *testing.T) {
	p := startPrimary(t, newCluster(t, vfs.NewCrashableMem()))
	defer p.stop()
	p.commitFlushed(1, 3)
	p.applyAll()
	durable, err := p.store.DurableApplied()
	must(t, err)
	if p.store.Applied() <= durable {
		t.Fatal("nothing to test")
	}
	if redo, err := p.checkpointer.redo(); err != nil || redo > max(durable, p.checkpointer.Control().Redo) {
		t.Errorf("redo starts at %s, %v; after a crash the store is at %s", redo, err, durable)
	}
}
