package sql

import (
	"slices"

	"github.com/longship-db/longship/pgwire"
)

// A withTable is a query of WITH as a relation.
type withTable struct {
	name    string
	columns []Column
	source  source
	changes bool // it depends on a row of the queries around it, or is the result so far of its own query
	used    bool // it has been selected from
	nested  bool // it reads kv
	depth   int  // how many queries are around the one that it is for
}

// A withSource is a query of WITH where it is selected from: so many queries further in than it stands itself.
type withSource struct {
	source
	further int
	name    string
}

func (s withSource) tuples(e *env) ([][]Value, error) { return s.source.tuples(e.at(s.further)) }

// depth is how many queries are around the one that is being analyzed.
func (a *analyzer) depth() (n int) {
	for sc := a.scope.outer; sc != nil; sc = sc.outer {
		n++
	}
	return n
}

// withTable finds a query of WITH, nil if there is none of that name.
func (a *analyzer) withTable(name string) *withTable {
	for _, w := range slices.Backward(a.with) {
		if w.name == name {
			return w
		}
	}
	return nil
}

// withTables makes the queries of WITH known, one after the other. None of them sees the columns of what they are for.
func (a *analyzer) withTables(list []withQuery) {
	saved, nested := a.queryLevel, a.nested
	a.with = slices.Clone(a.with)
	for i := range list {
		a.queryLevel = queryLevel{scope: scope{outer: saved.scope.outer}}
		w := &withTable{name: list[i].name, depth: a.depth()}
		a.nested = false
		if arms := list[i].recursion(); arms == nil || !a.recursive(w, &list[i], arms) {
			w.source, w.columns, _ = a.derived(list[i].query)
			w.columns = a.withColumns(&list[i], w.columns)
		}
		w.changes, w.nested = a.outerRef, a.nested
		a.with = append(a.with, w)
	}
	a.queryLevel, a.nested = saved, nested
}

// withColumns gives the columns of a query of WITH the names that it lists.
func (a *analyzer) withColumns(w *withQuery, columns []Column) []Column {
	rel := relation{table: w.name, columns: columns}
	if len(w.columns) > len(columns) {
		a.fail(w.at(), pgwire.CodeInvalidColumnReference, `WITH query "%s" has %d columns available but %d columns specified`, w.name, len(columns), len(w.columns))
	}
	a.renameColumns(&w.tableRef, &rel)
	return rel.columns
}

// recursion is the arms of a query whose last one selects from itself; nil if it may not.
func (w *withQuery) recursion() *derivedNode {
	s := w.query.arms[0]
	if !w.recursive || len(s.with) > 0 {
		return nil
	}
	return s.arms
}

// A recursion is a query of WITH RECURSIVE: its last arm is run on what it has added, until that is nothing.
type recursion struct {
	name     string
	start    source // the other arms
	step     *subplan
	distinct bool
}

// tuples are the rows that the last run has added: what the query itself sees.
func (r *recursion) tuples(e *env) ([][]Value, error) { return e.top().added[r], nil }

// A recursionResult is all rows of a recursion.
type recursionResult struct{ *recursion }

// recursive analyzes a query that may select from itself, and reports whether it does.
func (a *analyzer) recursive(w *withTable, n *withQuery, arms *derivedNode) bool {
	last := len(arms.arms) - 1
	r := &recursion{name: w.name, distinct: arms.distinct[last]}
	r.start, w.columns, _ = a.derived(&derivedNode{arms: arms.arms[:last], distinct: arms.distinct[:last]})
	w.columns = a.withColumns(n, w.columns)
	w.source, w.changes = r, true
	a.with = append(a.with, w)
	before := a.outerRef
	r.step = a.subplan(arms.arms[last])
	a.outerRef = before || a.scope.outer != nil // of the step it is known that it refers to the result so far
	a.with = a.with[:len(a.with)-1]
	if !w.used {
		return false
	}
	if s := n.query.arms[0]; s.orderBy != nil || s.limit != nil || s.offset != nil {
		a.fail(s.at(), pgwire.CodeFeatureNotSupported, "ORDER BY, LIMIT and OFFSET in a recursive query are not supported")
	}
	w.source = recursionResult{r}
	if len(r.step.plan.outs) != len(w.columns) {
		a.fail(arms.arms[last].at(), pgwire.CodeSyntaxError, "each UNION query must have the same number of columns")
	}
	for i, out := range r.step.plan.outs {
		if out.raw != nil {
			out.x = a.coerce(out.raw, w.columns[i].Type, n.at())
			r.step.plan.outs[i].x = out.x
		}
		if t := out.x.typ(); t != w.columns[i].Type {
			a.fail(n.at(), pgwire.CodeDatatypeMismatch, `recursive query "%s" column %d has type %s in non-recursive term but type %s overall`, w.name, i+1, w.columns[i].Type, t)
		}
	}
	return true
}

func (r recursionResult) tuples(e *env) ([][]Value, error) {
	m := e.session.meter
	p, before := m.begin(r.recursion)
	all, err := r.run(e)
	m.count(p, int64(len(all)))
	m.end(p, before)
	return all, err
}

func (r *recursion) run(e *env) ([][]Value, error) {
	all, err := r.start.tuples(e)
	if err != nil {
		return nil, err
	}
	if r.distinct {
		if all, err = distinctRows(all, e); err != nil {
			return nil, err
		}
	}
	top := e.top()
	if top.added == nil {
		top.added = map[*recursion][][]Value{}
	}
	defer delete(top.added, r)
	for top.added[r] = all; len(top.added[r]) > 0; {
		if err := e.ctx.Err(); err != nil {
			return nil, err
		}
		rows, err := r.step.plan.collect(&env{ctx: e.ctx, session: e.session, params: e.params, outer: e})
		if err != nil {
			return nil, err
		}
		before := len(all)
		if all = append(all[:before:before], rows...); len(all) > maxDerivedRows {
			return nil, tooManyRows()
		}
		if r.distinct {
			if all, err = distinctRows(all, e); err != nil {
				return nil, err
			}
		}
		top.added[r] = all[before:]
	}
	return all, nil
}
