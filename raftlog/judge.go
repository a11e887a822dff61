package raftlog

import (
	"fmt"
	"slices"

	"github.com/longship-db/longship/syncrep"
)

// A SenselessError says why a value of synchronous_standby_names is refused although it can be read
// (SQLSTATE 22023).
type SenselessError struct{ Why, Hint string }

func (e *SenselessError) Error() string { return e.Why }

// Judge says what is wrong with a value of synchronous_standby_names, for the cluster as it is: an error
// if no cluster could make it right, and warnings about what this one makes of it. Connected is the names
// of the receivers that stream. The error is one of those of syncrep.ParseRule, or a *SenselessError.
func Judge(s *State, text string, connected []string) (warnings []string, err error) {
	rule, err := syncrep.ParseRule(text)
	if err != nil || rule.Empty() {
		return nil, err
	}
	if err := sensible(rule); err != nil {
		return nil, err
	}
	var counted []Member
	for _, m := range s.Members {
		if !m.Leaving {
			counted = append(counted, m)
		}
	}
	r, err := Resolve(text, s.Primary.ID, counted, func(m Member) bool { return !m.ID.IsZero() })
	if err != nil {
		return nil, err
	}
	for _, l := range r.Listed {
		if l.ID.IsZero() && !slices.ContainsFunc(connected, func(name string) bool { return sameName(name, l.Name) }) {
			warnings = append(warnings, fmt.Sprintf("%q matches no member, and no receiver of that name is connected", l.Name))
		}
	}
	everybody := r.Satisfied(func(syncrep.Listed) bool { return true })
	switch {
	case !everybody && len(r.Listed) < r.K:
		warnings = append(warnings, fmt.Sprintf("%d must acknowledge and %d match%s: the rule before stays in force until more join",
			r.K, len(r.Listed), besides(s, rule)))
	case !everybody:
		warnings = append(warnings, fmt.Sprintf("those that match are in fewer than %d zones: the rule before stays in force until there are more", r.Zones))
	default:
		warnings = append(warnings, failoverWarning(s, counted, r)...)
	}
	return warnings, nil
}

// besides says of a primary that the rule names that it is none of those who match.
func besides(s *State, rule syncrep.Rule) string {
	if rule.Matches(s.Primary.Name, true) == 0 {
		return ""
	}
	return fmt.Sprintf(" besides %s, which is the primary", s.Primary.Name)
}

// sensible refuses what means nothing in any cluster.
func sensible(rule syncrep.Rule) error {
	wild := slices.Contains(rule.Names, wildcard)
	if rule.Method != syncrep.Majority && !wild && rule.Num > len(rule.Names) {
		return &SenselessError{
			Why:  fmt.Sprintf("%d standbys are to acknowledge, and %d are listed", rule.Num, len(rule.Names)),
			Hint: "It could never be met. List more, or ask for fewer.",
		}
	}
	for i, name := range rule.Names {
		for _, other := range rule.Names[:i] {
			if sameName(name, other) {
				return &SenselessError{Why: fmt.Sprintf("%q is listed twice", name), Hint: "Each standby counts once."}
			}
		}
	}
	return nil
}

// failoverWarning says if the loss of the primary, or of it and one more, could not be failed over because
// of the rule, with a majority of the members there: by the decision itself.
func failoverWarning(s *State, counted []Member, r syncrep.Resolved) []string {
	rule := Rule{Resolved: r}
	var others []Answer
	for _, m := range counted {
		if m.ID != s.Primary.ID {
			others = append(others, Answer{ID: m.ID, Name: m.Name})
		}
	}
	without := *s
	without.SteadyPrimary = s.Primary.ID
	if len(others) > 0 && !covered(&without, rule, others) {
		return []string{"receivers alone may have a commit, and they cannot be asked: nobody could take over if the primary is lost"}
	}
	if len(others)-1 < len(counted)/2+1 {
		return nil // there is no majority then, whatever the rule
	}
	for i, lost := range others {
		if !covered(&without, rule, slices.Delete(slices.Clone(others), i, i+1)) {
			return []string{fmt.Sprintf("nobody could take over if the primary and %s are lost: the rule then needs the answers of %s; "+
				"with a shorter list, or more to acknowledge, it would need fewer", lost.Name, enough(r))}
		}
	}
	return nil
}
