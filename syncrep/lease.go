package syncrep

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// When promises are asked for. They last pgwire.LeaseTerm, 400 ms.
const (
	askAhead = 200 * time.Millisecond // a reader that finds no more left asks for more
	askEvery = 100 * time.Millisecond // at most; and as long as somebody waits
)

// forever is a lease that does not end: nobody else could take office.
const forever = time.Duration(math.MaxInt64) / 2

// A lease is what a Group knows of the members' promises not to let another primary begin: the read
// lease of invariant I11. All times are since base, on the monotonic clock: a clock that is set does
// not move them.
type lease struct {
	base  time.Time
	until atomic.Int64 // when it lapses
	asked atomic.Int64 // when promises were last asked for

	// Guarded by Group.mu.
	own      ID
	counted  []ID // of whom a majority must have promised; none until SetMembers: never enough
	promises map[ID]time.Duration
	waiting  int           // calls of WaitLease that wait
	renewed  chan struct{} // closed when the lease runs again; nil while nobody waits
}

func (l *lease) begin() {
	l.base = time.Now()
	l.asked.Store(int64(-askEvery))
	l.promises = make(map[ID]time.Duration)
}

func (l *lease) now() time.Duration { return time.Since(l.base) }

func (l *lease) left() time.Duration { return time.Duration(l.until.Load()) - l.now() }

// SetMembers says of whom a majority has to promise: the members that count, and which of them is the
// primary itself. For the majority it counts as having promised.
func (g *Group) SetMembers(counted []ID, own ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	counted = slices.Clone(counted)
	slices.SortFunc(counted, ID.compare)
	g.lease.own, g.lease.counted = own, slices.Compact(counted)
	g.renewLease()
}

// Promise takes the promise of the stream's member that it will take no part in a failover before
// until: of a time with a monotonic reading, the sending of the request plus the term. A promise never
// shortens, and outlives its stream. A receiver's means nothing.
func (h *Handle) Promise(until time.Time) {
	if h.id.IsZero() {
		return
	}
	g := h.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := until.Sub(g.lease.base); at > g.lease.promises[h.id] {
		g.lease.promises[h.id] = at
		g.renewLease()
	}
}

// LeaseWanted returns a channel that has a message when the group wants a new promise of the stream's
// member: the stream sends a request for one at once.
func (h *Handle) LeaseWanted() <-chan struct{} { return h.wanted }

func (h *Handle) want() {
	select {
	case h.wanted <- struct{}{}:
	default: // it has not answered yet
	}
}

// Lease returns until when nobody else can take office: enough of those listed by each rule in force,
// and a majority of the members, have promised it. It is in the past while a hold lasts: a new primary
// knows what was shown before it only once its own first record is durable. What is read from the
// primary at a time before it, begun and checked in that order, is current.
func (g *Group) Lease() time.Time {
	return g.lease.base.Add(time.Duration(g.lease.until.Load()))
}

// WaitLease returns nil once the lease holds, asking for promises if it has lapsed or soon will. It
// waits for as long as ctx lasts: a lapsed lease delays reads, it does not fail them.
func (g *Group) WaitLease(ctx context.Context) error {
	left := g.lease.left()
	if left <= 0 {
		return g.awaitLease(ctx)
	}
	if left < askAhead {
		g.askPromises()
	}
	return nil
}

func (g *Group) awaitLease(ctx context.Context) error {
	l := &g.lease
	g.mu.Lock()
	defer g.mu.Unlock()
	l.waiting++
	defer func() { l.waiting-- }()
	for l.left() <= 0 {
		if l.renewed == nil {
			l.renewed = make(chan struct{})
		}
		if err := g.pause(ctx, l.renewed); err != nil {
			return fmt.Errorf("wait for the read lease: %w", err)
		}
	}
	return nil
}

// pause gives up mu until it is time to look at the lease again, or to ask again: promises that came
// one by one may never have held all at the same time.
func (g *Group) pause(ctx context.Context, renewed <-chan struct{}) error {
	g.mu.Unlock()
	defer g.mu.Lock()
	g.askPromises()
	again := time.NewTimer(askEvery)
	defer again.Stop()
	select {
	case <-renewed:
	case <-again.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// askPromises wants a promise of each member that streams, unless that was done a moment ago.
func (g *Group) askPromises() {
	now, last := int64(g.lease.now()), g.lease.asked.Load()
	if now-last < int64(askEvery) || !g.lease.asked.CompareAndSwap(last, now) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.streams {
		if !h.id.IsZero() && !h.superseded {
			h.want()
		}
	}
}

// renewLease works out the lease and wakes who waits for it. The caller holds mu.
func (g *Group) renewLease() {
	l := &g.lease
	l.until.Store(int64(g.promised()))
	if l.renewed != nil && l.left() > 0 {
		close(l.renewed)
		l.renewed = nil
	}
}

// promised is until when enough have promised.
func (g *Group) promised() time.Duration {
	if len(g.rules) == 0 || g.hold != 0 {
		return 0
	}
	until := g.lease.majority()
	for _, r := range g.rules {
		until = min(until, g.lease.under(r))
	}
	return until
}

// majority is until when more than half of the members have promised, the primary among them.
func (l *lease) majority() time.Duration {
	q := quorum[time.Duration]{need: len(l.counted)/2 + 1, at: make([]time.Duration, len(l.counted))}
	for i, id := range l.counted {
		q.at[i] = l.promises[id]
		if id == l.own {
			q.at[i] = forever
		}
	}
	return q.reached()
}

// under is until when some that satisfy the rule have promised. A set that is sealed without all of
// these is not sure to have what the rule let go, so nobody is promoted by it (I4). A receiver promises
// nothing, but it cannot be sealed either: it counts as if it had. Under an empty rule there is no such
// set without the primary.
func (l *lease) under(r Resolved) time.Duration {
	if r.K == 0 {
		return forever
	}
	q := newQuorum[time.Duration](r)
	for i, listed := range r.Listed {
		q.at[i] = l.promises[listed.ID]
		if listed.ID.IsZero() {
			q.at[i] = forever
		}
	}
	return q.reached()
}
