package integration

import (
	"fmt"
	"strings"
	"testing"
)

// awaitStates waits until those who stream have the priority and sync_state wanted: what a rule says is
// agreed on first.
func awaitStates(t *testing.T, n *node, want string) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	for {
		got := psql(t, n, "SELECT application_name, sync_priority, sync_state FROM pg_stat_replication WHERE state = 'streaming' ORDER BY application_name", "-A", "-t", "-F", " ")
		got = strings.ReplaceAll(strings.TrimSpace(got), "\n", ", ")
		if got == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: %s, want %s", n.name, got, want)
		}
		moment(ctx)
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

const (
	on          = "SET synchronous_commit = on"
	local       = "SET synchronous_commit = local"
	off         = "SET synchronous_commit = off"
	remoteWrite = "SET synchronous_commit = remote_write"
	remoteApply = "SET synchronous_commit = remote_apply"
)

// The standbys that a rule names are waited for, and no others, at each level of synchronous_commit. Of
// FIRST k the first that stream are.
func TestSynchronousStandbyNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--synchronous-standby-names=FIRST 1 (n3, n2)")
	n1, n2, n3 := c.node(1), c.node(2), c.node(3)
	awaitStates(t, n1, "n2 2 potential, n3 1 sync")
	passesWithout(t, c, on, n2)
	waitsFor(t, c, on, n3)
	waitsFor(t, c, remoteWrite, n3)
	waitsFor(t, c, remoteApply, n3)
	passesWithout(t, c, local, n2, n3)
	passesWithout(t, c, off, n2, n3)
	n3.kill9()
	awaitStates(t, n1, "n2 2 sync")
	waitsFor(t, c, on, n2)
	n3.start()
	awaitStates(t, n1, "n2 2 potential, n3 1 sync")
}

// Each primary has the rule that it was told; it takes the place of its predecessor's.
func TestChangedStandbyNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	change := func(rule, state string) (a, b *node) {
		t.Helper()
		next := c.standbys()[0]
		next.flags = append(next.flags, "--synchronous-standby-names="+rule)
		next.restart()
		c.awaitStreaming()
		c.switchover(next)
		next.flags = next.flags[:len(next.flags)-1]
		next.await("SELECT rule FROM longship_cluster", rule)
		s := c.standbys()
		awaitStates(t, next, fmt.Sprintf("%[1]s %[3]s, %[2]s %[3]s", s[0].name, s[1].name, state))
		return s[0], s[1]
	}
	a, b := change("ANY 2 (n1, n2, n3)", "1 quorum")
	waitsFor(t, c, on, a)
	waitsFor(t, c, on, b)
	a, b = change("ANY 1 (*)", "1 quorum")
	passesWithout(t, c, on, a)
	passesWithout(t, c, on, b)
	waitsFor(t, c, on, a, b)
	a, b = change("", "0 async")
	passesWithout(t, c, on, a)
	passesWithout(t, c, on, b)
	passesWithout(t, c, local, a, b)
	a, b = change("ANY MAJORITY (*)", "1 quorum")
	waitsFor(t, c, on, a, b)
}

// switchover makes a node the primary. One that cannot be yet, having just been started, is asked again.
func (c *cluster) switchover(to *node) {
	c.t.Helper()
	ctx, cancel := testContext(c.t)
	defer cancel()
	for {
		got, err := to.tryValue("SELECT longship_switchover($1)", to.name)
		switch {
		case err == nil && got == to.name:
			return
		case err == nil:
			c.t.Fatalf("the new primary is %s, want %s", got, to.name)
		case ctx.Err() != nil || sqlState(err) != "55000":
			c.t.Fatalf("switchover to %s: %v", to.name, err)
		}
		moment(ctx)
	}
}

// After a commit with remote_apply the standby that was waited for shows it, without any wait there.
func TestRemoteApply(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.pair()
	conn, standby := n1.connect(), n2.connect()
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
	awaitStates(t, n, "pg_receivewal 1 sync")
	end := n.flushed()
	r.stop(p)
	r.check(c, 0, end)
}
