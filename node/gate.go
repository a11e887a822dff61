package node

import (
	"context"
	"sync"
)

// A gate lets commits into the log, or makes them wait while another node is to take over. Nothing
// has been done for a commit that waits: if the node is not the primary afterwards, the commit fails.
type gate struct {
	mu   sync.RWMutex
	shut chan struct{} // closed when the gate opens again, or never will; nil while it is open
	err  error         // why it never will
}

// enter waits until the gate is open. Then leave must be called.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.RLock()
		shut, err := g.shut, g.err
		if shut == nil && err == nil {
			return nil
		}
		g.mu.RUnlock()
		if err != nil {
			return err
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *gate) leave() { g.mu.RUnlock() }

// close shuts the gate. When it returns nobody is inside.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil && g.err == nil {
		g.shut = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// fail shuts the gate for good: whoever waits, or comes later, gets err.
func (g *gate) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}
