package integration

import (
	"os"
	"testing"
)

// One disk is lost, the primary's. Of the others, one has all, and one is so far behind that it needs a new base
// copy. That one keeps what it has until the copy is complete, as the member that the rule lists: so the successor's
// epoch can be opened, and what was acknowledged is there.
func TestLostDiskWithOneFarBehind(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--max-slot-wal-keep-size=1MB", "--wal-keep-size=0", "--min-wal-size=2MB", "--max-wal-size=2MB")
	lost, successor, behind := c.nodes[0], c.nodes[1], c.nodes[2]
	lost.exec("INSERT INTO kv VALUES ('before', '1')")
	next := segmentSize.FileName(1, segmentSize.Segno(c.awaitCaughtUp()))
	behind.kill9()
	for lost.segment(next) != nil || successor.segment(next) != nil {
		lost.advanceWAL(2)
		lost.exec("CHECKPOINT")
		successor.awaitLSN(lost.flushed())
		successor.exec("CHECKPOINT")
	}
	lost.exec("INSERT INTO kv VALUES ('after', '2')")
	incarnation := lost.value("SELECT incarnation FROM longship_members WHERE name = $1", behind.name)

	lost.kill9()
	if err := os.RemoveAll(lost.dir); err != nil {
		t.Fatal(err)
	}
	behind.launch()
	p := c.primary()
	if p != successor {
		t.Fatalf("%s is the primary, and %s has all", p.name, successor.name)
	}
	p.exec("INSERT INTO kv VALUES ('later', '3')")
	behind.awaitLSN(p.flushed())
	for _, n := range []*node{successor, behind} {
		if got := n.value("SELECT count(*) FROM kv WHERE key IN ('before', 'after', 'later')"); got != "3" {
			t.Errorf("%s has %s of 3 rows", n.name, got)
		}
	}
	if got := p.value("SELECT incarnation FROM longship_members WHERE name = $1", behind.name); got != incarnation {
		t.Errorf("%s is %s, and was %s", behind.name, got, incarnation)
	}
	lost.flags = append(lost.flags, "--join="+successor.address()+","+behind.address())
	lost.start()
	c.awaitStreaming()
	c.awaitCounted(3)
}

// The disk of the only standby that the next primary's rule names is lost, and then the primary. The successor's epoch
// cannot be opened before that standby is back: with an empty disk it takes its copy of a primary that is not in office
// yet.
func TestLostDiskThatOpens(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.flags = append(c.flags, "--synchronous-standby-names=ANY 1 (n2, n3)")
	n1, lost, successor := c.node(1), c.node(2), c.node(3)
	successor.flags = append(successor.flags, "--failover-priority=200")
	c.start()
	n1.exec("INSERT INTO kv VALUES ('before', '1')")
	c.awaitCaughtUp()

	lost.kill9()
	if err := os.RemoveAll(lost.dir); err != nil {
		t.Fatal(err)
	}
	n1.kill9()
	n1.launch()
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := successor.proc.await(ctx, successor.proc.stderr, "too few are there to open the epoch"); err != nil {
		t.Fatal(err)
	}
	lost.start()
	if p := c.primary(); p != successor {
		t.Fatalf("%s is the primary, want %s", p.name, successor.name)
	}
	successor.exec("INSERT INTO kv VALUES ('after', '2')")
	c.awaitStreaming()
	c.awaitCounted(3)
	c.awaitCaughtUp()
	c.checkSame()
}
