package demo

import (
	"fmt"
	"sync"
	"time"
)

// A Reign is an epoch as the load found it.
type Reign struct {
	Epoch uint64
	Node  string        // its primary
	Since time.Time     // the first acknowledgement
	Gap   time.Duration // how long before that nothing was acknowledged; 0 for the first reign
}

func (r Reign) String() string {
	s := fmt.Sprintf("primary %s since %s, epoch %d", r.Node, r.Since.Format(time.TimeOnly), r.Epoch)
	if r.Gap > 0 {
		s += fmt.Sprintf(", no commit acknowledged for %s", seconds(r.Gap))
	}
	return s
}

// seconds is a duration to the hundredth of a second.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// Reigns remembers who acknowledged commits, and for how long nobody did in between. It is safe for
// concurrent use.
type Reigns struct {
	mu   sync.Mutex
	all  []Reign
	last time.Time // the last acknowledgement in the last of them
}

// Acknowledged notes an acknowledgement by the primary of an epoch, and reports whether it is the first
// of a new reign. One of an epoch before the newest changes nothing.
func (r *Reigns) Acknowledged(node string, epoch uint64, now time.Time) (began Reign, isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest := r.newest()
	switch {
	case epoch < newest.Epoch:
		return Reign{}, false
	case epoch > newest.Epoch:
		began, isNew = Reign{Epoch: epoch, Node: node, Since: now}, true
		if newest.Epoch != 0 {
			began.Gap = now.Sub(r.last)
		}
		r.all = append(r.all, began)
	}
	if now.After(r.last) {
		r.last = now
	}
	return began, isNew
}

func (r *Reigns) newest() Reign {
	if len(r.all) == 0 {
		return Reign{}
	}
	return r.all[len(r.all)-1]
}

// Now returns the newest reign, zero if there was none, and how long ago its last acknowledgement was.
func (r *Reigns) Now(now time.Time) (Reign, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return Reign{}, 0
	}
	return r.newest(), now.Sub(r.last)
}

// Changes returns how many reigns followed another, and the longest gap.
func (r *Reigns) Changes() (count int, longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, reign := range r.all {
		longest = max(longest, reign.Gap)
	}
	return max(len(r.all)-1, 0), longest
}
