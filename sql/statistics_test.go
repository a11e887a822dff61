package sql

import (
	"fmt"
	"testing"
)

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

// A statement that is run again after a conflict is counted once.
func TestRetriesAreCountedOnce(t *testing.T) {
	for _, statement := range []string{
		"update kv set value = value || '+' where key = 'n'", "delete from kv where key = 'n'",
		"insert into kv values ('n', '1') on conflict (key) do update set value = kv.value",
	} {
		m := newMemory()
		m.put("n", "0")
		s, _ := newTestSession(t, m, nil)
		attempts := 0
		m.onCommit = func(m *memory) {
			if attempts++; attempts <= 3 {
				m.put("n", fmt.Sprint(attempts))
			}
		}
		if _, err := run(t, s, statement); err != nil || attempts != 4 {
			t.Fatalf("%s: %v after %d attempts", statement, err, attempts)
		}
		st := &m.catalog.Statistics
		rows, lookups := st.Inserted.Load()+st.Updated.Load()+st.Deleted.Load(), st.IndexScans.Load()
		if rows != 1 || lookups > 1 || st.Commits.Load() != 1 || st.Rollbacks.Load() != 0 {
			t.Errorf("%s: %d rows and %d lookups are counted, %d commits and %d rollbacks", statement, rows, lookups, st.Commits.Load(), st.Rollbacks.Load())
		}
	}
}
