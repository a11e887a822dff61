package election

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// Consensus is what a coordinator needs of the cluster's agreement: a *raftlog.Node.
type Consensus interface {
	Raft

	State() *raftlog.State

	Leader() (raftlog.Member, bool)         // as far as this node knows
	IsLeader() bool                         // this node is it
	WatchLeader() <-chan struct{}           // closed at the next change of what Leader and IsLeader say
	Barrier(context.Context) error          // on the leader: all that was agreed on before is applied here
	Reconcile(context.Context) error        // on the leader: Raft's configuration follows the members
	Transfer(context.Context, string) error // leadership, to the Raft server of that ID, or any if it is empty
}

var _ Consensus = (*raftlog.Node)(nil)

// A CoordinatorConfig is what a node tells its coordinator.
type CoordinatorConfig struct {
	Self  func() syncrep.ID // this node, with its present disk
	Name  string
	Raft  Consensus
	Peers Peers // all members, this node included, at their addresses

	FailoverTimeout   func() time.Duration      // failover_timeout; nil: 2 s
	SwitchoverTimeout func() time.Duration      // switchover_timeout: how long a switchover holds commits; nil: 10 s
	Alive             func(raftlog.Member) bool // somebody hears of the member: advice, as from gossip; nil: not known
	Hint              <-chan struct{}           // something may be wrong with the primary: look now; never closed; nil: none
	Logger            *slog.Logger              // nil: none
}

// How long things take. Like those of rules.go, none of them matters for safety.
const (
	defaultFailoverTimeout   = 2 * time.Second
	defaultSwitchoverTimeout = 10 * time.Second
	probeEvery               = 100 * time.Millisecond // how often the primary is asked how it is,
	probeAgain               = 50 * time.Millisecond  // and when to ask again if it seems to be gone
	probeTimeoutMin          = 100 * time.Millisecond
	sealGrace                = 100 * time.Millisecond // for the rest to answer once enough have
	retryPause               = 250 * time.Millisecond // until the members are asked again if nobody can be promoted
	fetchTimeout             = time.Minute            // of a member that gets the rest of the log
	pickPatience             = time.Second            // for members to stream before a switchover is refused
	releaseTimeout           = time.Second
	barrierTimeout           = 10 * time.Second
	removeTimeout            = 5 * time.Second        // of a member, the search for a Raft leader included
	leaderPause              = 100 * time.Millisecond // until the Raft leader is looked for again
)

// A Coordinator runs failovers while its node is the Raft leader. Create one with NewCoordinator; Run
// does the work, the other methods ask for some and may be called at any time.
type Coordinator struct {
	cfg    CoordinatorConfig
	orders chan *order // to the goroutine that leads

	// Owned by the goroutine that leads (Run).
	vigil    *vigil              // over the primary; nil while nobody is in office
	mandate  *order              // what somebody asked for, while it is carried out
	reach    raftlog.Position    // how far a primary was seen to have flushed
	failed   map[syncrep.ID]bool // could not fetch the log, for the target epoch failedAt
	failedAt uint64
	isolated handover // leadership, by a node that reaches too few,
	stuck    handover // or not all, and cannot name anybody

	// Owned by the goroutine that keeps house (housekeep).
	beside handover // leadership, by the primary

	engaged atomic.Bool // an order is carried out: no time to give up leadership

	mu     sync.Mutex // guards what follows
	report Report
}

// NewCoordinator returns a coordinator, which does nothing before Run.
func NewCoordinator(cfg CoordinatorConfig) *Coordinator {
	if cfg.FailoverTimeout == nil {
		cfg.FailoverTimeout = func() time.Duration { return defaultFailoverTimeout }
	}
	if cfg.SwitchoverTimeout == nil {
		cfg.SwitchoverTimeout = func() time.Duration { return defaultSwitchoverTimeout }
	}
	if cfg.Alive == nil {
		cfg.Alive = func(raftlog.Member) bool { return false }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Coordinator{cfg: cfg, orders: make(chan *order), isolated: handover{patience: isolationPatience}, stuck: handover{patience: stuckPatience}}
}

// Run coordinates whenever this node is the Raft leader, until ctx ends.
func (c *Coordinator) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := c.cfg.Raft.WatchLeader()
		if c.cfg.Raft.IsLeader() {
			c.lead(ctx)
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	return context.Cause(ctx)
}

// lead coordinates until this node is not the leader any more. Nothing outlives it.
func (c *Coordinator) lead(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { cancel(c.deposed(ctx)) })
	if err := c.barrier(ctx); err != nil {
		c.cfg.Logger.Warn("Raft leader without a say", "error", err)
		c.idle(ctx, proposePause)
		return
	}
	c.cfg.Logger.Info("coordinate")
	wg.Go(func() { c.housekeep(ctx) })
	for ctx.Err() == nil {
		c.act(ctx, &wg)
	}
	c.relax()
	c.dismiss()
	c.cfg.Logger.Info("coordinate no more", "cause", context.Cause(ctx))
}

// deposed returns when this node is not the Raft leader any more.
func (c *Coordinator) deposed(ctx context.Context) error {
	for {
		changed := c.cfg.Raft.WatchLeader()
		if !c.cfg.Raft.IsLeader() {
			return raftlog.ErrNotLeader
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// barrier waits until this node has applied what earlier leaders agreed on.
func (c *Coordinator) barrier(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	return c.cfg.Raft.Barrier(ctx)
}

// act does the one next thing that the state calls for. It decides on nothing it remembers: whatever
// it proposes, Raft compares with the state it has then. wg is for what may go on after act.
func (c *Coordinator) act(ctx context.Context, wg *sync.WaitGroup) {
	s, changed := c.cfg.Raft.Watch()
	if c.mandate != nil && s.Epoch > c.mandate.epoch() {
		c.dismiss()
	}
	switch {
	case !s.Initialised():
		c.say("waiting for the cluster to be founded")
		c.pause(ctx, changed, 0)
	case s.Phase == raftlog.Sealing:
		c.relax()
		if err := c.round(ctx, s, wg); err != nil && ctx.Err() == nil {
			c.setback(s, err)
			s, changed := c.cfg.Raft.Watch()
			if s.Phase == raftlog.Sealing {
				c.pause(ctx, changed, retryPause)
			}
		}
	default:
		c.watch(ctx, s, changed)
	}
}

// dismiss ends what somebody asked for: it is done, or somebody else's to do.
func (c *Coordinator) dismiss() {
	c.mandate = nil
	c.engaged.Store(false)
}

// pause waits for a newer state, for an order, or for a while if that is not 0.
func (c *Coordinator) pause(ctx context.Context, changed <-chan struct{}, while time.Duration) {
	var timer <-chan time.Time
	if while > 0 {
		t := time.NewTimer(while)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer:
	case o := <-c.orders:
		c.obey(ctx, o)
	}
}

// idle waits and does nothing.
func (c *Coordinator) idle(ctx context.Context, while time.Duration) {
	t := time.NewTimer(while)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// propose has Raft take a command. After an error nothing is known, unless that is a
// *raftlog.ConflictError: the state tells.
func (c *Coordinator) propose(ctx context.Context, command raftlog.Command) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	_, err := c.cfg.Raft.Propose(ctx, command)
	return err
}

// seal begins a failover: from then on Raft lets nobody open the present epoch, and the members are
// asked to promise the target epoch. A crash before it leaves nothing; one after it a state that the
// next coordinator goes on from.
func (c *Coordinator) seal(ctx context.Context, s *raftlog.State, target uint64, cause string) error {
	target = max(target, s.Target, s.Epoch+1)
	c.cfg.Logger.Warn("begin a failover", "epoch", s.Epoch, "target", target, "cause", cause)
	err := c.propose(ctx, &raftlog.Seal{Epoch: s.Epoch, Target: target, Cause: cause, By: c.cfg.Name, Time: time.Now()})
	if err != nil && ctx.Err() == nil {
		c.cfg.Logger.Warn("begin a failover", "target", target, "error", err)
		if _, stale := errors.AsType[*raftlog.ConflictError](err); !stale {
			c.idle(ctx, proposePause)
		}
	}
	return err
}

// failoverTimeout is failover_timeout now.
func (c *Coordinator) failoverTimeout() time.Duration {
	return cmp.Or(max(c.cfg.FailoverTimeout(), 0), defaultFailoverTimeout)
}
