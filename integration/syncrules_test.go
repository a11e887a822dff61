package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// explainCommit is what a node says of a commit.
func explainCommit(t *testing.T, n *node, lsn string) string {
	t.Helper()
	return psql(t, n, fmt.Sprintf("EXPLAIN COMMIT '%s'", lsn), "-A", "-t")
}

// wantLines verifies that each of the texts is in what was said.
func wantLines(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, text := range want {
		if !strings.Contains(got, text) {
			t.Errorf("got\n%s\nwhich lacks %q", got, text)
		}
	}
}

// A session hears what its last commit got, which is what it asked for or what the rule makes of it.
func TestCommitLevels(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n1 := c.primary()
	conn := n1.connect()
	checkLevel(t, conn, "", "none")
	checkLevel(t, conn, "SET synchronous_commit = remote_apply; INSERT INTO kv VALUES ('alone', '1')", "local") // nobody else is there
	c.node(2).start()
	c.awaitStreaming()
	c.awaitCounted(2)
	awaitStates(t, n1, "n2 1 quorum")

	for _, level := range []string{"off", "local", "remote_write", "on", "remote_apply"} {
		checkLevel(t, conn, "SET synchronous_commit = "+level+"; "+write, level)
		checkLevel(t, conn, "SET synchronous_commit = on; BEGIN; "+write+"; SET LOCAL synchronous_commit = "+level+"; COMMIT", level)
	}
	// Told without asking, and the same.
	mustExec(t, conn, "SET longship.report_commit_lsn = on; "+write)
	told := conn.PgConn().ParameterStatus("longship.last_commit_lsn")
	ctx, cancel := testContext(t)
	defer cancel()
	if lsn, err := queryValue(ctx, conn, "SHOW longship.last_commit_lsn"); err != nil || lsn != told {
		t.Errorf("the client was told %q, SHOW says %q (%v)", told, lsn, err)
	}
	if got := conn.PgConn().ParameterStatus("longship.last_commit_level"); got != "on" {
		t.Errorf("the client was told the level %q, want on", got)
	}
	wantLines(t, explainCommit(t, n1, told), told+" is durable under the rule", "local, remote_write, on")
	c.node(2).awaitLSN(parseLSN(t, told))
	wantLines(t, explainCommit(t, c.node(2), told), told+" is durable under the rule", "readers here see it")
}

// What waits is explained: by whom, and by how much. A wait that was cancelled is an unknown outcome.
func TestExplainWaitingCommit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.pair()
	n2.freeze()
	before := n1.flushed()
	commit := startCommit(t, n1, "INSERT INTO kv VALUES ('a', '1')")
	commit.awaitFlushed()
	lsn := n1.flushed()
	wantLines(t, explainCommit(t, n1, lsn.String()),
		fmt.Sprintf("%s is not durable under the rule", lsn), "off, local reached; remote_write, on, remote_apply not yet",
		"rule: 'ANY MAJORITY (*)' waits for 1 of 1", fmt.Sprintf("n2: quorum, streaming; write %s, flush %[1]s", before),
		fmt.Sprintf("missing: 1 more must flush it under 'ANY MAJORITY (*)': n2 lacks %d bytes", lsn-before))
	wantLines(t, explainCommit(t, n1, "FF/0"), "FF/0 lies past the end of the log, "+lsn.String())
	n2.thaw()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := commit.result(ctx); err != nil {
		t.Fatal(err)
	}
	wantLines(t, explainCommit(t, n1, lsn.String()), fmt.Sprintf("%s is durable under the rule", lsn))
	wantLines(t, explainCommit(t, n2, "FF/0"), "FF/0 is not known here to be durable", "the primary, n1 at "+n1.address())
}

// checkLevel runs statements and verifies what the session then says of its last commit.
func checkLevel(t *testing.T, conn *pgx.Conn, sql, want string) {
	t.Helper()
	mustExec(t, conn, sql)
	ctx, cancel := testContext(t)
	defer cancel()
	got, err := queryValue(ctx, conn, "SHOW longship.last_commit_level")
	if err != nil || got != want {
		t.Errorf("%s: the level is %q (%v), want %q", sql, got, err, want)
	}
}

func mustExec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
