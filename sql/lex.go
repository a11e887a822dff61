package sql

import (
	"strings"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

// tokenKind says what a token is.
type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokIdent            // unquoted, folded to lower case: a keyword or a name
	tokQuoted           // "quoted identifier"
	tokString           // 'string', E'string' or $$string$$, unescaped
	tokInt              // digits
	tokNumber           // with a point or an exponent
	tokParam            // $1; text holds the digits
	tokOp               // operator or punctuation
)

// A token is one lexical element. text is its meaning (folded, unescaped); the source spelling is
// source[pos:end].
type token struct {
	kind     tokenKind
	text     string
	pos, end int // byte offsets into the source
}

// maxNameLen is the length of the longest identifier in bytes (NAMEDATALEN − 1); longer ones are
// truncated as in PostgreSQL.
const maxNameLen = 63

// A lexer splits a query string into tokens by the rules of the PostgreSQL 15 manual, "Lexical
// Structure", with standard_conforming_strings on.
type lexer struct {
	src string
	off int
}

// next returns the next token. At the end of the text it returns tokEOF again and again.
func (l *lexer) next() (token, error) {
	if err := l.skipBlank(); err != nil {
		return token{}, err
	}
	start := l.off
	if start == len(l.src) {
		return token{kind: tokEOF, pos: start, end: start}, nil
	}
	switch c := l.src[start]; {
	case (c == 'e' || c == 'E') && l.at(1) == '\'':
		l.off++
		return l.escapeString(start)
	case isNameStart(c):
		return l.name(), nil
	case c == '"':
		return l.quotedName()
	case c == '\'':
		return l.plainString()
	case c == '$' && isDigit(l.at(1)):
		return l.param()
	case c == '$':
		return l.dollarString()
	case isDigit(c), c == '.' && isDigit(l.at(1)):
		return l.number()
	default:
		return l.operator()
	}
}

// at returns the byte i places ahead, 0 past the end.
func (l *lexer) at(i int) byte {
	if l.off+i < len(l.src) {
		return l.src[l.off+i]
	}
	return 0
}

// token ends the token begun at start at the current offset.
func (l *lexer) token(kind tokenKind, text string, start int) token {
	return token{kind: kind, text: text, pos: start, end: l.off}
}

// skipBlank skips white space and comments; block comments nest.
func (l *lexer) skipBlank() error {
	for l.off < len(l.src) {
		switch c := l.src[l.off]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			l.off++
		case c == '-' && l.at(1) == '-':
			n := strings.IndexAny(l.src[l.off:], "\r\n")
			if n < 0 {
				n = len(l.src) - l.off
			}
			l.off += n
		case c == '/' && l.at(1) == '*':
			if err := l.blockComment(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

func (l *lexer) blockComment() error {
	start, depth := l.off, 0
	for l.off < len(l.src) {
		switch {
		case l.at(0) == '/' && l.at(1) == '*':
			depth++
			l.off += 2
		case l.at(0) == '*' && l.at(1) == '/':
			depth--
			l.off += 2
			if depth == 0 {
				return nil
			}
		default:
			l.off++
		}
	}
	return l.unterminated("/* comment", start)
}

// unterminated is the error for text that ends inside what began at start.
func (l *lexer) unterminated(what string, start int) error {
	return errorAt(l.src, start, pgwire.CodeSyntaxError, "unterminated %s at or near \"%s\"", what, l.src[start:])
}

func (l *lexer) name() token {
	start := l.off
	upper := false
	for l.off < len(l.src) && isNamePart(l.src[l.off]) {
		c := l.src[l.off]
		upper = upper || c >= 'A' && c <= 'Z'
		l.off++
	}
	text := l.src[start:l.off]
	if upper {
		text = foldName(text)
	}
	return l.token(tokIdent, truncateName(text), start)
}

// foldName lower-cases ASCII letters only: names are not folded by locale.
func foldName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// truncateName cuts a name to maxNameLen bytes without splitting a character.
func truncateName(s string) string {
	if len(s) <= maxNameLen {
		return s
	}
	n := maxNameLen
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (l *lexer) quotedName() (token, error) {
	start := l.off
	text, ok := l.quoted('"')
	if !ok {
		return token{}, l.unterminated("quoted identifier", start)
	}
	if text == "" {
		return token{}, errorAt(l.src, start, pgwire.CodeSyntaxError,
			`zero-length delimited identifier at or near """"`)
	}
	return l.token(tokQuoted, truncateName(text), start), nil
}

func (l *lexer) plainString() (token, error) {
	start := l.off
	text := ""
	for {
		part, ok := l.quoted('\'')
		if !ok {
			return token{}, l.unterminated("quoted string", start)
		}
		if text += part; !l.continued() {
			return l.token(tokString, text, start), nil
		}
	}
}

// continued reports whether the string that has just ended goes on: after white space with a line's end in it, and
// perhaps comments that end with theirs, another quote follows. Then it moves there.
func (l *lexer) continued() bool {
	from, newLine := l.off, false
	for l.off < len(l.src) {
		switch c := l.src[l.off]; {
		case c == '\n' || c == '\r':
			newLine = true
			l.off++
		case c == ' ' || c == '\t' || c == '\f':
			l.off++
		case c == '-' && l.at(1) == '-':
			for l.off < len(l.src) && l.src[l.off] != '\n' && l.src[l.off] != '\r' {
				l.off++
			}
		case c == '\'' && newLine:
			return true
		default:
			l.off = from
			return false
		}
	}
	l.off = from
	return false
}

// quoted reads text between two quotes, a doubled quote standing for one.
func (l *lexer) quoted(quote byte) (text string, ok bool) {
	l.off++
	start, doubled := l.off, false
	for {
		n := strings.IndexByte(l.src[l.off:], quote)
		if n < 0 {
			return "", false
		}
		l.off += n + 1
		if l.at(0) != quote {
			break
		}
		doubled = true
		l.off++
	}
	text = l.src[start : l.off-1]
	if doubled {
		q := string(quote)
		text = strings.ReplaceAll(text, q+q, q)
	}
	return text, true
}

// dollarString reads $tag$ … $tag$, in which nothing is escaped.
func (l *lexer) dollarString() (token, error) {
	start := l.off
	n := 1
	for isNamePart(l.at(n)) && l.at(n) != '$' {
		n++
	}
	if l.at(n) != '$' {
		return token{}, errorAt(l.src, start, pgwire.CodeSyntaxError, `syntax error at or near "$"`)
	}
	tag := l.src[start : start+n+1]
	body := l.src[start+len(tag):]
	end := strings.Index(body, tag)
	if end < 0 {
		return token{}, l.unterminated("dollar-quoted string", start)
	}
	l.off = start + 2*len(tag) + end
	return l.token(tokString, body[:end], start), nil
}

func (l *lexer) param() (token, error) {
	start := l.off
	l.off++
	for isDigit(l.at(0)) {
		l.off++
	}
	if isNameStart(l.at(0)) {
		return token{}, l.trailingJunk("parameter", start)
	}
	return l.token(tokParam, l.src[start+1:l.off], start), nil
}

func (l *lexer) number() (token, error) {
	start, kind := l.off, tokInt
	digits := func() {
		for isDigit(l.at(0)) {
			l.off++
		}
	}
	digits()
	if l.at(0) == '.' && l.at(1) != '.' {
		kind = tokNumber
		l.off++
		digits()
	}
	if c := l.at(0); c == 'e' || c == 'E' {
		sign := 1
		if l.at(1) == '+' || l.at(1) == '-' {
			sign = 2
		}
		if isDigit(l.at(sign)) {
			kind = tokNumber
			l.off += sign
			digits()
		}
	}
	if isNameStart(l.at(0)) {
		return token{}, l.trailingJunk("numeric literal", start)
	}
	return l.token(kind, l.src[start:l.off], start), nil
}

func (l *lexer) trailingJunk(after string, start int) error {
	end := l.off
	for end < len(l.src) && isNamePart(l.src[end]) {
		end++
	}
	return errorAt(l.src, start, pgwire.CodeSyntaxError, "trailing junk after %s at or near \"%s\"", after, l.src[start:end])
}

const operatorChars = "+-*/<>=~!@#%^&|`?"

// operator reads punctuation, or the longest run of operator characters that is not the start of
// a comment. A run of several characters ends in + or - only if it holds one of ~ ! @ # % ^ & | ` ?
// (so that "a=-1" is "a = -1").
func (l *lexer) operator() (token, error) {
	start := l.off
	if strings.HasPrefix(l.src[start:], "::") {
		l.off += 2
		return l.token(tokOp, "::", start), nil
	}
	if c := l.src[start]; strings.IndexByte("(),;.:[]", c) >= 0 {
		l.off++
		return l.token(tokOp, l.src[start:l.off], start), nil
	}
	special := false
	for strings.IndexByte(operatorChars, l.at(0)) >= 0 && !l.atComment(start) {
		special = special || strings.IndexByte("~!@#%^&|`?", l.at(0)) >= 0
		l.off++
	}
	for !special && l.off-start > 1 && (l.src[l.off-1] == '+' || l.src[l.off-1] == '-') {
		l.off--
	}
	if l.off == start {
		_, n := utf8.DecodeRuneInString(l.src[start:])
		return token{}, errorAt(l.src, start, pgwire.CodeSyntaxError, "syntax error at or near \"%s\"", l.src[start:start+n])
	}
	return l.token(tokOp, l.src[start:l.off], start), nil
}

// atComment reports whether a comment begins here, inside an operator begun at start.
func (l *lexer) atComment(start int) bool {
	if l.off == start {
		return false
	}
	return l.at(0) == '-' && l.at(1) == '-' || l.at(0) == '/' && l.at(1) == '*'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}

func isNamePart(c byte) bool { return isNameStart(c) || isDigit(c) || c == '$' }

// errorAt is an error with the position of the byte at off, counted in characters from 1.
func errorAt(src string, off int, code, format string, args ...any) *pgwire.Error {
	return pgwire.Errorf(code, format, args...).WithPosition(utf8.RuneCountInString(src[:off]) + 1)
}
