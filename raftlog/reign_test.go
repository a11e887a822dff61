package raftlog

import (
	"slices"

	"github.com/longship-db/longship/syncrep"
)

// nextReign is an epoch that begins with a promotion: its first record reaches any of the disks that
// follow, or none. It may be over before it is steady; then nothing was acknowledged.
func (s *search) nextReign(w *world, left int) {
	if !s.fresh(2*left, w) {
		return
	}
	p := int(w.state.Primary.ID.Node) - 1
	log := w.disks[p].add(w.state.Epoch)
	unsteady := s.openUnder(w.state, s.everybody(w))
	s.follow(w, p, log, func(w *world) {
		next := *w
		next.state = unsteady
		if s.mutant.releaseEarly {
			s.releaseEarly(&next, p, log, left)
		}
		s.failover(&next, left)
	})
	if s.steadyBefore(w, left) {
		return
	}
	s.eachRule(w, p, func(rule syncrep.Resolved) {
		opening := s.openUnder(w.state, rule)
		steady := s.apply(opening, &SetSteady{Epoch: opening.Epoch, RunID: 1, Version: opening.Opening.Version})
		s.follow(w, p, log, func(w *world) {
			if w.disks[p] != log || !w.held(log, s.mutant.rules(opening)) {
				return
			}
			next := *w
			next.state, next.acked = steady, log
			s.failover(&next, left)
		})
	})
}

// steadyBefore reports whether the worlds that follow if this epoch becomes steady have been visited:
// the rules that were in force are forgotten then.
func (s *search) steadyBefore(w *world, left int) bool {
	if s.mutant.openUnderOld {
		return false
	}
	forgotten := *w.state
	forgotten.Rule, forgotten.Joint, forgotten.SteadyPrimary = Rule{}, nil, syncrep.ID{}
	next := *w
	next.state = &forgotten
	next.state.Phase = Steady
	return !s.fresh(2*left, &next)
}

// follow yields every way in which the others are when the epoch ends: each has a log of its own, or
// has cut that to follow the primary's, or has all of it; and the primary has flushed it or has not.
func (s *search) follow(w *world, p int, log journal, yield func(*world)) {
	next := *w
	var from func(i int)
	from = func(i int) {
		if i == s.n {
			yield(&next)
			return
		}
		was := w.disks[i]
		next.disks[i] = was
		from(i + 1)
		if cut := was.shared(log); cut != was {
			next.disks[i] = cut
			from(i + 1)
		}
		next.disks[i] = log
		from(i + 1)
	}
	from(0)
}

// openUnder gives the epoch that opens a rule.
func (s *search) openUnder(st *State, rule syncrep.Resolved) *State {
	return s.apply(st, &OpeningRule{Epoch: st.Epoch, Version: st.Opening.Version, Rule: Rule{Resolved: rule}})
}

// everybody is the rule under which every single other member has what is acknowledged. Of all rules
// it asks least of a failover: to take it for one in force, before its epoch is steady, loses most.
func (s *search) everybody(w *world) (r syncrep.Resolved) {
	for i := range s.n {
		if id := w.id(i); id != w.state.Primary.ID {
			r.Listed = append(r.Listed, s.listed(id))
		}
	}
	r.K = len(r.Listed)
	return r
}

// eachRule yields every rule that primary p may have.
func (s *search) eachRule(w *world, p int, yield func(syncrep.Resolved)) {
	for set := range 1 << s.n {
		if set>>p&1 == 1 {
			continue
		}
		s.eachK(set, 0, func(r syncrep.Resolved) {
			r.Listed = slices.Clone(r.Listed)
			for i, l := range r.Listed {
				r.Listed[i].ID = w.id(int(l.ID.Node) - 1)
			}
			yield(r)
		})
	}
}

// releaseEarly is a mutant's: the epoch acknowledges before Raft holds it as steady.
func (s *search) releaseEarly(w *world, p int, log journal, left int) {
	s.eachRule(w, p, func(rule syncrep.Resolved) {
		if w.disks[p] == log && w.held(log, []syncrep.Resolved{rule}) {
			next := *w
			next.acked = log
			s.failover(&next, left)
		}
	})
}
