package sql

import "github.com/longship-db/longship/pgwire"

func (p *parser) selectStatement() statementNode {
	p.expect("select")
	s := &selectStmt{}
	if p.isKeyword("distinct") {
		p.unsupported(p.tok.pos, "SELECT DISTINCT", "")
	}
	p.accept("all")
	if !p.isKeyword("from", "where", "order", "limit", "offset") && p.tok.kind != tokEOF && !p.isOp(";") {
		s.targets = p.targets()
	}
	if p.accept("from") {
		ref := p.tableRef(true)
		s.from = &ref
		p.refuseJoin()
	}
	s.where = p.whereClause()
	p.refuseClause()
	if p.accept("order") {
		p.expect("by")
		s.orderBy = p.orderItems()
	}
	p.limitClauses(s)
	if p.isKeyword("for") {
		p.unsupported(p.tok.pos, "FOR UPDATE", "Transactions are serializable without locks.")
	}
	return s
}

func (p *parser) refuseClause() {
	if p.isKeyword("group") {
		p.unsupported(p.tok.pos, "GROUP BY", "Aggregates are over all rows.")
	}
	if p.isKeyword("having", "window", "union", "intersect", "except") {
		p.unsupported(p.tok.pos, commandName(p.tok.text), "")
	}
}

func (p *parser) refuseJoin() {
	if p.isOp(",") || p.isKeyword("join", "inner", "left", "right", "full", "cross", "natural") {
		p.unsupported(p.tok.pos, "JOIN", "Select from one table or view at a time.")
	}
}

func (p *parser) whereClause() node {
	if p.accept("where") {
		return p.topExpr()
	}
	return nil
}

func (p *parser) limitClauses(s *selectStmt) {
	for {
		switch {
		case p.isKeyword("limit") && s.limit == nil:
			p.advance()
			if at := p.tok.pos; p.accept("all") {
				s.limit = nullNode{pos(at)}
			} else {
				s.limit = p.topExpr()
			}
		case p.isKeyword("offset") && s.offset == nil:
			p.advance()
			s.offset = p.topExpr()
			if !p.accept("rows") {
				p.accept("row")
			}
		default:
			return
		}
	}
}

func (p *parser) orderItems() []orderItem {
	var items []orderItem
	for {
		item := orderItem{expr: p.topExpr()}
		if !p.accept("asc") {
			item.desc = p.accept("desc")
		}
		item.nullsFirst = item.desc
		if p.accept("nulls") {
			item.nullsFirst = p.accept("first")
			if !item.nullsFirst {
				p.expect("last")
			}
		}
		items = append(items, item)
		if !p.acceptOp(",") {
			return items
		}
	}
}

func (p *parser) targets() []target {
	var list []target
	for {
		list = append(list, p.target())
		if !p.acceptOp(",") {
			return list
		}
	}
}

func (p *parser) target() target {
	t := target{pos: pos(p.tok.pos)}
	if p.acceptOp("*") {
		return t
	}
	t.expr = p.topExpr()
	if star, ok := t.expr.(columnNode); ok && star.name == "" {
		return target{pos: star.pos, table: star.table}
	}
	if p.accept("as") {
		t.alias = p.label()
	} else if p.tok.kind == tokQuoted || p.tok.kind == tokIdent && !reserved[p.tok.text] {
		t.alias = p.label()
	}
	return t
}

// tableRef reads [schema.]name [[AS] alias], or a function call if calls are allowed here. The
// schemas pg_catalog and public are looked through; any other is part of the name.
func (p *parser) tableRef(calls bool) tableRef {
	ref := tableRef{pos: pos(p.tok.pos)}
	if p.isOp("(") {
		p.unsupported(p.tok.pos, "a subquery", "")
	}
	p.accept("only")
	ref.name = p.name()
	if p.acceptOp(".") {
		ref.name = qualified(ref.name, p.label())
	}
	if p.isOp("(") && calls {
		ref.call = p.call(int(ref.pos), ref.name)
	}
	if p.accept("as") {
		ref.alias = p.name()
	} else if p.tok.kind == tokQuoted || p.tok.kind == tokIdent && !reserved[p.tok.text] && p.tok.text != "set" {
		ref.alias = p.name()
	}
	return ref
}

func qualified(schema, name string) string {
	if schema == "pg_catalog" || schema == "public" {
		return name
	}
	return schema + "." + name
}

func (p *parser) insertStatement() statementNode {
	p.expect("insert")
	p.expect("into")
	s := &insertStmt{table: p.insertTable()}
	if p.acceptOp("(") {
		s.columns = p.columnNames()
	}
	switch {
	case p.acceptBoth("default", "values"):
		s.rows = [][]node{{}}
	case p.accept("values"):
		s.rows = p.valueRows()
	case p.isKeyword("select", "with", "table"):
		p.unsupported(p.tok.pos, "INSERT … "+commandName(p.tok.text), "Use INSERT … VALUES.")
	default:
		p.unexpected()
	}
	if at := p.tok.pos; p.accept("on") {
		p.expect("conflict")
		s.conflict = p.conflictClause(at)
	}
	s.returning = p.returning()
	return s
}

// insertTable reads the target of INSERT, whose alias needs AS.
func (p *parser) insertTable() tableRef {
	ref := tableRef{pos: pos(p.tok.pos)}
	ref.name = p.name()
	if p.acceptOp(".") {
		ref.name = qualified(ref.name, p.label())
	}
	if p.accept("as") {
		ref.alias = p.name()
	}
	return ref
}

func (p *parser) columnNames() []columnName {
	var list []columnName
	for {
		c := columnName{pos: pos(p.tok.pos)}
		c.name = p.name()
		list = append(list, c)
		if !p.acceptOp(",") {
			p.expectOp(")")
			return list
		}
	}
}

func (p *parser) valueRows() [][]node {
	var rows [][]node
	for {
		p.expectOp("(")
		var row []node
		for {
			row = append(row, p.exprOrDefault())
			if !p.acceptOp(",") {
				break
			}
		}
		p.expectOp(")")
		if len(rows) > 0 && len(row) != len(rows[0]) {
			p.fail(row[0].at(), pgwire.CodeSyntaxError, "VALUES lists must all be the same length")
		}
		rows = append(rows, row)
		if !p.acceptOp(",") {
			return rows
		}
	}
}

func (p *parser) exprOrDefault() node {
	if at := p.tok.pos; p.accept("default") {
		return defaultNode{pos(at)}
	}
	return p.topExpr()
}

// conflictClause reads what follows ON CONFLICT, which began at at.
func (p *parser) conflictClause(at int) *conflictClause {
	c := &conflictClause{pos: pos(at)}
	if p.acceptOp("(") {
		c.target = p.columnNames()
	} else if p.acceptBoth("on", "constraint") {
		at := p.tok.pos
		if name := p.name(); name != "kv_pkey" {
			p.fail(at, pgwire.CodeUndefinedObject, `constraint "%s" for table "kv" does not exist`, name)
		}
		c.target = []columnName{{name: "key"}}
	}
	p.expect("do")
	if p.accept("nothing") {
		return c
	}
	if !p.isKeyword("update") {
		p.unexpected()
	}
	if len(c.target) == 0 {
		panic(errorAt(p.lexer.src, at, pgwire.CodeSyntaxError,
			"ON CONFLICT DO UPDATE requires inference specification or constraint name").
			WithHint("For example, ON CONFLICT (column_name)."))
	}
	p.advance()
	c.set = p.setClause()
	c.where = p.whereClause()
	return c
}

func (p *parser) setClause() []assignment {
	p.expect("set")
	var list []assignment
	for {
		if p.isOp("(") {
			p.unsupported(p.tok.pos, "a multiple-column SET", "")
		}
		a := assignment{pos: pos(p.tok.pos)}
		a.column = p.name()
		p.expectOp("=")
		a.value = p.exprOrDefault()
		list = append(list, a)
		if !p.acceptOp(",") {
			return list
		}
	}
}

func (p *parser) updateStatement() statementNode {
	p.expect("update")
	s := &updateStmt{table: p.tableRef(false)}
	s.set = p.setClause()
	if p.isKeyword("from") {
		p.unsupported(p.tok.pos, "UPDATE … FROM", "")
	}
	s.where = p.whereClause()
	s.returning = p.returning()
	return s
}

func (p *parser) deleteStatement() statementNode {
	p.expect("delete")
	p.expect("from")
	s := &deleteStmt{table: p.tableRef(false)}
	if p.isKeyword("using") {
		p.unsupported(p.tok.pos, "DELETE … USING", "")
	}
	s.where = p.whereClause()
	s.returning = p.returning()
	return s
}

func (p *parser) returning() []target {
	if p.accept("returning") {
		return p.targets()
	}
	return nil
}
