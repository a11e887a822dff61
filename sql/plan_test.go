package sql

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestPlan shows how each condition finds its rows: points or a range of keys, and whether a filter
// is left. Parameters $1, $2, … are "p1", "p2", …
func TestPlan(t *testing.T) {
	catalog := NewCatalog(NewSettings())
	datadriven.RunTest(t, "testdata/plan/keys", func(t *testing.T, d *datadriven.TestData) string {
		var b strings.Builder
		for line := range strings.Lines(d.Input) {
			line = strings.TrimSpace(line)
			fmt.Fprintf(&b, "%s\n    %s\n", line, describeAccess(t, catalog, line))
		}
		return b.String()
	})
}

func describeAccess(t *testing.T, catalog *Catalog, where string) string {
	s, err := NewSession(&client{}, &memory{catalog: catalog}, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Parse(t.Context(), "select from kv where "+where, nil)
	if err != nil {
		return err.Error()
	}
	e := &env{ctx: t.Context(), session: s}
	for i := range st.ParamTypes() {
		e.params = append(e.params, TextValue(fmt.Sprintf("p%d", i+1)))
	}
	a := st.(*statement).plan.(*selectPlan).kv
	filter := ""
	if a.filter != nil {
		filter = ", filter"
	}
	if a.points != nil {
		list := keyList{e: e}
		if err := a.keys(&list); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("keys %q%s", list.keys, filter)
	}
	r, ok, err := a.keyRange(e)
	switch {
	case err != nil:
		return err.Error()
	case !ok:
		return "nothing"
	case r.Unbounded:
		return fmt.Sprintf("from %q%s", r.Lo, filter)
	}
	return fmt.Sprintf("from %q to %q%s", r.Lo, r.Hi, filter)
}

// Whatever is planned, the rows are those that the condition is true for.
func TestPlanAgreesWithFilter(t *testing.T) {
	m := newMemory()
	for _, key := range []string{"a", "ab", "b", "b%", "c", "é", "\xf4\x8f\xbf\xbf", "z"} {
		m.put(key, key)
	}
	s, err := NewSession(&client{}, m, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{
		"%s = 'a'", "%s in ('b','a','a')", "%s > 'a'", "%s >= 'a' and %s <= 'b'", "%s between 'ab' and 'c'", "'b' < %s",
		"%s like 'a%%'", "%s like 'b\\%%'", "%s like '%%'", "%s like 'é%%'", "%s like '_'", "%s like '\U0010ffff%%'", "not %s = 'a'", "%s = 'a' or %s > 'c'", "%s = 'a' or %s = 'b'",
		"%s = 'a' and %s > 'b'", "%s in ('a','b') and %s in ('b','c')", "%s = null", "%s > null", "%s in ('a', null)", "%s not in ('a','b')", "%s <> 'a'",
		"%s > 'c' and %s < 'a'", "%s = value", "%s >= value and %s > 'a'", "%s ilike 'A%%'", "%s = upper('A') or %s = lower('A')",
	} {
		planned := selectKeys(t, s, strings.ReplaceAll(strings.ReplaceAll(where, "%s", "key"), "%%", "%"))
		filtered := selectKeys(t, s, strings.ReplaceAll(strings.ReplaceAll(where, "%s", "(key||'')"), "%%", "%"))
		if planned != filtered {
			t.Errorf("where %s: planned %q, filtered %q", where, planned, filtered)
		}
	}
}
