package election

import (
	"fmt"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

func (k *Keeper) fallback() raftlog.Fallback {
	if k.cfg.Fallback == nil {
		return raftlog.Fallback{}
	}
	return k.cfg.Fallback()
}

// degrade begins to do without the rule, if those who stream have not met it for long enough while there are
// commits to acknowledge. It is a change of the rule like any other, to one that is empty and says so;
// as long as that is in force, only this primary is sure to have what it acknowledges, and I4 lets nobody
// take office without it. Otherwise it returns what else is to be done next.
func (k *Keeper) degrade(s *raftlog.State, now time.Time, next step) step {
	f := k.fallback()
	if !f.Degrade || s.Rule.Degraded != nil || s.Rule.K == 0 {
		k.blocked = stopwatch{}
		return next
	}
	again := now.Add(lookAgain) // commits do not kick
	group := k.cfg.Group.Snapshot()
	waiting := group.LocalFlush > group.Horizon && k.pending() && !k.there().meet(s.Rule.Resolved)
	if blocked, since := k.blocked.during(waiting, now); blocked {
		if ready := since.Add(f.After); now.Before(ready) {
			again = earlier(again, ready)
		} else {
			rule := degraded(s.Rule.Text, s.Rule.Resolved, raftlog.Degraded{Since: now, From: max(group.Horizon, k.cfg.First)})
			return step{propose: &raftlog.RuleBegin{Epoch: s.Epoch, Version: s.Rule.Version, Rule: rule, Counted: countedIDs(s)}}
		}
	}
	next.again = earlier(next.again, again)
	return next
}

// pending reports whether there are commits in the log that is not released: heartbeats alone are worth no debt.
func (k *Keeper) pending() bool { return k.cfg.Pending == nil || k.cfg.Pending() }

// degradeOpening is degrade for an epoch that cannot open: a primary that was restarted goes on as before,
// and one that took over from another does what that would have done. All that older epochs acknowledged
// is below where its epoch begins, or is the debt it has itself.
func (k *Keeper) degradeOpening(s *raftlog.State, now, unmet time.Time) raftlog.Command {
	f, debt := k.fallback(), s.Debt()
	mark := raftlog.Degraded{Since: now, From: s.Primary.Position.LSN}
	if debt != nil && s.SteadyPrimary == k.cfg.Self { // another's is lost, and that was accepted
		mark, f.After = *debt, openPause
	}
	if !f.Degrade || now.Before(unmet.Add(f.After)) {
		return nil
	}
	rule := degraded(s.Opening.Text, s.Opening.Resolved, mark)
	return &raftlog.OpeningRule{Epoch: s.Epoch, Version: s.Opening.Version, Rule: rule}
}

// degraded is the rule that stands in for one that cannot be met.
func degraded(text string, unmet syncrep.Resolved, mark raftlog.Degraded) raftlog.Rule {
	mark.Why = fmt.Sprintf("too few of the %d listed by %q stream", len(unmet.Listed), text)
	return raftlog.Rule{Text: text, Degraded: &mark}
}

// restore reports whether the rule is to be asked for again though too few are there to meet it: nobody
// wants to do without it any more.
func (k *Keeper) restore(s *raftlog.State) bool {
	return s.Rule.Degraded != nil && !k.fallback().Degrade
}

// owe tells the group of the debt, before the rules that incur it.
func (k *Keeper) owe(rules []raftlog.Rule) {
	d := rules[0].Degraded
	if d == nil {
		return
	}
	limit := wal.LSN(0)
	if most := k.fallback().Limit; most > 0 {
		limit = max(d.From+most, k.cfg.First) // what opens the epoch is nobody's commit
	}
	k.cfg.Group.Owe(d.From, limit)
}

// settle tells the group that there is no debt, after the rules under which it was paid.
func (k *Keeper) settle(rules []raftlog.Rule) {
	if rules[0].Degraded == nil {
		k.cfg.Group.Settle()
	}
}

// earlier is the first of two times to look again; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
