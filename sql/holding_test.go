package sql

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/longship-db/longship/pgwire"
)

// newHolder is a session whose memory is limited.
func newHolder(t *testing.T, m *memory, limit int) (*Session, *client) {
	t.Helper()
	c := &client{limit: limit}
	s, err := NewSession(c, m, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// runAll does what pgwire does with a query string.
func runAll(s *Session, text string) error {
	ctx := context.Background()
	list, err := s.ParseAll(ctx, text)
	for i := 0; err == nil && i < len(list); i++ {
		_, err = s.Execute(ctx, list[i], pgwire.Args{}, &rowList{}, i == len(list)-1)
	}
	if err != nil {
		s.Fail()
	}
	return err
}

// What holds rows, or writes, or a large tree, is refused when that is more than there is; nothing is held afterwards,
// and the session goes on. What holds nothing runs in any memory.
func TestStatementsHoldMemory(t *testing.T) {
	const limit = 2 << 20
	m := newMemory()
	for i := range 3000 {
		m.put(fmt.Sprintf("k%04d", i), strings.Repeat("v", 1000))
	}
	wide := strings.Repeat("repeat('x', 500000), ", 10)
	wideRow := "select " + wide + "1/g from generate_series(0, 0) as g" // is refused before all of it is computed
	joined := wideRelation()
	const lookups = "key = any(('{' || repeat('k,', 6000) || 'k}')::text[]) or "
	for _, refused := range []string{
		wideRow,
		"select key from kv order by value, key",
		"select s from (select repeat('x', 1000) as s from generate_series(1, 4000)) as r order by s",
		"select 1 in (select length(repeat('x', 1000)) + g from generate_series(1, 40000) as g)",
		"select (select count(*) from generate_series(1, 40000)) from generate_series(1, 2)",
		"select g, row_number() over () from (select repeat('x', 1000) as g from generate_series(1, 1500)) as r",
		"select count(*) from generate_series(1, 50000)",
		"select count(*) from (select repeat('x', 2000) from generate_series(1, 1500)) as r",
		"select length(string_agg(value, '')) from kv",
		"select repeat('x', 2000000)",
		"explain with w as (" + joined + ") select 1 from w" + strings.Repeat(" union all select 1 from (select * from w) x", 20),
		"explain with w as (" + joined + ") select 1 from w where " + strings.Repeat("w is null and ", 20) + "true",
		"select array_agg(value) from kv",
		"select count(*) from (" + wideRow + ") as r",
		wideRow + " order by g",
		"begin; declare c cursor for " + wideRow + "; fetch c",
		"update kv set value = value where key = 'k0001' returning " + wide + "1/(length(key) - 5)",
		"update kv set value = 'x'",
		"update kv set value = value where key < 'k0500' returning value, value, value, value",
		"begin; update kv set value = value where key < 'k0800'; update kv set value = value where key > 'k2200'; commit",
		"begin; declare c cursor for select key from kv order by value; fetch c",
		"begin; declare c cursor for select 1 in (select 1 from generate_series(1, 40000)); fetch c",
		"select 1 in (" + strings.Repeat("1,", 15000) + "1)",
		"select length(concat(" + strings.TrimSuffix(wide, ", ") + "))",
		"select count(*) from unnest(array[" + strings.TrimSuffix(wide, ", ") + "])",
		"select count(*) from generate_series(1, 1) g, unnest(array[g], " + strings.Repeat("'{1}'::int[], ", 100) +
			"(select array_agg(n) from generate_series(1, 1000) n))",
		"select array_length(array[" + strings.TrimSuffix(wide, ", ") + "], 1)",
		"select length(" + strings.Repeat("repeat('x', 500000) || (", 10) + "'a'" + strings.Repeat(")", 11),
		"select repeat('x', 700000) between repeat('y', 700000) and repeat('z', 700000) || 'a'",
		"select repeat('x', 1400000) between repeat('y', 700000) || 'a' and 'b'",
		"select repeat('x', 1400000) is distinct from repeat('y', 700000) || 'a'",
		"select repeat('x', 1400000) in ('x', repeat('y', 700000) || 'a')",
		"select repeat('x', 1400000) = any(array[repeat('y', 700000)])",
		"select case repeat('x', 1400000) when repeat('y', 700000) || 'a' then 1 end",
		"select length(nullif(repeat('x', 1400000), repeat('y', 700000) || 'a'))",
		"select length(greatest(repeat('x', 1400000), repeat('y', 700000) || 'a'))",
		"select array_length(array[repeat('x', 1400000)] || array[repeat('y', 700000)], 1)",
		"select ('{' || repeat('1,', 30000) || '1}')::int[] is null",
		"select '{" + strings.Repeat("1,", 100_000) + "1}'::text[] is null",
		"select count(*) from kv where " + strings.Repeat(lookups, 20) + "key = 'k'",
		"select count(*) from unnest(('{' || repeat('1,', 12000) || '1}')::int[] || ('{' || repeat('1,', 12000) || '1}')::int[])",
		"select ('[' || repeat('{\"a\":1},', 100000) || '1]')::jsonb is null",
		"select '[" + strings.Repeat(`{"a":1},`, 100_000) + "1]'::jsonb is null",
	} {
		s, c := newHolder(t, m, limit)
		if err := runAll(s, refused); code(err) != pgwire.CodeOutOfMemory {
			t.Errorf("%.100s: %v, want %s", refused, err, pgwire.CodeOutOfMemory)
		}
		if err := runAll(s, "rollback"); err != nil || c.held != 0 {
			t.Errorf("%.100s: %d bytes are held afterwards (%v)", refused, c.held, err)
		}
		if err := runAll(s, "select key from kv order by key; select 1"); err != nil {
			t.Errorf("%.100s: the session afterwards: %v", refused, err)
		}
	}
	for _, allowed := range []string{
		"select length(greatest(" + wide + "'y'))", "select count(*) from kv where key in (" + wide + "'k0001')",
		"select count(*) from kv where " + strings.Repeat(lookups, 4) + "key = 'k'",
		"select key, value from kv", "select count(*), max(value) from kv", "select value from kv order by value limit 1 offset 3",
		"select (select count(*) from generate_series(1, 5000 + g)) from generate_series(1, 100) as g",
		"update kv set value = 'x' where key < 'k0100' returning value",
		"begin; savepoint a; update kv set value = value where key < 'k0800'; rollback to a; update kv set value = value where key < 'k0800'; commit",
	} {
		s, c := newHolder(t, m, limit)
		if err := runAll(s, allowed); err != nil {
			t.Errorf("%s: %v", allowed, err)
		}
		if c.held != 0 {
			t.Errorf("%s: %d bytes are held afterwards", allowed, c.held)
		}
	}
}

// The writes of a COPY and of a DELETE are held, as is what a cursor sorts until it is closed.
func TestCopyAndCursorsHoldMemory(t *testing.T) {
	s, c := newHolder(t, newMemory(), 100<<10)
	for i := range 1000 {
		c.copyIn = append(c.copyIn, fmt.Appendf(nil, "k%d\tv\n", i))
	}
	if err := runAll(s, "copy kv from stdin"); code(err) != pgwire.CodeOutOfMemory || c.held != 0 {
		t.Errorf("a COPY of 1000 rows: %v, and %d bytes are held afterwards; want %s", err, c.held, pgwire.CodeOutOfMemory)
	}
	m := newMemory()
	for i := range 1000 {
		m.put(fmt.Sprint("k", i), "")
	}
	s, c = newHolder(t, m, 400<<10) // enough for the rows that are to go
	if err := runAll(s, "delete from kv"); code(err) != pgwire.CodeOutOfMemory || c.held != 0 {
		t.Errorf("a DELETE of 1000 rows: %v, and %d bytes are held afterwards; want %s", err, c.held, pgwire.CodeOutOfMemory)
	}
	m = newMemory()
	for i := range 100 {
		m.put(fmt.Sprint("k", i), strings.Repeat("v", 1000))
	}
	s, c = newHolder(t, m, 0)
	if err := runAll(s, "begin; declare c cursor for select key from kv order by value, key; fetch c"); err != nil {
		t.Fatal(err)
	}
	if c.held < 100*1000 {
		t.Errorf("%d bytes are held by a cursor that has sorted 100 rows of a kilobyte", c.held)
	}
	if err := runAll(s, "close c"); err != nil || c.held != 0 {
		t.Errorf("%d bytes are held after CLOSE (%v)", c.held, err)
	}
}

// The row that a COPY is reading is held, however slowly it comes, and what of it is there twice. The next row
// takes its place.
func TestCopyHoldsItsRow(t *testing.T) {
	const limit, size = 1 << 20, 400 << 10
	long := strings.Repeat("v", size)
	header := copySignature + strings.Repeat("\x00", 8)
	field := func(text string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) + text }
	row := func(key, value string) string { return "\x00\x02" + field(key) + field(value) }
	for _, test := range []struct {
		options, data string
		refused       bool
	}{
		{"where false", "k\t" + long + long + long, true},
		{"where false", "k\t\\\\" + long + long, true},
		{"csv where false", "k,\"" + long + long + "\"", true},
		{"binary where false", header + row("k", long+long+long), true},
		{"binary where false", header + row(long+long, long+long), true},
		{"(delimiter ',') where false", "k," + long + "\nk," + long + "\nk," + long + "\n", false},
		{"csv where false", "k," + long + "\nk," + long + "\nk," + long + "\n", false},
		{"binary where false", header + row("k", long) + row("k", long) + row("k", long), false},
	} {
		s, c := newHolder(t, newMemory(), limit)
		for chunk := range slices.Chunk([]byte(test.data), 10_000) {
			c.copyIn = append(c.copyIn, chunk)
		}
		want := "<nil>"
		if test.refused {
			want = pgwire.CodeOutOfMemory
		}
		if err := runAll(s, "copy kv from stdin "+test.options); code(err) != want || c.held != 0 {
			t.Errorf("copy %s of %d bytes: %v, and %d bytes are held afterwards; want %q", test.options, len(test.data), err, c.held, want)
		}
	}
}

// What a transaction remembers of what it has read is held until it ends, however many statements that takes; one that
// only reads remembers nothing.
func TestReadsHoldMemory(t *testing.T) {
	const limit = 1 << 20
	lookup := func(i int) string {
		return fmt.Sprintf("select count(*) from kv where key in (select 'n%d-' || g from generate_series(1, 2000) as g); ", i)
	}
	upsert := "insert into kv select 'n3-' || g, 'v' from generate_series(1, 2) as g on conflict do nothing; "
	var lookups string
	for i := range 20 {
		lookups += lookup(i)
	}
	for _, test := range []struct {
		text    string
		refused bool
	}{
		{"begin; " + lookups + "commit", true},
		{"begin; savepoint a; " + lookups + "commit", true},
		{lookups + upsert, true}, // an implicit transaction
		{"begin; declare c cursor for " + lookups + "commit", true},
		{"begin; " + strings.Repeat(lookup(1)+upsert, 20) + "commit", false}, // the same keys again
		{"begin read only; " + lookups + "commit", false},
		{"set default_transaction_read_only = on; begin; " + lookups + "commit", false},
	} {
		s, c := newHolder(t, newMemory(), limit)
		want := "<nil>"
		if test.refused {
			want = pgwire.CodeOutOfMemory
		}
		if err := runAll(s, test.text); code(err) != want {
			t.Errorf("%.150s: %v, want %s", test.text, err, want)
		}
		if test.refused && strings.Contains(test.text, "savepoint") {
			if c.held < limit/2 {
				t.Errorf("%.150s: %d bytes are held after an error that can be gone back from", test.text, c.held)
			}
			if err := runAll(s, "rollback to a; select 1"); err != nil {
				t.Error(err)
			}
		}
		if err := runAll(s, "rollback"); err != nil || c.held != 0 {
			t.Errorf("%.150s: %d bytes are held afterwards (%v)", test.text, c.held, err)
		}
	}
}

// What PREPARE and DECLARE keep of a query string is held: of PREPARE, its own part.
func TestKeptStatementsHoldMemory(t *testing.T) {
	long := strings.Repeat("v", 100_000)
	s, c := newHolder(t, newMemory(), 2<<20)
	var text string
	for i := range 30 {
		text += fmt.Sprintf("declare c%d cursor for select '%s'; ", i, long)
	}
	if err := runAll(s, "begin; "+text); code(err) != pgwire.CodeOutOfMemory {
		t.Errorf("30 cursors of 100000 bytes: %v", err)
	}
	if err := runAll(s, "rollback"); err != nil || c.held != 0 {
		t.Errorf("%d bytes are held afterwards (%v)", c.held, err)
	}
	if err := runAll(s, "select '"+long+"'; prepare p as select 1/$1; select '"+long+"'"); err != nil {
		t.Fatal(err)
	}
	if got := c.statements["p"].(*statement).text; got != "prepare p as select 1/$1" {
		t.Errorf("PREPARE keeps %.100q", got)
	}
	err := runAll(s, "select 'é'; prepare q as select nothing")
	if e, ok := err.(*pgwire.Error); !ok || e.Position != 33 {
		t.Errorf("an error in PREPARE: %v at %d", err, e.Position)
	}
}

// The values of settings are held, with those that ROLLBACK TO goes back to: all until the transaction ends, and then
// what has come of them.
func TestSettingsHoldMemory(t *testing.T) {
	const limit = 2 << 20
	large := strings.Repeat("v", 100_000)
	set := func(i int, rest string) string { return fmt.Sprintf("set my.x%d = '%s'; %s", i, large, rest) }
	var names, savepoints string
	for i := range 30 {
		names += set(i, "")
		savepoints += fmt.Sprintf("savepoint s%d; ", i) + set(0, "")
	}
	s, c := newHolder(t, newMemory(), limit)
	for _, refused := range []string{"begin; " + names, "begin; " + savepoints, "begin; savepoint a; " + strings.ReplaceAll(names, "set", "set local")} {
		if err := runAll(s, refused); code(err) != pgwire.CodeOutOfMemory {
			t.Errorf("%.50s: %v, want %s", refused, err, pgwire.CodeOutOfMemory)
		}
		if err := runAll(s, "rollback"); err != nil || c.held != 0 {
			t.Errorf("%.50s: %d bytes are held afterwards (%v)", refused, c.held, err)
		}
	}
	if err := runAll(s, set(1, "")+set(2, "select 1")); err != nil || c.held < 2*len(large) || c.held > 3*len(large) {
		t.Errorf("%d bytes are held for two values of %d (%v)", c.held, len(large), err)
	}
	for range 50 {
		if err := runAll(s, "begin; savepoint a; "+set(1, "rollback to a; release a; commit")); err != nil {
			t.Fatal(err)
		}
	}
	if err := runAll(s, "reset all; set my.x1 = ''; set my.x2 = ''"); err != nil || c.held != 0 {
		t.Errorf("%d bytes are held after RESET ALL (%v)", c.held, err)
	}
}

// ROLLBACK TO goes back to what was set, for the session and for the transaction, and to what was not.
func TestRollbackToSettings(t *testing.T) {
	s, _ := newHolder(t, newMemory(), 0)
	if err := runAll(s, "set my.a = '0'; begin; set my.b = '1'; set local my.c = '2'; savepoint s"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := runAll(s, "set my.a = '3'; set local my.b = '4'; reset my.c; set local my.a = '5'; savepoint t; reset all; rollback to s"); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"my.a": "0", "my.b": "1", "my.c": "2"} {
			if got := s.settings.get(name); got != want {
				t.Errorf("after ROLLBACK TO %s is %q, want %q", name, got, want)
			}
		}
	}
	if err := runAll(s, "commit"); err != nil || s.settings.get("my.a") != "0" || s.settings.get("my.b") != "1" || s.settings.get("my.c") != "" {
		t.Errorf("after COMMIT they are %q, %q, %q (%v)", s.settings.get("my.a"), s.settings.get("my.b"), s.settings.get("my.c"), err)
	}
}

// A savepoint takes the same memory however much has been set, and a savepoint that was released none.
func TestSavepointsHoldMemory(t *testing.T) {
	var text strings.Builder
	text.WriteString("begin; ")
	for i := range 2000 {
		fmt.Fprintf(&text, "set my.x%d = 'v'; savepoint a; ", i)
	}
	s, c := newHolder(t, newMemory(), 0)
	before := heap()
	if err := runAll(s, text.String()); err != nil {
		t.Fatal(err)
	}
	text.Reset()
	if taken := heap() - before; taken > int64(4*c.held) {
		t.Errorf("2000 savepoints and settings take %d bytes, and %d are held", taken, c.held)
	}
	runtime.KeepAlive(s)
	s, c = newHolder(t, newMemory(), 0)
	if err := runAll(s, "begin; "+strings.Repeat("savepoint a; release a; ", 1000)); err != nil || c.held != 0 {
		t.Errorf("%d bytes are held for savepoints that were released (%v)", c.held, err)
	}
}

// What is counted for a statement's tokens is about what its tree and plan take.
func TestTokenSize(t *testing.T) {
	const elements = 200_000
	for _, text := range []string{
		"select 1 in (" + strings.Repeat("1,", elements) + "1)",
		"insert into kv values ('a','b')" + strings.Repeat(",('a','b')", elements/6),
		strings.Repeat("begin;", elements),
	} {
		s, _ := newHolder(t, newMemory(), 0)
		before := heap()
		list, err := s.ParseAll(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, st := range list {
			st.Columns() // analyzes
			size += st.(*statement).Size()
		}
		taken := int(heap() - before)
		t.Logf("%.30s: %d bytes are taken, %d are counted", text, taken, size)
		if taken > 2*size || size > 4*taken {
			t.Errorf("%.30s: %d bytes are taken, %d are counted", text, taken, size)
		}
		runtime.KeepAlive(list)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A result has so many columns at the most, as in PostgreSQL: a message counts them in 16 bits.
func TestTooManyColumns(t *testing.T) {
	m := newMemory()
	for n, want := range map[int]string{1664: "<nil>", 1665: pgwire.CodeTooManyColumns, 70_000: pgwire.CodeTooManyColumns} {
		ones := strings.TrimSuffix(strings.Repeat("1,", n), ",")
		for _, text := range []string{"select " + ones, "insert into kv values ('k', 'v') on conflict (key) do nothing returning " + ones} {
			s, _ := newHolder(t, m, 1<<30)
			if err := runAll(s, text); code(err) != want {
				t.Errorf("%.30s… with %d columns: %v, want %s", text, n, err, want)
			}
		}
	}
}

// The rows of a UNION of many arms are copied once, and not for each arm.
func TestUnionOfManyArms(t *testing.T) {
	const arms = 4000
	s, _ := newHolder(t, newMemory(), 1<<30)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := runAll(s, "select 1"+strings.Repeat(" union all select 1", arms-1)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 20_000*arms {
		t.Errorf("%d arms took %d bytes each", arms, n/arms)
	}
}

// wideRelation is a query of many columns, which nobody should run.
func wideRelation() string {
	var b strings.Builder
	b.WriteString("select * from pg_class")
	for i := range 40 {
		fmt.Fprintf(&b, ", pg_class a%d", i)
	}
	return b.String()
}

// What sessions share is bounded by what it takes: a short text may have many columns.
func TestSharedPlansAreCounted(t *testing.T) {
	const limit = 4 << 20
	m := newMemory()
	m.catalog.shared = newSharedStatements(limit)
	s, _ := newTestSession(t, m, nil)
	before := heap()
	for i := range 150 {
		for range 2 {
			if _, err := s.Parse(t.Context(), fmt.Sprintf("%s limit %d", wideRelation(), i), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if taken := heap() - before; taken > 2*limit || len(m.catalog.shared.byKey) < 3 {
		t.Errorf("%d shared statements take %d bytes, out of %d", len(m.catalog.shared.byKey), taken, limit)
	}
	runtime.KeepAlive(m)
}
