package sql

import "github.com/longship-db/longship/pgwire"

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
		if sub, ok := p.subquery(subqueryValue, at); ok {
			p.expectOp(")")
			return sub
		}
		x := p.expr()
		if p.isOp(",") {
			return p.row(at, x)
		}
		p.expectOp(")")
		if p.acceptOp(".") {
			field := fieldNode{pos: at, x: x}
			if !p.acceptOp("*") {
				field.name = p.label()
			}
			return field
		}
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
	case "current_user", "session_user", "user", "current_role", "current_catalog", "current_timestamp", "current_schema", "current_date", "localtime", "localtimestamp":
		if word == "current_schema" && p.peek().kind == tokOp && p.peek().text == "(" {
			return nil, false
		}
		p.advance()
		return callNode{pos: at, name: word}, true
	case "extract":
		if next := p.peek(); next.kind == tokOp && next.text == "(" {
			return p.extract(at), true
		}
	case "trim", "position", "substring":
		if next := p.peek(); next.kind == tokOp && next.text == "(" {
			return p.textForm(at, word), true
		}
	case "exists", "array", "row":
		if next := p.peek(); next.kind == tokOp && (next.text == "(" || next.text == "[") {
			return p.constructor(at, word), true
		}
	}
	return nil, false
}

// maxRowEntries is PostgreSQL's limit.
const maxRowEntries = 1664

// row reads what follows the first expression of (a, b).
func (p *parser) row(at pos, first node) node {
	x := rowNode{pos: at, args: []node{first}}
	for p.acceptOp(",") {
		x.args = append(x.args, p.expr())
	}
	if len(x.args) > maxRowEntries {
		p.fail(int(at), pgwire.CodeTooManyColumns, "ROW expressions can have at most %d entries", maxRowEntries)
	}
	p.expectOp(")")
	return x
}

// rowConstructor reads what follows ROW.
func (p *parser) rowConstructor(at pos) node {
	p.expectOp("(")
	if p.acceptOp(")") {
		return rowNode{pos: at}
	}
	return p.row(at, p.expr())
}

// constructor reads EXISTS (SELECT …), ARRAY(SELECT …), ARRAY[…] and ROW(…).
func (p *parser) constructor(at pos, word string) node {
	p.advance()
	if word == "row" && p.isOp("(") {
		return p.rowConstructor(at)
	}
	if word == "array" && p.acceptOp("[") {
		x := arrayNode{pos: at}
		if !p.isOp("]") {
			x.elems = p.exprList()
		}
		p.expectOp("]")
		return x
	}
	p.expectOp("(")
	kind := map[string]subqueryKind{"exists": subqueryExists, "array": subqueryArray}[word]
	x, ok := p.subquery(kind, at)
	if !ok {
		p.unexpected()
	}
	p.expectOp(")")
	return x
}

// textForm reads the functions that the SQL standard gives words between their arguments, and makes calls of
// them: TRIM([LEADING | TRAILING | BOTH] [characters] FROM x), POSITION(x IN y), SUBSTRING(x FROM n FOR n).
func (p *parser) textForm(at pos, word string) node {
	defer p.nest()()
	p.advance()
	p.expectOp("(")
	c := callNode{pos: at, name: word}
	switch word {
	case "position":
		x := p.otherOperator()
		p.expect("in")
		c.args = []node{p.otherOperator(), x}
	case "trim":
		p.trim(&c)
	default:
		c.args = []node{p.expr()}
		for p.acceptOp(",") || p.accept("from") || p.isKeyword("for") {
			if p.accept("for") && len(c.args) == 1 {
				c.args = append(c.args, literalNode{pos: at, kind: tokInt, text: "1"})
			}
			c.args = append(c.args, p.expr())
		}
	}
	p.expectOp(")")
	return c
}

func (p *parser) trim(c *callNode) {
	c.name = "btrim"
	for word, name := range map[string]string{"leading": "ltrim", "trailing": "rtrim", "both": "btrim"} {
		if p.accept(word) {
			c.name = name
			break
		}
	}
	if !p.accept("from") {
		c.args = p.exprList()
		if !p.accept("from") {
			return
		}
	}
	c.args = append([]node{p.expr()}, c.args...)
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
		lit := literalNode{pos: pos(p.tok.pos), kind: tokString}
		if lit.text = p.stringLiteral(); typ == Interval {
			p.refuseFields()
		}
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
		if name = qualified(name, second); p.acceptOp("*") {
			return columnNode{pos: at, table: name}
		}
		second = p.label()
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

// call reads the arguments of a function. p.tok is the opening parenthesis.
func (p *parser) call(at int, name string) *callNode {
	defer p.nest()()
	c := &callNode{pos: pos(at), name: name}
	p.expectOp("(")
	if p.acceptOp("*") {
		c.star = true
		p.expectOp(")")
		p.filter(c)
		p.window(c)
		return c
	}
	if !p.isOp(")") {
		if c.distinct = p.accept("distinct"); !c.distinct {
			p.accept("all")
		}
		c.args = p.exprList()
		if p.accept("order") {
			p.expect("by")
			c.order = p.orderItems()
		}
	}
	if least := specialForms[name]; len(c.args) < least || name == "nullif" && len(c.args) > least {
		p.unexpected()
	}
	p.expectOp(")")
	p.filter(c)
	p.window(c)
	return c
}

// filter reads FILTER (WHERE condition) after an aggregate.
func (p *parser) filter(c *callNode) {
	if next := p.peek(); !p.isKeyword("filter") || next.kind != tokOp || next.text != "(" {
		return
	}
	p.advance()
	p.expectOp("(")
	p.expect("where")
	c.filter = p.expr()
	p.expectOp(")")
}

// specialForms are what the grammar has instead of functions, and how many arguments they take at least.
var specialForms = map[string]int{"coalesce": 1, "greatest": 1, "least": 1, "nullif": 2}

// window reads OVER ([PARTITION BY …] [ORDER BY …]) after a call, and refuses its like.
func (p *parser) window(c *callNode) {
	if !p.isKeyword("over", "within") {
		return
	}
	if next := p.peek(); next.kind != tokOp || next.text != "(" {
		return
	}
	if !p.isKeyword("over") || c.name != "row_number" && !(c.name == "count" && c.star) {
		what := map[string]string{"over": "a window function other than row_number() and count(*)", "within": "WITHIN GROUP"}[p.tok.text]
		p.unsupported(p.tok.pos, what, "")
	}
	p.advance()
	p.expectOp("(")
	c.over = &windowNode{}
	if p.accept("partition") {
		p.expect("by")
		c.over.partition = p.exprList()
	}
	if p.accept("order") {
		p.expect("by")
		c.over.order = p.orderItems()
	}
	p.expectOp(")")
}
