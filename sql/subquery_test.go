package sql

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/longship-db/longship/pgwire"
)

// Every way to read kv counts as read: if somebody else changes the row meanwhile, the transaction ends with 40001.
func TestEveryReadIsValidated(t *testing.T) {
	for _, query := range []string{
		"select value from kv where key = 'read'",
		"select value, count(*) from kv group by value",
		"select distinct value from kv where key like 'r%'",
		"select 1 where exists (select 1 from kv where key = 'read')",
		"select (select value from kv where key = 'read')",
		"select array(select value from kv)",
		"select 1 where 'x' in (select value from kv)",
		"select key from kv where key = 'other' and value <> all (select value from kv where key = 'read')",
		"select key from kv where key in (select value from kv where key = 'read')",
		"select key from kv where key = 'other' and exists (select 1 from kv k where k.key = kv.value)",
		"select * from (select value from kv) x",
		"select 1 union all select length(value) from kv where key = 'read'",
		"with w as (select value from kv where key = 'read') select * from w",
		"with recursive w as (select value from kv where key = 'read' union all select w.value || '.' from w where length(w.value) < 3) select * from w",
		"select key, count(*) over () from kv",
		"select 1 limit (select count(*) from kv)",
		"select a.key from kv a join kv b on a.key = b.value",
		"select b.key from kv a join kv b on a.value = b.key where a.key = 'other'",
		"select g from generate_series(1, 3) g left join kv on key = 'read' and value = g::text",
		"select k from (values ('read')) v(k) join kv on kv.key = v.k",
		"select count(*) from kv a, kv b where a.key = 'other' and b.key < a.value || 'x' and b.value <> 'x'",
		"select g from generate_series(1, 2) g, kv",
		"select kv.key from kv right join (values ('read')) v(k) on kv.key = v.k",
		"select a.key from kv a full join generate_series(1, 2) g on a.key = g::text",
		"select g from generate_series(1, 2) g full join kv on kv.key = 'none'",
		"select g from generate_series(1, 2) g natural join (values (1)) v(g) right join kv on kv.key = 'none' and g = 1 limit 9",
		"declare c cursor for select b.key from kv a join kv b on a.value = b.key where a.key = 'other'; fetch 1 from c",
		"insert into kv select 'new' || b.key, '' from kv a join kv b on b.key = a.value where a.key = 'other'",
		"select 1 order by (select max(value) from kv)",
		"insert into kv select 'new', value from kv where key = 'read'",
		"with w as (select value from kv where key = 'read') insert into kv select 'new', value from w",
		"with w as (select value from kv where key = 'read') update kv set value = (select value from w) where key = 'other'",
		"with w as (select value from kv where key = 'read') delete from kv where key in (select 'other' from w)",
		"select 1 where ('x', 1) in (select value, 1 from kv where key = 'read')",
		"select key from kv where (key, value) in (select 'other', value from kv where key = 'read')",
		"insert into kv values ('new', (select value from kv where key = 'read'))",
		"insert into kv select key, 'x' from kv where key = 'read' on conflict do nothing",
		"update kv set value = (select value from kv where key = 'read') where key = 'other'",
		"delete from kv where key = (select value from kv where key = 'read')",
		"update kv set value = 'z' from kv o where kv.key = 'other' and o.key = kv.value",
		"update kv set value = 'z' from kv o where kv.key = o.value",
		"update kv set value = o.value from (select value from kv where key = 'read') o where kv.key = 'other'",
		"update kv set value = 'z' from generate_series(1, 3) g where kv.value = g::text",
		"update kv set value = 'z' from (values ('other')) v(k) where kv.key = v.k and exists (select from kv where key = kv.value)",
		"delete from kv using kv o where kv.key = 'other' and o.key like 're%'",
		"delete from kv using (values ('read'), ('none')) v(k) left join kv o on o.key = v.k where kv.key = 'other'",
		"delete from kv using generate_series(1, 3) g where kv.value = g::text",
		"declare c cursor for select key, (select value from kv where key = 'read') from kv where key = 'other'",
		"declare c cursor for select * from (select value from kv) x; fetch 1 from c",
	} {
		m := newMemory()
		m.put("read", "x")
		m.put("other", "read")
		s, _ := newTestSession(t, m, nil)
		m.onCommit = func(m *memory) { m.put("read", "y") }
		_, err := run(t, s, "begin; "+query+"; insert into kv values ('mine', ''); commit")
		if code(err) != pgwire.CodeSerializationFailure {
			t.Errorf("%s: got %v, want 40001", query, err)
		}
		if _, ok := m.rows["mine"]; ok {
			t.Errorf("%s: committed", query)
		}
	}
}

// What is looked up by a value of a row of kv stays known after the row is gone, whose memory is used again: a key that
// changes is a conflict, and nothing else is one.
func TestLookupsByRowsAreRemembered(t *testing.T) {
	for _, query := range []string{
		"select (select k.value from kv k where k.key = kv.value) from kv where key like 'from/%'",
		"select count((select min(k.value) from kv k where k.key >= kv.value and k.key < 'looked0')) from kv where key like 'from/%'",
		"select key from kv where key like 'from/%' and exists (select from kv k where k.key in (kv.value, 'x'))",
		"select key from kv where key like 'from/%' and exists (select from kv k where k.key in (select kv.value))",
		"select key from kv where key like 'from/%' and exists (select from kv k where k.key = any (array[kv.value]))",
		"select b.key from kv a join kv b on b.key = a.value where a.key like 'from/%'",
		"select a.key, b.key from kv a left join kv b on b.key in (a.value, 'x') where a.key like 'from/%'",
		"select count(*) from kv a join kv b on b.key >= a.value and b.key < 'looked0' where a.key like 'from/%'",
		"select count(*) from kv a join kv b on b.key like a.value || '%' where a.key like 'from/%'",
		"select b.key from kv a, lateral (select a.value as v) x, kv b where b.key = x.v and a.key like 'from/%'",
		"select b.key from kv a join kv b on b.key in (select a.value) where a.key like 'from/%'",
		"update kv set value = 'x' from kv a where kv.key = a.value and a.key like 'from/%'",
		"update kv set value = 'x' from kv b where b.key = kv.value and kv.key like 'from/%'",
		"delete from kv using kv a where kv.key in (a.value, 'x') and a.key like 'from/%'",
	} {
		for _, changed := range []string{"looked/up", "beside"} {
			m := newMemory()
			m.put("from/1", "looked/up")
			m.put("from/2", "nowhere--")
			m.put("looked/up", "1")
			m.put("beside", "1")
			s, _ := newTestSession(t, m, nil)
			m.onCommit = func(m *memory) { m.put(changed, "2") }
			_, err := run(t, s, "begin; "+query+"; insert into kv values ('mine', ''); commit")
			if conflict := code(err) == pgwire.CodeSerializationFailure; conflict != (changed == "looked/up") || !conflict && err != nil {
				t.Errorf("%s, and %s changes: %v", query, changed, err)
			}
		}
	}
}

// So does a range that begins, or ends, at a value of a row: what comes into it is a conflict, and nothing else is one.
func TestRangesByRowsAreRemembered(t *testing.T) {
	for _, query := range []string{
		"select count((select min(k.key) from kv k where k.key > kv.value and k.key < 'looked0')) from kv where key like 'from/%'",
		"select count(*) from kv a join kv b on b.key > a.value and b.key < 'looked0' where a.key like 'from/%'",
		"select a.key, b.key from kv a left join kv b on b.key between a.value and 'looked0' where a.key like 'from/%'",
		"select count(*) from kv a, kv b where b.key like a.value || '%' and a.key like 'from/%'",
		"select count(*) from kv a, kv b where b.key > 'looked/' and b.key < a.value || '/z' and a.key like 'from/%'",
		"update kv set value = 'x' from kv a where kv.key > a.value and kv.key < 'looked0' and a.key in ('from/1', 'from/2')",
		"delete from kv using kv a left join kv b on b.key between a.value and 'looked0' where kv.key = a.key and a.key like 'from/%'",
	} {
		for _, phantom := range []string{"looked/up/2", "looked1", "aside"} {
			m := newMemory()
			m.put("from/1", "looked/up")
			m.put("from/2", "aaaaaaaaa")
			if strings.Contains(query, "'looked0'") {
				m.put("from/2", "zzzzzzzzz")
			}
			s, _ := newTestSession(t, m, nil)
			m.onCommit = func(m *memory) { m.put(phantom, "2") }
			_, err := run(t, s, "begin; "+query+"; insert into kv values ('mine', ''); commit")
			if conflict := code(err) == pgwire.CodeSerializationFailure; conflict != (phantom == "looked/up/2") || !conflict && err != nil {
				t.Errorf("%s, and %s comes: %v", query, phantom, err)
			}
		}
	}
}

// A statement that is run again reads again: what it has read in the attempt before is not of this transaction.
func TestRetryReadsAgain(t *testing.T) {
	for _, query := range []string{
		"insert into kv select 'copy', value from kv where key = 'source'",
		"insert into kv values ('copy', (select value from kv where key = 'source'))",
		"update kv set value = (select value from kv where key = 'source') where key = 'copy'",
		"update kv set value = o.value from kv o where kv.key = 'copy' and o.key = 'source'",
	} {
		m := newMemory()
		m.put("source", "old")
		if strings.HasPrefix(query, "update") {
			m.put("copy", "")
		}
		s, c := newTestSession(t, m, nil)
		m.onCommit = func(m *memory) {
			m.onCommit = nil
			m.put("source", "new")
		}
		if _, err := run(t, s, query); err != nil {
			t.Fatal(err)
		}
		if got := string(m.rows["copy"].Value); got != "new" || len(m.modes) != 2 {
			t.Errorf("%s: copied %q in %d attempts, want new in 2", query, got, len(m.modes))
		}
		if c.held != 0 {
			t.Errorf("%s: %d bytes are still held", query, c.held)
		}
	}
}

// A statement does not see what it writes itself.
func TestStatementsReadBeforeTheyWrite(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		{"update kv set value = (select k.value from kv k where k.key < kv.key order by k.key desc limit 1)", "a=NULL b=1 c=2"},
		{"insert into kv values ('x', (select count(*)::text from kv)), ('y', (select count(*)::text from kv k where k.key > ''))", "a=1 b=2 c=3 x=3 y=3"},
		{"insert into kv select key || key, value from kv where key < 'c'", "a=1 aa=1 b=2 bb=2 c=3"},
		{"with w as (select count(*)::text as n from kv) insert into kv values ('x', (select n from w)), ('y', (select n from w))", "a=1 b=2 c=3 x=3 y=3"},
		{"with w as (select max(value) as v from kv) update kv set value = (select v from w) || value", "a=31 b=32 c=33"},
		{"with w as (select min(key) as k from kv) delete from kv where key > (select k from w)", "a=1"},
		{"delete from kv where exists (select 1 from kv k where k.key > kv.key)", "c=3"},
		{"update kv set value = k.value from (values ('a', 'b'), ('b', 'c'), ('c', 'a')) v(t, s) join kv k on k.key = v.s where kv.key = v.t", "a=2 b=3 c=1"},
		{"delete from kv using (values ('a', 'b'), ('b', 'a')) v(t, s) join kv k on k.key = v.s where kv.key = v.t", "c=3"},
	} {
		m := newMemory()
		m.put("a", "1")
		m.put("b", "2")
		m.put("c", "3")
		s, _ := newTestSession(t, m, nil)
		if _, err := run(t, s, c.query); err != nil {
			t.Fatalf("%s: %v", c.query, err)
		}
		rows, err := run(t, s, "select string_agg(key || '=' || coalesce(value, 'NULL'), ' ' order by key) from kv")
		if err != nil || rows.rows[0][0] != c.want {
			t.Errorf("%s: %v, %v, want %s", c.query, rows.rows, err, c.want)
		}
	}
}

// What subqueries hold of kv counts as memory of the session.
func TestSubqueriesCountMemory(t *testing.T) {
	m := newMemory()
	for _, key := range []string{"a", "b", "c", "d"} {
		m.put(key, strings.Repeat(key, 100<<10))
	}
	for _, query := range []string{
		"select length(max(value)) from (select value from kv) x",
		"select 1 where 'x' in (select value from kv)",
		"insert into kv select 'x' || key, value from kv",
		"select length(value), count(*) over () from kv",
		"select count(*) from generate_series(1, 2) g, kv",
		"select array(select a.value || b.value from kv a, kv b)",
		"select length(a.value) from kv a join kv b on a.value > b.value order by b.value",
		"select count(*) from generate_series(1, 0) g full join kv on kv.key = g::text",
		"update kv set value = kv.value || g from generate_series(1, 1) g where kv.key = any (array['a', 'b', 'c', 'd'])",
		"delete from kv using generate_series(1, 1) g where kv.key = any (array['a', 'b', 'c', 'd']) returning key",
	} {
		s, c := newTestSession(t, m, nil)
		c.limit = 250 << 10
		if _, err := run(t, s, query); code(err) != pgwire.CodeOutOfMemory {
			t.Errorf("%s: %v, want 53200", query, err)
		}
		if c.held != 0 {
			t.Errorf("%s: %d bytes are still held", query, c.held)
		}
	}
}

// A query whose subqueries have few rows each can be cancelled, however deep they are inside each other.
func TestNestedSubqueriesAreCancelled(t *testing.T) {
	const few = "(select count(*) from generate_series(1, 100) b where (select count(*) from generate_series(1, 100) c where called() > a + b + c) >= 0)"
	for _, query := range []string{
		"select a, " + few + " from generate_series(1, 100) a",
		"select called() from kv where value not in (select 'never' from generate_series(1, 3)) and called() < 0",
		"update kv set value = 'x' where exists (select 1 from generate_series(1, 1) g where called() < g)",
	} {
		m := newMemory()
		for _, key := range strings.Split("a b c d e f g h", " ") {
			m.put(key, key)
		}
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		m.catalog.AddFunc(Func{Name: "called", Result: Int4, Call: func(context.Context, []Value) (Value, error) {
			calls++
			cancel()
			return Int4Value(1), nil
		}})
		s, c := newTestSession(t, m, nil)
		list, err := s.ParseAll(ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.Execute(ctx, list[0], pgwire.Args{}, &rowList{}, true); !errors.Is(err, context.Canceled) || calls > 100 {
			t.Errorf("%s: %v after %d calls, want that it is cancelled after the first", query, err, calls)
		}
		s.Fail()
		if c.held != 0 {
			t.Errorf("%s: %d bytes are still held", query, c.held)
		}
	}
}

// What is looked up by the rows of a subquery can be cancelled.
func TestLookupsAreCancelled(t *testing.T) {
	m := newMemory()
	s, _ := newTestSession(t, m, nil)
	ctx, cancel := context.WithCancel(t.Context())
	gets := 0
	m.onGet = func() {
		gets++
		cancel()
	}
	list, err := s.ParseAll(ctx, "select key from kv where key in (select g::text from generate_series(1, 100000) g)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.Execute(ctx, list[0], pgwire.Args{}, &rowList{}, true); !errors.Is(err, context.Canceled) || gets > 2000 {
		t.Errorf("%v after %d lookups, want that it is cancelled after the first", err, gets)
	}
	s.Fail()
	if cap(s.keys) > maxIdle {
		t.Errorf("an idle session keeps room for %d keys", cap(s.keys))
	}
}

// What a subquery inside a correlated one keeps for all rows stays counted, and the rest is given back after each row.
func TestKeptSubqueriesStayCounted(t *testing.T) {
	m := newMemory()
	for _, key := range []string{"a", "b", "c", "d"} {
		m.put(key, strings.Repeat(key, 100<<10))
	}
	s, c := newTestSession(t, m, nil)
	most := 0
	m.catalog.AddFunc(Func{Name: "holding", Result: Bool, Call: func(context.Context, []Value) (Value, error) {
		most = max(most, s.held)
		return BoolValue(true), nil
	}})
	query := "select k.n, (select count(*) from (select value from kv) x where length(x.value) > k.n) from generate_series(1, 2) as k(n) where holding()"
	if _, err := run(t, s, query); err != nil {
		t.Fatal(err)
	}
	if most < 400<<10 || most > 1000<<10 {
		t.Errorf("after the first row %d bytes are counted of the 400 kB that are kept", most)
	}
	if c.held != 0 {
		t.Errorf("%d bytes are still held", c.held)
	}
}

// An array of what a subquery finds is no longer than other texts.
func TestArraysOfSubqueriesAreBounded(t *testing.T) {
	m := newMemory()
	m.put("a", strings.Repeat("a", 8<<20))
	s, _ := newTestSession(t, m, nil)
	if _, err := run(t, s, "select length(array(select (select value from kv) from generate_series(1, 9))::text)"); code(err) != pgwire.CodeProgramLimitExceeded {
		t.Errorf("%v, want 54000", err)
	}
	rows, err := run(t, s, "select key from kv where key in (select (select value from kv) from generate_series(1, 9)) or key = 'a'")
	if err != nil || len(rows.rows) != 1 {
		t.Errorf("keys that are too long are no keys: %v, %v", rows.rows, err)
	}
}

// Subqueries that are analyzed twice on each level are refused before that takes long; many beside each other are not.
func TestAnalysisIsBounded(t *testing.T) {
	s, _ := newTestSession(t, newMemory(), nil)
	deep := "select value from kv"
	for range 100 {
		deep = "select distinct (" + deep + ") from kv"
	}
	if _, err := run(t, s, deep); code(err) != pgwire.CodeStatementTooComplex {
		t.Errorf("%v, want 54001", err)
	}
	if rows, err := run(t, s, "select count(*) from (values (1)"+strings.Repeat(",(1)", 20000)+") x"); err != nil || rows.rows[0][0] != "20001" {
		t.Errorf("%v, %v, want 20001 rows of VALUES", rows.rows, err)
	}
	if _, err := run(t, s, "select 1"+strings.Repeat(" union select 1", 9000)); err != nil {
		t.Error(err)
	}
}

// A relation is read once for a join, even if it has no rows: others may have come when it is read again.
func TestJoinReadsEmptyRelationOnce(t *testing.T) {
	for _, join := range []string{"full join later on true", "left join later on true", "cross join later"} {
		m := newMemory()
		reads := 0
		m.catalog.AddView("later", []Column{{"x", Int4}}, func(context.Context) ([][]Value, error) {
			if reads++; reads == 1 {
				return nil, nil
			}
			return [][]Value{{Int4Value(1)}}, nil
		})
		s, _ := newTestSession(t, m, nil)
		rows, err := run(t, s, "select count(x) from generate_series(1, 3) g "+join)
		if err != nil || rows.rows[0][0] != "0" || reads != 1 {
			t.Errorf("%s: %v (%v), after %d reads", join, rows.rows, err, reads)
		}
	}
}
