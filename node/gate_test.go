package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
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
		if err := g.close(t.Context()); err != nil {
			t.Error(err)
		}
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
	if err := g.enter(ended); !errors.Is(err, why) { // who is inside would hold up what follows
		t.Fatalf("enter() of a gate that is shut = %v, want the cause of its context", err)
	}
	entered := make(chan error, 1)
	go func() { entered <- g.enter(t.Context()) }()
	mustClose(t, &g) // again
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
	mustClose(t, &g)
	go func() { entered <- g.enter(t.Context()) }()
	g.fail(why)
	if err := <-entered; !errors.Is(err, why) {
		t.Errorf("enter() of a gate that failed = %v, want %v", err, why)
	}
	mustClose(t, &g)
	g.open()
	if err := g.enter(t.Context()); !errors.Is(err, why) {
		t.Errorf("enter() of a gate that has failed = %v, want %v", err, why)
	}
}

func mustClose(t *testing.T, g *gate) {
	t.Helper()
	if err := g.close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Somebody inside, who waits for what only the end of its session ends, holds up nobody but who wants
// the gate to be empty, and that one only as long as it likes.
func TestGateWithSomebodyInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		why := errors.New("no time")
		ended, end := context.WithCancelCause(t.Context())
		closed := make(chan error)
		go func() { closed <- g.close(ended) }()
		synctest.Wait()
		end(why)
		if err := <-closed; !errors.Is(err, why) {
			t.Errorf("close() = %v, want %v", err, why)
		}
		g.open()
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		go func() { closed <- g.close(t.Context()) }()
		synctest.Wait()
		g.fail(why) // and does not wait
		if err := <-closed; err != nil {
			t.Errorf("close() of a gate that fails = %v", err)
		}
		if err := g.enter(t.Context()); !errors.Is(err, why) {
			t.Errorf("enter() of a gate that has failed = %v, want %v", err, why)
		}
		g.leave()
		g.leave()
	})
}
