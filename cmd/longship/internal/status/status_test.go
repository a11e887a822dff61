package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"
	"github.com/jackc/pgx/v5/pgconn"
)

// A cannedNode answers "SELECT * FROM view" with rows from a file.
type cannedNode map[string][]Row

func (n cannedNode) Query(_ context.Context, statements ...string) ([][]Row, error) {
	var answer [][]Row
	for _, s := range statements {
		view, _, _ := strings.Cut(strings.TrimPrefix(s, "SELECT * FROM "), " ")
		rows, ok := n[view]
		if !ok {
			return nil, fmt.Errorf("no such view: %s", view)
		}
		answer = append(answer, rows)
	}
	return answer, nil
}

func readNode(t *testing.T, path string) cannedNode {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var n cannedNode
	if err := json.Unmarshal(b, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// now is two hours after the canned nodes were started.
var now = time.Date(2026, 3, 14, 17, 9, 26, 0, time.UTC)

// The scripts show what a node in testdata/*.json answers: text, json or brief.
func TestShow(t *testing.T) {
	datadriven.RunTest(t, "testdata/show", func(t *testing.T, d *datadriven.TestData) string {
		var name string
		d.ScanArgs(t, "node", &name)
		s, err := Collect(t.Context(), readNode(t, "testdata/"+name+".json"))
		if err != nil {
			return err.Error()
		}
		switch d.Cmd {
		case "text":
			text := s.Text(now)
			for _, line := range text[slices.Index(text, ""):] { // the tables
				if utf8.RuneCountInString(line) > 100 {
					t.Errorf("%s: longer than 100 characters: %s", d.Pos, line)
				}
			}
			return strings.Join(text, "\n") + "\n"
		case "json":
			b, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return string(b) + "\n"
		case "brief":
			rows := [][]string{BriefColumns}
			for _, m := range s.Members {
				rows = append(rows, s.Brief()[m.Text("name")])
			}
			return strings.Join(Columns(rows), "\n") + "\n"
		}
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	})
}

func TestDebtOfOneCommit(t *testing.T) {
	s := &Snapshot{Cluster: Row{{"debt_since", "2026-03-14 16:40:00+00"}, {"debt_commits", int64(1)}, {"debt_bytes", int64(112)}}}
	if got := s.debt(); !strings.Contains(got, ": 1 commit, 112 bytes, ") {
		t.Errorf("debt() = %q", got)
	}
}

func TestLiteral(t *testing.T) {
	if got, want := Literal(`it's \n`), `'it''s \n'`; got != want {
		t.Errorf("Literal() = %s, want %s", got, want)
	}
}

func TestRowKeepsItsColumns(t *testing.T) {
	const text = `{"b":1,"a":"x","n":null,"t":true,"f":1.5}`
	var r Row
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(r)
	if err != nil || string(got) != text {
		t.Errorf("Marshal(Unmarshal(%s)) = %s, %v", text, got, err)
	}
}

func TestInterval(t *testing.T) {
	tests := []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"00:00:00.000904", 904 * time.Microsecond, true},
		{"01:02:03", time.Hour + 2*time.Minute + 3*time.Second, true},
		{"1 day", 24 * time.Hour, true},
		{"2 days 00:00:01.5", 48*time.Hour + 1500*time.Millisecond, true},
		{"1 mon", 0, false},
		{"", 0, false},
	}
	for _, test := range tests {
		got, ok := Row{{"i", test.text}}.interval("i")
		if ok != test.ok || ok && got != test.want {
			t.Errorf("interval(%q) = %v, %v, want %v, %v", test.text, got, ok, test.want, test.ok)
		}
	}
}

func TestGoValue(t *testing.T) {
	tests := []struct {
		oid  uint32
		text []byte
		want any
	}{
		{25, nil, nil},
		{25, []byte("t"), "t"},
		{16, []byte("t"), true},
		{20, []byte("-5"), int64(-5)},
		{1700, []byte("12.50"), json.Number("12.50")},
		{701, []byte("NaN"), "NaN"},
		{3220, []byte("0/1A"), "0/1A"},
	}
	for _, test := range tests {
		if got := goValue(test.oid, test.text); got != test.want {
			t.Errorf("goValue(%d, %q) = %#v, want %#v", test.oid, test.text, got, test.want)
		}
	}
}

func TestConninfo(t *testing.T) {
	t.Setenv("PGHOST", "")
	t.Setenv("PGPORT", "")
	if got, want := Conninfo("", ""), "host='127.0.0.1' port='5433'"; got != want {
		t.Errorf("Conninfo() = %q, want %q", got, want)
	}
	t.Setenv("PGHOST", "db1")
	t.Setenv("PGPORT", "7000")
	t.Setenv("PGUSER", "ann")
	c, err := NewClient(Conninfo("", ""))
	if err != nil || c.Address() != "db1:7000" || c.config.User != "ann" {
		t.Errorf("client of %q as %q, %v; want db1:7000 as ann", c.Address(), c.config.User, err)
	}
	c, err = NewClient(Conninfo("it's", "1"))
	if err != nil || c.Address() != "it's:1" {
		t.Errorf("client of %q, %v; flags come before the environment", c.Address(), err)
	}
}

// Several nodes may be named, by flags or PGHOST and PGPORT: whoever answers first is asked, and if
// nobody does the error names them all.
func TestSeveralHosts(t *testing.T) {
	var addresses, ports []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() { // answers nobody's startup message
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		addresses, ports = append(addresses, l.Addr().String()), append(ports, port)
	}
	t.Setenv("PGHOST", "127.0.0.1,127.0.0.1")
	t.Setenv("PGPORT", strings.Join(ports, ","))
	for _, conninfo := range []string{Conninfo("", ""), Conninfo("127.0.0.1,127.0.0.1", strings.Join(ports, ","))} {
		c, err := NewClient(conninfo)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := c.Address(), strings.Join(addresses, ", "); got != want {
			t.Errorf("Address() = %s, want %s", got, want)
		}
		_, err = c.Query(t.Context(), "SELECT 1")
		if err == nil || !strings.HasPrefix(err.Error(), "cannot reach any node, tried "+strings.Join(addresses, ", ")+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Query() = %v", err)
		}
	}
}

// Errors are one line, and say what to do.
func TestExplain(t *testing.T) {
	c, err := NewClient("host=h port=1")
	if err != nil {
		t.Fatal(err)
	}
	stranger := &pgconn.PgError{Severity: "ERROR", Code: "42P01", Message: `relation "longship_cluster" does not exist`}
	tests := []struct {
		err  error
		want string
	}{
		{stranger, `the server at h:1 is not a Longship node of this version (relation "longship_cluster" does not exist): choose one with --host and --port`},
		{&pgconn.PgError{Code: "57P03", Message: "the database system is starting up"}, "h:1: the database system is starting up (SQLSTATE 57P03)"},
		{&pgconn.PgError{Code: "LS002", Message: "nobody can be promoted", Detail: "n2 is down.\nn3 is behind.", Hint: "Start n2."}, "h:1: nobody can be promoted (SQLSTATE LS002): n2 is down. n3 is behind. Start n2."},
		{errors.New("two\n\tlines"), "h:1: two; lines"},
	}
	for _, test := range tests {
		if got := c.explain(test.err).Error(); got != test.want {
			t.Errorf("explain(%q) = %q, want %q", test.err, got, test.want)
		}
	}
}
