package node

import (
	"context"
	"sync"
)

// A gate lets commits into the log, or makes them wait while another node is to take over. Nothing
// has been done for a commit that waits: if the node is not the primary afterwards, the commit fails.
type gate struct {
	mu   sync.RWMutex
	shut chan struct{} // closed when the gate opens again; nil while it is open
}

// enter waits until the gate is open. Then leave must be called.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.RLock()
		shut := g.shut
		if shut == nil {
			return nil
		}
		g.mu.RUnlock()
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
	if g.shut == nil {
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
