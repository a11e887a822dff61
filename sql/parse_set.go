package sql

import (
	"errors"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// setStatement reads SET [SESSION | LOCAL] name {TO | =} {value, … | DEFAULT} and the SQL
// standard's spellings of it.
func (p *parser) setStatement() statementNode {
	p.expect("set")
	s := &setStmt{verb: "SET"}
	if next := p.peek(); p.isKeyword("session", "local") && !(next.kind == tokOp || next.kind == tokIdent && next.text == "to") {
		s.local = p.tok.text == "local"
		p.advance()
	}
	switch {
	case p.accept("transaction"):
		t := &transactionStmt{verb: "SET"}
		if p.tok.kind == tokEOF || p.isOp(";") {
			p.unexpected()
		}
		if p.isKeyword("snapshot") {
			p.unsupported(p.tok.pos, "SET TRANSACTION SNAPSHOT", noSnapshots)
		}
		p.transactionModes(t)
		return t
	case p.accept("characteristics"):
		return p.setCharacteristics()
	case p.acceptBoth("time", "zone"):
		s.name = "TimeZone"
		if p.accept("local") || p.accept("default") {
			s.isReset = true
			return s
		}
		if p.isKeyword("interval") && p.peek().kind == tokString {
			s.values = []string{p.intervalZone()}
			return s
		}
		s.values = []string{p.settingValue()}
		return s
	case p.isKeyword("names") && p.peek().kind == tokString:
		p.advance()
		s.name, s.values = "client_encoding", []string{p.stringLiteral()}
		return s
	case p.isKeyword("role", "authorization"):
		return p.setRole(s)
	case p.accept("constraints"):
		return p.constraintsStatement()
	}
	s.name, s.values = p.assignment()
	s.isReset = s.values == nil
	return s
}

// intervalZone reads INTERVAL 'hours and minutes to the east' [HOUR TO MINUTE], as the name of that zone.
func (p *parser) intervalZone() string {
	p.advance()
	at := p.tok.pos
	zone := (*time.Location)(nil)
	v, err := parseInterval(p.stringLiteral())
	if err == nil {
		zone, err = intervalZone(v)
	}
	if e, ok := errors.AsType[*pgwire.Error](err); ok {
		panic(e)
	}
	if err != nil {
		p.fail(at, pgwire.CodeInvalidParameterValue, "%w", err)
	}
	if p.accept("hour") {
		p.expect("to")
		p.expect("minute")
	}
	return zone.String()
}

// setRole reads SET [SESSION | LOCAL] ROLE {NONE | name} and SET [SESSION | LOCAL] SESSION AUTHORIZATION {DEFAULT |
// name}.
func (p *parser) setRole(s *setStmt) statementNode {
	s.name = "role"
	if p.isKeyword("authorization") {
		s.name = "session_authorization"
	}
	p.advance()
	if s.name == "session_authorization" && p.accept("default") {
		s.isReset = true
		return s
	}
	if p.tok.kind != tokString && p.tok.kind != tokIdent && p.tok.kind != tokQuoted {
		p.unexpected()
	}
	s.values = []string{p.tok.text}
	p.advance()
	return s
}

// constraintsStatement reads SET CONSTRAINTS {ALL | name, …} {DEFERRED | IMMEDIATE}.
func (p *parser) constraintsStatement() statementNode {
	s := &constraintsStmt{}
	if !p.accept("all") {
		s.names = append(s.names, p.name())
		for p.acceptOp(",") {
			s.names = append(s.names, p.name())
		}
	}
	if !p.accept("deferred") {
		p.expect("immediate")
	}
	return s
}

// assignment reads name {TO | =} {value, … | DEFAULT}; without values it is DEFAULT.
func (p *parser) assignment() (name string, values []string) {
	name = p.settingName()
	if !p.accept("to") {
		p.expectOp("=")
	}
	if p.accept("default") {
		return name, nil
	}
	values = append(values, p.settingValue())
	for p.acceptOp(",") {
		values = append(values, p.settingValue())
	}
	return name, values
}

// alterStatement reads ALTER SYSTEM SET name {TO | =} {value, … | DEFAULT} and ALTER SYSTEM RESET {name |
// ALL}. Nothing else can be altered.
func (p *parser) alterStatement() statementNode {
	at := p.tok.pos
	p.expect("alter")
	if p.tok.kind == tokEOF || p.isOp(";") {
		p.unexpected()
	}
	if !p.accept("system") {
		p.unsupported(at, "ALTER", "Use ALTER SYSTEM SET.")
	}
	s := &alterSystemStmt{}
	switch {
	case p.accept("set"):
		s.name, s.values = p.assignment()
	case p.accept("reset"):
		if !p.accept("all") {
			s.name = p.settingName()
		}
	default:
		p.unexpected()
	}
	return s
}

// setCharacteristics reads SET SESSION CHARACTERISTICS AS TRANSACTION modes, which comes down to
// default_transaction_read_only.
func (p *parser) setCharacteristics() statementNode {
	p.expect("as")
	p.expect("transaction")
	var t transactionStmt
	p.transactionModes(&t)
	s := &setStmt{verb: "SET", name: "default_transaction_read_only"}
	switch {
	case t.readOnly == nil:
		return &setStmt{verb: "SET", name: "default_transaction_isolation", values: []string{"serializable"}}
	case *t.readOnly:
		s.values = []string{"on"}
	default:
		s.values = []string{"off"}
	}
	return s
}

// settingName reads a parameter's name, which may be dotted.
func (p *parser) settingName() string {
	name := p.label()
	for p.acceptOp(".") {
		name += "." + p.label()
	}
	return name
}

// settingValue reads one value: a string, a number or a bare word.
func (p *parser) settingValue() string {
	sign := ""
	if p.isOp("-") || p.isOp("+") {
		if p.tok.text == "-" {
			sign = "-"
		}
		p.advance()
		if p.tok.kind != tokInt && p.tok.kind != tokNumber {
			p.unexpected()
		}
	}
	switch p.tok.kind {
	case tokString, tokInt, tokNumber, tokIdent, tokQuoted:
		value := sign + p.tok.text
		p.advance()
		return value
	}
	p.unexpected()
	return ""
}

func (p *parser) resetStatement() statementNode {
	p.expect("reset")
	s := &setStmt{verb: "RESET", isReset: true}
	switch {
	case p.accept("all"):
		s.name = "all"
	case p.acceptBoth("time", "zone"):
		s.name = "TimeZone"
	case p.acceptBoth("session", "authorization"):
		s.name = "session_authorization"
	default:
		s.name = p.settingName()
	}
	return s
}

func (p *parser) showStatement() statementNode {
	p.expect("show")
	switch {
	case p.accept("all"):
		return &showStmt{name: "all"}
	case p.acceptBoth("time", "zone"):
		return &showStmt{name: "TimeZone"}
	case p.acceptBoth("transaction", "isolation"):
		p.expect("level")
		return &showStmt{name: "transaction_isolation"}
	default:
		return &showStmt{name: p.settingName()}
	}
}
