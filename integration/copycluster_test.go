package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// COPY on a primary and its standby.
func TestCopy(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	t.Run("files", func(t *testing.T) { copyFiles(t, c) })
	t.Run("watched and cancelled", func(t *testing.T) { copyFromCancelled(t, c.primary()) })
	t.Run("too much", func(t *testing.T) { copyTooMuch(t, c.primary()) })
	t.Run("cancelled in its commit", func(t *testing.T) { copyCommitCancelled(t, c) })
	t.Run("a client that does not read", func(t *testing.T) { copyToCancelled(t, c.primary()) })
	c.checkSame()
}

// copyFiles loads a file with psql's \copy, and gets the same file back from both nodes.
func copyFiles(t *testing.T, c *cluster) {
	n1, n2 := c.pair()
	var want strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&want, "k%05d\tvalue\\t%d\n", i, i)
	}
	in := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(in, []byte(want.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	checkPsql(t, n1, `\copy kv from '`+in+`'`, "COPY 20000")
	n2.exec("WAIT FOR LSN '" + n1.value("SELECT pg_current_wal_lsn()") + "'")
	for _, n := range []*node{n1, n2} {
		for options, write := range map[string]func(string) string{
			"": func(s string) string { return s },
			"csv header": func(s string) string {
				return "key,value\n" + strings.NewReplacer("\t", ",", `\t`, "\t").Replace(s)
			},
		} {
			out := filepath.Join(t.TempDir(), "out")
			checkPsql(t, n, `\copy kv to '`+out+`' `+options, "COPY 20000")
			if got, err := os.ReadFile(out); err != nil || string(got) != write(want.String()) {
				t.Errorf("%s: \\copy to %s wrote %d bytes (%v), want %d", n.name, options, len(got), err, len(write(want.String())))
			}
		}
	}
	if got := psql(t, n2, "COPY kv FROM STDIN;\n"); !strings.Contains(got, "25006: cannot execute COPY FROM in a read-only transaction") {
		t.Errorf("COPY FROM on a standby: %s", got)
	}
	checkPsql(t, n1, "DELETE FROM kv", "DELETE 20000")
}

// copyFromCancelled watches a COPY FROM whose client takes its time, and cancels it.
func copyFromCancelled(t *testing.T, n *node) {
	w := newWire(t, n.dsn())
	w.send(simple("COPY kv FROM STDIN"), &pgproto3.CopyData{Data: []byte("a\t1\nb\t2\nc")})
	n.await("SELECT command || ' ' || type || ' ' || tuples_processed || ' ' || bytes_processed || ' ' || relid FROM pg_stat_progress_copy",
		"COPY FROM PIPE 2 9 16384")
	if err := w.conn.CancelRequest(w.ctx); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"CopyInResponse &{OverallFormat:0 ColumnFormatCodes:[0 0]}",
		`ErrorResponse ERROR 57014: canceling statement due to user request | detail:  | hint:  | where: COPY kv, line 3 | position: 0`,
		"ReadyForQuery I",
	}
	if got := w.receive(1); !slices.Equal(got, want) {
		t.Errorf("a cancelled COPY FROM answers %q, want %q", got, want)
	}
	w.send(&pgproto3.CopyData{Data: []byte("x")}, &pgproto3.CopyDone{}) // which come too late
	got := w.talk(simple("SELECT count(*) FROM kv"), simple("SET statement_timeout = 50; COPY kv FROM STDIN"))
	if last := strings.Join(got, "\n"); !strings.Contains(last, `DataRow ["0"]`) || !strings.Contains(last, "57014: canceling statement due to statement timeout") {
		t.Errorf("after the cancel, and a COPY FROM that outlasts statement_timeout: %s", last)
	}
	n.await("SELECT count(*) FROM pg_stat_progress_copy", "0")
}

// megabytes is the data of a COPY FROM: rows of 1 MiB, of which only one is in memory.
func megabytes(rows int) io.Reader {
	value := bytes.Repeat([]byte{'v'}, 1<<20)
	var parts []io.Reader
	for i := range rows {
		parts = append(parts, strings.NewReader(fmt.Sprintf("big%03d\t", i)), bytes.NewReader(value), strings.NewReader("\n"))
	}
	return io.MultiReader(parts...)
}

// copyTooMuch sends more than a transaction may hold.
func copyTooMuch(t *testing.T, n *node) {
	conn := n.connect().PgConn()
	ctx, cancel := testContext(t)
	defer cancel()
	_, err := conn.CopyFrom(ctx, megabytes(80), "COPY kv FROM STDIN")
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || e.Code != "54000" || !strings.HasPrefix(e.Where, "COPY kv, line 64") {
		t.Errorf("a COPY FROM of 80 MiB ends with %#v, want 54000 in line 64", err)
	}
	if got := n.value("SELECT count(*) FROM kv"); got != "0" {
		t.Errorf("%s rows of it are there", got)
	}
}

// copyToCancelled has a client that asks for 40 MiB and does not read them: nobody else is held up, and
// when it is cancelled it gets no more than was on its way.
func copyToCancelled(t *testing.T, n *node) {
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := n.connect().PgConn().CopyFrom(ctx, megabytes(40), "COPY kv FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	w := newWire(t, n.dsn())
	w.send(simple("COPY kv TO STDOUT"))
	n.await("SELECT tuples_processed > 0 FROM pg_stat_progress_copy WHERE command = 'COPY TO'", "t")
	n.exec("INSERT INTO kv VALUES ('zzz', '1')")
	if err := w.conn.CancelRequest(w.ctx); err != nil {
		t.Fatal(err)
	}
	rows, last := 0, ""
	for last == "" {
		msg, err := w.conn.Frontend().Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			rows++
		case *pgproto3.ErrorResponse:
			last = m.Code
		case *pgproto3.CommandComplete:
			last = string(m.CommandTag)
		}
	}
	if last != "57014" || rows >= 40 {
		t.Errorf("a COPY TO that is cancelled while its client does not read ends in %s after %d rows", last, rows)
	}
	n.exec("DELETE FROM kv")
}

// copyCommitCancelled cancels a COPY FROM that has all its rows and waits for a standby: whether it is
// committed is not known, and the error says so.
func copyCommitCancelled(t *testing.T, c *cluster) {
	n1, n2 := c.pair()
	n2.freeze()
	start := n1.value("SELECT pg_current_wal_insert_lsn()")
	w := newWire(t, n1.dsn())
	w.send(copyFrom("COPY kv FROM STDIN", "a\t1\n")...)
	n1.await("SELECT pg_current_wal_flush_lsn() > '"+start+"'", "t")
	if err := w.conn.CancelRequest(w.ctx); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(w.receive(1), "\n")
	if !strings.Contains(got, "ErrorResponse ERROR 08007") || strings.Contains(got, "CommandComplete") {
		t.Errorf("a COPY FROM whose commit is cancelled answers %s", got)
	}
	n2.thaw()
	c.primary().await("SELECT value FROM kv WHERE key = 'a'", "1")
	c.primary().exec("DELETE FROM kv")
}
