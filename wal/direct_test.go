package wal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// newDirectDir is newDir on a disk that is written past the page cache.
func newDirectDir(t testing.TB) *Dir {
	t.Helper()
	d := newDir(t, vfs.Default)
	if err := d.UseDirect(); err != nil {
		t.Skipf("this file system cannot be written past the page cache: %v", err)
	}
	if names, err := vfs.Default.List(d.Path); err != nil || len(names) != 1 {
		t.Fatalf("UseDirect has left %v, %v", names, err)
	}
	return d
}

// Where the log is not on the operating system's disk, or the disk refuses, nothing goes past the page cache.
func TestUseDirect(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	must(t, d.UseDirect())
	if d.direct {
		t.Error("a file system in memory is written past the page cache")
	}
	d = NewDir(vfs.Default, "/proc", testFormat) // no files can be made there
	if err := d.UseDirect(); err == nil || d.direct {
		t.Errorf("UseDirect = %v, direct %t", err, d.direct)
	}
}

// However the log has come into a file that held other things, in large pieces and small, each synced at once or later,
// from whatever position on and by one writer after the other, the file holds the log, and zeros up to the end of
// its last page. What has been reported flushed can be read while more is written: from memory and from the file.
func TestDirectWrites(t *testing.T) {
	d := newDirectDir(t)
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		segno := 2 + seed*4
		for i := range uint64(4) {
			recycled(t, d, segno+i)
		}
		at := MinSegmentSize.Start(segno) + LSN(rng.IntN(3*PageSize))
		begin, content := at, []byte(nil)
		for range 4 {
			content = append(content, writeSomehow(t, d, rng, at)...)
			at = begin + LSN(len(content))
		}
		if got := peek(t, d, begin, at); !bytes.Equal(got, content) {
			t.Fatalf("seed %d: the files do not hold the log", seed)
		}
		if pageEnd := (at + PageSize - 1) &^ (PageSize - 1); firstNonZeroAt(peek(t, d, at, pageEnd)) >= 0 {
			t.Fatalf("seed %d: behind the log's end at %s the page is not zero", seed, at)
		}
	}
}

// writeSomehow continues the log at at by a writer of its own, and returns what that has written.
func writeSomehow(t *testing.T, d *Dir, rng *rand.Rand, at LSN) (content []byte) {
	t.Helper()
	w := NewRawWriter(d, History{Timeline: 1}, at, SyncFdatasync)
	defer func() { must(t, w.Close()) }()
	read := func(buf Buffered) {
		raw := NewRawReader(d, first, buf)
		defer func() { must(t, raw.Close()) }()
		from := LSN(rng.IntN(len(content)))
		b := make([]byte, len(content)-int(from))
		n, err := raw.ReadAt(b, at+from)
		must(t, err)
		if !bytes.Equal(b[:n], content[from:][:n]) {
			t.Fatalf("at %s the log reads differently, from a buffer: %t", at+from, buf != nil)
		}
	}
	for range 60 {
		p := make([]byte, 1+rng.IntN(500))
		switch rng.IntN(20) {
		case 0:
			p = make([]byte, 1+rng.IntN(3*maxDirect))
		case 1: // up to a boundary
			p = make([]byte, directBlock-int(at+LSN(len(content)))%directBlock)
		}
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		var err error
		if rng.IntN(8) == 0 {
			_, err = w.Write(p)
		} else {
			_, err = w.WriteDurably(p)
		}
		must(t, err)
		if content = append(content, p...); rng.IntN(3) == 0 {
			read(nil)
			read(w)
		}
	}
	at2, err := w.Flush()
	must(t, err)
	if want := at + LSN(len(content)); at2 != want || w.Written().Load() != want {
		t.Fatalf("written %s, flushed %s, want %s", w.Written().Load(), at2, want)
	}
	if n, ok := w.ReadBuffered(make([]byte, 10), w.Written().Load()-1); !ok {
		t.Fatalf("what was written last is not in memory: %d", n)
	}
	return content
}

// recycled makes a segment that is full of old bytes.
func recycled(t *testing.T, d *Dir, segno uint64) {
	t.Helper()
	must(t, os.WriteFile(d.file(MinSegmentSize.FileName(1, segno)), bytes.Repeat([]byte{0xee}, int(MinSegmentSize)), 0o600))
}

func firstNonZeroAt(b []byte) int { return slices.IndexFunc(b, func(c byte) bool { return c != 0 }) }

// A watched file counts its syncs, and may fail them.
type watched struct {
	vfs.File
	syncs int
	begun chan struct{} // if set, a sync says so there, and waits for its result
	end   chan error
}

func (f *watched) SyncData() error {
	f.syncs++
	if f.begun != nil {
		f.begun <- struct{}{}
		return <-f.end
	}
	return f.File.SyncData()
}

// watchedWriter is a writer to which a small piece has been written past the page cache.
func watchedWriter(t *testing.T) (*RawWriter, *watched) {
	t.Helper()
	w := NewRawWriter(newDirectDir(t), History{Timeline: 1}, emptyLog.LSN, SyncFdatasync)
	_, err := w.WriteDurably(pattern(1000))
	must(t, err)
	d := w.sink.file.(*directFile)
	f := &watched{File: d.File}
	d.File = f
	return w, f
}

// A small piece needs no sync. It does after one that has been written and not synced; and a large one does.
func TestDirectWriteSyncsWhatIsNot(t *testing.T) {
	w, f := watchedWriter(t)
	for _, step := range []struct {
		write func([]byte) (int, error)
		size  int
		syncs int
	}{
		{w.WriteDurably, 1000, 0},
		{w.Write, 1000, 0},
		{w.WriteDurably, 1000, 1},
		{w.WriteDurably, maxDirect, 1},
		{w.WriteDurably, maxDirect + 1, 2},
		{w.WriteDurably, 1000, 2},
	} {
		if _, err := step.write(pattern(step.size)); err != nil || f.syncs != step.syncs {
			t.Errorf("%d bytes: %v, after %d syncs, want %d", step.size, err, f.syncs, step.syncs)
		}
	}
	must(t, w.Close())
}

// A small piece that completes its segment, or goes on in the next, leaves it synced and closed, as any does.
func TestDirectWriteCompletesSegment(t *testing.T) {
	for _, over := range []int{0, 1, 5000} {
		w, f := watchedWriter(t)
		content := pattern(int(MinSegmentSize) + over)
		_, err := w.Write(content[1000 : MinSegmentSize-100])
		must(t, err)
		_, err = w.Flush()
		must(t, err)
		_, err = w.WriteDurably(content[MinSegmentSize-100:])
		must(t, err)
		if open := w.sink.file != nil; f.syncs != 2 || open != (over > 0) {
			t.Errorf("%d bytes over the end: %d syncs, want 2; a file is open: %t", over, f.syncs, open)
		}
		must(t, w.Close())
		if got := peek(t, w.dir, emptyLog.LSN, emptyLog.LSN+LSN(len(content))); !bytes.Equal(got, content) {
			t.Errorf("%d bytes over the end: the files do not hold the log", over)
		}
	}
}

// A small piece waits for a sync under way: if that fails, it has failed too, and so has all that comes after.
func TestDirectWriteDuringFailingSync(t *testing.T) {
	w, f := watchedWriter(t)
	_, err := w.Write(pattern(1000))
	must(t, err)
	f.begun, f.end = make(chan struct{}), make(chan error)
	synced, written := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.Flush()
		synced <- err
	}()
	<-f.begun
	go func() {
		_, err := w.WriteDurably(pattern(1000))
		written <- err
	}()
	select {
	case err := <-written:
		f.end <- nil
		t.Fatalf("written durably while a sync is under way: %v", err)
	case <-time.After(20 * time.Millisecond): // more than it takes; on a machine where it takes longer, nothing is noticed
	}
	f.end <- syscall.EIO
	for _, done := range []chan error{synced, written} {
		if err := <-done; !IsFatal(err) {
			t.Errorf("got %v, want a fatal error", err)
		}
	}
	if _, err := w.WriteDurably(pattern(10)); !IsFatal(err) || w.Flushed().Load() != emptyLog.LSN+1000 {
		t.Errorf("afterwards: %v, flushed %s", err, w.Flushed().Load())
	}
	must(t, w.Close())
}

// A failed write past the page cache is as final as a failed sync.
func TestDirectWriteFailureIsFinal(t *testing.T) {
	w, _ := watchedWriter(t)
	d := w.sink.file.(*directFile)
	must(t, d.direct.Close())
	for range 2 {
		if _, err := w.WriteDurably(pattern(10)); !IsFatal(err) || !errors.Is(err, syscall.EBADF) {
			t.Errorf("WriteDurably = %v, want a fatal error", err)
		}
		if _, err := w.Write(pattern(10)); !IsFatal(err) {
			t.Errorf("Write = %v, want a fatal error", err)
		}
		if at, err := w.Flush(); !IsFatal(err) || at != emptyLog.LSN+1000 {
			t.Errorf("Flush = %s, %v, want a fatal error", at, err)
		}
	}
}

// The flusher writes past the page cache what is small: the time that takes is that of a sync.
func TestFlusherWritesDirectly(t *testing.T) {
	d := newDirectDir(t)
	w := start(t, d, emptyLog, WriterConfig{})
	var log []entry
	for range 300 {
		log = append(log, w.insert(t, pattern(200), true))
	}
	s := w.Stats()
	if s.WriteTime.Load() != 0 || s.SyncTime.Load() == 0 || s.Writes.Load() != 300 || s.Syncs.Load() != 300 {
		t.Errorf("%d writes in %d ns, %d syncs in %d ns", s.Writes.Load(), s.WriteTime.Load(), s.Syncs.Load(), s.SyncTime.Load())
	}
	log = append(log, w.insert(t, pattern(2*maxDirect), true), w.insert(t, pattern(200), true))
	if s.WriteTime.Load() == 0 {
		t.Error("a large piece has not been written through the page cache")
	}
	must(t, w.stop())
	wantLog(t, d, log)
}

func BenchmarkWriteDurably(b *testing.B) {
	for _, direct := range []bool{false, true} {
		b.Run(map[bool]string{false: "cached", true: "direct"}[direct], func(b *testing.B) {
			d := newDir(b, vfs.Default)
			if direct {
				d = newDirectDir(b)
			}
			w := NewRawWriter(d, History{Timeline: 1}, emptyLog.LSN, SyncFdatasync)
			p := pattern(1000)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.WriteDurably(p); err != nil {
					b.Fatal(err)
				}
			}
			must(b, w.Close())
		})
	}
}
