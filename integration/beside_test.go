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
		}
		want, got := compare(ask(ctx, theirs, line)), compare(ask(ctx, ours, line))
		if got != want {
			t.Errorf("%s\nPostgreSQL:\n%sLongship:\n%s", line, want, got)
		}
	}
}

// An answer is all that a server says to a query string.
type answer struct {
	results []byte
	err     error
}

func ask(ctx context.Context, conn *pgx.Conn, query string) answer {
	var all bytes.Buffer
	mrr := conn.PgConn().Exec(ctx, query)
	for mrr.NextResult() {
		var b bytes.Buffer
		rr := mrr.ResultReader()
		for _, f := range rr.FieldDescriptions() {
			fmt.Fprintf(&b, " %s:%d/%d/%d", f.Name, f.DataTypeOID, f.DataTypeSize, f.TypeModifier)
		}
		fmt.Fprintln(&b)
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
	return answer{all.Bytes(), err}
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
