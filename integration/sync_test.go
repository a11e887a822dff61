package integration

import (
	"strings"
	"testing"
)

// checkStates compares who streams, with what priority and sync_state.
func checkStates(t *testing.T, n *node, want string) {
	t.Helper()
	n.await("SELECT count(*) FROM pg_stat_replication WHERE state <> 'streaming'", "0")
	got := psql(t, n, "SELECT application_name, sync_priority, sync_state FROM pg_stat_replication ORDER BY application_name", "-A", "-t", "-F", " ")
	if got = strings.TrimSpace(strings.ReplaceAll(got, "\n", ", ")); strings.TrimSuffix(got, ",") != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// waitsFor verifies that with these standbys frozen a commit waits, and is done when they run again.
func waitsFor(t *testing.T, c *cluster, setup string, frozen ...*node) {
	t.Helper()
	for _, n := range frozen {
		n.freeze()
	}
	commit := startCommit(t, c.primary(), "INSERT INTO kv VALUES ('w', '1') ON CONFLICT (key) DO UPDATE SET value = 'again'", setup)
	commit.awaitFlushed()
	commit.checkWaiting()
	for _, n := range frozen {
		n.thaw()
	}
	ctx, cancel := testContext(t)
	defer cancel()
	if err := commit.result(ctx); err != nil {
		t.Errorf("%s: the commit ends with %v", setup, err)
	}
}

// passesWithout verifies that with these standbys frozen a commit does not wait.
func passesWithout(t *testing.T, c *cluster, setup string, frozen ...*node) {
	t.Helper()
	for _, n := range frozen {
		n.freeze()
	}
	c.primary().exec(setup + "; INSERT INTO kv VALUES ('p', '1') ON CONFLICT (key) DO UPDATE SET value = 'again'")
	for _, n := range frozen {
		n.thaw()
	}
}

// The standbys that a rule names are waited for, and no others, at each level of synchronous_commit.
func TestSynchronousStandbyNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--synchronous-standby-names=FIRST 1 (n3, n2)")
	n2, n3 := c.node(2), c.node(3)
	const on, local, off = "SET synchronous_commit = on", "SET synchronous_commit = local", "SET synchronous_commit = off"
	checkStates(t, c.primary(), "n2 2 potential, n3 1 sync")
	passesWithout(t, c, on, n2)
	waitsFor(t, c, on, n3)
	waitsFor(t, c, "SET synchronous_commit = remote_write", n3)
	waitsFor(t, c, "SET synchronous_commit = remote_apply", n3)
	passesWithout(t, c, local, n2, n3)
	passesWithout(t, c, off, n2, n3)
	n3.kill9()
	checkStates(t, c.primary(), "n2 2 sync")
	waitsFor(t, c, on, n2)
	n3.start()
	checkStates(t, c.primary(), "n2 2 potential, n3 1 sync")

	change := func(rule, states string) {
		t.Helper()
		c.primary().stop()
		c.primary().replaceFlag("--synchronous-standby-names", rule)
		c.primary().start()
		c.awaitStreaming()
		checkStates(t, c.primary(), states)
	}
	change("ANY 2 (n2, n3)", "n2 1 quorum, n3 1 quorum")
	waitsFor(t, c, on, n2)
	waitsFor(t, c, on, n3)
	change("ANY 1 (*)", "n2 1 quorum, n3 1 quorum")
	passesWithout(t, c, on, n2)
	passesWithout(t, c, on, n3)
	waitsFor(t, c, on, n2, n3)
	change("", "n2 0 async, n3 0 async")
	passesWithout(t, c, on, n2, n3)
	change("ANY MAJORITY (*)", "n2 1 quorum, n3 1 quorum")
	waitsFor(t, c, on, n2, n3)
}

// After a commit with remote_apply the standby that was waited for shows it, without any wait there.
func TestRemoteApply(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	conn, standby := c.primary().connect(), c.node(2).connect()
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := conn.Exec(ctx, "SET synchronous_commit = remote_apply"); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, err := conn.Exec(ctx, "INSERT INTO kv VALUES ('a', $1) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value", noise(i, 10)); err != nil {
			t.Fatal(err)
		}
		if got, err := queryValue(ctx, standby, "SELECT value FROM kv WHERE key = 'a'"); err != nil || got != noise(i, 10) {
			t.Fatalf("round %d: the standby shows %q (%v), want %q", i, got, err, noise(i, 10))
		}
	}
}

// A receiver that the rule names is waited for like a standby.
func TestSynchronousReceiver(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	c := newCluster(t, 1, "--synchronous-standby-names=FIRST 1 (pg_receivewal)")
	n := c.primary()
	commit := startCommit(t, n, "INSERT INTO kv VALUES ('a', '1')")
	commit.awaitFlushed()
	commit.checkWaiting()
	r := newReceiver(t, n, "--synchronous")
	p := r.start()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := commit.result(ctx); err != nil {
		t.Fatal(err)
	}
	checkStates(t, n, "pg_receivewal 1 sync")
	end := n.flushed()
	r.stop(p)
	r.check(c, 0, end)
}
