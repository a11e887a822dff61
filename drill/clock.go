package drill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/longship-db/longship/internal/wallclock"
)

// The drill in which clocks are set: each node's own, which the drill writes to (package wallclock), never the
// machine's.

var clockJump = Drill{
	Name: "clock-jump",
	Breaks: "sets the clock of a node, in turn of the primary, a standby and the Raft leader: ahead by an hour and by twenty years, back by an hour " +
		"and to 1980, to and fro by seconds, and right again; in every other round then the clocks of all nodes, and kills the primary",
	Holds:  "the primary stays in office, a slot that nobody uses is kept; by wrong clocks, too, another takes over from one that was killed",
	Shown:  "now() on the node is off by what its clock was set by; the signal has ended the primary's process, and the epoch is a later one",
	Clocks: true,
	Lacks:  wallclock.Lacks,
	Begin: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		for _, query := range []string{
			"ALTER SYSTEM SET idle_replication_slot_timeout = '30min'",
			"SELECT pg_reload_conf()",
			"SELECT pg_create_physical_replication_slot('" + idleSlot + "', true)",
		} {
			if err := primary.Exec(ctx, query); err != nil {
				return err
			}
		}
		return nil
	},
	Round: func(ctx context.Context, r *Run) error {
		n, what, err := r.inTurn(ctx)
		if err != nil {
			return err
		}
		err = r.sameEpoch(ctx, func() error { return r.setClocks(ctx, n, what) })
		if err == nil && r.round.Number%2 == 0 {
			err = r.failoverByWrongClocks(ctx)
		}
		return err
	},
}

// idleSlot is one that nobody uses.
const idleSlot = "drill_idle"

// inTurn is the node whose turn it is in this round.
func (r *Run) inTurn(ctx context.Context) (n *Node, what string, err error) {
	switch r.round.Number % 3 {
	case 1:
		n, err = r.Cluster.Primary(ctx)
		return n, "the primary", err
	case 2:
		n, err = r.Standby(ctx)
		return n, "a standby", err
	}
	n, err = r.Cluster.Coordinator(ctx)
	return n, "the Raft leader", err
}

const (
	hour  = 3600 // in seconds, as all offsets are
	years = 365 * 24 * hour

	// longOff is how long a clock is far off at most: longer than signs of life are apart.
	longOff = 2 * time.Second
)

// since1980 is how far a clock is to be set back to be in 1980, where those begin that have lost their battery.
func since1980() int64 { return time.Now().Unix() - time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC).Unix() }

// setClocks sets the clock of a node to and fro, and in the end right.
func (r *Run) setClocks(ctx context.Context, n *Node, what string) error {
	offsets := []int64{hour, -hour, 20 * years, -since1980()}
	for range 4 {
		offsets = append(offsets, 1+r.Random.Int64N(3), -1-r.Random.Int64N(3))
	}
	for _, seconds := range append(offsets, 0) {
		r.Strike("the clock of %s, %s, is set %s", n.Name, what, byWhat(seconds))
		if err := r.setClock(ctx, n, seconds); err != nil {
			return err
		}
		if seconds <= -hour || seconds >= hour {
			r.Pause(ctx, longOff)
		}
		if err := r.AwaitCommits(ctx, commitsBetween/5); err != nil {
			return err
		}
		if err := r.keepsIdleSlot(ctx); err != nil {
			return err
		}
	}
	return nil
}

func byWhat(seconds int64) string {
	text := func(n int64) string {
		if n >= years {
			return fmt.Sprintf("%d years", n/years)
		}
		return fmt.Sprintf("%d s", n)
	}
	switch {
	case seconds == 0:
		return "right"
	case seconds > 0:
		return "ahead by " + text(seconds)
	}
	return "back by " + text(-seconds)
}

// setClock sets the clock of a node, off the true time by so many seconds, and verifies that the node goes by that.
func (r *Run) setClock(ctx context.Context, n *Node, seconds int64) error {
	if err := n.process().clock.Set(seconds); err != nil {
		return err
	}
	n.mu.Lock()
	if !slices.Contains(n.offsets, seconds) {
		n.offsets = append(n.offsets, seconds)
	}
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := n.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	defer hangUp(conn)
	var says time.Time
	before := time.Now()
	if err := conn.QueryRow(ctx, "SELECT now()").Scan(&says); err != nil {
		return fmt.Errorf("%s: now(): %w", n.Name, err)
	}
	return goesBy(n.Name, seconds, before, says, time.Now())
}

// goesBy verifies what a node, whose clock is off by so many seconds, says that the time is, between two moments.
func goesBy(name string, seconds int64, before, says, after time.Time) error {
	off := time.Duration(seconds) * time.Second
	if says.Before(before.Add(off).Truncate(time.Microsecond)) || says.After(after.Add(off)) {
		return untested("the clock of %s is off by %s, and it was to be off by %s", name, says.Sub(before.Round(0)), off)
	}
	return nil
}

// trueTime is when a node has written something to its log, between two moments. Its clock may have been set
// between them, too: then it is one of the times that this may have been.
func (n *Node) trueTime(says, from, to time.Time) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, seconds := range append([]int64{0}, n.offsets...) {
		if at := says.Add(-time.Duration(seconds) * time.Second); !at.Before(from) && !at.After(to) {
			return at
		}
	}
	return says
}

// keepsIdleSlot has the primary look for slots to be invalidated. Nobody uses this one, but not for as long as a
// clock may say.
func (r *Run) keepsIdleSlot(ctx context.Context) error {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	if err := primary.Exec(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	status, err := primary.Value(ctx, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '"+idleSlot+"'")
	if err == nil && status != "reserved" && status != "extended" {
		err = fmt.Errorf("slot %s, which nobody has used for some minutes at most, is %q on %s", idleSlot, status, primary.Name)
	}
	return err
}

// failoverByWrongClocks sets the clocks of all nodes, kills the primary, and sets them right.
func (r *Run) failoverByWrongClocks(ctx context.Context) error {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	nodes := r.Cluster.Nodes()
	offsets := []int64{-since1980(), 20 * years, -hour, hour}
	for i, n := range nodes {
		seconds := offsets[(i+r.round.Number/2)%len(offsets)]
		r.Strike("the clock of %s is set %s", n.Name, byWhat(seconds))
		if err := r.setClock(ctx, n, seconds); err != nil {
			return err
		}
	}
	if err := r.newEpoch(ctx, primary, func() error { return r.killFor(ctx, primary, "the primary") }); err != nil {
		return err
	}
	if err := r.Cluster.AwaitWell(ctx); err != nil {
		return err
	}
	if err := r.keepsIdleSlot(ctx); err != nil {
		return err
	}
	for _, n := range nodes {
		r.Mend("the clock of %s is set right", n.Name)
		if err := r.setClock(ctx, n, 0); err != nil {
			return err
		}
	}
	return nil
}
