package drill

import (
	"context"
	"fmt"
	"time"
)

// The drills of what operators do on purpose: they cost a moment and nothing else.

var switchoverStorm = Drill{
	Name:   "switchover-storm",
	Breaks: "moves the primary from node to node, five times in a row, while commits go on",
	Holds:  "each switchover ends where it was to go, or leaves everything as it was",
	Round: func(ctx context.Context, r *Run) error {
		for range 5 {
			if err := r.switchover(ctx); err != nil {
				return err
			}
			if err := r.AwaitCommits(ctx, 10); err != nil {
				return err
			}
		}
		return nil
	},
}

// switchover moves the primary to a standby. A refusal, if it says that nothing has changed, is the cluster's
// right; the session may end before it is answered.
func (r *Run) switchover(ctx context.Context) error {
	if err := r.Cluster.AwaitWell(ctx); err != nil {
		return err
	}
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	to, err := r.Standby(ctx)
	if err != nil {
		return err
	}
	asked := r.Cluster.Nodes()[r.Random.IntN(len(r.Cluster.Nodes()))]
	r.Strike("switchover from %s to %s, asked of %s", primary.Name, to.Name, asked.Name)
	err = asked.Exec(ctx, "SELECT longship_switchover($1)", to.Name)
	switch sqlState(err) {
	case "", "57P01": // the node that was asked changes its role, too
	default:
		return fmt.Errorf("switchover from %s to %s, asked of %s: %w", primary.Name, to.Name, asked.Name, err)
	}
	return poll(ctx, func(ctx context.Context) error {
		now, err := r.Cluster.Primary(ctx)
		if err == nil && now != to {
			err = fmt.Errorf("the primary was to be %s and is %s", to.Name, now.Name)
		}
		return err
	})
}

var rollingRestart = Drill{
	Name:   "rolling-restart",
	Breaks: "stops each node cleanly and starts it again, one after the other, as for an upgrade",
	Holds:  "each ends with exit code 0, the primary after it has handed over",
	Round: func(ctx context.Context, r *Run) error {
		for _, n := range r.Cluster.Nodes() {
			if err := r.Cluster.AwaitWell(ctx); err != nil {
				return err
			}
			r.Strike("%s is stopped (SIGTERM)", n.Name)
			if err := n.Stop(ctx); err != nil {
				return err
			}
			r.Pause(ctx, 500*time.Millisecond)
			r.Mend("%s is started again", n.Name)
			if err := n.Start(); err != nil {
				return err
			}
		}
		return nil
	},
}
