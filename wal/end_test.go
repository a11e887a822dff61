package wal

import (
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/internal/slow"
)

// buildLog writes records with the given payloads, each carrying the flush position of its time, and
// flushes after each if flush is set.
func buildLog(t testing.TB, d *Dir, at End, flush bool, payloads ...[]byte) []entry {
	t.Helper()
	w := start(t, d, at, WriterConfig{})
	var log []entry
	for _, p := range payloads {
		log = append(log, w.insert(t, withWitness(w.Flushed().Load(), p), flush))
	}
	must(t, w.stop())
	return log
}

// poke returns a function that overwrites bytes of the log, in whichever segment they are.
func poke(t testing.TB, d *Dir) func(at LSN, b []byte) {
	return func(at LSN, b []byte) {
		size := d.Format.SegmentSize
		f, err := d.FS.OpenReadWrite(d.file(size.FileName(1, size.Segno(at))), diskCategory)
		must(t, err)
		_, err = f.WriteAt(b, size.Offset(at))
		must(t, errors.Join(err, f.Close()))
	}
}

func peek(t testing.TB, d *Dir, from, to LSN) []byte {
	t.Helper()
	b := make([]byte, to-from)
	raw := NewRawReader(d, first, nil)
	defer raw.Close()
	for n := 0; n < len(b); {
		k, err := raw.ReadAt(b[n:], from+LSN(n))
		must(t, err)
		n += k
	}
	return b
}

// After a power failure later pages may be there and earlier ones not. Records that knew of no flush
// past the hole do not turn it into corruption; a record that did, does.
func TestHoleInTail(t *testing.T) {
	for _, flush := range []bool{false, true} {
		d := newDir(t, vfs.NewMem())
		var payloads [][]byte
		for range 40 {
			payloads = append(payloads, pattern(900))
		}
		log := buildLog(t, d, emptyLog, flush, payloads...)
		poke(t, d)(emptyLog.LSN+PageSize, make([]byte, PageSize))
		got, _, err := find(d, Scan{Witness: witness})
		_, corrupt := errors.AsType[*CorruptError](err)
		if corrupt != flush || err != nil && !corrupt {
			t.Errorf("flushed after each record %v: %v", flush, err)
		}
		if len(got) == 0 || !slices.Equal(got, log[:len(got)]) {
			t.Errorf("read %v", got)
		}
	}
}

// A value may hold anything, the log's own pages too: what is stored inside a torn record is no
// witness against it.
func TestStoredWALIsNoWitness(t *testing.T) {
	other := newDir(t, vfs.NewMem())
	var payloads [][]byte
	for range 200 {
		payloads = append(payloads, pattern(30))
	}
	far := End{LSN: 0x100000 + 40 + 64, Prev: 0x100028, Timeline: 1}
	log := buildLog(t, other, far, true, payloads...)
	stolen := peek(t, other, log[2].LSN, log[90].End)

	d := newDir(t, vfs.NewMem())
	mine := buildLog(t, d, emptyLog, true, pattern(10))
	buildLog(t, d, End{mine[0].End, mine[0].LSN, 1}, true, append(pattern(2), stolen...))
	poke(t, d)(mine[0].End+40, []byte{0xFF, 0xFF}) // tears the second record
	got, _, err := find(d, Scan{Witness: witness})
	if err != nil || !slices.Equal(got, mine) {
		t.Errorf("read %v, %v, want %v", got, err, mine)
	}
}

// A record may be larger than several segments. Torn, it is a torn tail, though segments behind its
// beginning are in use; once it is cut, nothing of it is left for the next scan to stumble over.
func TestHugeTornRecord(t *testing.T) {
	slow.Test(t)
	for _, torn := range []LSN{0x100400, 0x200000, 0x3F0000, 0x500000, 0x500100} {
		d := newDir(t, vfs.NewMem())
		log := buildLog(t, d, emptyLog, true, pattern(100), pattern(5<<20))
		zero := make([]byte, 0x700000-torn)
		for at := torn; at < 0x700000; at = MinSegmentSize.SegmentStart(at) + 1<<20 {
			n := MinSegmentSize.SegmentStart(at) + 1<<20 - at
			if ok, _ := Exists(d.FS, d.file(MinSegmentSize.FileName(1, MinSegmentSize.Segno(at)))); ok {
				poke(t, d)(at, zero[:n])
			}
		}
		got, end, err := find(d, Scan{Witness: witness, Durable: log[0].End})
		if err != nil || !slices.Equal(got, log[:1]) {
			t.Fatalf("torn at %s: read %v, %v", torn, got, err)
		}
		must(t, ProveTail(d, first, emptyLog.LSN, end.LSN))
		wantLog(t, d, log[:1])
		more := buildLog(t, d, end.End, true, pattern(1000))
		wantLog(t, d, append(log[:1:1], more...))
		if files, _ := d.Segments(); len(files) > 2 {
			t.Errorf("segments left: %v", files)
		}
	}
}

// A segment that is missing inside the log is told by the later ones; after the end it is no matter.
func TestMissingSegment(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	log := buildLog(t, d, emptyLog, true, pattern(900_000), pattern(900_000), pattern(900_000), pattern(900_000), pattern(10))
	must(t, d.FS.Remove(d.file(MinSegmentSize.FileName(1, 3))))
	_, _, err := find(d, Scan{})
	if missing, ok := errors.AsType[*MissingError](err); !ok || missing.Segment != MinSegmentSize.FileName(1, 3) {
		t.Errorf("a hole gives %v", err)
	}
	must(t, d.FS.Remove(d.file(MinSegmentSize.FileName(1, 4))))
	got, _, err := find(d, Scan{})
	if err != nil || !slices.Equal(got, log[:2]) {
		t.Errorf("without the later segments: %v, %v", got, err)
	}
	_, _, err = find(d, Scan{Durable: log[3].End})
	if _, ok := errors.AsType[*CorruptError](err); !ok {
		t.Errorf("without segments known to have been durable: %v", err)
	}
}

// Damage in a segment that has a used successor is corruption without further proof.
func TestCorruptionBeforeLaterSegment(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	log := buildLog(t, d, emptyLog, false, pattern(500_000), pattern(100), pattern(600_000), pattern(10))
	poke(t, d)(log[1].LSN+44, []byte{0})
	_, _, err := find(d, Scan{})
	if c, ok := errors.AsType[*CorruptError](err); !ok || c.At != log[1].LSN {
		t.Errorf("got %v, want corruption at %s", err, log[1].LSN)
	}
}

// Recycled segments behind the end, and recycled bytes behind the end of the last page, are not WAL.
func TestRecycledSegments(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	log := buildLog(t, d, emptyLog, true, pattern(900_000), pattern(900_000), pattern(900_000), pattern(10))
	last := MinSegmentSize.Segno(log[3].End)
	removed, recycled, err := d.RemoveBefore(3, nothingNeeded, 1, last, last+1)
	must(t, err)
	if removed != 1 || recycled != 1 || d.RemovedBelow() != 3 {
		t.Errorf("removed %d, recycled %d, below %d", removed, recycled, d.RemovedBelow())
	}
	from := log[3]
	// Run on into the recycled segment and end in its middle.
	more := buildLog(t, d, End{from.End, from.LSN, 1}, true, pattern(800_000), pattern(333))
	got, end, err := find(d, Scan{Start: from.LSN, Prev: log[2].LSN})
	must(t, err)
	if want := append([]entry{from}, more...); !slices.Equal(got, want) {
		t.Errorf("read %v (%s), want %v", got, end.Reason, want)
	}
	raw := NewRawReader(d, first, nil)
	if _, err := raw.ReadAt(make([]byte, 10), emptyLog.LSN); err == nil || err.Error() != "requested WAL segment 000000010000000000000001 has already been removed" {
		t.Errorf("reading a removed segment: %v", err)
	}
}
