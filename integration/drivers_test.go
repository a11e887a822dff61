package integration

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // database/sql driver "pgx"
	"github.com/lib/pq"
)

// Drivers and tools that nobody here wrote, on one cluster.
func TestDrivers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n := c.primary()
	for name, test := range map[string]func(*testing.T, *node){
		"database/sql pgx": func(t *testing.T, n *node) { testDatabaseSQL(t, n, "pgx") },
		"lib/pq":           func(t *testing.T, n *node) { testDatabaseSQL(t, n, "postgres") },
		"lib/pq errors":    testPQ,
		"pgxpool":          testPool,
		"node-postgres":    testNodePostgres,
		"psycopg2":         func(t *testing.T, n *node) { testPython(t, n, "psycopg2") },
		"asyncpg":          func(t *testing.T, n *node) { testPython(t, n, "asyncpg") },
		"SQLAlchemy":       func(t *testing.T, n *node) { testPython(t, n, "sqlalchemy") },
		"psql":             testPsqlScript,
		"psql one":         testPsqlSingleTransaction,
		"pgbench pipeline": testPgbenchPipeline,
	} {
		t.Run(name, func(t *testing.T) { test(t, n) })
	}
	c.checkSame()
}

// database/sql: a pool, prepared statements used by several goroutines, transactions, types, cancellation.
func testDatabaseSQL(t *testing.T, n *node, driver string) {
	ctx, cancel := testContext(t)
	defer cancel()
	db, err := sql.Open(driver, n.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	insert, err := db.PrepareContext(ctx, "INSERT INTO kv VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := insert.ExecContext(ctx, fmt.Sprintf("%s%02d", driver, i), fmt.Sprint(i%3 == 0)); err != nil {
				t.Errorf("insert %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		t.Fatal(err)
	}
	result, err := tx.ExecContext(ctx, "UPDATE kv SET value = NULL WHERE key LIKE $1", driver+"0%")
	if err != nil {
		t.Fatal(err)
	}
	if rows, _ := result.RowsAffected(); rows != 10 {
		t.Errorf("%d rows updated, want 10", rows)
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	var count int
	var at time.Time
	var null sql.NullString
	var lsn string
	err = db.QueryRowContext(ctx, "SELECT (SELECT 20), now(), $1::text, pg_current_wal_lsn()", nil).Scan(&count, &at, &null, &lsn)
	if err != nil || count != 20 || at.IsZero() || null.Valid || !strings.Contains(lsn, "/") {
		t.Errorf("%d %v %v %q, %v", count, at, null, lsn, err)
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM kv WHERE key LIKE $1 AND value = $2", driver+"%", "true").Scan(&count); err != nil || count != 7 {
		t.Errorf("%d rows, %v; want 7", count, err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := db.ExecContext(short, "SELECT pg_sleep(60)"); err == nil {
		t.Error("a cancelled query succeeded")
	}
	if err := db.PingContext(ctx); err != nil {
		t.Error(err)
	}
}

// What is lib/pq's own: typed errors, arrays, COPY.
func testPQ(t *testing.T, n *node) {
	db, err := sql.Open("postgres", n.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := testContext(t)
	defer cancel()
	_, err = db.ExecContext(ctx, "INSERT INTO kv VALUES ('dup', ''), ('dup', '')")
	if e, ok := errors.AsType[*pq.Error](err); !ok || e.Code != "23505" || e.Constraint != "kv_pkey" || e.Table != "kv" {
		t.Errorf("error %#v, want 23505 of kv_pkey", err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	stmt, err := tx.PrepareContext(ctx, "COPY kv (key, value) FROM STDIN")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := stmt.ExecContext(ctx, fmt.Sprintf("copy%02d", i), "x\ty"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stmt.ExecContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stmt.Close(), tx.Commit()); err != nil {
		t.Fatal(err)
	}
	var keys []string
	rows, err := db.QueryContext(ctx, "SELECT key FROM kv WHERE key = ANY($1) AND value = E'x\\ty'", pq.Array([]string{"copy07", "copy99", "nope"}))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if err := rows.Err(); err != nil || fmt.Sprint(keys) != "[copy07 copy99]" {
		t.Errorf("keys %v, %v", keys, err)
	}
}

// pgxpool: a pool under concurrent use, a batch that fails in the middle, arrays, a context that ends.
func testPool(t *testing.T, n *node) {
	ctx, cancel := testContext(t)
	defer cancel()
	pool, err := pgxpool.New(ctx, n.dsn("pool_max_conns=4"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := pool.Exec(ctx, "INSERT INTO kv VALUES ($1, $2)", fmt.Sprintf("pool%02d", i), "v"); err != nil {
				t.Errorf("insert %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var keys []string
	err = pool.QueryRow(ctx, "SELECT array_agg(key) FROM kv WHERE key = ANY($1)", []string{"pool01", "pool39"}).Scan(&keys)
	if err != nil || fmt.Sprint(keys) != "[pool01 pool39]" {
		t.Errorf("keys %v, %v", keys, err)
	}
	batch := &pgx.Batch{}
	batch.Queue("INSERT INTO kv VALUES ('batch', '1')")
	batch.Queue("SELECT 1/0")
	batch.Queue("INSERT INTO kv VALUES ('batch2', '1')")
	if err := pool.SendBatch(ctx, batch).Close(); sqlState(err) != "22012" {
		t.Errorf("batch: %v, want 22012", err)
	}
	var count int
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM kv WHERE key LIKE 'batch%'").Scan(&count); err != nil || count != 0 {
		t.Errorf("%d rows of a failed batch, %v", count, err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := pool.Exec(short, "SELECT pg_sleep(60)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a query whose context ended: %v", err)
	}
	if _, err := pool.Exec(ctx, "SELECT 1"); err != nil {
		t.Error(err)
	}
	_, err = pool.Exec(ctx, "INSERT INTO kv VALUES ('pool01', '')")
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.ConstraintName != "kv_pkey" {
		t.Errorf("error %#v, want one of kv_pkey", err)
	}
}

// node-postgres with its pool and its cursors (testdata/node-postgres.js); make tools installs it.
func testNodePostgres(t *testing.T, n *node) {
	program := tool(t, "node")
	modules, err := filepath.Abs("../bin/node/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "pg-cursor")); err != nil {
		t.Skip("node-postgres is not installed: make tools")
	}
	ctx, cancel := testContext(t)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "testdata/node-postgres.js", fmt.Sprint(n.port))
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A driver of Python (testdata/python-clients.py), which make tools installs for the system's Python.
func testPython(t *testing.T, n *node, driver string) {
	const python, notInstalled = "/usr/bin/python3", 77
	if _, err := os.Stat(python); err != nil {
		t.Skip(python + " is not there")
	}
	ctx, cancel := testContext(t)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "testdata/python-clients.py", driver, fmt.Sprint(n.port)).CombinedOutput()
	switch {
	case exitCode(err) == notInstalled:
		t.Skipf("%s is not installed: make tools", driver)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

// psql's own commands in a script.
func testPsqlScript(t *testing.T, n *node) {
	file := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(file, []byte("psql1,one\npsql2,\"t,wo\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkPsql(t, n, `
\copy kv (key, value) FROM '`+file+`' WITH (FORMAT csv)
\copy (SELECT key, value FROM kv WHERE key LIKE 'psql%' ORDER BY key) TO STDOUT WITH (FORMAT csv)
SELECT key, lsn, 1 AS n FROM kv \gdesc
SELECT count(*) AS n FROM kv WHERE key LIKE 'psql%' \gset
\echo :n
SELECT 'SELECT ' || n FROM generate_series(1, 2) n \gexec
SELECT value FROM kv WHERE key = 'psql2' \gx
\set AUTOCOMMIT off
DELETE FROM kv WHERE key = 'psql1';
ROLLBACK;
\set AUTOCOMMIT on
SELECT count(*) FROM kv WHERE key LIKE 'psql%';
`, `
COPY 2
psql1,one
psql2,"t,wo"
Column|Type
key|text
lsn|pg_lsn
n|integer
(3 rows)
2
?column?
1
(1 row)
?column?
2
(1 row)
value|t,wo
DELETE 1
ROLLBACK
count
2
(1 row)
`)
}

// psql -1 with ON_ERROR_STOP makes one transaction of a script; \watch repeats a query until it is told to
// stop.
func testPsqlSingleTransaction(t *testing.T, n *node) {
	out, err := runTool(t, "INSERT INTO kv VALUES ('once', '1');\nSELECT nope;\n", tool(t, "psql"), "-X1", "-v", "ON_ERROR_STOP=1", "-d", n.dsn())
	if code := exitCode(err); code != 3 || !strings.Contains(out, `column "nope" does not exist`) {
		t.Errorf("psql -1 ended with %d, want 3:\n%s", code, out)
	}
	if got := n.value("SELECT count(*) FROM kv WHERE key = 'once'"); got != "0" {
		t.Errorf("%s rows of a script that failed", got)
	}
	ctx, cancel := testContext(t)
	defer cancel()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(watching, tool(t, "psql"), "-XAt", "-d", n.dsn(), "-f", "-")
	cmd.Stdin = bytes.NewBufferString("SELECT 'tick' \\watch 0.05\n")
	out2 := &stopAfter{text: "tick", times: 3, stop: stop}
	cmd.Stdout, cmd.Stderr = out2, out2
	if cmd.Run(); ctx.Err() != nil {
		t.Errorf(`\watch printed %s`, out2.got.String())
	}
}

// A stopAfter calls stop once text has been written so many times.
type stopAfter struct {
	text  string
	times int
	stop  func()
	got   bytes.Buffer
}

func (w *stopAfter) Write(b []byte) (int, error) {
	w.got.Write(b)
	if bytes.Count(w.got.Bytes(), []byte(w.text)) >= w.times {
		w.stop()
	}
	return len(b), nil
}

func exitCode(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return 0
}

// pgbench sends several statements before it reads the first answer.
func testPgbenchPipeline(t *testing.T, n *node) {
	script := filepath.Join(t.TempDir(), "pipeline.sql")
	text := `\set k random(1, 100)
\startpipeline
INSERT INTO kv VALUES ('pipe' || :k, 'x') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;
SELECT value FROM kv WHERE key = 'pipe' || :k;
UPDATE kv SET value = value || '!' WHERE key = 'pipe' || :k;
\endpipeline
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"extended", "prepared"} {
		out := mustRun(t, tool(t, "pgbench"), "-n", "-h", "127.0.0.1", "-p", fmt.Sprint(n.port), "-M", mode, "-c", "4", "-t", "25", "--max-tries=100", "-f", script)
		if !strings.Contains(out, "number of transactions actually processed: 100/100") {
			t.Errorf("pgbench -M %s printed\n%s", mode, out)
		}
	}
}
