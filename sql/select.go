package sql

import (
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// An output is a column of a result.
type output struct {
	name string
	x    expr
	raw  expr // x before an undecided literal became a text; nil for others
}

// A selectPlan is an analyzed SELECT. At most one of kv and from is set.
type selectPlan struct {
	outs       []output
	kv         *access
	from       *fromPlan // views, functions and subqueries
	filter     expr      // without FROM
	aggregates []aggregate
	group      *grouping   // with GROUP BY or HAVING
	firstOnly  bool        // the aggregates are of the first row alone
	sets       []*callExpr // functions among outs that return sets
	windows    []*windowCall
	nested     bool // a subquery reads kv
	with       []*withTable
	order      []sortKey // nil if rows come in the wanted order
	limit      expr      // nil: all
	offset     expr
}

type sortKey struct {
	x          expr
	desc       bool
	nullsFirst bool
}

func (p *selectPlan) outputs() []output { return p.outs }

// readsTable reports whether the statement needs a transaction.
func (p *selectPlan) readsTable() bool { return p.kv != nil || p.nested }

func (a *analyzer) selectPlan(n *selectStmt) planNode {
	if len(n.with) > 0 {
		defer func(with []*withTable) { a.with = with }(a.with)
		a.withTables(n.with)
	}
	with := a.with[len(a.with)-len(n.with):]
	if probe := existsInKV(n); probe != nil {
		n = probe
	}
	if a.distinctKV(n) {
		n = groupedByAll(n)
	}
	if n.distinct || len(n.orderBy) > 0 && a.returnsSets(n.targets) {
		n = a.overRows(n)
	}
	p := &selectPlan{firstOnly: n.probe != nil, with: with}
	if len(n.from) > 0 {
		a.from(n.from, p)
	}
	switch {
	case a.scope.kv:
		access := planAccess(a.where(n.where), a.scope.relations[0].table)
		p.kv = &access
	case p.from != nil:
		a.whereOf(n.where, p.from)
		p.from.arrange()
	default:
		p.filter = a.where(n.where)
	}
	a.groupBy(n)
	a.targets(n.probe) // for what they may refer to
	a.bare, a.allowed = nil, true
	p.outs = a.targets(n.targets)
	p.outs = p.outs[:len(p.outs)-n.hidden]
	a.allowed = false
	p.group = a.grouping
	if n.having != nil {
		p.group.having = a.boolean(n.having, "HAVING")
	}
	p.order = a.orderBy(n.orderBy, p.outs)
	p.aggregates, p.sets, p.windows = a.aggregates, a.sets, a.windows
	a.checkSets(n, p)
	if (len(p.aggregates) > 0 || p.group != nil) && a.bare != nil {
		a.ungrouped(a.bare)
	}
	if p.group == nil && (p.kv != nil && inKeyOrder(p.order) || len(p.aggregates) > 0) {
		p.order = nil
	}
	p.limit = a.rowCount(n.limit, "LIMIT")
	p.offset = a.rowCount(n.offset, "OFFSET")
	p.nested = a.nested
	return p
}

// existsInKV is SELECT EXISTS (SELECT … FROM kv …), which drivers and people ask, as a SELECT that reads kv by itself:
// nil if n is anything else.
func existsInKV(n *selectStmt) *selectStmt {
	if len(n.targets) != 1 || len(n.from) > 0 || n.where != nil || n.groupBy != nil || n.having != nil || n.distinct || n.with != nil ||
		n.limit != nil || n.offset != nil || n.orderBy != nil {
		return nil
	}
	exists, ok := n.targets[0].expr.(subqueryNode)
	if !ok || exists.kind != subqueryExists {
		return nil
	}
	q := exists.query
	limit, limited := q.limit.(literalNode)
	if len(q.from) != 1 || q.from[0].name != "kv" || q.from[0].call != nil || q.groupBy != nil || q.having != nil || q.with != nil ||
		q.offset != nil || q.limit != nil && (!limited || limit.text == "0") || slices.ContainsFunc(q.targets, func(t target) bool { return !isPlain(t) }) {
		return nil
	}
	t := n.targets[0]
	if t.alias == "" {
		t.alias = "exists"
	}
	t.expr = binaryNode{pos: exists.pos, op: ">", l: callNode{pos: exists.pos, name: "count", star: true}, r: literalNode{pos: exists.pos, kind: tokInt, text: "0"}}
	return &selectStmt{pos: n.pos, targets: []target{t}, from: q.from, where: q.where, probe: append([]target{}, q.targets...)}
}

// isPlain reports whether a target is *, a column or a literal, and so makes no aggregate of the rows.
func isPlain(t target) bool {
	switch t.expr.(type) {
	case nil, literalNode, nullNode, columnNode:
		return true
	}
	return false
}

// ungrouped refuses a column beside aggregates.
func (a *analyzer) ungrouped(n *columnNode) {
	table := n.table
	for _, rel := range a.scope.relations {
		if table == "" && rel.column(n.name, false, 0) != nil {
			table = rel.table
		}
	}
	if a.grouping != nil && a.grouping.distinct {
		a.fail(n.at(), pgwire.CodeInvalidColumnReference, "for SELECT DISTINCT, ORDER BY expressions must appear in select list")
	}
	a.fail(n.at(), pgwire.CodeGroupingError, `column "%s.%s" must appear in the GROUP BY clause or be used in an aggregate function`, table, n.name)
}

// returnsSets reports whether a function among the targets returns a set, or numbers the rows: these are
// sorted afterwards.
func (a *analyzer) returnsSets(targets []target) bool {
	return slices.ContainsFunc(targets, func(t target) bool { return a.hasSet(t.expr) })
}

// hasSet looks for such a function where one may well be; anywhere else sorting is refused.
func (a *analyzer) hasSet(n node) bool {
	switch n := n.(type) {
	case callNode:
		return n.over != nil || slices.ContainsFunc(n.args, a.hasSet) ||
			slices.ContainsFunc(a.catalog.functions(n.name), func(f *Func) bool { return f.set != nil })
	case castNode:
		return a.hasSet(n.x)
	case fieldNode:
		return a.hasSet(n.x)
	case binaryNode:
		return a.hasSet(n.l) || a.hasSet(n.r)
	}
	return false
}

// checkSets refuses what the rows of a set, or their numbers, cannot be combined with.
func (a *analyzer) checkSets(n *selectStmt, p *selectPlan) {
	switch {
	case len(p.sets) > 0 && len(p.windows) > 0, (len(p.aggregates) > 0 || p.group != nil) && len(p.sets)+len(p.windows) > 0:
		a.fail(n.at(), pgwire.CodeFeatureNotSupported, "only one of aggregates, window functions and functions that return sets is supported")
	case len(n.orderBy) > 0 && len(p.sets)+len(p.windows) > 0:
		a.fail(n.at(), pgwire.CodeFeatureNotSupported, "sorting by what returns a set inside another expression is not supported")
	}
}

// inKeyOrder reports whether ascending keys are the order asked for. Nothing follows key: it is
// unique.
func inKeyOrder(order []sortKey) bool {
	return len(order) > 0 && isKey(order[0].x) && !order[0].desc
}

func (a *analyzer) where(n node) expr {
	if n == nil {
		return nil
	}
	a.noAggregate = "WHERE"
	defer func() { a.noAggregate = "" }()
	return a.boolean(n, "WHERE")
}

func (a *analyzer) targets(list []target) []output {
	outs := make([]output, 0, len(list))
	for _, t := range list {
		if t.expr == nil {
			outs = append(outs, a.star(t)...)
			continue
		}
		if field, ok := t.expr.(fieldNode); ok && field.name == "" {
			outs = append(outs, a.recordStar(field)...)
			continue
		}
		name := t.alias
		if name == "" {
			name = columnLabel(t.expr)
		}
		out := output{name: name, x: a.expr(t.expr)}
		if literal, ok := out.x.(*constExpr); ok && literal.t == Unknown {
			out.raw = literal
		}
		out.x = a.text(out.x, t.expr.at())
		outs = append(outs, out)
	}
	if len(outs) > maxTargets {
		panic(pgwire.Errorf(pgwire.CodeTooManyColumns, "target lists can have at most %d entries", maxTargets))
	}
	a.count(len(outs))
	return outs
}

// maxTargets is how many columns a result can have, as in PostgreSQL. A message counts them in 16 bits.
const maxTargets = 1664

func (a *analyzer) star(t target) []output {
	a.checkTable(t.table, t.at())
	if len(a.scope.relations) == 0 {
		a.fail(t.at(), pgwire.CodeSyntaxError, "SELECT * with no tables specified is not valid")
	}
	var outs []output
	for i := range a.scope.relations {
		rel := &a.scope.relations[i]
		if t.table != "" && t.table != rel.table {
			continue
		}
		a.columnRef++
		if t.table == "" {
			outs = append(outs, a.mergedStar(t, i)...)
		}
		outs = append(outs, a.relationStar(t, rel)...)
	}
	return outs
}

// mergedStar is what * lists first of the relations that are joined from number tree on: the columns that USING has merged.
func (a *analyzer) mergedStar(t target, tree int) (outs []output) {
	for _, m := range a.scope.merged {
		if m.tree == tree {
			outs = append(outs, output{name: m.name, x: a.typed(a.mergedNode(columnName{t.pos, m.name}, m.of))})
		}
	}
	return outs
}

// relationStar is * of a relation.
func (a *analyzer) relationStar(t target, rel *relation) (outs []output) {
	for i, c := range rel.columns {
		if t.table == "" && slices.Contains(rel.merged, c.Name) {
			continue
		}
		switch {
		case a.grouping != nil:
			outs = append(outs, output{name: c.Name, x: a.typed(columnNode{pos: t.pos, table: rel.table, name: c.Name})})
			continue
		case a.bare == nil:
			a.bare = &columnNode{pos: t.pos, table: rel.table, name: c.Name}
		}
		if a.scope.kv {
			outs = append(outs, output{name: c.Name, x: &kvColumn{index: i, table: rel.table}})
		} else {
			outs = append(outs, output{name: c.Name, x: &viewColumn{rel.offset + i, 0, c.Type, rel.table, c.Name}})
		}
	}
	return outs
}

// columnLabel names a result column that has no alias, as PostgreSQL does (FigureColname): after what it is, or else after
// what is done to that.
func columnLabel(n node) string {
	if label := ownLabel(n); label != "" {
		return label
	}
	switch n := n.(type) {
	case castNode:
		return internalName(n.typ)
	case caseNode:
		return "case"
	case subqueryNode:
		if len(n.query.targets) > 0 && n.query.targets[0].expr != nil {
			return columnLabel(n.query.targets[0].expr)
		}
	case subscriptNode:
		return columnLabel(n.x)
	case collateNode:
		return columnLabel(n.x)
	}
	return "?column?"
}

// ownLabel is the name of what an expression is made of, "" if that has none.
func ownLabel(n node) string {
	switch n := n.(type) {
	case columnNode:
		return n.name
	case callNode:
		return n.name[strings.LastIndexByte(n.name, '.')+1:]
	case castNode:
		return ownLabel(n.x)
	case caseNode:
		return ownLabel(n.orElse)
	case subqueryNode:
		switch {
		case n.kind == subqueryExists:
			return "exists"
		case n.kind == subqueryArray:
			return "array"
		case len(n.query.targets) > 0 && n.query.targets[0].alias != "":
			return n.query.targets[0].alias
		case len(n.query.targets) > 0:
			return ownLabel(n.query.targets[0].expr)
		}
	case arrayNode:
		return "array"
	case subscriptNode:
		return ownLabel(n.x)
	case collateNode:
		return ownLabel(n.x)
	case fieldNode:
		return n.name
	}
	return ""
}

// internalName is the name of a type in pg_type, an array's after its elements.
func internalName(t Type) string {
	if elem := t.elem(); elem != 0 && t != Int2Vector && t != OIDVector {
		t = elem
	}
	return typeInfos[t].typname
}

// orderBy resolves sort keys: a number or a bare name may mean a column of the result.
func (a *analyzer) orderBy(items []orderItem, outs []output) []sortKey {
	var keys []sortKey
	for _, item := range items {
		key := sortKey{desc: item.desc, nullsFirst: item.nullsFirst}
		if i := a.outputPosition(item.expr, outs); i >= 0 {
			key.x = outs[i].x
		} else {
			key.x = a.typed(item.expr)
		}
		keys = append(keys, key)
	}
	return keys
}

func (a *analyzer) outputPosition(n node, outs []output) int {
	switch n := n.(type) {
	case literalNode:
		if n.kind == tokString {
			a.fail(n.at(), pgwire.CodeSyntaxError, "non-integer constant in ORDER BY")
		}
		i, err := parseInt(n.text, Int4)
		if err != nil {
			a.fail(n.at(), pgwire.CodeSyntaxError, "non-integer constant in ORDER BY")
		}
		if i.n < 1 || i.n > int64(len(outs)) {
			a.fail(n.at(), pgwire.CodeInvalidColumnReference, "ORDER BY position %d is not in select list", i.n)
		}
		return int(i.n - 1)
	case columnNode:
		if n.table == "" {
			return a.namedOutput(n, outs)
		}
	}
	return -1
}

// namedOutput finds the column of the result that ORDER BY names; if several are called so they must be the same.
func (a *analyzer) namedOutput(n columnNode, outs []output) int {
	found := -1
	for i, o := range outs {
		switch {
		case o.name != n.name:
		case found < 0:
			found = i
		case !reflect.DeepEqual(o.x, outs[found].x):
			a.fail(n.at(), pgwire.CodeAmbiguousColumn, `ORDER BY "%s" is ambiguous`, n.name)
		}
	}
	return found
}

// rowCount analyzes LIMIT and OFFSET, which see no columns.
func (a *analyzer) rowCount(n node, clause string) expr {
	if n == nil {
		return nil
	}
	saved := a.scope
	a.scope, a.noAggregate = scope{outer: saved.outer}, clause
	defer func() { a.scope = saved }()
	x := a.expr(n)
	switch {
	case x.typ() == Unknown || x.typ().isNumber():
		return a.coerce(x, Int8, n.at())
	default:
		a.fail(n.at(), pgwire.CodeDatatypeMismatch, "argument of %s must be type bigint, not type %s", clause, x.typ())
	}
	return nil
}

// window evaluates OFFSET and LIMIT.
func (p *selectPlan) window(e *env) (offset, limit int64, err error) {
	limit = math.MaxInt64
	if p.limit != nil {
		v, err := p.limit.eval(e)
		if err != nil {
			return 0, 0, err
		}
		if v.n < 0 {
			return 0, 0, pgwire.Errorf(pgwire.CodeInvalidRowCountInLimit, "LIMIT must not be negative")
		}
		if !v.IsNull() {
			limit = v.n
		}
	}
	if p.offset != nil {
		v, err := p.offset.eval(e)
		if err != nil {
			return 0, 0, err
		}
		if v.n < 0 {
			return 0, 0, pgwire.Errorf(pgwire.CodeInvalidRowCountInOffset, "OFFSET must not be negative")
		}
		offset = v.n
	}
	return offset, limit, nil
}
