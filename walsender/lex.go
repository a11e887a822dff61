package walsender

import "strings"

// A tokenKind tells the words of a replication command apart.
type tokenKind uint8

const (
	tokenEnd     tokenKind = iota
	tokenInvalid           // a character that begins nothing, or a quote that does not end
	tokenKeyword           // one of keywords, in upper case as the grammar wants them
	tokenName              // lower-cased, or as written between double quotes
	tokenString            // between single quotes
	tokenInteger           // decimal digits
	tokenLSN               // hex/hex
	tokenSymbol            // ( ) , . ;
)

type token struct {
	kind tokenKind
	text string
}

func (t token) is(kind tokenKind, text string) bool { return t.kind == kind && t.text == text }

// keywords are those of PostgreSQL 15's repl_scanner.l. Lower case makes a name of them.
var keywords = map[string]bool{
	"BASE_BACKUP": true, "IDENTIFY_SYSTEM": true, "READ_REPLICATION_SLOT": true, "SHOW": true,
	"START_REPLICATION": true, "CREATE_REPLICATION_SLOT": true, "DROP_REPLICATION_SLOT": true,
	"TIMELINE_HISTORY": true, "PHYSICAL": true, "LOGICAL": true, "SLOT": true, "TEMPORARY": true,
	"TIMELINE": true, "WAIT": true, "RESERVE_WAL": true, "EXPORT_SNAPSHOT": true,
	"NOEXPORT_SNAPSHOT": true, "USE_SNAPSHOT": true, "TWO_PHASE": true,
}

// A lexer cuts a command into tokens. It does not cut names that are too long, as PostgreSQL does with a
// notice: a slot with the name as it was given is refused, or not found.
type lexer struct{ rest string }

func (l *lexer) next() token {
	l.rest = strings.TrimLeft(l.rest, " \t\n\r\f\v")
	if l.rest == "" {
		return token{kind: tokenEnd}
	}
	if text := l.lsn(); text != "" {
		return token{tokenLSN, text}
	}
	switch c := l.rest[0]; {
	case isDigit(c):
		return token{tokenInteger, l.take(isDigit)}
	case isNameStart(c):
		return nameOrKeyword(l.take(func(c byte) bool { return isNameStart(c) || isDigit(c) || c == '$' }))
	case c == '"':
		text, ok := l.quoted('"')
		if !ok || text == "" {
			return token{kind: tokenInvalid}
		}
		return token{tokenName, text}
	case c == '\'':
		text, ok := l.quoted('\'')
		if !ok {
			return token{kind: tokenInvalid}
		}
		return token{tokenString, text}
	case strings.IndexByte("(),.;", c) >= 0:
		l.rest = l.rest[1:]
		return token{tokenSymbol, string(c)}
	}
	return token{kind: tokenInvalid}
}

// lsn takes hex digits, a slash and hex digits, if that is what comes next.
func (l *lexer) lsn() string {
	hi := countPrefix(l.rest, isHex)
	if hi == 0 || hi == len(l.rest) || l.rest[hi] != '/' {
		return ""
	}
	lo := countPrefix(l.rest[hi+1:], isHex)
	if lo == 0 {
		return ""
	}
	text := l.rest[:hi+1+lo]
	l.rest = l.rest[len(text):]
	return text
}

// take takes the longest prefix of bytes that are all wanted.
func (l *lexer) take(wanted func(byte) bool) string {
	n := countPrefix(l.rest, wanted)
	text := l.rest[:n]
	l.rest = l.rest[n:]
	return text
}

func countPrefix(s string, wanted func(byte) bool) int {
	n := 0
	for n < len(s) && wanted(s[n]) {
		n++
	}
	return n
}

// quoted takes a quoted text, in which the quote itself is doubled.
func (l *lexer) quoted(quote byte) (string, bool) {
	var b strings.Builder
	for s := l.rest[1:]; ; {
		i := strings.IndexByte(s, quote)
		if i < 0 {
			return "", false
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		if s == "" || s[0] != quote {
			l.rest = s
			return b.String(), true
		}
		b.WriteByte(quote)
		s = s[1:]
	}
}

func nameOrKeyword(word string) token {
	if keywords[word] {
		return token{tokenKeyword, word}
	}
	return token{tokenName, lowerASCII(word)}
}

// lowerASCII folds as PostgreSQL does identifiers in a multibyte encoding: letters beyond ASCII stay.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

func isNameStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
