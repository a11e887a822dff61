package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Cursors as pgx and psql use them. How they answer, message by message, is in TestSameAsPostgreSQL.
func TestCursors(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1).primary()
	ctx, cancel := testContext(t)
	defer cancel()
	c := n.connect()
	var rows strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&rows, "cursor/%04d\t%d\n", i, i)
	}
	if _, err := c.PgConn().CopyFrom(ctx, strings.NewReader(rows.String()), "copy kv (key, value) from stdin"); err != nil {
		t.Fatal(err)
	}
	t.Run("pgx", func(t *testing.T) { testPgxCursor(ctx, t, c) })
	t.Run("conflict", func(t *testing.T) { testCursorConflict(ctx, t, c, n.connect()) })
	t.Run("psql", func(t *testing.T) { testFetchCount(t, n) })
}

// testPgxCursor goes through the table in parts, as ORMs do, while it writes.
func testPgxCursor(ctx context.Context, t *testing.T, c *pgx.Conn) {
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "declare parts no scroll cursor for select key, value::int from kv where key >= $1", "cursor/"); err != nil {
		t.Fatal(err)
	}
	for next := 0; next < 5000; {
		rows, err := tx.Query(ctx, "fetch forward 1000 from parts")
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
			Key   string
			Value int
		}])
		if err != nil || len(got) != 1000 {
			t.Fatalf("fetched %d rows, %v; want 1000", len(got), err)
		}
		for _, row := range got {
			if row.Value != next || row.Key != fmt.Sprintf("cursor/%04d", next) {
				t.Fatalf("row %d is %+v", next, row)
			}
			next++
		}
		if _, err := tx.Exec(ctx, "update kv set value = '0' where key >= 'cursor/' and key < 'cursor/9'"); err != nil {
			t.Fatal(err)
		}
	}
}

// testCursorConflict: what a cursor has gone through is as it was when its transaction commits, and what it has not
// come to is nobody's business.
func testCursorConflict(ctx context.Context, t *testing.T, c, other *pgx.Conn) {
	for _, test := range []struct {
		query, touched string
		conflict       bool
	}{
		{"select key from kv where key >= 'cursor/'", "cursor/0050", true},
		{"select key from kv where key >= 'cursor/'", "cursor/00505", true}, // a new row among those it read
		{"select key from kv where key >= 'cursor/'", "cursor/0200", false},
		{"select key from kv where key in ('cursor/0001', 'cursor/0002', 'nosuch')", "nosuch", true},
		{"select key from kv where key in ('cursor/0001', 'cursor/0002', 'nosuch')", "cursor/0003", false},
		{"select key from kv where key >= 'cursor/' order by value desc", "cursor/4999", true},
	} {
		tx, err := c.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, query := range []string{"declare c cursor for " + test.query, "fetch 100 from c", "insert into kv values ('elsewhere', 'x') on conflict (key) do update set value = excluded.value"} {
			if _, err := tx.Exec(ctx, query); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := other.Exec(ctx, "insert into kv values ($1, 'x') on conflict (key) do update set value = excluded.value", test.touched); err != nil {
			t.Fatal(err)
		}
		err = tx.Commit(ctx)
		e, _ := errors.AsType[*pgconn.PgError](err)
		if got := e != nil && e.Code == "40001"; got != test.conflict || err != nil && !got {
			t.Errorf("%s, then %s is changed: %v, want a conflict: %v", test.query, test.touched, err, test.conflict)
		}
		if _, err := other.Exec(ctx, "delete from kv where key in ('cursor/00505', 'nosuch')"); err != nil {
			t.Fatal(err)
		}
	}
}

// testFetchCount has psql read with a cursor of its own.
func testFetchCount(t *testing.T, n *node) {
	checkPsql(t, n, `
\set FETCH_COUNT 2
SELECT key FROM kv WHERE key BETWEEN 'cursor/0001' AND 'cursor/0005';
SELECT key, 1 AS n FROM kv \gdesc
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT key FROM kv WHERE key <= 'cursor/0002' ORDER BY key DESC;
SELECT nosuch FROM kv;
SELECT count(*) FROM kv WHERE key = 'cursor/0001';
COMMIT;
SELECT count(*) FROM kv WHERE key LIKE 'cursor/%';
`, `
key
cursor/0001
cursor/0002
cursor/0003
cursor/0004
cursor/0005
(5 rows)
Column|Type
key|text
n|integer
(2 rows)
BEGIN
key
cursor/0002
cursor/0001
cursor/0000
(3 rows)
ERROR:  42703: column "nosuch" does not exist
LINE 2: SELECT nosuch FROM kv;
               ^
count
1
(1 row)
COMMIT
count
5000
(1 row)
`)
}
