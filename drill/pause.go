package drill

import (
	"context"
	"time"
)

// The drills in which a process stands still and then goes on where it was: a machine that swaps, a virtual
// one that is moved.

// standstill is how long a node stands still at least: long enough that it is replaced, if it is the primary.
const standstill = 3 * time.Second

var pausePrimary = Drill{
	Name:   "pause-primary",
	Breaks: "has the primary stand still (SIGSTOP) until another node is primary, and then go on",
	Holds:  "another node takes over; the old primary, which does not know it, acknowledges nothing and shows nothing old",
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		return r.newEpoch(ctx, primary, func() error { return r.freezeFor(ctx, primary, "the primary") })
	},
}

var pauseStandby = Drill{
	Name:   "pause-standby",
	Breaks: "has a standby stand still (SIGSTOP), and then go on",
	Holds:  "the primary stays in office",
	Round: func(ctx context.Context, r *Run) error {
		return r.sameEpoch(ctx, func() error {
			standby, err := r.Standby(ctx)
			if err != nil {
				return err
			}
			return r.freezeFor(ctx, standby, "a standby")
		})
	},
}

// freezeFor has a node stand still for a while.
func (r *Run) freezeFor(ctx context.Context, n *Node, what string) error {
	r.Strike("%s, %s, stands still", n.Name, what)
	if err := n.Freeze(ctx); err != nil {
		return err
	}
	sleep(ctx, standstill)
	r.Pause(ctx, standstill)
	r.Mend("%s goes on", n.Name)
	n.Thaw()
	return nil
}
