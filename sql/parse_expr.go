package sql

import (
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// topExpr reads an expression that is not part of another.
func (p *parser) topExpr() node {
	p.operators = 0
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
		p.unsupported(p.tok.pos, commandName(p.tok.text), "Use IN with a list.")
	}
	x = binaryNode{pos: pos(at), op: op, l: x, r: p.membership()}
	if p.isComparison() {
		p.unexpected()
	}
	return x
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
		p.accept("symmetric")
		lo := p.otherOperator()
		p.expect("and")
		x = betweenNode{pos: at, x: x, lo: lo, hi: p.otherOperator(), not: not}
	case p.accept("in"):
		x = inNode{pos: at, x: x, list: p.inList(), not: not}
	case p.isKeyword("like", "ilike"):
		fold := p.tok.text == "ilike"
		p.advance()
		x = likeNode{pos: at, x: x, pattern: p.otherOperator(), fold: fold, not: not}
		if p.isKeyword("escape") {
			p.unsupported(p.tok.pos, "ESCAPE", "The escape character is the backslash.")
		}
	default:
		return x
	}
	p.countOperator()
	return x
}

var membershipWords = wordSet("between in like ilike")

func (p *parser) inList() []node {
	p.expectOp("(")
	if p.isKeyword("select", "with", "values") {
		p.unsupported(p.tok.pos, "a subquery", "")
	}
	list := p.exprList()
	p.expectOp(")")
	return list
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

func (p *parser) otherOperator() node { return p.leftAssoc(isOtherOperator, p.additive) }

func (p *parser) additive() node {
	return p.leftAssoc(func(op string) bool { return op == "+" || op == "-" }, p.multiplicative)
}

func (p *parser) multiplicative() node {
	return p.leftAssoc(func(op string) bool { return op == "*" || op == "/" || op == "%" }, p.unary)
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

func negated(number string) string {
	if rest, ok := strings.CutPrefix(number, "-"); ok {
		return rest
	}
	return "-" + number
}

func (p *parser) cast() node {
	x := p.primary()
	for p.isOp("::") {
		p.countOperator()
		at := pos(p.tok.pos)
		p.advance()
		x = castNode{pos: at, x: x, typ: p.typeName()}
	}
	if p.isOp("[") {
		p.unsupported(p.tok.pos, "an array subscript", "")
	}
	return x
}

func (p *parser) primary() node {
	at := pos(p.tok.pos)
	switch p.tok.kind {
	case tokString, tokInt, tokNumber:
		lit := literalNode{pos: at, kind: p.tok.kind, text: p.tok.text}
		p.advance()
		return lit
	case tokParam:
		n := p.paramIndex()
		p.advance()
		return paramNode{pos: at, index: n}
	case tokOp:
		if !p.acceptOp("(") {
			p.unexpected()
		}
		if p.isKeyword("select", "with", "values") {
			p.unsupported(p.tok.pos, "a subquery", "")
		}
		x := p.expr()
		p.expectOp(")")
		return x
	case tokIdent:
		if x, ok := p.keywordExpr(at); ok {
			return x
		}
	}
	return p.nameExpr(at)
}

// keywordExpr reads the expressions that begin with a keyword.
func (p *parser) keywordExpr(at pos) (node, bool) {
	word := p.tok.text
	switch word {
	case "null":
		p.advance()
		return nullNode{at}, true
	case "true", "false":
		p.advance()
		return boolNode{at, word == "true"}, true
	case "case":
		return p.caseExpr(at), true
	case "cast":
		return p.castCall(at), true
	case "current_user", "session_user", "user", "current_role", "current_catalog", "current_timestamp", "current_schema":
		if word == "current_schema" && p.peek().kind == tokOp && p.peek().text == "(" {
			return nil, false
		}
		p.advance()
		return callNode{pos: at, name: word}, true
	case "extract":
		if next := p.peek(); next.kind == tokOp && next.text == "(" {
			return p.extract(at), true
		}
	case "exists", "array", "row":
		if next := p.peek(); next.kind == tokOp && (next.text == "(" || next.text == "[") {
			p.unsupported(int(at), commandName(word), "")
		}
	}
	return nil, false
}

// extract reads EXTRACT(field FROM x), which is date_part with a numeric result.
func (p *parser) extract(at pos) node {
	defer p.nest()()
	p.advance()
	p.expectOp("(")
	field := literalNode{pos: pos(p.tok.pos), kind: tokString, text: p.tok.text}
	if p.tok.kind != tokString {
		p.label()
	} else {
		p.advance()
	}
	p.expect("from")
	x := p.expr()
	p.expectOp(")")
	return callNode{pos: at, name: "extract", args: []node{field, x}}
}

func (p *parser) castCall(at pos) node {
	p.advance()
	p.expectOp("(")
	x := p.expr()
	p.expect("as")
	typ := p.typeName()
	p.expectOp(")")
	return castNode{pos: at, x: x, typ: typ}
}

func (p *parser) caseExpr(at pos) node {
	p.advance()
	c := caseNode{pos: at}
	if !p.isKeyword("when") {
		c.operand = p.expr()
	}
	for p.accept("when") {
		cond := p.expr()
		p.expect("then")
		c.whens = append(c.whens, whenClause{cond, p.expr()})
	}
	if len(c.whens) == 0 {
		p.unexpected()
	}
	if p.accept("else") {
		c.orElse = p.expr()
	}
	p.expect("end")
	return c
}

// nameExpr reads a column, table.column, table.*, a call, or type 'literal'.
func (p *parser) nameExpr(at pos) node {
	if typ, ok := p.typedLiteral(); ok {
		lit := literalNode{pos: pos(p.tok.pos), kind: tokString, text: p.stringLiteral()}
		return castNode{pos: at, x: lit, typ: typ}
	}
	name := p.exprName()
	if p.isOp("(") {
		return *p.call(int(at), name)
	}
	if !p.acceptOp(".") {
		return columnNode{pos: at, name: name}
	}
	if p.acceptOp("*") {
		return columnNode{pos: at, table: name}
	}
	second := p.label()
	if p.isOp("(") {
		return *p.call(int(at), qualified(name, second))
	}
	if p.acceptOp(".") {
		name, second = qualified(name, second), p.label()
	}
	return columnNode{pos: at, table: name, name: second}
}

// exprName reads a name that begins an expression; some reserved words are functions too.
func (p *parser) exprName() string {
	if p.isKeyword("left", "right", "current_schema") {
		if next := p.peek(); next.kind == tokOp && next.text == "(" {
			return p.label()
		}
	}
	return p.name()
}

// typedLiteral reads the type in type 'literal'.
func (p *parser) typedLiteral() (Type, bool) {
	if p.tok.kind != tokIdent {
		return 0, false
	}
	if _, known := typeNames[p.tok.text]; !known || p.peek().kind != tokString {
		return 0, false
	}
	typ := typeNames[p.tok.text]
	p.advance()
	return typ, true
}

// call reads the arguments of a function. p.tok is the opening parenthesis.
func (p *parser) call(at int, name string) *callNode {
	defer p.nest()()
	c := &callNode{pos: pos(at), name: name}
	p.expectOp("(")
	if p.acceptOp("*") {
		c.star = true
		p.expectOp(")")
		p.refuseWindow()
		return c
	}
	if !p.isOp(")") {
		if p.isKeyword("distinct") {
			p.unsupported(p.tok.pos, "an aggregate with DISTINCT", "")
		}
		c.args = p.exprList()
	}
	p.expectOp(")")
	p.refuseWindow()
	return c
}

func (p *parser) refuseWindow() {
	if p.isKeyword("over", "filter", "within") {
		if next := p.peek(); next.kind == tokOp && next.text == "(" {
			p.unsupported(p.tok.pos, "a window function", "")
		}
	}
}

// typeName reads the name of a type; lengths and precisions are not supported.
func (p *parser) typeName() Type {
	at := p.tok.pos
	name := p.label()
	if p.acceptOp(".") {
		name = qualified(name, p.label())
	}
	switch {
	case name == "double":
		p.expect("precision")
		name = "float8"
	case name == "character" && p.accept("varying"):
		name = "varchar"
	case name == "timestamp" && p.acceptBoth("with", "time"):
		p.expect("zone")
		name = "timestamptz"
	}
	typ, ok := typeNames[name]
	if !ok {
		p.fail(at, pgwire.CodeUndefinedObject, `type "%s" does not exist`, name)
	}
	if p.isOp("(") {
		p.unsupported(p.tok.pos, "a type modifier", "")
	}
	if p.isOp("[") {
		p.unsupported(p.tok.pos, "an array type", "")
	}
	return typ
}
