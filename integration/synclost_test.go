package integration

import (
	"fmt"
	"syscall"
	"testing"
)

const write = "INSERT INTO kv VALUES ('a', '1') ON CONFLICT (key) DO UPDATE SET value = 'again'"

// startPsql runs one statement in a psql of its own, and does not wait for it.
func startPsql(t *testing.T, n *node, sql string) *process {
	t.Helper()
	return startProcess(t, nil, tool(t, "psql"), "-X", "-d", n.dsn(), "-c", sql)
}

// mustEnd waits for a commit's acknowledgement.
func mustEnd(t *testing.T, c *commit) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := c.result(ctx); err != nil {
		t.Fatalf("the commit ends with %v", err)
	}
}

// The synchronous standby dies: commits hang until a potential one takes its place. With none left they hang until a
// standby returns, or the operator says that there is nobody to wait for. The sessions notice nothing of it. The
// ends of connections are noticed at once: wal_sender_timeout is longer than the test has patience.
func TestSyncStandbyLost(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	c := newCluster(t, 3)
	n1, n2 := c.node(1), c.node(2)
	vault := newReceiver(t, n1, "--synchronous", "--status-interval=1")
	vault.dsn = n1.dsn("application_name=vault")
	received := vault.start()
	setNames(n1, "FIRST 1 (n2, vault)")
	awaitStates(t, n1, "n2 1 sync, n3 0 async, vault 2 potential")

	n2.kill9()
	session := startPsql(t, n1, write)
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := session.await(ctx, session.stdout, "INSERT 0 1"); err != nil {
		t.Fatal(err)
	}
	awaitStates(t, n1, "n3 0 async, vault 2 sync")

	received.signal(syscall.SIGKILL)
	awaitStates(t, n1, "n3 0 async")
	waiting := startCommit(t, n1, write)
	waiting.awaitFlushed()
	waiting.checkWaiting()
	wantLines(t, explainCommit(t, n1, n1.flushed().String()), "rule: 'FIRST 1 (n2, vault)' waits for 1 of 1", "vault is not connected")
	n2.start()
	mustEnd(t, waiting)
	awaitStates(t, n1, "n2 1 sync, n3 0 async")

	n2.kill9()
	awaitStates(t, n1, "n3 0 async")
	session = startPsql(t, n1, write)
	waiting = startCommit(t, n1, "INSERT INTO kv VALUES ('b', '1')")
	waiting.awaitFlushed()
	waiting.checkWaiting()
	setNames(n1, "")
	mustEnd(t, waiting)
	if _, err := session.await(ctx, session.stdout, "INSERT 0 1"); err != nil {
		t.Fatal(err)
	}
	if got, err := queryValue(ctx, waiting.conn, "SHOW longship.last_commit_level"); err != nil || got != "local" {
		t.Errorf("the commit that nobody acknowledged got %q (%v), want local", got, err)
	}
}

// A synchronous standby that hangs is given up after wal_sender_timeout, and then a potential one takes its place. It
// has it back when it runs again.
func TestSyncStandbyHangs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--wal-sender-timeout=1500ms")
	n1, n2 := c.node(1), c.node(2)
	setNames(n1, "FIRST 1 (n2, n3)")
	awaitStates(t, n1, "n2 1 sync, n3 2 potential")
	n2.freeze()
	commit := startCommit(t, n1, write)
	mustEnd(t, commit)
	awaitStates(t, n1, "n3 2 sync")
	n2.thaw()
	awaitStates(t, n1, "n2 1 sync, n3 2 potential")
	n1.exec(write)
}

// A standby that comes back under another name is not the one that the rule waits for, until the rule says so.
func TestSyncStandbyRenamed(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	c := newCluster(t, 1)
	n := c.primary()
	r := newReceiver(t, n, "--synchronous", "--status-interval=1")
	r.dsn = n.dsn("application_name=vault")
	received := r.start()
	setNames(n, "vault")
	awaitStates(t, n, "vault 1 sync")
	n.exec(write)
	r.stop(received)
	r.dsn = n.dsn("application_name=cellar")
	received = r.start()
	awaitStates(t, n, "cellar 0 async")
	commit := startCommit(t, n, write)
	commit.awaitFlushed()
	commit.checkWaiting()
	setNames(n, "cellar")
	mustEnd(t, commit)
	awaitStates(t, n, "cellar 1 sync")
	n.exec(write)
	r.stop(received)
}

// The primary dies in the middle of a change of the rule. Who takes over has all that was acknowledged, and brings the
// change to its end.
func TestPromotedDuringChange(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	n1, n3 := c.primary(), c.node(3)
	n3.freeze()
	n1.exec("INSERT INTO kv VALUES ('acknowledged', '1')") // n3 lacks it: it cannot hold what the new rule asks for
	setNames(n1, "ANY 2 (n1, n2, n3)")
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := n1.proc.await(ctx, n1.proc.stderr, `rules in force.*ANY MAJORITY \(\*\) .*ANY 2 \(n1, n2, n3\)`); err != nil {
		t.Fatal(err)
	}
	n1.kill9()
	n3.thaw()
	n1.start()
	c.awaitStreaming()
	primary, standbys := c.primary(), c.standbys()
	awaitStates(t, primary, fmt.Sprintf("%s 1 quorum, %s 1 quorum", standbys[0].name, standbys[1].name))
	primary.await("SELECT rule FROM longship_cluster", "ANY 2 (n1, n2, n3)")
	if got := primary.value("SELECT value FROM kv WHERE key = 'acknowledged'"); got != "1" {
		t.Errorf("what was acknowledged reads %q on %s", got, primary.name)
	}
	waitsFor(t, c, on, standbys[0])
	waitsFor(t, c, on, standbys[1])
	c.checkSame()
}
