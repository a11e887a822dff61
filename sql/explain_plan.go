package sql

import (
	"strings"
)

// An explainNode is a node of a plan as EXPLAIN shows it. It is made of the plan that is executed, and of nothing else.
type explainNode struct {
	label    string // "InitPlan 1", "CTE w"; "" for most
	relation string // to its parent, in JSON
	name     string // the type of the node, in JSON
	title    string // in text
	fields   []explainField
	children []*explainNode
	part     any  // of the plan, which a meter measures; nil: what those below it do
	joins    bool // its Filter comes after a Join Filter
}

// An explainField is a line of a node: a text, a list or a number.
type explainField struct {
	name   string
	value  any
	inJSON bool // there alone: the title says it
}

// An explainer makes the nodes of a plan.
type explainer struct {
	describer
	verbose bool
}

func (n *explainNode) add(name string, value any) {
	if value != "" {
		n.fields = append(n.fields, explainField{name: name, value: value})
	}
}

// tell adds what the title says in text.
func (n *explainNode) tell(name string, value any) {
	n.fields = append(n.fields, explainField{name, value, true})
}

func (n *explainNode) adopt(relation string, child *explainNode) {
	child.relation = relation
	n.children = append(n.children, child)
}

// over puts a node above another one.
func over(name string, part any, child *explainNode) *explainNode {
	n := &explainNode{name: name, title: name, part: part}
	n.adopt("Outer", child)
	return n
}

// subqueries adds the plans of the subqueries that were printed since the last node was done.
func (x *explainer) subqueries(n *explainNode) {
	found := x.found
	x.found = nil
	for _, s := range found {
		child := x.query(s.plan)
		child.label, child.relation = x.name(s), strings.Fields(x.name(s))[0]
		n.children = append([]*explainNode{child}, n.children...)
	}
}

// A stage is what a selectPlan does with the rows that it is given.
type stage struct {
	plan *selectPlan
	name string
}

// query is the node of a SELECT.
func (x *explainer) query(p *selectPlan) *explainNode {
	saved := x.describer
	defer func() {
		x.plan, x.qualify, x.found = saved.plan, saved.qualify, saved.found
	}()
	x.plan, x.qualify, x.found = p, p.from != nil && len(p.from.steps) > 1, nil
	n := x.source(p)
	if p.filter != nil {
		n.add("One-Time Filter", x.text(p.filter))
	}
	for _, o := range p.outs { // for the subqueries among them
		_ = x.text(o.x)
	}
	x.subqueries(n)
	n = x.grouped(p, n)
	if len(p.sets) > 0 {
		n = over("ProjectSet", stage{p, "ProjectSet"}, n)
	}
	if len(p.windows) > 0 {
		n = over("WindowAgg", stage{p, "WindowAgg"}, n)
	}
	if p.order != nil {
		n = over("Sort", stage{p, "Sort"}, n)
		n.add("Sort Key", x.sortKeys(p.order))
		x.subqueries(n)
	}
	if p.limit != nil || p.offset != nil {
		n = over("Limit", stage{p, "Limit"}, n)
		for _, count := range []expr{p.limit, p.offset} {
			if count != nil {
				_ = x.text(count)
			}
		}
		x.subqueries(n)
	}
	if x.verbose && len(p.outs) > 0 {
		n.add("Output", x.outputs(p.outs))
	}
	x.found = nil
	x.ctes(n, p.with)
	return n
}

func (x *explainer) outputs(outs []output) []string {
	texts := make([]string, len(outs))
	for i, o := range outs {
		texts[i] = x.text(o.x)
	}
	return texts
}

// grouped is what aggregates are computed in.
func (x *explainer) grouped(p *selectPlan, n *explainNode) *explainNode {
	switch {
	case p.group != nil && len(p.group.by) > 0:
		n = over("Aggregate", stage{p, "Aggregate"}, n)
		n.title = "HashAggregate"
		keys := make([]string, len(p.group.by))
		for i, by := range p.group.by {
			keys[i] = x.text(by)
		}
		n.tell("Strategy", "Hashed")
		n.add("Group Key", keys)
	case p.group != nil || len(p.aggregates) > 0:
		if p.firstOnly {
			n = over("Limit", stage{p, "first row"}, n)
		}
		n = over("Aggregate", stage{p, "Aggregate"}, n)
		n.tell("Strategy", "Plain")
	}
	if p.group != nil && p.group.having != nil {
		n.add("Filter", x.text(p.group.having))
	}
	x.subqueries(n)
	return n
}

// ctes shows the queries of WITH that are selected from.
func (x *explainer) ctes(n *explainNode, list []*withTable) {
	for _, w := range list {
		if !w.used {
			continue
		}
		child := x.cte(w)
		child.label, child.relation = "CTE "+w.name, "InitPlan"
		n.children = append([]*explainNode{child}, n.children...)
	}
}

// cte is the node of a query of WITH.
func (x *explainer) cte(w *withTable) *explainNode {
	if r, ok := w.source.(recursionResult); ok {
		n := &explainNode{name: "Recursive Union", title: "Recursive Union", part: r.recursion}
		n.adopt("Outer", x.rows(r.start, w.name))
		n.adopt("Inner", x.query(r.step.plan))
		return n
	}
	return x.rows(w.source, w.name)
}

// source is the node that reads the rows of a SELECT.
func (x *explainer) source(p *selectPlan) *explainNode {
	switch {
	case p.kv != nil:
		return x.access(p.kv)
	case p.from != nil:
		return x.joins(p.from)
	}
	return &explainNode{name: "Result", title: "Result", part: stage{p, "Result"}}
}

// A joinPart is a join of a step with what comes before it, and a keptPart the rows of a step that are kept to be gone
// through again.
type (
	joinPart struct{ *joinStep }
	keptPart struct{ *joinStep }
)

// A uniquePart keeps one of equal rows, when an arm of a UNION has been added.
type uniquePart struct {
	*derivedSource
	arm int
}

// joins is the node of FROM: its relations are joined by nested loops, in this order.
func (x *explainer) joins(p *fromPlan) *explainNode {
	first := &p.steps[0]
	where := first.where
	if first.on != nil { // what is known of it by itself
		where = append([]expr{first.on}, where...)
	}
	n := x.step(first, where)
	for i := range p.steps[1:] {
		n = x.join(n, &p.steps[i+1])
	}
	return n
}

func (x *explainer) join(outer *explainNode, step *joinStep) *explainNode {
	n := over("Nested Loop", joinPart{step}, outer)
	inner := x.step(step, nil)
	if !step.lateral {
		inner = over("Materialize", keptPart{step}, inner)
	}
	n.adopt("Inner", inner)
	n.joins = true
	var on []expr
	if step.on != nil {
		on = append(on, step.on)
	}
	if n.tell("Join Type", step.joinType()); step.outer() {
		n.title += " " + step.joinType() + " Join"
	} else {
		on = append(on, step.where...)
	}
	if len(on) > 0 {
		n.add("Join Filter", x.chain(on, " AND "))
	}
	if step.outer() && len(step.where) > 0 {
		n.add("Filter", x.chain(step.where, " AND "))
	}
	x.subqueries(n)
	return n
}

func (s *joinStep) joinType() string {
	switch {
	case s.left && s.right:
		return "Full"
	case s.left:
		return "Left"
	case s.right:
		return "Right"
	}
	return "Inner"
}

// step is the node that reads a relation of FROM, with the conditions that its rows must fulfil.
func (x *explainer) step(step *joinStep, where []expr) *explainNode {
	n := x.rows(step.source, step.table)
	switch _, derived := step.source.(*derivedSource); {
	case step.kv != nil:
	case !derived:
		n.part = step
	case len(where) > 0:
		child := n
		n = &explainNode{name: "Subquery Scan", title: "Subquery Scan on " + quoteIdent(step.table), part: step}
		n.tell("Alias", step.table)
		n.adopt("Subquery", child)
	}
	if len(where) > 0 {
		n.add("Filter", x.chain(where, " AND "))
	}
	x.subqueries(n)
	return n
}

// rows is the node that makes the rows of a relation.
func (x *explainer) rows(s source, table string) *explainNode {
	switch s := s.(type) {
	case *view:
		return x.named("Function Scan", "Function Name", s.name, table)
	case keptRows:
		return x.access(s.access)
	case *callExpr:
		n := x.named("Function Scan", "Function Name", s.fn.Name, table)
		if call := x.text(s); x.verbose {
			n.add("Function Call", call)
		}
		return n
	case *callsSource:
		return x.calls(s, table)
	case withSource:
		if r, inside := s.source.(*recursion); inside {
			return x.named("WorkTable Scan", "CTE Name", r.name, table)
		}
		return x.named("CTE Scan", "CTE Name", s.name, table)
	case *derivedSource:
		return x.derived(s, table)
	}
	return &explainNode{name: "Result", title: "Result"}
}

// calls is the scan of functions side by side, or of one whose rows are numbered.
func (x *explainer) calls(s *callsSource, table string) *explainNode {
	var n *explainNode
	if len(s.calls) == 1 {
		n = x.named("Function Scan", "Function Name", s.calls[0].fn.Name, table)
	} else {
		n = &explainNode{name: "Function Scan", title: "Function Scan on " + quoteIdent(table)}
		n.tell("Alias", table)
	}
	texts := make([]string, len(s.calls))
	for i, call := range s.calls {
		texts[i] = x.text(call)
	}
	if x.verbose {
		n.add("Function Call", strings.Join(texts, ", "))
	}
	return n
}

// named is a scan of something that has a name, under an alias.
func (x *explainer) named(scan, field, name, table string) *explainNode {
	n := &explainNode{name: scan, title: scan + " on " + quoteIdent(name)}
	if table != name {
		n.title += " " + quoteIdent(table)
	}
	n.tell(field, name)
	n.tell("Alias", table)
	return n
}

// derived is the node of a subquery of FROM, of VALUES, or of the arms of a UNION.
func (x *explainer) derived(s *derivedSource, table string) *explainNode {
	if s.values {
		n := &explainNode{name: "Values Scan", title: "Values Scan on " + quoteIdent(table), part: s}
		n.tell("Alias", table)
		return n
	}
	n := x.query(s.arms[0].plan)
	for i, arm := range s.arms[1:] {
		if i == 0 || s.distinct[i] {
			n = over("Append", nil, n)
			n.children[0].relation = "Member"
		}
		n.adopt("Member", x.query(arm.plan))
		if s.distinct[i+1] {
			n = x.unique(n, uniquePart{s, i + 1})
		}
	}
	if len(s.arms) == 1 && s.distinct[0] {
		n = x.unique(n, uniquePart{s, 0})
	}
	return n
}

// unique is the node that keeps the first of equal rows.
func (x *explainer) unique(child *explainNode, part any) *explainNode {
	n := over("Aggregate", part, child)
	n.title = "HashAggregate"
	n.tell("Strategy", "Hashed")
	return n
}

// access is the node that reads kv.
func (x *explainer) access(a *access) *explainNode {
	n := &explainNode{name: "Seq Scan", title: "Seq Scan", part: a}
	cond := x.keyCondition(a)
	if cond != "" {
		n.name, n.title = "Index Scan", "Index Scan using kv_pkey"
		n.tell("Scan Direction", "Forward")
		n.tell("Index Name", "kv_pkey")
	}
	n.tell("Relation Name", "kv")
	n.title += " on " + x.kvName(a.table)
	n.tell("Alias", a.table)
	n.add("Index Cond", cond)
	if a.filter != nil {
		n.add("Filter", x.text(a.filter))
	}
	x.subqueries(n)
	return n
}

// kvName is kv in a title, and what it is called.
func (x *explainer) kvName(table string) string {
	name := map[bool]string{true: "public."}[x.verbose] + "kv"
	if table != "kv" {
		name += " " + quoteIdent(table)
	}
	return name
}

// keyCondition is what an access demands of the keys that it reads, "" if it reads all.
func (x *explainer) keyCondition(a *access) string {
	if a.points != nil {
		return x.pointsCondition(a.points)
	}
	var conds []string
	bound := func(op string, b bound) { conds = append(conds, "(key "+inclusiveOp(op, b)+" "+x.text(b.x)+")") }
	for _, b := range a.lower {
		bound(">", b)
	}
	for _, b := range a.upper {
		bound("<", b)
	}
	for _, pattern := range a.like {
		conds = append(conds, x.prefixCondition(pattern)...)
	}
	return joined(conds, " AND ")
}

func joined(conds []string, word string) string {
	if len(conds) < 2 {
		return strings.Join(conds, "")
	}
	return "(" + strings.Join(conds, word) + ")"
}

// pointsCondition lists the keys that are looked up.
func (x *explainer) pointsCondition(points []expr) string {
	var conds []string
	var single []expr
	for _, p := range points {
		list, sub := p.(*subqueryExpr)
		switch {
		case sub && list.kind == subqueryList:
			conds = append(conds, "(key = ANY "+x.subplan(list.subplan)+")")
		case p.typ().elem() != 0:
			conds = append(conds, "(key = ANY ("+x.text(p)+"))")
		default:
			single = append(single, p)
		}
	}
	switch len(single) {
	case 0:
	case 1:
		conds = append(conds, "(key = "+x.text(single[0])+")")
	default:
		conds = append(conds, "(key = ANY ("+x.array(single)+"))")
	}
	return joined(conds, " OR ")
}

// prefixCondition is what a pattern of LIKE demands of the beginning of the keys.
func (x *explainer) prefixCondition(pattern expr) []string {
	v, known := x.known(pattern)
	if !known {
		return []string{"(key ~~ " + x.text(pattern) + ")"}
	}
	if v.IsNull() {
		return []string{"(key ~~ " + x.text(pattern) + ")"}
	}
	prefix := likePrefix(v.s)
	if prefix == "" {
		return nil
	}
	conds := []string{"(key >= " + x.constant(TextValue(prefix), Text) + ")"}
	if end, bounded := prefixEnd(prefix); bounded {
		conds = append(conds, "(key < "+x.constant(TextValue(end), Text)+")")
	}
	return conds
}

// statement is the node of a whole statement.
func (x *explainer) statement(p planNode) *explainNode {
	switch p := p.(type) {
	case *selectPlan:
		return x.query(p)
	case *insertPlan:
		n := x.modify("Insert", p.table, p, p.outs, x.proposed(p))
		x.conflict(n, p)
		x.ctes(n, p.with)
		return n
	case *updatePlan:
		n := x.modify("Update", p.table, p, p.outs, x.target(&p.writeTarget), p.value)
		x.ctes(n, p.with)
		return n
	case *deletePlan:
		n := x.modify("Delete", p.table, p, p.outs, x.target(&p.writeTarget))
		x.ctes(n, p.with)
		return n
	}
	return &explainNode{name: "Result", title: "Result"}
}

// target is the node that finds the rows to change or delete.
func (x *explainer) target(t *writeTarget) *explainNode {
	if t.from == nil {
		return x.access(&t.access)
	}
	x.qualify = true
	return x.joins(t.from)
}

// modify is the node that writes what its child finds in kv, which is called table; computed are the expressions of what it
// writes.
func (x *explainer) modify(operation, table string, part any, outs []output, child *explainNode, computed ...expr) *explainNode {
	n := over("ModifyTable", part, child)
	n.title = operation + " on " + x.kvName(table)
	n.tell("Operation", operation)
	n.tell("Relation Name", "kv")
	n.tell("Alias", table)
	if x.verbose && len(outs) > 0 {
		n.add("Output", x.outputs(outs))
	}
	for _, c := range computed {
		if c != nil {
			_ = x.text(c)
		}
	}
	x.subqueries(n)
	return n
}

// proposed is the node that makes the rows of an INSERT.
func (x *explainer) proposed(p *insertPlan) *explainNode {
	if p.query != nil {
		return x.query(p.query.plan)
	}
	n := &explainNode{name: "Result", title: "Result", part: &p.rows}
	if len(p.rows) > 1 {
		n.name, n.title = "Values Scan", `Values Scan on "*VALUES*"`
		n.tell("Alias", "*VALUES*")
	}
	for _, row := range p.rows {
		for _, value := range []expr{row.key, row.value} {
			if value != nil {
				_ = x.text(value)
			}
		}
	}
	x.subqueries(n)
	return n
}

// conflict says what becomes of a row whose key there is. If the outcome is the same either way the key is not looked up.
func (x *explainer) conflict(n *explainNode, p *insertPlan) {
	switch p.conflict {
	case conflictNothing:
		n.add("Conflict Resolution", "NOTHING")
	case conflictUpdate:
		n.add("Conflict Resolution", "UPDATE")
	}
	if p.conflict != conflictError && !p.blind {
		n.add("Conflict Arbiter Indexes", []string{"kv_pkey"})
	}
	if p.where != nil {
		n.add("Conflict Filter", x.text(p.where))
	}
}
