package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/internal/slow"
)

// A specimen is a log of 64 KiB to be damaged, and what is known of it without reading it. Its segments
// have two pages, so that it has all there is: page and segment headers, records over both, a record
// longer than a page, a change of timelines inside a page, records that were flushed one by one, and
// such that were flushed together.
type specimen struct {
	history History
	log     []entry
	ends    []LSN // of each record without its padding
	flushed []LSN // that each record says
	bytes   []byte
}

const specimenSize = 64 << 10

var (
	tinyFormat = Format{Version: PG15, SegmentSize: 2 * PageSize, SystemID: testSystemID}
	tinyStart  = End{LSN: LSN(tinyFormat.SegmentSize), Timeline: 1}
)

// tinyDir is an empty log of tiny segments.
func tinyDir(t testing.TB) *Dir {
	t.Helper()
	fsys := vfs.NewMem()
	must(t, fsys.MkdirAll("/pg_wal", 0o755))
	d := NewDir(fsys, "/pg_wal", tinyFormat)
	must(t, d.Allocate(1, 1))
	return d
}

func newSpecimen(t testing.TB) *specimen {
	t.Helper()
	d := tinyDir(t)
	s := &specimen{history: first}
	rng := rand.New(rand.NewPCG(64, 1024))
	s.fill(t, d, rng, tinyStart, 30<<10)
	last := s.log[len(s.log)-1]
	must(t, d.CopyHead(1, 2, last.End))
	s.history = first.Child(2, last.End, "test")
	s.fill(t, d, rng, End{LSN: last.End, Prev: last.LSN, Timeline: 2}, specimenSize-100)
	raw := NewRawReader(d, s.history, nil)
	defer raw.Close()
	s.bytes = make([]byte, specimenSize)
	for n := 0; n < len(s.bytes); {
		k, err := raw.ReadAt(s.bytes[n:], tinyStart.LSN+LSN(n))
		must(t, err)
		n += k
	}
	return s
}

// fill writes records until the log is so long.
func (s *specimen) fill(t testing.TB, d *Dir, rng *rand.Rand, at End, size LSN) {
	t.Helper()
	w := start(t, d, at, WriterConfig{})
	long := at == tinyStart
	for to := tinyStart.LSN + size; at.LSN < to; {
		n := min(rng.IntN(150), int(to-at.LSN))
		switch {
		case long && at.LSN > to-12<<10:
			n, long = 9<<10, false
		case rng.IntN(20) == 0:
			n = min(rng.IntN(2*PageSize), int(to-at.LSN))
		}
		flushed := w.Flushed().Load()
		p := Prepare(RmgrLongship, 0x10, withWitness(flushed, pattern(n)))
		pad := LSN(-p.Size() & 7)
		from, end, err := w.Insert(p, 7)
		must(t, err)
		if rng.IntN(3) > 0 {
			must(t, w.Flush(t.Context(), end))
		}
		s.log = append(s.log, entry{LSN: from, End: end, Data: string(withWitness(flushed, pattern(n)))})
		s.ends, s.flushed = append(s.ends, end-pad), append(s.flushed, flushed)
		at.LSN = end
	}
	must(t, w.stop())
}

// from is where the bytes begin that are read for record i: page headers belong to the record behind
// which, or in which, they stand.
func (s *specimen) from(i int) LSN {
	if i == 0 {
		return tinyStart.LSN
	}
	return s.log[i-1].End
}

// end is the end of the log.
func (s *specimen) end() LSN { return s.log[len(s.log)-1].End }

// A patient is a copy of a specimen that one goroutine damages.
type patient struct {
	*specimen
	t     *testing.T
	dir   *Dir
	files []vfs.File
}

func (s *specimen) patient(t *testing.T) *patient { return s.patientIn(t, tinyDir(t)) }

func (s *specimen) patientIn(t *testing.T, d *Dir) *patient {
	p := &patient{specimen: s, t: t, dir: d}
	size := tinyFormat.SegmentSize
	for segno := size.Segno(tinyStart.LSN); segno <= size.Segno(s.end()); segno++ {
		tli := s.history.FileTimeline(segno, size)
		must(t, p.dir.Allocate(tli, segno))
		f, err := p.dir.FS.OpenReadWrite(p.dir.file(size.FileName(tli, segno)), diskCategory)
		must(t, err)
		p.files = append(p.files, f)
	}
	p.write(tinyStart.LSN, slices.Clone(s.bytes))
	return p
}

// write overwrites bytes of the log, and b.
func (p *patient) write(at LSN, b []byte) {
	size := tinyFormat.SegmentSize
	for len(b) > 0 {
		n := min(len(b), int(int64(size)-size.Offset(at)))
		_, err := p.files[size.Segno(at)-1].WriteAt(b[:n], size.Offset(at))
		must(p.t, err)
		b, at = b[n:], at+LSN(n)
	}
}

// scan looks for the end of the log. It reads from the record before the one given.
func (p *patient) scan(record int, s Scan) (read int, err error) {
	s.Dir, s.History, s.Start = p.dir, p.history, tinyStart.LSN
	if read = max(record-1, 0); read > 0 {
		s.Start, s.Prev = p.log[read].LSN, p.log[read-1].LSN
	}
	s.Each = func(r Record) error {
		if read == len(p.log) || r.LSN != p.log[read].LSN || string(r.Data) != p.log[read].Data {
			p.t.Errorf("read a record at %s that nobody wrote", r.LSN)
		}
		read++
		return nil
	}
	_, err = s.Find()
	return read, err
}

// damage is what is wrong with a patient: bytes that are not what they were.
type damage struct {
	what     func() string
	from, to LSN                 // all of it lies between
	broken   func(a, b LSN) bool // whether any of the bytes from a to b are
}

// hit is the first record that cannot be read, len(log) if all can.
func (p *patient) hit(d damage) int {
	for i := range p.log {
		if p.from(i) < d.to && p.ends[i] > d.from && d.broken(p.from(i), p.ends[i]) {
			return i
		}
	}
	return len(p.log)
}

// known is how far the log is known to have been durable although record bad cannot be read: a segment
// is begun when those before it are durable, and a record behind the damage says what was durable when
// it was written. What stands on a page whose header is broken may be found, or not: up to sure it is
// known in any case, beyond most it is not.
func (p *patient) known(bad int, d damage, witness bool) (sure, most LSN) {
	size := tinyFormat.SegmentSize
	for segno := size.Segno(d.from) + 1; size.Start(segno) < p.end(); segno++ {
		if at := size.Start(segno); !d.broken(at, at+longPageHeaderSize) {
			sure = at
		}
	}
	most = sure
	for i := bad + 1; i < len(p.log) && witness; i++ {
		if d.broken(p.log[i].LSN, p.ends[i]) {
			continue
		}
		most = max(most, p.flushed[i])
		if page := p.log[i].LSN &^ (PageSize - 1); !d.broken(page, page+LSN(pageHeaderSize(page, size))) {
			sure = max(sure, p.flushed[i])
		}
	}
	return sure, most
}

// check has the log read by who knows what records say, and compares what becomes of it with what should:
// damage to what is known to have been durable is corruption, damage to nothing but what is not is a torn
// tail. A record of which only a part is known to have been durable may be called either: nobody was
// told that it is there.
func (p *patient) check(d damage) {
	bad := p.hit(d)
	if bad < len(p.log) {
		p.verdict(d, bad, Scan{Witness: witness})
		return
	}
	if read, err := p.scan(bad, Scan{Witness: witness, Durable: p.end()}); err != nil || read != bad {
		p.t.Errorf("%s: nothing is broken that is read, but %d of %d records are, %v", d.what(), read, bad, err)
	}
}

// checkTold is check for who knows nothing but what a control file says: that the log was durable up to
// the record that is broken, and up to its end.
func (p *patient) checkTold(d damage) {
	if bad := p.hit(d); bad < len(p.log) {
		p.verdict(d, bad, Scan{Durable: p.from(bad)})
		p.verdict(d, bad, Scan{Durable: p.log[bad].End})
	}
}

func (p *patient) verdict(d damage, bad int, s Scan) {
	sure, most := p.known(bad, d, s.Witness != nil)
	sure, most = max(sure, s.Durable), max(most, s.Durable)
	read, err := p.scan(bad, s)
	corrupt, ok := errors.AsType[*CorruptError](err)
	fail := func(format string, args ...any) {
		p.t.Errorf("%s, durable to %s, witnesses %v: %s", d.what(), s.Durable, s.Witness != nil, fmt.Sprintf(format, args...))
	}
	switch {
	case err != nil && !ok:
		fail("%v", err)
	case read != bad:
		fail("%d records are read, want %d", read, bad)
	case sure >= p.log[bad].End && !ok:
		fail("%v is cut as a torn tail, but was durable to %s", p.log[bad], sure)
	case most <= d.from && ok:
		fail("called corrupt, but only %s was known to be durable: %v", most, err)
	case ok && (corrupt.At < p.from(bad) || corrupt.At >= p.log[bad].End || corrupt.Segment == ""):
		fail("placed at %s in %q, but %v is damaged", corrupt.At, corrupt.Segment, p.log[bad])
	}
}

// inParallel runs do for 0 to n-1 on as many patients as there are processors.
func (s *specimen) inParallel(t *testing.T, n int, do func(p *patient, i int)) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // reading begins anew a million times
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		p := s.patient(t)
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && !t.Failed(); i = int(next.Add(1)) - 1 {
				do(p, i)
			}
		})
	}
	wg.Wait()
}

// meaningless reports whether nobody reads the bit: the flag that PostgreSQL's archivers set, what says
// how a record goes on if none does, and the header's padding.
func (s *specimen) meaningless(at LSN, bit int) bool {
	page := at &^ (PageSize - 1)
	continued := s.bytes[page-tinyStart.LSN+2]&pageFirstIsContrecord != 0
	switch i := at - page; {
	case i == 2:
		return 1<<bit == pageBackupRemovable || 1<<bit == pageFirstIsOverwriteContrecord && !continued
	case i >= 16 && i < 20:
		return !continued
	default:
		return i >= 20 && i < 24
	}
}

// Each of the 524,288 bits of a log is flipped.
func TestEveryBitOfALog(t *testing.T) {
	slow.Test(t)
	s := newSpecimen(t)
	s.inParallel(t, len(s.bytes), func(p *patient, i int) {
		at := tinyStart.LSN + LSN(i)
		for bit := range 8 {
			p.write(at, []byte{s.bytes[i] ^ 1<<bit})
			broken := func(a, b LSN) bool { return a <= at && at < b && !s.meaningless(at, bit) }
			d := damage{func() string { return fmt.Sprintf("bit %d of %s", bit, at) }, at, at + 1, broken}
			p.check(d)
			if bit == i%8 {
				p.checkTold(d)
			}
		}
		p.write(at, []byte{s.bytes[i]})
	})
}

// The log is cut at each of its bytes: what is behind was never written, and is zero.
func TestCutAtEveryByte(t *testing.T) {
	slow.Test(t)
	s := newSpecimen(t)
	const piece = 1 << 10
	s.inParallel(t, specimenSize/piece, func(p *patient, i int) {
		first, behind := i*piece, (i+1)*piece
		p.write(tinyStart.LSN+LSN(behind), make([]byte, specimenSize-behind))
		for cut := behind - 1; cut >= first; cut-- {
			at := tinyStart.LSN + LSN(cut)
			p.write(at, []byte{0})
			lost := slices.IndexFunc(s.bytes[cut:], func(b byte) bool { return b != 0 })
			if from := at + LSN(lost); lost >= 0 {
				what := func() string { return fmt.Sprintf("zero from %s", at) }
				d := damage{what, from, p.end(), func(_, b LSN) bool { return b > from }}
				p.check(d)
				p.checkTold(d)
			}
		}
		p.write(tinyStart.LSN+LSN(first), slices.Clone(s.bytes[first:]))
	})
}

// A file ends at any of its bytes, and there is none behind it. That is corruption whatever it is cut
// from: no crash shortens a file, since segments are durable at their full size before they are used.
func TestShortSegment(t *testing.T) {
	slow.Test(t)
	p := newSpecimen(t).patient(t)
	size := tinyFormat.SegmentSize
	files, err := p.dir.Segments()
	must(t, err)
	for _, f := range slices.Backward(files) {
		from := int(size.Start(f.Segno) - tinyStart.LSN)
		if from >= specimenSize {
			must(t, p.dir.FS.Remove(p.dir.file(f.Name)))
			continue
		}
		record := slices.IndexFunc(p.log, func(e entry) bool { return e.End > size.Start(f.Segno) })
		for n := int(size) - 1; n >= 0; n-- {
			p.shorten(f.Name, p.bytes[from:from+n])
			_, err := p.scan(record, Scan{})
			if c, ok := errors.AsType[*CorruptError](err); !ok || c.Segment != f.Name || size.Segno(c.At) > f.Segno {
				t.Fatalf("segment %s has %d bytes: %v", f.Name, n, err)
			}
		}
		must(t, p.dir.FS.Remove(p.dir.file(f.Name)))
	}
}

// shorten has a segment hold b and no more.
func (p *patient) shorten(name string, b []byte) {
	f, err := p.dir.FS.Create(p.dir.file(name), diskCategory)
	must(p.t, err)
	_, err = f.Write(slices.Clone(b))
	must(p.t, errors.Join(err, f.Close()))
}

// stale is what a recycled file holds in place of the bytes at at: those of an older segment.
func (s *specimen) stale(at, to LSN) []byte {
	size := LSN(tinyFormat.SegmentSize)
	b := make([]byte, to-at)
	if at >= tinyStart.LSN+size {
		copy(b, s.bytes[at-size-tinyStart.LSN:])
	}
	return b
}

// Each sector of a log, and each run of sectors up to four, is zero, or holds what was there before the
// file was recycled.
func TestEverySector(t *testing.T) {
	slow.Test(t)
	s := newSpecimen(t)
	for _, sector := range []LSN{512, 4096} {
		s.inParallel(t, 8*len(s.bytes)/int(sector), func(p *patient, i int) {
			from := tinyStart.LSN + LSN(i/8)*sector
			to := min(from+LSN(i%4+1)*sector, tinyStart.LSN+specimenSize)
			b := make([]byte, to-from)
			if i%8 >= 4 {
				b = s.stale(from, to)
			}
			d := s.differ(func() string { return fmt.Sprintf("sectors from %s to %s, kind %d", from, to, i%8/4) }, from, b)
			p.write(from, slices.Clone(b))
			p.check(d)
			p.checkTold(d)
			p.write(from, slices.Clone(s.bytes[from-tinyStart.LSN:to-tinyStart.LSN]))
		})
	}
}

// differ is the damage that is done by putting b at at.
func (s *specimen) differ(what func() string, at LSN, b []byte) damage {
	to := at + LSN(len(b))
	return damage{what, at, to, func(x, y LSN) bool {
		x, y = max(x, at), min(y, to)
		return x < y && string(b[x-at:y-at]) != string(s.bytes[x-tinyStart.LSN:y-tinyStart.LSN])
	}}
}

// The power fails while the tail of a log is being written: of the sectors behind what was flushed some
// are new, and others what they were. Whatever the mixture, nothing flushed is missing, and it is never
// taken for corruption, on a primary, whose records know what was flushed, and on a standby.
func TestTornSectors(t *testing.T) {
	slow.Test(t)
	s := newSpecimen(t)
	size := tinyFormat.SegmentSize
	s.inParallel(t, 4*len(s.log), func(p *patient, i int) {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		last := i / 4
		end := s.log[last].End
		flushed := max(s.flushed[last], size.SegmentStart(end-1)) // the segment before is durable
		sector := []LSN{512, 4096}[i%2]
		for at := flushed; at < tinyStart.LSN+specimenSize; {
			next := min(at&^(sector-1)+sector, tinyStart.LSN+specimenSize)
			old := make([]byte, next-at)
			if i%4 >= 2 && at > end {
				old = s.stale(at, next)
			}
			if at >= end || rng.IntN(2) == 0 {
				p.write(at, old)
			} else if next > end {
				p.write(end, make([]byte, next-end))
			}
			at = next
		}
		for _, scan := range []Scan{{Witness: witness, Durable: s.endAt(flushed)}, {Durable: s.endAt(flushed)}} {
			read, err := p.scan(0, scan)
			if err != nil || read > last+1 || read < len(s.log) && s.log[read].End <= flushed {
				t.Errorf("seed %d, flushed to %s of %s: %d records, %v", i, flushed, end, read, err)
			}
		}
		p.write(flushed, slices.Clone(s.bytes[flushed-tinyStart.LSN:]))
	})
}

// endAt is the end of the last record that ends at or before l.
func (s *specimen) endAt(l LSN) LSN { return lastEndAt(s.log, l) }
