package wal

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Position is an LSN that only moves forward and can be waited for. One goroutine's progress is
// another's work: a position says how far it has come, so nothing queues between the two and a
// slow reader costs one number. The zero value is ready for use, at InvalidLSN.
type Position struct {
	lsn atomic.Uint64

	mu      sync.Mutex
	changed chan struct{} // closed at the next advance; nil while nobody waits
}

// Load returns the position now.
func (p *Position) Load() LSN { return LSN(p.lsn.Load()) }

// Advance moves the position to l and wakes who waits. It reports false, and does nothing, when
// the position is there already or further.
func (p *Position) Advance(l LSN) bool {
	for {
		old := p.lsn.Load()
		if uint64(l) <= old {
			return false
		}
		if p.lsn.CompareAndSwap(old, uint64(l)) {
			break
		}
	}
	p.mu.Lock()
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
	p.mu.Unlock()
	return true
}

// Changed returns a channel that is closed when the position moves past l, and is closed already if
// it has. A closed channel says "look again"; the position says where.
func (p *Position) Changed(l LSN) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Load() > l {
		return closedChan
	}
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// Wait blocks until the position is at least l, and returns the cause of ctx if that ends first.
func (p *Position) Wait(ctx context.Context, l LSN) error {
	for {
		at := p.Load()
		if at >= l {
			return nil
		}
		select {
		case <-p.Changed(at):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
