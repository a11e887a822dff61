package raftlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/longship-db/longship/syncrep"
)

// A Report is what is known of a member, or, with a zero ID, of a receiver that a rule lists. It is
// advice: reports are not of one moment, and nobody has promised anything.
type Report struct {
	ID        syncrep.ID
	Name      string
	Alive     bool     // it answers
	Streaming bool     // it follows the present primary, and so may acknowledge
	Position  Position // of its last flushed record
}

// An Outcome is what the loss of some members would lead to.
type Outcome struct {
	Lose      []string `json:"lose"`
	Then      string   `json:"then"`
	Primary   string   `json:"primary"`    // afterwards; empty if there would be none
	LostBytes uint64   `json:"lost_bytes"` // of the primary's log, if that loss is accepted; 0 while nothing has to be lost
}

// A Line says of one node why it is a candidate or is not; without a node, what is missing for there
// to be one.
type Line struct {
	Node      string
	Candidate bool
	Why       string
}

// String prints the line.
func (l Line) String() string {
	switch {
	case l.Node == "":
		return "missing: " + l.Why
	case l.Candidate:
		return l.Node + ": candidate, " + l.Why
	}
	return l.Node + ": no candidate, " + l.Why
}

// WhatIf says what the loss of each member that is up would lead to, and, of a cluster large enough to
// bear that, the loss of the primary and another one at once.
func WhatIf(s *State, reports []Report) []Outcome {
	var alive []Member
	for _, m := range s.Members {
		if r, ok := reportOf(reports, m.ID); ok && r.Alive {
			alive = append(alive, m)
		}
	}
	var outcomes []Outcome
	for _, m := range alive {
		outcomes = append(outcomes, without(s, reports, m))
	}
	primary, ok := s.Member(s.Primary.ID)
	if len(alive) <= 3 || !ok || !slices.Contains(alive, primary) {
		return outcomes
	}
	for _, m := range alive {
		if m.ID != primary.ID {
			outcomes = append(outcomes, without(s, reports, primary, m))
		}
	}
	return outcomes
}

// without says what the loss of some members would lead to.
func without(s *State, reports []Report, lost ...Member) Outcome {
	var o Outcome
	gone := func(r Report) bool {
		return slices.ContainsFunc(lost, func(m Member) bool { return m.ID == r.ID })
	}
	for _, m := range lost {
		o.Lose = append(o.Lose, m.Name)
	}
	rest := slices.DeleteFunc(slices.Clone(reports), gone)
	primary, up := reportOf(rest, s.Primary.ID)
	switch {
	case s.Phase == Sealing || !up || !primary.Alive:
		failover(s, reports, rest, &o)
	case !acknowledges(s, rest):
		o.Primary, o.Then = s.Primary.Name, fmt.Sprintf("%s stays primary, writes wait: the rule is not met", s.Primary.Name)
	default:
		o.Primary, o.Then = s.Primary.Name, fmt.Sprintf("%s stays primary, writes go on", s.Primary.Name)
	}
	if line := noVoters(s, rest); line != "" && o.Primary == s.Primary.Name {
		o.Then += "; " + line
	}
	return o
}

// failover says who would take over of the rest.
func failover(s *State, reports, rest []Report, o *Outcome) {
	t, answers := sealedBy(s, rest)
	choice, err := Choose(t, answers, "")
	voters := noVoters(s, rest)
	if err == nil && voters == "" {
		o.Primary, o.Then = choice.Winner.Name, choice.Winner.Name+" takes over"
		if choice.Source.ID != choice.Winner.ID {
			o.Then += ", once it has fetched the rest of the log from " + choice.Source.Name
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
		if !rule.Satisfied(func(l syncrep.Listed) bool {
			return slices.ContainsFunc(reports, func(r Report) bool {
				return r.Alive && r.Streaming && r.ID == l.ID && (r.ID != syncrep.ID{} || sameName(l.Name, r.Name))
			})
		}) {
			return false
		}
	}
	return true
}

// noVoters says that Raft has no majority, so that nobody can be named; "" if it has one.
func noVoters(s *State, reports []Report) string {
	voters, up := 0, 0
	for _, m := range s.Members {
		if !m.Voter {
			continue
		}
		voters++
		if r, ok := reportOf(reports, m.ID); ok && r.Alive {
			up++
		}
	}
	if need := voters/2 + 1; up < need {
		return fmt.Sprintf("Raft has %d of its %d voters and needs %d to change anything", up, voters, need)
	}
	return ""
}

// sealedBy supposes that a failover has begun, and that everybody who is up has answered it.
func sealedBy(s *State, reports []Report) (*State, []Answer) {
	t := *s
	if t.Phase != Sealing {
		t.Phase, t.Target = Sealing, s.Epoch+1
	}
	var answers []Answer
	for _, r := range reports {
		if m, ok := s.Member(r.ID); ok && r.Alive {
			answers = append(answers, Answer{ID: r.ID, Name: m.Name, Promised: t.Target, Position: r.Position, Priority: m.Priority})
		}
	}
	return &t, answers
}

// Explain says of each member why it is a candidate or is not: while a failover runs, for that one;
// otherwise, for one that begins because the primary is lost now. What is missing for anybody to be
// promoted comes last.
func Explain(s *State, reports []Report) []Line {
	rest := reports
	if s.Phase != Sealing {
		rest = slices.DeleteFunc(slices.Clone(reports), func(r Report) bool { return r.ID == s.Primary.ID })
	}
	t, answers := sealedBy(s, rest)
	choice, err := Choose(t, answers, "")
	var lines []Line
	for _, m := range s.Members {
		line := Line{Node: m.Name}
		a, answered := answerOf(answers, m.ID)
		switch {
		case s.Phase != Sealing && m.ID == s.Primary.ID:
			line.Why = fmt.Sprintf("it is the primary of epoch %d", s.Epoch)
		case !answered:
			line.Why = "it does not answer"
		case unfitness(t, a) != "":
			line.Why = "it " + unfitness(t, a)
		case m.Barred() != "":
			line.Why = m.Barred()
		case s.Debt() != nil && m.ID != s.SteadyPrimary:
			line.Why = debtLine(s)
		case err != nil:
			line.Why = fmt.Sprintf("it has the log up to %s, and something is missing", a.Position)
		default:
			line.Candidate, line.Why = true, standing(t, a, choice)
		}
		lines = append(lines, line)
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		for _, why := range refusal.Lines {
			lines = append(lines, Line{Why: why})
		}
	}
	if line := noVoters(s, rest); line != "" {
		lines = append(lines, Line{Why: line})
	}
	return lines
}

// standing says how a candidate compares with the one that would be chosen.
func standing(s *State, a Answer, choice Choice) string {
	w := choice.Winner
	winner, _ := s.Member(w.ID)
	m, _ := s.Member(a.ID)
	switch {
	case a.ID == w.ID && choice.Source.ID == w.ID:
		return "would be promoted: the longest log, up to " + a.Position.String()
	case a.ID == w.ID:
		return fmt.Sprintf("would be promoted, once it has fetched the log up to %s from %s", choice.Position, choice.Source.Name)
	case a.Position.Epoch != w.Position.Epoch:
		return fmt.Sprintf("behind %s: its log ends in epoch %d", w.Name, a.Position.Epoch)
	case a.Position != w.Position:
		return fmt.Sprintf("%d bytes behind %s", w.Position.LSN-a.Position.LSN, w.Name)
	case m.Priority != winner.Priority:
		return fmt.Sprintf("as good as %s, which has a higher failover_priority", w.Name)
	case m.Leaving && !winner.Leaving:
		return fmt.Sprintf("as good as %s, but about to leave", w.Name)
	}
	return fmt.Sprintf("as good as %s", w.Name)
}

func reportOf(reports []Report, id syncrep.ID) (Report, bool) {
	i := slices.IndexFunc(reports, func(r Report) bool { return r.ID == id })
	if i < 0 {
		return Report{}, false
	}
	return reports[i], true
}
