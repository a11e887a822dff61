package sql

import (
	"errors"

	"github.com/longship-db/longship/pgwire"
)

// oneTable is the hint for statements about other tables than kv.
const oneTable = "There is one table, kv(key text primary key, value text, lsn pg_lsn)."

// oneRole is the hint for statements about roles and what they may do.
const oneRole = "There is one role, that of whoever connects, and it may do everything."

// noSnapshots is the hint for those who want several transactions to see the same.
const noSnapshots = "Every transaction has a snapshot of its own: dump over one connection, without --jobs."

// noNotifications is the hint for those who notify.
const noNotifications = "There are no notifications: write a row, and have the others ask for rows whose lsn is greater than the last one seen."

// refused lists the commands of PostgreSQL that Longship does not have, with a hint. What has two words comes
// before its first word alone. Anything that is neither here nor parsed is a syntax error.
var refused = map[string]string{
	"analyze":         "There are no statistics: EXPLAIN shows how a statement finds its rows.",
	"call":            "There are no procedures: send the statements, between BEGIN and COMMIT.",
	"cluster":         "There is nothing to rebuild: kv is kept in the order of its keys.",
	"comment":         oneTable,
	"create":          oneTable,
	"create database": "There is one database, whatever it is called.",
	"create group":    oneRole, "create role": oneRole, "create user": oneRole,
	"create index":        "kv is kept in the order of its keys, and has no other index: to find rows by something else, write a row with that as its key.",
	"create publication":  "Stream the log instead: START_REPLICATION PHYSICAL, with pg_receivewal or another node.",
	"create subscription": "A node follows its cluster: longship start --join.",
	"do":                  "There are no procedures: send the statements, between BEGIN and COMMIT.",
	"drop":                oneTable,
	"drop database":       "There is one database, whatever it is called.",
	"drop group":          oneRole, "drop role": oneRole, "drop user": oneRole,
	"grant":    oneRole,
	"import":   oneTable,
	"listen":   "There are no notifications: ask again for the rows whose lsn is greater than the last one seen.",
	"load":     "",
	"merge":    "Use INSERT … ON CONFLICT (key) DO UPDATE.",
	"notify":   noNotifications,
	"prepare":  "There is no two-phase commit.",
	"reassign": oneRole,
	"refresh":  oneTable,
	"reindex":  "There is nothing to rebuild: kv is kept in the order of its keys.",
	"revoke":   oneRole,
	"security": "",
	"truncate": "Use DELETE FROM kv.",
	"vacuum":   "There is nothing to vacuum.",
}

// refusal is the hint for a command of PostgreSQL that Longship does not have, and whether it is one.
func (p *parser) refusal(word string) (hint string, known bool) {
	if next := p.peek(); next.kind == tokIdent {
		if hint, known = refused[word+" "+next.text]; known {
			return hint, true
		}
	}
	hint, known = refused[word]
	return hint, known
}

// statement reads one statement, up to a semicolon or the end.
func (p *parser) statement() statementNode {
	if p.isOp("(") {
		if next := p.peek(); next.kind == tokIdent && next.text == "select" {
			p.unsupported(p.tok.pos, "a SELECT in parentheses", "")
		}
	}
	if p.tok.kind != tokIdent {
		p.unexpected()
	}
	word, at := p.tok.text, p.tok.pos
	switch word {
	case "select":
		return p.selectStatement()
	case "with":
		return p.withAny()
	case "table":
		return p.tableStatement()
	case "values":
		return p.valuesStatement()
	case "insert":
		return p.insertStatement()
	case "update":
		return p.updateStatement()
	case "delete":
		return p.deleteStatement()
	case "begin", "start", "commit", "end", "rollback", "abort":
		return p.transactionStatement()
	case "set":
		return p.setStatement()
	case "reset":
		return p.resetStatement()
	case "alter":
		return p.alterStatement()
	case "show":
		return p.showStatement()
	case "savepoint", "release":
		return p.savepointStatement()
	case "copy":
		return p.copyStatement()
	case "declare":
		return p.declareStatement()
	case "fetch", "move":
		return p.fetchStatement()
	case "close":
		return p.closeStatement()
	case "execute":
		return p.executeStatement()
	case "lock":
		return p.lockStatement()
	case "prepare":
		if next := p.peek(); next.kind != tokIdent || next.text != "transaction" {
			return p.prepareStatement()
		}
	case "discard", "unlisten", "deallocate", "checkpoint", "wait", "explain":
		return p.utilityStatement()
	}
	hint, known := p.refusal(word)
	if !known {
		p.unexpected()
	}
	p.unsupported(at, commandName(word), hint)
	return nil
}

func commandName(word string) string {
	b := []byte(word)
	for i := range b {
		b[i] -= 'a' - 'A'
	}
	return string(b)
}

func (p *parser) utilityStatement() statementNode {
	switch {
	case p.accept("discard"):
		return p.discardStatement()
	case p.accept("unlisten"):
		if !p.acceptOp("*") {
			p.name()
		}
		return &discardStmt{verb: "UNLISTEN"}
	case p.accept("deallocate"):
		p.accept("prepare")
		if p.accept("all") {
			return &deallocateStmt{}
		}
		return &deallocateStmt{name: p.name()}
	case p.accept("checkpoint"):
		return &checkpointStmt{}
	case p.isKeyword("explain"):
		return p.explainStatement()
	default:
		return p.waitStatement()
	}
}

// prepareStatement reads PREPARE name [(type, …)] AS statement.
func (p *parser) prepareStatement() statementNode {
	defer p.nest()()
	start := p.tok.pos
	p.expect("prepare")
	s := &prepareStmt{name: p.name(), start: start}
	if p.acceptOp("(") {
		for more := true; more; more = p.acceptOp(",") {
			s.types = append(s.types, p.typeName())
		}
		p.expectOp(")")
	}
	p.expect("as")
	if !p.isOp("(") && !p.isKeyword("select", "with", "table", "values", "insert", "update", "delete") {
		p.unexpected()
	}
	s.node = p.statement()
	s.end = p.tok.pos
	return s
}

// executeStatement reads EXECUTE name [(value, …)].
func (p *parser) executeStatement() statementNode {
	p.expect("execute")
	s := &executeStmt{name: p.name()}
	if p.acceptOp("(") {
		s.args = p.exprList()
		p.expectOp(")")
	}
	return s
}

// lockStatement reads LOCK [TABLE] names [IN mode MODE] [NOWAIT]. What reads and writes take as well locks nobody out
// and is granted: dumps ask for it.
func (p *parser) lockStatement() statementNode {
	at := p.tok.pos
	p.expect("lock")
	p.accept("table")
	s := &lockStmt{}
	for more := true; more; more = p.acceptOp(",") {
		p.accept("only")
		name := p.name()
		if p.acceptOp(".") {
			name = qualified(name, p.label())
		}
		s.tables = append(s.tables, name)
		p.acceptOp("*")
	}
	shared := false
	if p.accept("in") {
		at = p.tok.pos
		shared = p.acceptBoth("access", "share") || p.acceptBoth("row", "share") || p.acceptBoth("row", "exclusive")
		for !shared && p.isKeyword("access", "share", "update", "row", "exclusive") {
			p.advance()
		}
		p.expect("mode")
	}
	p.accept("nowait")
	if !shared {
		p.unsupported(at, "a lock that keeps others out",
			"Transactions are serializable without locks: of two that meet, one ends with 40001 and is to be repeated. "+
				"ACCESS SHARE, ROW SHARE and ROW EXCLUSIVE can be asked for, as in PostgreSQL by whoever reads and writes.")
	}
	return s
}

func (p *parser) discardStatement() statementNode {
	for _, what := range []string{"ALL", "PLANS", "SEQUENCES", "TEMP"} {
		if p.accept(foldName(what)) {
			return &discardStmt{verb: "DISCARD " + what}
		}
	}
	if p.accept("temporary") {
		return &discardStmt{verb: "DISCARD TEMP"}
	}
	p.unexpected()
	return nil
}

// waitTimeout is the TIMEOUT of WAIT FOR LSN, read as a setting is.
var waitTimeout = &Setting{Name: "timeout", Kind: KindInt, Unit: "ms", Max: maxInt}

// waitStatement reads WAIT FOR LSN 'X/X' [TIMEOUT ms | 'time with a unit'].
func (p *parser) waitStatement() statementNode {
	p.expect("wait")
	p.expect("for")
	p.expect("lsn")
	s := &waitStmt{pos: pos(p.tok.pos)}
	s.lsn = p.stringLiteral()
	if p.accept("timeout") {
		at := p.tok.pos
		if p.tok.kind != tokInt && p.tok.kind != tokNumber && p.tok.kind != tokString {
			p.unexpected()
		}
		text, err := waitTimeout.canonical(p.tok.text)
		if e, ok := errors.AsType[*pgwire.Error](err); ok {
			panic(e.WithPosition(errorAt(p.lexer.src, at, "", "").Position))
		}
		ms, _ := parseInt(text, Int4)
		s.timeout = ms.n
		p.advance()
	}
	return s
}

func (p *parser) transactionStatement() statementNode {
	word := p.tok.text
	p.advance()
	switch word {
	case "start":
		p.expect("transaction")
		s := &transactionStmt{verb: "START TRANSACTION"}
		p.transactionModes(s)
		return s
	case "begin":
		p.transactionWord()
		s := &transactionStmt{verb: "BEGIN"}
		p.transactionModes(s)
		return s
	}
	p.transactionWord()
	if (word == "commit" || word == "rollback") && p.isKeyword("prepared") {
		p.unsupported(p.tok.pos, "two-phase commit", "")
	}
	if word == "rollback" && p.accept("to") {
		p.accept("savepoint")
		return &savepointStmt{verb: "ROLLBACK", name: p.name()}
	}
	s := &transactionStmt{verb: "COMMIT"}
	if word == "rollback" || word == "abort" {
		s.verb = "ROLLBACK"
	}
	if p.accept("and") {
		s.chain = !p.accept("no")
		p.expect("chain")
	}
	return s
}

func (p *parser) savepointStatement() statementNode {
	s := &savepointStmt{verb: "SAVEPOINT"}
	if p.accept("release") {
		s.verb = "RELEASE"
		p.accept("savepoint")
	} else {
		p.expect("savepoint")
	}
	s.name = p.name()
	return s
}

func (p *parser) transactionWord() {
	if !p.accept("work") {
		p.accept("transaction")
	}
}

// transactionModes reads the modes of BEGIN and SET TRANSACTION. Every isolation level is granted
// as serializable, which is stronger than asked.
func (p *parser) transactionModes(s *transactionStmt) {
	for first := true; ; first = false {
		comma := !first && p.acceptOp(",")
		switch {
		case p.acceptBoth("isolation", "level"):
			p.isolationLevel()
		case p.acceptBoth("read", "only"):
			s.readOnly = new(true)
		case p.acceptBoth("read", "write"):
			s.readOnly = new(false)
		case p.accept("deferrable"), p.acceptBoth("not", "deferrable"):
		case comma:
			p.unexpected()
		default:
			return
		}
	}
}

func (p *parser) isolationLevel() {
	switch {
	case p.accept("serializable"), p.acceptBoth("repeatable", "read"),
		p.acceptBoth("read", "committed"), p.acceptBoth("read", "uncommitted"):
	default:
		p.unexpected()
	}
}
