package sql

import (
	"strings"
	"time"
)

// A callExpr calls a function.
type callExpr struct {
	fn   *Func
	args []expr
	t    Type // of the result
	slot int  // of a function that returns a set: where in env.set
}

func (x *callExpr) typ() Type { return x.t }

func (x *callExpr) eval(e *env) (Value, error) {
	if x.fn.set != nil {
		return e.set[x.slot], nil
	}
	making := unfinished{e: e}
	defer making.done()
	vals, null, err := x.evalArgs(&making)
	if err != nil || null {
		return Null, err
	}
	if err := e.step(callCost(vals)); err != nil {
		return Null, err
	}
	return bounded(holding(e.hold, argsSize(vals), func() (Value, error) { return x.call(e, vals) }))
}

// callCost is how many steps a call counts.
func callCost(args []Value) int {
	n := rowCost
	for _, v := range args {
		n += len(v.s)
	}
	return n
}

func (x *callExpr) call(e *env, vals []Value) (Value, error) {
	switch {
	case x.fn.builtin != nil:
		return x.fn.builtin(e, vals)
	case x.fn.Call != nil:
		return x.fn.Call(e.ctx, vals)
	case x.fn.Own != nil:
		return x.fn.Own(e.ctx, e.session.backend, vals)
	}
	row, err := x.fn.Row(e.ctx, e.session.backend, vals)
	if err != nil {
		return Null, err
	}
	return recordValue(row, e.loc()), nil
}

// evalArgs evaluates the arguments, which making holds; null means that the result is NULL without a call.
func (x *callExpr) evalArgs(making *unfinished) (vals []Value, null bool, err error) {
	vals = make([]Value, len(x.args))
	for i, arg := range x.args {
		if vals[i], err = making.value(arg); err != nil {
			return nil, false, err
		}
		null = null || vals[i].IsNull()
	}
	return vals, null && !x.fn.NullOK, nil
}

// recordValue prints a record as record_out does: (a,,"b c").
func recordValue(fields []Value, loc *time.Location) Value {
	b := []byte{'('}
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		if f.IsNull() {
			continue
		}
		s := textOf(f, loc)
		if s == "" || strings.ContainsAny(s, "(),\"\\ \t\n\r\v\f") {
			b = append(b, '"')
			b = append(b, strings.NewReplacer(`\`, `\\`, `"`, `""`).Replace(s)...)
			b = append(b, '"')
		} else {
			b = append(b, s...)
		}
	}
	return Value{typ: Record, s: string(append(b, ')'))}
}
