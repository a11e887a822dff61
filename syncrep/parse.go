package syncrep

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A SyntaxError says where the text of a rule stops making sense (SQLSTATE 42601).
type SyntaxError struct {
	Text   string // the whole setting
	Detail string // PostgreSQL's detail: syntax error at or near "…"
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid value for parameter \"synchronous_standby_names\": \"%s\": %s", e.Text, e.Detail)
}

// A NumError says that a rule asks for no standby at all (SQLSTATE 22023).
type NumError struct{ Num int }

func (e *NumError) Error() string {
	return fmt.Sprintf("number of synchronous standbys (%d) must be greater than zero", e.Num)
}

// A ZonesError says that a rule asks for no zone, or for more zones than standbys (SQLSTATE 22023).
type ZonesError struct{ Zones, Num int }

func (e *ZonesError) Error() string {
	if e.Zones <= 0 {
		return fmt.Sprintf("number of zones (%d) must be greater than zero", e.Zones)
	}
	return fmt.Sprintf("number of zones (%d) must not be greater than number of synchronous standbys (%d)", e.Zones, e.Num)
}

// ParseRule reads the grammar of synchronous_standby_names (PostgreSQL 15, syncrep_gram.y and
// syncrep_scanner.l) and our two extensions, MAJORITY and ZONES:
//
//	rule := ε | list | NUM '(' list ')' | FIRST NUM '(' list ')'
//	      | ANY NUM '(' list ')' [ ZONES NUM ]
//	      | ANY MAJORITY '(' '*' ')' [ ZONES NUM ]
//	list := name { ',' name }        name := identifier | "quoted" | NUM | *
//
// A bare list means FIRST 1. Only the empty text is the empty rule, blanks are not. A NUM too big
// for PostgreSQL's int wraps there; here it becomes the largest int: never fewer standbys than asked
// for. FIRST takes no ZONES: it names who is waited for, zones and all. The error is a *SyntaxError, a
// *NumError or a *ZonesError.
func ParseRule(text string) (Rule, error) {
	if text == "" {
		return Rule{}, nil
	}
	p := parser{scanner: scanner{text: text}}
	p.advance()
	rule, ok := p.rule()
	if !ok || p.tok.kind != tokenEnd {
		return Rule{}, &SyntaxError{Text: text, Detail: p.detail()}
	}
	switch counted := rule.Method != Majority; {
	case counted && rule.Num <= 0:
		return Rule{}, &NumError{Num: rule.Num}
	case p.zones && (rule.Zones <= 0 || counted && rule.Zones > rule.Num):
		return Rule{}, &ZonesError{Zones: rule.Zones, Num: rule.Num}
	}
	return rule, nil
}

// A parser looks one token ahead, as the LALR(1) original does, and so stops at the same token.
// Its methods report false with tok being the token that does not fit.
type parser struct {
	scanner scanner
	tok     token
	zones   bool // ZONES was read
}

func (p *parser) advance() { p.tok = p.scanner.next() }

func (p *parser) detail() string {
	switch {
	case p.tok.kind == tokenUnterminated:
		return "unterminated quoted identifier at end of input"
	case p.tok.kind == tokenEnd:
		return "syntax error at end of input"
	}
	near := fmt.Sprintf("syntax error at or near \"%s\"", p.tok.near)
	if p.tok.is("zones") {
		near += ": ZONES follows the list of ANY"
	}
	return near
}

func (p *parser) rule() (Rule, bool) {
	switch p.tok.kind {
	case tokenFirst:
		p.advance()
		return p.counted(First)
	case tokenAny:
		p.advance()
		if p.tok.is("majority") {
			p.advance()
			return p.spread(p.majority())
		}
		return p.spread(p.counted(Any))
	case tokenNum:
		num := p.tok
		if p.advance(); p.tok.kind == tokenLeft {
			return p.listed(First, num)
		}
		names, ok := p.moreNames([]string{num.text})
		return Rule{Method: First, Num: 1, Names: names}, ok
	default:
		names, ok := p.list()
		return Rule{Method: First, Num: 1, Names: names}, ok
	}
}

// counted reads NUM '(' list ')'.
func (p *parser) counted(m Method) (Rule, bool) {
	if p.tok.kind != tokenNum {
		return Rule{}, false
	}
	num := p.tok
	p.advance()
	return p.listed(m, num)
}

// listed reads '(' list ')'.
func (p *parser) listed(m Method, num token) (Rule, bool) {
	if !p.skip(tokenLeft) {
		return Rule{}, false
	}
	names, ok := p.list()
	return Rule{Method: m, Num: atoi(num.text), Names: names}, ok && p.skip(tokenRight)
}

// majority reads '(' '*' ')'.
func (p *parser) majority() (Rule, bool) {
	if !p.skip(tokenLeft) || p.tok.kind != tokenName || p.tok.text != wildcard {
		return Rule{}, false
	}
	p.advance()
	return Rule{Method: Majority, Names: []string{wildcard}}, p.skip(tokenRight)
}

// spread reads [ ZONES NUM ], after a rule that may have it.
func (p *parser) spread(r Rule, ok bool) (Rule, bool) {
	if !ok || !p.tok.is("zones") {
		return r, ok
	}
	if p.advance(); p.tok.kind != tokenNum {
		return Rule{}, false
	}
	p.zones, r.Zones = true, atoi(p.tok.text)
	p.advance()
	return r, true
}

func (p *parser) list() ([]string, bool) {
	if p.tok.kind != tokenName && p.tok.kind != tokenNum {
		return nil, false
	}
	first := p.tok.text
	p.advance()
	return p.moreNames([]string{first})
}

// moreNames reads { ',' name }.
func (p *parser) moreNames(names []string) ([]string, bool) {
	for p.skip(tokenComma) {
		if p.tok.kind != tokenName && p.tok.kind != tokenNum {
			return nil, false
		}
		names = append(names, p.tok.text)
		p.advance()
	}
	return names, true
}

// skip steps over a token of the kind, if it is next.
func (p *parser) skip(k tokenKind) bool {
	if p.tok.kind != k {
		return false
	}
	p.advance()
	return true
}

func atoi(digits string) int {
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil {
		return math.MaxInt32
	}
	return int(n)
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenNum
	tokenAny
	tokenFirst
	tokenComma
	tokenLeft
	tokenRight
	tokenUnterminated // a quoted name that never ends
	tokenJunk
)

type token struct {
	kind   tokenKind
	text   string // unquoted
	near   string // what PostgreSQL prints: of a quoted name the flex scanner still holds the last quote
	quoted bool
}

// is reports whether the token is a word that means something in its place, and is a name elsewhere.
func (t token) is(word string) bool {
	return t.kind == tokenName && !t.quoted && equalFold(t.text, word)
}

type scanner struct {
	text string
	at   int // of the next byte
}

func (s *scanner) next() token {
	for s.at < len(s.text) && strings.IndexByte(" \t\n\r\f\v", s.text[s.at]) >= 0 {
		s.at++
	}
	if s.at == len(s.text) {
		return token{kind: tokenEnd}
	}
	switch c := s.text[s.at]; {
	case c == '"':
		return s.quoted()
	case identStart(c):
		return s.word()
	case digit(c):
		return s.take(tokenNum, digit)
	case c == '*':
		return s.single(tokenName)
	case c == ',':
		return s.single(tokenComma)
	case c == '(':
		return s.single(tokenLeft)
	case c == ')':
		return s.single(tokenRight)
	default:
		return s.single(tokenJunk)
	}
}

// word reads an identifier; ANY and FIRST are reserved in any case.
func (s *scanner) word() token {
	t := s.take(tokenName, func(c byte) bool { return identStart(c) || digit(c) || c == '$' })
	switch {
	case equalFold(t.text, "any"):
		t.kind = tokenAny
	case equalFold(t.text, "first"):
		t.kind = tokenFirst
	}
	return t
}

// quoted reads a quoted name, in which two quotes stand for one.
func (s *scanner) quoted() token {
	var name strings.Builder
	for rest := s.text[s.at+1:]; ; {
		end := strings.IndexByte(rest, '"')
		if end < 0 {
			s.at = len(s.text)
			return token{kind: tokenUnterminated}
		}
		name.WriteString(rest[:end])
		rest = rest[end+1:]
		if !strings.HasPrefix(rest, `"`) {
			s.at = len(s.text) - len(rest)
			return token{kind: tokenName, text: name.String(), near: `"`, quoted: true}
		}
		name.WriteByte('"')
		rest = rest[1:]
	}
}

// take reads the longest run of bytes that belong.
func (s *scanner) take(k tokenKind, belongs func(byte) bool) token {
	start := s.at
	for s.at < len(s.text) && belongs(s.text[s.at]) {
		s.at++
	}
	return token{kind: k, text: s.text[start:s.at], near: s.text[start:s.at]}
}

func (s *scanner) single(k tokenKind) token {
	s.at++
	return token{kind: k, text: s.text[s.at-1 : s.at], near: s.text[s.at-1 : s.at]}
}

func identStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
