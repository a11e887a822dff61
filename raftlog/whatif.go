package raftlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// An Outcome is what the loss of some members would lead to.
type Outcome struct {
	Lose      []string `json:"lose"`
	Then      string   `json:"then"`
	Primary   string   `json:"primary"`    // afterwards; empty if there would be none
	Writes    bool     `json:"writes"`     // it acknowledges commits, if not at once then without anybody's doing
	LostBytes uint64   `json:"lost_bytes"` // of the primary's log, if that loss is accepted; 0 while nothing has to be lost
}

// A Fallback is what becomes of commits that the rule does not let go: synchronous_mode.
type Fallback struct {
	Degrade bool          `json:"degrade"` // they are acknowledged by the primary alone, until the rule can be met again
	After   time.Duration `json:"after"`   // that they have waited
	Limit   wal.LSN       `json:"limit"`   // bytes of log that may be acknowledged so; 0: any number
}

// WhatIf says what the loss of each member that is up would lead to, and, of a cluster large enough to
// bear that, the loss of the primary and another one at once.
func WhatIf(s *State, reports []Report, f Fallback) []Outcome {
	var alive []Member
	for _, m := range s.Members {
		if r, ok := reportOf(reports, m.ID); ok && r.Alive {
			alive = append(alive, m)
		}
	}
	var outcomes []Outcome
	for _, m := range alive {
		outcomes = append(outcomes, without(s, reports, f, m))
	}
	primary, ok := s.Member(s.Primary.ID)
	if len(alive) <= 3 || !ok || !slices.Contains(alive, primary) {
		return outcomes
	}
	for _, m := range alive {
		if m.ID != primary.ID {
			outcomes = append(outcomes, without(s, reports, f, primary, m))
		}
	}
	return outcomes
}

// without says what the loss of some members would lead to.
func without(s *State, reports []Report, f Fallback, lost ...Member) Outcome {
	var o Outcome
	gone := func(r Report) bool {
		return slices.ContainsFunc(lost, func(m Member) bool { return m.ID == r.ID })
	}
	for _, m := range lost {
		o.Lose = append(o.Lose, m.Name)
	}
	rest := slices.DeleteFunc(slices.Clone(reports), gone)
	primary, up := reportOf(rest, s.Primary.ID)
	if s.Phase == Sealing || !up || !primary.Alive {
		failover(s, reports, rest, f, &o)
		return o
	}
	how := ""
	o.Primary = s.Primary.Name
	how, o.Writes = writesOn(s, primary, rest, f)
	o.Then = fmt.Sprintf("%s stays primary, %s", o.Primary, how)
	if line := noVoters(s, rest); line != "" {
		o.Then += "; " + line
	}
	return o
}

// writesOn says whether the present primary goes on acknowledging commits with the rest.
func writesOn(s *State, primary Report, rest []Report, f Fallback) (how string, on bool) {
	streams := func(r Report) bool { return r.Streaming }
	switch debt := s.Debt(); {
	case !acknowledges(s, rest):
		if noVoters(s, rest) == "" && ruleMet(s, primary.ID, rest, streams) {
			return "writes go on once the rule has pinned others", true
		}
		return unmet(s, rest, f)
	case debt == nil:
		return "writes go on", true
	case f.Limit != 0 && primary.Position.LSN >= debt.From+f.Limit:
		return fmt.Sprintf("writes wait: the rule is not met, and the %s that may be written without it are used up", size(f.Limit)), false
	}
	return "writes go on without the rule" + upTo(f), true
}

// unmet says what becomes of commits if the rest do not meet the rule.
func unmet(s *State, rest []Report, f Fallback) (how string, on bool) {
	if !f.Degrade || noVoters(s, rest) != "" {
		return "writes wait: the rule is not met", false
	}
	return fmt.Sprintf("writes wait for %s, then go on without the rule%s", f.After, upTo(f)), true
}

func upTo(f Fallback) string {
	if f.Limit == 0 {
		return ""
	}
	return ", up to " + size(f.Limit)
}

// size is a limit as it was set: in MB.
func size(limit wal.LSN) string { return fmt.Sprintf("%d MB", limit>>20) }

// failover says who would take over of the rest.
func failover(s *State, reports, rest []Report, f Fallback, o *Outcome) {
	t, answers := sealedBy(s, rest)
	choice, err := Choose(t, answers, "")
	voters := noVoters(s, rest)
	if err == nil && voters == "" {
		o.Primary, o.Then, o.Writes = choice.Winner.Name, choice.Winner.Name+" takes over", true
		if choice.Source.ID != choice.Winner.ID {
			o.Then += ", once it has fetched the rest of the log from " + choice.Source.Name
		}
		if how := ""; !ruleMet(s, choice.Winner.ID, rest, func(Report) bool { return true }) {
			how, o.Writes = unmet(s, rest, f)
			o.Then += ", " + how
		}
		return
	}
	why := []string{voters}
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		why = refusal.Lines
		set, _ := sealedSet(t, answers)
		if line := noCandidate(t, set); len(set) > 0 && len(electable(t, set)) == 0 && !slices.Contains(why, line) {
			why = append(why, line) // nor if a loss is accepted
		}
		if voters != "" {
			why = append(why, voters)
		}
		o.LostBytes = lostBytes(t, answers, reports)
	}
	o.Then = "nobody takes over: " + strings.Join(why, "; ")
}

// lostBytes is how much of the longest log that is known the answers lack.
func lostBytes(s *State, answers []Answer, reports []Report) uint64 {
	var reach Position
	for _, r := range reports {
		if _, ok := s.Member(r.ID); ok && r.Position.Compare(reach) > 0 {
			reach = r.Position
		}
	}
	choice, err := ChooseAcceptingLoss(s, answers, "")
	if err != nil || reach.Compare(choice.Position) <= 0 || reach.LSN <= choice.Position.LSN {
		return 0
	}
	return uint64(reach.LSN - choice.Position.LSN)
}

// acknowledges reports whether enough of the listed stream for the present primary to acknowledge.
func acknowledges(s *State, reports []Report) bool {
	for _, rule := range Rules(s) {
		if !rule.Satisfied(func(l syncrep.Listed) bool { return streamsAs(reports, l) }) {
			return false
		}
	}
	return true
}

// streamsAs reports whether one that a rule lists streams.
func streamsAs(reports []Report, l syncrep.Listed) bool {
	return slices.ContainsFunc(reports, func(r Report) bool {
		return r.Alive && r.Streaming && r.ID == l.ID && (!l.ID.IsZero() || sameName(l.Name, r.Name))
	})
}

// ruleMet reports whether the rule that the text means for a primary with the rest can be met by those of
// them that stream, or would soon.
func ruleMet(s *State, primary syncrep.ID, rest []Report, streams func(Report) bool) bool {
	soon := slices.Clone(rest)
	for i, r := range soon {
		soon[i].Streaming = streams(r)
	}
	rule, err := RuleFor(s, primary, func(m Member) bool { return streamsAs(soon, syncrep.Listed{ID: m.ID, Name: m.Name}) })
	return err == nil && rule.Satisfied(func(l syncrep.Listed) bool { return streamsAs(soon, l) })
}
