package drill

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The drills of what operators do on purpose: they cost a moment and nothing else.

var switchoverStorm = Drill{
	Name:   "switchover-storm",
	Breaks: "moves the primary from node to node, five times in a row, while commits go on, and in the end back to where it was",
	Holds:  "each switchover ends where it was to go",
	Shown:  "another node, the one named, is primary after each",
	Target: true,
	Begin: func(ctx context.Context, r *Run) (err error) {
		r.home, err = r.Cluster.Primary(ctx)
		return err
	},
	Round: func(ctx context.Context, r *Run) error {
		for range 5 {
			candidates, err := r.candidates(ctx)
			if err != nil {
				return err
			}
			if err := r.switchover(ctx, candidates[r.Random.IntN(len(candidates))]); err != nil {
				return err
			}
			if err := r.AwaitCommits(ctx, 10); err != nil {
				return err
			}
		}
		return nil
	},
	Finish: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil || primary == r.home {
			return err
		}
		return r.switchover(ctx, r.home)
	},
}

// candidates are the standbys that may become primary.
func (r *Run) candidates(ctx context.Context) (list []*Node, err error) {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := primary.Rows(ctx, "SELECT name FROM longship_members WHERE role = 'standby' AND failover_priority > 0")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		n, err := r.Cluster.Named(row[0])
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	if len(list) == 0 {
		return nil, errors.New("there is no standby that may become primary")
	}
	return list, nil
}

// switchover moves the primary to a standby. The session that asks for it may end before it is answered.
func (r *Run) switchover(ctx context.Context, to *Node) error {
	if err := r.Cluster.AwaitWell(ctx); err != nil {
		return err
	}
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	nodes := r.Cluster.Nodes()
	asked := nodes[r.Random.IntN(len(nodes))]
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

var restartStandby = Drill{
	Name:   "restart-standby",
	Breaks: "stops a standby cleanly and starts it again after a moment; on a running cluster with the operator's commands",
	Holds:  "the primary stays in office",
	Shown:  "the standby answers that its process was started at another time than before",
	Target: true,
	Stops:  true,
	Round: func(ctx context.Context, r *Run) error {
		return r.sameEpoch(ctx, func() error {
			standby, err := r.Standby(ctx)
			if err != nil {
				return err
			}
			was, err := standby.Value(ctx, sinceWhen)
			if err != nil {
				return err
			}
			r.Strike("%s, a standby, is stopped", standby.Name)
			if err := standby.Stop(ctx); err != nil {
				return err
			}
			r.Pause(ctx, pauseAfterKill)
			r.Mend("%s is started again", standby.Name)
			if err := standby.Start(); err != nil {
				return err
			}
			return startedAnew(ctx, standby, was)
		})
	},
}

// sinceWhen asks a node when its process was started.
const sinceWhen = "SELECT started FROM longship_cluster"

// startedAnew waits until a node was not started when it was.
func startedAnew(ctx context.Context, n *Node, was string) error {
	return poll(ctx, func(ctx context.Context) error {
		now, err := n.Value(ctx, sinceWhen)
		if err == nil && now == was {
			err = untested("%s has run without a break since %s", n.Name, was)
		}
		return err
	})
}

var rollingRestart = Drill{
	Name:   "rolling-restart",
	Breaks: "stops each node cleanly and starts it again, one after the other, as for an upgrade",
	Holds:  "each ends with exit code 0, the primary after it has handed over",
	Shown:  "exit code 0; the primary says in its log that it has handed over",
	Round: func(ctx context.Context, r *Run) error {
		for _, n := range r.Cluster.Nodes() {
			if err := r.Cluster.AwaitWell(ctx); err != nil {
				return err
			}
			primary, err := r.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			r.Strike("%s is stopped (SIGTERM)", n.Name)
			if err := n.Stop(ctx); err != nil {
				return err
			}
			if n == primary && !r.reader.has(n, "handed over", nil) {
				return fmt.Errorf("%s, the primary, was stopped and does not say that it has handed over: %s", n.Name, n.lastLog())
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
