package wal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sys/unix"
)

// Whole sectors, whole segments, all of them at once, a file that is gone and one that is cut are mended,
// too.
func TestMendMuch(t *testing.T) {
	s := newSpecimen(t)
	size := tinyFormat.SegmentSize
	name := func(segno uint64) string { return size.FileName(s.history.FileTimeline(segno, size), segno) }
	for what, spoil := range map[string]func(p *patient){
		"sectors":    func(p *patient) { p.write(0x5000, make([]byte, 512)); p.write(0x9200, make([]byte, 4096)) },
		"a segment":  func(p *patient) { p.write(size.Start(2), make([]byte, size)) },
		"everything": func(p *patient) { p.write(size.Start(1), make([]byte, 3*size)) },
		"gone":       func(p *patient) { must(p.t, p.dir.FS.Remove(p.dir.file(name(2)))) },
		"cut":        func(p *patient) { p.shorten(name(3), s.bytes[2*size:2*size+5000]) },
		"one record in two segments": func(p *patient) {
			i := slices.IndexFunc(s.log, func(e entry) bool { return e.LSN < size.Start(2)-24 && e.End > size.Start(2)+50 })
			p.write(s.log[i].LSN+8, []byte{1, 2, 3})   // the link, which is seen at once
			p.write(size.Start(2)+44, []byte{1, 2, 3}) // what is seen when all of it is read
		},
		"last gone": func(p *patient) { must(p.t, p.dir.FS.Remove(p.dir.file(name(3)))) },
	} {
		p := s.patient(t)
		spoil(p)
		if err := p.mendAll(s.source); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		p.want(what)
	}
}

// What another node has is not believed: a copy that is as bad is refused, and of one that is bad further
// on only what can be read is taken, though this node's own was good there.
func TestMendBelievesNobody(t *testing.T) {
	s := newSpecimen(t)
	i := slices.IndexFunc(s.log, func(e entry) bool { return e.LSN > 0x5000 && e.End-e.LSN > 60 })
	first, later := s.log[i], s.log[i+9]
	spoil := func() *patient {
		p := s.patient(t)
		p.write(first.LSN+30, []byte{s.bytes[first.LSN+30-tinyStart.LSN] ^ 1})
		return p
	}
	p := spoil()
	as := func(l LSN) byte { return s.bytes[l-tinyStart.LSN] ^ 0x10 }
	if err := p.mendAll(s.spoilt(first.LSN+40, as(first.LSN+40))); err == nil || !strings.Contains(err.Error(), "cannot be read either") {
		t.Errorf("a source with the same fault: %v", err)
	}
	if faults := p.scrub(); len(faults) != 1 {
		t.Errorf("faults %v", faults)
	}
	if err := p.mendAll(s.spoilt(later.LSN+40, as(later.LSN+40))); err != nil {
		t.Errorf("a source with a later fault: %v", err)
	}
	p.want("later fault")

	p = spoil()
	err := p.mendAll(s.spoilt(first.LSN+40, as(first.LSN+40)), func(context.Context, []byte, LSN) (int, error) {
		return 0, errors.New("it does not answer")
	}, s.source)
	if err != nil {
		t.Error(err)
	}
	p.want("third source")

	p = spoil()
	ends := func(end LSN) Source {
		return func(_ context.Context, p []byte, at LSN) (int, error) {
			return copy(p[:min(LSN(len(p)), max(end, at)-at)], s.bytes[at-tinyStart.LSN:]), nil
		}
	}
	if err := p.mendAll(ends(first.LSN + 16)); err == nil || !strings.Contains(err.Error(), "its log ends at") {
		t.Errorf("a source whose log ends before: %v", err)
	}
	if err := p.mendAll(ends(later.LSN + 16)); err != nil {
		t.Errorf("a source whose log ends behind: %v", err)
	}
	p.want("shorter log")
}

// Records of another log do not fit, even if each is good.
func TestMendWithAnotherLog(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	at := s.log[3].LSN + 30
	p.write(at, []byte{s.bytes[at-tinyStart.LSN] ^ 1})
	d := tinyDir(t)
	w := start(t, d, tinyStart, WriterConfig{})
	for range 300 {
		w.insert(t, pattern(90), true)
	}
	must(t, w.stop())
	other := func(_ context.Context, b []byte, at LSN) (int, error) {
		raw := NewRawReader(d, first, nil)
		defer raw.Close()
		return raw.ReadAt(b, at)
	}
	if err := p.mendAll(other); err == nil {
		t.Error("mended with another log")
	}
}

// A segment that is removed, or becomes a future one, while it is mended stays so.
func TestMendRemoved(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	p.write(0x5000, make([]byte, 512))
	faults := p.scrub()
	p.dir.SetDamaged(faults, p.closed())
	raw := NewRawReader(p.dir, p.history, nil).Intact()
	if _, err := raw.ReadAt(make([]byte, 10), 0x4000); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged segment is handed out: %v", err)
	}
	if _, err := NewRawReader(p.dir, p.history, nil).ReadAt(make([]byte, 10), 0x4000); err != nil {
		t.Errorf("who decodes a damaged segment cannot read it: %v", err)
	}
	_, _, err := p.dir.Mend(t.Context(), p.history, faults[0], ^LSN(0), func(ctx context.Context, b []byte, at LSN) (int, error) {
		_, _, err := p.dir.RemoveBefore(2, nothingNeeded, 2, 5, 5)
		must(t, err)
		return s.source(ctx, b, at)
	})
	if _, ok := errors.AsType[*RemovedError](err); !ok {
		t.Errorf("mended although removed: %v", err)
	}
	if ok, err := Exists(p.dir.FS, p.dir.file(tinyFormat.SegmentSize.FileName(1, 1))); ok || err != nil {
		t.Errorf("the removed segment is back: %v", err)
	}
	scrubber := NewScrubber(p.dir, p.history, 1)
	if _, _, err := scrubber.Step(s.closed()); err == nil {
		t.Error("a removed segment is scrubbed")
	}
	if faults := p.scrub(); len(faults) != 0 {
		t.Errorf("what was removed is a fault: %v", faults)
	}
}

// Nor does it come back if it is removed when its copy has been read already, and is about to replace it.
func TestMendRemovedLate(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	p.write(0x5000, make([]byte, 512))
	fault := p.scrub()[0]
	opened := 0
	own := p.dir.FS
	p.dir.FS = errorfs.Wrap(own, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpOpen && strings.Contains(op.Path, tempPrefix) {
			if opened++; opened == 2 { // the first time to read the log over it, then to compare
				_, _, err := p.dir.RemoveBefore(2, nothingNeeded, 2, 5, 5)
				must(t, err)
			}
		}
		return nil
	}))
	_, _, err := p.dir.Mend(t.Context(), p.history, fault, ^LSN(0), s.source)
	if _, ok := errors.AsType[*RemovedError](err); !ok || opened < 2 {
		t.Errorf("mended although removed, opened %d times: %v", opened, err)
	}
	if ok, err := Exists(own, p.dir.file(tinyFormat.SegmentSize.FileName(1, 1))); ok || err != nil {
		t.Errorf("the removed segment is back: %v", err)
	}
}

// Whenever the power fails while a segment is mended, and whatever operation fails, the segment is what it
// was or as it should be, and the log can be mended afterwards.
func TestMendPowerCuts(t *testing.T) {
	s := newSpecimen(t)
	for n := 0; ; n++ {
		disk := vfs.NewCrashableMem()
		must(t, disk.MkdirAll("/pg_wal", 0o755))
		must(t, SyncDir(disk, "/"))
		p := s.patientIn(t, NewDir(disk, "/pg_wal", tinyFormat))
		p.write(0x5000, make([]byte, 512))
		for _, f := range p.files {
			must(t, f.Sync())
		}
		fault := p.scrub()[0]
		inj := &nthFails{left: n}
		p.dir.FS = errorfs.Wrap(disk, inj)
		_, _, err := p.dir.Mend(t.Context(), s.history, fault, ^LSN(0), s.source)
		cfg := vfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(uint64(n), 1))}
		if inj.fired {
			cfg.UnsyncedDataPercent = n * 37 % 101
		} // what is done is durable
		p.dir = NewDir(disk.CrashClone(cfg), "/pg_wal", tinyFormat)
		must(t, p.dir.RemoveTemporary())
		if !inj.fired {
			if p.want("all done"); err != nil || n < 5 {
				t.Errorf("after %d operations: %v", n, err)
			}
			return
		}
		if err := p.mendAll(s.source); err != nil {
			t.Fatalf("operation %d fails: %v", n, err)
		}
		p.want(fmt.Sprintf("operation %d fails", n))
	}
}

func (f *nthFails) String() string { return "nthFails" }

// A record that is damaged where it begins goes on in the segment that is being written: that is not replaced, for
// its writer has it open.
func TestMendLeavesActiveSegment(t *testing.T) {
	s := newSpecimen(t)
	size := tinyFormat.SegmentSize
	limit := size.Start(2)
	p := s.patient(t)
	i := slices.IndexFunc(s.log, func(e entry) bool { return e.LSN < limit-24 && e.End > limit+50 })
	record := s.log[i]
	flushed := limit + 40 // somewhere in the record
	p.write(flushed, make([]byte, int(size)-40))
	p.write(record.LSN+8, []byte{1, 2, 3})
	scrubber := NewScrubber(p.dir, p.history, 1)
	var fault *Fault
	for fault == nil {
		n, found, err := scrubber.Step(limit)
		must(t, err)
		if fault = found; fault == nil && n == 0 {
			t.Fatal("nothing is found")
		}
	}
	if to, _, err := p.dir.Mend(t.Context(), p.history, *fault, limit, s.source); err == nil {
		t.Errorf("a record that goes on where the log is written is mended, up to %s", to)
	}
	if to, _, err := p.dir.Mend(t.Context(), p.history, *fault, size.Start(3), s.source); err != nil || to < record.End {
		t.Errorf("once the segment is full it is mended up to %s, %v", to, err)
	}
}

// A failed sync is the last word, of a copy and of the folder, and so is a failed rename: what the disk holds is not
// known. Without room nothing has changed.
func TestMendFailedSyncIsFatal(t *testing.T) {
	s := newSpecimen(t)
	for _, test := range []struct {
		what  string
		kind  errorfs.OpKind
		path  string
		err   error
		fatal bool
	}{
		{"the folder is not synced", errorfs.OpFileSync, "/pg_wal", unix.EIO, true},
		{"a copy is not synced", errorfs.OpFileSync, tempPrefix, unix.EIO, true},
		{"a copy is not renamed", errorfs.OpRename, tempPrefix, unix.EIO, true},
		{"no room is left when a copy is synced", errorfs.OpFileSync, tempPrefix, unix.ENOSPC, false},
		{"no room is left", errorfs.OpFileWrite, tempPrefix, unix.ENOSPC, false},
	} {
		disk := vfs.NewMem()
		must(t, disk.MkdirAll("/pg_wal", 0o755))
		p := s.patientIn(t, NewDir(disk, "/pg_wal", tinyFormat))
		p.write(0x5000, make([]byte, 512))
		fault := p.scrub()[0]
		p.dir.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == test.kind && (strings.Contains(op.Path, test.path) && test.path == tempPrefix || op.Path == test.path) {
				return test.err
			}
			return nil
		}))
		if _, _, err := p.dir.Mend(t.Context(), s.history, fault, ^LSN(0), s.source); err == nil || IsFatal(err) != test.fatal {
			t.Errorf("%s: %v", test.what, err)
		}
	}
}

// What no other node can mend costs no writing, however often it is tried.
func TestMendInVainWritesNothing(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	p.write(0x5000, make([]byte, 512))
	fault := p.scrub()[0]
	disk := p.dir.FS
	p.dir.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			t.Errorf("%v of %s", op.Kind, op.Path)
		}
		return nil
	}))
	for what, source := range map[string]Source{
		"the same damage": s.spoilt(0x5000, make([]byte, 512)...),
		"no answer":       func(context.Context, []byte, LSN) (int, error) { return 0, errors.New("it does not answer") },
		"a log that ends here": func(_ context.Context, b []byte, at LSN) (int, error) {
			return copy(b[:8], s.bytes[at-tinyStart.LSN:]), nil
		},
	} {
		if to, _, err := p.dir.Mend(t.Context(), s.history, fault, ^LSN(0), source); err == nil {
			t.Errorf("%s: mended up to %s", what, to)
		}
	}
}

// What this node itself cannot read before the damage is not replaced by zeros: that is found and repaired first.
func TestMendKeepsWhatItCannotRead(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	size := tinyFormat.SegmentSize
	at := size.Start(3) - 700
	p.write(at, []byte{s.bytes[at-tinyStart.LSN] ^ 1})
	faults := p.scrub()
	if len(faults) != 1 || faults[0].From < size.Start(2)+PageSize {
		t.Fatalf("faults %+v, want one behind the first page of segment 2", faults)
	}
	disk, name := p.dir.FS, size.FileName(p.history.FileTimeline(2, size), 2)
	p.dir.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, name) && op.Offset < PageSize {
			return unix.EIO
		}
		return nil
	}))
	_, _, err := p.dir.Mend(t.Context(), p.history, faults[0], ^LSN(0), s.source)
	p.dir.FS = disk
	if after := p.scrub(); err == nil || !slices.Equal(after, faults) {
		t.Errorf("Mend: %v, then %+v is damaged, want an error and %+v", err, after, faults)
	}
	must(t, p.mendAll(s.source))
	p.want("mended")
}

// A segment that is gone is not made anew for the record that begins in it.
func TestMendMakesNoRemovedSegment(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	size := tinyFormat.SegmentSize
	for _, r := range p.log {
		segno := size.Segno(r.LSN)
		bad := r.End - 9
		if size.Offset(r.LSN) < PageSize || size.Segno(bad) != segno+1 || size.Offset(bad) < longPageHeaderSize || bad >= p.closed() {
			continue
		}
		p.write(bad, []byte{s.bytes[bad-tinyStart.LSN] ^ 1})
		faults := p.scrub()
		for k := uint64(1); k <= segno; k++ {
			must(t, p.dir.FS.Remove(p.dir.file(size.FileName(p.history.FileTimeline(k, size), k))))
		}
		_, _, err := p.dir.Mend(t.Context(), p.history, faults[0], ^LSN(0), s.source)
		if _, removed := errors.AsType[*RemovedError](err); !removed {
			t.Errorf("Mend of %+v: %v, want a RemovedError", faults[0], err)
		}
		if oldest, _, err := p.dir.Oldest(p.history); oldest != segno+1 || err != nil {
			t.Errorf("the oldest segment is %d, %v, want %d", oldest, err, segno+1)
		}
		return
	}
	t.Fatal("no record goes on in the next segment")
}
