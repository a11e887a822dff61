package sql

import (
	"iter"
	"slices"
	"strconv"

	"github.com/longship-db/longship/pgwire"
)

// A subplan is a SELECT inside another statement.
type subplan struct {
	plan       *selectPlan
	correlated bool // refers to columns of the queries around it
}

// subplanSlack is how many subqueries may be analyzed more than a statement has bytes. What DISTINCT and GROUP BY list is
// analyzed twice, subqueries and all, which doubles with each level.
const subplanSlack = 4096

// subplan analyzes a query with a level of its own.
func (a *analyzer) subplan(n *selectStmt) *subplan {
	if a.subplans++; a.subplans > subplanSlack+len(a.src) {
		a.fail(n.at(), pgwire.CodeStatementTooComplex, "too many subqueries inside each other")
	}
	saved := a.queryLevel
	a.queryLevel = queryLevel{scope: scope{outer: &saved.scope}}
	s := &subplan{plan: a.selectPlan(n).(*selectPlan)}
	s.correlated = a.outerRef
	a.queryLevel = saved
	if s.correlated && a.grouping != nil && a.scope.kv {
		a.alone(n.at(), "a subquery about a row of kv, in a query with GROUP BY or HAVING,")
	}
	if s.correlated {
		// Whatever it refers to, it is not the same for every row.
		a.columnRef++
		a.outerRef = a.outerRef || a.scope.outer != nil
	}
	return s
}

// rows runs the query. What is the same for every row runs once in a statement.
func (s *subplan) rows(e *env) ([][]Value, error) {
	if err := e.ctx.Err(); err != nil { // the loops of queries inside each other are short, and many
		return nil, err
	}
	top := e.top()
	if rows, done := top.subqueries[s]; done {
		return rows, nil
	}
	before, kept := e.held(), top.kept
	rows, err := s.plan.collect(&env{ctx: e.ctx, session: e.session, params: e.params, outer: e})
	if err != nil {
		return nil, err
	}
	if s.correlated { // they are used and let go, but for what is kept of the queries inside
		return rows, e.hold(before + top.kept - kept - e.held())
	}
	if top.subqueries == nil {
		top.subqueries = map[*subplan][][]Value{}
	}
	top.subqueries[s] = rows
	top.kept = kept + e.held() - before
	return rows, nil
}

// A derivedSource is a subquery in FROM, or the arms of a UNION.
type derivedSource struct {
	arms     []*subplan
	distinct []bool
	values   bool // VALUES
}

// derived analyzes a relation made of SELECTs, whose columns must agree.
func (a *analyzer) derived(n *derivedNode) (source, []Column, bool) {
	s := &derivedSource{distinct: n.distinct, values: n.values}
	lateral := false
	for _, arm := range n.arms {
		sub := a.subplan(arm)
		s.arms = append(s.arms, sub)
		lateral = lateral || sub.correlated
		if i := len(sub.plan.outs); i != len(s.arms[0].plan.outs) {
			a.fail(arm.at(), pgwire.CodeSyntaxError, "each UNION query must have the same number of columns")
		}
	}
	columns := make([]Column, len(s.arms[0].plan.outs))
	for i, out := range s.arms[0].plan.outs {
		columns[i] = Column{out.name, a.unionType(s, n, i)}
	}
	return s, columns, lateral
}

// unionType finds the type that column i of all arms converts to.
func (a *analyzer) unionType(s *derivedSource, n *derivedNode, i int) Type {
	exprs, nodes := make([]expr, len(s.arms)), make([]node, len(s.arms))
	for k, arm := range s.arms {
		exprs[k], nodes[k] = arm.plan.outs[i].x, n.arms[k].pos
		if raw := arm.plan.outs[i].raw; raw != nil && len(s.arms) > 1 {
			exprs[k] = raw
			if targets := n.arms[k].targets; i < len(targets) && targets[i].expr != nil {
				nodes[k] = targets[i].expr
			}
		}
	}
	t := a.common("UNION", exprs, nodes)
	for k, arm := range s.arms {
		arm.plan.outs[i].x = exprs[k]
	}
	return t
}

func (s *derivedSource) tuples(e *env) ([][]Value, error) {
	var all [][]Value
	for i, arm := range s.arms {
		rows, err := arm.rows(e)
		if err != nil {
			return nil, err
		}
		if all = append(all, rows...); len(all) > maxDerivedRows {
			return nil, tooManyRows()
		}
		if s.distinct[i] {
			if all, err = distinctRows(all, e); err != nil {
				return nil, err
			}
			e.session.meter.given(uniquePart{s, i}, len(all))
		}
	}
	if s.values {
		e.session.meter.given(s, len(all))
	}
	return all, nil
}

// distinctRows keeps the first of equal rows.
func distinctRows(rows [][]Value, e *env) ([][]Value, error) {
	seen := make(map[string]bool, len(rows))
	kept := rows[:0:0]
	for _, row := range rows {
		key := groupKey(row, e)
		if err := e.step(rowCost + len(key)); err != nil {
			return nil, err
		}
		if !seen[key] {
			seen[key] = true
			kept = append(kept, row)
		}
	}
	return kept, nil
}

// overRows turns SELECT DISTINCT … ORDER BY into a selection from the distinct rows, and so it does for
// functions in the select list that return sets, so that what they return can be sorted.
func (a *analyzer) overRows(n *selectStmt) *selectStmt {
	inner := *n
	inner.distinct, inner.orderBy, inner.limit, inner.offset, inner.with = false, nil, nil, nil, nil
	outer := &selectStmt{pos: n.pos, targets: []target{{pos: n.pos}}, limit: n.limit, offset: n.offset}
	for i, item := range n.orderBy {
		column, ok := item.expr.(columnNode)
		switch {
		case !n.distinct && !namesTarget(item.expr, n.targets): // the rows are sorted by a column that nobody sees
			hidden := columnNode{pos: pos(item.expr.at()), name: "\x00" + strconv.Itoa(i)}
			inner.targets = append(slices.Clip(inner.targets), target{pos: hidden.pos, expr: item.expr, alias: hidden.name})
			item.expr = hidden
			outer.hidden++
		case ok && column.table != "":
			item.expr = a.sameColumn(column, n)
		}
		outer.orderBy = append(outer.orderBy, item)
	}
	query := &derivedNode{arms: []*selectStmt{&inner}, distinct: []bool{n.distinct}}
	outer.from = []fromItem{{tableRef: tableRef{pos: n.pos, alias: "distinct", query: query}}}
	return outer
}

// namesTarget reports whether an item of ORDER BY is the number or the name of a target.
func namesTarget(item node, targets []target) bool {
	switch item := item.(type) {
	case literalNode:
		return true
	case columnNode:
		return item.table == "" && slices.ContainsFunc(targets, func(t target) bool {
			return t.alias == item.name || t.alias == "" && t.expr != nil && columnLabel(t.expr) == item.name
		})
	}
	return false
}

// sameColumn finds a column among the targets, by its place.
func (a *analyzer) sameColumn(column columnNode, n *selectStmt) node {
	for i, t := range n.targets {
		if c, ok := t.expr.(columnNode); ok && c.table == column.table && c.name == column.name {
			return literalNode{pos: column.pos, kind: tokInt, text: strconv.Itoa(i + 1)}
		}
	}
	a.fail(column.at(), pgwire.CodeInvalidColumnReference, "for SELECT DISTINCT, ORDER BY expressions must appear in select list")
	return nil
}

// A subqueryExpr is a subquery as a value: one row's, whether there is any, or all as an array.
type subqueryExpr struct {
	*subplan
	kind   subqueryKind
	t      Type
	column int // of subqueryList
}

func (x *subqueryExpr) typ() Type { return x.t }

func (a *analyzer) subquery(n subqueryNode) expr {
	x := &subqueryExpr{subplan: a.subplan(n.query), kind: n.kind, t: Bool}
	if n.kind == subqueryExists {
		x.plan.atMost(1)
		x.plan.forgetOutputs()
		return x
	}
	if len(x.plan.outs) != 1 {
		a.fail(n.at(), pgwire.CodeSyntaxError, "subquery must return only one column")
	}
	if n.kind == subqueryValue {
		x.plan.atMost(2) // the second is an error
	}
	x.t = x.plan.outs[0].x.typ()
	if n.kind == subqueryArray {
		if x.t = arrayOf(x.t); x.t == 0 {
			a.fail(n.at(), pgwire.CodeUndefinedObject, "could not find array type for data type %s", x.plan.outs[0].x.typ())
		}
	}
	return x
}

// atMost limits a query to as many rows as anybody asks for.
func (p *selectPlan) atMost(rows int64) {
	if p.limit == nil {
		p.limit = &constExpr{Int8, Int8Value(rows)}
	}
}

// forgetOutputs makes the rows of EXISTS empty: as in PostgreSQL what it selects is not computed.
func (p *selectPlan) forgetOutputs() {
	if len(p.aggregates)+len(p.sets)+len(p.windows) == 0 && p.group == nil {
		p.outs = nil
	}
}

func (x *subqueryExpr) eval(e *env) (Value, error) {
	rows, err := x.rows(e)
	if err != nil {
		return Null, err
	}
	switch {
	case x.kind == subqueryExists:
		return BoolValue(len(rows) > 0), nil
	case x.kind == subqueryArray:
		return arrayOfRows(x.t, rows, e)
	case len(rows) > 1:
		return Null, pgwire.Errorf(pgwire.CodeCardinalityViolation, "more than one row returned by a subquery used as an expression")
	case len(rows) == 0:
		return Null, nil
	}
	return rows[0][0], nil
}

// arrayOfRows makes an array of the rows of a subquery.
func arrayOfRows(t Type, rows [][]Value, e *env) (Value, error) {
	if len(rows) > maxArrayLen {
		return Null, arrayTooLong()
	}
	size := 0
	for _, row := range rows {
		if size += len(row[0].s); size > maxTextLen {
			return Null, textTooLong()
		}
	}
	return holding(e.hold, arraySize(int64(len(rows))), func() (Value, error) {
		return arrayOfValues(t, slices.Collect(firstColumn(rows)), e.loc(), &e.session.pace)
	})
}

// An anyExpr is l op ANY or ALL of the elements of an array, or of the rows of a subquery.
type anyExpr struct {
	op    string
	l     expr
	array expr     // or
	sub   *subplan // one of them
	all   bool
	refs  relations // that the array, or the subquery, depends on
}

func (x *anyExpr) typ() Type { return Bool }

// anyOf analyzes op ANY and op ALL. An array without a type gets that of the other side.
func (a *analyzer) anyOf(n anyNode) expr {
	x := &anyExpr{op: n.op, l: a.expr(n.l), all: n.all}
	elem := &constExpr{t: Unknown}
	if sub, ok := n.r.(subqueryNode); ok && sub.kind == subqueryList {
		x.refs = a.referred(func() { x.sub = a.subplan(sub.query) })
		if len(x.sub.plan.outs) != 1 {
			a.fail(n.at(), pgwire.CodeSyntaxError, "subquery has too many columns")
		}
		elem.t = x.sub.plan.outs[0].x.typ()
		x.l, _ = a.unify(x.l, elem, n.l, n.r, n.op, n.at())
		return x
	}
	x.array, x.refs = a.counted(n.r)
	if x.array.typ() == Unknown {
		t := arrayOf(a.text(x.l, n.l.at()).typ())
		if t == 0 {
			a.fail(n.at(), pgwire.CodeUndefinedObject, "could not find array type for data type %s", x.l.typ())
		}
		x.array = a.coerce(x.array, t, n.r.at())
	}
	if x.array.typ().elem() == 0 {
		a.fail(n.at(), pgwire.CodeWrongObjectType, "op ANY/ALL (array) requires array on right side")
	}
	elem.t = x.array.typ().elem()
	x.l, _ = a.unify(x.l, elem, n.l, n.r, n.op, n.at())
	return x
}

func (x *anyExpr) eval(e *env) (Value, error) {
	l, err := x.l.eval(e)
	if err != nil {
		return Null, err
	}
	values, err := x.values(e, l)
	if err != nil || values == nil {
		return Null, err
	}
	unknown := false
	for v := range values {
		if err := e.step(elementCost); err != nil {
			return Null, err
		}
		switch {
		case l.IsNull() || v.IsNull():
			unknown = true
		case holds(x.op, compareValues(l, v)) != x.all:
			return BoolValue(!x.all), nil
		}
	}
	if unknown {
		return Null, nil
	}
	return BoolValue(x.all), nil
}

// values are what l is compared with, nil if there is no array.
func (x *anyExpr) values(e *env, l Value) (iter.Seq[Value], error) {
	if x.sub != nil {
		rows, err := x.sub.rows(e)
		return firstColumn(rows), err
	}
	v, err := e.beside(x.array, l)
	if err != nil || v.IsNull() {
		return nil, err
	}
	return func(yield func(Value) bool) {
		for text := range v.elements() {
			if elem, _ := v.element(text); !yield(elem) { // they have been read before
				return
			}
		}
	}, nil
}

func firstColumn(rows [][]Value) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		for _, row := range rows {
			if !yield(row[0]) {
				return
			}
		}
	}
}

// An arrayExpr is ARRAY[…].
type arrayExpr struct {
	elems []expr
	t     Type
}

func (x *arrayExpr) typ() Type { return x.t }

func (a *analyzer) array(n arrayNode) expr {
	x := &arrayExpr{}
	for _, elem := range n.elems {
		x.elems = append(x.elems, a.expr(elem))
	}
	t := a.common("ARRAY", x.elems, n.elems)
	if x.t = arrayOf(t); x.t == 0 {
		a.fail(n.at(), pgwire.CodeUndefinedObject, "could not find array type for data type %s", t)
	}
	return x
}

func (x *arrayExpr) eval(e *env) (Value, error) {
	values, making := make([]Value, len(x.elems)), unfinished{e: e}
	defer making.done()
	for i, elem := range x.elems {
		var err error
		if values[i], err = making.value(elem); err != nil {
			return Null, err
		}
	}
	return bounded(arrayOfValues(x.t, values, e.loc(), &e.session.pace))
}

// A subscriptExpr is x[index], of an array or of a name, whose bytes are counted from 0.
type subscriptExpr struct{ x, index expr }

func (x *subscriptExpr) typ() Type {
	if x.x.typ() == Name {
		return Char
	}
	return x.x.typ().elem()
}

func (a *analyzer) subscript(n subscriptNode) expr {
	x := &subscriptExpr{a.expr(n.x), a.expr(n.index)}
	if x.typ() == 0 {
		a.fail(n.x.at(), pgwire.CodeDatatypeMismatch, "cannot subscript type %s because it does not support subscripting", x.x.typ())
	}
	if t := x.index.typ(); t != Unknown && (!t.isNumber() || numberRank(t) > numberRank(Int4)) {
		a.fail(n.index.at(), pgwire.CodeDatatypeMismatch, "array subscript must have type integer")
	}
	x.index = a.coerce(x.index, Int4, n.index.at())
	return x
}

func (x *subscriptExpr) eval(e *env) (Value, error) {
	v, i, ok, err := evalPair(e, x.x, x.index)
	if !ok {
		return Null, err
	}
	if x.x.typ() == Name {
		return byteOf(v.s, i.n), nil
	}
	at := i.n - v.lowerBound()
	if at < 0 || at >= v.n {
		return Null, nil
	}
	for text := range v.elements() {
		if at--; at < 0 {
			return v.element(text)
		}
	}
	return Null, nil
}

// byteOf is byte i of a name, which are 64 with the zeros at its end. One that is no character by itself is none here.
func byteOf(name string, i int64) Value {
	switch {
	case i < 0 || i >= int64(typeInfos[Name].size):
		return Null
	case i >= int64(len(name)):
		return charValue("")
	}
	return charValue(name[i : i+1])
}

// collate allows the one collation there is, under its names.
func (a *analyzer) collate(n collateNode) expr {
	x := a.text(a.expr(n.x), n.x.at())
	switch {
	case x.typ().family() != familyText:
		a.fail(n.at(), pgwire.CodeDatatypeMismatch, "collations are not supported by type %s", x.typ())
	case n.name != "default" && n.name != "C" && n.name != "POSIX" && n.name != "ucs_basic":
		panic(errorAt(a.src, n.at(), pgwire.CodeUndefinedObject, `collation "%s" for encoding "UTF8" does not exist`, n.name).
			WithHint(`Text compares byte by byte: the collation is "C".`))
	}
	return x
}
