package election

import (
	"fmt"
	"slices"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// rareStates are what the standard runs must have been through, or they prove less than they seem to.
var rareStates = []string{
	"a promotion is refused for what it does not prove (I4)",
	"the state machine refuses what a coordinator proposes",
	"a failover while the rule changes",
	"a change of the rule is called off by a failover",
	"a change of the rule is called off",
	"two epochs in a row were never steady",
	"a winner fetches the log first",
	"a witness had the longest log",
	"a named process was started again",
	"the rule of an epoch that opens is replaced",
	"an acknowledgement comes after its stream has ended",
	"a seal comes too late",
	"the primary itself is sealed",
	"a promotion waits for read leases",
	"a primary reads by its lease while another is named",
	"a commit of unknown outcome is there",
	"a commit of unknown outcome is gone",
	"a tail is cut",
	"a tail of two epochs is cut",
	"a command is agreed on late",
	"commits go on without the rule (degraded)",
	"an answer of another disk is refused (I9)",
	"a primary acknowledges without a majority of Raft (I10)",
	"a member leaves while a rule lists it",
	"a deposed primary goes on writing",
}

// fail keeps the first thing that did not hold.
func (c *core) fail(format string, args ...any) {
	if c.wrong == "" {
		c.wrong = fmt.Sprintf(format, args...)
		c.note("WRONG: %s", c.wrong)
	}
}

// same reports whether two logs have the same first n records.
func same(a, b []coreRecord, n int) bool {
	return n <= len(a) && n <= len(b) && (n == 0 || a[n-1] == b[n-1])
}

// check looks at everything that must hold after each event.
func (c *core) check() {
	for _, n := range c.nodes {
		c.checkLog(n)
		if n.reign != nil {
			c.checkRelease(n)
		}
	}
	if c.stale {
		c.stale = false
		c.checkSeals()
	}
}

// checkLog is about one disk (I6, I7): what it says of its log is so, and nothing is applied but what was released.
func (c *core) checkLog(n *coreNode) {
	if n.flushed > len(n.log) || n.applied > n.flushed {
		c.fail("%s has flushed %d and applied %d of %d", n.name(), n.flushed, n.applied, len(n.log))
		return
	}
	if n.flushed > 0 && n.epochAt(n.flushed) != n.log[n.flushed-1].epoch {
		c.fail("%s says that its log ends in epoch %d, and it is [%s]", n.name(), n.epochAt(n.flushed), epochs(n.log))
	}
	if !same(n.log, c.shown, n.applied) {
		c.fail("%s has applied [%s], and released was [%s]", n.name(), epochs(n.log[:n.applied]), epochs(c.shown))
	}
	if n.horizon > len(c.shown) {
		c.fail("%s knows a horizon of %d, and released was %d", n.name(), n.horizon, len(c.shown))
	}
	if int(n.id.Incarnation) == 1 && n.control.PromisedEpoch < n.log[len(n.log)-1].epoch && n.log[len(n.log)-1].epoch > 1 {
		c.fail("%s has a log of epoch %d, and has promised %d", n.name(), n.log[len(n.log)-1].epoch, n.control.PromisedEpoch)
	}
}

// checkRelease is about a primary (I1, I8, I11): what it releases is in its log and in nobody's way, its epoch is
// steady, and while its lease holds nobody else has released more.
func (c *core) checkRelease(n *coreNode) {
	r := n.reign
	at := int(r.group.Horizon().Load())
	if at < n.horizon {
		c.fail("the horizon of %s moves back from %d to %d", n.name(), n.horizon, at)
	}
	if at > n.flushed || !same(n.log, c.shown, min(at, len(c.shown))) {
		c.fail("%s releases %d of [%s], %d of it flushed; released was [%s]", n.name(), at, epochs(n.log), n.flushed, epochs(c.shown))
		return
	}
	if at > n.horizon && c.now().SteadyEpoch < r.epoch {
		c.fail("%s releases %d in epoch %d, which Raft does not hold as steady", n.name(), at, r.epoch)
	}
	if at > len(c.shown) {
		c.shown, c.stale = n.log[:at:at], true
		if c.now().Epoch > r.epoch && !same(c.shown, c.start, at) {
			c.fail("%s of epoch %d releases %d, and epoch %d began with [%s]", n.name(), r.epoch, at, c.now().Epoch, epochs(c.start))
		}
		if !c.quorate(n) {
			c.reach("a primary acknowledges without a majority of Raft (I10)")
		}
		if c.now().Debt() != nil {
			c.reach("commits go on without the rule (degraded)")
		}
	}
	n.horizon = at
	r.waiting = slices.DeleteFunc(r.waiting, func(w coreRecord) bool { return c.known[w.chain] <= at })
	c.apply(n)
	if r.opened && time.Now().Before(r.group.Lease()) {
		if len(c.shown) > at {
			c.fail("%s may read at %d by its lease, and %d is released", n.name(), at, len(c.shown))
		}
		if c.now().Epoch > r.epoch {
			c.reach("a primary reads by its lease while another is named")
		}
	}
}

// checkSeals takes every set of disks that may answer a seal now: whoever is chosen has everything that was ever
// released or shown. It is judged without asking for a majority, by the rules alone: that stands for larger
// clusters, in which a majority meets an acknowledging set less often.
func (c *core) checkSeals() {
	s := *c.now()
	if s.Phase != raftlog.Sealing {
		s.Phase, s.Target = raftlog.Sealing, s.Epoch+1
	}
	var members []*coreNode
	for _, n := range c.nodes {
		if _, ok := s.Member(n.id); ok {
			members = append(members, n)
		}
	}
	s.Members = slices.Clone(s.Members)
	for set := 1; set < 1<<len(members); set++ {
		var answers []raftlog.Answer
		for i, n := range members {
			if set>>i&1 == 1 {
				answers = append(answers, raftlog.Answer{
					ID: n.id, Name: n.name(), RunID: n.runID, Promised: s.Target, Position: n.ends(n.flushed), Priority: 100,
				})
			}
		}
		for i, m := range s.Members {
			s.Members[i].Counted = slices.ContainsFunc(answers, func(a raftlog.Answer) bool { return a.ID == m.ID })
		}
		c.judged++
		choice, err := raftlog.Choose(&s, answers, "")
		if err != nil {
			continue
		}
		if source := c.node(choice.Source.ID); !same(source.log[:source.flushed], c.shown, len(c.shown)) {
			c.fail("%s would be named by the answers of %s with [%s], and released was [%s]",
				choice.Winner.Name, answerNames(answers), epochs(source.log[:source.flushed]), epochs(c.shown))
			return
		}
	}
}

func answerNames(answers []raftlog.Answer) (all string) {
	for _, a := range answers {
		all += a.Name
	}
	return all
}

// agreed is called when Raft has taken a command: what follows from it is checked, and what is rare is noted.
func (c *core) agreed(before, after *raftlog.State, command raftlog.Command) {
	switch command := command.(type) {
	case *raftlog.Promote:
		c.checkNaming(before, after)
	case *raftlog.Seal:
		if before.Joint != nil && before.Phase == raftlog.Steady {
			c.reach("a failover while the rule changes")
		}
	case *raftlog.RuleCancel:
		if before.Phase == raftlog.Sealing {
			c.reach("a change of the rule is called off by a failover")
		} else {
			c.reach("a change of the rule is called off")
		}
	case *raftlog.OpeningRule:
		c.reach("the rule of an epoch that opens is replaced")
	case *raftlog.SetSteady:
		c.checkSteady(after)
	case *raftlog.Leave:
		if m, ok := after.Member(command.ID); ok && m.Leaving {
			c.reach("a member leaves while a rule lists it")
		}
	}
	if after.Epoch < before.Epoch || after.SteadyEpoch < before.SteadyEpoch || after.Rule.Version < before.Rule.Version {
		c.fail("%T takes Raft back: %s, then %s", command, describe(before), describe(after))
	}
}

// checkNaming is about a promotion (I5): the named log has everything, and it is there.
func (c *core) checkNaming(before, after *raftlog.State) {
	n, at := c.node(after.Primary.ID), int(after.Primary.Position.LSN)
	if n.id != after.Primary.ID || at > n.flushed || n.ends(at) != after.Primary.Position {
		// It has lost its disk, or has followed another since: it will not take office.
		c.start = nil
		return
	}
	c.start = n.log[:at:at]
	if !same(c.start, c.shown, len(c.shown)) {
		c.fail("%s is named for epoch %d with [%s], and released was [%s]", n.name(), after.Epoch, epochs(c.start), epochs(c.shown))
	}
	if n.runID != after.Primary.RunID {
		c.reach("a named process was started again")
	}
	if before.Epoch > before.SteadyEpoch {
		c.reach("two epochs in a row were never steady")
	}
	if after.Primary.LeaseWait > 0 {
		c.reach("a promotion waits for read leases")
	}
	for _, o := range c.nodes {
		if o != n && o.reign != nil && len(o.log) > o.flushed {
			c.reach("a deposed primary goes on writing")
		}
	}
}

// checkSteady is about an epoch that opens (I11): nobody reads by an older lease any more.
func (c *core) checkSteady(after *raftlog.State) {
	for _, n := range c.nodes {
		if r := n.reign; r != nil && r.epoch < after.Epoch && r.opened && time.Now().Before(r.group.Lease()) {
			c.fail("epoch %d is steady, and %s of epoch %d may read by its lease", after.Epoch, n.name(), r.epoch)
		}
	}
}

// settleUnknown says of the commits whose outcome was unknown what became of them.
func (c *core) settleUnknown() {
	for _, r := range c.unknown {
		if at := c.known[r.chain]; at <= len(c.shown) && c.shown[at-1] == r {
			c.reach("a commit of unknown outcome is there")
		} else {
			c.reach("a commit of unknown outcome is gone")
		}
	}
}

// sound reports whether a disk may be lost without losing what nobody else need have.
func (c *core) sound(without syncrep.ID) bool {
	s := *c.now()
	if s.Phase != raftlog.Sealing {
		s.Phase, s.Target = raftlog.Sealing, s.Epoch+1
	}
	var answers []raftlog.Answer
	for _, n := range c.nodes {
		if n.id != without {
			answers = append(answers, raftlog.Answer{ID: n.id, Name: n.name(), Promised: s.Target, Position: n.ends(n.flushed), Priority: 100})
		}
	}
	_, err := raftlog.Choose(&s, answers, "")
	return err == nil
}
