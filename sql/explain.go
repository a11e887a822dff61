package sql

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// An explainPlan is EXPLAIN of a statement with a plan. What it shows is made of that plan, and of what a meter has
// counted while it ran. There is no model of costs, and so none are shown.
type explainPlan struct {
	explainOptions
	plan     planNode
	execute  *executeStmt  // instead of plan
	command  string        // of the statement, for its errors
	planning time.Duration // the analysis
}

func (p *explainPlan) outputs() []output { return nil }

// explainPlan analyzes EXPLAIN of a statement.
func (a *analyzer) explainPlan(n *explainPlanStmt) *explainPlan {
	began := time.Now()
	p := &explainPlan{explainOptions: n.options, command: n.node.tag()}
	if execute, ok := n.node.(*executeStmt); ok {
		p.execute = execute
	} else {
		p.plan = a.plan(n.node)
	}
	p.planning = time.Since(began)
	return p
}

// columns describes the result.
func (p *explainPlan) columns() []pgwire.Column {
	if p.json {
		return []pgwire.Column{wireColumn("QUERY PLAN", JSON)}
	}
	return []pgwire.Column{wireColumn("QUERY PLAN", Text)}
}

// runExplain runs EXPLAIN: with ANALYZE the statement first, as it would run by itself, but that its rows go unsent.
func (s *Session) runExplain(ctx context.Context, stmt *statement, p explainPlan, commits bool) (string, error) {
	if p.execute != nil {
		st, err := s.executed(ctx, stmt, p.execute)
		if err != nil {
			return "", err
		}
		if p.plan, p.command = st.plan, st.node.tag(); p.plan == nil {
			return "", pgwire.Errorf(pgwire.CodeFeatureNotSupported, `EXPLAIN of prepared statement "%s" is not supported`, p.execute.name)
		}
		s.env.params = s.params
	}
	text := &planText{explainPlan: &p}
	if p.analyze {
		text.m = newMeter(p.timing)
		if err := s.runMetered(ctx, &p, text.m, commits); err != nil {
			return "", err
		}
	}
	x := &explainer{describer: describer{e: &env{ctx: ctx, session: s, params: s.params}, subplans: map[*subplan]int{}}, verbose: p.verbose}
	root := x.statement(p.plan)
	if !p.analyze && commits {
		if err := s.Finish(ctx); err != nil {
			return "", err
		}
	}
	for _, v := range text.rows(root) {
		if err := s.encoder.sendRow([]Value{v}); err != nil {
			return "", err
		}
	}
	return "EXPLAIN", nil
}

// unsent is a sink for the rows of a statement that is only measured.
type unsent struct{}

func (unsent) Row([][]byte) error { return nil }

func (s *Session) runMetered(ctx context.Context, p *explainPlan, m *meter, commits bool) error {
	sink, formats := s.encoder.sink, s.encoder.formats
	s.encoder.sink, s.encoder.formats, s.meter = unsent{}, nil, m
	defer func() { s.encoder.sink, s.encoder.formats, s.meter = sink, formats, nil }()
	_, err := s.runPlanned(ctx, p.plan, p.command, commits)
	return err
}

// A planText prints nodes.
type planText struct {
	*explainPlan
	m *meter // nil without ANALYZE
	b bytes.Buffer
}

// rows are those of the result: a line each, or one of JSON.
func (t *planText) rows(root *explainNode) []Value {
	if t.json {
		t.b.WriteString("[\n  {\n    \"Plan\": ")
		t.object(root, 4)
		t.times(func(name string, ms float64) { fmt.Fprintf(&t.b, ",\n    %q: %.3f", name, ms) })
		if t.m != nil {
			t.b.WriteString(",\n    \"Triggers\": [\n    ]")
		}
		t.b.WriteString("\n  }\n]")
		return []Value{{typ: JSON, s: t.b.String()}}
	}
	t.node(root, 0)
	t.times(func(name string, ms float64) { fmt.Fprintf(&t.b, "%s: %.3f ms\n", name, ms) })
	var rows []Value
	for line := range strings.Lines(t.b.String()) {
		rows = append(rows, TextValue(strings.TrimSuffix(line, "\n")))
	}
	return rows
}

// times prints what SUMMARY adds.
func (t *planText) times(print func(name string, ms float64)) {
	if !t.summary {
		return
	}
	print("Planning Time", milliseconds(t.planning))
	if t.m != nil {
		print("Execution Time", milliseconds(t.m.ran))
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// node prints a node and those below it, as text.
func (t *planText) node(n *explainNode, indent int) {
	line := func(format string, args ...any) {
		fmt.Fprintf(&t.b, "%s"+format+"\n", append([]any{strings.Repeat("  ", indent)}, args...)...)
	}
	if n.label != "" {
		line("%s", n.label)
		indent++
	}
	if indent > 0 {
		line("->  %s%s", n.title, t.actual(n))
		indent += 2
	} else {
		line("%s%s", n.title, t.actual(n))
	}
	indent++
	for _, f := range n.fields {
		if list, ok := f.value.([]string); ok && !f.inJSON {
			line("%s: %s", f.name, strings.Join(list, ", "))
		} else if !f.inJSON {
			line("%s: %v", f.name, f.value)
		}
		if removed := t.removed(n, f.name); removed > 0 {
			line("Rows Removed by %s: %d", f.name, removed)
		}
	}
	for _, child := range n.children {
		t.node(child, indent)
	}
}

// actual is what ANALYZE adds to the first line of a node.
func (t *planText) actual(n *explainNode) string {
	if t.m == nil {
		return ""
	}
	p := t.measured(n)
	switch {
	case p.loops == 0:
		return " (never executed)"
	case t.timing:
		return fmt.Sprintf(" (actual time=%.3f..%.3f rows=%d loops=%d)",
			perLoop(p, p.startup), perLoop(p, p.taken), p.average(p.rows), p.loops)
	}
	return fmt.Sprintf(" (actual rows=%d loops=%d)", p.average(p.rows), p.loops)
}

// average is how much of n there was in each loop.
func (p *measured) average(n int64) int64 {
	return int64(math.RoundToEven(float64(n) / float64(max(p.loops, 1))))
}

// perLoop is an average in milliseconds.
func perLoop(p measured, d time.Duration) float64 { return milliseconds(d) / float64(p.loops) }

// measured is what a node has done, with the time that those below it have taken. Nobody measures an Append: its rows are
// theirs.
func (t *planText) measured(n *explainNode) measured {
	var p measured
	if known := t.m.parts[n.part]; n.part != nil && known != nil {
		p = *known
	}
	for i, child := range n.children {
		below := t.measured(child)
		if n.part == nil {
			p.loops, p.rows = max(p.loops, below.loops), p.rows+below.rows
		}
		if n.part == nil && i == 0 {
			p.startup = below.startup
		}
		p.taken += below.taken
	}
	return p
}

// removed is how many rows did not pass a filter of a node, on average.
func (t *planText) removed(n *explainNode, field string) int64 {
	if t.m == nil || t.m.parts[n.part] == nil {
		return 0
	}
	p := t.m.parts[n.part]
	switch {
	case field == "Join Filter", field == "Filter" && !n.joins:
		return p.average(p.removed)
	case field == "Filter":
		return p.average(p.dropped)
	}
	return 0
}

// object prints a node as JSON, with what is inside it so many spaces further in.
func (t *planText) object(n *explainNode, indent int) {
	t.b.WriteString("{")
	pad, first := "\n"+strings.Repeat(" ", indent+2), true
	member := func(name string, value any) {
		if !first {
			t.b.WriteByte(',')
		}
		first = false
		t.b.WriteString(pad)
		t.text(name)
		t.b.WriteString(": ")
		t.value(value)
	}
	member("Node Type", n.name)
	if n.relation != "" {
		member("Parent Relationship", n.relation)
	}
	if n.label != "" {
		member("Subplan Name", n.label)
	}
	member("Parallel Aware", false)
	member("Async Capable", false)
	for _, f := range n.fields {
		if f.inJSON {
			member(f.name, f.value)
		}
	}
	t.measures(n, member)
	for _, f := range n.fields {
		if !f.inJSON {
			member(f.name, f.value)
		}
		if removed := t.removed(n, f.name); removed > 0 {
			member("Rows Removed by "+f.name, removed)
		}
	}
	if len(n.children) > 0 {
		member("Plans", nil)
		t.objects(n.children, indent+2)
	}
	t.b.WriteString("\n" + strings.Repeat(" ", indent) + "}")
}

func (t *planText) measures(n *explainNode, member func(name string, value any)) {
	if t.m == nil {
		return
	}
	p := t.measured(n)
	if loops := float64(max(p.loops, 1)); t.timing {
		member("Actual Startup Time", milliseconds(p.startup)/loops)
		member("Actual Total Time", milliseconds(p.taken)/loops)
	}
	member("Actual Rows", p.average(p.rows))
	member("Actual Loops", p.loops)
}

// objects prints the children of a node.
func (t *planText) objects(list []*explainNode, indent int) {
	pad := strings.Repeat(" ", indent)
	t.b.WriteString("[")
	for i, n := range list {
		if i > 0 {
			t.b.WriteByte(',')
		}
		t.b.WriteString("\n" + pad + "  ")
		t.object(n, indent+2)
	}
	t.b.WriteString("\n" + pad + "]")
}

// value prints the value of a member; nil is printed by the caller.
func (t *planText) value(value any) {
	switch v := value.(type) {
	case nil:
	case string:
		t.text(v)
	case float64:
		fmt.Fprintf(&t.b, "%.3f", v)
	case []string:
		t.b.WriteByte('[')
		for i, s := range v {
			if i > 0 {
				t.b.WriteString(", ")
			}
			t.text(s)
		}
		t.b.WriteByte(']')
	default:
		fmt.Fprint(&t.b, v)
	}
}

// text prints a string of JSON. No text of a statement holds a NUL.
func (t *planText) text(s string) { _ = writeJSONString(&t.b, s) }
