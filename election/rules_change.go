package election

import (
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/wal"
)

// change begins a change of the rule if another one is wanted, and can be met by those who are there:
// while it is joint, commits wait for both.
func (k *Keeper) change(s *raftlog.State, now time.Time) step {
	there := k.there()
	w, err := k.wanted(s, there)
	if err != nil {
		return k.refuse(now, "text cannot be resolved", "error", err)
	}
	other, since := k.differs.during(!w.same(current(s)), now)
	if !other {
		k.refused = ""
		return step{again: newcomer(s, now)}
	}
	settled := since.Add(changeSettle)
	if !there.meet(s.Rule.Resolved) {
		settled = since.Add(urgentSettle)
	}
	switch {
	case !there.meet(w.rule) && !k.restore(s):
		return k.refuse(now, "too few are there to meet the rule that is wanted", "rule", w.rule)
	case now.Before(k.backOff.until(w)) && !k.restore(s):
		return k.refuse(now, "the change was called off a while ago", "rule", w.rule)
	case now.Before(settled):
		return step{again: settled}
	}
	return step{propose: &raftlog.RuleBegin{
		Epoch: s.Epoch, Version: s.Rule.Version,
		Rule: raftlog.Rule{Text: w.text, Resolved: w.rule}, Counted: w.counted,
	}}
}

// A joint is a change under way, from when the group acknowledges under both rules.
type joint struct {
	since  time.Time
	target wal.LSN // the end of all that may have been released before
	held   bool    // it is held under the new rule, on disks: that stays true
	called bool    // it was called off, whether Raft has heard of it or not
}

// beginJoint is called when the group has both rules. Only now may the horizon be read: what is released
// from now on satisfies both. And it must be a horizon of this epoch, which covers all that older ones
// acknowledged: the one the primary took office with does not (hole H2).
func (k *Keeper) beginJoint() joint {
	return joint{since: time.Now(), target: max(k.cfg.Group.Horizon().Load(), k.cfg.First)}
}

// endJoint ends a change. The new rule may stand alone once all that was ever released is held under it, under
// it alone: the old one may be what cannot be met any more. Before, the change can be called off. (The primary
// itself has flushed what it released.) Raft takes whichever of the two reaches it first: their version is never
// used again.
func (k *Keeper) endJoint(s *raftlog.State, now time.Time) step {
	j, there := &k.force.joint, k.there()
	j.held = j.held || k.force.held.Load() >= j.target || there.hold(s.Joint.Resolved) >= j.target
	switch {
	case j.held:
		return step{propose: &raftlog.RuleEnd{Epoch: s.Epoch, Version: s.Joint.Version}}
	case now.Sub(j.since) < jointTimeout || !k.futile(s, there):
		return step{again: now.Add(jointPoll)}
	}
	if !j.called {
		j.called = true
		k.backOff.add(wish{s.Joint.Text, s.Joint.Resolved, s.JointCounted}, now)
	}
	return step{propose: &raftlog.RuleCancel{Epoch: s.Epoch, Version: s.Joint.Version}}
}

// futile reports whether commits wait for a change that something better could take the place of: the
// old rule alone, what is wanted by now, or none for a while.
func (k *Keeper) futile(s *raftlog.State, there presence) bool {
	switch {
	case k.restore(s): // it is not to be called off for being hard to meet
	case there.meet(s.Rule.Resolved):
		return true
	case k.fallback().Degrade && !there.meet(s.Joint.Resolved):
		return true // one that is joint cannot be done without
	}
	w, err := k.wanted(s, there)
	return err == nil && there.meet(w.rule) &&
		!w.same(wish{s.Joint.Text, s.Joint.Resolved, s.JointCounted})
}

// A backOff keeps a change that was called off from being tried again at once.
type backOff struct {
	wish  wish
	end   time.Time
	delay time.Duration
}

// until is when the change may be tried; zero: at any time.
func (b *backOff) until(w wish) time.Time {
	if b.delay == 0 || !b.wish.same(w) {
		return time.Time{}
	}
	return b.end
}

func (b *backOff) add(w wish, now time.Time) {
	again := b.wish.same(w) && now.Sub(b.end) < backOffMax
	b.wish, b.delay = w, min(2*b.delay, backOffMax)
	if !again {
		b.delay = backOffMin
	}
	b.end = now.Add(b.delay)
}
