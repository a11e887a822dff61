package node

import (
	"context"
	"sync"
)

// present holds the reign that clients are served by. Between two roles there is none, and those who
// need one wait: a session outlives a change of roles, unless the node stops being the primary.
type present struct {
	mu      sync.RWMutex
	reign   *reign
	changed chan struct{} // closed when reign changes
}

func newPresent() *present { return &present{changed: make(chan struct{})} }

// set publishes a reign, or none. When it returns nobody is inside enter with the one before.
func (p *present) set(r *reign) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reign != nil {
		close(p.reign.over)
	}
	p.reign = r
	close(p.changed)
	p.changed = make(chan struct{})
}

// load returns the reign, nil if there is none now, and a channel that is closed when that changes.
func (p *present) load() (*reign, <-chan struct{}) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.reign, p.changed
}

// await returns the reign, the next one if there is none now.
func (p *present) await(ctx context.Context) (*reign, error) {
	for {
		r, changed := p.load()
		if r != nil {
			return r, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// enter calls f with the reign, which does not end before f returns. It reports false if there is
// none, or if it is not the one given.
func (p *present) enter(r *reign, f func()) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if r == nil || p.reign != r {
		return false
	}
	f()
	return true
}
