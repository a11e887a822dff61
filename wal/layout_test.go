package wal

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/longship-db/longship/internal/slow"
)

// Records of every interesting length at every possible place of a page, in the middle of a segment
// and on its last page, are laid out as the reference says and come back from the decoder.
func TestLayoutEveryOffset(t *testing.T) {
	slow.Test(t)
	d := newDir(t, vfs.NewMem())
	must(t, d.Allocate(1, 2))
	must(t, d.Allocate(1, 3))
	for _, page := range []LSN{0x100000 + PageSize, 0x200000 - PageSize} {
		next := PageSize - pageHeaderSize(page+PageSize, MinSegmentSize)
		for off := LSN(shortPageHeaderSize); off <= PageSize; off += 8 {
			if off > 100 && off < PageSize-100 && off%56 != 0 {
				continue // the middle of a page is like the rest of its middle
			}
			room := int(PageSize - off)
			for _, n := range []int{
				24, 27, room - 8, room - 1, room, room + 1, room + 8, room + 16, room + 24,
				room + next - 1, room + next, room + next + 1, room + next + PageSize,
			} {
				if p := prepareSize(n); p != nil {
					checkLayout(t, d, page+off, p)
				}
			}
		}
	}
}

// checkLayout inserts p and a small record after it at position at.
func checkLayout(t *testing.T, d *Dir, at LSN, p *Prepared) {
	t.Helper()
	prev := at - 32
	w := NewWriter(d, End{LSN: at, Prev: prev, Timeline: 1}, WriterConfig{})
	w.allocated.Store(0x400000)
	m := newModel(at, prev)
	var want []entry
	for _, p := range []*Prepared{p, Prepare(RmgrLongship, 0x20, []byte("next"))} {
		start, end, err := w.Insert(p, 9)
		must(t, err)
		wantStart, wantEnd := m.insert(p, 9)
		if start != wantStart || end != wantEnd {
			t.Fatalf("%d bytes at %s went to [%s, %s), want [%s, %s)", p.Size(), at, start, end, wantStart, wantEnd)
		}
		data, err := mainData(p.bytes[recordHeaderSize:])
		must(t, err)
		want = append(want, entry{LSN: start, End: end, Data: string(data)})
	}
	got := readBuffer(t, w, at)
	if !bytes.Equal(got, m.bytes) {
		t.Fatalf("%d bytes at %s: the log differs from the model\n got %x\nwant %x", p.Size(), at, got, m.bytes)
	}
	records, err := decode(NewDecoder(testFormat, at, prev), got, len(got))
	must(t, err)
	if len(records) != 2 || records[0] != want[0] || records[1] != want[1] {
		t.Fatalf("decoded %v, want %v", records, want)
	}
}

// readBuffer reads everything from at to the inserted position out of the writer's buffer.
func readBuffer(t *testing.T, w *Writer, at LSN) []byte {
	t.Helper()
	b := make([]byte, w.Inserted().Load()-at)
	for n := 0; n < len(b); {
		k, ok := w.ReadBuffered(b[n:], at+LSN(n))
		if !ok {
			t.Fatalf("%s is not in the buffer", at+LSN(n))
		}
		n += k
	}
	return b
}

// What reaches the files is what the model says, whatever the sizes and wherever flushes fall.
func TestLayoutOnDisk(t *testing.T) {
	slow.Test(t)
	d := newDir(t, vfs.NewMem())
	w := start(t, d, emptyLog, WriterConfig{Buffers: 2 * blockSize})
	m := newModel(emptyLog.LSN, 0)
	rng := rand.New(rand.NewPCG(1, 2))
	var want []entry
	for i := range 3000 {
		data := randomData(rng)
		if i%500 == 250 {
			data = pattern(3*blockSize + i) // larger than the buffer
		}
		e := w.insert(t, data, rng.IntN(10) == 0)
		m.insert(Prepare(RmgrLongship, 0x10, data), 7)
		want = append(want, e)
	}
	must(t, w.stop())
	wantLog(t, d, want)
	got := make([]byte, len(m.bytes))
	raw := NewRawReader(d, first, nil)
	defer raw.Close()
	for n := 0; n < len(got); {
		k, err := raw.ReadAt(got[n:], emptyLog.LSN+LSN(n))
		must(t, err)
		n += k
	}
	if !bytes.Equal(got, m.bytes) {
		t.Error("the files differ from the model")
	}
	if full := w.Stats().BuffersFull.Load(); full == 0 {
		t.Error("the buffer was never full")
	}
}

// A SWITCH ends its segment; the rest is zero, page headers included, even in a recycled file.
// The next record is the first of the next segment and points back to the SWITCH.
func TestSwitch(t *testing.T) {
	for _, fill := range []int{0, 1000, 200_000, int(MinSegmentSize) - 60, 1<<20 - 127*shortPageHeaderSize - longPageHeaderSize - 24} {
		d := newDir(t, vfs.NewMem())
		spoil(t, d, 1)
		w := start(t, d, emptyLog, WriterConfig{Buffers: 2 * blockSize})
		var want []entry
		if p := prepareSize(fill); p != nil {
			s, e, err := w.Insert(p, 0)
			must(t, err)
			data, _ := mainData(p.bytes[recordHeaderSize:])
			want = append(want, entry{s, e, string(data)})
		}
		before := w.Inserted().Load()
		end, err := w.Switch()
		must(t, err)
		at := w.Inserted().Load()
		if before == emptyLog.LSN {
			if end != before || at != before {
				t.Errorf("a switch at a segment's start moved the log from %s to %s", before, at)
			}
		} else {
			if at%LSN(MinSegmentSize) != 0 || end > at {
				t.Errorf("after a switch at %s the log stands at %s, record end %s", before, at, end)
			}
			want = append(want, entry{w.Prev(), at, ""})
		}
		again, err := w.Switch()
		must(t, err)
		if again != at {
			t.Errorf("a second switch moved the log from %s to %s", at, again)
		}
		want = append(want, w.insert(t, []byte("after"), true))
		must(t, w.stop())
		wantLog(t, d, want)
		if before != emptyLog.LSN {
			wantZeros(t, d, end, at)
		}
	}
}

// spoil fills a segment with bytes as a recycled file has them.
func spoil(t *testing.T, d *Dir, segno uint64) {
	t.Helper()
	f, err := d.FS.OpenReadWrite(d.file(d.Format.SegmentSize.FileName(1, segno)), diskCategory)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0xAA}, int(d.Format.SegmentSize)), 0)
	must(t, err)
	must(t, f.Close())
}

func wantZeros(t *testing.T, d *Dir, from, to LSN) {
	t.Helper()
	raw := NewRawReader(d, first, nil)
	defer raw.Close()
	b := make([]byte, to-from)
	n, err := raw.ReadAt(b, from)
	must(t, err)
	if n != len(b) || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("[%s, %s) is not zero", from, to)
	}
}

// A record above the limit is refused and leaves nothing behind.
func TestRecordTooLarge(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	w := NewWriter(d, emptyLog, WriterConfig{})
	huge, err := unix.Mmap(-1, 0, MaxRecordSize+1, unix.PROT_READ, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	must(t, err)
	defer unix.Munmap(huge)
	if _, _, err := w.Insert(&Prepared{bytes: huge}, 0); err != ErrRecordTooLarge {
		t.Errorf("Insert = %v, want %v", err, ErrRecordTooLarge)
	}
	if w.Inserted().Load() != emptyLog.LSN {
		t.Error("a refused record moved the log")
	}
}

// Reading by raw bytes gives the same log from the buffer and from the files.
func TestRawReaderBufferAndFile(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	w := start(t, d, emptyLog, WriterConfig{Buffers: 2 * blockSize})
	for range 40 {
		w.insert(t, pattern(50_000), false)
	}
	end := w.Inserted().Load()
	must(t, w.Flush(context.Background(), end))
	var logs [2][]byte
	for i, buf := range []Buffered{w, nil} {
		raw := NewRawReader(d, first, buf)
		for at := emptyLog.LSN; at < end; {
			b := make([]byte, min(100_000, end-at))
			n, err := raw.ReadAt(b, at)
			must(t, err)
			logs[i] = append(logs[i], b[:n]...)
			at += LSN(n)
		}
		must(t, raw.Close())
	}
	if !bytes.Equal(logs[0], logs[1]) {
		t.Error("buffer and files differ")
	}
	if _, ok := w.ReadBuffered(make([]byte, 1), emptyLog.LSN); ok {
		t.Error("the first block is still in a buffer of two")
	}
	must(t, w.stop())
}
