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
	joined bool   // its columns are those of env.tuple from offset on
	offset int
	known  relations // that are read before
	refs   relations // those of them that points and bounds depend on
}

// A bound is a limit on key.
type bound struct {
	x         expr
	inclusive bool
}

// A condition is one of those that must all hold, and what it refers to.
type condition struct {
	x    expr
	refs relations
}

// planAccess splits a WHERE condition (nil: none) into an access to kv, which is called table.
func planAccess(where expr, table string) access {
	a := access{table: table}
	var conds []condition
	for _, x := range conjuncts(where) {
		conds = append(conds, condition{x: x})
	}
	a.filter = allOf(a.take(conds))
	return a
}

// take takes of the conditions what decides which keys are read, and returns the others. Conditions on key that it can
// use are those between the bare column and something that is known before the row is read:
//
//	key = x, key IN (…), key = x OR key = y     points
//	key = ANY (array), key IN (SELECT …)        points
//	(key, value) IN (…)                          points; the condition is left, too
//	key <, <=, >, >= x, BETWEEN                  bounds
//	key LIKE 'prefix%'                           bounds; the pattern is left, too
func (a *access) take(conds []condition) (rest []condition) {
	for _, cond := range conds {
		if !a.use(cond.x) {
			rest = append(rest, cond)
		}
	}
	if a.points != nil {
		for _, x := range a.boundConds() {
			rest = append(rest, condition{x, ^relations(0)})
		}
		a.lower, a.upper, a.like = nil, nil, nil
	}
	return rest
}

// allOf is the condition that all of those hold, nil for none.
func allOf(conds []condition) expr {
	switch len(conds) {
	case 0:
		return nil
	case 1:
		return conds[0].x
	}
	all := &logicExpr{and: true}
	for _, cond := range conds {
		all.args = append(all.args, cond.x)
	}
	return all
}

// conjuncts lists the conditions that must all hold.
func conjuncts(x expr) []expr {
	switch x := x.(type) {
	case nil:
		return nil
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

// isKey reports whether x is the key of the row that is accessed.
func (a *access) isKey(x expr) bool {
	if !a.joined {
		return isKey(x)
	}
	c, ok := x.(*viewColumn)
	return ok && c.index == a.offset && c.depth == 0
}

// knows reports whether what refers to refs is known before the row is read.
func (a *access) knows(refs relations) bool { return refs&^a.known == 0 }

// use takes a condition into the access and reports whether the keys found will satisfy it.
func (a *access) use(cond expr) bool {
	if points, refs, exact := a.pointsOf(cond); points != nil {
		if a.points != nil {
			return false
		}
		a.points = points
		a.refs |= refs
		return exact
	}
	switch x := cond.(type) {
	case *compareExpr:
		return a.useBound(x)
	case *betweenExpr:
		if a.isKey(x.x) && !x.symmetric {
			return a.useBetween(x)
		}
	case *likeExpr:
		if a.isKey(x.x) && !x.fold && a.knows(x.patternRefs) {
			a.like = append(a.like, x.pattern)
			a.refs |= x.patternRefs
		}
	}
	return false
}

// mirrored is the operator with its sides exchanged.
var mirrored = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<="}

func (a *access) useBound(x *compareExpr) bool {
	op, other, refs := x.op, x.r, x.rRefs
	switch {
	case a.isKey(x.l) && a.knows(x.rRefs):
	case a.isKey(x.r) && a.knows(x.lRefs):
		op, other, refs = mirrored[op], x.l, x.lRefs
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
	a.refs |= refs
	return true
}

// useBetween takes the bounds that are known.
func (a *access) useBetween(x *betweenExpr) bool {
	if a.knows(x.loRefs) {
		a.lower = append(a.lower, bound{x.lo, true})
		a.refs |= x.loRefs
	}
	if a.knows(x.hiRefs) {
		a.upper = append(a.upper, bound{x.hi, true})
		a.refs |= x.hiRefs
	}
	return a.knows(x.loRefs | x.hiRefs)
}

// boundConds turns bounds back into conditions, when points make them unnecessary.
func (a *access) boundConds() []expr {
	var conds []expr
	var key expr = &kvColumn{index: keyColumn, table: a.table}
	if a.joined {
		key = &viewColumn{a.offset, 0, Text, a.table, "key"}
	}
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

// pointsOf returns the values of key that cond allows, if it allows only listed ones, and what they depend on; exact says
// that it asks for no more.
func (a *access) pointsOf(cond expr) (points []expr, refs relations, exact bool) {
	switch x := cond.(type) {
	case *compareExpr:
		switch {
		case x.op != "=":
		case a.isKey(x.l) && a.knows(x.rRefs):
			return []expr{x.r}, x.rRefs, true
		case a.isKey(x.r) && a.knows(x.lRefs):
			return []expr{x.l}, x.lRefs, true
		}
	case *inExpr:
		if a.isKey(x.x) && a.knows(x.listRefs) {
			return x.list, x.listRefs, true
		}
	case *anyExpr:
		if a.isKey(x.l) && x.op == "=" && !x.all && a.knows(x.refs) {
			return x.points(), x.refs, true
		}
	case *rowAnyExpr:
		return x.points(a), x.refs, false
	case *logicExpr:
		return a.pointsOfAll(x)
	}
	return nil, 0, false
}

// pointsOfAll are those of one of the conditions that must all hold, or of all of those of which one must.
func (a *access) pointsOfAll(x *logicExpr) (points []expr, refs relations, exact bool) {
	exact = !x.and
	for _, arg := range x.args {
		some, of, exactly := a.pointsOf(arg)
		switch {
		case x.and && some != nil:
			return some, of, false
		case !x.and && some == nil:
			return nil, 0, false
		}
		points, refs, exact = append(points, some...), refs|of, exact && exactly
	}
	return points, refs, exact
}

// points are what l = ANY compares with, nil if those are no keys.
func (x *anyExpr) points() []expr {
	switch {
	case x.array != nil:
		return []expr{x.array}
	case x.sub.plan.outs[0].x.typ() == Text:
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
		r.Lo = max(r.Lo, boundary(v.s, !b.inclusive))
	}
	for _, b := range a.upper {
		v, err := b.x.eval(e)
		if err != nil || v.IsNull() {
			return r, false, err
		}
		r.limit(boundary(v.s, b.inclusive))
	}
	for _, pattern := range a.like {
		v, err := pattern.eval(e)
		if err != nil || v.IsNull() {
			return r, false, err
		}
		prefix := likePrefix(v.s)
		r.Lo = max(r.Lo, prefix)
		if end, bounded := prefixEnd(prefix); bounded {
			r.limit(end)
		}
	}
	if a.beside(e) {
		r.Lo, r.Hi = strings.Clone(r.Lo), strings.Clone(r.Hi)
	}
	return r, r.Unbounded || r.Lo < r.Hi, nil
}

// beside reports whether the access runs beside rows that are not its own: of a query around, or that it is joined with.
// What comes from those has memory that is used again, and a transaction remembers the keys and ranges that it has read.
func (a *access) beside(e *env) bool { return e.outer != nil || a.joined }

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
