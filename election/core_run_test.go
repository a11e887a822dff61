package election

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/raftlog"
)

// settings are a seed's cluster and its schedule.
func settings(seed uint64, steps int) (coreConfig, []coreEvent) {
	r := rand.New(rand.NewPCG(seed, 7))
	cfg := coreConfig{members: 3 + max(0, r.IntN(4)-1), text: texts[r.IntN(len(texts))], witness: r.IntN(5) == 0, degrade: r.IntN(5) == 0, drift: 0.01}
	return cfg, schedule(r, cfg.members, steps)
}

// runCore has a cluster live through a schedule, up to the first thing that does not hold. If heal is true it must be
// well in the end. It runs in a bubble.
func runCore(cfg coreConfig, events []coreEvent, heal, tracing bool) *core {
	c := newCore(cfg)
	c.tracing = tracing
	for _, e := range events {
		if c.wrong != "" {
			return c
		}
		c.do(e)
	}
	if heal && c.wrong == "" {
		c.heal()
	}
	c.settleUnknown()
	return c
}

// heal ends all trouble, and wants the cluster to come back by itself: an epoch that is steady, the rule that is
// wanted, everybody counted, and commits.
func (c *core) heal() {
	c.text, c.fall = "ANY MAJORITY (*)", raftlog.Fallback{}
	for _, n := range c.nodes {
		if n.up {
			n.coordinator.mandate = nil
		}
	}
	clear(c.blocked)
	const patience = 30 * time.Minute // a change that was called off is not tried again for some minutes
	begin := time.Now()
	for round := 0; c.wrong == ""; round++ {
		c.day(round)
		if c.well() {
			return
		}
		if time.Since(begin) > patience {
			c.fail("it is not well %v after all trouble has ended:\n%s", patience, c)
		}
	}
}

// day is a tenth of a second of a cluster without trouble.
func (c *core) day(round int) {
	c.do(coreEvent{actPass, 0, 0, 100})
	for i, n := range c.nodes {
		c.do(coreEvent{actStart, i, 0, 0})
		c.join(n)
		for _, e := range []coreEvent{{actHear, i, 0, 0}, {actTurn, i, 0, 0}, {actLook, i, 0, answered}, {actFlush, i, 0, 0}, {actStream, i, 0, 1 << 20}} {
			c.do(e)
		}
		if round%8 == 0 {
			c.do(coreEvent{actWrite, i, 0, 0})
		}
	}
	leader := len(c.nodes) - 1
	for _, e := range []coreEvent{{actHear, leader, 0, 0}, {actProbe, leader, 0, 0}} {
		c.do(e)
	}
	for i := range c.nodes {
		c.do(coreEvent{actAsk, leader, i, 0})
	}
	c.do(coreEvent{actDecide, leader, 0, answered})
}

// well reports whether everything is as it should be.
func (c *core) well() bool {
	s := c.now()
	p := c.node(s.Primary.ID)
	if s.Phase != raftlog.Steady || s.Joint != nil || s.Rule.Text != c.text || p.reign == nil || !p.reign.opened {
		return false
	}
	for _, m := range s.Members {
		if m.Leaving && m.ID != p.id || !m.Counted && !m.Leaving {
			return false
		}
	}
	return len(c.shown) == len(p.log)
}

// shrink takes away what a schedule can do without and still fails: halves, quarters, …, single events.
func shrink(fails func([]coreEvent) bool, events []coreEvent) []coreEvent {
	for size := len(events) / 2; size > 0; {
		smaller := false
		for at := 0; at+size <= len(events); {
			rest := append(append([]coreEvent(nil), events[:at]...), events[at+size:]...)
			if fails(rest) {
				events, smaller = rest, true
			} else {
				at += size
			}
		}
		if size == 1 && !smaller {
			break
		}
		if !smaller || size > len(events) {
			size = max(1, size/2)
		}
	}
	return events
}

// explain says of a schedule that fails, as short as it gets, what happened.
func explain(cfg coreConfig, events []coreEvent, heal bool, harm func(*core)) string {
	run := func(events []coreEvent, tracing bool) *core { return runHarmed(cfg, events, heal, tracing, harm) }
	events = shrink(func(e []coreEvent) bool { return run(e, false).wrong != "" }, events)
	c := run(events, true)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%+v, %d events:\n", c.wrong, cfg, len(events))
	for _, e := range events {
		fmt.Fprintf(&b, "%s ", e)
	}
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(c.trace, "\n"), c)
	return b.String()
}

// runHarmed is runCore of a cluster to which something is done before.
func runHarmed(cfg coreConfig, events []coreEvent, heal, tracing bool, harm func(*core)) *core {
	if harm == nil {
		return runCore(cfg, events, heal, tracing)
	}
	c := newCore(cfg)
	c.tracing = tracing
	harm(c)
	for _, e := range events {
		if c.wrong == "" {
			c.do(e)
		}
	}
	return c
}

// fingerprint stands for all that matters of a cluster for what can happen to it.
func (c *core) fingerprint() uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, c, c.text, len(c.late), c.blocked, c.wiped)
	for _, n := range c.nodes {
		fmt.Fprint(h, n.log, n.id, n.up, n.control.PromisedEpoch, n.history, n.duty.Epoch, n.target, n.ballot != nil)
		if n.ballot != nil {
			fmt.Fprint(h, n.ballot.answers)
		}
		if r := n.reign; r != nil {
			for _, s := range r.group.Snapshot().Streams {
				fmt.Fprint(h, s.Standby)
			}
			fmt.Fprint(h, r.first, r.opened, len(r.waiting), r.keeper.proposal != nil, r.keeper.force.joint.held)
			for _, l := range r.links {
				fmt.Fprint(h, l.member.n, l.member.link == l, l.caught, l.report != nil)
			}
		}
	}
	return h.Sum64()
}

// coreBubble runs f in virtual time.
func coreBubble(t *testing.T, f func()) {
	synctest.Test(t, func(*testing.T) { f() })
}
