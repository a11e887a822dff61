package sql

import "testing"

// A transaction is counted once, whatever it consists of and however it ends.
func TestTransactionsAreCounted(t *testing.T) {
	m := newMemory()
	s, _ := newTestSession(t, m, nil)
	for _, step := range []struct {
		query              string
		commits, rollbacks int64
	}{
		{"select 1", 1, 0},
		{"select count(*) from kv", 1, 0},
		{"insert into kv values ('a', '1')", 1, 0},
		{"insert into kv values ('a', '1')", 0, 1}, // there is one
		{"select nothing", 0, 1},
		{"begin; insert into kv values ('b', '1'); commit", 1, 0},
		{"begin; insert into kv values ('c', '1'); rollback", 0, 1},
		{"insert into kv values ('d', '1'); select 1", 1, 0},
		{"begin", 0, 0},
		{"select nothing", 0, 1},
		{"select 1", 0, 0}, // refused: it is over
		{"commit", 0, 0},
		{"begin; savepoint s", 0, 0},
		{"select nothing", 0, 0}, // there is a savepoint to go back to
		{"rollback to s; insert into kv values ('e', '1'); commit and chain", 1, 0},
		{"select 1; rollback", 0, 1},
		{"rollback", 0, 1}, // of nothing, with a warning
	} {
		st := &m.catalog.Statistics
		commits, rollbacks := st.Commits.Load(), st.Rollbacks.Load()
		_, _ = run(t, s, step.query)
		if err := s.Finish(t.Context()); err != nil { // Sync
			t.Fatal(err)
		}
		if commits, rollbacks = st.Commits.Load()-commits, st.Rollbacks.Load()-rollbacks; commits != step.commits || rollbacks != step.rollbacks {
			t.Errorf("%s: %d commits and %d rollbacks, want %d and %d", step.query, commits, rollbacks, step.commits, step.rollbacks)
		}
	}
}
