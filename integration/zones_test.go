package integration

import (
	"fmt"
	"slices"
	"testing"
)

const zonesRule = "ANY 3 (*) ZONES 2"

// Six nodes, two in each of three zones: what guarantees.md says of them. Without one zone, the primary's or another,
// commits go on; without one more they wait, what was acknowledged can be read, and nothing of it is lost.
func TestZones(t *testing.T) {
	t.Parallel()
	z := newZones(t)
	z.write("everybody")

	p, zones := z.primary(), z.zones()
	z.kill(zones[1]...)
	z.write("without a zone")

	end, left := p.flushed(), append(zones[0][1:], zones[2]...)
	for _, n := range left {
		n.awaitLSN(end)
	}
	z.kill(left[0])
	z.checkUnacknowledged(p)
	for _, n := range left[1:] {
		z.checkRows(n)
	}

	z.kill(append(left[1:], p)...)
	z.startAll(z.nodes)
	z.awaitRule()
	z.write("everybody again")

	zones = z.zones()
	z.kill(zones[0]...)
	z.write("without the primary's zone")
	z.startAll(zones[0])
	z.checkSame()
	for _, n := range z.nodes {
		z.checkRows(n)
	}
}

// zones are six nodes, and the keys of what was acknowledged to their clients.
type zones struct {
	*cluster
	acked []string
}

func newZones(t *testing.T) *zones {
	t.Helper()
	c := unstarted(t)
	c.flags = append(c.flags, "--synchronous-standby-names="+zonesRule)
	for i := range 6 {
		n := c.node(i + 1)
		n.flags = append(n.flags, "--zone="+string("abc"[i/2]))
	}
	z := &zones{cluster: c}
	c.start()
	z.awaitRule()
	return z
}

// zones returns the nodes by zone, the primary first.
func (z *zones) zones() (list [3][]*node) {
	z.t.Helper()
	first := slices.Index(z.nodes, z.primary())
	for i := range z.nodes {
		n := z.nodes[(first/2*2+i)%len(z.nodes)]
		list[i/2] = append(list[i/2], n)
	}
	if first%2 == 1 {
		slices.Reverse(list[0])
	}
	return list
}

// awaitRule waits until the rule lists all others, who stream.
func (z *zones) awaitRule() {
	z.t.Helper()
	z.awaitStreaming()
	p := z.primary()
	p.await("SELECT rule FROM longship_cluster", zonesRule)
	p.await("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'", "5")
	p.await("SELECT rule_met FROM longship_cluster", "t")
}

// kill ends nodes as a loss of power does: none of them hears of another's end.
func (z *zones) kill(nodes ...*node) {
	for _, n := range nodes {
		n.freeze()
	}
	for _, n := range nodes {
		n.kill9()
	}
}

func (z *zones) startAll(nodes []*node) {
	z.t.Helper()
	for _, n := range nodes {
		n.launch()
	}
	for _, n := range nodes {
		n.awaitReady()
	}
}

// write has some rows acknowledged.
func (z *zones) write(prefix string) {
	z.t.Helper()
	p := z.primary()
	for i := range 10 {
		key := fmt.Sprintf("%s %d", prefix, i)
		p.exec("INSERT INTO kv VALUES ($1, 'acknowledged')", key)
		z.acked = append(z.acked, key)
	}
}

// checkUnacknowledged verifies that commits wait, and that one which is given up may or may not be there later.
func (z *zones) checkUnacknowledged(p *node) {
	z.t.Helper()
	commit := startCommit(z.t, p, "INSERT INTO kv VALUES ('unacknowledged', '')")
	commit.awaitFlushed()
	commit.checkWaiting()
	p.await("SELECT rule_met FROM longship_cluster", "f")
	wantLines(z.t, explainCommit(z.t, p, p.flushed().String()),
		"is not durable under the rule", "rule: '"+zonesRule+"' waits for 3 of 5, in 2 zones", "missing: ")
	p.exec("SELECT pg_cancel_backend($1)", int32(commit.conn.PgConn().PID()))
	ctx, cancel := testContext(z.t)
	defer cancel()
	if err := commit.result(ctx); sqlState(err) != "08007" {
		z.t.Errorf("a commit that cannot be acknowledged ends with %v, want 08007", err)
	}
}

// checkRows verifies that a node shows all that was acknowledged.
func (z *zones) checkRows(n *node) {
	z.t.Helper()
	for _, key := range z.acked {
		if got := n.value("SELECT value FROM kv WHERE key = $1", key); got != "acknowledged" {
			z.t.Errorf("%s: %q, which was acknowledged, reads %q", n.name, key, got)
		}
	}
}
