package sql

import (
	"math"
	"slices"

	"github.com/longship-db/longship/pgwire"
)

// An output is a column of a result.
type output struct {
	name string
	x    expr
}

// A selectPlan is an analyzed SELECT. Of kv, view and call at most one is set.
type selectPlan struct {
	outs       []output
	kv         *access
	view       *view
	call       *callExpr // FROM f(…)
	filter     expr      // of a view's rows, or without FROM
	aggregates []aggregate
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
func (p *selectPlan) readsTable() bool { return p.kv != nil }

func (a *analyzer) selectPlan(n *selectStmt) planNode {
	p := &selectPlan{}
	if n.from != nil {
		a.from(n.from, p)
	}
	where := a.where(n.where)
	if n.from != nil && a.scope.kv {
		access := planAccess(where)
		p.kv = &access
	} else {
		p.filter = where
	}
	a.bare = nil
	p.outs = a.targets(n.targets)
	p.order = a.orderBy(n.orderBy, n.targets, p.outs)
	p.aggregates = a.aggregates
	if len(p.aggregates) > 0 && a.bare != nil {
		a.fail(a.bare.at(), pgwire.CodeGroupingError,
			`column "%s.%s" must appear in the GROUP BY clause or be used in an aggregate function`, a.scope.table, a.bare.name)
	}
	if p.kv != nil && inKeyOrder(p.order) || len(p.aggregates) > 0 {
		p.order = nil
	}
	p.limit = a.rowCount(n.limit, "LIMIT")
	p.offset = a.rowCount(n.offset, "OFFSET")
	return p
}

// inKeyOrder reports whether ascending keys are the order asked for. Nothing follows key: it is
// unique.
func inKeyOrder(order []sortKey) bool {
	return len(order) > 0 && isKey(order[0].x) && !order[0].desc
}

// from resolves a relation and makes its columns visible.
func (a *analyzer) from(ref *tableRef, p *selectPlan) {
	a.scope = scope{table: ref.name, relation: ref.name}
	if ref.alias != "" {
		a.scope.table = ref.alias
	}
	switch view := a.catalog.views[ref.name]; {
	case ref.call != nil:
		a.fromCall(ref, p)
	case ref.name == "kv":
		a.scope.kv, a.scope.columns = true, kvColumns
	case view != nil:
		p.view, a.scope.columns = view, view.columns
	default:
		a.fail(ref.at(), pgwire.CodeUndefinedTable, `relation "%s" does not exist`, ref.name)
	}
}

// fromCall makes a function's result a relation of one row.
func (a *analyzer) fromCall(ref *tableRef, p *selectPlan) {
	outer := a.scope
	a.scope, a.noAggregate = scope{}, "functions in FROM"
	call, ok := a.call(*ref.call).(*callExpr)
	if !ok {
		a.fail(ref.at(), pgwire.CodeSyntaxError, `syntax error at or near "("`)
	}
	a.scope, a.noAggregate = outer, ""
	p.call = call
	a.scope.columns = call.fn.Columns
	if call.fn.Row == nil {
		a.scope.columns = []Column{{a.scope.table, call.fn.Result}}
	}
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
		name := t.alias
		if name == "" {
			name = columnLabel(t.expr)
		}
		outs = append(outs, output{name, a.typed(t.expr)})
	}
	return outs
}

func (a *analyzer) star(t target) []output {
	a.checkTable(t.table, t.at())
	if a.scope.table == "" {
		a.fail(t.at(), pgwire.CodeSyntaxError, "SELECT * with no tables specified is not valid")
	}
	outs := make([]output, len(a.scope.columns))
	for i, c := range a.scope.columns {
		outs[i] = output{c.Name, a.column(columnNode{pos: t.pos, name: c.Name})}
	}
	return outs
}

// columnLabel names a result column that has no alias, as PostgreSQL does (FigureColname).
func columnLabel(n node) string {
	switch n := n.(type) {
	case columnNode:
		return n.name
	case callNode:
		return n.name
	case castNode:
		if _, nested := n.x.(castNode); !nested {
			if label := columnLabel(n.x); label != "?column?" {
				return label
			}
		}
		return internalName(n.typ)
	case caseNode:
		if n.orElse != nil {
			if label := columnLabel(n.orElse); label != "?column?" {
				return label
			}
		}
		return "case"
	}
	return "?column?"
}

// internalName is the name of a type in pg_type, where it differs from the one in messages.
func internalName(t Type) string {
	for name, typ := range map[string]Type{
		"bool": Bool, "int2": Int2, "int4": Int4, "int8": Int8, "float8": Float8, "varchar": Varchar, "timestamptz": Timestamptz,
	} {
		if typ == t {
			return name
		}
	}
	return t.String()
}

// orderBy resolves sort keys: a number or a bare name may mean a column of the result.
func (a *analyzer) orderBy(items []orderItem, targets []target, outs []output) []sortKey {
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
			return slices.IndexFunc(outs, func(o output) bool { return o.name == n.name })
		}
	}
	return -1
}

// rowCount analyzes LIMIT and OFFSET, which see no columns.
func (a *analyzer) rowCount(n node, clause string) expr {
	if n == nil {
		return nil
	}
	a.scope, a.noAggregate = scope{}, clause
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
