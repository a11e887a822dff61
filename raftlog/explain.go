package raftlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A Report is what is known of a member, or, with a zero ID, of a receiver that a rule lists. It is
// advice: reports are not of one moment, and nobody has promised anything.
type Report struct {
	ID        syncrep.ID
	Name      string
	Alive     bool     // it answers
	Streaming bool     // it follows the present primary, and so may acknowledge
	Position  Position // of its last flushed record
	Damaged   wal.LSN  // as in its Answer
	Lacking   bool     // likewise
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
			answers = append(answers, Answer{ID: r.ID, Name: m.Name, Promised: t.Target, Position: r.Position, Priority: m.Priority, Damaged: r.Damaged, Lacking: r.Lacking})
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
		case a.Lacking:
			line.Why = LackingWhy(a.Damaged)
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

// LackingWhy is why a member is no candidate whose log is damaged before to, where it needs it itself.
func LackingWhy(to wal.LSN) string {
	return fmt.Sprintf("its log is damaged before %s, where its own recovery reads, and has not been repaired yet", to)
}

// standing says how a candidate compares with the one that would be chosen.
func standing(s *State, a Answer, choice Choice) string {
	w := choice.Winner
	winner, _ := s.Member(w.ID)
	m, _ := s.Member(a.ID)
	damage := ""
	if a.Damaged != 0 {
		damage = fmt.Sprintf("; its log is damaged before %s", a.Damaged)
	}
	switch {
	case a.ID == w.ID && choice.Source.ID == w.ID:
		return "would be promoted: the longest log, up to " + a.Position.String() + damage
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
	case a.Damaged > w.Damaged:
		return fmt.Sprintf("as good as %s, but its log is damaged before %s", w.Name, a.Damaged)
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
