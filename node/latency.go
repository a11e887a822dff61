package node

import (
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How long commits and flushes take, on the primary.
var (
	mCommitTime = histogram("longship_commit_seconds", "How long commits took, from COMMIT to the acknowledgement that synchronous_commit asks for, if any: one in 16 is timed. On a node that is the primary, or was.", 100e-6, 18)
	mFlushTime  = histogram("longship_wal_flush_seconds", "How long flushes of the log took, the write and the sync of each: of a node that is the primary, or was.", 25e-6, 18)
)

// commitSample is of how many commits one is timed, at random. Two looks at the clock and a count cost more than
// 100 ns; one commit in so many pays them.
const commitSample = 16

// latencies are distributions, which cannot be worked out when they are asked for. Any goroutine may use them.
type latencies struct{ commit, flush prometheus.Histogram }

func newLatencies() latencies {
	return latencies{commit: mCommitTime.newHistogram(), flush: mFlushTime.newHistogram()}
}

// beginCommit returns when a commit began, or the zero time of one that is not timed.
func (l *latencies) beginCommit() (began time.Time) {
	if rand.Uint32()%commitSample == 0 {
		began = time.Now()
	}
	return began
}

// endCommit counts a commit that was acknowledged.
func (l *latencies) endCommit(began time.Time) {
	if !began.IsZero() {
		l.commit.Observe(time.Since(began).Seconds())
	}
}

// flushed counts a flush.
func (l *latencies) flushed(took time.Duration) { l.flush.Observe(took.Seconds()) }

func (l *latencies) collect(out chan<- prometheus.Metric) {
	l.commit.Collect(out)
	l.flush.Collect(out)
}
