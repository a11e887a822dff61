package sql

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
)

// A watched table remembers the keys that were looked up and the ranges that were scanned.
type watched struct {
	*memory
	keys   []string
	ranges []Range
}

type watchedTxn struct {
	Txn
	w *watched
}

func (w *watched) Begin(ctx context.Context, mode TxnMode) (Txn, error) {
	txn, err := w.memory.Begin(ctx, mode)
	return &watchedTxn{txn, w}, err
}

func (t *watchedTxn) Get(ctx context.Context, key string) (Row, bool, error) {
	t.w.keys = append(t.w.keys, key)
	return t.Txn.Get(ctx, key)
}

func (t *watchedTxn) Scan(ctx context.Context, r Range) iter.Seq2[Row, error] {
	t.w.ranges = append(t.w.ranges, r)
	return t.Txn.Scan(ctx, r)
}

// A shownPlan is what EXPLAIN (FORMAT JSON) says of a node.
type shownPlan struct {
	Type      string      `json:"Node Type"`
	IndexCond string      `json:"Index Cond"`
	Filter    string      `json:"Filter"`
	Rows      int         `json:"Actual Rows"`
	Loops     int         `json:"Actual Loops"`
	Removed   int         `json:"Rows Removed by Filter"`
	Total     float64     `json:"Actual Total Time"`
	Plans     []shownPlan `json:"Plans"`
}

func explainJSON(t *testing.T, s *Session, options, query string) shownPlan {
	t.Helper()
	rows, err := run(t, s, "explain (format json"+options+") "+query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	var shown []struct{ Plan shownPlan }
	if err := json.Unmarshal([]byte(rows.rows[0][0]), &shown); err != nil {
		t.Fatalf("%s: %v in %s", query, err, rows.rows[0][0])
	}
	return shown[0].Plan
}

// What EXPLAIN calls an index scan reads the keys for which the condition holds that it shows, and no others; what it
// calls a sequential scan reads all.
func TestExplainTellsWhatIsRead(t *testing.T) {
	w := &watched{memory: newMemory()}
	all := []string{"a", "a/1", "a/2", "b", "b%", "b/1", "c", "é"}
	for _, key := range all {
		w.put(key, "v"+key)
	}
	s, _ := newTestSession(t, w.memory, nil)
	s.backend = w
	for _, where := range []string{
		"key = 'a'", "key = 'none'", "'b' = key", "key in ('a', 'c', 'none')", "key = 'a' or key = 'b' or key in ('c')", "key = any ('{a,b}')", "key = any (array['a', lower('B')])",
		"key > 'a/1'", "key >= 'a/1' and key < 'b/'", "key between 'a' and 'b'", "'b' <= key", "key like 'a/%'", "key like 'b\\%'", "key like 'a%' and key > 'a/1'", "key ~~ 'é%'",
		"key = 'a' and value = 'va'", "key like 'a/_' and value <> 'va/1'", "key = 'a' and key > 'b'", "key = lower('A')", "key > 'a' || '/1'", "key = null", "key < null",
		"value = 'vb'", "key <> 'a'", "key like '%1'", "key || '' = 'a'", "key = value", "not key = 'a'", "key = 'a' or value = 'vb'", "key ilike 'A%'", "true",
	} {
		for _, command := range []string{"select key from kv where ", "update kv set value = value where ", "delete from kv where "} {
			plan := explainJSON(t, s, "", command+where)
			if len(plan.Plans) > 0 && plan.Type == "ModifyTable" {
				plan = plan.Plans[0]
			}
			want := all
			if plan.Type == "Index Scan" {
				want = selectedKeys(t, s, "select key from kv where "+strings.ReplaceAll(plan.IndexCond, "(key ", "((key || '') "))
			} else if plan.Type != "Seq Scan" || plan.IndexCond != "" {
				t.Fatalf("%s: %+v", where, plan)
			}
			w.keys, w.ranges = nil, nil
			if _, err := run(t, s, "begin; "+command+where+"; rollback"); err != nil {
				t.Fatal(err)
			}
			if got := w.read(all); !slices.Equal(got, want) {
				t.Errorf("%s%s: shows %+v, which is true for %q, and reads %q", command, where, plan, want, got)
			}
		}
	}
}

// read are the keys among all that were looked up or lie in a range that was scanned.
func (w *watched) read(all []string) (keys []string) {
	for _, key := range all {
		scanned := slices.ContainsFunc(w.ranges, func(r Range) bool { return key >= r.Lo && (r.Unbounded || key < r.Hi) })
		if scanned || slices.Contains(w.keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func selectedKeys(t *testing.T, s *Session, query string) (keys []string) {
	t.Helper()
	rows, err := run(t, s, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	for _, row := range rows.rows {
		keys = append(keys, row[0])
	}
	return keys
}

// What ANALYZE counts of a scan is what was read: the rows that it gives on, and those that its filter removes.
func TestExplainAnalyzeCountsWhatIsRead(t *testing.T) {
	m := newMemory()
	for i := range 30 {
		m.put(fmt.Sprintf("k/%02d", i), fmt.Sprint(i%3))
	}
	s, _ := newTestSession(t, m, nil)
	for _, c := range []struct {
		query                string
		rows, removed, loops int
	}{
		{"select from kv", 30, 0, 1},
		{"select from kv where value = '1'", 10, 20, 1},
		{"select from kv where key < 'k/10' and value = '1'", 3, 7, 1},
		{"select from kv where key in ('k/01', 'k/02', 'x') and value = '1'", 1, 1, 1},
		{"select from kv limit 4", 4, 0, 1},
		{"select from kv where value = '1' limit 2", 2, 3, 1},
		{"select count(*) from kv where value = '1'", 10, 20, 1},
		{"select value, count(*) from kv group by value order by 1", 30, 0, 1},
		{"select exists (select from kv where value = '1')", 1, 1, 1},
		{"select (select count(*) from kv where value = g::text) from generate_series(0, 3) g", 8, 22, 4}, // on average
		{"update kv set value = 'x' where key < 'k/10'", 10, 0, 1},
		{"delete from kv where value = '1'", 10, 20, 1},
		{"insert into kv select 'new/' || key, value from kv where value = '2'", 10, 20, 1},
		{"select from kv where key = 'k/01' and false limit 0", 0, 0, 0},
	} {
		if _, err := run(t, s, "begin"); err != nil {
			t.Fatal(err)
		}
		plan := explainJSON(t, s, ", analyze", c.query)
		if _, err := run(t, s, "rollback"); err != nil {
			t.Fatal(err)
		}
		scan, _ := plan.scan()
		if scan.Rows != c.rows || scan.Removed != c.removed || scan.Loops != c.loops || scan.Total > plan.Total {
			t.Errorf("%s: %+v of %+v", c.query, scan, plan)
		}
	}
}

// scan finds the node that reads kv.
func (p shownPlan) scan() (shownPlan, bool) {
	if p.Type == "Seq Scan" || p.Type == "Index Scan" {
		return p, true
	}
	for _, below := range p.Plans {
		if scan, ok := below.scan(); ok {
			return scan, true
		}
	}
	return shownPlan{}, false
}

// EXPLAIN of a write changes nothing, and EXPLAIN ANALYZE does what the write does: all of it, with its retries and its limits.
func TestExplainAnalyzeWrites(t *testing.T) {
	m := newMemory()
	m.put("a", "1")
	s, c := newTestSession(t, m, nil)
	for _, query := range []string{"update kv set value = '2'", "delete from kv", "insert into kv values ('b', '')"} {
		if _, err := run(t, s, "explain "+query); err != nil || len(m.rows) != 1 || string(m.rows["a"].Value) != "1" {
			t.Fatalf("explain %s: %v, %v", query, err, m.rows)
		}
	}
	attempts := len(m.modes)
	m.onCommit = func(m *memory) {
		m.onCommit = nil
		m.put("a", "5")
	}
	plan := explainJSON(t, s, ", analyze", "update kv set value = (value::int + 1)::text where key = 'a' returning value")
	if got := string(m.rows["a"].Value); got != "6" || len(m.modes) != attempts+2 || plan.Rows != 1 || plan.Loops != 1 {
		t.Errorf("value %s after %d attempts, %+v", got, len(m.modes)-attempts, plan)
	}
	if _, err := run(t, s, "explain analyze insert into kv values ('a', '')"); code(err) != "23505" {
		t.Errorf("a key that there is: %v", err)
	}
	if _, err := run(t, s, "set transaction_read_only = on; begin read only; explain analyze delete from kv"); code(err) != "25006" {
		t.Errorf("in a read-only transaction: %v", err)
	}
	if c.held != 0 || s.meter != nil {
		t.Errorf("%d bytes are held, and the meter is %v", c.held, s.meter)
	}
}
