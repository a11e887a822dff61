package sql

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

// A regexExpr is x ~ pattern. The patterns are Go's regular expressions, which take the same time for every
// text; PostgreSQL's constraints \m, \M and \y and references to groups are not among them.
type regexExpr struct {
	x, pattern expr
	fold, not  bool
}

// A regex is a compiled pattern, which is kept while the statement runs, or its cursor is open.
type regex struct {
	text string
	*regexp.Regexp
	size int // about how many steps it takes for a character at the most
}

func (x *regexExpr) typ() Type { return Bool }

// match analyzes the operators of regular expressions, and those that LIKE and ILIKE stand for.
func (a *analyzer) match(n binaryNode) expr {
	not := strings.HasPrefix(n.op, "!")
	op := strings.TrimPrefix(n.op, "!")
	if strings.HasPrefix(op, "~~") {
		return negate(a.like(likeNode{pos: n.pos, x: n.l, pattern: n.r, fold: op == "~~*", not: not}), not)
	}
	l, r := a.expr(n.l), a.expr(n.r)
	if l.typ().family() != familyText || r.typ().family() != familyText {
		a.noOperator(n.at(), l.typ(), n.op, r.typ())
	}
	return &regexExpr{x: a.text(l, n.l.at()), pattern: a.text(r, n.r.at()), fold: op == "~*", not: not}
}

func (x *regexExpr) eval(e *env) (Value, error) {
	v, p, ok, err := evalPair(e, x.x, x.pattern)
	if !ok {
		return Null, err
	}
	re := e.top().regexes[x]
	if re == nil || re.text != p.s {
		if re, err = e.compile(p.s, x.fold); err != nil {
			return Null, err
		}
		e.keepRegex(x, re)
	}
	matches, err := re.matches(e, v.s)
	return BoolValue(matches != x.not), err
}

// Bounds of a regular expression: the length of its text in bytes, and how many steps of its machine it may have.
const (
	maxRegexLen  = 64 << 10
	maxRegexSize = 20_000
	regexStep    = 100 // bytes that a step takes
)

// compile bounds what it takes: {n,m} may make a short pattern a huge machine.
func (e *env) compile(pattern string, fold bool) (*regex, error) {
	if len(pattern) > maxRegexLen {
		return nil, badRegex("regular expression is too complex")
	}
	flags := "(?s)"
	if fold {
		flags = "(?si)"
	}
	tree, err := syntax.Parse(flags+pattern, syntax.Perl)
	if err != nil {
		return nil, badRegex(err.Error())
	}
	size := regexSize(tree)
	if size > maxRegexSize {
		return nil, badRegex("regular expression is too complex")
	}
	if err := e.hold(size * regexStep); err != nil {
		return nil, err
	}
	compiled, err := regexp.Compile(flags + pattern)
	if err != nil {
		return nil, badRegex(err.Error())
	}
	return &regex{strings.Clone(pattern), compiled, size}, nil
}

func badRegex(why string) error { return pgwire.Errorf("2201B", "invalid regular expression: %s", why) }

// keepRegex keeps the pattern that x was compared with last, for the rows to come.
func (e *env) keepRegex(x *regexExpr, re *regex) {
	top := e.top()
	if before := top.regexes[x]; before != nil {
		_ = e.hold(-before.size * regexStep) // less, which cannot fail
	}
	if top.regexes == nil {
		top.regexes = map[*regexExpr]*regex{}
	}
	top.regexes[x] = re
}

// regexSize is about how many steps the machine of a regular expression has, or more than maxRegexSize.
func regexSize(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)
	if re.Op == syntax.OpCharClass {
		size = 1
	}
	for _, sub := range re.Sub {
		size = min(size+regexSize(sub), maxRegexSize+1)
	}
	if re.Op == syntax.OpRepeat {
		size = min(size*max(re.Min+1, re.Max), maxRegexSize+1)
	}
	return size
}

// quickMatch is up to how many steps a match is over before anybody could cancel it.
const quickMatch = 1 << 20

func (r *regex) matches(e *env, text string) (bool, error) {
	if len(text) <= quickMatch/r.size {
		if err := e.step(len(text) * r.size); err != nil {
			return false, err
		}
		return r.MatchString(text), nil
	}
	paced := pacedText{text: text, cost: r.size, pace: &e.session.pace}
	matches := r.MatchReader(&paced)
	return matches, paced.pace.err
}

// A joinExpr is the concatenation of two arrays of one type.
type joinExpr struct {
	l, r expr
	t    Type
}

func (x *joinExpr) typ() Type { return x.t }

// joinArrays analyzes array || array.
func (a *analyzer) joinArrays(n binaryNode, l, r expr) expr {
	t := l.typ()
	if t == Unknown {
		t = r.typ()
	}
	l, r = a.coerceUnknown(l, t, n.l.at()), a.coerceUnknown(r, t, n.r.at())
	if l.typ() != t || r.typ() != t {
		a.noOperator(n.at(), l.typ(), "||", r.typ())
	}
	return &joinExpr{l, r, t}
}

func (a *analyzer) coerceUnknown(x expr, t Type, at int) expr {
	if x.typ() == Unknown {
		return a.coerce(x, t, at)
	}
	return x
}

func (x *joinExpr) eval(e *env) (Value, error) {
	l, err := x.l.eval(e)
	if err != nil {
		return Null, err
	}
	r, err := e.beside(x.r, l)
	switch {
	case err != nil:
		return Null, err
	case l.IsNull():
		return r, nil
	case r.IsNull():
		return l, nil
	case len(l.s)+len(r.s) > maxTextLen:
		return Null, textTooLong()
	case l.n+r.n > maxArrayLen:
		return Null, arrayTooLong()
	}
	v := Value{typ: x.t, n: l.n + r.n, s: l.s + r.s}
	if l.n > 0 && r.n > 0 {
		v.s = l.s + "\x00" + r.s
	}
	return v, nil
}

// named converts to an oid that is shown as a name: from an oid, or from the name.
func (s *Session) named(v Value, t Type) (Value, error) {
	if v.typ.family() == familyText {
		return s.resolveName(v.s, t)
	}
	n, err := castValue(v, OID, time.UTC, nil)
	if err != nil {
		return Null, err
	}
	return Value{typ: t, n: n.n, s: s.nameOf(uint32(n.n), t)}, nil
}

// An escapedExpr is a LIKE pattern with its own escape character, as a pattern that escapes with backslashes.
type escapedExpr struct{ pattern, escape expr }

func (x *escapedExpr) typ() Type { return Text }

func (x *escapedExpr) eval(e *env) (Value, error) {
	p, c, ok, err := evalPair(e, x.pattern, x.escape)
	if !ok {
		return Null, err
	}
	if utf8.RuneCountInString(c.s) > 1 {
		return Null, pgwire.Errorf(pgwire.CodeInvalidEscapeSequence, "invalid escape string").
			WithHint("Escape string must be empty or one character.")
	}
	escape, _ := utf8.DecodeRuneInString(c.s) // none: no character is the escape
	var b strings.Builder
	escaped := false
	for _, r := range p.s {
		switch {
		case c.s != "" && r == escape && !escaped:
			b.WriteByte('\\')
			escaped = true
			continue
		case r == '\\' && !escaped:
			b.WriteByte('\\')
		}
		b.WriteRune(r)
		escaped = false
	}
	return TextValue(b.String()), nil
}
