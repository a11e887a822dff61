package election

import (
	"slices"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// A wish is the rule that the text means now, and who counts under it.
type wish struct {
	text    string
	rule    syncrep.Resolved
	counted []syncrep.ID // the primary included, in the order in which they joined
}

// wanted works out what the text means now. A new witness is not there for it before it has what the others need.
func (k *Keeper) wanted(s *raftlog.State, there presence) (wish, error) {
	return wanted(s, k.cfg.Self, k.cfg.Text(), func(m raftlog.Member) bool {
		return there.streams(m) && (m.Counted || !m.Witness || k.bridges(s, there, m))
	})
}

// bridges reports whether all that count and keep a table have got as far as the log was when a new witness was
// first seen here. Its own begins at a checkpoint before that; to stream is not to have got there, where the
// rule asks for little.
func (k *Keeper) bridges(s *raftlog.State, there presence, witness raftlog.Member) bool {
	from, known := k.witnesses[witness.ID]
	if !known {
		from = max(k.cfg.Group.Horizon().Load(), k.cfg.First)
		k.witnesses[witness.ID] = from
	}
	return !slices.ContainsFunc(s.Members, func(m raftlog.Member) bool {
		return m.Counted && !m.Leaving && !m.Witness && m.ID != k.cfg.Self && there.flushed(m.ID) < from
	})
}

// newcomer is when to look whether a new witness may count: nothing says so. Zero: there is none.
func newcomer(s *raftlog.State, now time.Time) time.Time {
	if slices.ContainsFunc(s.Members, func(m raftlog.Member) bool { return m.Witness && !m.Counted && !m.Leaving }) {
		return now.Add(lookAgain)
	}
	return time.Time{}
}

// wanted works out what text means now: for the members that count, those that have caught up by now, and
// without those that leave. The pinned of FIRST k are those that stream, the first of the list first.
func wanted(s *raftlog.State, self syncrep.ID, text string, streams func(raftlog.Member) bool) (wish, error) {
	w, err := resolve(s, self, text, streams, true)
	if err != nil || w.same(current(s)) || !slices.ContainsFunc(s.Members, func(m raftlog.Member) bool {
		return m.Leaving && w.rule.Lists(m.ID)
	}) {
		return w, err
	}
	// Something else is to change, and no new rule may list one that leaves.
	return resolve(s, self, text, streams, false)
}

// resolve works out what text means for the members that count. Those that leave may stay until others have
// taken their place.
func resolve(s *raftlog.State, self syncrep.ID, text string, streams func(raftlog.Member) bool, stay bool) (wish, error) {
	w := wish{text: text}
	var counted []raftlog.Member
	for _, m := range s.Members {
		if m.ID == self || counts(s, m, streams) && (stay || !m.Leaving) {
			counted = append(counted, m)
			w.counted = append(w.counted, m.ID)
		}
	}
	rule, err := raftlog.Resolve(text, self, counted, streams)
	w.rule = rule
	return w, err
}

// counts reports whether a member other than the primary shall count from now on. One that is new does once it
// has caught up, and then for good, whether it is there or not. A new witness has the log only from when it
// came, and no table: it counts once all that count and keep one stream too, and have got that far
// (Keeper.bridges), for whoever has less than the witness's beginning could not be brought forward from it. One
// that leaves does as long as the member that has its name now does not, so that the two change places in one
// step.
func counts(s *raftlog.State, m raftlog.Member, streams func(raftlog.Member) bool) bool {
	if !m.Leaving {
		return m.Counted || streams(m) && (!m.Witness || !slices.ContainsFunc(s.Members, func(o raftlog.Member) bool {
			return o.Counted && !o.Leaving && !o.Witness && o.ID != s.Primary.ID && !streams(o)
		}))
	}
	successor, ok := s.Named(m.Name)
	return m.Counted && ok && !counts(s, successor, streams)
}

// current is the wish that came true: the rule, or that of the epoch that opens.
func current(s *raftlog.State) wish {
	rule := s.Rule
	if s.Phase == raftlog.Opening {
		rule = *s.Opening
	}
	return wish{rule.Text, rule.Resolved, countedIDs(s)}
}

// same compares wishes. The text is part of them: the rule of the next epoch is made from it.
func (w wish) same(o wish) bool {
	return w.text == o.text && sameRule(w.rule, o.rule) && sameSet(w.counted, o.counted)
}

// countedIDs are the members that majorities count now.
func countedIDs(s *raftlog.State) []syncrep.ID {
	var ids []syncrep.ID
	for _, m := range s.Members {
		if m.Counted {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// sameRule reports whether two rules ask for the same: the order of the list means nothing.
func sameRule(a, b syncrep.Resolved) bool {
	return a.K == b.K && a.Zones == b.Zones && sameSet(a.Listed, b.Listed)
}

// sameSet compares lists without duplicates as sets.
func sameSet[T comparable](a, b []T) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x T) bool { return !slices.Contains(b, x) })
}
