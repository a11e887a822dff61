package election

import (
	"time"

	"github.com/longship-db/longship/raftlog"
)

// open leads the epoch from its naming to steady. Raft may hold it as steady once the first record, own
// flush included, is held under the opening rule as it is recorded, and old read leases have run out
// (I5). The version makes sure that it is this opening rule.
func (k *Keeper) open(s *raftlog.State, now time.Time) step {
	leasesOver := k.began.Add(k.cfg.LeaseWait)
	switch held := k.force.held; {
	case held.Load() < k.cfg.First:
		next := k.reopen(s, now)
		next.moved = held.Changed(k.cfg.First - 1)
		return next
	case now.Before(leasesOver):
		return step{again: leasesOver}
	default:
		return step{propose: &raftlog.SetSteady{Epoch: s.Epoch, RunID: k.cfg.RunID, Version: s.Opening.Version}}
	}
}

// reopen replaces an opening rule that those who are there cannot meet by one that they can, and that the
// text means by now (hole H8): of FIRST k others are pinned, a member that was removed is not waited for, one
// that is new is. It does not ask for fewer because fewer are there. Until the epoch is steady nothing is
// acknowledged under its rule, so one step is enough.
func (k *Keeper) reopen(s *raftlog.State, now time.Time) step {
	there := k.there()
	unmet, since := k.unmet.during(!there.meet(s.Opening.Resolved), now)
	switch {
	case !unmet:
		return step{again: now.Add(lookAgain)}
	case now.Sub(since) < openPause:
		return step{again: since.Add(openPause)}
	}
	w, err := k.wanted(s, there)
	if err != nil {
		return k.refuse(now, "text cannot be resolved", "error", err)
	}
	if sameRule(w.rule, s.Opening.Resolved) || !there.meet(w.rule) {
		if c := k.degradeOpening(s, now, since); c != nil {
			return step{propose: c}
		}
		return k.refuse(now, "too few are there to open the epoch", "rule", w.rule)
	}
	return step{propose: &raftlog.OpeningRule{
		Epoch: s.Epoch, Version: s.Opening.Version, Rule: raftlog.Rule{Text: w.text, Resolved: w.rule},
	}}
}
