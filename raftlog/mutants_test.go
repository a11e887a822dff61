package raftlog

import (
	"slices"
	"testing"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A mutant is a cluster whose decisions lack a clause. Production code knows nothing of it: the mutant
// shows the real decision a state and answers for which it does what one without the clause would.
type mutant struct {
	noMajority bool // the majority is met by whoever answered

	// see is what a decision sees instead, in a clone of both. When it judges a candidate, candidate is
	// that one's place among the answers, else -1.
	see func(st *State, answers []Answer, candidate int)

	ack          func([]syncrep.Resolved) []syncrep.Resolved // of the rules that acknowledgements must satisfy
	oneStep      bool                                        // a rule is recorded first and used later
	openUnderOld bool                                        // an epoch becomes steady under the rule of the one before
	releaseEarly bool                                        // it acknowledges before it is steady
}

// TestMutants takes each clause away and wants the search to find what that loses. With few members, or
// the default rule, a majority makes up for most: hence five members, or a majority that is always met.
func TestMutants(t *testing.T) {
	for _, c := range []struct {
		name    string
		mutant  mutant
		enough  int    // members that notice it with a majority, too; 0: not looked at
		zones   string // of the members; then rules ask for zones
		witness bool   // the last member is a witness
	}{
		{"I1: acknowledges under the old rule alone while it changes", mutant{ack: func(r []syncrep.Resolved) []syncrep.Resolved { return r[:1] }}, 5, "", false},
		{"I2: a rule is recorded, then used", mutant{oneStep: true}, 5, "", false},
		{"I4: one seal less", mutant{see: sealOneLess}, 5, "", false},
		{"I4: seals under the new rule alone while it changes", mutant{see: newOnly}, 5, "", false},
		{"I4: seals under the old rule alone, acknowledges under the new one", mutant{
			see: func(st *State, _ []Answer, _ int) { st.Joint = nil },
			ack: func(r []syncrep.Resolved) []syncrep.Resolved { return r[len(r)-1:] },
		}, 5, "", false},
		{"I4: the rule of an epoch that was never steady", mutant{see: lastNamed}, 5, "", false},
		{"I4: a receiver is none of the N", mutant{see: noReceivers}, 4, "", false},
		{"I5: LSN before epoch", mutant{see: lsnFirst}, 3, "", false},
		{"I5: a candidate that is behind", mutant{see: behind}, 5, "", false},
		{"I5: steady under the rule of the epoch before", mutant{openUnderOld: true}, 5, "", false},
		{"I1: acknowledges before the epoch is steady", mutant{releaseEarly: true}, 5, "", false},
		{"I9: an empty disk counts as the one it replaces", mutant{see: emptyCounts}, 5, "", false},
		{"I1: acknowledges in too few zones", mutant{ack: noZones}, 0, "aabb", false},
		{"I4: seals of too few zones", mutant{see: oneZoneMore}, 0, "aabb", false},
		{"I4: zones as they are now, not as they were recorded", mutant{see: zonesNow}, 0, "aabb", false},
		{"a witness is promoted", mutant{see: noWitness}, 3, "", true},
		{"what a witness has is not looked at", mutant{see: witnessUnread}, 3, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.mutant.noMajority = true
			s := newSearch(max(3, len(c.zones)), 2, c.mutant)
			s.zones = c.zones
			if c.witness {
				s.witness = s.n - 1
			}
			s.run()
			if s.lost == "" {
				t.Errorf("%d members, no majority: not noticed after %d decisions", s.n, s.decisions)
			}
			t.Log(s.lost)
			if testing.Short() || c.enough == 0 {
				return
			}
			c.mutant.noMajority = false
			s = newSearch(c.enough, 2, c.mutant)
			if c.witness {
				s.witness = s.n - 1
			}
			s.run()
			if s.lost == "" {
				t.Errorf("%d members: not noticed after %d decisions", c.enough, s.decisions)
			}
			t.Log(s.lost)
		})
	}
}

func sealOneLess(st *State, _ []Answer, _ int) {
	for _, r := range []*Rule{&st.Rule, st.Joint} {
		if r != nil && r.K > 0 {
			r.K++
		}
	}
}

func noZones(rules []syncrep.Resolved) []syncrep.Resolved {
	rules = slices.Clone(rules)
	for i := range rules {
		rules[i].Zones = 0
	}
	return rules
}

func oneZoneMore(st *State, _ []Answer, _ int) {
	for _, r := range []*Rule{&st.Rule, st.Joint} {
		if r != nil && r.Zones > 0 {
			r.Zones++
		}
	}
}

// zonesNow has member B in the last zone, where it was not when the rule was recorded.
func zonesNow(st *State, _ []Answer, _ int) {
	st.Rule.Listed = slices.Clone(st.Rule.Listed)
	for i, l := range st.Rule.Listed {
		if l.ID == diskID(1) && st.Rule.Zones > 0 {
			st.Rule.Listed[i].Zone = st.Members[len(st.Members)-1].Zone
		}
	}
}

func newOnly(st *State, _ []Answer, _ int) {
	if st.Joint != nil {
		st.Rule, st.Joint = *st.Joint, nil
	}
}

func lastNamed(st *State, _ []Answer, _ int) {
	if st.Opening != nil {
		st.Rule, st.Joint, st.SteadyPrimary = *st.Opening, nil, st.Primary.ID
	}
}

func noReceivers(st *State, _ []Answer, _ int) {
	var members []syncrep.Listed
	for _, l := range st.Rule.Listed {
		if l.ID != (syncrep.ID{}) {
			members = append(members, l)
		}
	}
	st.Rule.Listed = members
}

// lsnFirst swaps the two, so that the decision's epoch is the LSN.
func lsnFirst(st *State, answers []Answer, _ int) {
	st.Epoch = 1 << 20 // a log has fewer records
	for i := range answers {
		at := &answers[i].Position
		*at = Position{Epoch: uint64(at.LSN), LSN: wal.LSN(at.Epoch)}
	}
}

// behind shows nobody a longer log than the candidate's.
func behind(_ *State, answers []Answer, candidate int) {
	for i := range answers {
		if candidate >= 0 {
			answers[i].Position = answers[candidate].Position
		}
	}
}

func emptyCounts(_ *State, answers []Answer, _ int) {
	for i := range answers {
		answers[i].ID.Incarnation = 1
	}
}

func noWitness(st *State, _ []Answer, _ int) {
	for i := range st.Members {
		st.Members[i].Witness = false
	}
}

// witnessUnread has a witness's answer count for the seal, and not for how far the log reaches.
func witnessUnread(st *State, answers []Answer, _ int) {
	for i, a := range answers {
		if m, _ := st.Member(a.ID); m.Witness {
			answers[i].Position = Position{}
		}
	}
}

// view is what the mutant's decision sees.
func (m mutant) view(st *State, answers []Answer, candidate int) (*State, []Answer) {
	if m.see == nil && !m.noMajority {
		return st, answers
	}
	view := st.clone()
	if st.Joint != nil {
		view.Joint = new(*st.Joint)
	}
	answers = append([]Answer(nil), answers...)
	if m.noMajority {
		for i := range view.Members {
			_, answered := answerOf(answers, view.Members[i].ID)
			view.Members[i].Counted = answered
		}
	}
	if m.see != nil {
		m.see(view, answers, candidate)
	}
	return view, answers
}

func (m mutant) rules(st *State) []syncrep.Resolved {
	switch {
	case m.openUnderOld && st.Opening != nil:
		return []syncrep.Resolved{st.Rule.Resolved}
	case m.ack != nil:
		return m.ack(Rules(st))
	}
	return Rules(st)
}

// check is CheckPromotion of a candidate as it stands.
func (m mutant) check(st *State, answers []Answer, candidate int) error {
	view, seen := m.view(st, answers, candidate)
	winner := seen[candidate]
	return CheckPromotion(view, &Promote{
		Epoch: st.Epoch, Target: st.Target, Answers: seen, Winner: winner.ID, Position: winner.Position,
	})
}

func (m mutant) choose(st *State, answers []Answer, prefer string) (Choice, error) {
	view, seen := m.view(st, answers, -1)
	return Choose(view, seen, prefer)
}

// promotion is the command for a choice; the winner's answer after it has fetched is the last one. The
// real state machine takes a mutant's choice only as one that accepts loss, on that answer alone.
func (m mutant) promotion(st *State, answers []Answer, choice Choice) *Promote {
	winner := answers[len(answers)-1]
	p := &Promote{Epoch: st.Epoch, Target: st.Target, Answers: answers, Winner: winner.ID, Position: winner.Position, LeaseWait: choice.LeaseWait}
	if m.see != nil || m.noMajority {
		p.Answers, p.AcceptLoss = []Answer{winner}, true
	}
	return p
}
