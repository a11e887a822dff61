package sql

import (
	"strconv"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

// Limits on a statement's shape. PostgreSQL is limited by its stack; we count, since a goroutine's
// stack would grow until memory runs out. The tree of an expression is at most
// maxOperators + maxNesting high.
const (
	maxNesting   = 500    // parentheses, calls and CASEs inside each other
	maxOperators = 10_000 // operators in one expression
	maxParams    = 65535  // the protocol counts parameters in 16 bits
)

// parseAll reads a query string: statements separated by semicolons, empty ones left out. hold counts the
// memory that takes, size bytes in all. An error is a *pgwire.Error, or that of pace.
func parseAll(text string, hold func(n int) error, pace *pacer) (stmts []statementNode, size int, err error) {
	if err := checkText(text); err != nil {
		return nil, 0, err
	}
	p := &parser{lexer: lexer{src: text}, hold: hold, pace: pace}
	defer func() {
		size = p.held
		if r := recover(); r != nil {
			stmts, err = nil, failure(r)
		}
	}()
	p.advance()
	for p.tok.kind != tokEOF {
		if p.acceptOp(";") {
			continue
		}
		stmts = append(stmts, p.statement())
		if p.tok.kind != tokEOF && !p.isOp(";") {
			p.unexpected()
		}
	}
	p.count()
	return stmts, 0, nil
}

// What a statement's tree and plan take in memory is counted by its tokens, in steps: a text of tokens
// of one byte takes a hundred times its length.
const (
	tokenStep = 1024
	tokenSize = 100 // bytes
)

// A parser is a recursive descent parser over one token of look-ahead (two where the grammar
// needs it). Its methods panic with a *pgwire.Error or an interruption, which parseAll recovers.
type parser struct {
	lexer     lexer
	tok       token
	ahead     *token // the token after tok, once looked at
	nesting   int
	selects   int // SELECTs inside each other
	operators int

	tokens int // since hold was called
	hold   func(n int) error
	held   int
	pace   *pacer
}

func (p *parser) advance() {
	if p.ahead != nil {
		p.tok, p.ahead = *p.ahead, nil
		return
	}
	p.tok = p.lex()
}

func (p *parser) lex() token {
	tok, err := p.lexer.next()
	if err != nil {
		panic(err)
	}
	if p.tokens++; p.tokens == tokenStep {
		p.count()
	}
	return tok
}

// count counts the memory for the last tokens, and their time.
func (p *parser) count() {
	size := p.tokens * tokenSize
	if err := p.pace.step(size); err != nil {
		panic(failed(err))
	}
	if err := p.hold(size); err != nil {
		panic(err)
	}
	p.tokens, p.held = 0, p.held+size
}

func (p *parser) peek() token {
	if p.ahead == nil {
		tok := p.lex()
		p.ahead = &tok
	}
	return *p.ahead
}

func (p *parser) fail(at int, code, format string, args ...any) {
	panic(errorAt(p.lexer.src, at, code, format, args...))
}

func (p *parser) unexpected() {
	if p.tok.kind == tokEOF {
		p.fail(p.tok.pos, pgwire.CodeSyntaxError, "syntax error at end of input")
	}
	p.fail(p.tok.pos, pgwire.CodeSyntaxError, `syntax error at or near "%s"`, p.lexer.src[p.tok.pos:p.tok.end])
}

// unsupported refuses what PostgreSQL has and Longship has not.
func (p *parser) unsupported(at int, what, hint string) {
	err := errorAt(p.lexer.src, at, pgwire.CodeFeatureNotSupported, "%s is not supported", what)
	if hint != "" {
		err = err.WithHint("%s", hint)
	}
	panic(err)
}

// nest guards a recursion: call the result when leaving.
func (p *parser) nest() func() {
	if p.nesting++; p.nesting > maxNesting {
		panic(tooComplex())
	}
	return func() { p.nesting-- }
}

func (p *parser) countOperator() {
	if p.operators++; p.operators > maxOperators {
		panic(tooComplex())
	}
}

func tooComplex() *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeStatementTooComplex, "stack depth limit exceeded").
		WithHint("An expression may hold %d operators and nest %d deep.", maxOperators, maxNesting)
}

func (p *parser) isKeyword(words ...string) bool {
	if p.tok.kind != tokIdent {
		return false
	}
	for _, w := range words {
		if p.tok.text == w {
			return true
		}
	}
	return false
}

func (p *parser) accept(word string) bool {
	if !p.isKeyword(word) {
		return false
	}
	p.advance()
	return true
}

// acceptBoth takes two words if both are there.
func (p *parser) acceptBoth(first, second string) bool {
	if !p.isKeyword(first) {
		return false
	}
	if next := p.peek(); next.kind != tokIdent || next.text != second {
		return false
	}
	p.advance()
	p.advance()
	return true
}

func (p *parser) expect(word string) {
	if !p.accept(word) {
		p.unexpected()
	}
}

func (p *parser) isOp(op string) bool { return p.tok.kind == tokOp && p.tok.text == op }

func (p *parser) acceptOp(op string) bool {
	if !p.isOp(op) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) expectOp(op string) {
	if !p.acceptOp(op) {
		p.unexpected()
	}
}

// name reads an identifier that is not reserved.
func (p *parser) name() string {
	if p.tok.kind != tokQuoted && (p.tok.kind != tokIdent || reserved[p.tok.text]) {
		p.unexpected()
	}
	text := p.tok.text
	p.advance()
	return text
}

// label reads an identifier after AS or a point, where reserved words are allowed.
func (p *parser) label() string {
	if p.tok.kind != tokIdent && p.tok.kind != tokQuoted {
		p.unexpected()
	}
	text := p.tok.text
	p.advance()
	return text
}

func (p *parser) stringLiteral() string {
	if p.tok.kind != tokString {
		p.unexpected()
	}
	text := p.tok.text
	p.advance()
	return text
}

// reserved holds the words that cannot name a column or table unquoted (PostgreSQL 15 manual,
// "SQL Key Words"), and those the expression grammar needs kept free.
var reserved = wordSet(`all analyse analyze and any array as asc asymmetric authorization between
	binary both case cast check collate collation column concurrently constraint create cross
	current_catalog current_date current_role current_time current_timestamp current_user default
	deferrable desc distinct do else end except false fetch for foreign freeze from full grant
	group having ilike in initially inner intersect into is isnull join lateral leading left like
	limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps
	placing primary references returning right select session_user similar some symmetric table
	tablesample then to trailing true union unique user using variadic verbose when where window
	with`)

func wordSet(words string) map[string]bool {
	set := make(map[string]bool)
	for start, i := -1, 0; i <= len(words); i++ {
		inWord := i < len(words) && isNamePart(words[i])
		switch {
		case inWord && start < 0:
			start = i
		case !inWord && start >= 0:
			set[words[start:i]] = true
			start = -1
		}
	}
	return set
}

// paramIndex reads the digits of $n.
func (p *parser) paramIndex() int {
	n, err := strconv.Atoi(p.tok.text)
	if err != nil || n < 1 || n > maxParams {
		p.fail(p.tok.pos, pgwire.CodeUndefinedParameter, "there is no parameter $%s", p.tok.text)
	}
	return n - 1
}

// checkText refuses what a text value cannot hold: NUL, and bytes that are not UTF-8.
func checkText(s string) error {
	if validText(s) {
		return nil
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == 0 || r == utf8.RuneError && n == 1 {
			return invalidUTF8(bytesOf(s[i:]))
		}
		i += n
	}
	return nil
}
