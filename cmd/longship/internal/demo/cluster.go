package demo

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a node may take to shut down before it is killed.
const stopTimeout = 15 * time.Second

// A cluster is the nodes and who looks after them.
type cluster struct {
	processes []*process
	delay     time.Duration
	event     func(string)

	launcher    *launcher
	endLauncher context.CancelFunc
	launched    sync.WaitGroup // the launcher
	supervisors sync.WaitGroup
	failed      chan error // a node that cannot be started
	hastened    chan struct{}
	hastening   sync.Once
}

func newCluster(cfg Config, event func(string)) *cluster {
	c := &cluster{
		delay:    cfg.RestartDelay,
		event:    event,
		launcher: newLauncher(),
		failed:   make(chan error, cfg.Nodes),
		hastened: make(chan struct{}),
	}
	for i := range cfg.Nodes {
		c.processes = append(c.processes, newProcess(cfg, i))
	}
	return c
}

func (c *cluster) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.endLauncher = cancel
	c.launched.Go(func() { c.launcher.run(ctx) })
	for _, p := range c.processes {
		c.supervisors.Go(func() {
			if err := p.supervise(c.launcher, c.delay, c.hastened, c.event); err != nil {
				c.failed <- err
			}
		})
	}
}

// waitReady waits until every node has been ready once, and returns the primary.
func (c *cluster) waitReady(ctx context.Context) (*process, error) {
	for _, p := range c.processes {
		select {
		case <-p.readiness:
		case err := <-c.failed:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if p := c.primary(); p != nil {
		return p, nil
	}
	return nil, errors.New("no node says that it is the primary")
}

// primary is the node that was primary when it was last ready, nil if there is none.
func (c *cluster) primary() *process {
	for _, p := range c.processes {
		if p.condition().primary {
			return p
		}
	}
	return nil
}

// hasten starts at once whoever is down.
func (c *cluster) hasten() { c.hastening.Do(func() { close(c.hastened) }) }

// stop ends every node and waits until it is gone: the primary first, so that its standbys get its
// last word. When hurry ends they are killed.
func (c *cluster) stop(hurry context.Context) {
	if c.endLauncher == nil {
		return // never started
	}
	done := make(chan struct{})
	go func() {
		c.supervisors.Wait()
		close(done)
	}()
	first := c.primary()
	c.hasten() // nobody waits to start one again
	if first != nil {
		first.stop(syscall.SIGTERM)
		c.waitDown(first, hurry)
	}
	for _, p := range c.processes {
		p.stop(syscall.SIGTERM)
	}
	select {
	case <-done:
	case <-hurry.Done():
	case <-time.After(stopTimeout):
	}
	for _, p := range c.processes {
		p.stop(syscall.SIGKILL)
	}
	<-done
	c.endLauncher()
	c.launched.Wait()
}

// waitDown waits for the end of a node that has been told to stop.
func (c *cluster) waitDown(p *process, hurry context.Context) {
	deadline := time.After(stopTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for p.condition().pid != "-" {
		select {
		case <-tick.C:
		case <-hurry.Done():
			return
		case <-deadline:
			return
		}
	}
}
