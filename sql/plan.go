package sql

import (
	"strings"
)

// An access is how the rows of kv that a statement needs are found: by their keys, or by a scan of
// a range of keys, and a filter for what the keys do not decide.
type access struct {
	points []expr // key is one of these; nil: scan
	lower  []bound
	upper  []bound
	like   []expr // patterns whose fixed beginning bounds key
	filter expr   // the rest of the condition; nil if nothing is left
	table  string // what kv is called there
}

// A bound is a limit on key.
type bound struct {
	x         expr
	inclusive bool
}

// planAccess splits a WHERE condition (nil: none) into an access to kv, which is called table. Conditions on key that it can
// use are those between the bare column and something that does not depend on the row:
//
//	key = x, key IN (…), key = x OR key = y     points
//	key = ANY (array), key IN (SELECT …)        points
//	(key, value) IN (…)                          points; the condition stays in the filter
//	key <, <=, >, >= x, BETWEEN                  bounds
//	key LIKE 'prefix%'                           bounds; the pattern stays in the filter
func planAccess(where expr, table string) access {
	a := access{table: table}
	var rest []expr
	for _, cond := range conjuncts(where) {
		if !a.use(cond) {
			rest = append(rest, cond)
		}
	}
	if a.points != nil {
		rest = append(rest, a.boundConds()...)
		a.lower, a.upper, a.like = nil, nil, nil
	}
	switch len(rest) {
	case 0:
	case 1:
		a.filter = rest[0]
	default:
		a.filter = &logicExpr{and: true, args: rest}
	}
	return a
}

// conjuncts lists the conditions that must all hold.
func conjuncts(x expr) []expr {
	switch x := x.(type) {
	case nil:
		return nil
	case *betweenExpr:
		if isKey(x.x) && !x.symmetric {
			return []expr{
				&compareExpr{op: ">=", l: x.x, r: x.lo, lRow: true, rRow: x.loRow},
				&compareExpr{op: "<=", l: x.x, r: x.hi, lRow: true, rRow: x.hiRow},
			}
		}
	case *logicExpr:
		if x.and {
			var list []expr
			for _, arg := range x.args {
				list = append(list, conjuncts(arg)...)
			}
			return list
		}
	}
	return []expr{x}
}

// use takes a condition into the access and reports whether the keys found will satisfy it.
func (a *access) use(cond expr) bool {
	if points, exact := pointsOf(cond); points != nil {
		if a.points != nil {
			return false
		}
		a.points = points
		return exact
	}
	switch x := cond.(type) {
	case *compareExpr:
		return a.useBound(x)
	case *likeExpr:
		if isKey(x.x) && !x.fold && !x.patternRow {
			a.like = append(a.like, x.pattern)
		}
	}
	return false
}

// mirrored is the operator with its sides exchanged.
var mirrored = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<="}

func (a *access) useBound(x *compareExpr) bool {
	op, other := x.op, x.r
	switch {
	case isKey(x.l) && !x.rRow:
	case isKey(x.r) && !x.lRow:
		op, other = mirrored[op], x.l
	default:
		return false
	}
	switch op {
	case ">", ">=":
		a.lower = append(a.lower, bound{other, op == ">="})
	case "<", "<=":
		a.upper = append(a.upper, bound{other, op == "<="})
	default:
		return false
	}
	return true
}

// boundConds turns bounds back into conditions, when points make them unnecessary.
func (a *access) boundConds() []expr {
	var conds []expr
	key := &kvColumn{index: keyColumn, table: a.table}
	for _, b := range a.lower {
		conds = append(conds, &compareExpr{op: inclusiveOp(">", b), l: key, r: b.x})
	}
	for _, b := range a.upper {
		conds = append(conds, &compareExpr{op: inclusiveOp("<", b), l: key, r: b.x})
	}
	return conds
}

func inclusiveOp(op string, b bound) string {
	if b.inclusive {
		return op + "="
	}
	return op
}

// pointsOf returns the values of key that cond allows, if it allows only listed ones; exact says that it asks for no more.
func pointsOf(cond expr) (points []expr, exact bool) {
	switch x := cond.(type) {
	case *compareExpr:
		switch {
		case x.op != "=":
		case isKey(x.l) && !x.rRow:
			return []expr{x.r}, true
		case isKey(x.r) && !x.lRow:
			return []expr{x.l}, true
		}
	case *inExpr:
		if isKey(x.x) && !x.listRow {
			return x.list, true
		}
	case *anyExpr:
		if isKey(x.l) && x.op == "=" && !x.all {
			return x.points(), true
		}
	case *rowAnyExpr:
		return x.points(), false
	case *logicExpr:
		return x.points()
	}
	return nil, false
}

// points are those of one of the conditions that must all hold, or of all of those of which one must.
func (x *logicExpr) points() (points []expr, exact bool) {
	exact = !x.and
	for _, arg := range x.args {
		some, exactly := pointsOf(arg)
		switch {
		case x.and && some != nil:
			return some, false
		case !x.and && some == nil:
			return nil, false
		}
		points, exact = append(points, some...), exact && exactly
	}
	return points, exact
}

// points are what l = ANY compares with, nil if that depends on the row.
func (x *anyExpr) points() []expr {
	switch {
	case x.array != nil && !x.arrayRow:
		return []expr{x.array}
	case x.sub != nil && !x.subRow && x.sub.plan.outs[0].x.typ() == Text:
		return []expr{&subqueryExpr{x.sub, subqueryList, Text, 0}}
	}
	return nil
}

func isKey(x expr) bool {
	c, ok := x.(*kvColumn)
	return ok && c.index == keyColumn && !c.excluded && c.depth == 0
}

// keyRange evaluates the bounds; ok is false if no key can satisfy them.
func (a *access) keyRange(e *env) (r Range, ok bool, err error) {
	r.Unbounded = true
	for _, b := range a.lower {
		v, err := b.x.eval(e)
		if err != nil || v.IsNull() {
			return r, false, err
		}
		r.Lo = max(r.Lo, boundary(e.lasting(v), !b.inclusive))
	}
	for _, b := range a.upper {
		v, err := b.x.eval(e)
		if err != nil || v.IsNull() {
			return r, false, err
		}
		r.limit(boundary(e.lasting(v), b.inclusive))
	}
	for _, pattern := range a.like {
		v, err := pattern.eval(e)
		if err != nil || v.IsNull() {
			return r, false, err
		}
		prefix := likePrefix(e.lasting(v))
		r.Lo = max(r.Lo, prefix)
		if end, bounded := prefixEnd(prefix); bounded {
			r.limit(end)
		}
	}
	return r, r.Unbounded || r.Lo < r.Hi, nil
}

// lasting is a text as part of what a transaction has read, which it remembers: in a query inside another one it may be
// of a row around, whose memory is used again.
func (e *env) lasting(v Value) string {
	if e.outer == nil {
		return v.s
	}
	return strings.Clone(v.s)
}

// boundary is the first key not below s, or the first above it.
func boundary(s string, above bool) string {
	if above {
		return s + "\x00"
	}
	return s
}

// limit lowers the range's end to hi.
func (r *Range) limit(hi string) {
	if r.Unbounded || hi < r.Hi {
		r.Hi, r.Unbounded = hi, false
	}
}

// likePrefix is the text that everything matching a pattern begins with.
func likePrefix(pattern string) string {
	i := strings.IndexAny(pattern, `%_\`)
	if i < 0 {
		return pattern
	}
	if pattern[i] != '\\' {
		return pattern[:i]
	}
	b := []byte(pattern[:i])
	for ; i < len(pattern) && pattern[i] != '%' && pattern[i] != '_'; i++ {
		if pattern[i] == '\\' {
			if i++; i == len(pattern) {
				break // an error once it is matched
			}
		}
		b = append(b, pattern[i])
	}
	return string(b)
}

// prefixEnd is the first string above everything that begins with prefix; there is none above
// the empty prefix or one of 0xff bytes.
func prefixEnd(prefix string) (string, bool) {
	b := []byte(prefix)
	for len(b) > 0 {
		if last := len(b) - 1; b[last] < 0xff {
			b[last]++
			return string(b), true
		}
		b = b[:len(b)-1]
	}
	return "", false
}
