package sql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
)

// TestScripts runs conversations. Commands, with the session's name as argument s=:
//
//	query     a simple query string, as psql sends it
//	exec      the first line is prepared, each further line is one execution's parameters,
//	          separated by |; NULL is NULL
//	describe  the statement's parameter and column types
//	copy      the first line is a COPY; the others are its data, a message each, as Go writes strings
//	put       key value lines written by somebody else
//	server    name = value lines: settings on the command line
//	rule      the best level that commits reach from now on; or lost: their outcome is unknown; or degraded
//	told      the longship parameters that the client has been told
//	written   prints what ALTER SYSTEM has written
//	reload    makes that the cluster's settings; with start, as a node does that starts
//
// The results are rows, tags, notices, and errors with everything the client would see.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		w := &world{memory: newMemory(), sessions: map[string]*Session{}, clients: map[string]*client{}}
		w.addTestObjects()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			name := "a"
			d.MaybeScanArgs(t, "s", &name)
			w.connect(t, name)
			switch d.Cmd {
			case "query":
				return w.query(t, name, d.Input)
			case "exec":
				return w.exec(t, name, d.Input)
			case "copy":
				return w.copy(t, name, d.Input)
			case "describe":
				return w.describe(t, name, d.Input)
			case "put":
				for line := range strings.Lines(d.Input) {
					key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
					w.memory.put(key, value)
				}
				return ""
			case "server":
				for line := range strings.Lines(d.Input) {
					key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
					if err := w.memory.catalog.Settings.Set(key, value, "command line"); err != nil {
						return printError(err)
					}
				}
				return ""
			case "rule":
				return w.rule(d.Input)
			case "told":
				return w.told(name)
			case "written":
				return w.printWritten()
			case "reload":
				var b strings.Builder
				for _, problem := range w.memory.catalog.Settings.Configure(w.memory.written, d.HasArg("start")) {
					fmt.Fprintln(&b, problem)
				}
				return b.String()
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

type world struct {
	memory   *memory
	sessions map[string]*Session
	clients  map[string]*client
}

// addTestObjects registers what package node would: a view and functions of each shape.
func (w *world) addTestObjects() {
	c := w.memory.catalog
	c.AddView("pg_stat_replication", PgStatReplicationColumns, func(context.Context) ([][]Value, error) {
		var rows [][]Value
		for i, name := range []string{"n2", "n3"} {
			row := make([]Value, len(PgStatReplicationColumns))
			row[0], row[3], row[9] = Int4Value(int32(100+i)), TextValue(name), TextValue("streaming")
			row[10], row[11] = LSNValue(0x3000060), LSNValue(0x3000000)
			row[14] = IntervalValue(1234567)
			row[17], row[18] = Int4Value(1), TextValue("quorum")
			rows = append(rows, row)
		}
		return rows, nil
	})
	c.AddFunc(Func{Name: "pg_is_in_recovery", Result: Bool, Call: func(context.Context, []Value) (Value, error) {
		return BoolValue(false), nil
	}})
	for name, arg := range map[string]Type{"pg_database_size": Name, "pg_table_size": Regclass} {
		c.AddFunc(Func{Name: name, Args: []Type{arg}, Result: Int8, Call: func(context.Context, []Value) (Value, error) {
			return Int8Value(12345), nil
		}})
	}
	c.NextXID = func() uint32 { return 1003 }
	c.AddFunc(Func{
		Name: "pg_create_physical_replication_slot", Args: []Type{Name, Bool, Bool},
		Defaults: []Value{BoolValue(false), BoolValue(false)},
		Columns:  []Column{{"slot_name", Name}, {"lsn", PgLSN}},
		Row: func(_ context.Context, _ Backend, args []Value) ([]Value, error) {
			lsn := Null
			if args[1].Bool() {
				lsn = LSNValue(0x3000028)
			}
			return []Value{args[0], lsn}, nil
		},
	})
	c.ReadOnlyHint = func() string { return "The primary is at 127.0.0.1:5433." }
}

func (w *world) connect(t *testing.T, name string) {
	if w.sessions[name] != nil {
		return
	}
	c := &client{prepared: map[string]bool{"p1": true}}
	s, err := NewSession(c, w.memory, Identity{User: "ada", Database: "kv", PID: 42, Params: map[string]string{"application_name": "test"}})
	if err != nil {
		t.Fatal(err)
	}
	w.sessions[name], w.clients[name] = s, c
}

// rule says what becomes of commits.
func (w *world) rule(text string) string {
	w.memory.lost, w.memory.degraded = nil, text == "degraded"
	switch text {
	case "degraded":
		text = "local"
	case "lost":
		w.memory.lost = pgwire.Errorf(pgwire.CodeTransactionResolutionUnknown, "the commit was not confirmed")
		return ""
	}
	var err error
	if w.memory.best, err = syncrep.ParseLevel(text); err != nil {
		return err.Error()
	}
	return ""
}

func (w *world) told(name string) string {
	var lines []string
	for parameter, value := range w.clients[name].params {
		if strings.HasPrefix(parameter, "longship.") {
			lines = append(lines, parameter+" = "+value+"\n")
		}
	}
	slices.Sort(lines)
	clear(w.clients[name].params)
	return strings.Join(lines, "")
}

func (w *world) printWritten() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w.memory.written)) {
		fmt.Fprintf(&b, "%s = %s\n", name, w.memory.written[name])
	}
	return b.String()
}

// query does what pgwire does with a Query message.
func (w *world) query(t *testing.T, name, text string) string {
	s, ctx := w.sessions[name], t.Context()
	var b strings.Builder
	stmts, err := s.ParseAll(ctx, text)
	if err != nil {
		s.Fail()
	}
	for i, st := range stmts {
		columns := st.Columns()
		rows := &rowList{}
		var tag string
		tag, err = executeUnchanged(t, s, st, pgwire.Args{}, rows, i == len(stmts)-1)
		printRows(&b, columns, rows)
		if err != nil {
			s.Fail()
			break
		}
		fmt.Fprintln(&b, tag)
	}
	return w.finish(t, &b, name, err)
}

// copy runs a COPY and prints what the client got of it.
func (w *world) copy(t *testing.T, name, input string) string {
	text, data, _ := strings.Cut(input, "\n")
	c := w.clients[name]
	c.copyIn, c.copyOut = nil, nil
	for line := range strings.Lines(data) {
		chunk, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		c.copyIn = append(c.copyIn, []byte(chunk))
	}
	said := w.query(t, name, text)
	var b strings.Builder
	for line := range bytes.Lines(c.copyOut) {
		fmt.Fprintf(&b, "%q\n", line)
	}
	return b.String() + said
}

func (w *world) exec(t *testing.T, name, input string) string {
	s, ctx := w.sessions[name], t.Context()
	var b strings.Builder
	text, lines, _ := strings.Cut(input, "\n")
	st, err := s.Parse(ctx, text, nil)
	if err != nil {
		s.Fail()
		return w.finish(t, &b, name, err)
	}
	for _, line := range strings.Split(lines, "\n") {
		var args pgwire.Args
		if line != "" {
			for _, field := range strings.Split(line, "|") {
				value := []byte(field)
				if field == "NULL" {
					value = nil
				}
				args.Values = append(args.Values, value)
			}
		}
		rows := &rowList{}
		tag, err := executeUnchanged(t, s, st, args, rows, true)
		printRows(&b, st.Columns(), rows)
		if err != nil {
			s.Fail()
			return w.finish(t, &b, name, err)
		}
		fmt.Fprintln(&b, tag)
	}
	return w.finish(t, &b, name, nil)
}

func (w *world) describe(t *testing.T, name, text string) string {
	st, err := w.sessions[name].Parse(t.Context(), text, nil)
	if err != nil {
		return printError(err)
	}
	var b strings.Builder
	for i, oid := range st.ParamTypes() {
		fmt.Fprintf(&b, "$%d %s\n", i+1, Type(oid))
	}
	for _, c := range st.Columns() {
		fmt.Fprintf(&b, "%s %s\n", c.Name, Type(c.Type))
	}
	return b.String()
}

// finish prints the outcome and what a Sync would do.
func (w *world) finish(t *testing.T, b *strings.Builder, name string, err error) string {
	s, c := w.sessions[name], w.clients[name]
	for _, n := range c.notices {
		fmt.Fprintf(b, "%s\n", strings.TrimSuffix(printError(n), "\n"))
	}
	c.notices = nil
	if err != nil {
		b.WriteString(printError(err))
	} else if err := s.Finish(t.Context()); err != nil {
		b.WriteString("at sync: " + printError(err))
	}
	if status := s.TxStatus(); status != 'I' {
		fmt.Fprintf(b, "[%c]\n", status)
	}
	return b.String()
}

func printRows(b *strings.Builder, columns []pgwire.Column, rows *rowList) {
	if columns == nil {
		return
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	fmt.Fprintf(b, "-- %s\n", strings.Join(names, " | "))
	for _, row := range rows.rows {
		fmt.Fprintln(b, strings.Join(row, " | "))
	}
}

func printError(err error) string {
	e, ok := errors.AsType[*pgwire.Error](err)
	if !ok {
		return fmt.Sprintf("not a client error: %v\n", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s", e.Severity, e.Code, e.Message)
	if e.Position > 0 {
		fmt.Fprintf(&b, " @%d", e.Position)
	}
	b.WriteByte('\n')
	if e.Detail != "" {
		fmt.Fprintf(&b, "  DETAIL %s\n", e.Detail)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "  HINT %s\n", e.Hint)
	}
	if e.Where != "" {
		fmt.Fprintf(&b, "  CONTEXT %s\n", e.Where)
	}
	return b.String()
}
