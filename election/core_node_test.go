package election

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// turn is one turn of a node's loop of roles. A primary's role ends by a seal, or when its keeper says so.
func (c *core) turn(n *coreNode) {
	if n.reign != nil {
		return
	}
	d := DutyOf(c.view(n), Process{ID: n.id, RunID: n.runID, Promised: n.control.PromisedEpoch, Log: n.control.Epoch, Reigned: n.reigned})
	if d.Same(n.duty) {
		return
	}
	c.part(n, true)
	n.duty = d
	if d.Primary {
		c.takeOffice(n)
	}
}

// takeOffice is the beginning of a reign, or a refusal.
func (c *core) takeOffice(n *coreNode) {
	d := n.duty
	n.reigned = d.Epoch
	n.duty = Duty{}
	if !d.Fits(n.ends(n.flushed)) {
		c.note("%s does not take office %d: its log ends at %v", n.name(), d.Epoch, n.ends(n.flushed))
		return
	}
	if !d.Founding {
		if n.horizon > len(n.log) {
			c.fail("%s is named for epoch %d, and %d is known to be committed", n.name(), d.Epoch, n.horizon)
		}
		if err := n.control.Promise(d.Epoch); err != nil {
			c.reach("an office is refused for a promise")
			return
		}
		n.history = n.history.Child(wal.TimelineID(d.Epoch), c.position(n), "")
		n.control.Epoch = d.Epoch
	}
	r := &coreReign{epoch: d.Epoch, group: syncrep.NewGroup()}
	r.group.Horizon().Advance(wal.LSN(n.horizon))
	n.reign = r
	if !d.Founding {
		n.log = append(slices.Clone(n.log), c.record(n.log, d.Epoch, n.runID))
		r.first = wal.LSN(len(n.log))
	}
	r.keeper = NewKeeper(KeeperConfig{
		Group: r.group, Epoch: d.Epoch, RunID: n.runID, Self: n.id, First: r.first, LeaseWait: n.real(d.Office.LeaseWait),
		Text: func() string { return c.text }, Fallback: func() raftlog.Fallback { return c.fall },
		Streaming: r.streaming, Opened: func() { r.opened = true }, Deposed: func(uint64) {},
	})
	r.keeper.begin(time.Now())
	r.group.LocalFlush(c.position(n))
	c.note("%s takes office %d", n.name(), d.Epoch)
}

func (r *coreReign) streaming() (ids []syncrep.ID) {
	for _, l := range r.links {
		if l.caught && l.handle != nil {
			ids = append(ids, l.id)
		}
	}
	return ids
}

// endReign is what a primary does when its epoch is over: nothing is acknowledged from here on, and what is
// written is flushed.
func (c *core) endReign(n *coreNode) {
	n.reign.group.Hold(syncrep.Unbounded)
	n.flushed = len(n.log)
	n.horizon = max(n.horizon, int(n.reign.group.Horizon().Load()))
	c.dropReign(n)
}

// dropReign forgets a reign.
func (c *core) dropReign(n *coreNode) {
	c.unknown = append(c.unknown, n.reign.waiting...)
	for _, l := range n.reign.links {
		if l.member.link == l {
			l.member.link = nil
		}
	}
	n.reign = nil
	n.duty = Duty{}
}

// look has a primary's keeper look at what the node has of Raft.
func (c *core) look(n *coreNode, outcome int) {
	r := n.reign
	if r == nil {
		return
	}
	k, now := r.keeper, time.Now()
	if k.proposal != nil {
		if now.Before(r.until) {
			return
		}
		k.proposed(raftlog.ErrUnknown, now)
	}
	next, err := k.look(c.view(n), now)
	if errors.Is(err, ErrDeposed) {
		c.note("%s is deposed", n.name())
		c.reach("a primary hears that it is deposed")
		c.endReign(n)
		return
	}
	if err != nil {
		c.fail("keeper of %s: %v", n.name(), err)
		return
	}
	if next.propose == nil {
		return
	}
	k.proposal, r.until = make(chan error), now.Add(proposeTimeout)
	if known, err := c.propose(n, next.propose, outcome); known {
		k.proposed(err, now)
	}
}

// stream is an exchange between a standby and its primary: it connects if need be, takes in so many records, and
// reports, at once or later.
func (c *core) stream(n *coreNode, records int, late bool) {
	if n.reign != nil || !n.up || n.duty.Upstream.ID.IsZero() {
		return
	}
	p := c.node(n.duty.Upstream.ID)
	if n.link != nil && (n.link.reign != p.reign || n.link.run != n.runID) {
		n.link = nil
	}
	if p.id != n.duty.Upstream.ID || p.reign == nil || !p.up || n.link == nil && !c.connect(n, p) || !c.open(p, n) {
		return
	}
	l := n.link
	at := len(n.log)
	n.log = append(n.log[:at:at], p.log[at:min(at+records, len(p.log))]...)
	c.followed(n, p)
	n.horizon = max(n.horizon, int(l.reign.group.Horizon().Load()))
	c.apply(n)
	c.deliver(n)
	l.report = &coreReport{flush: wal.LSN(n.flushed), apply: wal.LSN(n.applied)}
	if c.witness && n.n == c.members-1 {
		l.report.apply = 0
	}
	if !l.asked.IsZero() && n.leases.Grant(l.reign.epoch) {
		l.report.until = l.asked.Add(p.real(pgwire.LeaseHeld))
	}
	if !late {
		c.deliver(n)
	}
	l.asked = time.Now()
}

// followed makes durable what a standby has of its primary's log, on the timeline that it belongs to.
func (c *core) followed(n, p *coreNode) {
	n.flushed = len(n.log)
	n.history = historyOf(p.history, c.position(n))
	n.control.Epoch = uint64(n.history.Timeline)
	if !same(n.log, p.log, len(n.log)) {
		c.fail("%s follows %s on another log: [%s] and [%s]", n.name(), p.name(), epochs(n.log), epochs(p.log))
	}
}

// historyOf is the history of a log that ends at a position of one with history h.
func historyOf(h wal.History, end wal.LSN) wal.History {
	for i, s := range h.Switches {
		if end < s.At {
			return wal.History{Timeline: s.Parent, Switches: h.Switches[:i:i]}
		}
	}
	return h
}

// connect is what a standby does before it takes anything from a primary: it promises the epoch, and cuts what the
// primary's log does not have.
func (c *core) connect(n, p *coreNode) bool {
	if !c.talk(n, p) {
		return false
	}
	if err := n.control.Promise(p.reign.epoch); err != nil {
		return false
	}
	n.leases.Stop(p.reign.epoch)
	c.adopt(n, p)
	l := &coreLink{reign: p.reign, member: n, run: n.runID, id: n.id, handle: p.reign.group.Join(n.name(), n.id)}
	l.handle.SetState(syncrep.Catchup)
	p.reign.links = append(slices.DeleteFunc(p.reign.links, func(o *coreLink) bool { return o.member == n && c.leaveLink(o) }), l)
	n.link = l
	c.note("%s follows %s in epoch %d from %d", n.name(), p.name(), p.reign.epoch, len(n.log))
	return true
}

// leaveLink ends a stream at the primary.
func (c *core) leaveLink(l *coreLink) bool {
	l.handle.Leave()
	return true
}

// adopt brings a log to where it is part of another one: by ancestry alone (I6).
func (c *core) adopt(n, p *coreNode) {
	if len(n.log) == 0 { // an empty disk takes a copy of what is there
		n.log = p.log[:p.flushed:p.flushed]
		n.applied = min(p.horizonNow(), p.flushed)
		n.horizon = n.applied
		c.followed(n, p)
		return
	}
	fork := int(min(wal.Fork(n.history, p.history), wal.LSN(len(n.log)))) // on one timeline there is none
	if fork < len(n.log) {
		if n.applied > fork {
			c.fail("%s cuts its log at %d for %s, and has applied it up to %d", n.name(), fork, p.name(), n.applied)
		}
		if cut := n.log[fork:]; cut[0].epoch != cut[len(cut)-1].epoch {
			c.reach("a tail of two epochs is cut")
		}
		c.reach("a tail is cut")
		c.note("%s cuts its log at %d, it ended at %d", n.name(), fork, len(n.log))
		n.log = n.log[:fork:fork]
		n.horizon = min(n.horizon, fork)
	}
	c.followed(n, p)
}

// horizonNow is the horizon that a node knows.
func (n *coreNode) horizonNow() int {
	if n.reign != nil {
		return int(n.reign.group.Horizon().Load())
	}
	return n.horizon
}

// apply has the store take in what may be shown.
func (c *core) apply(n *coreNode) { n.applied = max(n.applied, min(n.horizonNow(), n.flushed)) }

// deliver brings a report to the primary, whatever its author does by now.
func (c *core) deliver(n *coreNode) {
	for _, p := range c.nodes {
		if p.reign == nil {
			continue
		}
		for _, l := range p.reign.links {
			if l.member != n || l.report == nil || !c.open(n, p) {
				continue
			}
			r := l.report
			l.report = nil
			if n.link != l {
				c.reach("an acknowledgement comes after its stream has ended")
			}
			l.handle.Report(r.flush, r.flush, r.apply)
			if !r.until.IsZero() {
				l.handle.Promise(r.until)
			}
			if !l.caught && int(r.flush) == len(p.log) {
				l.caught = true
				l.handle.SetState(syncrep.Streaming)
			}
		}
	}
}

// part ends a standby's stream. The primary notices, or has yet to.
func (c *core) part(n *coreNode, noticed bool) {
	l := n.link
	n.link = nil
	if l == nil || !noticed {
		return
	}
	l.handle.Leave()
	l.reign.links = slices.DeleteFunc(l.reign.links, func(o *coreLink) bool { return o == l })
}

// seal asks a node for its promise of an epoch (I3). Whoever is part of that epoch already refuses.
func (c *core) seal(n *coreNode, epoch uint64) (raftlog.Answer, error) {
	if following := !n.duty.Upstream.ID.IsZero(); (n.reign != nil || following) && epoch <= n.control.PromisedEpoch {
		c.reach("a seal comes too late")
		return raftlog.Answer{}, fmt.Errorf("%s is part of epoch %d", n.name(), n.control.PromisedEpoch)
	}
	if n.reign != nil {
		c.reach("the primary itself is sealed")
		c.endReign(n)
	}
	c.part(n, false)
	n.duty = Duty{}
	if err := n.control.Promise(max(epoch, n.control.PromisedEpoch)); err != nil {
		return raftlog.Answer{}, err
	}
	n.leases.Stop(n.control.PromisedEpoch)
	return c.answer(n), nil
}

// answer is what a sealed node says of itself.
func (c *core) answer(n *coreNode) raftlog.Answer {
	return raftlog.Answer{
		ID: n.id, Name: n.name(), RunID: n.runID, Promised: n.control.PromisedEpoch, Position: n.ends(n.flushed),
		LeaseLeft: n.leaseLeft(), Priority: c.member(n).Priority,
	}
}

// real is how long a time by a node's clock takes by the clock of the bubble, which is that of the slowest node.
func (n *coreNode) real(d time.Duration) time.Duration { return time.Duration(float64(d) / n.rate) }

// leaseLeft is what is left of a node's promises, by its own clock.
func (n *coreNode) leaseLeft() time.Duration {
	passed := pgwire.LeaseTerm - n.leases.Left()
	return max(0, pgwire.LeaseTerm-time.Duration(float64(passed)*n.rate))
}
