package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// besideTable is kv as PostgreSQL would have it: lsn is nothing that a client can write.
const besideTable = `CREATE TABLE kv (key text PRIMARY KEY CHECK (key <> ''), value text, lsn pg_lsn GENERATED ALWAYS AS (NULL::pg_lsn) STORED)`

// TestSameAsPostgreSQL sends the same messages to PostgreSQL 15 and to a node: both must answer with the
// same messages, rows, tags, SQLSTATEs, and words.
func TestSameAsPostgreSQL(t *testing.T) {
	t.Parallel()
	pg := onePostgres(t, "fsync = off")
	pg.sql("DROP TABLE kv; " + besideTable)
	n := newCluster(t, 1).primary()
	both := func(t *testing.T) (theirs, ours *wire) {
		theirs = newWire(t, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", pg.port))
		return theirs, newWire(t, n.dsn())
	}
	t.Run("extended query", func(t *testing.T) { sameExtended(t, both) })
	t.Run("copy", func(t *testing.T) { sameCopies(t, both) })
	t.Run("copy anything", func(t *testing.T) { sameRandomCopies(t, both) })
	t.Run("copy binary", func(t *testing.T) { sameBinaryCopies(t, both) })
}

// A wire is a session of which every message is seen.
type wire struct {
	t    *testing.T
	ctx  context.Context
	conn *pgconn.PgConn
}

func newWire(t *testing.T, dsn string) *wire {
	t.Helper()
	ctx, cancel := testContext(t)
	t.Cleanup(cancel)
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })
	return &wire{t, ctx, conn}
}

// talk sends messages and returns what is answered up to as many ReadyForQuery as they ask for, or the
// end of the connection.
func (w *wire) talk(msgs ...pgproto3.FrontendMessage) (lines []string) {
	w.t.Helper()
	ready := 0
	for _, m := range msgs {
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			ready++
		}
	}
	w.send(msgs...)
	return w.receive(ready)
}

// send sends messages. That the connection has ended the next receive says.
func (w *wire) send(msgs ...pgproto3.FrontendMessage) {
	for _, m := range msgs {
		w.conn.Frontend().Send(m)
	}
	_ = w.conn.Frontend().Flush()
}

// receive returns what is answered up to a number of ReadyForQuery, or the end of the connection.
func (w *wire) receive(ready int) (lines []string) {
	for ready > 0 {
		msg, err := w.conn.Frontend().Receive()
		if err != nil {
			return append(lines, "EOF")
		}
		switch msg.(type) {
		case *pgproto3.ParameterStatus:
			continue
		case *pgproto3.ReadyForQuery:
			ready--
		}
		lines = append(lines, messageLine(msg))
	}
	return lines
}

// messageLine prints what a client can go by.
func messageLine(msg pgproto3.BackendMessage) string {
	switch m := msg.(type) {
	case *pgproto3.ErrorResponse:
		return errorLine("ErrorResponse", m)
	case *pgproto3.NoticeResponse:
		return errorLine("NoticeResponse", (*pgproto3.ErrorResponse)(m))
	case *pgproto3.RowDescription:
		var b strings.Builder
		b.WriteString("RowDescription")
		for _, f := range m.Fields {
			fmt.Fprintf(&b, " %s:%d:%d:%d:%d", f.Name, f.DataTypeOID, f.DataTypeSize, f.TypeModifier, f.Format)
		}
		return b.String()
	case *pgproto3.DataRow:
		return fmt.Sprintf("DataRow %q", m.Values)
	case *pgproto3.CopyData:
		return fmt.Sprintf("CopyData %q", m.Data)
	case *pgproto3.CommandComplete:
		return "CommandComplete " + string(m.CommandTag)
	case *pgproto3.ReadyForQuery:
		return "ReadyForQuery " + string(m.TxStatus)
	case *pgproto3.ParameterDescription:
		return fmt.Sprint("ParameterDescription ", m.ParameterOIDs)
	}
	return fmt.Sprintf("%T", msg)[len("*pgproto3."):] + fmt.Sprintf(" %+v", msg)
}

func errorLine(name string, e *pgproto3.ErrorResponse) string {
	hint := strings.TrimSuffix(e.Hint, "A key must not be empty.") // what we say beside what PostgreSQL says
	return fmt.Sprintf("%s %s %s: %s | detail: %s | hint: %s | where: %s | position: %d",
		name, e.Severity, e.Code, e.Message, e.Detail, hint, e.Where, e.Position)
}

// checkSame plays the same conversation on both, and compares.
func checkSame(t *testing.T, theirs, ours *wire, m ...pgproto3.FrontendMessage) {
	t.Helper()
	compare(t, m, theirs.talk(m...), ours.talk(m...))
}

func compare(t *testing.T, msgs []pgproto3.FrontendMessage, want, got []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%s\nPostgreSQL answers\n\t%s\nLongship\n\t%s", conversation(msgs), strings.Join(want, "\n\t"), strings.Join(got, "\n\t"))
}

func conversation(msgs []pgproto3.FrontendMessage) string {
	var b strings.Builder
	for _, m := range msgs {
		if d, ok := m.(*pgproto3.CopyData); ok {
			fmt.Fprintf(&b, "CopyData %.200q\n", d.Data)
			continue
		}
		fmt.Fprintf(&b, "%T %+v\n", m, m)
	}
	return b.String()
}

func simple(text string) *pgproto3.Query { return &pgproto3.Query{String: text} }

// copyFrom is a COPY FROM with its data, a message each.
func copyFrom(text string, data ...string) []pgproto3.FrontendMessage {
	msgs := []pgproto3.FrontendMessage{simple(text)}
	for _, d := range data {
		msgs = append(msgs, &pgproto3.CopyData{Data: []byte(d)})
	}
	return append(msgs, &pgproto3.CopyDone{})
}
