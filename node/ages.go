package node

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/longship-db/longship/wal"
)

// mostMoments is how many moments an ages remembers, leastPause how far apart they are at least, and
// resolution by what part of its age a moment may be forgotten in favour of an earlier one.
const (
	mostMoments = 4096
	leastPause  = 10 * time.Millisecond
	resolution  = 64
)

// An ages remembers when the log of a primary had reached which position, by that node's monotonic
// clock: by it the primary knows how old what a standby has confirmed is, whatever the clocks say.
//
// Memory is bounded: when it is full, moments are forgotten, the more the further back they lie. So an
// age is never smaller than it is, and greater by a 64th at the most, however great it is: a year's
// worth of moments is some 2000.
type ages struct {
	mu      sync.Mutex
	moments []moment // rising
}

// A moment is when the log had reached lsn.
type moment struct {
	lsn wal.LSN
	at  time.Time
}

// note records that the log reaches up to lsn since now, or somewhat longer. Most calls cost a
// comparison: a busy primary makes one for each flush.
func (a *ages) note(lsn wal.LSN, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.moments); n > 0 && (lsn <= a.moments[n-1].lsn || now.Sub(a.moments[n-1].at) < leastPause) {
		return
	}
	if len(a.moments) == mostMoments {
		a.thin(now)
	}
	a.moments = append(a.moments, moment{lsn, now})
}

// thin forgets moments whose neighbours are close to each other, for how old they are; never the first
// and the last. The caller holds mu.
func (a *ages) thin(now time.Time) {
	last := len(a.moments) - 1
	kept := a.moments[:1]
	for i := 1; i < last; i++ {
		next := a.moments[i+1].at
		if next.Sub(kept[len(kept)-1].at) > now.Sub(next)/resolution {
			kept = append(kept, a.moments[i])
		}
	}
	a.moments = append(kept, a.moments[last])
}

// of is the age of what somebody has who has the log up to lsn: the time since it was the newest there
// was. For what is older than the reign it is as long as that has lasted, which is not enough; 0 before
// anything is known.
func (a *ages) of(lsn wal.LSN, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.moments) == 0 {
		return 0
	}
	i, found := a.find(lsn)
	if !found {
		i = max(i-1, 0)
	}
	return max(0, now.Sub(a.moments[i].at))
}

// waiting is how long ago the log got past lsn; ok is false if it has not, as far as is known.
func (a *ages) waiting(lsn wal.LSN, now time.Time) (d time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, found := a.find(lsn)
	if found {
		i++
	}
	if i == len(a.moments) {
		return 0, false
	}
	return max(0, now.Sub(a.moments[i].at)), true
}

// find is where in moments lsn is, or would be. The caller holds mu.
func (a *ages) find(lsn wal.LSN) (i int, found bool) {
	return slices.BinarySearchFunc(a.moments, lsn, func(m moment, lsn wal.LSN) int { return cmp.Compare(m.lsn, lsn) })
}
