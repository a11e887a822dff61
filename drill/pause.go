package drill

import (
	"context"
	"fmt"
	"time"
)

// The drills in which a process stands still and then goes on where it was: a machine that swaps, a virtual
// one that is moved.

// standstill is how long a standby stands still at least, and a primary at most once it has been replaced.
const standstill = 3 * time.Second

var pausePrimary = Drill{
	Name:   "pause-primary",
	Breaks: "has the primary stand still (SIGSTOP) until another node is primary, and then go on",
	Holds:  "another node takes over; the old primary, which does not know it, acknowledges nothing and answers no reads, not even those that it finds when it goes on",
	Shown:  "all its threads have stopped (/proc); another node is the primary of a later epoch",
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		before, err := primary.Epoch(ctx)
		if err != nil {
			return err
		}
		t, err := newTrial(ctx, primary, fmt.Sprintf("%strial/%05d", r.work.prefix, r.round.Number))
		if err != nil {
			return err
		}
		defer t.close()
		r.Strike("%s, the primary, stands still", primary.Name)
		defer primary.Thaw()
		if err := primary.Freeze(ctx); err != nil {
			return err
		}
		next, err := successor(ctx, r.Cluster.others(primary), before)
		if err != nil {
			return err
		}
		r.Pause(ctx, standstill)
		return r.wake(ctx, primary, next, t)
	},
}

// wake has a deposed primary go on once it has been sent something, which it finds before it hears that it is deposed.
func (r *Run) wake(ctx context.Context, primary, next *Node, t *trial) error {
	answered := make(chan error, 1)
	go func() { answered <- t.run(ctx, next) }()
	sleep(ctx, 200*time.Millisecond)
	r.Mend("%s goes on", primary.Name)
	primary.Thaw()
	return <-answered
}

var pauseStandby = Drill{
	Name:   "pause-standby",
	Breaks: "has a standby stand still (SIGSTOP), and then go on",
	Holds:  "the primary stays in office",
	Shown:  "all its threads have stopped (/proc); what is committed meanwhile is not in its log",
	Round: func(ctx context.Context, r *Run) error {
		return r.sameEpoch(ctx, func() error {
			standby, err := r.Standby(ctx)
			if err != nil {
				return err
			}
			primary, err := r.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			return r.freezeFor(ctx, standby, primary)
		})
	},
}

// freezeFor has a standby stand still for a while.
func (r *Run) freezeFor(ctx context.Context, standby, primary *Node) error {
	r.Strike("%s, a standby, stands still", standby.Name)
	defer standby.Thaw()
	if err := standby.Freeze(ctx); err != nil {
		return err
	}
	if err := r.leftBehind(ctx, primary, standby); err != nil {
		return err
	}
	sleep(ctx, standstill)
	r.Pause(ctx, standstill)
	r.Mend("%s goes on", standby.Name)
	return nil
}
