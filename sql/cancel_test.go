package sql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/pgwire"
)

// Whatever takes long ends soon after it is cancelled: each of these would take minutes.
func TestCancelEndsWhateverTakesLong(t *testing.T) {
	m := newMemory()
	for i := range 5000 {
		m.put(fmt.Sprintf("%04d", i), "x")
	}
	conn := connectPgx(t, m, pgx.QueryExecModeSimpleProtocol)
	if _, err := conn.Exec(t.Context(), "prepare p(text) as select $1"); err != nil {
		t.Fatal(err)
	}
	const zeros = "('{' || repeat('0,', 1000000) || '0}')::int[]"
	for _, statement := range []string{
		"select pg_sleep(600)", "execute p(pg_sleep(600)::text)", "wait for lsn 'FFFFFFFF/0'",
		"select count(*) from generate_series(1, 1000000) as a, generate_series(1, 1000000) as b",
		"select count(*) from kv a, kv b, kv c where a.value >= b.value",
		"select count(*) from kv a, kv b, kv c where b.key > a.key and c.key > b.key and c.value = 'y'",
		"select count(*) from kv a cross join kv b cross join kv c left join kv d on d.key = c.key || b.key where c.key > b.key",
		"select btrim(repeat('é', 30000000), repeat('b', 1000000) || 'é')",
		"select length(repeat('a', 60000000)) from generate_series(1, 1000000)",
		"select repeat('a', 100000) ~ '(a|b)*c' from generate_series(1, 1000000)",
		"select 1 in (" + strings.Repeat("2,", 100000) + "3, g) from generate_series(4, 1000000) as g",
		"select pg_size_bytes(repeat('1', 60000000)) from generate_series(1, 1000000)",
		"select repeat('a', 60000000) ~ '(a|b|ab)*(a|c)*d'",
		"select repeat('a', 60000) ~ '((a{1,30}){1,30}b)+' from generate_series(1, 100)",
		"select repeat('a', 60000000) like '%' || repeat('a', 100000) || 'b'",
		"select repeat('a', 60000000) ilike '%' || repeat('A', 100000) || 'b'",
		"select count(('[' || repeat('{\"b\":1,\"a\":2},', 4000000) || '1]')::jsonb) from generate_series(1, 100)",
		"select count(*) from generate_series(1, 1000000) as g where g = any(" + zeros + ")",
		"select count(*) from generate_series(1, 1000000) as g where g <> all(" + zeros + ") or g = 0",
	} {
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), statement)
			done <- err
		}()
		start := time.Now()
		again := time.NewTicker(10 * time.Millisecond)
		for over := false; !over; {
			if err := conn.PgConn().CancelRequest(t.Context()); err != nil { // of no account before it has begun
				t.Fatal(err)
			}
			select {
			case err := <-done:
				over = true
				if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != pgwire.CodeQueryCanceled {
					t.Errorf("%.80s: %v, want %s", statement, err, pgwire.CodeQueryCanceled)
				}
			case <-again.C:
			}
		}
		again.Stop()
		t.Logf("%.80s: %v", statement, time.Since(start))
		if time.Since(start) > 20*time.Second {
			t.Errorf("%.80s: cancelled after %v", statement, time.Since(start))
		}
	}
}

// overEnv is what a statement is evaluated in that is over.
func overEnv(t *testing.T) *env {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, _ := newHolder(t, newMemory(), 1<<30)
	s.pace = pacer{ctx: ctx}
	return &env{ctx: t.Context(), session: s}
}

// Whatever goes through much ends with its statement.
func TestEndsWithItsStatement(t *testing.T) {
	const many = 100_000
	sorted, numbered, rows := make([]sortedRow, many), make([]*numberedRow, many), make([][]Value, many)
	groupList, keys, values := make([]*group, many), make([]string, many), make([]Value, many)
	groupBy := &grouping{by: make([]expr, 1)}
	for i := range many {
		v := Int4Value(int32(-i))
		sorted[i], numbered[i] = sortedRow{keys: []Value{v}}, &numberedRow{keys: [][]Value{{v}}, numbers: []int64{0}}
		rows[i] = []Value{TextValue("k")}
		groupList[i], keys[i], values[i] = &group{}, strconv.Itoa(-i), v
	}
	array := Value{typ: Int4Array, n: many, s: strings.Repeat("1\x00", many-1) + "1"}
	binaryArray := appendBinaryArray(nil, array, nil)
	commas := strings.Repeat("1,", many-1) + "1"
	call := func(name string, args ...Value) func(e *env) error {
		return func(e *env) error {
			i := slices.IndexFunc(builtins, func(f Func) bool { return f.Name == name && len(f.Args) == len(args) })
			_, err := builtins[i].builtin(e, args)
			return err
		}
	}
	one := TextValue(strings.Repeat("1", many))
	for name, run := range map[string]func(e *env) error{
		"sort": func(e *env) error { return sortRows(&e.session.pace, sorted, make([]sortKey, 1)) },
		"keys": func(e *env) error { return (&keyList{e: e, keys: keys}).sort() },
		"window": func(e *env) error {
			return (&selection{e: e, numbered: numbered}).number(0, &windowCall{partition: make([]sortKey, 1)})
		},
		"numbered": func(e *env) error {
			return (&selection{e: e, numbered: numbered, plan: &selectPlan{}, offset: many}).emitNumbered()
		},
		"groups": func(e *env) error {
			_, err := (&selection{e: e, groups: groups{list: groupList}, plan: &selectPlan{group: groupBy}, offset: many}).emitGroups()
			return err
		},
		"distinct": func(e *env) error { _, err := distinctRows(rows, e); return err },
		"array in": func(e *env) error { _, err := parseArray("{"+commas+"}", Int4Array, &e.session.pace); return err },
		"vector in": func(e *env) error {
			_, err := parseArray(strings.ReplaceAll(commas, ",", " "), OIDVector, &e.session.pace)
			return err
		},
		"array receive": func(e *env) error { _, err := parseBinary(binaryArray, Int4Array, &e.session.pace); return err },
		"array send": func(e *env) error {
			e.session.encoder.formats = []int16{binaryFormat}
			return e.session.encoder.sendRow([]Value{array})
		},
		"array values": func(e *env) error { _, err := array.values(&e.session.pace); return err },
		"array made":   func(e *env) error { _, err := arrayOfValues(Int4Array, values, nil, &e.session.pace); return err },
		"array cast":   func(e *env) error { _, err := castValue(array, Int8Array, nil, &e.session.pace); return err },
		"any": func(e *env) error {
			_, err := (&anyExpr{op: "=", l: &constExpr{Int4, Int4Value(2)}, array: &constExpr{Int4Array, array}}).eval(e)
			return err
		},
		"jsonb":   func(e *env) error { _, err := parseValue("["+commas+"]", JSONB, nil, &e.session.pace); return err },
		"btrim":   call("btrim", one, TextValue("01")),
		"lower":   call("lower", TextValue(strings.Repeat("A", 2*pieceLen))),
		"upper":   call("upper", TextValue(strings.Repeat("é", pieceLen))),
		"replace": call("replace", one, TextValue("1"), TextValue("2")),
		"reverse": call("reverse", one),
		"ltrim":   call("ltrim", one, TextValue("01")),
		"rtrim":   call("rtrim", one, TextValue("01")),
		"rows to insert": func(e *env) error {
			query := &subplan{plan: &selectPlan{}}
			e.subqueries = map[*subplan][][]Value{query: rows}
			_, err := (&insertPlan{query: query, columns: []int{keyColumn}}).queried(e)
			return err
		},
		"text of a statement": func(e *env) error {
			_, _, err := parseAll("select "+commas, anything{}.Hold, &e.session.pace)
			return err
		},
		"analysis": func(e *env) error {
			node := mustParse(t, "select 1 in ("+commas+")")
			return e.session.newStatement(parsed{node: node, noParams: true}).analyze()
		},
	} {
		if err := run(overEnv(t)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := sortRows(&pacer{ctx: t.Context()}, sorted, make([]sortKey, 1)); err != nil || sorted[0].keys[0].n != 1-many {
		t.Errorf("sortRows() = %v, the first row is %d", err, sorted[0].keys[0].n)
	}
}

// Long texts are converted piece by piece, as short ones are.
func TestLongTexts(t *testing.T) {
	s, _ := newHolder(t, newMemory(), 1<<30)
	s.pace = pacer{ctx: t.Context()}
	for _, text := range []string{"", "aÉx", strings.Repeat("aÉx", pieceLen)} {
		out := &rowList{}
		st, err := s.Parse(t.Context(), "select lower($1), upper($1), reverse($1), replace($1, 'xa', '-')", nil)
		if err == nil {
			_, err = s.Execute(t.Context(), st, pgwire.Args{Values: [][]byte{[]byte(text)}}, out, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		runes := []rune(text)
		slices.Reverse(runes)
		want := []string{strings.ToLower(text), strings.ToUpper(text), string(runes), strings.ReplaceAll(text, "xa", "-")}
		if !slices.Equal(out.rows[0], want) {
			t.Errorf("%.20q…: %.50q", text, out.rows[0])
		}
	}
}

func mustParse(t *testing.T, text string) statementNode {
	t.Helper()
	nodes, _, err := parseAll(text, anything{}.Hold, nil)
	if err != nil {
		t.Fatal(err)
	}
	return nodes[0]
}

// What was interrupted while it was described is not run: its client has been told of no columns.
func TestInterruptedAnalysis(t *testing.T) {
	s, c := newHolder(t, newMemory(), 1<<30)
	text := "select 1 in (" + strings.Repeat("1,", 10_000) + "1)"
	ctx, cancel := context.WithCancel(t.Context())
	list, err := s.ParseAll(ctx, text)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if columns := list[0].Columns(); columns != nil {
		t.Errorf("what was cancelled has the columns %v", columns)
	}
	if _, err := s.Execute(t.Context(), list[0], pgwire.Args{}, &rowList{}, true); !errors.Is(err, context.Canceled) || c.held != 0 {
		t.Errorf("what was interrupted runs: %v, and %d bytes are held", err, c.held)
	}
	s.Fail()
	mustRun(t, s, text)
}

// A statement is described after the one before it in its query string has run, whose timeout is over.
func TestNextStatementIsDescribed(t *testing.T) {
	s, _ := newHolder(t, newMemory(), 1<<30)
	mustRun(t, s, "set statement_timeout = '1h'")
	list, err := s.ParseAll(t.Context(), "select 1; select 1 in ("+strings.Repeat("1,", 10_000)+"1)")
	if err == nil {
		_, err = s.Execute(t.Context(), list[0], pgwire.Args{}, &rowList{}, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	if columns := list[1].Columns(); len(columns) != 1 {
		t.Errorf("the next statement has the columns %v", columns)
	}
}

// Rows that are written one by one, and a parameter of many elements, end with their statement.
func TestCancelledExecution(t *testing.T) {
	values := "insert into kv values ('k','v')" + strings.Repeat(",('k','v')", 3000) + " on conflict do nothing"
	for text, args := range map[string]pgwire.Args{
		values:                            {},
		"select cardinality($1::int[])":   {Values: [][]byte{[]byte("{" + strings.Repeat("1,", 50_000) + "1}")}},
		"select $1::jsonb is null":        {Values: [][]byte{[]byte("[" + strings.Repeat("1,", 50_000) + "1]")}},
		"update kv set value = 'x'":       {},
		"delete from kv":                  {},
		"select key from kv order by key": {},
	} {
		m := newMemory()
		for i := range 3000 {
			m.put(strconv.Itoa(i), "v")
		}
		s, c := newHolder(t, m, 1<<30)
		st, err := s.Parse(t.Context(), text, nil)
		if err == nil {
			err = s.Bind(st, args)
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Execute(ctx, st, args, &rowList{}, true); !errors.Is(err, context.Canceled) || c.held != 0 {
			t.Errorf("%.50s: %v, and %d bytes are held", text, err, c.held)
		}
	}
}

// statement_timeout ends the reading and the analysis of a long statement, as it does its execution.
func TestTimeoutOfLongStatement(t *testing.T) {
	s, _ := newHolder(t, newMemory(), 1<<30)
	if err := runAll(s, "set statement_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ParseAll(t.Context(), "select 1 in ("+strings.Repeat("1,", 200_000)+"1)"); code(err) != pgwire.CodeQueryCanceled {
		t.Errorf("ParseAll() = %v", err)
	}
	st := s.newStatement(parsed{node: mustParse(t, "select 1 in ("+strings.Repeat("1,", 200_000)+"1)"), noParams: true})
	s.pace = pacer{ctx: t.Context()}
	if err := st.analyze(); code(err) != pgwire.CodeQueryCanceled {
		t.Errorf("analyze() = %v", err)
	}
}

// What takes many times the memory of its text while it is looked at is bounded: arrays by their elements, regular
// expressions by the machine that they mean. So is what functions and casts make: each around another would multiply it.
func TestBoundedByWhatItMeans(t *testing.T) {
	const most = "1048576"
	ok, tooLong, tooComplex := "<nil>", pgwire.CodeProgramLimitExceeded, "2201B"
	for query, want := range map[string]string{
		"select cardinality(('{' || repeat('0,', " + most + " - 1) || '0}')::int[])":                         ok,
		"select cardinality(('{' || repeat('0,', " + most + ") || '0}')::int[])":                             tooLong,
		"select cardinality('{" + strings.Repeat("0,", maxArrayLen) + "0}'::text[])":                         tooLong,
		"select cardinality(('{' || repeat('0,', " + most + " - 1) || '0}')::int[] || array[1])":             tooLong,
		"select cardinality(array_agg(1)) from generate_series(1, 1025) as a, generate_series(1, 1024) as b": tooLong,
		"select 'aaa' ~ '" + strings.Repeat("(ab|a)", 1000) + "'":                                            ok,
		"select 'a' ~ '^.{1,1000}$'":                                  ok,
		"select 'a' ~ '(" + strings.Repeat("(ab|a)", 20) + "){1000}'": tooComplex,
		"select 'a' ~ repeat('a', 65537)":                             tooComplex,
		"select length(array_to_string(('{' || repeat('a,', 100000) || 'a}')::text[], repeat('x', 10000)))":         tooLong,
		"select length(array_to_string(('{' || repeat('null,', 100000) || 'a}')::text[], '', repeat('x', 10000)))":  tooLong,
		"select length(array_to_string(('{' || repeat('a,', 100000) || 'null}')::text[], repeat('x', 600)))":        ok,
		"select length(quote_literal(quote_literal(repeat('''', 30000000))))":                                       tooLong,
		"select length(quote_ident(quote_ident(repeat('\"', 30000000))))":                                           tooLong,
		"select length(convert_to(convert_to(repeat('a', 30000000), 'UTF8')::text, 'UTF8')::text)":                  tooLong,
		"select split_part(repeat('a,', 30000000) || 'b', ',', -1), split_part(repeat('a,', 30000000), ',', 30000)": ok,
	} {
		s, _ := newHolder(t, newMemory(), 1<<30)
		if err := runAll(s, query); code(err) != want {
			t.Errorf("%.100s: %v, want %s", query, err, want)
		}
	}
}
