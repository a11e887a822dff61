package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/syncrep"
)

// A cannedNode answers "SELECT * FROM view" with rows from a file.
type cannedNode map[string][]Row

func (n cannedNode) Query(_ context.Context, statements ...string) ([][]Row, error) {
	var answer [][]Row
	for _, s := range statements {
		rows, ok := n[strings.TrimPrefix(s, "SELECT * FROM ")]
		if !ok {
			return nil, fmt.Errorf("no such view: %s", s)
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
			return strings.Join(s.Text(now), "\n") + "\n"
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

// A foresee script gives the rule and then, line by line, nodes, "n2 standby streaming", and
// receivers, "r receiver streaming".
func TestForesee(t *testing.T) {
	datadriven.RunTest(t, "testdata/foresee", func(t *testing.T, d *datadriven.TestData) string {
		first, rest, _ := strings.Cut(d.Input, "\n")
		rule, err := syncrep.ParseRule(strings.TrimSpace(strings.TrimPrefix(first, "rule:")))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		var nodes []Node
		var streams []syncrep.Standby
		for line := range strings.Lines(rest) {
			f := strings.Fields(line)
			name, role, state := f[0], f[1], f[2]
			if role != "receiver" {
				nodes = append(nodes, Node{Name: name, Primary: role == "primary", Up: state != "down"})
			}
			if role != "primary" && state != "down" {
				streams = append(streams, syncrep.Standby{Slot: len(streams), Name: name, Member: role != "receiver", State: parseState(state), Flush: 8})
			}
		}
		var b strings.Builder
		for _, w := range Foresee(rule, nodes, streams) {
			primary := "none"
			if w.Primary != nil {
				primary = *w.Primary
			}
			fmt.Fprintf(&b, "%s: %s (primary %s)\n", strings.Join(w.Lose, ","), w.Then, primary)
		}
		return b.String()
	})
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
	if got, want := Conninfo("", 0), "host='127.0.0.1' port=5433"; got != want {
		t.Errorf("Conninfo() = %q, want %q", got, want)
	}
	t.Setenv("PGHOST", "db1")
	t.Setenv("PGPORT", "7000")
	t.Setenv("PGUSER", "ann")
	c, err := NewClient(Conninfo("", 0))
	if err != nil || c.Address() != "db1:7000" || c.config.User != "ann" {
		t.Errorf("client of %q as %q, %v; want db1:7000 as ann", c.Address(), c.config.User, err)
	}
	c, err = NewClient(Conninfo("it's", 1))
	if err != nil || c.Address() != "it's:1" {
		t.Errorf("client of %q, %v; flags come before the environment", c.Address(), err)
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
		{stranger, `the server at h:1 is not a Longship node (relation "longship_cluster" does not exist): choose one with --host and --port`},
		{&pgconn.PgError{Code: "57P03", Message: "the database system is starting up"}, "h:1: the database system is starting up (SQLSTATE 57P03)"},
		{errors.New("two\n\tlines"), "h:1: two lines"},
	}
	for _, test := range tests {
		if got := c.explain(test.err).Error(); got != test.want {
			t.Errorf("explain(%q) = %q, want %q", test.err, got, test.want)
		}
	}
}
