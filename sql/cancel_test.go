package sql

import (
	"context"
	"errors"
	"fmt"
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

// A sort ends with its statement.
func TestCancelledSort(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rows := make([]sortedRow, 100_000)
	for i := range rows {
		rows[i].keys = []Value{Int4Value(int32(-i))}
	}
	if err := sortRows(ctx, rows, make([]sortKey, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("sortRows() = %v", err)
	}
	if err := sortRows(t.Context(), rows, make([]sortKey, 1)); err != nil || rows[0].keys[0].n != -99_999 {
		t.Errorf("sortRows() = %v, the first row is %d", err, rows[0].keys[0].n)
	}
}

// So does a list of keys to look up.
func TestCancelledKeys(t *testing.T) {
	s, _ := newHolder(t, newMemory(), 1<<30)
	ctx, cancel := context.WithCancel(t.Context())
	list := keyList{e: &env{ctx: ctx, session: s}}
	for i := range 100_000 {
		list.keys = append(list.keys, strconv.Itoa(-i))
	}
	cancel()
	if err := list.sort(); !errors.Is(err, context.Canceled) {
		t.Errorf("sort() = %v", err)
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
