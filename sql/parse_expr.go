package sql

import (
	"strings"
)

// topExpr reads an expression that is not part of another; one of a subquery is.
func (p *parser) topExpr() node {
	if p.selects <= 1 {
		p.operators = 0
	}
	return p.expr()
}

// expr reads an expression. From here down each method binds tighter than the one before, in the
// order of the PostgreSQL 15 manual, "Operator Precedence".
func (p *parser) expr() node {
	defer p.nest()()
	return p.logic("or", func() node { return p.logic("and", p.not) })
}

func (p *parser) logic(word string, operand func() node) node {
	first := operand()
	if !p.isKeyword(word) {
		return first
	}
	chain := logicNode{pos: pos(p.tok.pos), and: word == "and", args: []node{first}}
	for p.accept(word) {
		p.countOperator()
		chain.args = append(chain.args, operand())
	}
	return chain
}

func (p *parser) not() node {
	at := p.tok.pos
	if !p.accept("not") {
		return p.is()
	}
	defer p.nest()()
	return notNode{pos: pos(at), x: p.not()}
}

func (p *parser) is() node {
	x := p.comparison()
	for p.isKeyword("is", "isnull", "notnull") {
		p.countOperator()
		at, word := pos(p.tok.pos), p.tok.text
		p.advance()
		if word != "is" {
			x = isNode{pos: at, x: x, what: "null", not: word == "notnull"}
			continue
		}
		not := p.accept("not")
		if p.acceptBoth("distinct", "from") {
			x = distinctNode{pos: at, l: x, r: p.comparison(), not: not}
			continue
		}
		if !p.isKeyword("null", "true", "false", "unknown") {
			p.unexpected()
		}
		x = isNode{pos: at, x: x, what: p.tok.text, not: not}
		p.advance()
	}
	return x
}

func (p *parser) isComparison() bool {
	if p.tok.kind != tokOp {
		return false
	}
	switch p.tok.text {
	case "=", "<>", "!=", "<", "<=", ">", ">=":
		return true
	}
	return false
}

// comparison is not associative: a < b < c is a syntax error.
func (p *parser) comparison() node {
	x := p.membership()
	if !p.isComparison() {
		return x
	}
	p.countOperator()
	op, at := p.tok.text, p.tok.pos
	p.advance()
	if op == "!=" {
		op = "<>"
	}
	if p.isKeyword("any", "all", "some") {
		x = p.anyOf(pos(at), op, x)
	} else {
		x = binaryNode{pos: pos(at), op: op, l: x, r: p.membership()}
	}
	if p.isComparison() {
		p.unexpected()
	}
	return x
}

// anyOf reads ANY (…) or ALL (…) after an operator.
func (p *parser) anyOf(at pos, op string, l node) node {
	x := anyNode{pos: at, op: op, l: l, all: p.tok.text == "all"}
	p.advance()
	p.expectOp("(")
	if sub, ok := p.subquery(subqueryList, at); ok {
		x.r = sub
	} else {
		x.r = p.expr()
	}
	p.expectOp(")")
	return x
}

// subquery reads SELECT …, if that is what comes. The parentheses are the caller's.
func (p *parser) subquery(kind subqueryKind, at pos) (subqueryNode, bool) {
	if p.isKeyword("with") {
		return subqueryNode{pos: at, kind: kind, query: p.withStatement()}, true
	}
	if p.isKeyword("values") {
		p.unsupported(p.tok.pos, commandName(p.tok.text)+" in a subquery", "")
	}
	if !p.isKeyword("select") {
		return subqueryNode{}, false
	}
	return subqueryNode{pos: at, kind: kind, query: p.selectStatement()}, true
}

// membership reads BETWEEN, IN and LIKE, with and without NOT.
func (p *parser) membership() node {
	x := p.otherOperator()
	at := pos(p.tok.pos)
	not := false
	if p.isKeyword("not") {
		if next := p.peek(); next.kind != tokIdent || !membershipWords[next.text] {
			return x
		}
		not = true
		p.advance()
	}
	switch {
	case p.accept("between"):
		symmetric := p.accept("symmetric")
		if !symmetric {
			p.accept("asymmetric")
		}
		lo := p.otherOperator()
		p.expect("and")
		x = betweenNode{pos: at, x: x, lo: lo, hi: p.otherOperator(), symmetric: symmetric, not: not}
	case p.accept("in"):
		in := inNode{pos: at, x: x, not: not}
		p.inList(&in)
		x = in
	case p.isKeyword("like", "ilike"):
		fold := p.tok.text == "ilike"
		p.advance()
		like := likeNode{pos: at, x: x, pattern: p.otherOperator(), fold: fold, not: not}
		if p.accept("escape") {
			like.escape = p.otherOperator()
		}
		x = like
	case p.isKeyword("similar"):
		p.unsupported(int(at), "SIMILAR TO", "Use LIKE or the operator ~.")
	default:
		return x
	}
	p.countOperator()
	return x
}

var membershipWords = wordSet("between in like ilike similar")

func (p *parser) inList(in *inNode) {
	p.expectOp("(")
	if sub, ok := p.subquery(subqueryList, in.pos); ok {
		in.sub = &sub
	} else {
		in.list = p.exprList()
	}
	p.expectOp(")")
}

func (p *parser) exprList() []node {
	list := []node{p.expr()}
	for p.acceptOp(",") {
		list = append(list, p.expr())
	}
	return list
}

// leftAssoc reads operand {op operand}, grouping from the left.
func (p *parser) leftAssoc(isOp func(string) bool, operand func() node) node {
	x := operand()
	for p.tok.kind == tokOp && isOp(p.tok.text) {
		p.countOperator()
		op, at := p.tok.text, p.tok.pos
		p.advance()
		x = binaryNode{pos: pos(at), op: op, l: x, r: operand()}
	}
	return x
}

// otherOperator reads operators without a precedence of their own, OPERATOR(schema.op) among them.
func (p *parser) otherOperator() node {
	x := p.leftAssoc(isOtherOperator, p.additive)
	for p.isKeyword("operator") {
		if next := p.peek(); next.kind != tokOp || next.text != "(" {
			break
		}
		p.countOperator()
		at, op := pos(p.tok.pos), p.qualifiedOperator()
		if p.isKeyword("any", "all", "some") {
			x = p.anyOf(at, op, x)
			continue
		}
		x = binaryNode{pos: at, op: op, l: x, r: p.leftAssoc(isOtherOperator, p.additive)}
	}
	return x
}

func (p *parser) qualifiedOperator() string {
	p.advance()
	p.expectOp("(")
	if p.tok.kind != tokOp {
		p.label()
		p.expectOp(".")
	}
	if p.tok.kind != tokOp {
		p.unexpected()
	}
	op := p.tok.text
	p.advance()
	p.expectOp(")")
	if op == "!=" {
		op = "<>"
	}
	return op
}

func (p *parser) additive() node {
	return p.leftAssoc(func(op string) bool { return op == "+" || op == "-" }, p.multiplicative)
}

func (p *parser) multiplicative() node {
	return p.leftAssoc(func(op string) bool { return op == "*" || op == "/" || op == "%" }, p.power)
}

// power reads ^, which no type here has: it is refused as an unknown operator is.
func (p *parser) power() node {
	return p.leftAssoc(func(op string) bool { return op == "^" }, p.unary)
}

// isOtherOperator accepts every operator the grammar gives no precedence of its own. Only || is
// known; the rest fail in analysis, as an unknown operator does in PostgreSQL.
func isOtherOperator(op string) bool {
	switch op {
	case "+", "-", "*", "/", "%", "^", "=", "<", ">", "<=", ">=", "<>", "!=", "=>":
		return false
	}
	return strings.IndexByte(operatorChars, op[0]) >= 0
}

func (p *parser) unary() node {
	if !p.isOp("-") && !p.isOp("+") {
		if p.tok.kind == tokOp && isOtherOperator(p.tok.text) {
			return p.prefixOperator()
		}
		return p.cast()
	}
	op, at := p.tok.text, pos(p.tok.pos)
	p.advance()
	defer p.nest()()
	x := p.unary()
	if num, ok := x.(literalNode); ok && num.kind != tokString {
		// As PostgreSQL's grammar does: -5 is one constant, but -5::int2 negates 5::int2.
		num.pos = at
		if op == "-" {
			num.text = negated(num.text)
		}
		return num
	}
	return unaryNode{pos: at, op: op, x: x}
}

// prefixOperator reads ~x or @x, which analysis refuses. Such operators bind less tightly than + and -.
func (p *parser) prefixOperator() node {
	p.countOperator()
	op, at := p.tok.text, pos(p.tok.pos)
	p.advance()
	defer p.nest()()
	return unaryNode{pos: at, op: op, x: p.additive()}
}

func negated(number string) string {
	if rest, ok := strings.CutPrefix(number, "-"); ok {
		return rest
	}
	return "-" + number
}

// cast reads what binds tightest: x::type, x[index] and x COLLATE name.
func (p *parser) cast() node {
	x := p.primary()
	for {
		at := pos(p.tok.pos)
		switch {
		case p.acceptOp("::"):
			x = castNode{pos: at, x: x, typ: p.typeName()}
		case p.acceptOp("["):
			x = subscriptNode{pos: at, x: x, index: p.expr()}
			if p.isOp(":") {
				p.unsupported(p.tok.pos, "an array slice", "")
			}
			p.expectOp("]")
		case p.acceptBoth("at", "time"):
			p.expect("zone")
			x = callNode{pos: at, name: "timezone", args: []node{p.primary(), x}}
		case p.accept("collate"):
			c := collateNode{pos: at, x: x, name: p.label()}
			if p.acceptOp(".") {
				c.name = qualified(c.name, p.label())
			}
			x = c
		default:
			return x
		}
		p.countOperator()
	}
}
