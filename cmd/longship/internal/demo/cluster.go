package demo

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/longship-db/longship/internal/child"
)

// A cluster is the nodes and who looks after them.
type cluster struct {
	processes []*process
	delay     time.Duration
	event     func(string)

	launcher    *child.Launcher
	endLauncher context.CancelFunc
	launched    sync.WaitGroup // the launcher
	supervisors sync.WaitGroup
	failed      chan error // a node that cannot be started
	hastened    chan struct{}
	hastening   sync.Once
}

// newCluster returns a cluster that start begins and stop ends. It tells event what happens to nodes,
// and opened the epochs that primaries say have begun.
func newCluster(cfg Config, event func(string), opened func(epoch uint64)) *cluster {
	c := &cluster{
		delay:    cfg.RestartDelay,
		event:    event,
		launcher: child.NewLauncher(),
		failed:   make(chan error, cfg.Nodes),
		hastened: make(chan struct{}),
	}
	founder := cfg.address(0)
	for i := range cfg.Nodes {
		p := newProcess(cfg, i)
		p.opened = opened
		if p.exists() {
			founder = "" // what an earlier run has left goes on
		}
		c.processes = append(c.processes, p)
	}
	for _, p := range c.processes {
		p.founder = founder
	}
	return c
}

func (c *cluster) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.endLauncher = cancel
	c.launched.Go(func() { c.launcher.Run(ctx) })
	for _, p := range c.processes {
		c.supervisors.Go(func() {
			defer close(p.ended)
			if err := p.supervise(c.launcher, c.delay, c.hastened, c.event); err != nil {
				c.failed <- err
			}
		})
	}
}

// waitReady waits until every node has been ready once.
func (c *cluster) waitReady(ctx context.Context) error {
	for _, p := range c.processes {
		select {
		case <-p.readiness:
		case err := <-c.failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// primary is the node that says it is the primary, of the latest epoch if there are several: one that
// is frozen does not know that it was deposed. It is nil if there is none.
func (c *cluster) primary() (primary *process) {
	var latest uint64
	for _, p := range c.processes {
		if epoch := p.condition().epoch; epoch > latest {
			latest, primary = epoch, p
		}
	}
	return primary
}

// named is the node of that name.
func (c *cluster) named(name string) *process {
	i := slices.IndexFunc(c.processes, func(p *process) bool { return p.name == name })
	return c.processes[i]
}

// standby is a node other than the primary, nil if there is none.
func (c *cluster) standby(primary *process) *process {
	for _, p := range c.processes {
		if p != primary {
			return p
		}
	}
	return nil
}

// hasten starts at once whoever is down.
func (c *cluster) hasten() { c.hastening.Do(func() { close(c.hastened) }) }

// stop ends every node and waits until it is gone: the primary last, when nobody is left that it would
// have to hand over to. When hurry ends they are killed.
func (c *cluster) stop(hurry context.Context) {
	if c.endLauncher == nil {
		return // never started
	}
	last := c.primary()
	c.hasten() // nobody waits to start one again
	var others []*process
	for _, p := range c.processes {
		if p != last {
			others = append(others, p)
		}
	}
	stopAll(hurry, others)
	if last != nil {
		stopAll(hurry, []*process{last})
	}
	c.supervisors.Wait()
	c.endLauncher()
	c.launched.Wait()
}

// stopTimeout is how long a node may take to shut down before it is killed.
const stopTimeout = 15 * time.Second

func stopAll(hurry context.Context, list []*process) {
	ctx, cancel := context.WithTimeout(hurry, stopTimeout)
	defer cancel()
	for _, p := range list {
		p.stop(syscall.SIGTERM)
	}
	for _, p := range list {
		p.awaitEnd(ctx)
	}
}
