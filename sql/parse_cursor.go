package sql

import "math"

// declareStatement reads DECLARE name [NO SCROLL] [INSENSITIVE | ASENSITIVE] CURSOR [WITHOUT HOLD] FOR SELECT …
func (p *parser) declareStatement() statementNode {
	p.expect("declare")
	s := &declareStmt{name: p.name()}
	for !p.accept("cursor") {
		at := p.tok.pos
		switch {
		case p.accept("insensitive"), p.accept("asensitive"), p.acceptBoth("no", "scroll"):
		case p.accept("scroll"):
			p.unsupported(at, "a SCROLL cursor", onlyForward)
		case p.accept("binary"):
			p.unsupported(at, "a BINARY cursor", "The protocol's Bind message asks for rows in binary format, of FETCH as of any statement.")
		default:
			p.unexpected()
		}
	}
	at := p.tok.pos
	if p.accept("with") {
		p.expect("hold")
		p.unsupported(at, "a cursor WITH HOLD", "A cursor ends with its transaction. Outside of one, select page by page: WHERE key > the last one, ORDER BY key, LIMIT.")
	}
	if p.accept("without") {
		p.expect("hold")
	}
	p.expect("for")
	s.query = p.query()
	return s
}

const onlyForward = "Cursors go forward only. To go through the rows again, or the other way, declare another one."

// query reads a statement that selects.
func (p *parser) query() *selectStmt {
	switch {
	case p.isKeyword("select"):
		return p.selectStatement()
	case p.isKeyword("table"):
		return p.tableStatement()
	case p.isKeyword("values"):
		return p.valuesStatement()
	case p.isKeyword("with"):
		return p.withStatement()
	case p.isOp("("):
		p.unsupported(p.tok.pos, "a SELECT in parentheses", "")
	}
	p.unexpected()
	return nil
}

// fetchStatement reads FETCH and MOVE [NEXT | n | ALL | FORWARD [n | ALL]] [FROM | IN] name.
func (p *parser) fetchStatement() statementNode {
	s := &fetchStmt{move: p.isKeyword("move"), count: 1}
	p.advance()
	at := p.tok.pos
	if next := p.peek(); next.kind != tokEOF && (next.kind != tokOp || next.text != ";") { // else it is the name
		s.count = p.fetchCount(at)
	}
	if !p.accept("from") {
		p.accept("in")
	}
	s.name = p.name()
	return s
}

// fetchCount reads how many rows are wanted, if that is said.
func (p *parser) fetchCount(at int) int {
	switch {
	case p.isKeyword("backward", "prior", "first", "last", "absolute", "relative"):
		p.unsupported(at, commandName(p.tok.text)+" of a cursor", onlyForward)
	case p.accept("next"):
		return 1
	case p.accept("all"):
		return math.MaxInt
	}
	forward := p.accept("forward")
	switch {
	case forward && p.accept("all"):
		return math.MaxInt
	case p.tok.kind != tokInt && !p.isOp("-") && !p.isOp("+"):
		return 1
	}
	if p.isOp("-") {
		p.unsupported(at, "a negative count of a cursor", onlyForward)
	}
	p.acceptOp("+")
	n, err := parseInt(p.tok.text, Int4)
	if p.tok.kind != tokInt || err != nil {
		p.unexpected()
	}
	p.advance()
	return int(n.n)
}

// closeStatement reads CLOSE name and CLOSE ALL.
func (p *parser) closeStatement() statementNode {
	p.expect("close")
	if p.accept("all") {
		return &closeStmt{}
	}
	return &closeStmt{name: p.name()}
}
