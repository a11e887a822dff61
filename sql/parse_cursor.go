package sql

import "math"

// declareStatement reads DECLARE name [[NO] SCROLL] [INSENSITIVE | ASENSITIVE] CURSOR [{WITH | WITHOUT} HOLD] FOR SELECT …
func (p *parser) declareStatement() *declareStmt {
	p.expect("declare")
	s := &declareStmt{name: p.name()}
	for !p.accept("cursor") {
		at := p.tok.pos
		switch {
		case p.accept("insensitive"), p.accept("asensitive"), p.acceptBoth("no", "scroll"):
		case p.accept("scroll"):
			s.scroll = true
		case p.accept("binary"):
			p.unsupported(at, "a BINARY cursor", "The protocol's Bind message asks for rows in binary format, of FETCH as of any statement.")
		default:
			p.unexpected()
		}
	}
	if p.accept("with") {
		p.expect("hold")
		s.hold = true
	} else if p.accept("without") {
		p.expect("hold")
	}
	p.expect("for")
	s.query = p.query()
	return s
}

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

// fetchStatement reads FETCH and MOVE [direction] [FROM | IN] name.
func (p *parser) fetchStatement() statementNode {
	s := &fetchStmt{move: p.isKeyword("move"), count: 1}
	p.advance()
	if next := p.peek(); next.kind != tokEOF && (next.kind != tokOp || next.text != ";") { // else it is the name
		p.fetchDirection(s)
	}
	if !p.accept("from") {
		p.accept("in")
	}
	s.name = p.name()
	return s
}

// A motion is where a cursor is moved.
type motion uint8

const (
	moveForward motion = iota
	moveBackward
	moveAbsolute
	moveRelative
)

// fetchDirection reads which rows are wanted, if that is said.
func (p *parser) fetchDirection(s *fetchStmt) {
	switch {
	case p.accept("next"):
	case p.accept("prior"):
		s.motion = moveBackward
	case p.accept("first"):
		s.motion = moveAbsolute
	case p.accept("last"):
		s.motion, s.count = moveAbsolute, -1
	case p.accept("absolute"):
		s.motion, s.count = moveAbsolute, p.signedCount()
	case p.accept("relative"):
		s.motion, s.count = moveRelative, p.signedCount()
	case p.accept("backward"):
		s.motion = moveBackward
		p.fetchCount(s)
	default:
		p.accept("forward")
		p.fetchCount(s)
	}
	if s.motion <= moveBackward && s.count < 0 {
		s.motion, s.count = moveBackward-s.motion, -s.count
	}
}

// fetchCount reads ALL or a number, if it is there.
func (p *parser) fetchCount(s *fetchStmt) {
	switch {
	case p.accept("all"):
		s.count = math.MaxInt
	case p.tok.kind == tokInt || p.isOp("-") || p.isOp("+"):
		s.count = p.signedCount()
	}
}

func (p *parser) signedCount() int {
	negative := p.acceptOp("-")
	if !negative {
		p.acceptOp("+")
	}
	n, err := parseInt(p.tok.text, Int4)
	if p.tok.kind != tokInt || err != nil {
		p.unexpected()
	}
	p.advance()
	if negative {
		return -int(n.n)
	}
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
