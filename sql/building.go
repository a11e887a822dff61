package sql

import (
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// maxTextLen bounds texts that expressions build, so that nesting cannot multiply memory.
const maxTextLen = 64 << 20

func textTooLong() error {
	return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "text is too long").
		WithDetail("An expression may build at most %d bytes.", maxTextLen)
}

// bounded refuses the value that an operation has made, if that is too long for the next one.
func bounded(v Value, err error) (Value, error) {
	if len(v.s) > maxTextLen {
		return Null, textTooLong()
	}
	return v, err
}

// A textBuilder builds a text of parts.
type textBuilder struct{ text strings.Builder }

func (b *textBuilder) add(part string) error {
	if b.text.Len()+len(part) > maxTextLen {
		return textTooLong()
	}
	b.text.WriteString(part)
	return nil
}

func (b *textBuilder) value() Value { return TextValue(b.text.String()) }
