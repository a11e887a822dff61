package integration

import (
	"strings"
	"testing"
)

// A node that knows that others may have acknowledged more does not take office alone, says what it waits
// for, and refuses writes. Stopping it cleanly meanwhile changes nothing.
func TestStopBeforeMajority(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.pair()
	n1.exec("INSERT INTO kv VALUES ('a', '1'), ('b', '2')")
	n1.exec("INSERT INTO kv VALUES ('c', '3')")
	n1.kill9()
	n2.kill9()
	for range 2 {
		n1.launch()
		n1.awaitAnswer("SELECT waiting FROM longship_cluster", "a majority of the nodes must be up")
		if err := n1.tryExec("INSERT INTO kv VALUES ('d', '4')"); sqlState(err) != "25006" {
			t.Errorf("a write on a node that waits for others ends with %v, want 25006", err)
		}
		n1.stop()
	}
	n1.launch()
	n2.launch()
	n1.awaitReady()
	n2.awaitReady()
	if got := c.primary().value("SELECT count(*)::text FROM kv"); got != "3" {
		t.Errorf("%s rows, want the 3 acknowledged before the crash", got)
	}
	c.checkSame()
}

// Nobody reads or writes on a new primary before its epoch's first record is acknowledged under the rule:
// it does not know all that was acknowledged. Stopping it cleanly meanwhile changes nothing.
func TestStopBeforeEpochOpens(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	t.Cleanup(c.tidy)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms"}
	var proxies []*proxy
	for i := range 2 {
		proxies = append(proxies, newProxy(t, c.node(i+1)))
	}
	c.node(1).start()
	c.node(2).start()
	c.awaitStreaming()
	c.awaitCounted(2)
	c.primary().exec("INSERT INTO kv VALUES ('a', '1'), ('b', '2')")
	c.primary().exec("INSERT INTO kv VALUES ('c', '3')")
	for _, n := range c.nodes {
		n.kill9()
	}
	for _, p := range proxies {
		p.limit(0) // each can promise something to the other, and follow it nowhere
	}
	for _, n := range c.nodes {
		n.launch()
	}
	for range 2 {
		n := c.awaitOpening()
		for _, sql := range []string{"SELECT count(*) FROM kv", "INSERT INTO kv VALUES ('d', '4')"} {
			if err := n.tryExec("SET statement_timeout = 200; " + sql); sqlState(err) != "57014" && sqlState(err) != "08007" && sqlState(err) != "57P01" {
				t.Errorf("while the epoch opens, %s ends with %v, want 57014", sql, err)
			}
		}
		n.stop()
		n.launch()
	}
	c.awaitOpening()
	for _, p := range proxies {
		p.open()
	}
	for _, n := range c.nodes {
		n.awaitReady()
	}
	if got := c.primary().value("SELECT count(*)::text FROM kv WHERE key < 'd'"); got != "3" {
		t.Errorf("%s rows after the epoch has opened, want the 3 acknowledged before the crash", got)
	}
	c.checkSame()
}

// awaitOpening waits until a node is the primary of an epoch that is not open, and returns it.
func (c *cluster) awaitOpening() *node {
	c.t.Helper()
	ctx, cancel := testContext(c.t)
	defer cancel()
	for ; ctx.Err() == nil; moment(ctx) {
		for _, n := range c.nodes {
			v, err := n.ask(ctx, "SELECT phase FROM longship_cluster WHERE role = 'primary' AND waiting IS NOT NULL")
			if err == nil && v == "opening" {
				return n
			}
		}
	}
	c.t.Fatalf("nobody opens an epoch\n%s", c.waiting())
	return nil
}

// A commit that waits when its primary is stopped is answered with 08007, as unknown. If the log that it
// is in is the longest, it is there once a standby has it.
func TestStopWhileCommitWaits(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, "--wal-sender-timeout=1s") // a stop waits no longer for a standby that is silent
	n1, n2 := c.pair()
	n2.freeze()
	commit := startCommit(t, n1, "INSERT INTO kv VALUES ('a', '1')")
	commit.awaitFlushed()
	n1.stop()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := commit.result(ctx); sqlState(err) != "08007" {
		t.Errorf("the commit ended with %v, want 08007", err)
	}
	n1.launch()
	n2.thaw()
	n1.awaitReady()
	c.primary().await("SELECT value FROM kv WHERE key = 'a'", "1")
	c.checkSame()
}

// awaitAnswer waits until the node answers a query with something that contains want.
func (n *node) awaitAnswer(sql, want string) {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for {
		got, err := n.tryValue(sql)
		if err == nil && strings.Contains(got, want) {
			return
		}
		if ctx.Err() != nil {
			n.t.Fatalf("%s: %s = %q (%v), want %q in it", n.name, sql, got, err, want)
		}
		moment(ctx)
	}
}
