package integration

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// dumpRows are the rows that dumps have to keep: what COPY and literals escape, and NULL.
const dumpRows = `INSERT INTO kv VALUES ('plain', 'value'), ('tab', E'a\tb\\c\nd\re'), ('it''s', '"quoted" ''n'''), ('null', NULL), ('empty', ''), ('\.', '\N'), ('ü', '🐘')`

const dumpedRows = "SELECT string_agg(key || '=' || coalesce(quote_literal(value), 'NULL'), ' ' ORDER BY key COLLATE \"C\") FROM kv"

// A dump by pg_dump is a table that PostgreSQL takes, and rows that a cluster takes back. It has kv, and not the views.
func TestPgDump(t *testing.T) {
	t.Parallel()
	dump := tool(t, "pg_dump")
	pg := newPostgres(t)
	pg.configure(filepath.Join(pg.dir, "primary"), pg.port)
	pg.serve(filepath.Join(pg.dir, "primary"))
	c := newCluster(t, 2)
	primary, standby := c.pair()
	primary.exec(dumpRows)
	want := primary.value(dumpedRows)
	c.awaitCaughtUp()

	all, plain := filepath.Join(t.TempDir(), "all.sql"), filepath.Join(t.TempDir(), "plain.sql")
	mustRun(t, tool(t, "pg_dumpall"), "-d", standby.dsn(), "--database=test", "-f", all)
	mustRun(t, dump, "-d", standby.dsn(), "-f", plain)
	psql := []string{"-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", strconv.Itoa(pg.port), "-U", "postgres"}
	mustRun(t, tool(t, "psql"), append(psql, "-d", "postgres", "-f", all)...) // makes the role and the database
	mustRun(t, tool(t, "psql"), append(psql, "-d", "postgres", "-f", plain)...)
	for _, database := range []string{"test", "postgres"} {
		if got := strings.TrimSpace(mustRun(t, tool(t, "psql"), append(psql, "-d", database, "-At", "-c", dumpedRows)...)); got != want {
			t.Errorf("PostgreSQL has\n%s\nin %s, want\n%s", got, database, want)
		}
	}
	if got := pg.sql("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"); got != "kv kv_pkey" {
		t.Errorf("the dump made %s, want kv and its index", got)
	}

	inserts, custom := filepath.Join(t.TempDir(), "inserts.sql"), filepath.Join(t.TempDir(), "custom")
	mustRun(t, dump, "-d", primary.dsn(), "--table=kv", "--data-only", "--inserts", "--rows-per-insert=3", "-f", inserts)
	mustRun(t, dump, "-d", primary.dsn(), "--table=kv", "--format=custom", "-f", custom)
	for _, restore := range [][]string{
		{tool(t, "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", primary.dsn(), "-f", inserts},
		{tool(t, "psql"), "-X", "-d", primary.dsn(), "-f", plain}, // the statements that make the table fail
		{tool(t, "psql"), "-X", "-d", primary.dsn(), "-f", all},
		{tool(t, "pg_restore"), "--data-only", "--exit-on-error", "--single-transaction", "-d", primary.dsn(), custom},
	} {
		primary.exec("DELETE FROM kv")
		mustRun(t, restore[0], restore[1:]...)
		if got := primary.value(dumpedRows); got != want {
			t.Errorf("%q restored\n%s\nwant\n%s", restore, got, want)
		}
	}
	c.awaitCaughtUp()
	if got := standby.value(dumpedRows); got != want {
		t.Errorf("the standby has\n%s\nwant\n%s", got, want)
	}

	out, err := runTool(t, "", dump, "-d", primary.dsn(), "--format=directory", "--jobs=2", "-f", filepath.Join(t.TempDir(), "jobs"))
	if err == nil || !strings.Contains(out, "without --jobs") {
		t.Errorf("pg_dump --jobs=2: %v, %s", err, out)
	}
}

// There is nothing for pg_recvlogical, which is told so.
func TestRecvlogical(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	out, err := runTool(t, "", tool(t, "pg_recvlogical"), "-d", c.primary().dsn(), "--slot=s", "--create-slot")
	if err == nil || !strings.Contains(out, "There is no logical replication") {
		t.Errorf("pg_recvlogical: %v, %s", err, out)
	}
}
