package integration

import "testing"

// A primary that crashed opens a new epoch, and nobody reads before that epoch's first record is
// acknowledged under the rule. Stopping it cleanly meanwhile changes nothing: it still does not know
// all that was acknowledged.
func TestStopBeforeEpochOpens(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.primary(), c.node(2)
	n1.exec("INSERT INTO kv VALUES ('a', '1'), ('b', '2')")
	n1.exec("INSERT INTO kv VALUES ('c', '3')")
	n1.kill9()
	n2.kill9()
	for range 2 {
		n1.launch()
		n1.awaitOpening()
		n1.stop()
	}
	n1.launch()
	n1.awaitOpening()
	n2.start()
	n1.awaitReady()
	if got := n1.value("SELECT count(*)::text FROM kv"); got != "3" {
		t.Errorf("%s rows after the epoch has opened, want the 3 acknowledged before the crash", got)
	}
}

// A commit that waits when its primary is stopped is answered with 08007, as unknown, and it is there
// once a standby has it.
func TestStopWhileCommitWaits(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.primary(), c.node(2)
	n2.freeze()
	commit := startCommit(t, n1, "INSERT INTO kv VALUES ('a', '1')")
	commit.awaitFlushed()
	n1.stop()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := commit.result(ctx); sqlState(err) != "08007" {
		t.Errorf("the commit ended with %v, want 08007", err)
	}
	n1.start()
	n2.thaw()
	n1.await("SELECT value FROM kv WHERE key = 'a'", "1")
}

// awaitOpening waits until the node answers, and says that its epoch is not open yet.
func (n *node) awaitOpening() {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for {
		phase, err := n.tryValue("SELECT phase FROM longship_cluster")
		if phase == "opening" {
			return
		}
		if err == nil || ctx.Err() != nil {
			n.t.Fatalf("%s is in phase %q (%v), want opening", n.name, phase, err)
		}
	}
}
