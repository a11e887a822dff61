package node

import (
	"context"
	"sync"
	"time"
)

// present holds the reign that clients are served by. Between two roles there is none, and those who
// need one wait: a session outlives a change of roles, unless the node stops being the primary.
type present struct {
	mu      sync.RWMutex
	reign   *reign
	began   bool          // there has been one
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
	p.reign, p.began = r, p.began || r != nil
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

// betweenRoles bounds how long a new connection waits while the node goes from one role to the next, which
// takes milliseconds if nothing is wrong.
const betweenRoles = 5 * time.Second

// admit returns the reign that a new connection finds: between two roles the next one. A node that has not
// had a role yet is starting up, as long as that takes, and says so at once.
func (p *present) admit(ctx context.Context) (*reign, error) {
	p.mu.RLock()
	r, began := p.reign, p.began
	p.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	if !began {
		return nil, errStartingUp()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, betweenRoles, errStartingUp())
	defer cancel()
	return p.await(ctx)
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
