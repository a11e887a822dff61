package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestPgIsReady(t *testing.T) {
	t.Parallel()
	ready := tool(t, "pg_isready")
	c := newCluster(t, 2)
	isReady := func(n *node) string {
		out, _ := runTool(t, "", ready, "-h", "127.0.0.1", "-p", strconv.Itoa(n.port))
		return strings.TrimSpace(out)
	}
	for _, n := range c.nodes {
		if got, want := isReady(n), fmt.Sprintf("127.0.0.1:%d - accepting connections", n.port); got != want {
			t.Errorf("%s: pg_isready prints %q, want %q", n.name, got, want)
		}
	}
	n1 := c.primary()
	n1.stop()
	if got, want := isReady(n1), fmt.Sprintf("127.0.0.1:%d - no response", n1.port); got != want {
		t.Errorf("after a stop pg_isready prints %q, want %q", got, want)
	}
}

// pgbench with the script that DESIGN measures with: upserts of 100 bytes, 32 clients, every protocol.
func TestPgbench(t *testing.T) {
	t.Parallel()
	pgbench := tool(t, "pgbench")
	c := newCluster(t, 3)
	script := filepath.Join(t.TempDir(), "upsert.sql")
	text := `\set k random(1, 100000)
INSERT INTO kv VALUES ('key' || :k, repeat('x', 100)) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const clients, each = 32, 100
	for _, mode := range []string{"simple", "extended", "prepared"} {
		out := mustRun(t, pgbench, "-n", "-h", "127.0.0.1", "-p", strconv.Itoa(c.primary().port),
			"-M", mode, "-c", strconv.Itoa(clients), "-j", "2", "-t", strconv.Itoa(each), "-f", script)
		if want := fmt.Sprintf("number of transactions actually processed: %d/%d", clients*each, clients*each); !strings.Contains(out, want) {
			t.Errorf("pgbench -M %s printed\n%s\nwant %s", mode, out, want)
		}
		tps := regexp.MustCompile(`tps = \S+`).FindString(out)
		t.Logf("-M %s: %s", mode, tps)
	}
	c.checkSame()
}

// pgx with its defaults: prepared statements, binary values, pipelined batches, typed errors.
func TestPgx(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	conn := c.primary().connect()
	ctx, cancel := testContext(t)
	defer cancel()

	batch := &pgx.Batch{}
	for i := range 100 {
		batch.Queue("INSERT INTO kv VALUES ($1, $2)", fmt.Sprintf("k%03d", i), strconv.Itoa(i))
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, "SELECT key, value FROM kv WHERE key >= $1 ORDER BY key LIMIT $2", "k050", 2)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Key, Value string }])
	if err != nil || fmt.Sprint(got) != "[{k050 50} {k051 51}]" {
		t.Errorf("rows %v, %v", got, err)
	}

	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	if err != nil {
		t.Fatal(err)
	}
	var value *string
	if err := tx.QueryRow(ctx, "SELECT value FROM kv WHERE key = $1", "k000").Scan(&value); err != nil {
		t.Fatal(err)
	}
	c.primary().exec("UPDATE kv SET value = 'other' WHERE key = 'k000'")
	_, err = tx.Exec(ctx, "UPDATE kv SET value = 'mine' WHERE key = 'k000'")
	if err == nil {
		err = tx.Commit(ctx)
	}
	if sqlState(err) != "40001" {
		t.Errorf("a transaction whose read was overwritten ended with %v, want 40001", err)
	}
	tx.Rollback(ctx)

	_, err = conn.Exec(ctx, "SELECT nope FROM kv")
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42703" || e.Position != 8 {
		t.Errorf("error %#v, want 42703 at position 8", err)
	}
	if _, err := conn.Exec(ctx, "DELETE FROM kv WHERE key = $1 AND value = $2", "k001", "1"); err != nil {
		t.Errorf("the session does not go on after an error: %v", err)
	}
}

// A commit whose wait is cancelled answers that its outcome is unknown, not that it succeeded, and is
// seen by nobody before a standby has it.
func TestCancelWaitingCommit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.pair()
	n2.freeze()
	commit := startCommit(t, n1, "INSERT INTO kv VALUES ('a', '1')")
	commit.awaitFlushed()
	commit.checkWaiting()
	commit.awaitWaiting("SyncRep")
	n1.checkUnseen("a")
	ctx, cancel := testContext(t)
	defer cancel()
	if err := commit.conn.PgConn().CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	e, ok := errors.AsType[*pgconn.PgError](commit.result(ctx))
	if !ok || e.Code != "08007" || !strings.Contains(e.Message, "commit at 0/") {
		t.Fatalf("cancelled commit ended with %#v, want 08007 and its LSN", e)
	}
	n1.checkUnseen("a")
	if got := commit.conn.PgConn().TxStatus(); got != 'I' {
		t.Errorf("after the error the session's state is %c, want I", got)
	}
	n2.thaw()
	c.primary().await("SELECT value FROM kv WHERE key = 'a'", "1")

	// pg_cancel_backend is the other way.
	n1, n2 = c.pair()
	n2.freeze()
	commit = startCommit(t, n1, "INSERT INTO kv VALUES ('b', '1')")
	commit.awaitFlushed()
	n1.exec("SELECT pg_cancel_backend($1)", int32(commit.conn.PgConn().PID()))
	if err := commit.result(ctx); sqlState(err) != "08007" {
		t.Errorf("pg_cancel_backend: %v, want 08007", err)
	}
	n2.thaw()
	c.primary().await("SELECT value FROM kv WHERE key = 'b'", "1")
}

// checkUnseen verifies that a row is not shown: that it is not there, or that a read waits since nobody
// can know.
func (n *node) checkUnseen(key string) {
	n.t.Helper()
	got, err := n.tryValue("SET statement_timeout = 100; SELECT count(*) FROM kv WHERE key = '" + key + "'")
	if sqlState(err) != "57014" && (err != nil || got != "0") {
		n.t.Errorf("%s: a commit that waits is seen by another session: count of %s = %s (%v)", n.name, key, got, err)
	}
}

// Without the read lease, which its standby no longer renews, a primary does not answer what it might
// have missed the end of. It takes writes all the same: they wait for the rule.
func TestLapsedLease(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.pair()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	n2.freeze()
	n1.awaitNoLease()
	ctx, cancel := testContext(t)
	defer cancel()
	for _, sql := range []string{
		"SELECT value FROM kv WHERE key = 'a'",
		"UPDATE kv SET value = '2' WHERE key = 'none'",
		"INSERT INTO kv VALUES ('a', '2')",
		"INSERT INTO kv VALUES ('a', '2') ON CONFLICT DO NOTHING",
		"BEGIN; SELECT count(*) FROM kv; COMMIT",
	} {
		read := startCommit(t, n1, sql)
		read.awaitWaiting("ReadLease")
		read.checkWaiting()
		if err := read.conn.PgConn().CancelRequest(ctx); err != nil {
			t.Fatal(err)
		}
		if err := read.result(ctx); sqlState(err) != "57014" {
			t.Errorf("without the lease %s ends with %v, want 57014 when cancelled", sql, err)
		}
	}
	if got := n1.value("SELECT pg_is_in_recovery()"); got != "f" {
		t.Errorf("pg_is_in_recovery() = %s, want f", got)
	}
	commit := startCommit(t, n1, "INSERT INTO kv VALUES ('b', '1') RETURNING value")
	commit.awaitFlushed()
	commit.checkWaiting()
	n2.thaw()
	if err := commit.result(ctx); err != nil && !mayFailWith(err) {
		t.Errorf("with the standby back the commit ends with %v", err)
	}
	c.primary().await("SELECT value FROM kv WHERE key = 'b'", "1")
}

// awaitNoLease waits until reads of the table wait.
func (n *node) awaitNoLease() {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for {
		err := n.tryExec("SET statement_timeout = 100; SELECT count(*) FROM kv")
		if sqlState(err) == "57014" {
			return
		}
		if err != nil || ctx.Err() != nil {
			n.t.Fatalf("%s: reads do not wait: %v", n.name, err)
		}
	}
}

// A commit is a statement under way in a session of its own.
type commit struct {
	t     *testing.T
	node  *node
	conn  *pgx.Conn
	start string // how far the log reached before it
	done  chan error
}

func startCommit(t *testing.T, n *node, sql string, setup ...string) *commit {
	t.Helper()
	c := &commit{t: t, node: n, conn: n.connect(), done: make(chan error, 1)}
	ctx, cancel := testContext(t)
	for _, s := range setup {
		if _, err := c.conn.Exec(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	c.start = n.value("SELECT pg_current_wal_insert_lsn()")
	go func() {
		defer cancel()
		_, err := c.conn.Exec(ctx, sql)
		c.done <- err
	}()
	return c
}

// awaitWaiting waits until the session waits for event: who cancels it before it is at work cancels nothing.
func (c *commit) awaitWaiting(event string) {
	c.t.Helper()
	c.node.await(fmt.Sprintf("SELECT wait_event FROM pg_stat_activity WHERE pid = %d AND state = 'active'", c.conn.PgConn().PID()), event)
}

// awaitFlushed waits until the primary has flushed the commit's record.
func (c *commit) awaitFlushed() {
	c.t.Helper()
	c.node.await("SELECT pg_current_wal_flush_lsn() > '"+c.start+"'", "t")
}

// checkWaiting verifies that the commit still waits although a later one that waits for less is done.
func (c *commit) checkWaiting() {
	c.t.Helper()
	c.node.exec("SET synchronous_commit = local; INSERT INTO kv VALUES ('after " + c.start + "', '')")
	select {
	case err := <-c.done:
		c.t.Errorf("the commit did not wait: %v", err)
		c.done <- err
	default:
	}
}

// result waits for the end of the commit.
func (c *commit) result(ctx context.Context) error {
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the commit has not ended: %w", ctx.Err())
	}
}
