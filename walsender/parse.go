package walsender

import (
	"errors"
	"strconv"
	"strings"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// errNotReplication says that a text does not begin like a replication command: it is SQL.
var errNotReplication = errors.New("not a replication command")

// A parser reads one replication command, by recursive descent.
//
//	IDENTIFY_SYSTEM
//	SHOW name[.name]…
//	CREATE_REPLICATION_SLOT name [TEMPORARY] PHYSICAL [ (options) | RESERVE_WAL ]
//	CREATE_REPLICATION_SLOT name [TEMPORARY] LOGICAL name …
//	READ_REPLICATION_SLOT name
//	DROP_REPLICATION_SLOT name [WAIT]
//	START_REPLICATION [SLOT name] [PHYSICAL] X/X [TIMELINE n]
//	START_REPLICATION SLOT name LOGICAL …
//	TIMELINE_HISTORY n
//	BASE_BACKUP [ (options) ]
//
// Keywords are in upper case, and a semicolon may follow. See PostgreSQL 15's repl_gram.y.
type parser struct {
	lex lexer
	tok token // the one looked at
}

// parse reads a command. The error is errNotReplication or an *pgwire.Error with 42601.
func parse(text string) (command, error) {
	p := &parser{lex: lexer{rest: text}}
	p.advance()
	parseRest, ok := map[string]func() (command, error){
		"IDENTIFY_SYSTEM":         func() (command, error) { return identifySystem{}, nil },
		"SHOW":                    p.show,
		"CREATE_REPLICATION_SLOT": p.createSlot,
		"READ_REPLICATION_SLOT":   p.readSlot,
		"DROP_REPLICATION_SLOT":   p.dropSlot,
		"START_REPLICATION":       p.startReplication,
		"TIMELINE_HISTORY":        p.timelineHistory,
		"BASE_BACKUP":             p.baseBackup,
	}[p.tok.text]
	if !ok || p.tok.kind != tokenKeyword {
		return nil, errNotReplication
	}
	p.advance()
	cmd, err := parseRest()
	if err != nil {
		return nil, err
	}
	if p.tok.is(tokenSymbol, ";") {
		p.advance()
	}
	if p.tok.kind != tokenEnd && !ignoresRest(cmd) {
		return nil, syntaxError()
	}
	return cmd, nil
}

// ignoresRest reports whether the command will be refused whatever else it says: we do not read the
// rest of logical ones.
func ignoresRest(cmd command) bool {
	switch c := cmd.(type) {
	case createSlot:
		return c.logical
	case startReplication:
		return c.logical
	}
	return false
}

func syntaxError() *pgwire.Error { return pgwire.Errorf(pgwire.CodeSyntaxError, "syntax error") }

func (p *parser) advance() { p.tok = p.lex.next() }

// accept takes the keyword or symbol if it comes next.
func (p *parser) accept(kind tokenKind, text string) bool {
	if !p.tok.is(kind, text) {
		return false
	}
	p.advance()
	return true
}

// expect takes a token of the kind and returns its text.
func (p *parser) expect(kind tokenKind) (string, error) {
	if p.tok.kind != kind {
		return "", syntaxError()
	}
	text := p.tok.text
	p.advance()
	return text, nil
}

func (p *parser) show() (command, error) {
	name, err := p.expect(tokenName)
	if err != nil {
		return nil, err
	}
	for p.accept(tokenSymbol, ".") {
		part, err := p.expect(tokenName)
		if err != nil {
			return nil, err
		}
		name += "." + part
	}
	return showSetting{name: name}, nil
}

func (p *parser) createSlot() (command, error) {
	name, err := p.expect(tokenName)
	if err != nil {
		return nil, err
	}
	c := createSlot{slot: name, temporary: p.accept(tokenKeyword, "TEMPORARY")}
	switch {
	case p.accept(tokenKeyword, "LOGICAL"):
		c.logical = true
		return c, nil
	case !p.accept(tokenKeyword, "PHYSICAL"):
		return nil, syntaxError()
	}
	if p.tok.is(tokenSymbol, "(") {
		c.options, err = p.options()
		return c, err
	}
	for p.tok.kind == tokenKeyword {
		c.options = append(c.options, option{name: strings.ToLower(p.tok.text)})
		p.advance()
	}
	return c, nil
}

func (p *parser) readSlot() (command, error) {
	name, err := p.expect(tokenName)
	return readSlot{slot: name}, err
}

func (p *parser) dropSlot() (command, error) {
	name, err := p.expect(tokenName)
	return dropSlot{slot: name, wait: p.accept(tokenKeyword, "WAIT")}, err
}

func (p *parser) startReplication() (command, error) {
	var c startReplication
	var err error
	if p.accept(tokenKeyword, "SLOT") {
		if c.slot, err = p.expect(tokenName); err != nil {
			return nil, err
		}
		if p.accept(tokenKeyword, "LOGICAL") {
			c.logical = true
			return c, nil
		}
	}
	p.accept(tokenKeyword, "PHYSICAL")
	text, err := p.expect(tokenLSN)
	if err != nil {
		return nil, err
	}
	if c.start, err = wal.ParseLSN(text); err != nil {
		return nil, pgwire.Errorf(pgwire.CodeSyntaxError, "invalid streaming start location")
	}
	if p.accept(tokenKeyword, "TIMELINE") {
		c.timeline, err = p.timeline()
	}
	return c, err
}

func (p *parser) timelineHistory() (command, error) {
	tli, err := p.timeline()
	return timelineHistory{timeline: tli}, err
}

func (p *parser) timeline() (wal.TimelineID, error) {
	text, err := p.expect(tokenInteger)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, pgwire.Errorf(pgwire.CodeSyntaxError, "invalid timeline %s", text)
	}
	return wal.TimelineID(n), nil
}

func (p *parser) baseBackup() (command, error) {
	if !p.tok.is(tokenSymbol, "(") {
		return baseBackup{}, nil
	}
	options, err := p.options()
	return baseBackup{options: options}, err
}

// options reads ( name [argument] , … ). A keyword may be a name here, and is lower-cased like one.
func (p *parser) options() ([]option, error) {
	p.advance()
	var list []option
	for {
		if p.tok.kind != tokenName && p.tok.kind != tokenKeyword {
			return nil, syntaxError()
		}
		o := option{name: lowerASCII(p.tok.text)}
		p.advance()
		switch p.tok.kind {
		case tokenName, tokenString:
			o.kind = argWord
		case tokenInteger:
			o.kind = argInteger
		}
		if o.kind != argNone {
			o.text = p.tok.text
			p.advance()
		}
		list = append(list, o)
		if p.accept(tokenSymbol, ")") {
			return list, nil
		}
		if !p.accept(tokenSymbol, ",") {
			return nil, syntaxError()
		}
	}
}
