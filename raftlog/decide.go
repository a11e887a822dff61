package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/longship-db/longship/syncrep"
)

// A Choice is who is to be promoted, and where its epoch starts.
type Choice struct {
	Winner    Answer
	Source    Answer        // holds the longest log; not the Winner if the Winner must fetch the rest first
	Position  Position      // the Source's: where the new epoch starts
	LeaseWait time.Duration // from taking office until the old read leases have run out
}

// Rules returns the rules that acknowledgements of epoch s.Epoch must satisfy, all of them. In an
// epoch that is not steady yet that is its own rule alone, and what it acknowledges is not released.
func Rules(s *State) []syncrep.Resolved {
	if s.Opening != nil {
		return []syncrep.Resolved{s.Opening.Resolved}
	}
	var resolved []syncrep.Resolved
	for _, r := range inForce(s) {
		resolved = append(resolved, r.Resolved)
	}
	return resolved
}

// inForce returns the rules that bind a failover: that of the last steady epoch, with its partner
// while it changes. An epoch that was named and never became steady has released nothing: it adds no
// rule and takes none away, however many follow (invariant I4).
func inForce(s *State) []Rule {
	if s.Joint != nil {
		return []Rule{s.Rule, *s.Joint}
	}
	return []Rule{s.Rule}
}

// Choose decides who is promoted on these answers to the seal for s.Target; of a member that answered
// twice the last one counts. It wants the longest log (invariant I5): nobody who lacks a part of it is
// promoted before having fetched that. The member named prefer is taken even if it has to fetch;
// otherwise who has the longest log goes before who has not, a higher priority before a lower one, and
// who stays before who leaves. Nobody of priority 0 is chosen, no witness (what those alone have, the
// winner fetches from them), nobody who lacks a part of its own log, and nobody but the primary whose debt has
// not been paid (State.Debt). Damage that a member can do without itself keeps nobody from being chosen: see rank.
//
// The error is a *Refusal if the answers do not prove that nothing acknowledged is lost.
func Choose(s *State, answers []Answer, prefer string) (Choice, error) {
	set, err := provenSet(s, answers)
	if err != nil {
		return Choice{}, err
	}
	return choose(s, set, candidates(s, set), prefer)
}

// provenSet returns the answers that count, or a *Refusal if they do not prove enough.
func provenSet(s *State, answers []Answer) ([]Answer, error) {
	set, unfit := sealedSet(s, answers)
	if lines := missing(s, set); len(lines) > 0 {
		return nil, &Refusal{Lines: append(lines, unfit...)}
	}
	return set, nil
}

// ChooseAcceptingLoss is Choose for somebody who has accepted the loss of what only those that did
// not answer hold. The *Refusal it returns says that nobody who answered may be promoted at all.
func ChooseAcceptingLoss(s *State, answers []Answer, prefer string) (Choice, error) {
	set, _ := sealedSet(s, answers)
	return choose(s, set, electable(s, set), prefer)
}

// electable returns those of a set that may be promoted at all.
func electable(s *State, set []Answer) []Answer {
	return slices.DeleteFunc(slices.Clone(set), func(a Answer) bool { return barred(s, a) != "" })
}

// candidates returns those of a set that may be promoted without a loss.
func candidates(s *State, set []Answer) []Answer {
	return slices.DeleteFunc(electable(s, set), func(a Answer) bool {
		return a.Lacking || s.Debt() != nil && a.ID != s.SteadyPrimary
	})
}

func choose(s *State, set, candidates []Answer, prefer string) (Choice, error) {
	if len(candidates) == 0 {
		return Choice{}, &Refusal{Lines: []string{noCandidate(s, set)}}
	}
	source := slices.MinFunc(set, func(a, b Answer) int {
		return cmp.Or(b.Position.Compare(a.Position), cmp.Compare(a.Damaged, b.Damaged), compareAnswers(s, a, b))
	})
	winner := slices.MinFunc(candidates, func(a, b Answer) int {
		return cmp.Or(cmp.Compare(rank(s, set, source, a), rank(s, set, source, b)), compareAnswers(s, a, b))
	})
	if m, ok := s.Named(prefer); ok {
		if a, ok := answerOf(candidates, m.ID); ok {
			winner = a
		}
	}
	if winner.Position == source.Position {
		source = winner
	}
	return Choice{Winner: winner, Source: source, Position: source.Position, LeaseWait: leaseWait(s, set)}, nil
}

// rank puts candidates by what damage would mean with them as the primary: 0, nothing that anybody misses; 1,
// somebody who needs what is damaged gets it from nobody until it is repaired; 2, they would have to fetch the end of
// the log across a damaged place of the one who has it, and cannot.
func rank(s *State, set []Answer, source, a Answer) int {
	switch {
	case a.Position != source.Position && a.Position.LSN < source.Damaged:
		return 2
	case owes(s, set, a):
		return 1
	}
	return 0
}

// owes reports whether somebody needs what is damaged of a member's log: a slot is there, and a member may have got
// further than what its slot has published.
func owes(s *State, set []Answer, a Answer) bool {
	return a.Damaged != 0 && slices.ContainsFunc(s.Slots, func(slot Slot) bool {
		at := slot.Restart
		if m, answered := answerOf(set, slot.Member); answered && m.Position.Epoch == a.Position.Epoch {
			at = max(at, m.Position.LSN)
		}
		return slot.Restart != 0 && at < a.Damaged && slot.Member != a.ID
	})
}

// barred is why a member is never promoted, "" if it may be: by what Raft holds of it, and by the
// priority it was asked to answer with.
func barred(s *State, a Answer) string {
	m, _ := s.Member(a.ID)
	m.Priority = a.Priority
	return m.Barred()
}

// compareAnswers puts the better candidate first. No two members compare equal.
func compareAnswers(s *State, a, b Answer) int {
	m, _ := s.Member(a.ID)
	o, _ := s.Member(b.ID)
	return cmp.Or(
		b.Position.Compare(a.Position),
		cmp.Compare(b.Priority, a.Priority),
		staysFirst(m, o),
		cmp.Compare(a.Damaged, b.Damaged),
		cmp.Compare(m.Name, o.Name),
		cmp.Compare(a.ID.Node, b.ID.Node),
		cmp.Compare(a.ID.Incarnation, b.ID.Incarnation),
	)
}

func staysFirst(m, o Member) int {
	switch {
	case m.Leaving == o.Leaving:
		return 0
	case o.Leaving:
		return -1
	}
	return 1
}

// leaseWait is how long read leases that the old primary may still hold can last. It reads no more
// if it is sealed itself: it, the primary of the last steady epoch, and no other one, since only that
// epoch ever granted leases (invariant I11).
func leaseWait(s *State, set []Answer) time.Duration {
	var wait time.Duration
	for _, a := range set {
		if a.ID == s.SteadyPrimary {
			return 0
		}
		wait = max(wait, a.LeaseLeft)
	}
	return wait
}

// CheckPromotion reports why the state machine must not take a promotion, or nil. It works everything
// out again from the answers in the command; that the command is for this epoch and target is the
// caller's to compare. AcceptLoss spares the proof that nothing is lost, and nothing else: whoever
// takes office is a member that answered, with the longest log of those that did.
//
// The error is a *Refusal if that proof is what is missing.
func CheckPromotion(s *State, p *Promote) error {
	set, _ := sealedSet(s, p.Answers)
	if !p.AcceptLoss {
		if _, err := provenSet(s, p.Answers); err != nil {
			return err
		}
		if s.Debt() != nil && p.Winner != s.SteadyPrimary {
			return &Refusal{Lines: []string{debtLine(s)}}
		}
	}
	winner, ok := answerOf(set, p.Winner)
	if !ok {
		return fmt.Errorf("promotion of %s: no answer of it counts", p.Winner)
	}
	if winner.Lacking && !p.AcceptLoss {
		return &Refusal{Lines: []string{damagedLine([]Answer{winner})}}
	}
	longest := slices.MaxFunc(set, func(a, b Answer) int { return a.Position.Compare(b.Position) }).Position
	switch why := barred(s, winner); {
	case why != "":
		return fmt.Errorf("promotion of %s: %s", winner.Name, why)
	case winner.Position != longest:
		return fmt.Errorf("promotion of %s: it is at %s, the longest log at %s", winner.Name, winner.Position, longest)
	case p.Position != longest:
		return fmt.Errorf("promotion at %s: the longest log is at %s", p.Position, longest)
	case p.LeaseWait < leaseWait(s, set):
		return fmt.Errorf("promotion with a lease wait of %v: want %v", p.LeaseWait, leaseWait(s, set))
	}
	return checkRule(s, p.Winner, p.Rule)
}

// checkRule reports why a rule cannot be recorded for a primary, or nil. A rule lists members as Raft
// does, each once, since each is one disk, and never the primary: it has what it acknowledges anyway.
func checkRule(s *State, primary syncrep.ID, r Rule) error {
	if r.Degraded != nil && (r.K != 0 || len(r.Listed) > 0) {
		return errors.New("degraded rule waits for somebody")
	}
	if r.K < 0 || r.Zones < 0 || r.K == 0 && r.Zones > 0 {
		return fmt.Errorf("rule waits for %d in %d zones", r.K, r.Zones)
	}
	for i, l := range r.Listed {
		m, member := s.Member(l.ID)
		receiver := l.ID == syncrep.ID{}
		switch {
		case l.ID == primary:
			return errors.New("rule lists the primary itself")
		case receiver && l.Name == "":
			return errors.New("rule lists a receiver without a name")
		case !receiver && !member:
			return fmt.Errorf("rule lists %s (%s), which is no member", l.Name, l.ID)
		case l.Witness != m.Witness:
			return fmt.Errorf("rule lists %s with witness %v, and it has %v", l.Name, l.Witness, m.Witness)
		}
		for _, o := range r.Listed[:i] {
			if o.ID == l.ID && (!receiver || sameName(o.Name, l.Name)) {
				return fmt.Errorf("rule lists %s twice", l.Name)
			}
		}
	}
	return nil
}
