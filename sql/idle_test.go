package sql

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/longship-db/longship/pgwire"
)

// Whatever a session has done, while it is idle it takes little more than one that is new.
func TestIdleSessionIsSmall(t *testing.T) {
	const limit = 8 << 10
	m := newMemory()
	m.catalog.shared = newSharedStatements(16 << 10) // what sessions share counts for none of them
	for i := range 10 {
		m.rows[fmt.Sprint("k", i)] = Row{Key: fmt.Sprint("k", i), Value: []byte(strings.Repeat("v", 100))}
	}
	ones := func(n int) string { return strings.Repeat(",1", n)[1:] }
	for _, test := range []struct {
		name string
		do   func(s *Session)
	}{
		{"many texts", func(s *Session) {
			for i := range 300 {
				mustRun(t, s, fmt.Sprintf("select %d, %s", i, ones(500)))
			}
		}},
		{"many texts, prepared", func(s *Session) {
			for i := range 300 {
				mustPrepare(t, s, fmt.Sprintf("select %d, %s", i, ones(500)), 0)
			}
		}},
		{"the same text", func(s *Session) {
			for range 3 {
				mustRun(t, s, "select "+ones(1500))
			}
		}},
		{"many parameters", func(s *Session) {
			var text strings.Builder
			for i := range 1000 {
				fmt.Fprintf(&text, ",$%d::int", i+1)
			}
			mustPrepare(t, s, "select 1 where 1 in ("+text.String()[1:]+")", 1000)
		}},
		{"many columns", func(s *Session) { mustRun(t, s, "select "+ones(1600)) }},
		{"an aggregate", func(s *Session) {
			mustRun(t, s, "select array_agg(i), string_agg(i::text, '') from generate_series(1, 10000) i")
		}},
		{"groups", func(s *Session) { mustRun(t, s, "select i, count(*) from generate_series(1, 10000) i group by i") }},
		{"a window", func(s *Session) {
			mustRun(t, s, "select row_number() over (order by i) from generate_series(1, 10000) i")
		}},
		{"a sort", func(s *Session) { mustRun(t, s, "select i from generate_series(1, 10000) i order by i desc") }},
		{"RETURNING", func(s *Session) {
			mustRun(t, s, "insert into kv select i::text, repeat('x', 1000) from generate_series(1, 1000) i on conflict (key) do update set value = excluded.value returning *")
		}},
		{"a subquery", func(s *Session) {
			mustRun(t, s, "select count(*) from generate_series(1, 100) i where i in (select j from generate_series(1, 10000) j)")
		}},
		{"many keys", func(s *Session) {
			mustRun(t, s, "select key from kv where key in ("+strings.ReplaceAll(ones(2000), "1", "'k'")+")")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := newTestSession(t, m, nil)
			test.do(s) // what is made once
			sessions := make([]*Session, 8)
			for i := range sessions {
				sessions[i], _ = newTestSession(t, m, nil)
			}
			before := heap()
			for _, s := range sessions {
				test.do(s)
			}
			if each := (heap() - before) / int64(len(sessions)); each > limit {
				t.Errorf("an idle session holds %d bytes more than a new one", each)
			}
			runtime.KeepAlive(sessions)
		})
	}
}

func mustRun(t *testing.T, s *Session, text string) {
	t.Helper()
	if _, err := run(t, s, text); err != nil {
		t.Fatal(err)
	}
}

func mustPrepare(t *testing.T, s *Session, text string, params int) {
	t.Helper()
	st, err := s.Parse(t.Context(), text, nil)
	if err != nil {
		t.Fatal(err)
	}
	args := pgwire.Args{Values: make([][]byte, params)}
	if _, err := s.Execute(t.Context(), st, args, &rowList{}, true); err != nil {
		t.Fatal(err)
	}
}
