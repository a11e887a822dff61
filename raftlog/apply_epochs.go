package raftlog

import (
	"errors"
	"slices"
	"time"

	"github.com/longship-db/longship/wal"
)

// A seal may come in any phase, and over another one: a coordinator that finds a failover half done
// takes it over. What the epoch was opening with stays, for nobody may take it for steady any more.
func (c *Seal) change(s *State) error {
	switch {
	case s.Epoch != c.Epoch:
		return conflict("epoch is %d, not %d", s.Epoch, c.Epoch)
	case c.Target <= s.Epoch:
		return invalid("seal of epoch %d for epoch %d", s.Epoch, c.Target)
	case c.Target < s.Target:
		return conflict("promises are collected for epoch %d, not %d", s.Target, c.Target)
	case c.Target > maxEpoch:
		return invalid("epoch %d is no timeline", c.Target)
	}
	if s.Phase != Sealing {
		s.SealedAt = c.Time
	}
	s.Phase, s.Target, s.Cause, s.SealedBy = Sealing, c.Target, c.Cause, c.By
	return nil
}

// maxEpoch is the greatest number an epoch and its timeline can have.
const maxEpoch = uint64(^wal.TimelineID(0))

// The state machine judges the answers itself: a coordinator may be wrong, or of another version.
func (c *Promote) change(s *State) error {
	if err := s.inEpoch(c.Epoch, Sealing); err != nil {
		return err
	}
	if s.Target != c.Target {
		return conflict("promises are collected for epoch %d, not %d", s.Target, c.Target)
	}
	if err := CheckPromotion(s, c); err != nil {
		if _, refused := errors.AsType[*Refusal](err); refused {
			return err
		}
		return conflict("%v", err)
	}
	set, _ := sealedSet(s, c.Answers)
	winner, _ := answerOf(set, c.Winner)
	name := s.member(c.Winner).Name
	rule := c.Rule
	rule.Version = s.Rule.Version + 1
	if s.Joint != nil {
		rule.Version = s.Joint.Version + 1
	}
	s.Epoch, s.Phase = c.Target, Opening
	s.Primary = Office{
		ID: c.Winner, Name: name, RunID: winner.RunID, Position: c.Position, LeaseWait: c.LeaseWait, LossAccepted: c.AcceptLoss,
	}
	s.Opening = &rule
	s.History = append(s.History, Reign{
		Epoch: c.Target, Parent: c.Position.Epoch, Timeline: wal.TimelineID(c.Target), Start: c.Position.LSN,
		Primary: name, Cause: c.Cause, DecidedBy: c.By, Time: c.Time, LostBytes: c.LostBytes,
	})
	s.cutSlots(c.Position.LSN)
	s.endSeal()
	return nil
}

// cutSlots puts slots that lie past the start of a new epoch there: with loss accepted, what their
// consumers have of the log beyond is not part of it any more.
func (s *State) cutSlots(start wal.LSN) {
	for i := range s.Slots {
		s.Slots[i].Restart = min(s.Slots[i].Restart, start)
	}
}

func (s *State) endSeal() {
	s.Target, s.Cause, s.SealedBy = 0, "", ""
	s.SealedAt = time.Time{}
}

func (c *OpeningRule) change(s *State) error {
	if err := s.inOpening(c.Epoch, c.Version); err != nil {
		return err
	}
	if err := checkRule(s, s.Primary.ID, c.Rule); err != nil {
		return conflict("%v", err)
	}
	rule := c.Rule
	rule.Version = c.Version + 1
	s.Opening = &rule
	return nil
}

func (s *State) inOpening(epoch, version uint64) error {
	if err := s.inEpoch(epoch, Opening); err != nil {
		return err
	}
	if s.Opening.Version != version {
		return conflict("the rule's version is %d, not %d", s.Opening.Version, version)
	}
	return nil
}

func (c *SetSteady) change(s *State) error {
	if err := s.inOpening(c.Epoch, c.Version); err != nil {
		return err
	}
	if s.Primary.RunID != c.RunID {
		return conflict("the primary is process %d, not %d", s.Primary.RunID, c.RunID)
	}
	s.Phase, s.SteadyEpoch, s.SteadyPrimary = Steady, s.Epoch, s.Primary.ID
	s.Rule, s.Opening, s.Joint, s.JointCounted = *s.Opening, nil, nil, nil
	i := slices.IndexFunc(s.History, func(r Reign) bool { return r.Epoch == s.Epoch })
	s.History[i].Steady = true
	return nil
}
