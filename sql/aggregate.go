package sql

import "github.com/longship-db/longship/pgwire"

// An aggregate is one call of count, min, max or sum over all rows; there is no GROUP BY.
type aggregate struct {
	name string
	arg  expr // nil for count(*)
	t    Type
}

// aggregate analyzes a call of an aggregate function.
func (a *analyzer) aggregate(n callNode) expr {
	if a.noAggregate != "" {
		a.fail(n.at(), pgwire.CodeGroupingError, "aggregate functions are not allowed in %s", a.noAggregate)
	}
	if a.inAggregate {
		a.fail(n.at(), pgwire.CodeGroupingError, "aggregate function calls cannot be nested")
	}
	agg := aggregate{name: n.name, t: Int8}
	if !n.star {
		agg.arg, agg.t = a.aggregateArg(n)
	} else if n.name != "count" {
		a.fail(n.at(), pgwire.CodeUndefinedFunction, "function %s() does not exist", n.name)
	}
	a.aggregates = append(a.aggregates, agg)
	return &aggResult{len(a.aggregates) - 1, agg.t}
}

func (a *analyzer) aggregateArg(n callNode) (expr, Type) {
	if len(n.args) != 1 {
		a.fail(n.at(), pgwire.CodeUndefinedFunction, "function %s with %d arguments does not exist", n.name, len(n.args))
	}
	a.inAggregate = true
	x := a.typed(n.args[0])
	a.inAggregate = false
	t := x.typ()
	switch {
	case n.name == "count":
		return x, Int8
	case n.name == "sum":
		sum, ok := map[Type]Type{Int2: Int8, Int4: Int8, Int8: Numeric, Numeric: Numeric, Float8: Float8, Interval: Interval}[t]
		if ok {
			return x, sum
		}
	case t.family() != familyNone && t != Bool:
		return x, t
	}
	a.fail(n.at(), pgwire.CodeUndefinedFunction, "function %s(%s) does not exist", n.name, t)
	return nil, 0
}

// start is the aggregate's result over no rows.
func (g *aggregate) start() Value {
	if g.name == "count" {
		return Int8Value(0)
	}
	return Null
}

// add folds one row into the result so far. Texts are cloned: a row does not outlive its turn.
func (g *aggregate) add(sum Value, e *env) (Value, error) {
	if g.arg == nil {
		return Int8Value(sum.n + 1), nil
	}
	v, err := g.arg.eval(e)
	if err != nil || v.IsNull() {
		return sum, err
	}
	switch {
	case g.name == "count":
		return Int8Value(sum.n + 1), nil
	case g.name == "sum":
		if v, err = castValue(v, g.t, e.loc()); err != nil || sum.IsNull() {
			return v, err
		}
		return arith('+', sum, v, g.t, e.loc())
	case sum.IsNull(), g.name == "min" && compareValues(v, sum) < 0, g.name == "max" && compareValues(v, sum) > 0:
		return v.clone(), nil
	}
	return sum, nil
}
