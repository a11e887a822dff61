package wal

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// benchWriter is a writer on the real disk whose old segments are recycled.
func benchWriter(b *testing.B) *running {
	d := newDir(b, vfs.Default)
	var w *running
	segments := make(chan uint64, 64)
	w = start(b, d, emptyLog, WriterConfig{OnSegment: func(segno uint64) { segments <- segno }})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for segno := range segments {
			if _, _, err := d.RemoveBefore(segno, nothingNeeded, 1, segno+1, segno+8); err != nil {
				b.Error(err)
			}
		}
	}()
	b.Cleanup(func() { must(b, w.stop()); close(segments); <-done })
	return w
}

// Insert alone, from as many goroutines as there are processors: encoding, CRC and the short lock.
func BenchmarkInsert(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := benchWriter(b)
			data := pattern(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, _, err := w.Insert(Prepare(RmgrLongship, 0, data), 1); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// Commits per second with one and with many sessions on the real disk.
func BenchmarkGroupCommit(b *testing.B) {
	for _, sessions := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprint(sessions), func(b *testing.B) {
			w := benchWriter(b)
			data := pattern(150)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.SetParallelism(sessions)
			b.ResetTimer()
			done := make(chan error, sessions)
			for range sessions {
				go func() { done <- commitWhile(w, data, &left) }()
			}
			for range sessions {
				must(b, <-done)
			}
			b.ReportMetric(float64(b.N)/float64(w.Stats().Syncs.Load()), "commits/sync")
		})
	}
}

func commitWhile(w *running, data []byte, left *atomic.Int64) error {
	for left.Add(-1) >= 0 {
		_, end, err := w.Insert(Prepare(RmgrLongship, 0, data), 1)
		if err == nil {
			err = w.Flush(context.Background(), end)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func BenchmarkDecoder(b *testing.B) {
	m := newModel(emptyLog.LSN, 0)
	records := 0
	for ; len(m.bytes) < 900_000; records++ {
		m.insert(Prepare(RmgrLongship, 0x10, pattern(150)), 1)
	}
	b.SetBytes(int64(len(m.bytes)))
	b.ReportAllocs()
	for b.Loop() {
		d := NewDecoder(testFormat, emptyLog.LSN, 0)
		n := 0
		for rest := m.bytes; len(rest) > 0; {
			k := min(len(rest), readChunk)
			d.Feed(rest[:k])
			rest = rest[k:]
			for {
				_, ok, err := d.Next()
				must(b, err)
				if !ok {
					break
				}
				n++
			}
		}
		if n != records {
			b.Fatalf("%d records, want %d", n, records)
		}
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
