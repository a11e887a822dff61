package walsender

import (
	"sync"
	"time"

	"github.com/longship-db/longship/wal"
)

// The three positions that a client reports, and that lag is measured for.
const (
	lagWrite = iota
	lagFlush
	lagApply
	numLags
)

// lagSamples is how many samples a tracker holds (LAG_TRACKER_BUFFER_SIZE).
const lagSamples = 8192

// A sample says when a position of the log came to be.
type sample struct {
	lsn  wal.LSN
	time int64 // nanoseconds, by the tracker's clock; 0: no sample
}

// A lagTracker measures how long a client takes to write, flush and apply the log. The sender notes
// when it saw the log reach a position; a report at or past that position gives the time between. It
// is PostgreSQL's LagTracker, in walsender.c. Memory is bounded: when it is full, the newest sample
// is replaced, so that resolution is lost, but not the age of what the client is stuck at.
type lagTracker struct {
	mu      sync.Mutex
	base    time.Time          // a nanosecond before the first sample
	samples [lagSamples]sample // a ring
	write   int                // where the next sample goes
	read    [numLags]int       // first sample not yet reached by each position; == write: none left
	last    [numLags]sample    // the sample reached last; none if it does not matter any more
	newest  wal.LSN            // of the sample written last
}

// note records that the log had reached lsn at now.
func (t *lagTracker) note(lsn wal.LSN, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if lsn == t.newest {
		return
	}
	t.newest = lsn
	if t.base.IsZero() {
		t.base = now.Add(-1)
	}
	next := (t.write + 1) % lagSamples
	for _, r := range t.read {
		if next == r {
			next, t.write = t.write, (t.write+lagSamples-1)%lagSamples
			break
		}
	}
	t.samples[t.write] = sample{lsn, t.since(now)}
	t.write = next
}

// reached takes a report of one kind and returns the lag it shows; only if ok does it show any.
func (t *lagTracker) reached(kind int, lsn wal.LSN, now time.Time) (lag time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var at int64
	for t.read[kind] != t.write && t.samples[t.read[kind]].lsn <= lsn {
		t.last[kind] = t.samples[t.read[kind]]
		at = t.last[kind].time
		t.read[kind] = (t.read[kind] + 1) % lagSamples
	}
	caughtUp := t.read[kind] == t.write
	if at == 0 && !caughtUp {
		at = between(t.last[kind], t.samples[t.read[kind]], lsn)
	}
	if caughtUp {
		t.last[kind] = sample{} // too old to measure the next burst by
	}
	lag = time.Duration(t.since(now) - at)
	return lag, at != 0 && lag >= 0
}

// since is a moment as samples have it. It is the monotonic clock's: the machine's may be set. The caller holds mu.
func (t *lagTracker) since(now time.Time) int64 { return int64(now.Sub(t.base)) }

// between estimates when the log reached lsn, which lies between two samples. So a client that is
// stuck shows a lag that grows. Without an earlier sample, the lag is what it would be if the next
// one were reached now.
func between(last, next sample, lsn wal.LSN) int64 {
	switch {
	case last.time == 0:
		return next.time
	case lsn < last.lsn, last.time > next.time:
		return 0
	}
	fraction := float64(lsn-last.lsn) / float64(next.lsn-last.lsn)
	return last.time + int64(fraction*float64(next.time-last.time))
}
