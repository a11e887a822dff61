package sql

import (
	"context"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

// A pacer ends what takes long: it looks at the statement's context after so many steps. A session has one, which all
// that a statement does shares: much that is short is over as soon as one thing that is long.
type pacer struct {
	ctx   context.Context
	steps int
	err   error // of the context, once it has been seen to end
}

// paceSteps is how many steps go by between two looks, each some nanoseconds.
const paceSteps = 1 << 16

// step counts n more steps, and tells when the statement is over, from then on at every step. nil is the pacer of what
// is never long.
func (p *pacer) step(n int) error {
	if p == nil {
		return nil
	}
	if p.steps += n; p.steps >= paceSteps {
		p.steps, p.err = 0, p.ctx.Err()
	}
	return p.err
}

// step counts n more steps of the statement, which are over when it is.
func (e *env) step(n int) error { return e.session.pace.step(n) }

// An interruption is the panic by which the reading of a statement ends when its time is over.
type interruption struct{ error }

// failure is the error of a panic in the reading of a statement. It passes other panics on.
func failure(r any) error {
	switch r := r.(type) {
	case *pgwire.Error:
		return r
	case interruption:
		return r.error
	}
	panic(r)
}

// failed is what the reading of a statement panics with for an error.
func failed(err error) any {
	if e, ok := err.(*pgwire.Error); ok {
		return e
	}
	return interruption{err}
}

// sortPaced puts a list in order. If the statement is over all count as equal from then on, so that it soon comes to an
// end.
func sortPaced[T any](pace *pacer, list []T, compare func(a, b T) int) error {
	slices.SortStableFunc(list, func(a, b T) int {
		if pace.step(sortCost) != nil {
			return 0
		}
		return compare(a, b)
	})
	return pace.step(0)
}

// copyPerStep is how many bytes are compared or copied in a step.
const copyPerStep = 16

// sortCost is how many steps a comparison counts.
const sortCost = 16

// A pacedText gives a text to a regular expression, which takes so many steps for each character. It comes to an end
// when the statement does.
type pacedText struct {
	text string
	cost int
	pace *pacer
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
