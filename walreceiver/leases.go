package walreceiver

import (
	"sync"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// Leases is what this node has promised to primaries: until when it has a part in no failover that
// opens a later epoch (invariant I11). There is one for the whole process, whatever streams come and
// go. It goes by the monotonic clock alone.
type Leases struct {
	mu    sync.Mutex
	until time.Time // the latest promise; never moves back
	epoch uint64    // primaries of older epochs get no promise
}

// NewLeases begins with a full term: a process that has just started does not know what the one before
// it promised.
func NewLeases() *Leases {
	return &Leases{until: time.Now().Add(pgwire.LeaseTerm)}
}

// Grant promises a full term from now on to the primary of an epoch, and reports whether it did. Who
// grants on receipt of a request and answers afterwards has promised for longer than the primary counts.
func (l *Leases) Grant(epoch uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch < l.epoch {
		return false
	}
	l.until = time.Now().Add(pgwire.LeaseTerm)
	return true
}

// Stop refuses, from now on, promises to primaries of epochs before that one. It comes before the Left
// that a sealed node reports: no promise may be given that the coordinator does not know of.
func (l *Leases) Stop(epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch = max(l.epoch, epoch)
}

// Left is how long the latest promise still lasts; 0 if none does.
func (l *Leases) Left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, time.Until(l.until))
}
