package sql

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

// escapeString reads E'…' with C-style escapes. l.off is at the quote.
func (l *lexer) escapeString(start int) (token, error) {
	l.off++
	var b strings.Builder
	for l.off < len(l.src) {
		c := l.src[l.off]
		l.off++
		switch {
		case c == '\'' && l.at(0) == '\'':
			l.off++
			b.WriteByte('\'')
		case c == '\'' && l.continued():
			l.off++
		case c == '\'':
			return l.escaped(b.String(), start)
		case c == '\\' && l.off < len(l.src):
			if err := l.escape(&b); err != nil {
				return token{}, err
			}
		default:
			b.WriteByte(c)
		}
	}
	return token{}, l.unterminated("quoted string", start)
}

// escaped checks what the escapes produced: \x can build any byte.
func (l *lexer) escaped(text string, start int) (token, error) {
	if err := checkText(text); err != nil {
		return token{}, err
	}
	return l.token(tokString, text, start), nil
}

// escape reads what follows a backslash.
func (l *lexer) escape(b *strings.Builder) error {
	start := l.off - 1
	c := l.src[l.off]
	l.off++
	switch c {
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'x':
		return l.numericEscape(b, start, l.off, 16, 2)
	case 'u':
		return l.unicodeEscape(b, start, 4)
	case 'U':
		return l.unicodeEscape(b, start, 8)
	case '0', '1', '2', '3', '4', '5', '6', '7':
		return l.numericEscape(b, start, l.off-1, 8, 3)
	default:
		b.WriteByte(c)
	}
	return nil
}

// numericEscape reads up to n digits of a byte, beginning at first. Without a digit the escaped
// character stands for itself.
func (l *lexer) numericEscape(b *strings.Builder, start, first, base, n int) error {
	end := first
	for end < len(l.src) && end < first+n && isDigitOf(l.src[end], base) {
		end++
	}
	if end == first {
		b.WriteByte(l.src[first-1])
		return nil
	}
	v, err := strconv.ParseUint(l.src[first:end], base, 16)
	if err != nil {
		return errorAt(l.src, start, pgwire.CodeInvalidEscapeSequence, "invalid escape value")
	}
	b.WriteByte(byte(v))
	l.off = end
	return nil
}

func (l *lexer) unicodeEscape(b *strings.Builder, start, n int) error {
	if l.off+n > len(l.src) {
		return l.badUnicode(start)
	}
	v, err := strconv.ParseUint(l.src[l.off:l.off+n], 16, 32)
	if err != nil {
		return l.badUnicode(start)
	}
	if v == 0 || v > utf8.MaxRune || !utf8.ValidRune(rune(v)) {
		return errorAt(l.src, start, pgwire.CodeSyntaxError, "invalid Unicode escape value")
	}
	b.WriteRune(rune(v))
	l.off += n
	return nil
}

func (l *lexer) badUnicode(start int) error {
	return errorAt(l.src, start, pgwire.CodeInvalidEscapeSequence, "invalid Unicode escape").
		WithHint(`Unicode escapes must be \uXXXX or \UXXXXXXXX.`)
}

func isDigitOf(c byte, base int) bool {
	if base == 8 {
		return c >= '0' && c <= '7'
	}
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
