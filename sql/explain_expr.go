package sql

import (
	"slices"
	"strconv"
	"strings"
)

// A describer prints expressions as PostgreSQL's EXPLAIN does. Parameters show the values that they have.
type describer struct {
	e       *env
	plan    *selectPlan // whose expressions these are; nil for those of a write
	qualify bool        // columns by the names of their relations, too

	subplans map[*subplan]int // by their numbers
	found    []*subplan       // among what was printed since this was emptied
}

// list prints expressions with commas between.
func (d *describer) list(xs []expr) string {
	texts := make([]string, len(xs))
	for i, x := range xs {
		texts[i] = d.text(x)
	}
	return strings.Join(texts, ", ")
}

// text prints an expression, in parentheses if it is made of several.
func (d *describer) text(x expr) string {
	switch x := x.(type) {
	case *constExpr:
		return d.constant(x.v, x.t)
	case *paramExpr:
		return d.constant(d.e.params[x.index], x.typ())
	case *kvColumn:
		return d.column(x.table, kvColumns[x.index].Name, d.qualify || x.excluded || x.depth > 0)
	case *viewColumn:
		return d.column(x.table, x.name, d.qualify || x.depth > 0)
	case *wholeRow:
		return quoteIdent(x.table) + ".*"
	case *compareExpr:
		return d.operator(x.l, x.op, x.r)
	case *arithExpr:
		return d.operator(x.l, string(x.op), x.r)
	case *concatExpr:
		return d.operator(x.l, "||", x.r)
	case *joinExpr:
		return d.operator(x.l, "||", x.r)
	case *powerExpr:
		return d.operator(x.l, "^", x.r)
	case *likeExpr:
		return d.operator(x.x, map[bool]string{false: "~~", true: "~~*"}[x.fold], x.pattern)
	case *regexExpr:
		return d.operator(x.x, map[bool]string{true: "!"}[x.not]+"~"+map[bool]string{true: "*"}[x.fold], x.pattern)
	case *escapedExpr:
		return "like_escape(" + d.list([]expr{x.pattern, x.escape}) + ")"
	case *castExpr:
		return d.operand(x.x) + "::" + x.to.String()
	case *logicExpr:
		return d.chain(x.args, map[bool]string{false: " OR ", true: " AND "}[x.and])
	case *notExpr:
		return d.negated(x)
	}
	return d.special(x)
}

// special prints what has a syntax of its own.
func (d *describer) special(x expr) string {
	switch x := x.(type) {
	case *isExpr:
		return "(" + d.text(x.x) + " IS " + map[bool]string{true: "NOT "}[x.not] + commandName(x.what) + ")"
	case *distinctExpr:
		return "(" + d.text(x.l) + " IS " + map[bool]string{true: "NOT "}[x.not] + "DISTINCT FROM " + d.text(x.r) + ")"
	case *betweenExpr:
		if x.symmetric {
			return "(" + d.text(x.x) + " BETWEEN SYMMETRIC " + d.text(x.lo) + " AND " + d.text(x.hi) + ")"
		}
		return "(" + d.operator(x.x, ">=", x.lo) + " AND " + d.operator(x.x, "<=", x.hi) + ")"
	case *inExpr:
		return "(" + d.text(x.x) + " = ANY (" + d.array(x.list) + "))"
	case *anyExpr:
		return d.any(x)
	case *rowAnyExpr:
		return "((" + d.list(x.l) + ") = ANY " + d.subplan(x.sub) + ")"
	case *caseExpr:
		return d.caseOf(x)
	case *callExpr:
		return x.fn.Name + "(" + d.list(x.args) + ")"
	case *nullIfExpr:
		return "NULLIF(" + d.list([]expr{x.l, x.r}) + ")"
	case *choiceExpr:
		return map[int]string{0: "COALESCE", 1: "GREATEST", -1: "LEAST"}[x.want] + "(" + d.list(x.args) + ")"
	case *arrayExpr:
		return "ARRAY[" + d.list(x.elems) + "]"
	case *subscriptExpr:
		return d.operand(x.x) + "[" + d.text(x.index) + "]"
	case *fieldExpr:
		return "(" + d.text(x.x) + ")." + map[bool]string{false: "n", true: "x"}[x.elem]
	case *recordField:
		return "(" + d.text(x.call) + ")." + quoteIdent(x.call.fn.Columns[x.index].Name)
	case *subqueryExpr:
		return map[bool]string{true: "EXISTS"}[x.kind == subqueryExists] + map[bool]string{true: "ARRAY"}[x.kind == subqueryArray] + d.subplan(x.subplan)
	case *groupExpr:
		return d.text(d.plan.group.by[x.index])
	case *aggResult:
		return d.aggregated(&d.plan.aggregates[x.index])
	case *windowCall:
		return d.windowCall(x)
	}
	return "?"
}

func (d *describer) column(table, name string, qualify bool) string {
	if qualify && table != "" {
		return quoteIdent(table) + "." + quoteIdent(name)
	}
	return quoteIdent(name)
}

func (d *describer) operator(l expr, op string, r expr) string {
	return "(" + d.text(l) + " " + op + " " + d.text(r) + ")"
}

// operand prints x where only what is one thing may stand.
func (d *describer) operand(x expr) string {
	text := d.text(x)
	if _, cast := x.(*castExpr); cast || !strings.HasPrefix(text, "(") {
		return "(" + text + ")"
	}
	return text
}

// chain prints conditions with a word between.
func (d *describer) chain(conds []expr, word string) string {
	texts := make([]string, len(conds))
	for i, x := range conds {
		texts[i] = d.text(x)
	}
	if len(texts) == 1 {
		return texts[0]
	}
	return "(" + strings.Join(texts, word) + ")"
}

func (d *describer) negated(x *notExpr) string {
	if like, ok := x.x.(*likeExpr); ok {
		return d.operator(like.x, map[bool]string{false: "!~~", true: "!~~*"}[like.fold], like.pattern)
	}
	return "(NOT " + d.text(x.x) + ")"
}

// constant prints a value as a literal of its type.
func (d *describer) constant(v Value, t Type) string {
	switch {
	case v.IsNull():
		return "NULL::" + t.String()
	case t == Bool:
		return map[bool]string{false: "false", true: "true"}[v.Bool()]
	case t == Int4, t == Numeric:
		if text := textOf(v, d.e.loc()); text[0] >= '0' && text[0] <= '9' {
			return text
		}
	}
	return quoteLiteral(textOf(v, d.e.loc())) + "::" + t.String()
}

// array prints a list as an array: a literal, if all of it is known.
func (d *describer) array(list []expr) string {
	values := make([]Value, len(list))
	t := arrayOf(list[0].typ())
	for i, x := range list {
		v, known := d.known(x)
		if !known || v.typ != list[0].typ() && !v.IsNull() || t == 0 {
			return "ARRAY[" + d.list(list) + "]"
		}
		values[i] = v
	}
	v, _ := arrayOfValues(t, values, d.e.loc(), nil)
	return d.constant(v, t)
}

// known is the value of what is one without a computation.
func (d *describer) known(x expr) (Value, bool) {
	switch x := x.(type) {
	case *constExpr:
		return x.v, true
	case *paramExpr:
		return d.e.params[x.index], true
	}
	return Null, false
}

func (d *describer) any(x *anyExpr) string {
	r := ""
	if x.sub != nil {
		r = d.subplan(x.sub)
	} else {
		r = "(" + d.text(x.array) + ")"
	}
	return "(" + d.text(x.l) + " " + x.op + " " + map[bool]string{false: "ANY ", true: "ALL "}[x.all] + r + ")"
}

func (d *describer) caseOf(x *caseExpr) string {
	var b strings.Builder
	b.WriteString("CASE")
	if x.operand != nil {
		b.WriteString(" " + d.text(x.operand))
	}
	for _, w := range x.whens {
		b.WriteString(" WHEN " + d.text(w.cond) + " THEN " + d.text(w.result))
	}
	return b.String() + " ELSE " + d.text(x.orElse) + " END"
}

// subplan prints a subquery by its number.
func (d *describer) subplan(s *subplan) string {
	if !slices.Contains(d.found, s) {
		d.found = append(d.found, s)
	}
	return "(" + d.name(s) + ")"
}

// name names a subquery: an InitPlan runs once, a SubPlan for each row.
func (d *describer) name(s *subplan) string {
	if d.subplans[s] == 0 {
		d.subplans[s] = len(d.subplans) + 1
	}
	if s.correlated {
		return "SubPlan " + strconv.Itoa(d.subplans[s])
	}
	return "InitPlan " + strconv.Itoa(d.subplans[s])
}

// aggregated prints an aggregate.
func (d *describer) aggregated(g *aggregate) string {
	args := "*"
	if g.arg != nil {
		args = map[bool]string{true: "DISTINCT "}[g.distinct] + d.text(g.arg)
	}
	if g.by != nil {
		args += ", " + d.text(g.by)
	}
	if g.order != nil && !g.distinct {
		args += " ORDER BY " + strings.Join(d.sortKeys(g.order), ", ")
	}
	text := g.name + "(" + args + ")"
	if g.filter != nil {
		text += " FILTER (WHERE " + d.text(g.filter) + ")"
	}
	return text
}

func (d *describer) windowCall(x *windowCall) string {
	var over []string
	if len(x.partition) > 0 {
		over = append(over, "PARTITION BY "+strings.Join(d.sortKeys(x.partition), ", "))
	}
	if len(x.order) > 0 {
		over = append(over, "ORDER BY "+strings.Join(d.sortKeys(x.order), ", "))
	}
	return map[bool]string{false: "row_number()", true: "count(*)"}[x.count] + " OVER (" + strings.Join(over, " ") + ")"
}

// sortKeys prints what is sorted by.
func (d *describer) sortKeys(keys []sortKey) []string {
	texts := make([]string, len(keys))
	for i, key := range keys {
		texts[i] = d.text(key.x) + map[bool]string{true: " DESC"}[key.desc]
		if key.nullsFirst != key.desc {
			texts[i] += map[bool]string{false: " NULLS LAST", true: " NULLS FIRST"}[key.nullsFirst]
		}
	}
	return texts
}
