package node

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counted is how many a histogram has counted, and how many seconds that were.
func counted(t *testing.T, h prometheus.Histogram) (n uint64, sum float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(h)
	all, err := registry.Gather()
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	found := all[0].GetMetric()[0].GetHistogram()
	return found.GetSampleCount(), found.GetSampleSum()
}

// One commit in sixteen is timed, whichever; what is not acknowledged is not counted; and a commit costs no memory.
func TestLatencies(t *testing.T) {
	l := newLatencies()
	timed := 0
	for range 16000 {
		if began := l.beginCommit(); !began.IsZero() {
			timed++
			l.endCommit(began.Add(-time.Second))
		} else {
			l.endCommit(began)
		}
		l.beginCommit() // and fails
	}
	if n, sum := counted(t, l.commit); n != uint64(timed) || timed < 500 || timed > 2000 || sum < float64(timed) || sum > 2*float64(timed) {
		t.Errorf("%d of 16000 commits were timed, and %d counted, of %v s", timed, n, sum)
	}
	l.flushed(3 * time.Second)
	if n, sum := counted(t, l.flush); n != 1 || sum != 3 {
		t.Errorf("%d flushes were counted, of %v s", n, sum)
	}
	if got := testing.AllocsPerRun(1000, func() {
		l.endCommit(l.beginCommit())
		l.flushed(time.Millisecond)
	}); got != 0 {
		t.Errorf("%v allocations per commit and flush", got)
	}
}

// What a commit pays for being timed, one in sixteen.
func BenchmarkCommitTimed(b *testing.B) {
	l := newLatencies()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.endCommit(l.beginCommit())
		}
	})
}

// What a flush pays.
func BenchmarkFlushTimed(b *testing.B) {
	l := newLatencies()
	b.ReportAllocs()
	for b.Loop() {
		l.flushed(time.Millisecond)
	}
}
