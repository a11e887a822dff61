package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/longship-db/longship/pgwire"
)

func newTestReign() *reign { return &reign{over: make(chan struct{})} }

// A node that has not had a role yet turns connections away; between two roles they wait for the next.
func TestAdmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, first, second := newPresent(), newTestReign(), newTestReign()
		if _, err := p.admit(t.Context()); !startingUp(err) {
			t.Errorf("before the first role: %v", err)
		}
		p.set(first)
		if r, err := p.admit(t.Context()); r != first {
			t.Errorf("in a role: %p, %v", r, err)
		}
		p.set(nil)
		admitted := make(chan *reign, 1)
		go func() {
			r, _ := p.admit(t.Context())
			admitted <- r
		}()
		synctest.Wait()
		if len(admitted) != 0 {
			t.Error("between two roles it does not wait")
		}
		p.set(second)
		if r := <-admitted; r != second {
			t.Errorf("between two roles: %p", r)
		}
	})
}

// It waits neither for ever nor when the connection is gone.
func TestAdmitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPresent()
		p.set(newTestReign())
		p.set(nil)
		if _, err := p.admit(t.Context()); !startingUp(err) {
			t.Errorf("no role follows: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the client is gone")
		cancel(gone)
		if _, err := p.admit(ctx); err != gone {
			t.Errorf("the client is gone: %v", err)
		}
	})
}

// startingUp reports whether err is what a node that starts up answers.
func startingUp(err error) bool {
	e, ok := errors.AsType[*pgwire.Error](err)
	return ok && e.Code == pgwire.CodeCannotConnectNow
}
