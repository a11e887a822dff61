package wal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Many sessions insert and wait; senders read the newest bytes from a buffer that wraps round many
// times, or from the files when they fall behind; every one of them decodes the same log, which is
// the one on disk.
func TestConcurrentInsertAndRead(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	var w *running
	w = start(t, d, emptyLog, WriterConfig{Buffers: 2 * blockSize, OnSegment: func(uint64) { must(t, w.Preallocate()) }})
	var end atomic.Uint64 // of the log, once all inserts are done
	var inserted sync.Map
	var sessions, readers sync.WaitGroup
	logs := make([][]entry, 3)
	for i := range logs {
		readers.Go(func() { logs[i] = readToEnd(t, w, &end, i) })
	}
	for s := range uint64(4) {
		sessions.Go(func() {
			rng := rand.New(rand.NewPCG(s, s))
			for range 400 {
				data := randomData(rng)
				if rng.IntN(50) == 0 {
					data = pattern(rng.IntN(3 * blockSize))
				}
				e := w.insert(t, data, rng.IntN(8) == 0)
				inserted.Store(e, true)
			}
		})
	}
	sessions.Wait()
	last := w.insert(t, []byte("last"), true)
	inserted.Store(last, true)
	end.Store(uint64(last.End))
	w.insert(t, nil, true) // wakes the readers up to look at end
	readers.Wait()
	must(t, w.stop())
	disk, _, err := find(d, Scan{})
	must(t, err)
	disk = disk[:len(disk)-1]
	for i, log := range logs {
		log = slices.DeleteFunc(log, func(e entry) bool { return e.LSN > last.LSN })
		if !slices.Equal(log, disk) {
			t.Errorf("reader %d got %d records, the disk has %d", i, len(log), len(disk))
		}
	}
	for _, e := range disk {
		if _, ok := inserted.LoadAndDelete(e); !ok {
			t.Errorf("nobody inserted %v", e)
		}
	}
	inserted.Range(func(k, _ any) bool { t.Errorf("%v is lost", k); return true })
}

// readToEnd follows the log up to end. Odd readers go no further than what is flushed.
func readToEnd(t *testing.T, w *running, end *atomic.Uint64, i int) (log []entry) {
	limit := w.Inserted()
	if i%2 == 1 {
		limit = w.Flushed()
	}
	r := NewReader(NewRawReader(w.dir, first, fileBehind{w.Writer}), emptyLog.LSN, 0)
	defer r.Close()
	for stop := LSN(0); stop == 0 || r.Decoder().End() < stop; stop = LSN(end.Load()) {
		rec, err := r.NextWait(t.Context(), limit)
		if err != nil {
			t.Error(err)
			return nil
		}
		log = append(log, entry{rec.LSN, rec.End, string(rec.Data)})
	}
	return log
}

// fileBehind reads from the buffer what is not written yet, and at random the rest.
type fileBehind struct{ *Writer }

func (f fileBehind) ReadBuffered(p []byte, at LSN) (int, bool) {
	if at+LSN(len(p)) <= f.Written().Load() && rand.IntN(3) == 0 {
		return 0, false
	}
	return f.Writer.ReadBuffered(p, at)
}

// Old segments become new ones while the writer allocates and readers read: nobody ever sees bytes
// of the wrong segment, and the log stays whole.
func TestRecycleRacesAllocate(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	w := start(t, d, emptyLog, WriterConfig{Buffers: 2 * blockSize})
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() { // the checkpointer
		for !done.Load() {
			last := MinSegmentSize.Segno(w.Inserted().Load())
			if _, _, err := d.RemoveBefore(back(last, 2), nothingNeeded, 1, last, last+3); err != nil {
				t.Error(err)
			}
			if err := w.Preallocate(); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() { readRemoved(t, d, w, &done) })
	var log []entry
	for i := range 120 {
		log = append(log, w.insert(t, bytes.Repeat([]byte{byte(i)}, 200_000), i%3 == 0))
	}
	done.Store(true)
	w.insert(t, nil, true)
	wg.Wait()
	must(t, w.stop())
	from := len(log) - 5
	got, _, err := find(d, Scan{Start: log[from].LSN, Prev: log[from-1].LSN})
	must(t, err)
	if !slices.Equal(got[:len(got)-1], log[from:]) {
		t.Errorf("read %v, want %v", got, log[from:])
	}
}

// readRemoved reads old bytes from files: they are right, or known to be removed.
func readRemoved(t *testing.T, d *Dir, w *running, done *atomic.Bool) {
	b := make([]byte, 40)
	for n := uint64(0); !done.Load(); n++ {
		segno := back(MinSegmentSize.Segno(w.Flushed().Load()), n%5)
		if segno == 0 {
			continue
		}
		raw := NewRawReader(d, first, nil)
		at := MinSegmentSize.Start(segno)
		if at >= w.Flushed().Load() {
			continue
		}
		_, err := raw.ReadAt(b, at)
		if err == nil {
			_, err = parsePageHeader(b, at, MinSegmentSize, testSystemID, PG15)
		} else if _, removed := errors.AsType[*RemovedError](err); removed {
			err = nil
		}
		if err = errors.Join(err, raw.Close()); err != nil {
			t.Errorf("segment %d: %v", segno, err)
		}
	}
}

// A Position wakes every waiter that it has reached, and none before.
func TestPositionConcurrent(t *testing.T) {
	var p Position
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := p.Wait(t.Context(), LSN(i*20)); err != nil || p.Load() < LSN(i*20) {
				t.Errorf("Wait(%d) = %v at %s", i*20, err, p.Load())
			}
		})
	}
	for g := range 4 {
		wg.Go(func() {
			for l := range LSN(1000) {
				p.Advance(l + LSN(g))
			}
		})
	}
	wg.Wait()
	if p.Advance(5) || p.Load() != 1002 {
		t.Errorf("the position went back to %s", p.Load())
	}
}
