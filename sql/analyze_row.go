package sql

import "github.com/longship-db/longship/pgwire"

// Rows are compared part by part (PostgreSQL 15 manual, "Row and Array Comparisons"). A comparison is analyzed as the
// conditions on the parts that it stands for, so that one on key is looked up as any other.

// rowComparison is l op r of two rows.
func (a *analyzer) rowComparison(n binaryNode, l, r rowNode) expr {
	switch {
	case len(l.args) != len(r.args):
		a.fail(n.at(), pgwire.CodeSyntaxError, "unequal number of entries in row expressions")
	case len(l.args) == 0:
		a.fail(n.at(), pgwire.CodeFeatureNotSupported, "cannot compare rows of zero length")
	}
	return a.expr(comparedRows(n.pos, n.op, l.args, r.args))
}

// comparedRows is the condition that two rows fulfil an operator. (a, b) < (c, d) is a < c OR a = c AND b < d.
func comparedRows(at pos, op string, l, r []node) node {
	if op == "=" || op == "<>" {
		all := logicNode{pos: at, and: op == "="}
		for i := range l {
			all.args = append(all.args, binaryNode{pos: at, op: op, l: l[i], r: r[i]})
		}
		return all
	}
	last := len(l) - 1
	var cond node = binaryNode{pos: at, op: op, l: l[last], r: r[last]}
	for i := last - 1; i >= 0; i-- {
		same := binaryNode{pos: at, op: "=", l: l[i], r: r[i]}
		cond = logicNode{pos: at, args: []node{
			binaryNode{pos: at, op: op[:1], l: l[i], r: r[i]},
			logicNode{pos: at, and: true, args: []node{same, cond}},
		}}
	}
	return cond
}

// rowIn is (a, b) IN ((c, d), …).
func (a *analyzer) rowIn(n inNode, x rowNode) expr {
	any := logicNode{pos: n.pos}
	for _, item := range n.list {
		row, ok := item.(rowNode)
		switch {
		case !ok:
			a.rowAlone(x)
		case len(row.args) != len(x.args):
			a.fail(n.at(), pgwire.CodeSyntaxError, "unequal number of entries in row expressions")
		}
		any.args = append(any.args, comparedRows(n.pos, "=", x.args, row.args))
	}
	return a.expr(any)
}

// A rowAnyExpr is (a, b) IN (SELECT …).
type rowAnyExpr struct {
	l    []expr
	sub  *subplan
	refs relations // that the subquery depends on
}

func (x *rowAnyExpr) typ() Type { return Bool }

// rowInQuery analyzes (a, b) IN (SELECT …).
func (a *analyzer) rowInQuery(n inNode, row rowNode) expr {
	x := &rowAnyExpr{}
	for _, part := range row.args {
		x.l = append(x.l, a.expr(part))
	}
	x.refs = a.referred(func() { x.sub = a.subplan(n.sub.query) })
	outs := x.sub.plan.outs
	switch {
	case len(outs) < len(x.l):
		a.fail(n.at(), pgwire.CodeSyntaxError, "subquery has too few columns")
	case len(outs) > len(x.l):
		a.fail(n.at(), pgwire.CodeSyntaxError, "subquery has too many columns")
	}
	for i := range x.l {
		x.l[i], _ = a.unify(x.l[i], &constExpr{t: outs[i].x.typ()}, row.args[i], n.sub, "=", n.at())
	}
	return x
}

func (x *rowAnyExpr) eval(e *env) (Value, error) {
	l, making := make([]Value, len(x.l)), unfinished{e: e}
	defer making.done()
	for i, part := range x.l {
		var err error
		if l[i], err = making.value(part); err != nil {
			return Null, err
		}
	}
	rows, err := x.sub.rows(e)
	if err != nil {
		return Null, err
	}
	unknown := false
	for _, r := range rows {
		switch equal, known := equalRows(l, r); {
		case equal:
			return BoolValue(true), nil
		case !known:
			unknown = true
		}
	}
	if unknown {
		return Null, nil
	}
	return BoolValue(false), nil
}

// equalRows compares two rows; whether they are equal is not known if only a NULL keeps them from being so.
func equalRows(l, r []Value) (equal, known bool) {
	known = true
	for i := range l {
		switch {
		case l[i].IsNull() || r[i].IsNull():
			known = false
		case compareValues(l[i], r[i]) != 0:
			return false, true
		}
	}
	return known, known
}

// points are the keys that the rows of the subquery ask for, nil if they are not known.
func (x *rowAnyExpr) points(a *access) []expr {
	for i, part := range x.l {
		if a.isKey(part) && a.knows(x.refs) && x.sub.plan.outs[i].x.typ() == Text {
			return []expr{&subqueryExpr{x.sub, subqueryList, Text, i}}
		}
	}
	return nil
}

// rowAlone refuses a row that stands where it is not compared with another one.
func (a *analyzer) rowAlone(n rowNode) {
	panic(errorAt(a.src, n.at(), pgwire.CodeFeatureNotSupported, "a row as a value is not supported").
		WithHint("A row can be compared with another one, by =, <>, <, <=, >, >= and IN."))
}
