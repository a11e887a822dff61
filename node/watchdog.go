package node

import (
	"context"
	"fmt"
	"time"
)

// watchdogInterval is how often the disk is looked at.
const watchdogInterval = 100 * time.Millisecond

// watchDisk ends the process when a write of the log, or of Raft's store, takes longer than
// disk_watchdog_timeout (invariant I12). A node whose disk hangs would otherwise go on sending signs of
// life: as Raft leader, as primary. The connections go first, for a process with a write in the
// kernel may not be able to end before the disk answers.
func (n *Node) watchDisk(ctx context.Context) error {
	tick := time.NewTicker(watchdogInterval)
	defer tick.Stop()
	var awake wakefulness
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		limit := n.settings.Duration("disk_watchdog_timeout")
		what, stalled := n.stalled()
		if limit == 0 || min(stalled, awake.at(time.Now())) < limit {
			continue
		}
		n.raft.Cut()
		n.server.Cut()
		n.gossip.Cut()
		n.peers.Close()
		return &FatalError{Err: fmt.Errorf("the disk hangs: a write of %s has not returned for %s (disk_watchdog_timeout is %s)", what, stalled.Round(time.Millisecond), limit)}
	}
}

// stalled is how long the oldest write under way has taken.
func (n *Node) stalled() (what string, d time.Duration) {
	what, d = "Raft's store", n.raft.WriteStalled()
	r, _ := n.present.load()
	if r == nil {
		return what, d
	}
	var log time.Duration
	switch {
	case r.primary != nil:
		log = r.primary.writer.Stalled()
	case r.stream != nil:
		log = r.stream.Stalled()
	}
	if log > d {
		return "WAL", log
	}
	return what, d
}

// A wakefulness is for how long a process has been running without a pause. While it is stopped, as by
// SIGSTOP, a frozen container or a paused machine, writes take long that the disk has long finished.
type wakefulness struct{ woke, last time.Time }

// pauseNoticed is how late a watchdog is that did not run.
const pauseNoticed = 10 * watchdogInterval

// at is called at each look.
func (w *wakefulness) at(now time.Time) time.Duration {
	if now.Sub(w.last) > pauseNoticed {
		w.woke = now
	}
	w.last = now
	return now.Sub(w.woke)
}
