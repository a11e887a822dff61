package sql

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/longship-db/longship/pgwire"
)

// A text that comes again has been parsed, whichever session sends it: from the third time on.
func TestSharedStatements(t *testing.T) {
	m := newMemory()
	parse := func(text string, types ...uint32) *parsed {
		t.Helper()
		s, _ := newTestSession(t, m, nil)
		st, err := s.Parse(t.Context(), text, types)
		if err != nil {
			t.Fatal(err)
		}
		return st.(*statement).parsed
	}
	simple := func(text string) *parsed {
		t.Helper()
		s, _ := newTestSession(t, m, nil)
		list, err := s.ParseAll(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		st := list[0].(*statement)
		if err := st.analyze(); err != nil {
			t.Fatal(err)
		}
		return st.parsed
	}
	const text = "select key from kv where value = $1"
	if first := parse(text); first == parse(text) {
		t.Error("a text is shared that came once")
	}
	shared := parse(text)
	if shared != parse(text) || shared.plan == nil {
		t.Error("the same text was parsed again")
	}
	for range 3 {
		if typed := parse(text, uint32(Varchar)); typed == shared || typed.declared[0] != uint32(Varchar) {
			t.Error("the type that the client declared is lost")
		}
	}
	for _, text := range []string{"begin", "select 1"} {
		simple(text)
		simple(text)
		if shared := simple(text); shared != simple(text) {
			t.Errorf("%s was parsed again", text)
		}
		if parse(text) == simple(text) {
			t.Errorf("%s may have parameters in a simple query", text)
		}
	}
	for _, text := range []string{"show all", "declare c cursor for select 1", "prepare p as select 1", "explain select 1", "select 1; select 1"} {
		simple(text)
		simple(text)
		if shared := simple(text); shared == simple(text) {
			t.Errorf("%s depends on the session, and is shared", text)
		}
	}
	long := "select 1 " + strings.Repeat(" ", maxSharedText)
	parse(long)
	parse(long)
	if last := parse(long); last == parse(long) {
		t.Error("a long text is shared")
	}
}

// PREPARE has a statement in its text, which is not what the text stands for.
func TestPreparedIsNotShared(t *testing.T) {
	m := newMemory()
	for range 5 {
		s, _ := newTestSession(t, m, nil)
		st, err := s.Parse(t.Context(), "prepare p as select 1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := st.(*statement).node.(*prepareStmt); !ok {
			t.Fatalf("PREPARE has become %T", st.(*statement).node)
		}
		if _, err := s.Execute(t.Context(), st, pgwire.Args{}, &rowList{}, true); err != nil {
			t.Fatal(err)
		}
	}
}

// What is shared is bounded, whatever clients send.
func TestSharedStatementsAreBounded(t *testing.T) {
	m := newMemory()
	m.catalog.shared = newSharedStatements(100 << 10)
	s, _ := newTestSession(t, m, nil)
	for i := range 500 {
		text := fmt.Sprintf("select %d%s", i, strings.Repeat(", 1", i))
		for range 2 {
			mustPrepare(t, s, text, 0)
		}
	}
	c := m.catalog.shared
	sum := 0
	for key, p := range c.byKey {
		sum += p.sharedSize()
		if key.text != p.text {
			t.Errorf("%s is kept for %s", p.text, key.text)
		}
	}
	if sum != c.bytes || sum > c.limit || len(c.byKey) < 3 {
		t.Errorf("%d statements take %d bytes, counted as %d, of %d", len(c.byKey), sum, c.bytes, c.limit)
	}
}

// Sessions run the same plan at the same time: nothing in it changes. The race detector sees what does.
func TestSharedPlansAtTheSameTime(t *testing.T) {
	texts := []string{
		"select 1 + $1::int4",
		"select count(*), string_agg(i::text, ',' order by i) from generate_series(1, 20) i where i::text ~ ('^' || $1::text)",
		"select i, row_number() over (partition by i % 3 order by i desc) from generate_series(1, 20) i",
		"select a.key, b.value from kv a join kv b using (key) where a.key like 'k%' order by 1 limit 3",
		"select (select max(value) from kv b where b.key <= a.key) from kv a where exists (select 1 from kv c where c.key = a.key)",
		"with recursive t(n) as (select 1 union all select n + 1 from t where n < 10) select sum(n) from t",
		"select key from kv where key in ('k1', 'k3', $1) or key between 'k5' and 'k7'",
		"select i % 2, count(*), array_agg(i) from generate_series(1, 20) i group by 1 having count(*) > 1 order by 1",
		"select unnest(array['a', 'b']), case when $1 = '1' then upper('x') else coalesce(null, 'y') end",
		"select 1 union select 2 union all select i from generate_series(1, 3) i order by 1",
		"select quote_literal(k.value), '[1, 2]'::jsonb from kv k order by k.key limit 2",
		"select relname from pg_class where relname = any(array['kv', 'pg_class']) order by 1",
		"insert into kv (key, value) values ('w', $1) on conflict (key) do update set value = excluded.value || 'x' returning value",
		"update kv set value = value where key = $1 returning key",
		"delete from kv where key = $1 || 'no' returning key",
		"select a.key, b.i, c.value from kv a full join generate_series(1, 2) b(i) on a.key = 'k' || i right join kv c on c.key = a.key order by 3",
		"select key, value from kv a natural join kv b where a.value ~ ('^v' || $1) or a.key = 'k1' order by key",
		"update kv set value = kv.value || '' from kv b where b.key = kv.key and b.key = $1 || 'no' returning kv.key, b",
		"delete from kv using generate_series(1, 2) g where kv.key = g || 'no' returning g",
	}
	m := newMemory()
	for _, key := range []string{"1", "k1", "k2", "k3", "k5", "k6"} {
		m.rows[key] = Row{Key: key, Value: []byte("v" + key)}
	}
	answers := func(s *Session) string {
		var b strings.Builder
		for _, text := range texts {
			rows := &rowList{}
			st, err := s.Parse(t.Context(), text, nil)
			if err == nil {
				values := make([][]byte, len(st.ParamTypes()))
				for i := range values {
					values[i] = []byte("1")
				}
				_, err = s.Execute(t.Context(), st, pgwire.Args{Values: values}, rows, true)
			}
			fmt.Fprintln(&b, rows.rows, err)
		}
		return b.String()
	}
	first, _ := newTestSession(t, m, nil)
	answers(first)
	want := answers(first)
	if strings.Contains(want, "(SQLSTATE") {
		t.Fatal(want)
	}
	var wg sync.WaitGroup
	for range 8 {
		s, _ := newTestSession(t, m, nil)
		wg.Go(func() {
			for range 20 {
				if got := answers(s); got != want {
					t.Errorf("got\n%s, want\n%s", got, want)
				}
			}
		})
	}
	wg.Wait()
	if n := len(m.catalog.shared.byKey); n < len(texts) {
		t.Errorf("%d of %d statements are shared", n, len(texts))
	}
}

// executeUnchanged executes a statement, whose plan must be the same afterwards: others may be running it.
func executeUnchanged(t *testing.T, s *Session, st pgwire.Statement, args pgwire.Args, out pgwire.RowSink, final bool) (string, error) {
	t.Helper()
	p := st.(*statement).parsed
	if !p.analyzed || p.plan == nil {
		return s.Execute(t.Context(), st, args, out, final)
	}
	before := digestOf(p)
	tag, err := s.Execute(t.Context(), st, args, out, final)
	if digestOf(p) != before {
		t.Errorf("executing %s changes its plan", p.text)
	}
	return tag, err
}

// digestOf is a hash of all that a statement refers to, but for functions and what belongs to the node.
func digestOf(p *parsed) uint64 {
	d := digest{seen: map[reflect.Value]bool{}}
	d.hash.SetSeed(digestSeed)
	d.add(reflect.ValueOf(p))
	return d.hash.Sum64()
}

var digestSeed = maphash.MakeSeed()

type digest struct {
	hash maphash.Hash
	seen map[reflect.Value]bool
}

func (d *digest) add(v reflect.Value) {
	fmt.Fprint(&d.hash, v.Kind())
	switch v.Kind() {
	case reflect.Pointer:
		fmt.Fprint(&d.hash, v.Pointer())
		if v.Type() == reflect.TypeFor[*Catalog]() || v.Type() == reflect.TypeFor[*Func]() || v.Type() == reflect.TypeFor[*view]() || d.seen[v] {
			return
		}
		d.seen[v] = true
		d.add(v.Elem())
	case reflect.Interface:
		d.add(v.Elem())
	case reflect.Struct:
		for _, field := range v.Fields() {
			d.add(field)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			d.add(v.Index(i))
		}
	case reflect.Map:
		fmt.Fprint(&d.hash, v.Pointer(), v.Len())
	case reflect.String:
		d.hash.WriteString(v.String())
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		fmt.Fprint(&d.hash, v.Pointer())
	case reflect.Invalid:
	default:
		fmt.Fprint(&d.hash, v) // fmt reads unexported fields, too
	}
}
