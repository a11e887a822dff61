package raftlog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/longship-db/longship/syncrep"
)

// A Refusal is why nobody can be promoted: a line for each rule that is not met and for the majority,
// naming who is missing and what would help, then what is wrong with answers that do not count.
type Refusal struct {
	Lines []string
}

func (r *Refusal) Error() string {
	return "nobody can be promoted: " + strings.Join(r.Lines, "; ")
}

// acceptLoss is the way out when nothing can be proved.
const acceptLoss = "longship failover --accept-data-loss"

// sealedSet returns the answers that count, the last one of each member, and says of each other one
// why it does not. Only disks that Raft lists count, and only if they will acknowledge nothing more
// (invariants I3 and I9). If no failover has begun nothing counts: no promise was asked for.
func sealedSet(s *State, answers []Answer) (set []Answer, unfit []string) {
	for _, a := range answers {
		if why := unfitness(s, a); why != "" {
			unfit = append(unfit, a.Name+" "+why)
			continue
		}
		if i := slices.IndexFunc(set, func(o Answer) bool { return o.ID == a.ID }); i >= 0 {
			set[i] = a
		} else {
			set = append(set, a)
		}
	}
	return set, unfit
}

// unfitness is why an answer does not count, "" if it does.
func unfitness(s *State, a Answer) string {
	if _, ok := s.Member(a.ID); !ok {
		return fmt.Sprintf("answered as %s, which is no member: an empty or replaced disk has to join first", a.ID)
	}
	switch {
	case s.Phase != Sealing:
		return "was not asked: no failover has begun"
	case a.Promised < s.Target:
		return fmt.Sprintf("has promised epoch %d only, not %d: ask it again", a.Promised, s.Target)
	case a.Position.Epoch > s.Epoch:
		return fmt.Sprintf("has a log of epoch %d, for which nobody was named: its disk is not from this cluster", a.Position.Epoch)
	}
	return ""
}

// answerOf returns the answer of a member.
func answerOf(set []Answer, id syncrep.ID) (Answer, bool) {
	i := slices.IndexFunc(set, func(a Answer) bool { return a.ID == id })
	if i < 0 {
		return Answer{}, false
	}
	return set[i], true
}

// missing returns what a sealed set lacks to be allowed to promote, nothing if it lacks nothing:
// every rule in force covered, and a majority of the counted members (invariant I4).
func missing(s *State, set []Answer) []string {
	var lines []string
	for _, rule := range inForce(s) {
		if !covered(s, rule, set) {
			lines = append(lines, ruleLine(s, rule, set))
		}
	}
	var absent []string
	answered := 0
	for _, m := range s.Members {
		if !m.Counted {
			continue
		}
		if _, ok := answerOf(set, m.ID); ok {
			answered++
		} else {
			absent = append(absent, m.Name)
		}
	}
	if need := Majority(s); answered < need {
		lines = append(lines, fmt.Sprintf("majority: %d of %d members answered, %d are needed: %s",
			answered, answered+len(absent), need, start(need-answered, absent)))
	}
	return lines
}

// Majority is how many of the members that count have to answer before anybody is promoted.
func Majority(s *State) int {
	counted := 0
	for _, m := range s.Members {
		if m.Counted {
			counted++
		}
	}
	return counted/2 + 1
}

// covered reports whether a sealed set is bound to hold all that was acknowledged under a rule: the
// primary that acknowledged it is in the set, or the listed that are not in the set do not satisfy the
// rule, so whoever acknowledged has one in it. Without zones that is N-K+1 of N. A receiver may have
// acknowledged and cannot be sealed: it is one of the N, and never in the set.
func covered(s *State, rule Rule, set []Answer) bool {
	if _, ok := answerOf(set, s.SteadyPrimary); ok {
		return true
	}
	return !rule.Satisfied(func(l syncrep.Listed) bool { return !sealed(set, l) })
}

// sealed reports whether one that a rule lists is in a sealed set.
func sealed(set []Answer, l syncrep.Listed) bool {
	_, ok := answerOf(set, l.ID)
	return ok && !l.ID.IsZero()
}

// ruleLine says what a rule that is not covered wants.
func ruleLine(s *State, rule Rule, set []Answer) string {
	primary := steadyPrimaryName(s)
	var absent []string
	answered := 0
	for _, l := range rule.Listed {
		switch {
		case sealed(set, l):
			answered++
		case !l.ID.IsZero():
			absent = append(absent, l.Name)
		}
	}
	switch {
	case rule.Degraded != nil:
		return debtOf(primary, rule.Degraded) + fmt.Sprintf(": start %s, or lose what only it has: %s", primary, acceptLoss)
	case rule.K == 0:
		return fmt.Sprintf("the rule is empty, so only %s is sure to have every commit: start %s, or lose what only it has: %s",
			primary, primary, acceptLoss)
	case rule.Satisfied(func(l syncrep.Listed) bool { return l.ID.IsZero() }):
		return fmt.Sprintf("rule %q: receivers, which cannot be asked, may alone have a commit; only %s is sure to have it: start %s, or lose what only they have: %s",
			rule.Text, primary, primary, acceptLoss)
	}
	need := len(rule.Listed) - rule.K + 1
	return fmt.Sprintf("rule %q: %s, or %s, must answer; %d did: start %s, or %s",
		rule.Text, primary, enough(rule.Resolved), answered, primary, strings.TrimPrefix(start(need-answered, absent), "start "))
}

// enough says who of those that a rule lists have between them all that was acknowledged. What is acknowledged
// is in Zones zones: so those who are outside of any one fewer have it, be they as few as they like.
func enough(r syncrep.Resolved) string {
	text := fmt.Sprintf("%d of the %d it lists", len(r.Listed)-r.K+1, len(r.Listed))
	if r.Zones > 1 {
		text += fmt.Sprintf(", or all outside of any %d of their zones", r.Zones-1)
	}
	return text
}

// debtLine says why nobody but one may be promoted.
func debtLine(s *State) string { return debtOf(steadyPrimaryName(s), s.Debt()) }

func debtOf(primary string, d *Degraded) string {
	return fmt.Sprintf("since %s the rule is degraded (%s), so only %s is sure to have every commit past %s",
		d.Since.UTC().Format("2006-01-02 15:04:05 MST"), d.Why, primary, d.From)
}

// start says to start n of the names, all of which are down.
func start(n int, names []string) string {
	if n >= len(names) {
		return "start " + strings.Join(names, " and ")
	}
	return "start " + strconv.Itoa(n) + " of " + strings.Join(names, ", ")
}

// damagedLine says why nobody is promoted who lacks a part of its own log.
func damagedLine(damaged []Answer) string {
	var whose []string
	for _, a := range damaged {
		whose = append(whose, fmt.Sprintf("%s before %s", a.Name, a.Damaged))
	}
	return fmt.Sprintf("the logs of those who could be promoted are damaged where their own recovery reads (%s): start a node that has what they lack, and they repair them, or do without it: %s",
		strings.Join(whose, ", "), acceptLoss)
}

// noCandidate says why none of a sealed set may be promoted.
func noCandidate(s *State, set []Answer) string {
	damaged := slices.DeleteFunc(electable(s, set), func(a Answer) bool {
		return !a.Lacking || s.Debt() != nil && a.ID != s.SteadyPrimary
	})
	if len(damaged) > 0 {
		return damagedLine(damaged)
	}
	if _, ok := answerOf(set, s.SteadyPrimary); ok && s.Debt() != nil {
		return debtLine(s) + ", and its failover_priority is 0: raise it"
	}
	var absent []string
	for _, m := range s.Members {
		if _, ok := answerOf(set, m.ID); !ok && m.Barred() == "" {
			absent = append(absent, m.Name)
		}
	}
	line, whose := "nobody answered", "one of them"
	if len(set) > 0 {
		line = "all that answered have failover_priority 0"
	}
	for _, a := range set {
		if m, _ := s.Member(a.ID); m.Witness {
			line, whose = "all that answered are witnesses, or have failover_priority 0", "one that keeps the table"
		}
	}
	if len(absent) == 0 {
		return line + ": raise it for " + whose
	}
	return line + ": " + start(1, absent)
}

// steadyPrimaryName is the name of the primary whose acknowledgements count.
func steadyPrimaryName(s *State) string {
	if m, ok := s.Member(s.SteadyPrimary); ok {
		return m.Name
	}
	for _, r := range s.History {
		if r.Epoch == s.SteadyEpoch {
			return r.Primary
		}
	}
	return s.SteadyPrimary.String()
}
