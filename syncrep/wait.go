package syncrep

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/longship-db/longship/wal"
)

// An UnknownError says that a wait ended before the commit was released. The commit is in the log: a
// later horizon may make it visible, or a failover may cut it (SQLSTATE 08007).
type UnknownError struct {
	LSN   wal.LSN // end of the commit record
	Cause error   // why the wait ended
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("outcome of the commit at %s is unknown: wait ended early: %v", e.LSN, e.Cause)
}

func (e *UnknownError) Unwrap() error { return e.Cause }

// Wait blocks until a commit whose record ends at lsn is released at level. It returns nil for that
// alone: if ctx ends first, the error is an *UnknownError with the cause of ctx. There is nothing to
// wait for at lsn 0 and at level Off.
//
// Where no rule has anybody acknowledge, a primary would not notice that another one has taken office:
// above level Local the commit then waits for the lease, too (I11).
func (g *Group) Wait(ctx context.Context, lsn wal.LSN, level Level) error {
	if level == Off || lsn == 0 {
		return nil
	}
	g.mu.Lock()
	if lsn <= g.released[level] {
		g.mu.Unlock()
	} else {
		w := g.waiters.Get().(*waiter)
		w.lsn = lsn
		g.waiting[level].insert(w)
		g.mu.Unlock()
		if err := g.await(ctx, w, level); err != nil {
			return err
		}
	}
	if level == Local || lsn > wal.LSN(g.bare.Load()) {
		return nil
	}
	if err := g.WaitLease(ctx); err != nil {
		return &UnknownError{LSN: lsn, Cause: err}
	}
	if g.AtRisk(lsn, level) {
		g.debt.commits.Add(1)
	}
	return nil
}

// Achieved is what a commit that Wait let go at level has, provably: that level, but no more than Local
// if it may have been released while nobody was asked to acknowledge it.
func (g *Group) Achieved(lsn wal.LSN, level Level) Level {
	if level > Local && lsn <= wal.LSN(g.bare.Load()) {
		return Local
	}
	return level
}

func (g *Group) await(ctx context.Context, w *waiter, level Level) error {
	select {
	case <-w.done:
		g.waiters.Put(w)
		return nil
	case <-ctx.Done():
		return g.abandon(ctx, w, level)
	}
}

// abandon ends a wait early, unless w was released in the meantime.
func (g *Group) abandon(ctx context.Context, w *waiter, level Level) error {
	g.mu.Lock()
	waiting := w.queued
	if waiting {
		g.waiting[level].remove(w)
	}
	g.mu.Unlock()
	lsn := w.lsn
	if !waiting {
		<-w.done // sent when queued was cleared, under the lock: never blocks
	}
	g.waiters.Put(w)
	if !waiting {
		return nil
	}
	return &UnknownError{LSN: lsn, Cause: context.Cause(ctx)}
}

// Waiting returns how many commits wait now.
func (g *Group) Waiting() int {
	var n int64
	for level := range g.waiting {
		n += g.waiting[level].n.Load()
	}
	return int(n)
}

// A waiter is one commit that waits. It belongs to one call of Wait, and is used again later.
type waiter struct {
	lsn        wal.LSN
	prev, next *waiter
	queued     bool
	done       chan struct{} // room for the one message that wakes this waiter, and no other
}

// A queue holds waiters in LSN order. Commits come almost in that order, so one that comes late is
// put in its place from the back, as in PostgreSQL's SyncRepQueueInsert. Guarded by Group.mu, but for n,
// which anybody may read.
type queue struct {
	first, last *waiter
	n           atomic.Int64
}

func (q *queue) insert(w *waiter) {
	after := q.last
	for after != nil && after.lsn > w.lsn {
		after = after.prev
	}
	w.prev, w.queued = after, true
	q.n.Add(1)
	if after != nil {
		w.next, after.next = after.next, w
	} else {
		w.next, q.first = q.first, w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		q.last = w
	}
}

func (q *queue) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.n.Add(-1)
}

// release wakes those at the front who wait for no more than lsn, in order, each once. It reports
// whether there were any.
func (q *queue) release(lsn wal.LSN) (any bool) {
	for w := q.first; w != nil && w.lsn <= lsn; w = q.first {
		q.remove(w)
		w.done <- struct{}{} // w is its owner's again
		any = true
	}
	return any
}
