package sql

import "github.com/longship-db/longship/pgwire"

// A copyStmt is COPY, as far as the grammar says what is what: options are looked at when it runs, as in
// PostgreSQL.
type copyStmt struct {
	from    bool
	table   tableRef
	query   *selectStmt  // instead of a table
	columns []columnName // nil: all that can be written
	options []copyOption
	where   node // of FROM
}

func (*copyStmt) tag() string { return "COPY" }

// A copyOption is one option as written, in the old syntax or the new one.
type copyOption struct {
	pos
	name string
	kind copyArg
	text string       // of a copyValue
	list []columnName // of a copyList
}

// A copyArg says what an option's argument looks like.
type copyArg uint8

const (
	copyNone   copyArg = iota
	copyValue          // a word or a string
	copyNumber         // digits, perhaps with a sign
	copyStar
	copyList
)

// copyStatement reads COPY, with its options as PostgreSQL 15 writes them, as 9.0 did and as 7.2 did.
func (p *parser) copyStatement() statementNode {
	p.expect("copy")
	s := &copyStmt{}
	if p.acceptOp("(") {
		s.query = p.copyQuery()
		p.expectOp(")")
		p.expect("to")
	} else {
		s.option(p.tok.pos, p.accept("binary"), copyOption{name: "format", text: "binary"})
		s.table = tableRef{pos: pos(p.tok.pos)}
		if s.table.name = p.name(); p.acceptOp(".") {
			s.table.name = qualified(s.table.name, p.label())
		}
		if p.acceptOp("(") {
			s.columns = p.columnNames(p.name)
		}
		if s.from = p.accept("from"); !s.from {
			p.expect("to")
		}
	}
	p.copyFile()
	if s.query == nil && p.isKeyword("using", "delimiters") {
		p.accept("using")
		at := p.tok.pos
		p.expect("delimiters")
		s.option(at, true, copyOption{name: "delimiter", text: p.stringLiteral()})
	}
	p.accept("with")
	if p.acceptOp("(") {
		p.copyOptions(s)
	} else {
		p.oldCopyOptions(s)
	}
	if at := p.tok.pos; s.query == nil && p.accept("where") {
		if !s.from {
			p.fail(at, pgwire.CodeSyntaxError, "WHERE clause not allowed with COPY TO")
		}
		s.where = p.topExpr()
	}
	return s
}

// copyQuery reads the query of COPY (…) TO.
func (p *parser) copyQuery() *selectStmt {
	if p.isKeyword("insert", "update", "delete", "with", "values", "table") {
		p.unsupported(p.tok.pos, "COPY ("+commandName(p.tok.text)+" …)", "Use COPY (SELECT …).")
	}
	if !p.isKeyword("select") {
		p.unexpected()
	}
	return p.selectStatement()
}

// copyFile reads STDIN or STDOUT, which mean the same: the client.
func (p *parser) copyFile() {
	if p.accept("stdin") || p.accept("stdout") {
		return
	}
	if p.isKeyword("program") || p.tok.kind == tokString {
		p.unsupported(p.tok.pos, "COPY with a file or program of the server",
			"Use STDIN or STDOUT; psql's \\copy does that with a file of the client.")
	}
	p.unexpected()
}

func (s *copyStmt) option(at int, there bool, o copyOption) {
	if there {
		o.pos, o.kind = pos(at), copyValue
		s.options = append(s.options, o)
	}
}

// copyOptions reads (name [argument], …), of which the first parenthesis has been read.
func (p *parser) copyOptions(s *copyStmt) {
	for {
		o := copyOption{pos: pos(p.tok.pos)}
		o.name = p.label()
		switch tok := p.tok; {
		case p.acceptOp("*"):
			o.kind = copyStar
		case p.acceptOp("("):
			o.kind, o.list = copyList, p.columnNames(p.copyWord)
		case p.isOp("-"), p.isOp("+"), tok.kind == tokInt, tok.kind == tokNumber:
			o.kind, o.text = copyNumber, p.copyNumber()
		case !p.isOp(",") && !p.isOp(")"):
			o.kind, o.text = copyValue, p.copyWord()
		}
		s.options = append(s.options, o)
		if !p.acceptOp(",") {
			p.expectOp(")")
			return
		}
	}
}

// copyWord reads a string, a name, or one of the words that say yes and no.
func (p *parser) copyWord() string {
	if p.tok.kind == tokString {
		return p.stringLiteral()
	}
	if p.isKeyword("true", "false", "on", "binary") {
		return p.label()
	}
	return p.name()
}

func (p *parser) copyNumber() string {
	sign := ""
	if p.isOp("-") || p.isOp("+") {
		sign = p.tok.text
		p.advance()
	}
	if p.tok.kind != tokInt && p.tok.kind != tokNumber {
		p.unexpected()
	}
	text := p.tok.text
	p.advance()
	if sign == "-" {
		return sign + text
	}
	return text
}

// oldCopyOptions reads options without parentheses or commas.
func (p *parser) oldCopyOptions(s *copyStmt) {
	for {
		at := p.tok.pos
		switch {
		case p.accept("binary"):
			s.option(at, true, copyOption{name: "format", text: "binary"})
		case p.accept("csv"):
			s.option(at, true, copyOption{name: "format", text: "csv"})
		case p.accept("header"):
			s.option(at, true, copyOption{name: "header", text: "true"})
		case p.accept("freeze"):
			s.option(at, true, copyOption{name: "freeze", text: "true"})
		case p.isKeyword("delimiter", "null", "quote", "escape"):
			name := p.label()
			p.accept("as")
			s.option(at, true, copyOption{name: name, text: p.stringLiteral()})
		case p.accept("encoding"):
			s.option(at, true, copyOption{name: "encoding", text: p.stringLiteral()})
		case p.accept("force"):
			s.options = append(s.options, p.forceOption(at))
		default:
			return
		}
	}
}

// forceOption reads what follows FORCE: QUOTE, NOT NULL or NULL, and columns.
func (p *parser) forceOption(at int) copyOption {
	o := copyOption{pos: pos(at), kind: copyList}
	switch {
	case p.accept("quote"):
		o.name = "force_quote"
		if p.acceptOp("*") {
			o.kind = copyStar
			return o
		}
	case p.acceptBoth("not", "null"):
		o.name = "force_not_null"
	default:
		p.expect("null")
		o.name = "force_null"
	}
	for {
		c := columnName{pos: pos(p.tok.pos)}
		c.name = p.name()
		o.list = append(o.list, c)
		if !p.acceptOp(",") {
			return o
		}
	}
}
