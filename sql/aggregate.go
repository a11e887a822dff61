package sql

import (
	"reflect"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// An aggregate is one call of count, min, max, sum and their like over all rows, or those of each group.
type aggregate struct {
	name     string
	arg      expr // nil for count(*)
	by       expr // what string_agg puts between
	t        Type
	distinct bool      // equal values count once
	order    []sortKey // in which the values come; nil: as they are read
	filter   expr      // which rows count; nil: all
}

var isAggregate = wordSet("count min max sum string_agg avg array_agg bool_and bool_or every")

// aggregate analyzes a call of an aggregate function.
func (a *analyzer) aggregate(n callNode) expr {
	if a.noAggregate != "" {
		a.fail(n.at(), pgwire.CodeGroupingError, "aggregate functions are not allowed in %s", a.noAggregate)
	}
	if a.inAggregate {
		a.fail(n.at(), pgwire.CodeGroupingError, "aggregate function calls cannot be nested")
	}
	if n.name == "count" && !n.star && len(n.args) == 0 {
		a.fail(n.at(), pgwire.CodeWrongObjectType, "count(*) must be used to call a parameterless aggregate function")
	}
	agg := aggregate{name: n.name, t: Int8}
	columns, outer := a.columnRef, a.outerRef
	a.outerRef = false
	if !n.star {
		agg.arg, agg.by, agg.t = a.aggregateArg(n)
	} else if n.name != "count" {
		a.fail(n.at(), pgwire.CodeUndefinedFunction, "function %s() does not exist", n.name)
	}
	agg.distinct = n.distinct
	a.inAggregate = true
	if n.filter != nil {
		agg.filter = a.boolean(n.filter, "FILTER")
	}
	for _, item := range n.order {
		agg.order = append(agg.order, sortKey{a.typed(item.expr), item.desc, item.nullsFirst})
	}
	a.inAggregate = false
	if a.outerRef && a.columnRef == columns { // it would be one of that query
		a.fail(n.at(), pgwire.CodeFeatureNotSupported, "an aggregate of columns of an outer query alone is not supported")
	}
	a.outerRef = a.outerRef || outer
	if n.distinct && len(n.order) == 0 && agg.arg != nil {
		agg.order = []sortKey{{x: agg.arg}} // as PostgreSQL, which finds equal values by sorting them
	}
	if n.distinct && len(n.order) > 0 && !(len(n.order) == 1 && reflect.DeepEqual(agg.order[0].x, agg.arg)) {
		a.fail(n.order[0].expr.at(), pgwire.CodeInvalidColumnReference, "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list")
	}
	a.aggregates = append(a.aggregates, agg)
	return &aggResult{len(a.aggregates) - 1, agg.t}
}

// aggregateArg analyzes the arguments and finds the type of the result.
func (a *analyzer) aggregateArg(n callNode) (x, by expr, result Type) {
	a.inAggregate = true
	var types []string
	var args []expr
	for _, arg := range n.args {
		args = append(args, a.typed(arg))
		types = append(types, args[len(args)-1].typ().String())
	}
	a.inAggregate = false
	count := 1
	if n.name == "string_agg" {
		count = 2
	}
	if len(args) == count {
		if by = nil; count == 2 {
			by = args[1]
		}
		if t := aggregateType(n.name, args); t != 0 {
			return args[0], by, t
		}
	}
	panic(errorAt(a.src, n.at(), pgwire.CodeUndefinedFunction, "function %s(%s) does not exist", n.name, strings.Join(types, ", ")).
		WithHint("No function matches the given name and argument types. You might need to add explicit type casts."))
}

// aggregateType is the type of an aggregate's result, 0 if it takes no such arguments.
func aggregateType(name string, args []expr) Type {
	t := args[0].typ()
	switch name {
	case "count":
		return Int8
	case "sum":
		return map[Type]Type{Int2: Int8, Int4: Int8, Int8: Numeric, Numeric: Numeric, Float4: Float4, Float8: Float8, Interval: Interval}[t]
	case "avg":
		return map[Type]Type{Int2: Numeric, Int4: Numeric, Int8: Numeric, Numeric: Numeric, Float4: Float8, Float8: Float8}[t]
	case "array_agg":
		return arrayOf(t)
	case "bool_and", "bool_or", "every":
		if t == Bool {
			return Bool
		}
	case "string_agg":
		if t.family() == familyText && args[1].typ().family() == familyText {
			return Text
		}
	default:
		if t.family() != familyNone && t != Bool {
			return t
		}
	}
	return 0
}

// A tally is what an aggregate has come to so far. Texts and elements are collected in text, which does not
// share memory with rows.
type tally struct {
	value Value
	text  []byte
	count int64 // rows of avg

	seen   map[string]bool // values of DISTINCT
	sorted []sortedRow     // values that wait for the last one, to be put in order
}

// start is the tally over no rows.
func (g *aggregate) start() tally {
	if g.name == "count" {
		return tally{value: Int8Value(0)}
	}
	return tally{}
}

// result is the aggregate of all rows.
func (g *aggregate) result(t *tally, e *env) (Value, error) {
	if err := sortRows(&e.session.pace, t.sorted, g.order); err != nil {
		return Null, err
	}
	for _, row := range t.sorted {
		if err := e.step(rowCost); err != nil {
			return Null, err
		}
		if err := g.addValue(t, row.outs[0], row.outs[1], e); err != nil {
			return Null, err
		}
	}
	if g.name == "avg" && t.count > 0 {
		return arith('/', t.value, Int8Value(t.count), g.t, e.loc())
	}
	if t.text != nil {
		t.value.s = string(t.text)
	}
	return t.value, nil
}

// add counts one row in. Texts are cloned: a row does not outlive its turn.
func (g *aggregate) add(t *tally, e *env) error {
	if g.filter != nil {
		if wanted, err := passes(g.filter, e); err != nil || !wanted {
			return err
		}
	}
	if g.arg == nil {
		t.value.n++
		return nil
	}
	v, err := g.arg.eval(e)
	if err != nil || v.IsNull() && g.name != "array_agg" {
		return err
	}
	if g.distinct {
		if fresh, err := t.first(v, e); err != nil || !fresh {
			return err
		}
	}
	by := Null
	if g.by != nil {
		if by, err = g.by.eval(e); err != nil {
			return err
		}
	}
	if g.order != nil {
		return t.wait(g.order, v, by, e)
	}
	return g.addValue(t, v, by, e)
}

// first reports whether a value has not been seen before.
func (t *tally) first(v Value, e *env) (bool, error) {
	key := groupKey([]Value{v}, e)
	if t.seen[key] {
		return false, nil
	}
	if t.seen == nil {
		t.seen = map[string]bool{}
	}
	t.seen[key] = true
	return true, e.hold(rowSize + len(key))
}

// wait keeps a value until all are there.
func (t *tally) wait(order []sortKey, v, by Value, e *env) error {
	row := sortedRow{outs: []Value{v.clone(), by.clone()}}
	for _, key := range order {
		k, err := key.x.eval(e)
		if err != nil {
			return err
		}
		row.keys = append(row.keys, k.clone())
	}
	t.sorted = append(t.sorted, row)
	return e.hold(row.size())
}

// addValue counts one value in, which is NULL only for array_agg.
func (g *aggregate) addValue(t *tally, v, by Value, e *env) error {
	var err error
	switch {
	case g.name == "array_agg":
		return t.addElement(g.t, v, e)
	case g.name == "count":
		t.value.n++
	case g.name == "string_agg":
		return t.addText(v, by, e)
	case g.name == "sum" || g.name == "avg":
		t.count++
		if v, err = castValue(v, g.t, e.loc(), nil); err == nil && !t.value.IsNull() {
			v, err = arith('+', t.value, v, g.t, e.loc())
		}
		t.value = v
	case t.value.IsNull(), g.t == Bool && v.Bool() == (g.name == "bool_or"),
		g.name == "min" && compareValues(v, t.value) < 0, g.name == "max" && compareValues(v, t.value) > 0:
		t.value = v.clone()
	}
	return err
}

// addText adds a text to those of string_agg, after what stands between.
func (t *tally) addText(v, by Value, e *env) error {
	if t.value.IsNull() {
		by = Null
	}
	t.value = Value{typ: Text}
	return t.grow(e, by.s, v.s)
}

// addElement adds an element to the array of array_agg.
func (t *tally) addElement(array Type, v Value, e *env) error {
	between := "\x00"
	if t.value.IsNull() {
		between = ""
	}
	if t.value.n == maxArrayLen {
		return arrayTooLong()
	}
	elem := nullElem
	if !v.IsNull() {
		elem = textOf(v, e.loc())
	}
	t.value = Value{typ: array, n: t.value.n + 1}
	return t.grow(e, between, elem)
}

func (t *tally) grow(e *env, between, text string) error {
	if err := e.hold(len(between) + len(text)); err != nil {
		return err
	}
	if len(t.text)+len(between)+len(text) > maxTextLen {
		return textTooLong()
	}
	if t.text == nil {
		t.text = []byte{}
	}
	t.text = append(append(t.text, between...), text...)
	return nil
}
