package sql

import (
	"context"
	"io"
	"unicode/utf8"
)

// A pacer ends what takes long within one row: it looks at the statement's context after so many steps.
type pacer struct {
	ctx   context.Context
	steps int
	err   error // of the context, once it has been seen to end
}

// paceSteps is how many steps go by between two looks, each some nanoseconds.
const paceSteps = 1 << 16

// step counts n more steps, and tells when the statement is over. nil is the pacer of what no statement waits for.
func (p *pacer) step(n int) error {
	if p == nil {
		return nil
	}
	if p.steps += n; p.steps >= paceSteps {
		p.steps, p.err = 0, p.ctx.Err()
	}
	return p.err
}

// A pacedText gives a text to a regular expression, which takes so many steps for each character. It comes to an end
// when the statement does.
type pacedText struct {
	text string
	cost int
	pace pacer
}

// ReadRune implements io.RuneReader.
func (t *pacedText) ReadRune() (r rune, size int, err error) {
	if t.text == "" || t.pace.step(t.cost) != nil {
		return 0, 0, io.EOF
	}
	r, size = utf8.DecodeRuneInString(t.text)
	t.text = t.text[size:]
	return r, size, nil
}
