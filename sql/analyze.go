package sql

import (
	"math"
	"strconv"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// An analyzer turns the nodes of one statement into exprs: it looks names up, finds the types of
// literals and parameters from what surrounds them, and checks operators and functions. Like the
// parser its methods panic with a *pgwire.Error or an interruption; analyze recovers.
type analyzer struct {
	src     string
	catalog *Catalog
	pace    *pacer
	hold    func(n int) error
	held    int // bytes of columns, which a short text may have many of
	// params are the parameters' types, Unknown until something decides. paramExprs point here.
	params   []Type
	noParams bool // a simple query has no parameters

	with []*withTable // that can be selected from

	nested   bool // a subquery reads kv
	subplans int  // how many subqueries have been analyzed

	queryLevel // of the SELECT, subquery or write that is being analyzed
}

// A queryLevel is what the analysis of one SELECT knows; its subqueries have their own.
type queryLevel struct {
	scope     scope
	columnRef int  // counts references to columns of the row
	outerRef  bool // a column of an enclosing query was referred to

	// aggregates of the select list. While one is analyzed inAggregate is set; bare is the first
	// column outside of any.
	aggregates  []aggregate
	inAggregate bool
	noAggregate string // clause in which aggregates are refused, "" if allowed
	bare        *columnNode

	grouping *grouping // with GROUP BY or HAVING, once those are known

	noGenerated bool // WHERE of COPY FROM: lsn is not known

	sets    []*callExpr // functions of the select list that return sets
	windows []*windowCall
	allowed bool // such a function may stand here
}

// analyzer returns one for a statement of the session.
func (s *Session) analyzer(src string, noParams bool) *analyzer {
	return &analyzer{src: src, catalog: s.catalog, pace: &s.pace, hold: s.hold, noParams: noParams}
}

// outputSize is about what a column of a result, or of a subquery or a whole row, takes with what computes it, in bytes.
const outputSize = 200

// count counts so many columns before the statement is any larger.
func (a *analyzer) count(columns int) {
	if err := a.hold(columns * outputSize); err != nil {
		panic(failed(err))
	}
	a.held += columns * outputSize
}

func (a *analyzer) fail(at int, code, format string, args ...any) {
	panic(errorAt(a.src, at, code, format, args...))
}

// placed adds a position to an error that has none.
func (a *analyzer) placed(err error, at int) error {
	if e, ok := err.(*pgwire.Error); ok && e.Position == 0 {
		return e.WithPosition(errorAt(a.src, at, "", "").Position)
	}
	return err
}

// exprCost is how many steps the analysis of a node counts.
const exprCost = 32

// expr analyzes n. The result's type is Unknown for a literal, NULL or parameter that nothing
// has decided yet: coerce decides.
func (a *analyzer) expr(n node) expr {
	if err := a.pace.step(exprCost); err != nil {
		panic(failed(err))
	}
	if a.grouping != nil && !a.inAggregate {
		if x := a.groupColumn(n); x != nil {
			return x
		}
	}
	switch n := n.(type) {
	case literalNode:
		return a.literal(n)
	case nullNode:
		return &constExpr{t: Unknown}
	case boolNode:
		return &constExpr{Bool, BoolValue(n.value)}
	case paramNode:
		return a.param(n)
	case columnNode:
		return a.column(n)
	case unaryNode:
		return a.unary(n)
	case binaryNode:
		return a.binary(n)
	case logicNode:
		return a.logic(n)
	case notNode:
		return &notExpr{a.boolean(n.x, "NOT")}
	case isNode:
		return a.is(n)
	case distinctNode:
		l, _, r, _ := a.comparable(n.l, n.r, "=", n.at())
		return &distinctExpr{l: l, r: r, not: n.not}
	case inNode:
		return negate(a.in(n), n.not)
	case betweenNode:
		return a.between(n)
	case likeNode:
		return negate(a.like(n), n.not)
	case castNode:
		return a.cast(n)
	case caseNode:
		return a.caseOf(n)
	case callNode:
		return a.call(n)
	case subqueryNode:
		return a.subquery(n)
	case anyNode:
		return a.anyOf(n)
	case rowNode:
		a.rowAlone(n)
	case arrayNode:
		return a.array(n)
	case subscriptNode:
		return a.subscript(n)
	case collateNode:
		return a.collate(n)
	case fieldNode:
		return a.field(n)
	case defaultNode:
		a.fail(n.at(), pgwire.CodeSyntaxError, "DEFAULT is not allowed in this context")
	}
	panic(pgwire.Errorf(pgwire.CodeInternalError, "unexpected node %T", n))
}

// typed analyzes n and makes an undecided type text.
func (a *analyzer) typed(n node) expr {
	x := a.expr(n)
	if x.typ() == Unknown {
		return a.coerce(x, Text, n.at())
	}
	return x
}

// literal gives numbers their type: the smallest of int4, int8 and numeric that holds them.
func (a *analyzer) literal(n literalNode) expr {
	if n.kind == tokString {
		return &constExpr{Unknown, TextValue(n.text)}
	}
	if n.kind == tokInt {
		if i, err := strconv.ParseInt(n.text, 10, 64); err == nil {
			if i >= math.MinInt32 && i <= math.MaxInt32 {
				return &constExpr{Int4, Int4Value(int32(i))}
			}
			return &constExpr{Int8, Int8Value(i)}
		}
	}
	d, ok := parseDecimal(n.text)
	if !ok {
		a.fail(n.at(), pgwire.CodeNumericValueOutOfRange, "value overflows numeric format")
	}
	return &constExpr{Numeric, decimalValue(d)}
}

func (a *analyzer) param(n paramNode) expr {
	if a.noParams {
		a.fail(n.at(), pgwire.CodeUndefinedParameter, "there is no parameter $%d", n.index+1)
	}
	for len(a.params) <= n.index {
		a.params = append(a.params, Unknown)
	}
	return &paramExpr{types: &a.params, index: n.index}
}

// boolean analyzes a condition; clause names it in messages.
func (a *analyzer) boolean(n node, clause string) expr {
	x := a.expr(n)
	if x.typ() == Unknown {
		return a.coerce(x, Bool, n.at())
	}
	if x.typ() != Bool {
		a.fail(n.at(), pgwire.CodeDatatypeMismatch, "argument of %s must be type boolean, not type %s", clause, x.typ())
	}
	return x
}

func (a *analyzer) logic(n logicNode) expr {
	x := &logicExpr{and: n.and}
	clause := "OR"
	if n.and {
		clause = "AND"
	}
	for _, arg := range n.args {
		x.args = append(x.args, a.boolean(arg, clause))
	}
	return x
}

func negate(x expr, not bool) expr {
	if not {
		return &notExpr{x}
	}
	return x
}

func (a *analyzer) is(n isNode) expr {
	var x expr
	if n.what == "null" {
		x = a.typed(n.x)
	} else {
		x = a.boolean(n.x, "IS "+commandName(n.what))
	}
	return &isExpr{x: x, what: n.what, not: n.not}
}

// counted analyzes n and tells which relations it refers to.
func (a *analyzer) counted(n node) (x expr, refs relations) {
	refs = a.referred(func() { x = a.expr(n) })
	return x, refs
}

// referred are the relations that an analysis refers to.
func (a *analyzer) referred(analyze func()) relations {
	before := a.scope.refs
	a.scope.refs = 0
	analyze()
	refs := a.scope.refs
	a.scope.refs |= before
	return refs
}

// comparable analyzes both sides of a comparison and gives them comparable types.
func (a *analyzer) comparable(ln, rn node, op string, at int) (l expr, lRefs relations, r expr, rRefs relations) {
	l, lRefs = a.counted(ln)
	r, rRefs = a.counted(rn)
	l, r = a.unify(l, r, ln, rn, op, at)
	return l, lRefs, r, rRefs
}

func (a *analyzer) unify(l, r expr, ln, rn node, op string, at int) (expr, expr) {
	switch {
	case l.typ() == Unknown && r.typ() == Unknown:
		return a.coerce(l, Text, ln.at()), a.coerce(r, Text, rn.at())
	case l.typ() == Unknown:
		l = a.coerce(l, r.typ(), ln.at())
	case r.typ() == Unknown:
		r = a.coerce(r, l.typ(), rn.at())
	}
	l, r = sameTime(l, r)
	lf, rf := l.typ().family(), r.typ().family()
	if lf == familyArray && rf == familyArray && l.typ() != r.typ() {
		a.noOperator(at, l.typ(), op, r.typ())
	}
	ids := lf == familyID && r.typ().isNumber() && numberRank(r.typ()) <= numberRank(Int8) ||
		rf == familyID && l.typ().isNumber() && numberRank(l.typ()) <= numberRank(Int8)
	if lf == familyNone || lf != rf && !ids {
		a.noOperator(at, l.typ(), op, r.typ())
	}
	return l, r
}

// sameTime makes times of two types of one that both convert to.
func sameTime(l, r expr) (expr, expr) {
	lt, rt := l.typ(), r.typ()
	if lt.family() != familyTime || rt.family() != familyTime {
		return l, r
	}
	switch {
	case timeRank(lt) < timeRank(rt):
		return &castExpr{l, rt}, r
	case timeRank(lt) > timeRank(rt):
		return l, &castExpr{r, lt}
	}
	return l, r
}

func (a *analyzer) noOperator(at int, l Type, op string, r Type) {
	if l == 0 {
		panic(errorAt(a.src, at, pgwire.CodeUndefinedFunction, "operator does not exist: %s %s", op, r).
			WithHint("No operator matches the given name and argument type. You might need to add an explicit type cast."))
	}
	panic(errorAt(a.src, at, pgwire.CodeUndefinedFunction, "operator does not exist: %s %s %s", l, op, r).
		WithHint("No operator matches the given name and argument types. You might need to add explicit type casts."))
}

func (a *analyzer) in(n inNode) expr {
	if row, ok := n.x.(rowNode); ok && n.sub != nil {
		return a.rowInQuery(n, row)
	}
	if n.sub != nil {
		return a.anyOf(anyNode{pos: n.pos, op: "=", l: n.x, r: *n.sub})
	}
	if row, ok := n.x.(rowNode); ok {
		return a.rowIn(n, row)
	}
	list, x := make([]expr, len(n.list)), &inExpr{}
	x.listRefs = a.referred(func() {
		for i, item := range n.list {
			list[i] = a.expr(item)
		}
	})
	x.x = a.expr(n.x)
	for i, item := range n.list {
		x.x, list[i] = a.unify(x.x, list[i], n.x, item, "=", n.at())
	}
	x.list = list
	return x
}

func (a *analyzer) between(n betweenNode) expr {
	x := &betweenExpr{x: a.expr(n.x), symmetric: n.symmetric}
	x.lo, x.loRefs = a.counted(n.lo)
	x.hi, x.hiRefs = a.counted(n.hi)
	x.x, x.lo = a.unify(x.x, x.lo, n.x, n.lo, ">=", n.at())
	x.x, x.hi = a.unify(x.x, x.hi, n.x, n.hi, "<=", n.at())
	return negate(x, n.not)
}

func (a *analyzer) like(n likeNode) expr {
	x := a.expr(n.x)
	pattern, patternRefs := a.counted(n.pattern)
	if x.typ().family() != familyText || pattern.typ().family() != familyText {
		op := map[bool]string{false: "~~", true: "~~*"}[n.fold]
		if n.not {
			op = "!" + op
		}
		a.noOperator(n.at(), x.typ(), op, pattern.typ())
	}
	like := &likeExpr{x: a.text(x, n.x.at()), pattern: a.text(pattern, n.pattern.at()), fold: n.fold, patternRefs: patternRefs}
	if n.escape != nil {
		escape, escapeRefs := a.counted(n.escape)
		if escape.typ().family() != familyText {
			a.fail(n.escape.at(), pgwire.CodeUndefinedFunction, "function pg_catalog.like_escape(%s, %s) does not exist", pattern.typ(), escape.typ())
		}
		like.pattern = &escapedExpr{like.pattern, a.text(escape, n.escape.at())}
		like.patternRefs |= escapeRefs
	}
	return like
}

// text decides an undecided type as text.
func (a *analyzer) text(x expr, at int) expr {
	if x.typ() == Unknown {
		return a.coerce(x, Text, at)
	}
	return x
}

func (a *analyzer) cast(n castNode) expr {
	x := a.expr(n.x)
	if array, ok := x.(*arrayExpr); ok && len(array.elems) == 0 && n.typ.elem() != 0 {
		return &constExpr{n.typ, arrayValue(n.typ, nil)}
	}
	if !castable(x.typ(), n.typ) {
		a.fail(n.at(), pgwire.CodeCannotCoerce, "cannot cast type %s to %s", x.typ(), n.typ)
	}
	return a.coerce(x, n.typ, n.x.at())
}

// coerce makes x of type t. The caller has checked that it may.
func (a *analyzer) coerce(x expr, t Type, at int) expr {
	if x.typ() == t {
		return x
	}
	if t == Any || t == AnyElement || t == AnyArray {
		return a.text(x, at)
	}
	if x.typ() != Unknown {
		return &castExpr{x, t}
	}
	switch x := x.(type) {
	case *paramExpr:
		a.params[x.index] = t
		if t == Varchar {
			a.params[x.index] = Text
		}
		return x
	case *constExpr:
		if x.v.IsNull() {
			return &constExpr{t: t}
		}
		if t.isReg() || readingSize(x.v.s, t) > largeConstant {
			return &castExpr{&constExpr{Text, x.v}, t} // looked up, or counted, when it runs
		}
		v, err := parseValue(x.v.s, t, time.UTC, a.pace)
		if err != nil {
			panic(failed(a.placed(err, at)))
		}
		if t.family() == familyTime {
			// What it means depends on the clock and the time zone when it runs.
			return &castExpr{&constExpr{Text, x.v}, t}
		}
		return &constExpr{t, v}
	}
	return &castExpr{x, t}
}

// common finds the type that all of args convert to, for CASE and COALESCE.
func (a *analyzer) common(what string, args []expr, nodes []node) Type {
	t := Unknown
	for i, x := range args {
		switch {
		case x.typ() == Unknown, implicitly(x.typ(), t) && t != Unknown:
		case t == Unknown || implicitly(t, x.typ()):
			t = x.typ()
		default:
			a.fail(nodes[i].at(), pgwire.CodeDatatypeMismatch, "%s types %s and %s cannot be matched", what, t, x.typ())
		}
	}
	if t == Unknown {
		t = Text
	}
	for i, x := range args {
		args[i] = a.coerce(x, t, nodes[i].at())
	}
	return t
}

func (a *analyzer) caseOf(n caseNode) expr {
	x := &caseExpr{}
	if n.operand != nil {
		x.operand = a.expr(n.operand)
	}
	nodes := make([]node, 0, len(n.whens)+1)
	results := make([]expr, 0, len(n.whens)+1)
	for _, w := range n.whens {
		x.whens = append(x.whens, whenExpr{cond: a.whenCond(x, n, w)})
		results = append(results, a.expr(w.result))
		nodes = append(nodes, w.result)
	}
	orElse := n.orElse
	if orElse == nil {
		orElse = nullNode{n.pos}
	}
	results, nodes = append(results, a.expr(orElse)), append(nodes, orElse)
	x.t = a.common("CASE", results, nodes)
	for i := range x.whens {
		x.whens[i].result = results[i]
	}
	x.orElse = results[len(results)-1]
	return x
}

// whenCond analyzes what follows WHEN: a condition, or a value to compare the operand with.
func (a *analyzer) whenCond(x *caseExpr, n caseNode, w whenClause) (cond expr) {
	if x.operand == nil {
		return a.boolean(w.cond, "CASE/WHEN")
	}
	x.operand, cond = a.unify(x.operand, a.expr(w.cond), n.operand, w.cond, "=", w.cond.at())
	return cond
}
