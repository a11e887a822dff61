package sql

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// open is what a portal with a row limit does.
func open(t *testing.T, s *Session, text string) pgwire.Cursor {
	t.Helper()
	st, err := s.Parse(t.Context(), text, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Open(t.Context(), st, pgwire.Args{})
	if err != nil || c == nil {
		t.Fatalf("%s: %v, %v; want a cursor", text, c, err)
	}
	return c
}

// A cursor reads no further than it is fetched from, and what it has read counts when its transaction commits.
func TestCursorReadsAsItIsFetched(t *testing.T) {
	for _, step := range []struct {
		fetch   int
		touched string
		want    string
	}{
		{1, "a", pgwire.CodeSerializationFailure}, {1, "c", "<nil>"}, {3, "c", pgwire.CodeSerializationFailure},
	} {
		m := newMemory()
		for _, key := range []string{"a", "b", "c", "d"} {
			m.put(key, "1")
		}
		s, _ := newTestSession(t, m, nil)
		query := "begin; declare c cursor for select key from kv; insert into kv values ('x', 'y'); fetch %d c"
		if _, err := run(t, s, fmt.Sprintf(query, step.fetch)); err != nil {
			t.Fatal(err)
		}
		m.put(step.touched, "2")
		if _, err := run(t, s, "commit"); code(err) != step.want {
			t.Errorf("fetched %d, then somebody changed %s: %v, want %s", step.fetch, step.touched, err, step.want)
		}
	}
}

// A portal under a row limit outside of a block goes on in the same implicit transaction, which ends it.
func TestCursorOfPortal(t *testing.T) {
	m := newMemory()
	for i := range 10 {
		m.put(fmt.Sprint(i), "v")
	}
	s, _ := newTestSession(t, m, nil)
	c := open(t, s, "select key from kv")
	rows := &rowList{}
	for range 2 {
		if n, err := c.Fetch(t.Context(), 3, nil, rows); n != 3 || err != nil {
			t.Fatalf("fetched %d, %v; want 3", n, err)
		}
	}
	if got := fmt.Sprint(rows.rows); got != "[[0] [1] [2] [3] [4] [5]]" {
		t.Errorf("fetched %s", got)
	}
	if err := s.Finish(t.Context()); err != nil || !c.Closed() {
		t.Errorf("at the end of the transaction: %v, closed %v", err, c.Closed())
	}
	if _, err := c.Fetch(t.Context(), 1, nil, rows); code(err) != pgwire.CodeObjectNotInPrerequisiteState {
		t.Errorf("afterwards: %v, want 55000", err)
	}
	st, err := s.Parse(t.Context(), "insert into kv values ('k', 'v') returning key", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.Open(t.Context(), st, pgwire.Args{}); c != nil || err != nil {
		t.Errorf("what writes is a cursor: %v, %v", c, err)
	}
}

// Each fetch has the timeout and the context of its own statement, however long the cursor has been open.
func TestCursorContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.put("a", "1")
		m.put("b", "3")
		s, _ := newTestSession(t, m, map[string]string{"statement_timeout": "2s"})
		c := open(t, s, "select key, pg_sleep(value::float8) from kv")
		time.Sleep(time.Minute)
		rows := &rowList{}
		if n, err := c.Fetch(t.Context(), 1, nil, rows); n != 1 || err != nil {
			t.Errorf("fetched %d, %v; want 1", n, err)
		}
		time.Sleep(time.Minute)
		start := time.Now()
		if _, err := c.Fetch(t.Context(), 1, nil, rows); code(err) != pgwire.CodeQueryCanceled || time.Since(start) != 2*time.Second {
			t.Errorf("got %v after %v, want 57014 after 2s", err, time.Since(start))
		}
		s.Fail()
		s.Close()
	})
}

// A cursor that is cancelled says why.
func TestCursorCancelled(t *testing.T) {
	m := newMemory()
	m.put("a", "60")
	s, _ := newTestSession(t, m, nil)
	c := open(t, s, "select pg_sleep(value::float8) from kv")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(pgwire.ErrCanceled)
	if _, err := c.Fetch(ctx, 1, nil, &rowList{}); err == nil || context.Cause(ctx) != error(pgwire.ErrCanceled) {
		t.Errorf("got %v", err)
	}
}

// What cursors hold of rows that are sorted is bounded, over all of the session, and free again when they close.
func TestCursorMemory(t *testing.T) {
	m := newMemory()
	for i := range 12 {
		m.put(fmt.Sprint(i), strings.Repeat("x", 2<<20))
	}
	s, _ := newTestSession(t, m, nil)
	for _, query := range []string{
		"select value from kv order by value desc, key limit 4",
		"select value from kv where key in ('0', '1', '2', '3', '4', '5', '6', '7')",
		"select value from kv",
	} {
		for range 3 { // what is closed does not count
			c := open(t, s, query)
			if n, err := c.Fetch(t.Context(), 4, nil, &rowList{}); n != 4 || err != nil {
				t.Fatalf("%s: fetched %d, %v; want 4", query, n, err)
			}
			c.Close()
		}
	}
	if s.cursorBytes != 0 || len(s.cursors) != 0 {
		t.Errorf("%d bytes in %d cursors after all are closed", s.cursorBytes, len(s.cursors))
	}
	open(t, s, "select value from kv where key in ('0', '1', '2', '3', '4', '5', '6', '7')")
	c := open(t, s, "select value from kv order by value desc, key")
	if _, err := c.Fetch(t.Context(), 1, nil, &rowList{}); code(err) != pgwire.CodeOutOfMemory {
		t.Errorf("got %v, want 53200", err)
	}
	s.Fail()
	if s.cursorBytes != 0 {
		t.Errorf("%d bytes after a rollback", s.cursorBytes)
	}
}

// A sort with a LIMIT lets go of what cannot come any more, and goes through a table of any size.
func TestCursorMemoryOfLimit(t *testing.T) {
	for _, size := range []int{24 << 10, 2 << 20} {
		m := newMemory()
		value := strings.Repeat("x", size)
		for i := range maxCursorBytes/size + 10 {
			m.put(fmt.Sprintf("%05d", i), value)
		}
		s, _ := newTestSession(t, m, nil)
		c := open(t, s, "select key, value from kv order by key desc, value limit 4")
		rows := &rowList{}
		if n, err := c.Fetch(t.Context(), 2, nil, rows); n != 2 || err != nil {
			t.Errorf("rows of %d bytes: fetched %d, %v; want 2", size, n, err)
		}
		if s.cursorBytes < 4*size {
			t.Errorf("%d bytes held of 4 rows of %d bytes", s.cursorBytes, size)
		}
		c.Close()
		if s.cursorBytes != 0 {
			t.Errorf("%d bytes held after rows of %d bytes", s.cursorBytes, size)
		}
		s.Close()
	}
}

// Whatever the order in which cursors are closed, the session knows those that are open.
func TestCursorsCloseInAnyOrder(t *testing.T) {
	m := newMemory()
	m.put("a", "1")
	s, _ := newTestSession(t, m, nil)
	if _, err := run(t, s, "begin"); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var all []pgwire.Cursor
	for depth := range 3 { // 20 before a savepoint, 20 within the first, 20 within the second
		if depth > 0 {
			if _, err := run(t, s, fmt.Sprintf("savepoint s%d", depth)); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			all = append(all, open(t, s, "select key from kv"))
		}
	}
	for _, i := range random.Perm(len(all))[:25] {
		all[i].Close()
	}
	check := func(when string) {
		t.Helper()
		var want int
		for _, c := range all {
			if c := c.(*cursor); !c.closed {
				if want++; s.cursors[c.place] != c {
					t.Errorf("%s: an open cursor is not in its place", when)
				}
			}
		}
		if len(s.cursors) != want {
			t.Errorf("%s: the session knows of %d cursors, %d are open", when, len(s.cursors), want)
		}
	}
	check("25 are closed")
	if _, err := run(t, s, "rollback to s1"); err != nil {
		t.Fatal(err)
	}
	check("the first savepoint")
	for i, c := range all[20:] {
		if !c.Closed() {
			t.Errorf("cursor %d is open after its savepoint is gone", 20+i)
		}
	}
	if _, err := run(t, s, "rollback"); err != nil {
		t.Fatal(err)
	}
	if check("rolled back"); len(s.cursors) != 0 {
		t.Errorf("%d cursors after the transaction", len(s.cursors))
	}
}

// The end of the session ends its cursors' goroutines.
func TestCursorsEndWithSession(t *testing.T) {
	m := newMemory()
	m.put("a", "1")
	before := runtime.NumGoroutine()
	s, _ := newTestSession(t, m, nil)
	for range 50 {
		open(t, s, "select key from kv")
	}
	s.Close()
	if after := runtime.NumGoroutine(); after >= before+50 {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

// What a cursor keeps of rows is counted for as long as it is open, past the end of its transaction too, and given back then.
func TestHeldCursorsAreCounted(t *testing.T) {
	m := newMemory()
	for _, key := range []string{"a", "b", "c"} {
		m.put(key, strings.Repeat(key, 10<<10))
	}
	for _, end := range []string{"close h", "close all", "discard all"} {
		s, c := newTestSession(t, m, nil)
		if _, err := run(t, s, "begin; declare h scroll cursor with hold for select * from kv; declare gone scroll cursor for select * from kv; commit"); err != nil {
			t.Fatal(err)
		}
		if c.held < 30<<10 || c.held > 40<<10 {
			t.Errorf("one of two cursors is left, and %d bytes are held", c.held)
		}
		if rows, err := run(t, s, "fetch last h"); err != nil || rows.rows[0][0] != "c" {
			t.Errorf("fetch last: %v, %v", rows, err)
		}
		if _, err := run(t, s, end); err != nil {
			t.Fatal(err)
		}
		if c.held != 0 {
			t.Errorf("after %s %d bytes are held", end, c.held)
		}
		c.limit = 20 << 10
		if _, err := run(t, s, "declare h cursor with hold for select * from kv"); code(err) != pgwire.CodeOutOfMemory || c.held != 0 {
			t.Errorf("beyond the limit: %v, %d bytes are held", err, c.held)
		}
	}
}

// What a cursor WITH HOLD has read is read: if it has changed by the commit, there is neither.
func TestHeldCursorIsValidated(t *testing.T) {
	m := newMemory()
	m.put("a", "1")
	s, c := newTestSession(t, m, nil)
	m.onCommit = func(m *memory) { m.put("a", "2") }
	_, err := run(t, s, "begin; declare h cursor with hold for select * from kv; insert into kv values ('x', ''); commit")
	if code(err) != pgwire.CodeSerializationFailure || c.held != 0 || len(s.cursors) != 0 {
		t.Errorf("%v, %d bytes are held by %d cursors", err, c.held, len(s.cursors))
	}
}

// What a portal has compiled to compare with is let go with it, however many there are before anything else runs.
func TestPatternsOfPortals(t *testing.T) {
	s, client := newHolder(t, newMemory(), 0)
	for i := range 10 {
		c := open(t, s, fmt.Sprintf("select i from generate_series(1, 3) i where i::text ~ '^.{%d}$'", i))
		if _, err := c.Fetch(t.Context(), 2, nil, &rowList{}); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if client.held != 0 {
		t.Errorf("%d bytes are held for portals that were closed", client.held)
	}
}
