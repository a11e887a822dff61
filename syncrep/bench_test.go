package syncrep

import (
	"sync"
	"testing"

	"github.com/longship-db/longship/wal"
)

// One commit among 128 sessions that commit all the time, released in batches as a flusher and two
// standbys come to them.
func BenchmarkCommit(b *testing.B) {
	g, handles := newGroup("1 of a b")
	var inserted wal.Position
	done := make(chan struct{})
	var wg sync.WaitGroup
	follow := func(report func(wal.LSN)) {
		wg.Go(func() {
			for seen := wal.LSN(0); ; {
				select {
				case <-done:
					return
				case <-inserted.Changed(seen):
				}
				seen = inserted.Load()
				report(seen)
			}
		})
	}
	follow(g.LocalFlush)
	for _, h := range handles {
		follow(func(l wal.LSN) { h.Report(l, l, l) })
	}
	var mu sync.Mutex
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			lsn := inserted.Load() + 8
			inserted.Advance(lsn)
			mu.Unlock()
			if err := g.Wait(b.Context(), lsn, On); err != nil {
				b.Error(err)
			}
		}
	})
	close(done)
	wg.Wait()
}

// A whole batch: 128 commits wait, one report lets them go.
func BenchmarkReleaseBatch(b *testing.B) {
	g, handles := newGroup("1 of a")
	waiters := make([]waiter, 128)
	for i := range waiters {
		waiters[i].done = make(chan struct{}, 1)
	}
	lsn := wal.LSN(0)
	b.ReportAllocs()
	for b.Loop() {
		for i := range waiters {
			lsn++
			waiters[i].lsn = lsn
			g.waiting[On].insert(&waiters[i])
		}
		g.LocalFlush(lsn)
		handles[0].Report(lsn, lsn, lsn)
		for i := range waiters {
			<-waiters[i].done
		}
	}
}

func BenchmarkReportOfNothingNew(b *testing.B) {
	_, handles := newGroup("1 of a")
	handles[0].Report(100, 100, 100)
	for b.Loop() {
		handles[0].Report(100, 100, 100)
	}
}

func BenchmarkReport(b *testing.B) {
	for _, rule := range []string{"2 of a b c", "3 of a b c d e", "3 in 2 zones of a@x b@y c@y d@z e@z"} {
		b.Run(rule, func(b *testing.B) {
			g, handles := newGroup(rule)
			g.LocalFlush(Unbounded - 1)
			lsn := wal.LSN(0)
			b.ReportAllocs()
			for b.Loop() {
				lsn++
				handles[lsn%wal.LSN(len(handles))].Report(lsn, lsn, lsn)
			}
		})
	}
}

// What every report of a standby costs, whatever the rule.
func TestReportAllocatesNothing(t *testing.T) {
	for _, rule := range []string{"2 of a b c", "2 in 2 zones of a@x b@y c@y"} {
		g, handles := newGroup(rule)
		lsn := wal.LSN(0)
		if n := testing.AllocsPerRun(1000, func() {
			lsn++
			g.LocalFlush(lsn)
			handles[lsn%3].Report(lsn, lsn, lsn)
		}); n >= 1 {
			t.Errorf("%s: %v allocations", rule, n)
		}
	}
}
