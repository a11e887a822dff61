package election

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// An order is a failover that somebody asked for. It is carried out by the goroutine that leads.
type order struct {
	ctx        context.Context // of who asked: once it has ended, the order is not begun
	planned    bool            // a switchover: the primary is to drain first
	to         string          // the target by name; empty: the best one
	acceptLoss bool

	begun  chan error // one value: nil when the epoch is sealed, which cannot be taken back, or why it is not
	target syncrep.ID // set when a switchover is begun

	mu        sync.Mutex // guards what follows
	from      uint64     // the epoch that is to end; set when begun
	survivors []Survivor // as of the last round
}

func (o *order) epoch() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.from
}

func (o *order) survive(survivors []Survivor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.survivors = survivors
}

// acceptsLoss reports whether data may be lost: somebody said so, and is still there to see it happen.
func (o *order) acceptsLoss() bool { return o != nil && o.acceptLoss && o.ctx.Err() == nil }

// Switchover moves the primary, on whichever node it is asked. It returns once a later epoch is steady.
// If the error is a *pgwire.Error of anything but the end of ctx, all is as it was. If the new primary
// fails while it opens its epoch, somebody else becomes primary: the reply tells.
func (c *Coordinator) Switchover(ctx context.Context, r SwitchoverRequest) (SwitchoverReply, error) {
	return onLeader(ctx, c, r.Forwarded, func(ctx context.Context) (SwitchoverReply, error) {
		s, err := c.carryOut(ctx, &order{planned: true, to: r.To})
		if err != nil {
			return SwitchoverReply{}, err
		}
		m, _ := s.Member(s.Primary.ID)
		return SwitchoverReply{Primary: s.Primary.Name, Address: m.Address, Epoch: s.Epoch}, nil
	}, func(ctx context.Context, leader string) (SwitchoverReply, error) {
		r.Forwarded = true
		return c.cfg.Peers.Switchover(ctx, leader, r)
	})
}

// Failover replaces the present primary, healthy or not, on whichever node it is asked. It returns once
// a later epoch is steady.
func (c *Coordinator) Failover(ctx context.Context, r FailoverRequest) (FailoverReply, error) {
	return onLeader(ctx, c, r.Forwarded, func(ctx context.Context) (FailoverReply, error) {
		o := &order{acceptLoss: r.AcceptLoss}
		s, err := c.carryOut(ctx, o)
		if err != nil {
			return FailoverReply{}, err
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		m, _ := s.Member(s.Primary.ID)
		reply := FailoverReply{Primary: s.Primary.Name, Address: m.Address, Epoch: s.Epoch, Survivors: o.survivors}
		for _, reign := range s.History {
			if reign.Epoch > o.from {
				reply.LostBytes += reign.LostBytes
			}
		}
		return reply, nil
	}, func(ctx context.Context, leader string) (FailoverReply, error) {
		r.Forwarded = true
		return c.cfg.Peers.Failover(ctx, leader, r)
	})
}

// onLeader does something here if this node is the Raft leader, or else there, where the leader is. It
// looks for one until ctx ends, unless somebody has sent it here.
func onLeader[Reply any](ctx context.Context, c *Coordinator, forwarded bool,
	here func(context.Context) (Reply, error), there func(ctx context.Context, leader string) (Reply, error),
) (Reply, error) {
	for {
		reply, err := *new(Reply), error(raftlog.ErrNotLeader)
		leader, ok := c.cfg.Raft.Leader()
		switch {
		case c.cfg.Raft.IsLeader():
			reply, err = here(ctx)
		case ok && !forwarded && leader.ID != c.cfg.Self():
			reply, err = there(ctx, leader.Address)
		}
		switch {
		case errors.Is(err, syscall.ECONNREFUSED) && !forwarded: // it has just died, and was not asked
		case !errors.Is(err, raftlog.ErrNotLeader):
			return reply, err
		case forwarded:
			return reply, notLeader()
		}
		c.idle(ctx, leaderPause)
		if ctx.Err() != nil {
			return reply, pgwire.Errorf(pgwire.CodeCannotConnectNow, "the cluster has no Raft leader: %w", context.Cause(ctx)).
				WithHint("A majority of the members must be up and reach each other.")
		}
	}
}

// carryOut hands an order to the goroutine that leads, and waits until a later epoch is steady.
func (c *Coordinator) carryOut(ctx context.Context, o *order) (*raftlog.State, error) {
	o.ctx, o.begun = ctx, make(chan error, 1)
	if err := c.submit(ctx, o); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, c.interrupted(ctx)
	case err := <-o.begun:
		if err != nil {
			return nil, err
		}
	}
	for {
		s, changed := c.cfg.Raft.Watch()
		if s.Phase == raftlog.Steady && s.Epoch > o.epoch() {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, c.interrupted(ctx)
		case <-changed:
		}
	}
}

// submit hands over an order, unless this node is not the leader any more.
func (c *Coordinator) submit(ctx context.Context, o *order) error {
	for {
		changed := c.cfg.Raft.WatchLeader()
		if !c.cfg.Raft.IsLeader() {
			return raftlog.ErrNotLeader
		}
		select {
		case <-ctx.Done():
			return c.interrupted(ctx)
		case c.orders <- o:
			return nil
		case <-changed:
		}
	}
}

// interrupted is what somebody is told who stopped waiting.
func (c *Coordinator) interrupted(ctx context.Context) error {
	r := c.Report()
	return pgwire.Errorf(pgwire.CodeQueryCanceled, "stopped waiting for a failover, which may still take place: %w", context.Cause(ctx)).
		WithDetail("%s", strings.Join(append([]string{r.Leader + ": " + r.Doing}, r.Lines...), "\n"))
}

// obey begins an order.
func (c *Coordinator) obey(ctx context.Context, o *order) {
	c.engaged.Store(true)
	err := o.ctx.Err()
	if err == nil {
		s := c.cfg.Raft.State()
		o.mu.Lock()
		o.from = s.Epoch
		o.mu.Unlock()
		if o.planned {
			err = c.beginSwitchover(ctx, s, o)
		} else {
			err = c.beginFailover(ctx, s, o)
		}
	}
	if err == nil {
		c.mandate = o
	} else {
		c.engaged.Store(false)
	}
	o.begun <- err
}

// beginFailover seals, if that has not been done yet.
func (c *Coordinator) beginFailover(ctx context.Context, s *raftlog.State, o *order) error {
	switch {
	case !s.Initialised():
		return unready("the cluster has not been founded yet")
	case s.Phase == raftlog.Sealing:
		return nil
	case o.acceptLoss:
		return c.sealFor(ctx, s, "failover, loss of data accepted")
	}
	return c.sealFor(ctx, s, "failover")
}

// sealFor seals for somebody who wants to know whether it is done: it does not stop half-way when
// leadership is lost. Raft may be asked by any node.
func (c *Coordinator) sealFor(ctx context.Context, s *raftlog.State, cause string) error {
	err := c.seal(context.WithoutCancel(ctx), s, 0, cause)
	switch {
	case err == nil:
		return nil
	case stale(err):
		return unready(err.Error())
	}
	return fmt.Errorf("%s: it may begin yet: %w", cause, err)
}

// beginSwitchover has the primary drain to the target, and seals. Until that it can be taken back, and
// is if anything goes wrong: the primary takes commits again. If this node ends in between, the primary
// does so by itself.
func (c *Coordinator) beginSwitchover(ctx context.Context, s *raftlog.State, o *order) error {
	if s.Phase != raftlog.Steady {
		return unready(fmt.Sprintf("epoch %d is %s: there is no primary to move", s.Epoch, s.Phase))
	}
	primary, ok := s.Member(s.Primary.ID)
	if !ok {
		return unready(fmt.Sprintf("the primary %s is no member", s.Primary.Name))
	}
	if debt := s.Debt(); debt != nil {
		return unready(fmt.Sprintf("%s alone has what it acknowledged since the rule is degraded", primary.Name)).
			WithHint("Start standbys until the rule is met again, or set synchronous_standby_names to one that is.")
	}
	target, err := c.pick(ctx, s, o.to)
	if err != nil {
		return err
	}
	if err := c.hold(ctx, s, primary, target); err != nil {
		c.release(ctx, s, primary)
		if ctx.Err() != nil {
			return raftlog.ErrNotLeader // whoever leads now may try
		}
		return unready(fmt.Sprintf("%s did not get everything from %s: %v", target.Name, primary.Name, err))
	}
	if err := c.sealFor(ctx, s, "switchover"); err != nil {
		c.release(ctx, s, primary)
		return err
	}
	o.target = target.ID
	return nil
}

// hold asks the primary to take no more commits and to wait for the target.
func (c *Coordinator) hold(ctx context.Context, s *raftlog.State, primary, target raftlog.Member) error {
	c.say(fmt.Sprintf("switchover: waiting for %s to have all that %s has", target.Name, primary.Name))
	limit := c.cfg.SwitchoverTimeout()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Longer there: the seal follows.
	_, err := c.cfg.Peers.Hold(ctx, primary.Address, HoldRequest{Epoch: s.Epoch, Target: target.ID, Limit: limit + c.failoverTimeout()})
	return err
}

// release asks the primary to take commits again, even if this node is about to stop.
func (c *Coordinator) release(ctx context.Context, s *raftlog.State, primary raftlog.Member) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if _, err := c.cfg.Peers.Release(ctx, primary.Address, ReleaseRequest{Epoch: s.Epoch}); err != nil {
		c.cfg.Logger.Warn("release the primary", "primary", primary.Name, "error", err)
	}
}

// A candidate is a member as a possible target of a switchover.
type candidate struct {
	raftlog.Member
	health  Health
	why     string // it cannot be the target; empty if it can
	passing bool   // that may change in a moment
}

// pick returns the member that a switchover goes to: the one of that name, or the best one. Members that
// do not stream yet, as it is after a failover, are given pickPatience. A higher priority goes before a
// longer log, since the target gets everything before it is named, and so does an undamaged log.
func (c *Coordinator) pick(ctx context.Context, s *raftlog.State, name string) (raftlog.Member, error) {
	members := s.Members
	if name != "" {
		m, ok := s.Named(name)
		if !ok {
			return raftlog.Member{}, pgwire.Errorf(pgwire.CodeUndefinedObject, "no member is named %q", name)
		}
		members = []raftlog.Member{m}
	}
	for deadline := time.Now().Add(pickPatience); ; c.idle(ctx, probeAgain) {
		all := c.candidates(ctx, s, members)
		fit := slices.DeleteFunc(slices.Clone(all), func(a candidate) bool { return a.why != "" })
		if len(fit) > 0 {
			return slices.MaxFunc(fit, func(a, b candidate) int {
				return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.health.Damaged, a.health.Damaged),
					a.health.Position.Compare(b.health.Position), strings.Compare(b.Name, a.Name))
			}).Member, nil
		}
		if ctx.Err() != nil {
			return raftlog.Member{}, raftlog.ErrNotLeader // whoever leads now may try
		}
		if slices.ContainsFunc(all, func(a candidate) bool { return a.passing }) && time.Now().Before(deadline) {
			continue
		}
		var lines []string
		for _, a := range all {
			lines = append(lines, a.Name+": "+a.why)
		}
		if name != "" {
			return raftlog.Member{}, unready(fmt.Sprintf("%s cannot become primary: %s", name, all[0].why))
		}
		return raftlog.Member{}, unready("no member can become primary").WithDetail("%s", strings.Join(lines, "\n"))
	}
}

// candidates asks members at once how they are.
func (c *Coordinator) candidates(ctx context.Context, s *raftlog.State, members []raftlog.Member) []candidate {
	all := make([]candidate, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { all[i] = c.fit(ctx, s, m) })
	}
	wg.Wait()
	return all
}

// fit finds out whether a member can be the target: it counts, may be primary, answers, and streams
// from the present one.
func (c *Coordinator) fit(ctx context.Context, s *raftlog.State, m raftlog.Member) candidate {
	a := candidate{Member: m}
	switch {
	case m.ID == s.Primary.ID:
		a.why = "it is the primary already"
	case m.Leaving:
		a.why = "it leaves"
	case !m.Counted:
		a.why = "it has not all there is yet"
	case m.Barred() != "":
		a.why = m.Barred()
	}
	if a.why != "" {
		return a
	}
	h, err := c.ask(ctx, m.Address)
	a.health = h
	switch {
	case err != nil:
		a.why = "it does not answer: " + err.Error()
	case h.ID != m.ID:
		a.why = fmt.Sprintf("another disk, %s, answers at %s", h.ID, m.Address)
	case h.StreamEpoch != s.Epoch:
		a.why, a.passing = "it does not stream from "+s.Primary.Name, true
	case h.Lacking:
		a.why = raftlog.LackingWhy(h.Damaged)
	}
	return a
}

// unready refuses what the state of the cluster does not allow.
func unready(message string) *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "%s", message)
}
