package sql

import "slices"

// withStatement reads WITH … before a SELECT.
func (p *parser) withStatement() *selectStmt {
	defer p.nest()()
	at, with := pos(p.tok.pos), p.withQueries()
	if p.isKeyword("insert", "update", "delete", "with") {
		p.unsupported(p.tok.pos, commandName(p.tok.text)+" after WITH inside a statement", "")
	}
	return p.queryWith(at, with)
}

// withAny reads WITH … before a SELECT or a write.
func (p *parser) withAny() statementNode {
	at, with := pos(p.tok.pos), p.withQueries()
	switch {
	case p.isKeyword("insert"):
		s := p.insertStatement()
		s.with = with
		return s
	case p.isKeyword("update"):
		s := p.updateStatement()
		s.with = with
		return s
	case p.isKeyword("delete"):
		s := p.deleteStatement()
		s.with = with
		return s
	case p.isKeyword("merge"):
		p.unsupported(p.tok.pos, "MERGE", refused["merge"])
	}
	return p.queryWith(at, with)
}

func (p *parser) queryWith(at pos, with []withQuery) *selectStmt {
	s := p.query()
	s.pos, s.with = at, slices.Concat(with, s.with)
	return s
}

// withQueries reads WITH [RECURSIVE] name [(column, …)] AS [[NOT] MATERIALIZED] (query), …
func (p *parser) withQueries() (with []withQuery) {
	p.expect("with")
	recursive := p.accept("recursive")
	for first := true; first || p.acceptOp(","); first = false {
		with = append(with, p.withQuery(recursive))
	}
	return with
}

func (p *parser) withQuery(recursive bool) withQuery {
	w := withQuery{recursive: recursive, tableRef: tableRef{pos: pos(p.tok.pos)}}
	w.name = p.name()
	if p.acceptOp("(") {
		for _, c := range p.columnNames(p.name) {
			w.columns = append(w.columns, c.name)
		}
	}
	p.expect("as")
	if !p.accept("materialized") {
		p.acceptBoth("not", "materialized")
	}
	p.expectOp("(")
	if p.isKeyword("insert", "update", "delete") {
		p.unsupported(p.tok.pos, commandName(p.tok.text)+" in WITH", "Send the statements one after the other, between BEGIN and COMMIT.")
	}
	p.selects++
	w.query = &derivedNode{arms: []*selectStmt{p.query()}, distinct: []bool{false}}
	p.selects--
	p.expectOp(")")
	return w
}

// groupClauses reads GROUP BY and HAVING.
func (p *parser) groupClauses(s *selectStmt) {
	if p.accept("group") {
		p.expect("by")
		if next := p.peek(); p.isKeyword("rollup", "cube") && next.text == "(" || p.isKeyword("grouping") && next.text == "sets" {
			p.unsupported(p.tok.pos, commandName(p.tok.text), "")
		}
		for first := true; first || p.acceptOp(","); first = false {
			s.groupBy = append(s.groupBy, p.topExpr())
		}
	}
	if p.accept("having") {
		s.having = p.topExpr()
	}
}

// locking reads FOR READ ONLY, which means nothing, and FOR UPDATE and its like, which do not either: what a transaction
// reads is checked when it commits. Only to pass over what others have locked is refused.
func (p *parser) locking() {
	for p.accept("for") {
		switch {
		case p.accept("read"):
			p.expect("only")
			return
		case p.acceptBoth("no", "key"):
			p.expect("update")
		case p.acceptBoth("key", "share"), p.accept("update"):
		default:
			p.expect("share")
		}
		if p.accept("of") {
			for p.name(); p.acceptOp(","); p.name() {
			}
		}
		if at := p.tok.pos; p.acceptBoth("skip", "locked") {
			p.unsupported(at, "SKIP LOCKED", "There are no locks. Take a row by DELETE … WHERE key = … RETURNING: of several who do, one gets it.")
		}
		p.accept("nowait")
	}
}
