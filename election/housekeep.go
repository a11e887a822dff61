package election

import (
	"context"
	"slices"
	"time"

	"github.com/longship-db/longship/raftlog"
)

// How often things are tried that do not matter for the next failover, only for the one after it.
const (
	reconcileTimeout  = 30 * time.Second // one try
	reconcilePause    = time.Second      // after one that failed
	transferTimeout   = 5 * time.Second
	transferPauseMin  = time.Second // after the first try in an epoch; twice as long after each other one
	transferPauseMax  = time.Minute
	isolationPatience = time.Second      // of a coordinator that reaches too few for a failover,
	stuckPatience     = 15 * time.Second // and of one that reaches a majority, which is not enough
)

// A handover remembers how often this node has given up leadership for one reason, so that it does not
// do so in a loop: where nobody else stays leader, leadership comes back each time.
type handover struct {
	patience time.Duration // from when there was a reason until the first time
	epoch    uint64
	next     time.Time
	pause    time.Duration
}

// due reports whether leadership may be given up now, and notes that it is.
func (h *handover) due(epoch uint64, now time.Time) bool {
	if h.epoch != epoch {
		*h = handover{patience: h.patience, epoch: epoch, pause: transferPauseMin, next: now.Add(h.patience)}
	}
	if now.Before(h.next) {
		return false
	}
	h.next = now.Add(h.pause)
	h.pause = min(2*h.pause, transferPauseMax)
	return true
}

// reset forgets: the reason is gone.
func (h *handover) reset() { *h = handover{patience: h.patience} }

// housekeep keeps Raft's configuration in line with the members, and Raft's leadership off the primary:
// a primary that dies then takes no leader with it.
func (c *Coordinator) housekeep(ctx context.Context) {
	var done []raftlog.Member // the members that Raft's configuration follows already
	for ctx.Err() == nil {
		s, changed := c.cfg.Raft.Watch()
		again := reconcilePause
		if !slices.Equal(done, s.Members) {
			if err := c.reconcile(ctx); err != nil {
				c.cfg.Logger.Warn("bring Raft's configuration in line with the members", "error", err)
			} else {
				done = s.Members
			}
		}
		c.stepAside(ctx, s)
		t := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

func (c *Coordinator) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	return c.cfg.Raft.Reconcile(ctx)
}

// stepAside gives up leadership if this node is the primary.
func (c *Coordinator) stepAside(ctx context.Context, s *raftlog.State) {
	if s.Phase == raftlog.Steady && s.Primary.ID == c.cfg.Self() && !c.engaged.Load() {
		c.giveUp(ctx, s, &c.beside, "this node is the primary")
	}
}

// giveUp lets another voter lead Raft, if there is one.
func (c *Coordinator) giveUp(ctx context.Context, s *raftlog.State, h *handover, why string) {
	others := slices.ContainsFunc(s.Members, func(m raftlog.Member) bool { return m.Voter && !m.Leaving && m.ID != c.cfg.Self() })
	if !others || !h.due(max(s.Epoch, s.Target), time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	c.cfg.Logger.Info("give up leadership of Raft", "because", why)
	if err := c.cfg.Raft.Transfer(ctx, ""); err != nil && ctx.Err() == nil {
		c.cfg.Logger.Info("give up leadership of Raft", "error", err)
	}
}
