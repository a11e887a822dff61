package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

const scrubSegment = wal.MinSegmentSize

// newTestScrubber is the scrubbing of a standby that follows nobody and asks nobody. Its log reaches a segment.
func newTestScrubber(t *testing.T, fsys vfs.FS, segno uint64) *scrubber {
	t.Helper()
	id := startup.Identity{Name: "n1", NodeID: 1, Incarnation: 1, SystemID: 1, SegmentSize: scrubSegment, PGVersion: wal.PG15.Major}
	d := startup.DataDir{FS: fsys, Path: "data"}
	log := func() *startup.Recovered {
		log, err := startup.Recover(d, id, slog.New(slog.DiscardHandler))
		mustBeNil(t, err)
		return log
	}
	mustBeNil(t, fsys.MkdirAll(d.Path, 0o700))
	mustBeNil(t, d.NewCluster(id))
	found := log()
	w := wal.NewWriter(found.Dir, found.End, wal.WriterConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	for end := found.End.LSN; scrubSegment.Segno(end) < segno; {
		var err error
		_, end, err = w.Insert(wal.Prepare(wal.RmgrXLOG, wal.XLOGNoop, make([]byte, 100_000)), 0)
		mustBeNil(t, err)
		mustBeNil(t, w.Flush(ctx, end))
	}
	cancel()
	<-ended
	found = log()

	settings, err := newSettings(Config{Listen: "127.0.0.1:5433"})
	mustBeNil(t, err)
	n := &Node{cfg: Config{FailoverPriority: 1}, settings: settings, log: slog.New(slog.NewTextHandler(t.Output(), nil)), dir: d, present: newPresent()}
	n.id.Store(&id)
	set, err := slots.Open(fsys, d.Slots(), 10)
	mustBeNil(t, err)
	r := &reign{node: n, slots: set, log: found, found: *found, checkpointer: startup.NewCheckpointer(found.Control)}
	r.checkpointer.DataDir = d
	r.tail.Advance(found.End.LSN)
	s := newScrubber(r)
	s.mend = func(context.Context, wal.Fault) (string, error) { return "", errNoHelpers }
	s.checkpoint = func(context.Context) error { return startup.ErrSealed }
	return s
}

func mustBeNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// path is that of a segment.
func (s *scrubber) path(segno uint64) string {
	d := s.r.node.dir
	return d.FS.PathJoin(d.WAL(), scrubSegment.FileName(s.r.found.History.FileTimeline(segno, scrubSegment), segno))
}

// spoil changes a byte in the middle of a segment.
func (s *scrubber) spoil(t *testing.T, segno uint64) { s.spoilAt(t, segno, int64(scrubSegment)/2+1000) }

func (s *scrubber) spoilAt(t *testing.T, segno uint64, off int64) {
	t.Helper()
	f, err := s.r.node.dir.FS.OpenReadWrite(s.path(segno), vfs.WriteCategoryUnspecified)
	mustBeNil(t, err)
	_, err = f.WriteAt([]byte{0xff}, off)
	mustBeNil(t, errors.Join(err, f.Close()))
}

// onDisk is what the control file says.
func (s *scrubber) onDisk(t *testing.T) []wal.Fault {
	t.Helper()
	c, err := startup.ReadControl(s.r.node.dir.FS, s.r.node.dir.Global())
	mustBeNil(t, err)
	return c.Faults()
}

// run goes on for a while.
func (s *scrubber) run(t *testing.T, d time.Duration, rate int64) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		pause, err := s.next(t.Context(), rate)
		mustBeNil(t, err)
		time.Sleep(min(pause, time.Until(end)))
	}
}

const testRate = 1 << 20

// A pass takes as long as the rate says, and between two passes there is a pause, whatever wakes the scrubber. Who
// changes the rate sees the next one begin.
func TestScrubRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestScrubber(t, vfs.NewMem(), 4) // three closed segments of a MiB, and some more
		all := int64(s.r.flushed().Load() - scrubSegment.Start(1))
		begin := time.Now()
		for s.state.passes == 0 {
			s.run(t, time.Second/16, testRate)
		}
		if took := time.Since(begin); took < 2900*time.Millisecond || took > 4*time.Second || s.state.checked != all {
			t.Errorf("a pass over 3 MiB took %v and read %d bytes", took, s.state.checked)
		}
		for range 56 { // settings that change wake it
			s.run(t, time.Second, testRate)
		}
		if s.state.passes != 1 || s.state.checked != all {
			t.Errorf("%d passes and %d bytes in the minute after the first", s.state.passes, s.state.checked)
		}
		s.run(t, 10*time.Second, testRate)
		if s.state.passes != 2 {
			t.Errorf("%d passes after the pause, want 2", s.state.passes)
		}
		s.run(t, 3*time.Second, 2*testRate)
		if s.state.passes != 3 {
			t.Errorf("%d passes after the rate was changed, want 3", s.state.passes)
		}
		s.run(t, time.Hour, 0)
		if s.state.passes != 3 {
			t.Errorf("%d passes at a rate of 0, want 3", s.state.passes)
		}
	})
}

// The others are asked for what is damaged at once, and less and less often while none can help. What was put right by
// hand is seen soon all the same.
func TestRepairBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestScrubber(t, vfs.NewMem(), 4)
		s.spoil(t, 2)
		var asked []time.Duration
		begin := time.Now()
		s.mend = func(context.Context, wal.Fault) (string, error) {
			asked = append(asked, time.Since(begin).Round(time.Second))
			return "", errNoHelpers
		}
		s.run(t, 10*time.Minute, 1<<30)
		want := []time.Duration{0, 3, 6, 12, 24, 48, 96, 156, 216, 276, 336, 396, 456, 516, 576}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(asked, want) {
			t.Errorf("asked after %v, want %v", asked, want)
		}
		if len(s.state.list()) != 1 || len(s.onDisk(t)) != 1 {
			t.Errorf("faults %v, on disk %v", s.state.list(), s.onDisk(t))
		}
		f, err := s.r.node.dir.FS.OpenReadWrite(s.path(2), vfs.WriteCategoryUnspecified)
		mustBeNil(t, err)
		_, err = f.WriteAt([]byte{0}, int64(scrubSegment)/2+1000)
		mustBeNil(t, errors.Join(err, f.Close()))
		s.run(t, 4*time.Second, 1<<30)
		if len(s.state.list()) != 0 || len(s.onDisk(t)) != 0 || s.state.repaired != 1 {
			t.Errorf("once it is right, faults %v, on disk %v", s.state.list(), s.onDisk(t))
		}
	})
}

// What a member refuses is read at once, in the middle of a pause and at a rate of 0, too, but not again and
// again if it is well.
func TestSuspectedSegmentIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestScrubber(t, vfs.NewMem(), 6)
		s.run(t, 10*time.Second, testRate)
		s.run(t, time.Second, 0)
		at := scrubSegment.Start(2) + 100
		mustBeNil(t, s.inspect(t.Context(), at))
		if n := len(s.state.list()); n != 0 || s.state.passes != 1 {
			t.Errorf("%d faults in a good log, %d passes", n, s.state.passes)
		}
		s.spoil(t, 2)
		mustBeNil(t, s.inspect(t.Context(), at))
		if n := len(s.state.list()); n != 0 {
			t.Errorf("%d faults: it was read again at once", n)
		}
		s.spoil(t, 4)
		mustBeNil(t, s.inspect(t.Context(), scrubSegment.Start(4)))
		time.Sleep(repairRetryMax)
		mustBeNil(t, s.inspect(t.Context(), at))
		if faults := s.state.list(); len(faults) != 2 || scrubSegment.Segno(faults[0].To) != 4 || scrubSegment.Segno(faults[1].To) != 2 {
			t.Errorf("faults %+v", faults)
		}
		if len(s.onDisk(t)) != 2 {
			t.Errorf("on disk %+v", s.onDisk(t))
		}
		mustBeNil(t, s.inspect(t.Context(), s.r.flushed().Load())) // is not there
	})
}

// A primary ends the segment that it writes if that is damaged, and has it repaired at once: the others may need it, and it
// may not be full for long. A standby waits.
func TestDamageInTheSegmentThatIsWritten(t *testing.T) {
	for _, leads := range []bool{false, true} {
		s := newTestScrubber(t, vfs.NewMem(), 4)
		r := s.r
		s.spoilAt(t, 4, 30)
		if leads {
			r.primary = &primary{writer: wal.NewWriter(r.found.Dir, r.found.End, wal.WriterConfig{})}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- r.primary.writer.Run(ctx) }()
			defer func() { cancel(); mustBeNil(t, <-ended) }()
		}
		mended := 0
		s.mend = func(_ context.Context, f wal.Fault) (string, error) {
			if leads && r.writing() != scrubSegment.Start(5) || !leads && r.writing() != scrubSegment.Start(4) {
				t.Errorf("primary %v: the segment at %s is being written", leads, r.writing())
			}
			mended++
			return "", errNoHelpers
		}
		mustBeNil(t, s.inspect(t.Context(), scrubSegment.Start(4)+20))
		if faults := s.state.list(); mended != 1 || len(faults) != 1 || scrubSegment.Segno(faults[0].From) != 4 {
			t.Errorf("primary %v: mended %d times, faults %+v", leads, mended, faults)
		}
		s.tendAt, s.askAt = time.Time{}, time.Time{}
		mustBeNil(t, s.tend(t.Context()))
		if mended != 2 || r.writing() > scrubSegment.Start(5) {
			t.Errorf("primary %v: mended %d times, the segment at %s is being written", leads, mended, r.writing())
		}
	}
}

// Without room for the control file what is damaged is known in memory, and noted when there is room. Another failure
// ends the process.
func TestDamageOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failure atomic.Pointer[error]
		s := newTestScrubber(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if err := failure.Load(); err != nil && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, "control.tmp") {
				return *err
			}
			return nil
		})), 4)
		s.spoil(t, 2)
		failure.Store(new(error(syscall.ENOSPC)))
		s.run(t, time.Minute, testRate)
		if len(s.state.list()) != 1 || len(s.onDisk(t)) != 0 {
			t.Errorf("on a full disk faults %v, on disk %v", s.state.list(), s.onDisk(t))
		}
		if err := s.r.found.Dir.CheckIntact(1, scrubSegment.Start(2), scrubSegment.Start(3)); err == nil {
			t.Error("the damaged segment is handed out")
		}
		failure.Store(nil)
		s.run(t, 4*time.Second, testRate)
		if len(s.onDisk(t)) != 1 {
			t.Errorf("when there is room the control file says %v", s.onDisk(t))
		}
		failure.Store(new(error(syscall.EIO)))
		if err := s.change(func([]wal.Fault) []wal.Fault { return nil }); err == nil {
			t.Error("a control file that cannot be written is no failure")
		}
	})
}

// What lay in segments that have been removed is forgotten before anything is said of it, unless somebody needs it:
// then it was lost.
func TestRemovedDamageIsForgotten(t *testing.T) {
	lost := wal.Fault{From: scrubSegment.Start(1) + 5000, To: scrubSegment.Start(1) + 6000}
	kept := wal.Fault{From: scrubSegment.Start(2) + 5000, To: scrubSegment.Start(2) + 6000}
	for _, needed := range []bool{false, true} {
		s := newTestScrubber(t, vfs.NewMem(), 4)
		n := s.r.node
		mustBeNil(t, n.dir.FS.Remove(s.path(1)))
		control := s.r.checkpointer.Control()
		if control.Redo = scrubSegment.Start(3); needed {
			control.Redo = lost.To
		}
		s.r.checkpointer, s.r.log.Control = startup.NewCheckpointer(control), control
		n.scrubbing.load([]wal.Fault{lost, kept})
		mustBeNil(t, n.dir.SetDamage(n.scrubbing.list()))
		mustBeNil(t, s.r.forgetRemoved())
		want := []wal.Fault{kept}
		if needed {
			want = []wal.Fault{lost, kept}
		}
		to, lacking := n.damage(s.r.log)
		if got := n.scrubbing.list(); !slices.Equal(got, want) || to != scrubSegment.Start(3) || lacking != needed {
			t.Errorf("needed %v: %v are left, up to %s, lacking %v", needed, got, to, lacking)
		}
		if err := s.r.found.Dir.CheckIntact(1, scrubSegment.Start(2), scrubSegment.Start(3)); err == nil {
			t.Errorf("needed %v: what is damaged is handed out before the scrubber runs", needed)
		}
		mustBeNil(t, s.tend(t.Context()))
		if got := s.onDisk(t); !slices.Equal(got, want) {
			t.Errorf("needed %v: the control file has %v", needed, got)
		}
	}
}

// A failed sync of a repair ends the process: a second attempt would prove nothing.
func TestFailedRepairIsFatal(t *testing.T) {
	s := newTestScrubber(t, vfs.NewMem(), 4)
	s.spoil(t, 2)
	s.mend = func(context.Context, wal.Fault) (string, error) { return "", &wal.IOError{Err: syscall.EIO} }
	for range 100 {
		if _, err := s.next(t.Context(), 1<<40); err != nil {
			if !IsFatal(err) {
				t.Error(err)
			}
			return
		}
	}
	t.Error("the scrubber goes on")
}

// What lies before redo is in the table: a node that cannot read it lacks nothing itself.
func TestLacking(t *testing.T) {
	var s scrubbing
	at := scrubSegment.Start(5)
	s.load([]wal.Fault{{From: at + 100, To: at + 200}})
	for redo, want := range map[wal.LSN]bool{at: true, at + 199: true, at + 200: false, at + 300: false} {
		if to, lacking := s.damage(scrubSegment, redo); to != scrubSegment.Start(6) || lacking != want {
			t.Errorf("redo at %s: damaged up to %s, lacking %v", redo, to, lacking)
		}
	}
	s.cut(at + 100)
	if to, lacking := s.damage(scrubSegment, at); to != 0 || lacking {
		t.Errorf("after a cut damaged up to %s, lacking %v", to, lacking)
	}
}

// A standby acknowledges nothing from where its recovery would find its log damaged, nor stays so: if nobody can repair
// it, a base copy takes its place.
func TestLackingStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestScrubber(t, vfs.NewMem(), 4)
		r := s.r
		var copies []time.Duration
		begin := time.Now()
		s.replace = func() { copies = append(copies, time.Since(begin)) }
		log := walreceiver.Log{Dir: r.found.Dir, End: r.found.End, History: r.found.History}
		r.stream = walreceiver.New(walreceiver.Config{Logger: r.node.log}, log)
		s.spoil(t, 2)
		s.spoil(t, 3)
		s.run(t, repairPatience-time.Second, 1<<30)
		faults := s.state.list()
		if len(faults) != 2 || r.stream.Acknowledged() != faults[0].From || len(copies) > 0 {
			t.Errorf("faults %v, acknowledged up to %s, copies after %v", faults, r.stream.Acknowledged(), copies)
		}
		control := r.checkpointer.Control()
		control.Redo = faults[0].To
		r.checkpointer = startup.NewCheckpointer(control)
		s.run(t, 3*repairRetry, 1<<30)
		if got := r.stream.Acknowledged(); got != faults[1].From || len(copies) == 0 || copies[0] < repairPatience {
			t.Errorf("with redo at %s, acknowledged up to %s, copies after %v", control.Redo, got, copies)
		}
		copies = nil
		control.Redo = faults[1].To
		r.checkpointer = startup.NewCheckpointer(control)
		s.run(t, 2*repairPatience, 1<<30)
		if got := r.stream.Acknowledged(); got != r.found.End.LSN || len(copies) > 0 {
			t.Errorf("with redo at %s, acknowledged up to %s, copies after %v", control.Redo, got, copies)
		}
	})
}

// Who is never promoted acknowledges nothing from where its log is damaged while a member may have to get that from it,
// whatever its own recovery reads. It takes no base copy, which would not have that either.
func TestDamageOfOneThatIsNeverPromoted(t *testing.T) {
	founded := newTestNode(t, "n1")
	founded.start()
	founded.exec("INSERT INTO kv VALUES ('a', repeat('x', 1000))") // no slot is published past the horizon
	s := newTestScrubber(t, vfs.NewMem(), 4)
	r := s.r
	end := r.found.End.LSN
	fault := wal.Fault{From: scrubSegment.Start(1) + 0x100, To: scrubSegment.Start(1) + 0x200, Reason: "a test"}
	s.state.set([]wal.Fault{fault})
	r.node.raft = founded.node.raft
	r.stream = walreceiver.New(walreceiver.Config{Logger: r.node.log}, walreceiver.Log{Dir: r.found.Dir, End: r.found.End, History: r.found.History})
	s.replace = func() { t.Error("a base copy is taken") }

	joins := func(name string, id syncrep.ID, restart wal.LSN) {
		m := raftlog.Member{Name: name, ID: id, RaftID: name, Address: "127.0.0.1:1", RaftAddress: "127.0.0.1:1"}
		_, err := r.node.raft.Propose(t.Context(), &raftlog.Join{Member: m})
		mustBeNil(t, err)
		slot := raftlog.Slot{Name: slots.MemberName(name), Member: id, Restart: restart}
		_, err = r.node.raft.Propose(t.Context(), &raftlog.SlotCreate{Epoch: 1, Slot: slot})
		mustBeNil(t, err)
	}
	check := func(what string, redo wal.LSN, promotable, plain wal.LSN) {
		t.Helper()
		control := r.checkpointer.Control()
		control.Redo = redo
		r.checkpointer = startup.NewCheckpointer(control)
		for _, c := range []struct {
			cfg  Config
			want wal.LSN
		}{{Config{FailoverPriority: 1}, promotable}, {Config{}, plain}, {Config{Witness: true, FailoverPriority: 1}, plain}} {
			r.node.cfg = c.cfg
			r.doubt()
			if got := r.stream.Acknowledged(); got != c.want {
				t.Errorf("%s, priority %d: acknowledged up to %s, want %s", what, c.cfg.priority(), got, c.want)
			}
		}
		s.lacking = time.Now().Add(-2 * repairPatience)
		s.giveUp()
	}
	joins("n2", r.node.memberID(), fault.From)
	joins("n3", syncrep.ID{Node: 3, Incarnation: 1}, fault.To)
	check("all have got past it", fault.To, end, end)
	check("recovery reads it", fault.From, fault.From, fault.From)
	joins("n4", syncrep.ID{Node: 4, Incarnation: 1}, fault.To-1)
	check("a member has not got past it", fault.To, end, fault.From)
}

// A disk that keeps a reader waiting does not keep the role from ending, and the next role reads only when that read is
// over.
func TestScrubOnHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Pointer[chan struct{}]
		var reads atomic.Int64
		s := newTestScrubber(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if c := hang.Load(); c != nil && op.Kind == errorfs.OpFileReadAt {
				reads.Add(1)
				<-*c
			}
			return nil
		})), 4)
		c := make(chan struct{})
		hang.Store(&c)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := s.next(ctx, testRate)
			ended <- err
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			mustBeNil(t, err)
		default:
			close(c)
			t.Fatal("the role waits for the disk")
		}
		next := newScrubber(s.r)
		next.run(t, 10*time.Second, testRate)
		if n := reads.Load(); n != 1 || s.state.checked != 0 {
			t.Errorf("%d reads at once, %d bytes read, want the first read alone", n, s.state.checked)
		}
		hang.Store(nil)
		close(c)
		next.run(t, 5*time.Second, testRate)
		if s.state.passes != 1 {
			t.Errorf("%d passes when the disk works again, want 1", s.state.passes)
		}
	})
}

// A disk that garbles each repair anew is repaired less and less often.
func TestRepairInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestScrubber(t, vfs.NewMem(), 4)
		s.spoil(t, 2)
		var repairs []time.Duration
		begin := time.Now()
		s.mend = func(context.Context, wal.Fault) (string, error) {
			if repairs = append(repairs, time.Since(begin).Round(time.Second)); len(repairs) > 20 {
				t.Fatalf("repaired after %v", repairs)
			}
			return "as before", nil
		}
		s.run(t, 10*time.Minute, 1<<30)
		if len(repairs) < 3 {
			t.Errorf("repaired after %v alone", repairs)
		}
	})
}

// Without file descriptors nothing is read, what is damaged is noted later, and the process goes on.
func TestScrubWithoutDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, outForControl atomic.Bool
		s := newTestScrubber(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			control := outForControl.Load() && strings.Contains(op.Path, "control") && op.Kind != errorfs.OpFileRead
			if control || out.Load() && (op.Kind == errorfs.OpList || op.Kind == errorfs.OpOpen) {
				return syscall.EMFILE
			}
			return nil
		})), 4)
		out.Store(true)
		s.run(t, 10*time.Minute, testRate)
		out.Store(false)
		s.run(t, 2*time.Minute, testRate)
		if s.state.passes == 0 || len(s.state.list()) != 0 {
			t.Errorf("%d passes afterwards, faults %v", s.state.passes, s.state.list())
		}
		s.spoil(t, 2)
		outForControl.Store(true)
		s.run(t, 2*time.Minute, testRate)
		outForControl.Store(false)
		if len(s.state.list()) != 1 || len(s.onDisk(t)) != 0 {
			t.Errorf("without descriptors faults %v, on disk %v", s.state.list(), s.onDisk(t))
		}
		s.run(t, 4*time.Second, testRate)
		if len(s.onDisk(t)) != 1 {
			t.Errorf("with descriptors again the control file says %v", s.onDisk(t))
		}
	})
}

// Before it knows what the cluster agreed on, a witness that has been started again takes it that some member needs what
// is damaged.
func TestDamageOfWitnessThatKnowsNoSlots(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	w := newTestNode(t, "w", n1.cfg.Listen)
	w.cfg.Witness = true
	w.start()
	n1.stop()
	w.stop()
	cfg := w.node.raftConfig()
	var err error
	cfg.Listener, err = net.Listen("tcp", w.cfg.RaftListen)
	mustBeNil(t, err)
	alone, err := raftlog.Open(cfg)
	mustBeNil(t, err)
	defer func() { mustBeNil(t, alone.Close()) }()

	s := newTestScrubber(t, vfs.NewMem(), 4)
	r, from := s.r, scrubSegment.Start(1)
	s.state.set([]wal.Fault{{From: from, To: from + 0x100, Reason: "a test"}})
	r.node.cfg, r.node.raft = Config{Witness: true}, alone
	r.stream = walreceiver.New(walreceiver.Config{Logger: r.node.log}, walreceiver.Log{Dir: r.found.Dir, End: r.found.End, History: r.found.History})
	control := r.checkpointer.Control()
	control.Redo = r.found.End.LSN
	r.checkpointer = startup.NewCheckpointer(control)
	if r.doubt(); alone.CaughtUp() || r.stream.Acknowledged() != from {
		t.Errorf("caught up: %v; acknowledged up to %s, want %s", alone.CaughtUp(), r.stream.Acknowledged(), from)
	}
}

// A witness that is needed for commits, and whose log is damaged in the segment that is being written, acknowledges
// nothing more while a member that is down needs that: so the log does not grow, and that segment is never full. The
// primary ends it, and the witness repairs it.
func TestDamageOfWitnessInTheSegmentThatIsWritten(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	n2, w := newTestNode(t, "n2", n1.cfg.Listen), newTestNode(t, "w", n1.cfg.Listen)
	w.cfg.Witness = true
	n2.start()
	w.start()
	n1.awaitSlot(slots.MemberName("n2"))
	for s, changed := n1.node.raft.Watch(); s.Joint != nil || len(s.Rule.Resolved.Listed) < 2; s, changed = n1.node.raft.Watch() {
		<-changed
	}
	n2.stop()
	at := n1.lsn() + 5000
	n1.exec("INSERT INTO kv VALUES ('a', repeat('x', 20000))")

	r, _ := w.node.present.load()
	size, dir := r.found.Dir.Format.SegmentSize, r.node.dir
	segno := size.Segno(at)
	f, err := dir.FS.OpenReadWrite(dir.FS.PathJoin(dir.WAL(), size.FileName(r.found.History.FileTimeline(segno, size), segno)), vfs.WriteCategoryUnspecified)
	mustBeNil(t, err)
	_, err = f.WriteAt([]byte{0xff}, size.Offset(at))
	mustBeNil(t, errors.Join(err, f.Close()))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); r.stream.Acknowledged() >= at; <-tick.C {
		if w.node.scrubbing.suspect(at); time.Since(begin) > 30*time.Second {
			t.Fatalf("the witness acknowledges its log up to %s, and it is damaged at %s", r.stream.Acknowledged(), at)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*othersLook)
	defer cancel()
	if _, err := n1.connect().Exec(ctx, "INSERT INTO kv VALUES ('b', '1')"); err != nil {
		t.Error(err)
	}
}

// Only damage where this primary writes, to the log of a member that follows it, has it end its segment; and that once.
func TestSegmentIsEndedForOneThatFollows(t *testing.T) {
	s := newTestScrubber(t, vfs.NewMem(), 4)
	r := s.r
	r.epoch = 2
	r.primary = &primary{writer: wal.NewWriter(r.found.Dir, r.found.End, wal.WriterConfig{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.primary.writer.Run(ctx) }()
	defer func() { cancel(); mustBeNil(t, <-ended) }()

	other, open := syncrep.ID{Node: 2, Incarnation: 1}, scrubSegment.Start(5)
	health := func(id syncrep.ID, epoch uint64, damaged wal.LSN) election.Health {
		return election.Health{ID: id, Damaged: damaged, Position: raftlog.Position{Epoch: epoch}}
	}
	for _, c := range []struct {
		h    election.Health
		want wal.LSN
	}{
		{health(r.node.memberID(), 2, open), scrubSegment.Start(4)},
		{health(other, 1, open), scrubSegment.Start(4)},
		{health(other, 2, 0), scrubSegment.Start(4)},
		{health(other, 2, scrubSegment.Start(4)), scrubSegment.Start(4)},
		{health(other, 2, open), open},
		{health(other, 2, open), open},
	} {
		mustBeNil(t, r.closeUpForOthers(ctx, map[string]election.Health{"n": c.h}))
		if got := r.writing(); got != c.want {
			t.Errorf("with %+v the segment at %s is being written, want %s", c.h, got, c.want)
		}
	}
}
