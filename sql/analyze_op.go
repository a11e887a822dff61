package sql

import "github.com/longship-db/longship/pgwire"

func (a *analyzer) unary(n unaryNode) expr {
	x := a.expr(n.x)
	t := x.typ()
	switch {
	case t == Unknown:
		a.notUnique(n.at(), n.op+" unknown")
	case n.op != "-" && n.op != "+":
		a.noOperator(n.at(), 0, n.op, t)
	case n.op == "-" && t == Interval:
		return &arithExpr{'-', &constExpr{Interval, Value{typ: Interval}}, x, Interval}
	case !t.isNumber():
		a.noOperator(n.at(), 0, n.op, t)
	case n.op == "+":
		return x
	}
	return &arithExpr{'-', &constExpr{t, zeroOf(t)}, x, t}
}

func zeroOf(t Type) Value {
	if t == Numeric {
		return NumericValue(0)
	}
	return Value{typ: t} // all bits zero is 0 for integers and float8
}

func (a *analyzer) notUnique(at int, what string) {
	panic(errorAt(a.src, at, pgwire.CodeAmbiguousFunction, "operator is not unique: %s", what).
		WithHint("Could not choose a best candidate operator. You might need to add explicit type casts."))
}

func (a *analyzer) binary(n binaryNode) expr {
	switch n.op {
	case "=", "<>", "<", "<=", ">", ">=":
		if l, ok := n.l.(rowNode); ok {
			if r, ok := n.r.(rowNode); ok {
				return a.rowComparison(n, l, r)
			}
		}
		l, lRefs, r, rRefs := a.comparable(n.l, n.r, n.op, n.at())
		return &compareExpr{op: n.op, l: l, r: r, lRefs: lRefs, rRefs: rRefs}
	case "+", "-", "*", "/", "%", "&", "|":
		return a.arithmetic(n)
	case "^":
		return a.power(n)
	case "||":
		return a.concat(n)
	case "~", "!~", "~*", "!~*", "~~", "!~~", "~~*", "!~~*":
		return a.match(n)
	}
	a.noOperator(n.at(), a.expr(n.l).typ(), n.op, a.expr(n.r).typ())
	return nil
}

// power is l ^ r of doubles, which other numbers become; numerics would have to be exact.
func (a *analyzer) power(n binaryNode) expr {
	l, r := a.expr(n.l), a.expr(n.r)
	exact := false
	for _, t := range []Type{l.typ(), r.typ()} {
		if !t.isNumber() && t != Unknown {
			a.noOperator(n.at(), l.typ(), n.op, r.typ())
		}
		exact = exact || t == Numeric
	}
	if exact && !isFloat(l.typ()) && !isFloat(r.typ()) {
		panic(errorAt(a.src, n.at(), pgwire.CodeFeatureNotSupported, "a power of numeric is not supported").
			WithHint("Cast it: x::float8 ^ y."))
	}
	return &powerExpr{a.coerce(l, Float8, n.l.at()), a.coerce(r, Float8, n.r.at())}
}

func (a *analyzer) concat(n binaryNode) expr {
	l, r := a.expr(n.l), a.expr(n.r)
	if l.typ().elem() != 0 || r.typ().elem() != 0 {
		return a.joinArrays(n, l, r)
	}
	if l.typ().family() != familyText && r.typ().family() != familyText {
		a.noOperator(n.at(), l.typ(), "||", r.typ())
	}
	return &concatExpr{a.coerce(l, Text, n.l.at()), a.coerce(r, Text, n.r.at())}
}

// arithmetic resolves + - * / %. An undecided side takes the type the other side suggests.
func (a *analyzer) arithmetic(n binaryNode) expr {
	l, r := a.expr(n.l), a.expr(n.r)
	switch {
	case l.typ() == Unknown && r.typ() == Unknown:
		a.notUnique(n.at(), "unknown "+n.op+" unknown")
	case l.typ() == Unknown:
		l = a.coerce(l, partner(r.typ(), n.op), n.l.at())
	case r.typ() == Unknown:
		r = a.coerce(r, partner(l.typ(), n.op), n.r.at())
	}
	l, r = sameTime(l, r)
	t, ok := arithType(n.op[0], l.typ(), r.typ())
	if !ok {
		a.noOperator(n.at(), l.typ(), n.op, r.typ())
	}
	return &arithExpr{n.op[0], l, r, t}
}

// partner is the type of an undecided operand beside one of type t.
func partner(t Type, op string) Type {
	switch {
	case t == PgLSN && op == "+":
		return Numeric
	case t.family() == familyTime && op == "+":
		return Interval
	case t == Interval && (op == "*" || op == "/"):
		return Float8
	}
	return t
}

func isFloat(t Type) bool { return t == Float4 || t == Float8 }

// arithType is the result type of l op r; false if there is no such operator.
func arithType(op byte, l, r Type) (Type, bool) {
	additive := op == '+' || op == '-'
	switch {
	case l.isNumber() && r.isNumber():
		t := l
		if numberRank(r) > numberRank(l) {
			t = r
		}
		if isFloat(t) {
			t = Float8
		}
		switch op {
		case '&', '|':
			return t, numberRank(t) <= numberRank(Int8)
		case '%':
			return t, t != Float8
		}
		return t, true
	case l == PgLSN && r == PgLSN:
		return Numeric, op == '-'
	case l == PgLSN && r.isNumber() && !isFloat(r):
		return PgLSN, additive
	case r == PgLSN && l.isNumber() && !isFloat(l):
		return PgLSN, op == '+'
	case l.family() == familyTime || r.family() == familyTime:
		return timeArithType(op, l, r)
	case l == Interval && r == Interval:
		return Interval, additive
	case l == Interval && r.isNumber():
		return Interval, op == '*' || op == '/'
	case r == Interval && l.isNumber():
		return Interval, op == '*'
	}
	return 0, false
}

// timeArithType is arithType if one side is a time; two are of one type.
func timeArithType(op byte, l, r Type) (Type, bool) {
	additive := op == '+' || op == '-'
	isInt := func(t Type) bool { return t == Int2 || t == Int4 }
	switch {
	case l == Date && r == Date:
		return Int4, op == '-'
	case l == Date && isInt(r):
		return Date, additive
	case r == Date && isInt(l):
		return Date, op == '+'
	case l == r:
		return Interval, op == '-'
	case l == Date && r == Interval:
		return Timestamp, additive
	case l == Interval && r == Date:
		return Timestamp, op == '+'
	case r == Interval:
		return l, additive
	case l == Interval:
		return r, op == '+'
	}
	return 0, false
}

// call resolves a function: the special forms, an aggregate, or one of the registered functions.
func (a *analyzer) call(n callNode) expr {
	if n.over != nil {
		return a.windowCall(n)
	}
	switch {
	case n.name == "coalesce" || n.name == "greatest" || n.name == "least":
		return a.choice(n)
	case n.name == "nullif":
		return a.nullIf(n)
	case isAggregate[n.name]:
		return a.aggregate(n)
	}
	if what := map[bool]string{n.distinct: "DISTINCT", n.order != nil: "ORDER BY", n.filter != nil: "FILTER"}[true]; what != "" && len(a.catalog.functions(n.name)) > 0 {
		a.fail(n.at(), pgwire.CodeWrongObjectType, "%s specified, but %s is not an aggregate function", what, n.name)
	}
	if n.star && len(a.catalog.functions(n.name)) > 0 {
		a.fail(n.at(), pgwire.CodeWrongObjectType, "%s(*) specified, but %s is not an aggregate function", n.name, n.name)
	}
	args := make([]expr, len(n.args))
	sets := len(a.sets)
	for i, arg := range n.args {
		args[i] = a.expr(arg)
	}
	if t, ok := typeNames[n.name]; ok && len(args) == 1 && len(a.catalog.functions(n.name)) == 0 {
		return a.cast(castNode{n.pos, n.args[0], t})
	}
	fn := a.function(n, args)
	if n.name == "pg_typeof" {
		t := args[0].typ()
		return &constExpr{Regtype, Value{typ: Regtype, n: int64(t), s: t.String()}}
	}
	for i := range args {
		args[i] = a.coerce(args[i], fn.arg(i), n.args[i].at())
	}
	for _, v := range fn.missing(len(args)) {
		args = append(args, &constExpr{v.typ, v})
	}
	x := &callExpr{fn: fn, args: args, t: fn.Result}
	if fn.Result == AnyElement || fn.Result == AnyArray {
		if x.t = args[0].typ(); fn.Result == AnyElement {
			x.t = x.t.elem()
		}
	}
	if fn.set != nil {
		if !a.allowed || len(a.sets) > sets {
			a.fail(n.at(), pgwire.CodeFeatureNotSupported, "set-returning functions are not allowed here")
		}
		x.slot = len(a.sets)
		a.sets = append(a.sets, x)
	}
	return x
}

// function picks the overload whose arguments fit best: exactly, or by implicit conversions.
func (a *analyzer) function(n callNode, args []expr) *Func {
	var best *Func
	bestScore := -1
	for _, fn := range a.catalog.functions(n.name) {
		if score := fn.score(args); score > bestScore {
			best, bestScore = fn, score
		}
	}
	if best == nil {
		types := ""
		for i, arg := range args {
			if i > 0 {
				types += ", "
			}
			types += arg.typ().String()
		}
		panic(errorAt(a.src, n.at(), pgwire.CodeUndefinedFunction, "function %s(%s) does not exist", n.name, types).
			WithHint("No function matches the given name and argument types. You might need to add explicit type casts."))
	}
	return best
}

func (a *analyzer) choice(n callNode) expr {
	x := &choiceExpr{want: map[string]int{"greatest": 1, "least": -1}[n.name]}
	for _, arg := range n.args {
		x.args = append(x.args, a.expr(arg))
	}
	x.t = a.common(commandName(n.name), x.args, n.args)
	return x
}

func (a *analyzer) nullIf(n callNode) expr {
	l, _, r, _ := a.comparable(n.args[0], n.args[1], "=", n.at())
	return &nullIfExpr{l, r}
}
