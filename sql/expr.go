package sql

import (
	"context"
	"strings"
	"time"
)

// An expr is an analyzed expression: names and types are resolved, eval computes it for one row.
type expr interface {
	typ() Type
	eval(e *env) (Value, error)
}

// An env is what an expression is evaluated in.
type env struct {
	ctx      context.Context
	session  *Session
	params   []Value
	row      Row     // the kv row, if the statement has one
	excluded Row     // the row proposed by INSERT … ON CONFLICT
	tuple    []Value // the row of the relations of FROM, if not kv
	aggs     []Value // results of the aggregates, at the end
	group    []Value // what GROUP BY lists, of the rows they are of
	set      []Value // of the functions in the select list that return sets
	numbers  []int64 // of the window functions
	outer    *env    // of the query around
	cursor   *cursor // whose query it is; nil for others

	subqueries map[*subplan][][]Value // results that are the same for every row, in the outermost env
	kept       int                    // bytes that these hold

	added   map[*recursion][][]Value // by the last run of each recursive query, in the outermost env
	regexes map[*regexExpr]*regex    // the patterns that were compared with last, in the outermost env
}

// at is the env of the query so many levels further out.
func (e *env) at(depth int) *env {
	for ; depth > 0; depth-- {
		e = e.outer
	}
	return e
}

func (e *env) loc() *time.Location { return e.session.settings.location() }

type constExpr struct {
	t Type
	v Value
}

func (x *constExpr) typ() Type                { return x.t }
func (x *constExpr) eval(*env) (Value, error) { return x.v, nil }

// A paramExpr is $n. Its type is found while the statement is analyzed, possibly after the
// expression it is part of.
type paramExpr struct {
	types *[]Type
	index int
}

func (x *paramExpr) typ() Type                  { return (*x.types)[x.index] }
func (x *paramExpr) eval(e *env) (Value, error) { return e.params[x.index], nil }

// A kvColumn is a column of kv, of the row itself or of the proposed one.
type kvColumn struct {
	index    int // keyColumn, valueColumn or lsnColumn
	depth    int // how many queries further out
	excluded bool
	table    string // as it is called where it is selected from
}

func (x *kvColumn) typ() Type { return kvColumns[x.index].Type }

func (x *kvColumn) eval(e *env) (Value, error) {
	if x.excluded {
		return rowValue(&e.excluded, x.index), nil
	}
	return rowValue(&e.at(x.depth).row, x.index), nil
}

// A wholeRow is the row of a relation as a text: (key,value,lsn). One of NULLs stands in for none, in an outer join.
type wholeRow struct {
	table   string
	columns []expr
}

func (x *wholeRow) typ() Type { return Text }

func (x *wholeRow) eval(e *env) (Value, error) {
	fields, making, null := make([]Value, len(x.columns)), unfinished{e: e}, true
	defer making.done()
	for i, c := range x.columns {
		var err error
		if fields[i], err = making.value(c); err != nil {
			return Null, err
		}
		null = null && fields[i].IsNull()
	}
	if null {
		return Null, nil
	}
	return TextValue(recordValue(fields, e.loc()).s), nil
}

// A viewColumn is a column of a relation that is not kv.
type viewColumn struct {
	index, depth int
	t            Type
	table, name  string
}

func (x *viewColumn) typ() Type                  { return x.t }
func (x *viewColumn) eval(e *env) (Value, error) { return e.at(x.depth).tuple[x.index], nil }

// An aggResult is an aggregate where it stands in the select list.
type aggResult struct {
	index int
	t     Type
}

func (x *aggResult) typ() Type                  { return x.t }
func (x *aggResult) eval(e *env) (Value, error) { return e.aggs[x.index], nil }

// A compareExpr is l op r. lRefs and rRefs are the relations that the sides depend on: the planner uses
// sides that are known before a row is read.
type compareExpr struct {
	op           string
	l, r         expr
	lRefs, rRefs relations
}

func (x *compareExpr) typ() Type { return Bool }

func (x *compareExpr) eval(e *env) (Value, error) {
	l, r, ok, err := evalPair(e, x.l, x.r)
	if !ok {
		return Null, err
	}
	return BoolValue(holds(x.op, compareValues(l, r))), nil
}

// holds tells whether op holds between values that compare as c.
func holds(op string, c int) bool {
	switch op {
	case "=":
		return c == 0
	case "<>":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	default:
		return c >= 0
	}
}

// A betweenExpr is x BETWEEN lo AND hi; loRefs and hiRefs are what the bounds depend on.
type betweenExpr struct {
	x, lo, hi      expr
	loRefs, hiRefs relations
	symmetric      bool // the bounds in either order
}

func (x *betweenExpr) typ() Type { return Bool }

func (x *betweenExpr) eval(e *env) (Value, error) {
	v, err := x.x.eval(e)
	if err != nil || v.IsNull() {
		return Null, err
	}
	lo, err := e.beside(x.lo, v)
	if err != nil {
		return Null, err
	}
	hi, err := e.beside(x.hi, v, lo)
	if err != nil {
		return Null, err
	}
	if x.symmetric && !lo.IsNull() && !hi.IsNull() && compareValues(lo, hi) > 0 {
		lo, hi = hi, lo
	}
	switch {
	case x.symmetric && (lo.IsNull() || hi.IsNull()):
		return Null, nil // the other one may be the lower or the upper bound
	case !lo.IsNull() && compareValues(v, lo) < 0, !hi.IsNull() && compareValues(v, hi) > 0:
		return BoolValue(false), nil
	case lo.IsNull() || hi.IsNull():
		return Null, nil
	}
	return BoolValue(true), nil
}

// A logicExpr is a chain of AND or OR in three-valued logic.
type logicExpr struct {
	and  bool
	args []expr
}

func (x *logicExpr) typ() Type { return Bool }

func (x *logicExpr) eval(e *env) (Value, error) {
	unknown := false
	for _, arg := range x.args {
		v, err := arg.eval(e)
		if err != nil {
			return Null, err
		}
		switch {
		case v.IsNull():
			unknown = true
		case v.Bool() != x.and:
			return BoolValue(!x.and), nil
		}
	}
	if unknown {
		return Null, nil
	}
	return BoolValue(x.and), nil
}

type notExpr struct{ x expr }

func (x *notExpr) typ() Type { return Bool }

func (x *notExpr) eval(e *env) (Value, error) {
	v, err := x.x.eval(e)
	if err != nil || v.IsNull() {
		return Null, err
	}
	return BoolValue(!v.Bool()), nil
}

// An isExpr is x IS [NOT] NULL, TRUE, FALSE or UNKNOWN.
type isExpr struct {
	x    expr
	what string
	not  bool
}

func (x *isExpr) typ() Type { return Bool }

func (x *isExpr) eval(e *env) (Value, error) {
	v, err := x.x.eval(e)
	if err != nil {
		return Null, err
	}
	var is bool
	switch x.what {
	case "true":
		is = !v.IsNull() && v.Bool()
	case "false":
		is = !v.IsNull() && !v.Bool()
	default:
		is = v.IsNull()
	}
	return BoolValue(is != x.not), nil
}

type distinctExpr struct {
	l, r expr
	not  bool
}

func (x *distinctExpr) typ() Type { return Bool }

func (x *distinctExpr) eval(e *env) (Value, error) {
	l, err := x.l.eval(e)
	if err != nil {
		return Null, err
	}
	r, err := e.beside(x.r, l)
	if err != nil {
		return Null, err
	}
	distinct := l.IsNull() != r.IsNull() || !l.IsNull() && compareValues(l, r) != 0
	return BoolValue(distinct != x.not), nil
}

// An inExpr is x IN (list); listRefs are what the list depends on.
type inExpr struct {
	x        expr
	list     []expr
	listRefs relations
}

func (x *inExpr) typ() Type { return Bool }

func (x *inExpr) eval(e *env) (Value, error) {
	v, err := x.x.eval(e)
	if err != nil || v.IsNull() {
		return Null, err
	}
	unknown := false
	for _, item := range x.list {
		w, err := e.beside(item, v)
		if err != nil {
			return Null, err
		}
		if w.IsNull() {
			unknown = true
		} else if compareValues(v, w) == 0 {
			return BoolValue(true), nil
		}
	}
	if unknown {
		return Null, nil
	}
	return BoolValue(false), nil
}

// A likeExpr is x LIKE pattern; patternRefs are what the pattern depends on.
type likeExpr struct {
	x, pattern  expr
	fold        bool
	patternRefs relations
}

func (x *likeExpr) typ() Type { return Bool }

func (x *likeExpr) eval(e *env) (Value, error) {
	v, p, ok, err := evalPair(e, x.x, x.pattern)
	if !ok {
		return Null, err
	}
	text, pattern := v.s, p.s
	if x.fold {
		text, pattern = strings.ToLower(text), strings.ToLower(pattern)
	}
	matches, err := matchLike(text, pattern, &e.session.pace)
	return BoolValue(matches), err
}

// A castExpr converts at run time. name tells the type in messages.
type castExpr struct {
	x  expr
	to Type
}

func (x *castExpr) typ() Type { return x.to }

func (x *castExpr) eval(e *env) (Value, error) {
	v, err := x.x.eval(e)
	if err != nil || v.IsNull() {
		return Null, err
	}
	if x.to.isReg() {
		return e.session.named(v, x.to)
	}
	if x.to.family() == familyTime && v.typ.family() == familyText {
		word := strings.ToLower(strings.TrimSpace(v.s))
		if at, ok := namedTime(word, e.session.now().In(e.loc())); ok && word != "epoch" {
			return castTime(at, x.to, e.loc()), nil // now is the time of the transaction
		}
	}
	if err := e.step(castCost + len(v.s)); err != nil {
		return Null, err
	}
	size := readingSize(v.s, x.to)
	if v.typ.elem() != 0 {
		size = arraySize(v.n)
	}
	return bounded(holding(e.hold, size, func() (Value, error) {
		return castValue(v, x.to, e.loc(), &e.session.pace)
	}))
}

// castCost is how many steps a cast counts, beside the length of its value.
const castCost = 64

// evalPair evaluates two operands of what is NULL if one of them is: then ok is false, as after an error.
func evalPair(e *env, a, b expr) (l, r Value, ok bool, err error) {
	if l, err = a.eval(e); err != nil || l.IsNull() {
		return l, r, false, err
	}
	r, err = e.beside(b, l)
	return l, r, err == nil && !r.IsNull(), err
}

// An arithExpr is l op r on numbers, LSNs, times and intervals; t is the result's type.
type arithExpr struct {
	op   byte
	l, r expr
	t    Type
}

func (x *arithExpr) typ() Type { return x.t }

func (x *arithExpr) eval(e *env) (Value, error) {
	l, r, ok, err := evalPair(e, x.l, x.r)
	if !ok {
		return Null, err
	}
	return arith(x.op, l, r, x.t, e.loc())
}

// A concatExpr joins two texts.
type concatExpr struct{ l, r expr }

func (x *concatExpr) typ() Type { return Text }

func (x *concatExpr) eval(e *env) (Value, error) {
	l, r, ok, err := evalPair(e, x.l, x.r)
	if !ok {
		return Null, err
	}
	if len(l.s)+len(r.s) > maxTextLen {
		return Null, textTooLong()
	}
	return TextValue(l.s + r.s), nil
}

type whenExpr struct{ cond, result expr }

// A caseExpr is CASE; with an operand, conds are values it is compared with. Here as in every expr
// each operand is evaluated once: twice would take exponential time when nested.
type caseExpr struct {
	operand expr // nil if absent
	whens   []whenExpr
	orElse  expr
	t       Type
}

func (x *caseExpr) typ() Type { return x.t }

func (x *caseExpr) eval(e *env) (Value, error) {
	operand := Null
	var err error
	if x.operand != nil {
		if operand, err = x.operand.eval(e); err != nil {
			return Null, err
		}
	}
	for _, w := range x.whens {
		v, err := e.beside(w.cond, operand)
		if err != nil {
			return Null, err
		}
		if x.operand == nil && v.Bool() ||
			x.operand != nil && !operand.IsNull() && !v.IsNull() && compareValues(operand, v) == 0 {
			return w.result.eval(e)
		}
	}
	return x.orElse.eval(e)
}

type nullIfExpr struct{ l, r expr }

func (x *nullIfExpr) typ() Type { return x.l.typ() }

func (x *nullIfExpr) eval(e *env) (Value, error) {
	l, err := x.l.eval(e)
	if err != nil || l.IsNull() {
		return Null, err
	}
	r, err := e.beside(x.r, l)
	if err != nil || !r.IsNull() && compareValues(l, r) == 0 {
		return Null, err
	}
	return l, nil
}

// A choiceExpr is COALESCE, GREATEST or LEAST.
type choiceExpr struct {
	args []expr
	want int // sign of comparison that replaces the choice; 0: take the first
	t    Type
}

func (x *choiceExpr) typ() Type { return x.t }

func (x *choiceExpr) eval(e *env) (Value, error) {
	best := Null
	for _, arg := range x.args {
		v, err := e.beside(arg, best)
		switch {
		case err != nil:
			return Null, err
		case v.IsNull():
		case x.want == 0:
			return v, nil
		case best.IsNull() || compareValues(v, best) == x.want:
			best = v
		}
	}
	return best, nil
}
