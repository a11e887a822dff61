package sql

import (
	"strconv"

	"github.com/longship-db/longship/pgwire"
)

// selectStatement reads SELECT, or several with UNION between them: those are a relation that is selected
// from, with the ORDER BY and LIMIT that follow the last one.
func (p *parser) selectStatement() *selectStmt {
	defer p.nest()()
	p.selects++
	defer func() { p.selects-- }()
	s := p.selectCore()
	if p.isKeyword("union") {
		s = p.union(s)
	}
	p.orderAndLimit(s)
	return s
}

// orderAndLimit reads what may follow the last SELECT.
func (p *parser) orderAndLimit(s *selectStmt) {
	p.refuseClause()
	if p.accept("order") {
		p.expect("by")
		s.orderBy = p.orderItems()
	}
	p.limitClauses(s)
	p.locking()
}

// values reads VALUES (…), …: each row is a SELECT without FROM, and UNION ALL stands between.
func (p *parser) values() *derivedNode {
	d := &derivedNode{values: true}
	p.expect("values")
	for _, row := range p.valueRows() {
		s := &selectStmt{pos: pos(row[0].at())}
		for i, x := range row {
			s.targets = append(s.targets, target{pos: pos(x.at()), expr: x, alias: "column" + strconv.Itoa(i+1)})
		}
		d.arms, d.distinct = append(d.arms, s), append(d.distinct, false)
	}
	return d
}

// valuesStatement is VALUES by itself, which may be sorted and limited.
func (p *parser) valuesStatement() *selectStmt {
	at := pos(p.tok.pos)
	ref := tableRef{pos: at, alias: "*VALUES*", query: p.values()}
	s := &selectStmt{pos: at, targets: []target{{pos: at}}, from: []fromItem{{tableRef: ref}}}
	p.orderAndLimit(s)
	return s
}

// tableStatement reads TABLE name, which is SELECT * FROM name.
func (p *parser) tableStatement() *selectStmt {
	s := &selectStmt{pos: pos(p.tok.pos), targets: []target{{pos: pos(p.tok.pos)}}}
	p.expect("table")
	s.from = []fromItem{{tableRef: p.tableRef(false)}}
	p.orderAndLimit(s)
	return s
}

// selectCore reads SELECT up to where ORDER BY would follow.
func (p *parser) selectCore() *selectStmt {
	s := &selectStmt{pos: pos(p.tok.pos)}
	p.expect("select")
	if at := p.tok.pos; p.accept("distinct") {
		if p.isKeyword("on") {
			p.unsupported(at, "SELECT DISTINCT ON", "")
		}
		s.distinct = true
	} else {
		p.accept("all")
	}
	if s.distinct || !p.isKeyword("from", "where", "group", "having", "order", "limit", "offset", "union") && p.tok.kind != tokEOF && !p.isOp(";") && !p.isOp(")") {
		s.targets = p.targets()
	}
	if p.isKeyword("into") {
		p.unsupported(p.tok.pos, "SELECT INTO", oneTable)
	}
	if p.accept("from") {
		s.from = p.fromList()
	}
	s.where = p.whereClause()
	p.groupClauses(s)
	return s
}

func (p *parser) union(first *selectStmt) *selectStmt {
	at := first.pos
	d := &derivedNode{arms: []*selectStmt{first}, distinct: []bool{false}}
	for p.accept("union") {
		distinct := !p.accept("all")
		if distinct {
			p.accept("distinct")
		}
		if p.isOp("(") {
			p.unsupported(p.tok.pos, "a SELECT in parentheses", "")
		}
		d.arms, d.distinct = append(d.arms, p.selectCore()), append(d.distinct, distinct)
	}
	return &selectStmt{pos: at, targets: []target{{pos: at}}, from: []fromItem{{tableRef: tableRef{pos: at, alias: "union", query: d}}}, arms: d}
}

func (p *parser) refuseClause() {
	if p.isKeyword("window", "intersect", "except") {
		p.unsupported(p.tok.pos, commandName(p.tok.text), "")
	}
}

// fromList reads what follows FROM: relations, separated by commas or joined.
func (p *parser) fromList() []fromItem {
	list := []fromItem{{tableRef: p.tableRef(true)}}
	for {
		switch {
		case p.acceptOp(","):
			list = append(list, fromItem{tableRef: p.tableRef(true), comma: true})
		case p.acceptBoth("cross", "join"):
			list = append(list, fromItem{tableRef: p.tableRef(true)})
		case p.isKeyword("natural", "join", "inner", "left", "right", "full"):
			list = append(list, p.join())
		default:
			return list
		}
	}
}

func (p *parser) join() fromItem {
	item := fromItem{natural: p.accept("natural")}
	item.left, item.right = p.isKeyword("left", "full"), p.isKeyword("right", "full")
	if item.left || item.right {
		p.advance()
		p.accept("outer")
	} else {
		p.accept("inner")
	}
	p.expect("join")
	item.tableRef = p.tableRef(true)
	if item.natural {
		return item
	}
	if p.accept("using") {
		p.expectOp("(")
		item.using = p.columnNames(p.name)
		return item
	}
	p.expect("on")
	item.on = p.topExpr()
	return item
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
		case p.isKeyword("fetch") && s.limit == nil:
			p.fetchClause(s)
		default:
			return
		}
	}
}

// fetchClause reads FETCH {FIRST | NEXT} [n] {ROW | ROWS} ONLY, the SQL standard's LIMIT.
func (p *parser) fetchClause(s *selectStmt) {
	at := pos(p.tok.pos)
	p.advance()
	if !p.accept("first") {
		p.expect("next")
	}
	s.limit = literalNode{pos: at, kind: tokInt, text: "1"}
	if !p.isKeyword("row", "rows") {
		s.limit = p.cast()
	}
	if !p.accept("rows") {
		p.expect("row")
	}
	if p.isKeyword("with") {
		p.unsupported(p.tok.pos, "WITH TIES", "")
	}
	p.expect("only")
}

func (p *parser) orderItems() []orderItem {
	var items []orderItem
	for {
		item := orderItem{expr: p.topExpr()}
		if p.isKeyword("using") {
			p.unsupported(p.tok.pos, "ORDER BY … USING", "Use ASC or DESC.")
		}
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

// tableRef reads [schema.]name [[AS] alias], or a function call or a subquery if those are allowed here.
// The schemas pg_catalog and public are looked through; any other is part of the name.
func (p *parser) tableRef(from bool) tableRef {
	if from {
		p.accept("lateral")
	}
	ref := tableRef{pos: pos(p.tok.pos)}
	if p.isOp("(") {
		return p.derived(ref, from)
	}
	p.accept("only")
	ref.name = p.name()
	if p.acceptOp(".") {
		ref.name = qualified(ref.name, p.label())
	}
	if p.isOp("(") && from {
		ref.call = p.call(int(ref.pos), ref.name)
		ref.ordinal = p.acceptBoth("with", "ordinality")
	}
	p.alias(&ref)
	return ref
}

// derived reads (SELECT …) alias.
func (p *parser) derived(ref tableRef, from bool) tableRef {
	if !from {
		p.unexpected()
	}
	p.advance()
	switch {
	case p.isKeyword("select"):
		ref.query = &derivedNode{arms: []*selectStmt{p.selectStatement()}, distinct: []bool{false}}
	case p.isKeyword("with"):
		ref.query = &derivedNode{arms: []*selectStmt{p.withStatement()}, distinct: []bool{false}}
	case p.isKeyword("values"):
		ref.query = p.values()
	default:
		p.unsupported(p.tok.pos, "a join in parentheses", "")
	}
	p.expectOp(")")
	p.alias(&ref)
	if ref.alias == "" {
		panic(errorAt(p.lexer.src, ref.at(), pgwire.CodeSyntaxError, "subquery in FROM must have an alias").
			WithHint("For example, FROM (SELECT ...) [AS] foo."))
	}
	return ref
}

// alias reads [AS] alias [(column, …)].
func (p *parser) alias(ref *tableRef) {
	if p.accept("as") {
		ref.alias = p.name()
	} else if p.tok.kind == tokQuoted || p.tok.kind == tokIdent && !reserved[p.tok.text] && p.tok.text != "set" {
		ref.alias = p.name()
	}
	if ref.alias == "" || !p.acceptOp("(") {
		return
	}
	for _, c := range p.columnNames(p.name) {
		ref.columns = append(ref.columns, c.name)
	}
}

func qualified(schema, name string) string {
	if schema == "pg_catalog" || schema == "public" {
		return name
	}
	return schema + "." + name
}

func (p *parser) insertStatement() *insertStmt {
	p.expect("insert")
	p.expect("into")
	s := &insertStmt{table: p.insertTable()}
	if next := p.peek(); p.isOp("(") && !(next.kind == tokIdent && startsQuery[next.text]) {
		p.advance()
		s.columns = p.columnNames(p.name)
	}
	switch {
	case p.acceptOp("("):
		s.query = p.query()
		p.expectOp(")")
	case p.acceptBoth("default", "values"):
		s.rows = [][]node{{}}
	case p.accept("values"):
		s.rows = p.valueRows()
	default:
		s.query = p.query()
	}
	if at := p.tok.pos; p.accept("on") {
		p.expect("conflict")
		s.conflict = p.conflictClause(at)
	}
	s.returning = p.returning()
	return s
}

// startsQuery are the words that a query begins with.
var startsQuery = wordSet("select with table values")

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

// columnNames reads a list of columns up to its closing parenthesis, each as name does.
func (p *parser) columnNames(name func() string) []columnName {
	var list []columnName
	for {
		c := columnName{pos: pos(p.tok.pos)}
		c.name = name()
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
	c := &conflictClause{pos: pos(at), targetAt: p.tok.pos}
	if p.acceptOp("(") {
		c.target = p.columnNames(p.name)
	} else if p.acceptBoth("on", "constraint") {
		if name := p.name(); name != "kv_pkey" {
			panic(pgwire.Errorf(pgwire.CodeUndefinedObject, `constraint "%s" for table "kv" does not exist`, name))
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
		if p.isOp(".") {
			p.fail(a.at(), pgwire.CodeUndefinedColumn, `column "%s" of relation "kv" does not exist`, a.column)
		}
		p.expectOp("=")
		a.value = p.exprOrDefault()
		list = append(list, a)
		if !p.acceptOp(",") {
			return list
		}
	}
}

func (p *parser) updateStatement() *updateStmt {
	p.expect("update")
	s := &updateStmt{table: p.tableRef(false)}
	s.set = p.setClause()
	if p.accept("from") {
		s.from = p.fromList()
	}
	s.where = p.whereClause()
	s.returning = p.returning()
	return s
}

func (p *parser) deleteStatement() *deleteStmt {
	p.expect("delete")
	p.expect("from")
	s := &deleteStmt{table: p.tableRef(false)}
	if p.accept("using") {
		s.using = p.fromList()
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
