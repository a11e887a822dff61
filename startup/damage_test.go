package startup

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/wal"
)

// What is known to be damaged stays known until it is repaired, whatever else is written to the control file,
// and whatever the power does.
func TestDamageIsKept(t *testing.T) {
	fs := vfs.NewCrashableMem()
	p := quietPrimary(t, fs)
	p.commitFlushed(0, 100)
	faults := []wal.Fault{{From: 0x100028, Prev: 0x100000, To: 0x100100, Reason: "it was so"}}
	must(t, p.d.SetDamage(faults))
	must(t, p.checkpoint(true))
	must(t, p.checkpointer.Seal(9, p.checkpointer.Flushed.Load()))
	p.stop()
	d := DataDir{FS: fs.CrashClone(vfs.CrashCloneCfg{}), Path: p.d.Path}
	kept, err := ReadControl(d.FS, d.Global())
	if err != nil || !slices.Equal(kept.Faults(), faults) {
		t.Errorf("kept %+v, %v", kept.Faults(), err)
	}
	must(t, d.SetDamage(nil))
	if kept, err = ReadControl(d.FS, d.Global()); err != nil || kept.Damage != nil || kept.PromisedEpoch != 9 {
		t.Errorf("repaired, and kept %+v, %v", kept, err)
	}
}

// damageAt changes a byte of the log of p where there is a record.
func (p *primary) damageAt(at wal.LSN) {
	p.t.Helper()
	name := segment.FileName(p.log.History.FileTimeline(segment.Segno(at), segment), segment.Segno(at))
	f, err := p.d.FS.OpenReadWrite(p.d.FS.PathJoin(p.d.WAL(), name), vfs.WriteCategoryUnspecified)
	must(p.t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, segment.Offset(at))
	must(p.t, err)
	_, err = f.WriteAt([]byte{b[0] ^ 1}, segment.Offset(at))
	must(p.t, err)
	must(p.t, errors.Join(f.Sync(), f.Close()))
}

// fillTo commits until the log has reached a segment, and returns the next transaction.
func (p *primary) fillTo(segno uint64, i int) int {
	for ; segment.Segno(p.writer.Flushed().Load()) < segno; i += 50 {
		p.commitFlushed(i, i+50)
	}
	return i
}

// A checkpoint is made although WAL is damaged where it looks for what must stay, known or not.
func TestCheckpointDespiteDamage(t *testing.T) {
	for what, spoil := range map[string]func(p *primary, unreadable *atomic.Bool){
		"a byte": func(p *primary, _ *atomic.Bool) { p.damageAt(segment.Start(2) + 5000) },
		"known": func(p *primary, _ *atomic.Bool) {
			p.damageAt(segment.Start(2) + 5000)
			p.log.Dir.SetDamaged([]wal.Fault{{From: segment.Start(2) + 4000, To: segment.Start(2) + 6000}}, segment.Start(3))
		},
		"a sector that cannot be read": func(_ *primary, unreadable *atomic.Bool) { unreadable.Store(true) },
	} {
		var unreadable atomic.Bool
		disk := errorfs.Wrap(vfs.NewCrashableMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if unreadable.Load() && op.Kind == errorfs.OpFileReadAt && strings.Contains(op.Path, segment.FileName(2, 2)) {
				return syscall.EIO
			}
			return nil
		}))
		p := quietPrimary(t, disk)
		p.needed = segment.Start(1)
		i := p.fillTo(3, 0)
		p.applyAll() // redo does not read it again
		spoil(p, &unreadable)
		p.commitFlushed(i, i+1)
		if err := p.checkpoint(true); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		p.stop()
	}
}

// What is damaged behind the place where a log is cut is damaged no more.
func TestDamageIsCut(t *testing.T) {
	f := newFork(t, vfs.NewCrashableMem(), false)
	r := recoverDir(t, f.d)
	before := wal.Fault{From: f.at - 200, To: f.at - 100}
	across := wal.Fault{From: f.at - 50, To: f.end}
	must(t, f.d.SetDamage([]wal.Fault{before, across, {From: f.at, To: f.end}}))
	r.Dir.SetDamaged([]wal.Fault{before, across}, ^wal.LSN(0))
	must(t, Cut(f.d, r, f.at, f.at))
	across.To = f.at
	want := []wal.Fault{before, across}
	if c, err := ReadControl(f.d.FS, f.d.Global()); err != nil || !slices.Equal(c.Faults(), want) || !slices.Equal(r.Control.Faults(), want) {
		t.Errorf("faults %+v, %+v, %v, want %+v", c.Faults(), r.Control.Faults(), err, want)
	}
	child := r.History.Child(5, f.at-60, "")
	must(t, r.Dir.WriteHistory(child))
	must(t, SwitchTimeline(f.d, r, child, wal.End{LSN: f.at - 60, Timeline: 5}))
	if got := r.Control.Faults(); len(got) != 1 || got[0] != before {
		t.Errorf("on the new timeline %+v", got)
	}
}

// A log whose tail is damaged is cut all the same.
func TestCutDamagedTail(t *testing.T) {
	f := newFork(t, vfs.NewCrashableMem(), false)
	r := recoverDir(t, f.d)
	path := f.d.FS.PathJoin(f.d.WAL(), segment.FileName(2, segment.PrevSegno(f.end)))
	content, err := wal.ReadFile(f.d.FS, path, int64(segment))
	must(t, err)
	file, err := f.d.FS.Create(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = file.Write(content[:segment.Offset(f.at)/2])
	must(t, errors.Join(err, file.Close()))
	for range 2 {
		must(t, Cut(f.d, r, f.at, f.at))
	}
	if orphans, err := f.d.Orphans(); err != nil || len(orphans) != 1 || orphans[0].Unreadable == 0 {
		t.Errorf("%+v, %v", orphans, err)
	}
	if r = recoverDir(t, f.d); r.End.LSN != f.at {
		t.Errorf("the log ends at %s, want %s", r.End.LSN, f.at)
	}
}

// Recovery does without what is damaged before redo, though it would read there for the record before; the place is
// known then. Behind redo it does not.
func TestRecoverDespiteDamageBeforeRedo(t *testing.T) {
	p := quietPrimary(t, vfs.NewCrashableMem())
	p.commitFlushed(0, 5)
	early := p.writer.Flushed().Load()
	p.commitFlushed(5, 10)
	must(t, p.checkpoint(true))
	redo := p.checkpointer.Control().Redo
	late := p.commitFlushed(10, 15)
	p.damageAt(early + 40)
	p.stop()
	r := recoverDir(t, p.d)
	faults := r.Control.Faults()
	if r.End.LSN < late || r.End.Prev == 0 || len(faults) != 1 || faults[0].From != early || faults[0].To > redo || segment.Segno(early) != segment.Segno(redo) {
		t.Errorf("redo %s, end %+v, faults %+v", redo, r.End, faults)
	}
	again := recoverDir(t, p.d)
	if got := again.Control.Faults(); !slices.Equal(got, faults) {
		t.Errorf("noted twice: %+v", got)
	}
	must(t, mayLead(again))
	p.damageAt(redo + 100)
	_, err := Recover(p.d, testIdentity, quiet)
	if _, damaged := errors.AsType[*DamageError](err); !damaged {
		t.Errorf("recovered with damage behind redo: %v", err)
	}
}

// A header that is damaged where redo begins may say that the first record there is the rest of another one: it is not
// passed over.
func TestDamagedPageAtRedo(t *testing.T) {
	l := newLog(t)
	start, end := l.commit(500)
	length := end - start
	for end%wal.PageSize != 0 {
		if room := wal.PageSize - end%wal.PageSize; room >= length {
			_, end = l.commit(500 + int(room-length))
		} else {
			_, end = l.commit(500)
		}
	}
	redo := end
	first, second := l.commit(500)
	_, end = l.commit(500)
	c, err := ReadControl(l.d.FS, l.d.Global())
	must(t, err)
	c.Redo, c.Durable = redo, end
	must(t, c.Write(l.d.FS, l.d.Global()))
	header := []byte{1, 0, 1, 0, 0, 0} // XLP_FIRST_IS_CONTRECORD, timeline 1
	header = binary.LittleEndian.AppendUint64(header, uint64(redo))
	l.crash(redo+2, binary.LittleEndian.AppendUint32(header, uint32(second-first)))
	_, err = Recover(l.d, testIdentity, quiet)
	if damage, ok := errors.AsType[*DamageError](err); !ok || damage.Fault.From != redo {
		t.Errorf("recovered: %v", err)
	}
}
