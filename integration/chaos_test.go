package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Nodes are killed, stand still and hand over, several at once and in the middle of failovers, and
// nobody waits for the cluster to recover in between. In the end all is well by itself: nothing lost,
// nothing seen and gone, one order of all that clients saw, equal nodes.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ nodes, events int }{{3, 18}, {5, 18}} {
		if long {
			c.events = 1000
		}
		t.Run(fmt.Sprintf("%d nodes", c.nodes), func(t *testing.T) { chaos(t, c.nodes, c.events) })
	}
}

func chaos(t *testing.T, nodes, events int) {
	c := newCluster(t, nodes, heartbeats)
	k := c.startClients("chaos", 6)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	d := &demon{k: k, random: rand.New(rand.NewPCG(seed, 0))}
	at, epoch := k.now(), c.primary().epoch()
	for i := range events {
		d.act()
		d.wait(rand.N(700 * time.Millisecond))
		if i%5 == 4 {
			k.nextEra()
		}
	}
	d.relent()
	for _, n := range c.nodes {
		n.awaitReady()
	}
	c.awaitStreaming()
	k.await(50)
	k.finish()
	t.Logf("%v; the longest time without a write was %v; epoch %d after %d", d.did, k.gap(at).Round(time.Millisecond), c.primary().epoch(), epoch)
}

// A demon does things to nodes, and undoes them later.
type demon struct {
	k      *clientele
	random *rand.Rand
	undo   []undoing
	asked  []*process // switchovers
	did    map[string]int
}

type undoing struct {
	node *node
	at   time.Time
	do   func()
}

// act does something to a node that it has done nothing to.
func (d *demon) act() {
	c := d.k.cluster
	n := c.nodes[d.random.IntN(len(c.nodes))]
	if d.random.IntN(2) == 0 {
		n = d.inOffice(n)
	}
	if slices.ContainsFunc(d.undo, func(u undoing) bool { return u.node == n }) {
		return
	}
	if d.did == nil {
		d.did = map[string]int{}
	}
	switch d.random.IntN(5) {
	case 0, 1, 2:
		d.did["killed"]++
		n.kill9()
		d.later(n, 1500*time.Millisecond, n.launch)
	case 3:
		d.did["stood still"]++
		n.freeze()
		d.later(n, 3*time.Second, n.thaw)
	default:
		d.did["asked to take over"]++
		at := c.nodes[d.random.IntN(len(c.nodes))]
		p := startProcess(d.k.t, nil, longship, "switchover", "--to", n.name, "--host", "127.0.0.1", "--port", strconv.Itoa(at.port))
		d.asked = append(d.asked, p)
	}
}

// inOffice is the primary, if one can be found at once, and otherwise n.
func (d *demon) inOffice(n *node) *node {
	ctx, cancel := context.WithTimeout(d.k.t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, o := range d.k.cluster.nodes {
		if o.isPrimary(ctx) {
			return o
		}
	}
	return n
}

func (d *demon) later(n *node, within time.Duration, do func()) {
	d.undo = append(d.undo, undoing{n, time.Now().Add(rand.N(within)), do})
}

// wait lets some time pass, and undoes what is due.
func (d *demon) wait(length time.Duration) {
	for end := time.Now().Add(length); ; {
		next := end
		d.undo = slices.DeleteFunc(d.undo, func(u undoing) bool {
			if due := !u.at.After(time.Now()); due {
				u.do()
				return true
			}
			if u.at.Before(next) {
				next = u.at
			}
			return false
		})
		if !time.Now().Before(end) || d.k.t.Context().Err() != nil {
			return
		}
		pause(d.k.t.Context(), time.Until(next))
	}
}

// relent undoes everything.
func (d *demon) relent() {
	for _, u := range d.undo {
		u.do()
	}
	d.undo = nil
	ctx, cancel := testContext(d.k.t)
	defer cancel()
	for _, p := range d.asked { // or one would move the primary while all is compared
		_ = p.wait(ctx) // it may have failed
	}
	if ctx.Err() != nil {
		d.k.t.Fatal("a switchover does not end")
	}
}
