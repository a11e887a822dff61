package sql

import (
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// explainOptions are what EXPLAIN was asked for.
type explainOptions struct {
	analyze bool // run the statement, and say what it did
	verbose bool
	timing  bool // with analyze
	summary bool
	json    bool // else text
}

// explainStatement reads EXPLAIN FAILOVER, EXPLAIN COMMIT 'X/X', and EXPLAIN of a statement with a plan.
func (p *parser) explainStatement() statementNode {
	p.expect("explain")
	switch {
	case p.tok.kind == tokEOF:
		p.unexpected()
	case p.accept("failover"):
		return &explainStmt{}
	case p.accept("commit"):
		return p.explainCommit()
	}
	s := &explainPlanStmt{}
	if next := p.peek(); p.isOp("(") && !(next.kind == tokIdent && startsQuery[next.text]) && next.text != "(" {
		s.options = p.explainOptions()
	} else {
		s.options.analyze = p.accept("analyze") || p.accept("analyse")
		s.options.verbose = p.accept("verbose")
		s.options.timing, s.options.summary = s.options.analyze, s.options.analyze
	}
	if p.isKeyword("declare") { // whose plan is that of its query
		s.node = p.declareStatement().query
		return s
	}
	if p.isKeyword("create", "refresh") {
		p.unsupported(p.tok.pos, "EXPLAIN of "+commandName(p.tok.text), "Explain the query by itself.")
	}
	if !p.isOp("(") && !p.isKeyword("select", "with", "table", "values", "insert", "update", "delete", "execute") {
		p.unexpected()
	}
	s.node = p.statement()
	return s
}

func (p *parser) explainCommit() statementNode {
	s := &explainStmt{pos: pos(p.tok.pos)}
	if p.tok.kind == tokEOF || p.isOp(";") {
		panic(errorAt(p.lexer.src, s.at(), pgwire.CodeSyntaxError, "EXPLAIN COMMIT needs the LSN of a commit").
			WithHint("EXPLAIN COMMIT 'X/X'. SHOW longship.last_commit_lsn tells the last one of this session."))
	}
	s.lsn = new(p.stringLiteral())
	return s
}

// explainFlags are the options of EXPLAIN that are on or off.
var explainFlags = wordSet("analyze verbose costs settings buffers wal timing summary")

// explainOptions reads (option [value], …). Those that ask for what there is not, costs and buffers and their like, are
// read and change nothing.
func (p *parser) explainOptions() (o explainOptions) {
	said := map[string]bool{} // the flags, by what they were set to
	p.expectOp("(")
	for more := true; more; more = p.acceptOp(",") {
		at := p.tok.pos
		name := strings.Replace(p.label(), "analyse", "analyze", 1)
		switch {
		case name == "format":
			o.json = p.explainFormat(at)
		case explainFlags[name]:
			said[name] = p.optionFlag(name)
		default:
			p.fail(at, pgwire.CodeSyntaxError, `unrecognized EXPLAIN option "%s"`, name)
		}
	}
	p.expectOp(")")
	o.analyze, o.verbose, o.timing, o.summary = said["analyze"], said["verbose"], said["analyze"], said["analyze"]
	for _, name := range []string{"wal", "timing"} {
		if said[name] && !o.analyze {
			panic(pgwire.Errorf(pgwire.CodeInvalidParameterValue, "EXPLAIN option %s requires ANALYZE", commandName(name)))
		}
	}
	if on, ok := said["timing"]; ok {
		o.timing = on
	}
	if on, ok := said["summary"]; ok {
		o.summary = on
	}
	return o
}

// optionValue reads the value of an option, a word, a string or a number, which may be left out.
func (p *parser) optionValue() (text string, given bool) {
	switch p.tok.kind {
	case tokIdent, tokQuoted, tokString, tokInt, tokNumber:
		text = p.tok.text
		p.advance()
		return text, true
	}
	return "", false
}

func (p *parser) optionFlag(name string) bool {
	text, given := p.optionValue()
	switch strings.ToLower(text) {
	case "true", "on", "1":
		return true
	case "false", "off", "0":
		return false
	}
	if given {
		panic(pgwire.Errorf(pgwire.CodeSyntaxError, "%s requires a Boolean value", name))
	}
	return true
}

// explainFormat reads the format, and whether it is JSON.
func (p *parser) explainFormat(at int) bool {
	text, given := p.optionValue()
	switch strings.ToLower(text) {
	case "text":
		return false
	case "json":
		return true
	case "xml", "yaml":
		p.unsupported(at, "EXPLAIN in format "+text, "There are TEXT and JSON.")
	}
	if !given {
		panic(pgwire.Errorf(pgwire.CodeSyntaxError, "format requires a parameter"))
	}
	p.fail(at, pgwire.CodeInvalidParameterValue, `unrecognized value for EXPLAIN option "format": "%s"`, text)
	return false
}
