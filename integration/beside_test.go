package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The same statements on PostgreSQL 15 and on Longship have the same answers (testdata/beside.sql).
func TestAnswersBesidePostgreSQL(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/beside.sql")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := testContext(t)
	defer cancel()
	pg := onePostgres(t)
	theirs, err := pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", pg.port))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close(ctx)
	ours := newCluster(t, 1).primary().connect()
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		compare := answer.text
		if rest, ok := strings.CutPrefix(line, "code:"); ok {
			line, compare = strings.TrimSpace(rest), answer.place
		} else if rest, ok := strings.CutPrefix(line, "state:"); ok {
			line, compare = strings.TrimSpace(rest), answer.state
		} else if rest, ok := strings.CutPrefix(line, "columns:"); ok {
			line, compare = strings.TrimSpace(rest), answer.columns
		}
		want, got := compare(ask(ctx, theirs, line)), compare(ask(ctx, ours, line))
		if got != want {
			t.Errorf("%s\nPostgreSQL:\n%sLongship:\n%s", line, want, got)
		}
	}
}

// What monitoring tools ask a standby is answered, too, but for what is an error on PostgreSQL's.
func TestMonitoringOfStandby(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/beside.sql")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := testContext(t)
	defer cancel()
	c := newCluster(t, 2)
	standby, asked := c.standbys()[0].connect(), 0
	for line := range strings.Lines(string(text)) {
		query, ok := strings.CutPrefix(strings.TrimSpace(line), "columns:")
		if !ok {
			continue
		}
		asked++
		a := ask(ctx, standby, query)
		if e := a.error(); e != nil && !(e.Code == "55000" && strings.Contains(query, "pg_current_wal_lsn")) || e == nil && a.err != nil {
			t.Errorf("%s\n%s", query, a.text())
		}
	}
	if asked < 40 {
		t.Errorf("testdata/beside.sql holds %d questions of monitoring tools", asked)
	}
	testStatistics(ctx, t, c.primary().connect())
}

// testStatistics sees that the numbers are those of what was done.
func testStatistics(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	t.Helper()
	const numbers = `SELECT xact_commit, xact_rollback, tup_inserted, sessions, pg_database_size(current_database()), checkpoints_req,
		(SELECT count(*) FROM pg_ls_waldir() WHERE size >= 1024 * 1024) FROM pg_stat_database, pg_stat_bgwriter`
	type counted struct{ commits, rollbacks, inserted, sessions, size, checkpoints, segments int64 }
	count := func() (n counted) {
		if err := conn.QueryRow(ctx, numbers).Scan(&n.commits, &n.rollbacks, &n.inserted, &n.sessions, &n.size, &n.checkpoints, &n.segments); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := count()
	for _, query := range []string{
		"BEGIN; INSERT INTO kv VALUES ('statistics/1', repeat('x', 100000)); COMMIT", "INSERT INTO kv VALUES ('statistics/1', 'x')", "CHECKPOINT",
	} {
		_, _ = conn.Exec(ctx, query, pgx.QueryExecModeSimpleProtocol) // the second fails: there is such a row
	}
	after := count()
	if after.commits < before.commits+2 || after.rollbacks < before.rollbacks+1 || after.inserted < before.inserted+1 || after.sessions < 1 ||
		after.size == before.size || after.checkpoints != before.checkpoints+1 || after.segments < 1 {
		t.Errorf("statistics %+v, then %+v", before, after)
	}
	var same bool
	err := conn.QueryRow(ctx, "SELECT c.system_identifier::text = l.system_identifier FROM pg_control_system() c, longship_cluster l").Scan(&same)
	if err != nil || !same {
		t.Errorf("pg_control_system() and longship_cluster name the same system: %v, %v", same, err)
	}
}

// An answer is all that a server says to a query string.
type answer struct {
	results []byte
	heads   []byte // the columns of the results alone
	err     error
}

func ask(ctx context.Context, conn *pgx.Conn, query string) answer {
	var all, heads bytes.Buffer
	mrr := conn.PgConn().Exec(ctx, query)
	for mrr.NextResult() {
		var b bytes.Buffer
		rr := mrr.ResultReader()
		for _, f := range rr.FieldDescriptions() {
			fmt.Fprintf(&b, " %s:%d/%d/%d", f.Name, f.DataTypeOID, f.DataTypeSize, f.TypeModifier)
		}
		fmt.Fprintln(&b)
		heads.Write(b.Bytes())
		for rr.NextRow() {
			for _, v := range rr.Values() {
				if v == nil {
					b.WriteString(" NULL")
				} else {
					fmt.Fprintf(&b, " %q", v)
				}
			}
			fmt.Fprintln(&b)
		}
		tag, err := rr.Close()
		if err != nil {
			break // what was sent before the error is not compared
		}
		fmt.Fprintf(&b, " %s\n", tag)
		all.Write(b.Bytes())
	}
	err := mrr.Close()
	fmt.Fprintf(&all, " [%c]\n", conn.PgConn().TxStatus())
	return answer{all.Bytes(), heads.Bytes(), err}
}

func (a answer) error() *pgconn.PgError {
	e, _ := errors.AsType[*pgconn.PgError](a.err)
	return e
}

func (a answer) text() string {
	if e := a.error(); e != nil {
		return fmt.Sprintf("%s %s %s: %s @%d\n  detail %s\n  hint %s\n  of %s.%s %s %s\n", a.results, e.Severity, e.Code, e.Message, e.Position,
			e.Detail, e.Hint, e.SchemaName, e.TableName, e.ColumnName, e.ConstraintName)
	}
	return fmt.Sprintf("%s %v\n", a.results, a.err)
}

func (a answer) columns() string { return fmt.Sprintf("%s %v\n", a.heads, a.err) }

func (a answer) place() string {
	if e := a.error(); e != nil {
		return fmt.Sprintf("%s %s @%d\n", a.results, e.Code, e.Position)
	}
	return a.text()
}

func (a answer) state() string {
	if e := a.error(); e != nil {
		return fmt.Sprintf("%s %s\n", a.results, e.Code)
	}
	return a.text()
}
