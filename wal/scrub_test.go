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
)

// closed is the end of the specimen's closed segments.
func (s *specimen) closed() LSN { return tinyFormat.SegmentSize.SegmentStart(s.end()) }

// source is a node that has the specimen as it was.
func (s *specimen) source(_ context.Context, p []byte, at LSN) (int, error) {
	return copy(p, s.bytes[at-tinyStart.LSN:]), nil
}

// spoilt is a node on which the bytes at at are others.
func (s *specimen) spoilt(at LSN, b ...byte) Source {
	bytes := slices.Clone(s.bytes)
	copy(bytes[at-tinyStart.LSN:], b)
	return func(_ context.Context, p []byte, at LSN) (int, error) { return copy(p, bytes[at-tinyStart.LSN:]), nil }
}

// scrub reads the closed segments and returns what is wrong with them.
func (p *patient) scrub() []Fault {
	p.t.Helper()
	segno, ok, err := p.dir.Oldest(p.history)
	if !ok || err != nil {
		p.t.Fatal("no oldest segment", err)
	}
	s := NewScrubber(p.dir, p.history, segno)
	var faults []Fault
	for {
		n, fault, err := s.Step(p.closed())
		must(p.t, err)
		if fault != nil {
			faults = append(faults, *fault)
			s.Skip(*fault)
		} else if n == 0 {
			return faults
		}
	}
}

// mendAll repairs what a scrub finds, until it finds nothing.
func (p *patient) mendAll(sources ...Source) error {
	for range 50 {
		faults := p.scrub()
		if len(faults) == 0 {
			return nil
		}
		var errs []error
		for _, source := range sources {
			to, _, err := p.dir.Mend(p.t.Context(), p.history, faults[0], ^LSN(0), source)
			if err == nil && to <= faults[0].From {
				p.t.Fatalf("mended %v up to %s", faults[0], to)
			}
			errs = append(errs, err)
			if err == nil {
				break
			}
		}
		if errs[len(errs)-1] != nil {
			return errors.Join(errs...)
		}
	}
	return errors.New("there is always something to mend")
}

// want compares the log's bytes with the specimen's, but for those that nobody reads.
func (p *patient) want(what string) {
	p.t.Helper()
	raw := NewRawReader(p.dir, p.history, nil)
	defer raw.Close()
	b := make([]byte, PageSize)
	for at := tinyStart.LSN; at < p.closed(); at += PageSize {
		if _, err := raw.ReadAt(b, at); err != nil || string(b) != string(p.bytes[at-tinyStart.LSN:][:PageSize]) {
			p.t.Fatalf("%s: the page at %s is not what it was: %v", what, at, err)
		}
	}
	names, err := p.dir.FS.List(p.dir.Path)
	if i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, tempPrefix) }); i >= 0 || err != nil {
		p.t.Fatalf("%s: temporary files are left: %v, %v", what, names, err)
	}
}

// Whatever bit of a closed segment rots, the scrubber finds it, if anybody reads it at all or a member refuses it, says
// where, and the segment is as it was once it is mended.
func TestScrubAndMend(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	if faults := p.scrub(); len(faults) != 0 {
		t.Fatalf("a good log has faults: %v", faults)
	}
	rng := rand.New(rand.NewPCG(2, 7))
	for at := tinyStart.LSN; at < s.closed(); at++ {
		if at%PageSize >= longPageHeaderSize && rng.IntN(80) > 0 {
			continue
		}
		bit := rng.IntN(8)
		p.write(at, []byte{s.bytes[at-tinyStart.LSN] ^ 1<<bit})
		bad := slices.IndexFunc(p.log, func(e entry) bool { return at < e.End }) // the padding is the record's
		faults := p.scrub()
		switch {
		case s.meaningless(at, bit) || p.log[bad].End > s.closed():
			p.write(at, []byte{s.bytes[at-tinyStart.LSN]})
			continue
		case len(faults) == 0 || faults[0].From != p.from(bad) || faults[0].To <= at && at >= p.log[bad].LSN:
			t.Fatalf("bit %d of %s, in %v: faults %v", bit, at, p.log[bad], faults)
		}
		if err := p.mendAll(s.source); err != nil {
			t.Fatalf("bit %d of %s: %v", bit, at, err)
		}
		p.want(fmt.Sprintf("bit %d of %s", bit, at))
		p.reopen()
	}
}

// The zeros behind a SWITCH are read, too, as far as the log is durable: a member takes no others.
func TestScrubBehindSwitch(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	w := start(t, d, emptyLog, WriterConfig{})
	last := w.insert(t, []byte("x"), true)
	_, err := w.Switch()
	must(t, err)
	next := MinSegmentSize.Start(2)
	must(t, w.Flush(t.Context(), next))
	must(t, w.stop())
	if found := scrubOne(t, d, next); found != nil {
		t.Fatalf("a good log has a fault: %v", found)
	}
	good, err := ReadFile(d.FS, d.file(MinSegmentSize.FileName(1, 1)), int64(MinSegmentSize))
	must(t, err)
	source := func(_ context.Context, p []byte, at LSN) (int, error) {
		return copy(p, good[MinSegmentSize.Offset(at):]), nil
	}
	for spoilt := last.End + 24; spoilt < next; spoilt += 100_001 {
		bad := slices.Clone(good)
		bad[MinSegmentSize.Offset(spoilt)] = 4
		must(t, WriteFileDurably(d.FS, d.Path, MinSegmentSize.FileName(1, 1), bad))
		if found := scrubOne(t, d, spoilt); found != nil {
			t.Errorf("spoilt at %s, %v is found below", spoilt, found)
		}
		found := scrubOne(t, d, next)
		if found == nil || found.From != last.End || found.Prev != last.LSN || found.To != spoilt+1 {
			t.Fatalf("spoilt at %s: %v", spoilt, found)
		}
		if d.Readable(first, *found) {
			t.Errorf("spoilt at %s: it counts as readable", spoilt)
		}
		if _, changed, err := d.Mend(t.Context(), first, *found, ^LSN(0), source); err != nil || changed != 1 {
			t.Fatalf("spoilt at %s: %d bytes mended, %v", spoilt, changed, err)
		}
	}
}

// scrubOne is the first fault below limit, nil if there is none.
func scrubOne(t *testing.T, d *Dir, limit LSN) *Fault {
	t.Helper()
	s := NewScrubber(d, first, 1)
	for {
		n, fault, err := s.Step(limit)
		must(t, err)
		if n == 0 || fault != nil {
			return fault
		}
	}
}

// reopen has write go to the files as they are now.
func (p *patient) reopen() {
	size := tinyFormat.SegmentSize
	for i, f := range p.files {
		segno := uint64(i) + 1
		must(p.t, f.Close())
		f, err := p.dir.FS.OpenReadWrite(p.dir.file(size.FileName(p.history.FileTimeline(segno, size), segno)), diskCategory)
		must(p.t, err)
		p.files[i] = f
	}
}

// nthFails has one operation fail, of those that change something.
type nthFails struct {
	left  int
	fired bool
}

func (f *nthFails) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpRename, errorfs.OpFileClose:
	default:
		return nil
	}
	f.left--
	if f.left != -1 {
		return nil
	}
	f.fired = true
	return errorfs.ErrInjected
}

// A fault behind the place where a log is cut is none any more.
func TestFaultsBefore(t *testing.T) {
	faults := []Fault{{From: 0x2000, To: 0x2100}, {From: 0x3000, To: 0x5000}, {From: 0x4000, To: 0x4100}, {From: 0x4800, To: 0x5000}}
	want := []Fault{{From: 0x2000, To: 0x2100}, {From: 0x3000, To: 0x4000}}
	if got := FaultsBefore(faults, 0x4000); !slices.Equal(got, want) {
		t.Errorf("FaultsBefore() = %v, want %v", got, want)
	}
}

// A segment that has been removed may be a future one by now: what is to be written there is none of the scrubber's
// business, and its cache neither.
func TestScrubLeavesRecycledFile(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	scrubber := NewScrubber(p.dir, p.history, 1)
	scrubber.buf = scrubber.buf[:PageSize]
	if n, fault, err := scrubber.Step(s.closed()); n != PageSize || fault != nil || err != nil {
		t.Fatal(n, fault, err)
	}
	_, _, err := p.dir.RemoveBefore(2, nothingNeeded, 2, 5, 5)
	must(t, err)
	var reads int
	scrubber.raw.file = readCounter{scrubber.raw.file, &reads}
	_, fault, err := scrubber.Step(s.closed())
	if _, removed := errors.AsType[*RemovedError](err); !removed || fault != nil || reads > 0 {
		t.Errorf("read %d times, fault %v, %v", reads, fault, err)
	}
}

// A readCounter counts how often a file is read.
type readCounter struct {
	vfs.File
	reads *int
}

func (c readCounter) ReadAt(p []byte, off int64) (int, error) {
	*c.reads++
	return c.File.ReadAt(p, off)
}

// Of a closed segment nobody gets anything when a part of it is damaged, of the one that is being written only what
// is damaged is refused: who has read the rest goes on to hand it out.
func TestRefusedSpans(t *testing.T) {
	s := newSpecimen(t)
	p := s.patient(t)
	size := tinyFormat.SegmentSize
	open := p.closed()
	segno := size.Segno(open)
	for _, test := range []struct {
		fault    Fault
		from, to LSN
		refused  bool
	}{
		{Fault{From: size.Start(2) + 800, To: size.Start(2) + 900}, size.Start(2), size.Start(2) + 8, true},
		{Fault{From: size.Start(2) + 800, To: size.Start(2) + 900}, size.Start(3) - 8, size.Start(3), true},
		{Fault{From: size.Start(2) + 800, To: size.Start(2) + 900}, size.Start(3), size.Start(3) + 8, false},
		{Fault{From: size.Start(2) + 800, To: size.Start(2) + 900}, size.Start(2) - 8, size.Start(2), false},
		{Fault{From: open + 80, To: open + 90}, open, open + 80, false},
		{Fault{From: open + 80, To: open + 90}, open + 72, open + 88, true},
		{Fault{From: open + 80, To: open + 90}, open + 90, open + 98, false},
		{Fault{From: open - 80, To: open + 90}, open - LSN(size), open - LSN(size) + 8, true},
		{Fault{From: open - 80, To: open + 90}, open + 80, open + 98, true},
		{Fault{From: open - 80, To: open + 90}, open + 90, open + 98, false},
		{Fault{From: open + 80}, open + 80, open + 81, true},
	} {
		p.dir.SetDamaged([]Fault{test.fault}, open)
		err := p.dir.CheckIntact(1, test.from, test.to)
		if (err != nil) != test.refused {
			t.Errorf("damaged from %s to %s, segment %d is being written: %s to %s: %v, refused %v",
				test.fault.From, test.fault.To, segno, test.from, test.to, err, test.refused)
		}
	}
}
