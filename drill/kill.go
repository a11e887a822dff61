package drill

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// The drills that kill processes with kill -9, and start them again.

// pauseAfterKill is how long a node that was killed is down at most.
const pauseAfterKill = 3 * time.Second

var killPrimary = Drill{
	Name:   "kill-primary",
	Breaks: "kills the primary with kill -9 and starts it again within three seconds",
	Holds:  "an epoch opens by itself, and the one that was killed comes back",
	Shown:  "the signal has ended the primary's process; the epoch is a later one",
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		return r.newEpoch(ctx, primary, func() error {
			return r.killFor(ctx, primary, "the primary")
		})
	},
}

// newEpoch calls f, which ends the reign of the primary, and waits for a later one.
func (r *Run) newEpoch(ctx context.Context, primary *Node, f func() error) error {
	before, err := primary.Epoch(ctx)
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return poll(ctx, func(ctx context.Context) error {
		next, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		epoch, err := next.Epoch(ctx)
		if err == nil && epoch <= before {
			err = fmt.Errorf("the epoch is still %d", epoch)
		}
		return err
	})
}

// sameEpoch calls f, and verifies that the reign of the primary goes on.
func (r *Run) sameEpoch(ctx context.Context, f func() error) error {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	before, err := primary.Epoch(ctx)
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	if err := r.Cluster.AwaitWell(ctx); err != nil {
		return err
	}
	after, err := primary.Epoch(ctx)
	if err == nil && after != before {
		err = fmt.Errorf("the primary was %s in epoch %d, and now the epoch is %d: it was replaced without need", primary.Name, before, after)
	}
	return err
}

var killStandby = Drill{
	Name:   "kill-standby",
	Breaks: "kills a standby with kill -9 and starts it again within three seconds",
	Holds:  "the primary stays in office",
	Shown:  "the signal has ended the standby's process",
	Round: func(ctx context.Context, r *Run) error {
		return r.sameEpoch(ctx, func() error {
			standby, err := r.Standby(ctx)
			if err != nil {
				return err
			}
			return r.killFor(ctx, standby, "a standby")
		})
	},
}

// killFor kills a node and starts it again after a while.
func (r *Run) killFor(ctx context.Context, n *Node, what string) error {
	r.Strike("kill -9 of %s, %s", n.Name, what)
	if err := n.killed(); err != nil {
		return err
	}
	r.Pause(ctx, pauseAfterKill)
	r.Mend("%s is started again", n.Name)
	return n.Start()
}

var killCoordinator = Drill{
	Name:   "kill-coordinator",
	Breaks: "kills the Raft leader, who runs failovers, with kill -9, and in every other round the primary with it",
	Holds:  "without the primary's death it stays in office",
	Shown:  "the signal has ended the process of the node that led Raft; a node says in its log that it coordinates from then on",
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		leader, err := r.Cluster.Coordinator(ctx)
		if err != nil {
			return err
		}
		if leader == primary || r.round.Number%2 == 0 && r.cfg.Nodes >= 5 {
			err = r.newEpoch(ctx, primary, func() error { return r.killBoth(ctx, primary, leader) })
		} else if r.round.Number%2 == 0 { // of three nodes one alone is no majority: it waits for another
			err = r.killBoth(ctx, primary, leader)
		} else {
			err = r.sameEpoch(ctx, func() error { return r.killFor(ctx, leader, "the Raft leader") })
		}
		if err != nil {
			return err
		}
		return r.logged(ctx, r.Cluster.Nodes(), "coordinate", nil)
	},
}

// killBoth kills the primary and the Raft leader and starts them again, in the same order, after a while.
func (r *Run) killBoth(ctx context.Context, primary, leader *Node) error {
	r.Strike("kill -9 of %s, the primary, and %s, the Raft leader", primary.Name, leader.Name)
	if err := errors.Join(primary.killed(), leader.killed()); err != nil {
		return err
	}
	r.Pause(ctx, pauseAfterKill)
	for _, n := range []*Node{primary, leader} {
		if n.Running() {
			continue // it is both
		}
		r.Mend("%s is started again", n.Name)
		if err := n.Start(); err != nil {
			return err
		}
	}
	return nil
}

var killAll = Drill{
	Name:   "kill-all",
	Breaks: "kills all nodes with kill -9 at the same time, and starts them again in any order",
	Holds:  "nothing acknowledged was in memory alone",
	Shown:  "the signal has ended each process; the epoch is a later one",
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		return r.newEpoch(ctx, primary, func() error { return r.killAll(ctx) })
	},
}

// killAll kills all nodes and starts them again.
func (r *Run) killAll(ctx context.Context) error {
	nodes := r.Cluster.Nodes()
	r.Strike("kill -9 of all %d nodes", len(nodes))
	for _, n := range nodes {
		n.signal(syscall.SIGKILL, true)
	}
	for _, n := range nodes {
		if err := n.killed(); err != nil {
			return err
		}
	}
	r.Random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for _, n := range nodes {
		r.Pause(ctx, 300*time.Millisecond)
		r.Mend("%s is started again", n.Name)
		if err := n.Start(); err != nil {
			return err
		}
	}
	return nil
}
