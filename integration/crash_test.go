package integration

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// kill -9 of any nodes under load, again and again: every acknowledged commit is there, on the primary,
// whoever that is by then, and, once they have caught up, on the standbys, whose logs are the primary's
// byte for byte.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	killUnderLoad(t, 29, 0)
}

// The same where checkpoints are frequent and segments are used again: behind the end of the log are
// not zeros then, but older WAL.
func TestKillUnderLoadRecycling(t *testing.T) {
	t.Parallel()
	killUnderLoad(t, 30, 2, "--max-wal-size=4MB", "--min-wal-size=3MB", "--wal-buffers=256kB", "--wal-sync-method=open_datasync")
}

// killUnderLoad repeats it with clusters that have flags, and lets the log grow by a number of segments
// in each round besides. One node is often started again only when the others have gone on without it;
// of two or all, nobody can go on before they are back.
func killUnderLoad(t *testing.T, seed uint64, segments int, flags ...string) {
	rounds := 5
	if long {
		rounds = 50
	}
	c := newCluster(t, 3, flags...)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		victims := pickVictims(random, c)
		l := startLoad(c, fmt.Sprintf("round%03d", round), 8)
		fill(t, c.primary(), random, segments)
		l.await(20 + random.IntN(300))
		names := ""
		for _, n := range victims {
			n.kill9()
			names += " " + n.name
		}
		if len(victims) == 1 && random.IntN(2) == 0 {
			l.await(50)
		}
		for _, n := range victims {
			n.launch()
		}
		for _, n := range victims {
			n.awaitReady()
		}
		l.await(50)
		l.stop()
		t.Logf("round %d: killed%s: %d commits acknowledged, %d unknown, none for %v", round, names, len(l.acked), len(l.unknown), l.gap.Round(time.Millisecond))
		c.checkSame()
		for _, n := range c.nodes {
			l.check(n)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// pickVictims draws the nodes to kill: one, which is often the primary, two, or all of them.
func pickVictims(random *rand.Rand, c *cluster) []*node {
	k := 1
	switch random.IntN(6) {
	case 0:
		k = 2
	case 1:
		k = len(c.nodes)
	case 2, 3:
		return []*node{c.primary()}
	}
	var victims []*node
	for _, i := range random.Perm(len(c.nodes))[:k] {
		victims = append(victims, c.nodes[i])
	}
	return victims
}
