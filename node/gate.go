package node

import (
	"context"
	"sync"
)

// A gate lets commits into the log, or makes them wait while another node is to take over. Nothing
// has been done for a commit that waits: if the node is not the primary afterwards, the commit fails.
//
// Who is inside may wait there, for room or for the horizon, as long as its session lasts: so nobody
// waits for that who must not, above all not the one who is to end the sessions.
type gate struct {
	mu     sync.Mutex
	inside int
	empty  chan struct{} // closed when nobody is inside, or the gate opens; nil if nobody waits for that
	shut   chan struct{} // closed when the gate opens again, or never will; nil while it is open
	err    error         // why it never will
}

// enter waits until the gate is open. Then leave must be called.
func (g *gate) enter(ctx context.Context) error {
	for {
		shut, err := g.tryEnter()
		if shut == nil {
			return err
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryEnter returns what to wait for if the gate is shut.
func (g *gate) tryEnter() (shut <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil && g.shut == nil {
		g.inside++
	}
	return g.shut, g.err
}

// isShut reports whether commits wait outside.
func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut != nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 {
		g.nobodyInside()
	}
}

// nobodyInside tells who waits for it. The caller holds mu.
func (g *gate) nobodyInside() {
	if g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// close shuts the gate and waits until nobody is inside, or it is opened again.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	if g.shut == nil && g.err == nil {
		g.shut = make(chan struct{})
	}
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nobodyInside()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// fail shuts the gate for good: whoever waits, or comes later, gets err. It does not wait for those
// inside.
func (g *gate) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
	g.nobodyInside()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}
