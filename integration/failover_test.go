package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// kill -9 of the primary, of standbys and of the Raft leader, under load, again and again: somebody else
// is primary after a moment, nothing acknowledged is lost, nothing seen is gone, what clients saw can
// have happened in one order, and all nodes end up equal.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ nodes, rounds int }{{3, 3}, {5, 1}} {
		if long {
			c.rounds = 200
		}
		t.Run(fmt.Sprintf("%d nodes", c.nodes), func(t *testing.T) { failover(t, c.nodes, c.rounds) })
	}
}

func failover(t *testing.T, nodes, rounds int) {
	c := newCluster(t, nodes, heartbeats)
	random := rand.New(rand.NewPCG(uint64(nodes), 3))
	k := c.startClients("failover", 8)
	var gaps faultGaps
	for round := range rounds {
		k.await(50 + random.IntN(200))
		if random.IntN(2) == 0 { // something else before
			gaps.strike(k, random, c.bystanders(random, 1))
		}
		victims := []*node{c.primary()}
		if nodes > 3 {
			victims = append(victims, c.bystanders(random, random.IntN(nodes/2))...)
		}
		gaps.strike(k, random, victims)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	k.finish()
	gaps.print(t)
}

// bystanders picks up to n nodes that are not the primary; the Raft leader more often than others.
func (c *cluster) bystanders(random *rand.Rand, n int) []*node {
	all := c.standbys()
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if leader := c.raftLeader(); random.IntN(2) == 0 {
		slices.SortStableFunc(all, func(a, b *node) int {
			switch leader {
			case a:
				return -1
			case b:
				return 1
			}
			return 0
		})
	}
	return all[:min(n, len(all))]
}

// raftLeader is the node that leads Raft as far as the primary knows; nil if it does not.
func (c *cluster) raftLeader() *node {
	name := c.primary().value("SELECT raft_leader FROM longship_cluster")
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// faultGaps are how long no write was acknowledged, by what was killed.
type faultGaps struct {
	primary, both, leader, standby []time.Duration
	phases                         []string // of the failovers
}

// strike kills nodes, starts them again, at once or after up to three seconds, and waits until all is
// well.
func (g *faultGaps) strike(k *clientele, random *rand.Rand, victims []*node) {
	c := k.cluster
	old, leader := c.primary(), c.raftLeader()
	epoch := old.epoch()
	at := k.now()
	names := ""
	for _, n := range victims {
		n.kill9()
		names += " " + n.name
	}
	struck := time.Now()
	later := time.Duration(0)
	if random.IntN(2) == 0 {
		later = rand.N(3 * time.Second)
	}
	pause(k.t.Context(), later)
	for _, n := range victims {
		n.launch()
	}
	for _, n := range victims {
		n.awaitReady()
	}
	k.await(50)
	c.awaitStreaming()
	gap := k.gap(at)
	k.nextEra()
	what := ""
	switch {
	case slices.Contains(victims, old) && leader != old && slices.Contains(victims, leader):
		what, g.both = "primary and Raft leader", append(g.both, gap)
	case slices.Contains(victims, old):
		what, g.primary = "primary", append(g.primary, gap)
	case slices.Contains(victims, leader):
		what, g.leader = "Raft leader", append(g.leader, gap)
	default:
		what, g.standby = "standby", append(g.standby, gap)
	}
	if slices.Contains(victims, old) {
		g.phases = append(g.phases, fmt.Sprintf("%v without, %s", gap.Round(time.Millisecond), c.phases(struck, epoch)))
	}
	k.t.Logf("killed%s (%s; Raft leader %s), back after %v: no write for %v", names, what, nameOf(leader), later.Round(time.Millisecond), gap.Round(time.Millisecond))
}

func nameOf(n *node) string {
	if n == nil {
		return "none"
	}
	return n.name
}

func (g *faultGaps) print(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "longest time without an acknowledged write after kill -9 of\n")
	fmt.Fprintf(&b, "  the primary              %s\n", percentiles(g.primary))
	fmt.Fprintf(&b, "  it and the Raft leader   %s\n", percentiles(g.both))
	fmt.Fprintf(&b, "  the Raft leader alone    %s\n", percentiles(g.leader))
	fmt.Fprintf(&b, "  another standby          %s\n", percentiles(g.standby))
	for _, p := range g.phases {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	t.Log(b.String())
}

// phases is when, after a fault, the epochs after the given one were decided on.
func (c *cluster) phases(since time.Time, epoch int64) string {
	ctx, cancel := testContext(c.t)
	defer cancel()
	conn := c.primary().connect()
	defer conn.Close(context.WithoutCancel(ctx))
	rows, _ := conn.Query(ctx, `SELECT epoch, time, steady, cause, "primary" FROM longship_history WHERE epoch > $1`, epoch)
	var text []string
	var at time.Time
	var steady bool
	var cause, name string
	_, err := pgx.ForEachRow(rows, []any{&epoch, &at, &steady, &cause, &name}, func() error {
		never := ""
		if !steady {
			never = ", never steady"
		}
		text = append(text, fmt.Sprintf("epoch %d: %s named after %v%s (%s)", epoch, name, at.Sub(since).Round(time.Millisecond), never, cause))
		return nil
	})
	if err != nil {
		c.t.Error(err)
	}
	return strings.Join(text, "; ")
}

// epoch is the epoch that the node knows.
func (n *node) epoch() int64 {
	n.t.Helper()
	epoch, err := strconv.ParseInt(n.value("SELECT epoch FROM longship_cluster"), 10, 64)
	if err != nil {
		n.t.Fatal(err)
	}
	return epoch
}
