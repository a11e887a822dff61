package drill

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The drills that cut the network between nodes, as if a cable were pulled: nobody is told, connections hang.
// Clients reach every node all the time: so those of a primary that is cut off see what it still does.

// isolation is how long a node is cut off for at least, where nobody is to notice.
const isolation = 3 * time.Second

var partitionPrimary = Drill{
	Name:   "partition-primary",
	Breaks: "cuts the primary off from all other nodes, in both directions, until another one has been primary for a while",
	Holds:  "another node takes over; by then the old primary, which clients still reach, acknowledges nothing and answers no reads",
	Shown:  "the cut has held something up; another node is the primary of a later epoch",
	Flags:  breakable,
	Round: func(ctx context.Context, r *Run) error {
		return r.depose(ctx, "%s, the primary, is cut off from the others", func(primary, others []*Node) []way {
			return bothWays(primary, others, "")
		})
	},
}

var partitionOneway = Drill{
	Name:   "partition-oneway",
	Breaks: "cuts the way from the primary to all other nodes, and in every other round the way from them to it",
	Holds:  "another node takes over; by then the old primary acknowledges nothing and answers no reads",
	Shown:  "the cut has held something up; another node is the primary of a later epoch",
	Flags:  breakable,
	Round: func(ctx context.Context, r *Run) error {
		if r.round.Number%2 == 1 {
			return r.depose(ctx, "%s, the primary, is not heard by the others", func(primary, others []*Node) []way {
				return ways(primary, others, "")
			})
		}
		return r.depose(ctx, "%s, the primary, hears nothing from the others", func(primary, others []*Node) []way {
			return ways(others, primary, "")
		})
	},
}

var partitionRaft = Drill{
	Name:   "partition-raft-only",
	Breaks: "cuts one node's Raft off from the others, the primary's, the leader's or that of any in turn, and then everybody's",
	Holds:  "commits go on, and the primary stays in office: what decides about failovers is not needed for commits; with a majority there is a Raft leader soon",
	Shown:  "the cut has held something up; the node that is cut off knows no Raft leader; if all are, none does",
	Flags:  breakable,
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		leader, err := r.Cluster.Coordinator(ctx)
		if err != nil {
			return err
		}
		nodes := r.Cluster.Nodes()
		victim, what := primary, "the primary"
		switch r.round.Number % 4 {
		case 2:
			victim, what = leader, "the Raft leader"
		case 3:
			victim, what = nodes[r.Random.IntN(len(nodes))], "one of the nodes"
		case 0:
			return r.unimpressed(ctx, "nobody's Raft reaches anybody", ways(nodes, nodes, "raft"), func() error {
				return leaderless(ctx, nodes)
			})
		}
		others := r.Cluster.others(victim)
		return r.unimpressed(ctx, fmt.Sprintf("the Raft of %s, %s, is cut off", victim.Name, what), bothWays([]*Node{victim}, others, "raft"), func() error {
			if err := leaderless(ctx, []*Node{victim}); err != nil {
				return err
			}
			return ledWithout(ctx, victim, others)
		})
	},
}

// ledWithout waits until nodes have a Raft leader that is not the one that is cut off.
func ledWithout(ctx context.Context, victim *Node, others []*Node) error {
	return poll(ctx, func(ctx context.Context) error {
		for _, n := range others {
			leader, err := n.Value(ctx, "SELECT raft_leader FROM longship_cluster")
			if err != nil {
				return err
			}
			if leader == "" || leader == victim.Name {
				return fmt.Errorf("to %s the Raft leader is %q, and %s is cut off", n.Name, leader, victim.Name)
			}
		}
		return nil
	})
}

var partitionReplication = Drill{
	Name:   "partition-replication-only",
	Breaks: "cuts replication, and what members ask each other, between the primary and all others, while Raft and gossip go on; in every other round between the primary and one standby",
	Holds:  "another node takes over from a primary that nobody can follow; one standby alone that cannot follow is nothing",
	Shown:  "the cut has held something up; another node is the primary of a later epoch; the one standby does not get what is committed",
	Flags:  breakable,
	Round: func(ctx context.Context, r *Run) error {
		const kinds = "replication,commands"
		if r.round.Number%2 == 1 {
			return r.depose(ctx, "nobody can follow %s, the primary", func(primary, others []*Node) []way {
				return bothWays(primary, others, kinds)
			})
		}
		primary, standby, err := r.pair(ctx)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s cannot follow %s, the primary", standby.Name, primary.Name)
		return r.unimpressed(ctx, what, bothWays([]*Node{primary}, []*Node{standby}, kinds), func() error {
			return r.leftBehind(ctx, primary, standby)
		})
	},
}

// slowness is how much longer everything takes on each way of a slow network.
const slowness = 100 * time.Millisecond

var slowStandby = Drill{
	Name:   "slow-standby",
	Breaks: "makes the network between the primary and a standby slow: 20 kB/s, then all takes 100 ms longer each way, and then so for all standbys",
	Holds:  "the primary stays in office; commits do not wait for one slow standby, and do for all; who was slow catches up",
	Shown:  "the network has held something up; the one slow standby has less than the primary; with all of them slow no commit is fast",
	Flags:  breakable,
	Round: func(ctx context.Context, r *Run) error {
		primary, standby, err := r.pair(ctx)
		if err != nil {
			return err
		}
		slow, name := []*Node{standby}, standby.Name
		what, effect, amount := "20 kB/s", "limit", "20kB"
		if r.round.Number%3 != 1 {
			what, effect, amount = fmt.Sprintf("%v more each way", slowness), "delay", slowness.String()
		}
		if r.round.Number%3 == 0 {
			slow, name = r.Cluster.others(primary), "all others"
		}
		return r.sameEpoch(ctx, func() error {
			return r.under(ctx, fmt.Sprintf("%s between %s, the primary, and %s", what, primary.Name, name), nil, func() error {
				return r.impede(ctx, bothWays([]*Node{primary}, slow, ""), effect, amount)
			}, func() error {
				if len(slow) == 1 {
					if err := r.lags(ctx, primary, standby); err != nil {
						return err
					}
				}
				if err := r.checkPace(ctx, primary, len(slow) == 1); err != nil {
					return err
				}
				r.Pause(ctx, isolation)
				return r.AwaitCommits(ctx, commitsBetween)
			})
		})
	},
}

// lags verifies that a standby has less than the primary, a moment after something was written that takes a
// while to get there: with 20 kB/s because of its size, and with a delay whatever it is.
func (r *Run) lags(ctx context.Context, primary, standby *Node) error {
	for range 5 {
		if err := r.fill(ctx, primary, r.work.prefix+"slow", fillRow/4); err != nil {
			return err
		}
		has, written, err := received(ctx, standby, primary)
		if err != nil || has < written {
			return err
		}
	}
	return untested("%s, to which the network is slow, has everything at once", standby.Name)
}

// checkPace verifies that some commits are faster than the way to a slow standby and back, or that none is.
func (r *Run) checkPace(ctx context.Context, primary *Node, some bool) error {
	conn, err := primary.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	quickest := time.Hour
	for range 20 {
		began := time.Now()
		if _, err := conn.Exec(ctx, upsert, r.work.prefix+"pace", began.String()); err != nil {
			return err
		}
		quickest = min(quickest, time.Since(began))
	}
	switch {
	case some && quickest >= 2*slowness:
		return fmt.Errorf("commits wait for one slow standby: none of 20 took less than %v", quickest)
	case !some && quickest < 2*slowness:
		return fmt.Errorf("a commit was acknowledged after %v, before anybody but %s can have had it", quickest, primary.Name)
	}
	return nil
}

// pair is the primary and one of its standbys.
func (r *Run) pair(ctx context.Context) (primary, standby *Node, err error) {
	if primary, err = r.Cluster.Primary(ctx); err == nil {
		standby, err = r.Standby(ctx)
	}
	return primary, standby, err
}

// unimpressed cuts something that nobody needs for commits, and verifies that those go on, and nothing else changes.
func (r *Run) unimpressed(ctx context.Context, what string, cut []way, during func() error) error {
	return r.sameEpoch(ctx, func() error {
		return r.under(ctx, what, nil, func() error { return r.impede(ctx, cut, "cut", "") }, func() error {
			if err := during(); err != nil {
				return err
			}
			sleep(ctx, isolation)
			r.Pause(ctx, isolation)
			return r.AwaitCommits(ctx, commitsBetween)
		})
	})
}

// depose cuts the primary off, waits until another node is primary, and verifies what the old one does then.
func (r *Run) depose(ctx context.Context, what string, cut func(primary, others []*Node) []way) error {
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
	others := r.Cluster.others(primary)
	return r.under(ctx, fmt.Sprintf(what, primary.Name), nil, func() error {
		return r.impede(ctx, cut([]*Node{primary}, others), "cut", "")
	}, func() error {
		next, err := successor(ctx, others, before)
		if err != nil {
			return err
		}
		if err := t.run(ctx, next); err != nil {
			return err
		}
		r.Pause(ctx, isolation)
		return r.AwaitCommits(ctx, commitsBetween)
	})
}

// successor waits until one of some nodes is the primary of a later epoch, and open.
func successor(ctx context.Context, nodes []*Node, before uint64) (next *Node, err error) {
	err = poll(ctx, func(ctx context.Context) error {
		for _, n := range nodes {
			rows, err := n.Rows(ctx, fmt.Sprintf("SELECT role = 'primary' AND epoch > %d AND waiting IS NULL FROM longship_cluster", before))
			if err == nil && rows[0][0] == "t" {
				next = n
				return nil
			}
		}
		return fmt.Errorf("nobody takes over from the primary of epoch %d", before)
	})
	return next, err
}

// A trial is two sessions on a primary, opened while it was one, to find out what it does when it is none any more.
type trial struct {
	node          *Node
	key           string
	reads, writes *pgx.Conn
}

func newTrial(ctx context.Context, n *Node, key string) (*trial, error) {
	t := &trial{node: n, key: key}
	var err error
	if t.reads, err = n.connect(ctx); err != nil {
		return nil, err
	}
	if t.writes, err = n.connect(ctx); err != nil {
		hangUp(t.reads)
		return nil, err
	}
	return t, nil
}

func (t *trial) close() {
	hangUp(t.reads)
	hangUp(t.writes)
}

// run commits something on the successor; from then on the old primary must not answer, not even for a moment.
func (t *trial) run(ctx context.Context, successor *Node) error {
	if err := successor.Exec(ctx, upsert, t.key, successor.Name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	wrote := make(chan error, 1)
	go func() {
		_, err := t.writes.Exec(ctx, upsert, t.key, t.node.Name)
		wrote <- err
	}()
	_, readErr := t.reads.Exec(ctx, "SELECT value FROM kv WHERE key = $1", t.key)
	switch writeErr := <-wrote; {
	case writeErr == nil:
		return fmt.Errorf("%s acknowledged a commit after %s, its successor, had", t.node.Name, successor.Name)
	case readErr == nil:
		return fmt.Errorf("%s answered a read after %s, its successor, had acknowledged a commit", t.node.Name, successor.Name)
	}
	return nil
}
