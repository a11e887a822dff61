package integration

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Whatever way a statement reads a range of kv, a row that somebody else puts there before the commit is a conflict, and
// one beside it is none.
func TestPhantomsConflict(t *testing.T) {
	t.Parallel()
	ctx, cancel := testContext(t)
	defer cancel()
	primary := newCluster(t, 1).primary()
	reader, other := primary.connect(), primary.connect()
	do := func(conn *pgx.Conn, query string) error {
		_, err := conn.Exec(ctx, query, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	must := func(conn *pgx.Conn, query string) {
		t.Helper()
		if err := do(conn, query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	must(reader, "PREPARE counted AS SELECT key, count(*) OVER () FROM kv WHERE key LIKE $1 ORDER BY value")
	for _, c := range []struct{ query, phantom string }{
		{"SELECT key FROM kv WHERE key IN (SELECT value FROM kv WHERE key LIKE 'p/%')", "p/2"},
		{"SELECT key FROM kv WHERE key IN (SELECT value FROM kv WHERE key LIKE 'p/%')", "one"}, // which a row names
		{"SELECT 1 WHERE 'x' = ANY (SELECT value FROM kv WHERE key LIKE 'p/%')", "p/9"},
		{"INSERT INTO kv SELECT 'copy/' || key, value FROM kv WHERE key LIKE 'p/%'", "p/2"},
		{"INSERT INTO kv VALUES ('copy', (SELECT count(*) FROM kv WHERE key LIKE 'p/%'))", "p/2"},
		{"WITH w AS (SELECT key FROM kv WHERE key LIKE 'p/%') UPDATE kv SET value = (SELECT max(key) FROM w) WHERE key = 'u'", "p/9"},
		{"SELECT key FROM kv WHERE (key, value) IN (SELECT value, 'x' FROM kv WHERE key LIKE 'p/%')", "one"},
		{"UPDATE kv SET value = (SELECT max(k.key) FROM kv k WHERE k.key LIKE 'p/%') WHERE key = 'u'", "p/9"},
		{"DELETE FROM kv WHERE key = 'u' AND NOT EXISTS (SELECT FROM kv WHERE key = 'p/4')", "p/4"},
		{"SELECT key, count(*) OVER () FROM kv WHERE key LIKE 'p/%' LIMIT 1", "p/9"},
		{"EXECUTE counted('p/%')", "p/2"},
		{"SELECT b.key FROM kv a JOIN kv b ON b.key = a.value WHERE a.key LIKE 'p/%'", "p/9"},
		{"SELECT b.key FROM kv a JOIN kv b ON b.key = a.value WHERE a.key LIKE 'p/%'", "one"},
		{"SELECT g FROM generate_series(1, 5) g LEFT JOIN kv ON key = 'p/' || g", "p/5"},
		{"SELECT g FROM generate_series(1, 2) g, kv WHERE key LIKE 'p/%'", "p/2"},
		{"SELECT b.key FROM kv a, kv b WHERE a.key = 'p/1' AND b.key > a.key AND b.key < 'p0'", "p/2"},
		{"DECLARE c CURSOR FOR SELECT a.key FROM kv a JOIN kv b ON b.key = a.value WHERE a.key LIKE 'p/%'", "one"},
		{"UPDATE kv SET value = a.key FROM kv a WHERE kv.key = 'u' AND a.key LIKE 'p/%'", "p/2"},
		{"UPDATE kv SET value = 'x' FROM kv a WHERE kv.key = a.value AND a.key LIKE 'p/%'", "one"},
		{"UPDATE kv SET value = 'x' FROM generate_series(1, 5) g WHERE kv.key = 'p/' || g", "p/5"},
		{"DELETE FROM kv USING kv a WHERE kv.key > a.key AND kv.key < 'p0' AND a.key = 'p/1'", "p/2"},
		{"DELETE FROM kv USING (VALUES ('p/4')) v(k) LEFT JOIN kv a ON a.key = v.k WHERE kv.key = 'u' AND a.key IS NULL", "p/4"},
		{"SELECT (SELECT key FROM kv WHERE key > 'p/' LIMIT 1)", "p/0"},
		{"SELECT count(*) FROM generate_series(1, 5) g WHERE EXISTS (SELECT FROM kv WHERE key = 'p/' || g)", "p/5"},
		{"SELECT (SELECT min(k.key) FROM kv k WHERE k.key > x.key AND k.key < 'p0') FROM (SELECT key FROM kv WHERE key = 'p/1') x", "p/2"},
		{"DECLARE c CURSOR FOR SELECT * FROM (SELECT value FROM kv WHERE key LIKE 'p/%') x", "p/2"},
		{"SELECT key FROM kv WHERE key = 'p/1' UNION SELECT key FROM kv WHERE key > 'p/1' AND key < 'p0'", "p/2"},
	} {
		for _, phantom := range []string{c.phantom, "q/beside"} {
			must(other, "DELETE FROM kv")
			must(other, "INSERT INTO kv VALUES ('p/1', 'one'), ('p/3', 'three'), ('u', '')")
			must(reader, "BEGIN")
			must(reader, c.query)
			must(other, "INSERT INTO kv VALUES ('"+phantom+"', 'phantom')")
			must(reader, "INSERT INTO kv VALUES ('mine', '')")
			err := do(reader, "COMMIT")
			e, _ := errors.AsType[*pgconn.PgError](err)
			if conflict := e != nil && e.Code == "40001"; conflict != (phantom == c.phantom) || !conflict && err != nil {
				t.Errorf("%s, and %s is inserted: %v", c.query, phantom, err)
			}
		}
	}
}
