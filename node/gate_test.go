package node

import (
	"context"
	"errors"
	"testing"
)

// While the gate is shut nobody gets in, and when close returns nobody is inside.
func TestGate(t *testing.T) {
	var g gate
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	inside := true // a race, if close does not wait for leave
	closed := make(chan struct{})
	go func() {
		g.close()
		if inside {
			t.Error("closed with somebody inside")
		}
		close(closed)
	}()
	inside = false
	g.leave()
	<-closed

	why := errors.New("the session ends")
	ended, end := context.WithCancelCause(t.Context())
	end(why)
	if err := g.enter(ended); !errors.Is(err, why) {
		t.Errorf("enter() of a gate that is shut = %v, want the cause of its context", err)
	}
	entered := make(chan error, 1)
	go func() { entered <- g.enter(t.Context()) }()
	g.close() // again
	g.open()
	if err := <-entered; err != nil {
		t.Fatal(err)
	}
	g.leave()
	g.open() // again
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.leave()
	g.close()
	go func() { entered <- g.enter(t.Context()) }()
	g.fail(why)
	if err := <-entered; !errors.Is(err, why) {
		t.Errorf("enter() of a gate that failed = %v, want %v", err, why)
	}
	g.close()
	g.open()
	if err := g.enter(t.Context()); !errors.Is(err, why) {
		t.Errorf("enter() of a gate that has failed = %v, want %v", err, why)
	}
}
