package startup

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// baseCopy makes a directory from a running primary as package node does, while the primary goes on:
// the store is ahead of the checkpoint that the copy's control file names.
func baseCopy(t *testing.T, p *primary, fsys vfs.FS, meanwhile func()) DataDir {
	t.Helper()
	must(t, p.checkpointer.Request(t.Context()))
	control := p.checkpointer.Control()
	meanwhile()
	p.applyAll()
	from := p.d.join("copy")
	must(t, p.store.Checkpoint(t.Context(), from))
	control.ReignStart, control.Clean = 0, false
	control.Durable = segment.SegmentStart(control.Redo)
	d := DataDir{FS: fsys, Path: "/var/n2"}
	_, _, err := d.Open()
	must(t, err)
	must(t, d.Build(testIdentity, func() (Control, error) {
		if _, err := vfs.Clone(p.d.FS, fsys, from, d.Store(), vfs.CloneSync); err != nil {
			return Control{}, err
		}
		return control, wal.NewDir(fsys, d.WAL(), testIdentity.Format()).WriteHistory(p.log.History)
	}))
	must(t, p.d.FS.RemoveAll(from))
	return d
}

// A source is a log to be streamed, and where its records end.
type source struct {
	raw  *wal.RawReader
	ends []wal.LSN
}

func newSource(t *testing.T, p *primary, from wal.LSN) *source {
	t.Helper()
	s := &source{raw: wal.NewRawReader(p.log.Dir, p.log.History, nil)}
	r := wal.NewReader(wal.NewRawReader(p.log.Dir, p.log.History, nil), from, 0)
	defer r.Close()
	for {
		rec, ok, err := r.Next(p.writer.Flushed().Load())
		must(t, err)
		if !ok {
			return s
		}
		s.ends = append(s.ends, rec.End)
	}
}

func (s *source) read(t *testing.T, from, to wal.LSN) []byte {
	t.Helper()
	b := make([]byte, to-from)
	for n := 0; n < len(b); {
		m, err := s.raw.ReadAt(b[n:], from+wal.LSN(n))
		must(t, err)
		n += m
	}
	return b
}

// A standby is what package node makes of this package's parts for that role, moved by hand.
type standby struct {
	t            *testing.T
	d            DataDir
	log          *Recovered
	store        *kv.Store
	table        *kv.Table
	raw          *wal.RawWriter
	redo         *Redo
	checkpointer *Checkpointer
	horizon      wal.Position
	applied      wal.Position
}

func newStandby(t *testing.T, d DataDir) *standby {
	t.Helper()
	s := &standby{t: t, d: d, log: recoverDir(t, d)}
	var err error
	s.store, err = openStore(d)
	must(t, err)
	s.horizon.Advance(max(s.log.Horizon, s.store.Applied()))
	s.raw = wal.NewRawWriter(s.log.Dir, s.log.History, s.log.End.LSN, wal.SyncFdatasync)
	s.table = kv.NewTable(s.store, nil, &s.horizon, kv.TableOptions{})
	from := max(s.store.Applied(), s.log.Control.Redo)
	s.redo = &Redo{
		Reader:  wal.NewReader(wal.NewRawReader(s.log.Dir, s.log.History, nil), from, 0),
		Limits:  []*wal.Position{&s.horizon, s.raw.Flushed()},
		Batch:   s.store.NewBatch(),
		Apply:   s.table.Apply,
		Applied: &s.applied,
	}
	c := NewCheckpointer(s.log.Control)
	c.DataDir, c.WAL, c.Store, c.Flushed, c.Horizon = d, s.log.Dir, s.store, s.raw.Flushed(), &s.horizon
	c.NextXID = func() uint32 { return s.redo.NextXID(s.log.Control.NextXID) }
	c.Retention = func() wal.Retention { return testRetention }
	c.Important = s.redo.Important
	c.Needed = func() wal.Needs { return wal.Needs{} }
	c.Invalidate = func(uint64) (bool, error) { return false, nil }
	c.Save = func() error { return nil }
	c.Log = quiet
	s.checkpointer = c
	must(t, s.redo.CatchUp(t.Context()))
	return s
}

// receive writes what the source has up to to, which is a record's end.
func (s *standby) receive(from *source, to wal.LSN) {
	s.t.Helper()
	_, err := s.raw.Write(from.read(s.t, s.raw.Written().Load(), to))
	must(s.t, err)
}

func (s *standby) flush() {
	s.t.Helper()
	_, err := s.raw.Flush()
	must(s.t, err)
}

// restartpoint is a checkpoint on a standby.
func (s *standby) restartpoint() {
	s.t.Helper()
	must(s.t, s.checkpointer.checkpoint(s.t.Context(), true, wal.XLOGCheckpointOnline))
}

func (s *standby) stop() {
	s.t.Helper()
	must(s.t, s.raw.Close())
	s.table.Close()
	must(s.t, s.store.Close())
}

// A base copy has a store, and a log that is yet to come: from the start of the segment of redo.
func TestRecoverCopy(t *testing.T) {
	p := startPrimary(t, newCluster(t, vfs.NewMem()))
	p.needed = segment.Start(1)
	p.commitFlushed(0, 60)
	p.applyAll()
	disk := vfs.NewCrashableMem()
	d := baseCopy(t, p, disk, func() { p.commitFlushed(60, 120) })
	p.commitFlushed(120, 160)
	control, err := ReadControl(d.FS, d.Global())
	must(t, err)
	begin := segment.SegmentStart(control.Redo)
	from := newSource(t, p, begin)
	if from.ends[0] >= control.Redo {
		t.Fatalf("no record between %s and redo at %s", begin, control.Redo)
	}

	r := recoverDir(t, d)
	if r.End != (wal.End{LSN: begin, Timeline: 2}) || r.Horizon != control.Horizon || r.Horizon <= r.End.LSN {
		t.Fatalf("end %+v, horizon %s, want end %s, horizon %s", r.End, r.Horizon, begin, control.Horizon)
	}
	if err := BeginTimeline(d, r, 3, ""); !errors.Is(err, ErrLogBehind) {
		t.Errorf("a copy without its log may take office: %v", err)
	}

	// A checkpoint before the log has come to where the store is changes nothing of redo.
	s := newStandby(t, d)
	if s.store.Applied() < begin+2*wal.LSN(segment) {
		t.Fatalf("store at %s, log from %s: too little for the test", s.store.Applied(), begin)
	}
	s.receive(from, from.ends[0])
	s.restartpoint()
	if c := s.checkpointer.Control(); c.Redo != control.Redo {
		t.Errorf("redo at %s, the log ends at %s", c.Redo, s.raw.Flushed().Load())
	}
	s.stop()

	// What the killed process had not synced is proved by the next start, before redo and behind it.
	// (On this file system a sync would do; on others only bytes written again are certain.)
	rewritten := false
	recoverDir(t, DataDir{Path: d.Path, FS: errorfs.Wrap(d.FS, errorfs.InjectorFunc(func(op errorfs.Op) error {
		rewritten = rewritten || op.Kind == errorfs.OpFileWriteAt && op.Offset == segment.Offset(begin)
		return nil
	}))})
	if !rewritten {
		t.Errorf("the log was not proved from %s on", begin)
	}
	d.FS = after(d.FS)
	s = newStandby(t, d)
	if s.log.End.LSN != from.ends[0] {
		t.Errorf("the log ends at %s, want %s", s.log.End.LSN, from.ends[0])
	}
	half := from.ends[len(from.ends)/3]
	s.receive(from, half)
	s.stop()
	if r = recoverDir(t, d); r.End.LSN != half {
		t.Errorf("the log ends at %s, want %s", r.End.LSN, half)
	}
	d.FS = after(d.FS)
	s = newStandby(t, d)
	if s.log.End.LSN != half {
		t.Errorf("after a power cut the log ends at %s, want %s", s.log.End.LSN, half)
	}

	last := from.ends[len(from.ends)-1]
	s.receive(from, last)
	s.flush()
	if got, want := newDirReader(d, s.log.History).read(t, begin, last), from.read(t, begin, last); !bytes.Equal(got, want) {
		t.Error("the log is not the primary's")
	}
	s.stop()
	if l, err := load(d); err != nil || l.n != 160 {
		t.Errorf("%d transactions, %v", l.n, err)
	}
	p.stop()
}

func newDirReader(d DataDir, h wal.History) *source {
	return &source{raw: wal.NewRawReader(wal.NewDir(d.FS, d.WAL(), testIdentity.Format()), h, nil)}
}

// Whenever the power fails on a standby, a start finds everything that it reported flushed, and nothing
// past the horizon in the store; also while a base copy's log is still on its way.
func TestStandbyPowerCuts(t *testing.T) {
	slow.Test(t)
	p := startPrimary(t, newCluster(t, vfs.NewMem()))
	p.needed = segment.Start(1)
	for seed := range uint64(2) {
		n := 70 * int(seed)
		p.commitFlushed(n, n+30)
		p.applyAll()
		c := newCutter(t, seed, 3)
		d := baseCopy(t, p, c.fs(), func() { p.commitFlushed(n+30, n+70) })
		s := newStandby(t, d)
		ahead := s.store.Applied()
		from := newSource(t, p, s.log.End.LSN)
		c.on(func(cut func() *vfs.MemFS) error {
			flushed := s.raw.Flushed().Load()
			return s.check(DataDir{FS: cut(), Path: d.Path}, flushed, ahead)
		})
		rng := rand.New(rand.NewPCG(seed, 4))
		for i, end := range from.ends {
			s.receive(from, end)
			if rng.IntN(3) == 0 {
				s.flush()
			}
			if rng.IntN(4) == 0 {
				s.horizon.Advance(from.ends[rng.IntN(i+1)])
				must(t, s.redo.CatchUp(t.Context()))
			}
			if rng.IntN(15) == 0 {
				s.restartpoint()
			}
		}
		s.flush()
		must(t, s.checkpointer.Shutdown(t.Context()))
		c.off()
		if c.cuts < 8 {
			t.Errorf("%d power cuts", c.cuts)
		}
		s.stop()
		r := recoverDir(t, d)
		if last := from.ends[len(from.ends)-1]; !r.Clean || r.End.LSN != last || r.Control.NextXID != p.table.NextXID() {
			t.Errorf("clean %v, end %s, next xid %d, want %s, %d", r.Clean, r.End.LSN, r.Control.NextXID, last, p.table.NextXID())
		}
	}
	p.stop()
}

// check starts on what a power cut has left of a standby whose store was at ahead at first.
func (s *standby) check(d DataDir, flushed, ahead wal.LSN) error {
	r, err := Recover(d, testIdentity, quiet)
	if err != nil {
		return err
	}
	store, err := openStore(d)
	if err != nil {
		return err
	}
	applied := store.Applied()
	if err := store.Close(); err != nil {
		return err
	}
	if r.End.LSN < flushed {
		return fmt.Errorf("the log ends at %s, flushed was %s", r.End.LSN, flushed)
	}
	if h := max(s.horizon.Load(), ahead); applied > h || r.Horizon > h {
		return fmt.Errorf("store at %s, horizon at %s, it was never past %s", applied, r.Horizon, h)
	}
	if r.End.LSN >= applied { // else the log of the copy is not there yet
		if _, err := load(d); err != nil {
			return err
		}
	}
	again, err := Recover(DataDir{FS: after(d.FS), Path: d.Path}, testIdentity, quiet)
	if err == nil && again.End != r.End {
		err = fmt.Errorf("after another cut the log ends at %+v, before it at %+v", again.End, r.End)
	}
	return err
}

// The start of the last record is known even if nothing follows redo and the record is longer than a
// segment: its segments are kept.
func TestLongLastRecord(t *testing.T) {
	slow.Test(t)
	p := startPrimary(t, newCluster(t, vfs.NewMem()))
	p.needed = segment.Start(1)
	p.commitFlushed(0, 10)
	p.applyAll()
	d := baseCopy(t, p, vfs.NewMem(), func() {})
	p.stopCheckpointer() // no checkpoint may follow
	tx := p.table.Begin(kv.TxnOptions{Latest: true})
	must(t, tx.Put("long", make([]byte, 5<<20)))
	end, err := tx.Commit(t.Context())
	must(t, err)
	must(t, p.writer.Flush(t.Context(), end))
	last := p.writer.Prev()
	s := newStandby(t, d)
	s.receive(newSource(t, p, s.log.End.LSN), end)
	s.flush()
	s.horizon.Advance(end)
	must(t, s.redo.CatchUp(t.Context()))
	s.restartpoint()
	if c := s.checkpointer.Control(); c.Redo != end {
		t.Errorf("redo at %s, want %s", c.Redo, end)
	}
	s.stop()
	r := recoverDir(t, d)
	if r.End != (wal.End{LSN: end, Prev: last, Timeline: 2}) {
		t.Errorf("end %+v, want %s after %s", r.End, end, last)
	}
	must(t, BeginTimeline(d, r, 3, ""))
	p.stop()
}

// What was written of a SWITCH's zeros may be less than all of them, over a file that was recycled.
func TestSwitchIsCompleted(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		d := newCluster(t, vfs.NewCrashableMem())
		p := startPrimary(t, d)
		p.stopCheckpointer() // nothing may follow
		end := p.commitFlushed(0, 5)
		_, err := p.writer.Switch()
		must(t, err)
		after := p.writer.Inserted().Load()
		must(t, p.writer.Flush(t.Context(), after))
		if flushed {
			must(t, p.checkpointer.write(func(*Control) {}))
		}
		p.stop()
		name := d.FS.PathJoin(d.WAL(), segment.FileName(2, segment.Segno(end)))
		f, err := d.FS.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		must(t, err)
		stale := bytes.Repeat([]byte{0xee}, 20_000)
		_, err = f.WriteAt(slices.Clone(stale), int64(segment)-20_000)
		must(t, err)
		must(t, f.Close())
		r := recoverDir(t, d)
		rest := newDirReader(d, r.History).read(t, after-20_000, after)
		if r.End.LSN != after || !bytes.Equal(rest, make([]byte, 20_000)) {
			t.Errorf("the log ends at %s, want %s, and zeros before it: %v", r.End.LSN, after, rest[0] == 0)
		}
		l, err := load(d)
		if err != nil || l.n != 5 {
			t.Error(l.n, err)
		}
	}
}
