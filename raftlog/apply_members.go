package raftlog

import (
	"fmt"
	"slices"

	"github.com/longship-db/longship/syncrep"
)

func (c *Init) change(s *State) error {
	if s.Initialised() {
		return conflict("the cluster exists already, with system identifier %d", s.SystemID)
	}
	if c.Timeline == 0 {
		return invalid("timeline 0")
	}
	if err := checkMember(c.Member); err != nil {
		return err
	}
	if c.Member.Witness {
		return invalid("a witness, which keeps no table, cannot found a cluster")
	}
	m := c.Member
	m.Voter, m.Counted, m.Leaving = true, true, false
	resolved, err := Resolve(c.Text, m.ID, []Member{m}, func(Member) bool { return false })
	if err != nil {
		return invalid("%v", err)
	}
	epoch := uint64(c.Timeline)
	*s = State{
		SystemID:      c.SystemID,
		Members:       []Member{m},
		Epoch:         epoch,
		Phase:         Steady,
		Primary:       Office{ID: m.ID, Name: m.Name, RunID: c.RunID, Position: Position{Epoch: epoch, LSN: c.Start}},
		SteadyEpoch:   epoch,
		SteadyPrimary: m.ID,
		Rule:          Rule{Version: 1, Text: c.Text, Resolved: resolved},
		History: []Reign{{
			Epoch: epoch, Timeline: c.Timeline, Start: c.Start, Steady: true,
			Primary: m.Name, Cause: "new cluster", DecidedBy: m.Name, Time: c.Time,
		}},
	}
	return nil
}

// checkMember reports what a member lacks to be one.
func checkMember(m Member) error {
	switch {
	case m.Name == "":
		return invalid("member without a name")
	case m.ID == syncrep.ID{}:
		return invalid("member %s without an identity", m.Name)
	case m.RaftID == "":
		return invalid("member %s without a Raft store", m.Name)
	}
	return nil
}

func (c *Join) change(s *State) error {
	if err := checkMember(c.Member); err != nil {
		return err
	}
	m := c.Member
	for i := range s.Members {
		o := &s.Members[i]
		if o.ID == m.ID || o.Leaving {
			continue
		}
		if o.Name == m.Name {
			if o.ID != c.Replaces {
				return fmt.Errorf("%w: %s", ErrNameTaken, m.Name)
			}
			o.leave()
			continue
		}
		if o.RaftID == m.RaftID {
			return invalid("member %s has the Raft store of %s: its directory was copied", m.Name, o.Name)
		}
	}
	m.Leaving = false
	if m.Witness {
		m.Priority = 0
	}
	if o := s.member(m.ID); o != nil {
		if o.Leaving { // a removal is not taken back: the process may have seen it, and ends
			return conflict("%s is being removed", o.Name)
		}
		if o.Witness != m.Witness { // a disk has the table, or has it not
			return invalid("member %s has witness %v, and comes with %v: a disk stays what it is", m.Name, o.Witness, m.Witness)
		}
		m.Voter, m.Counted = o.Voter && o.RaftID == m.RaftID, o.Counted
		*o = m
		return nil
	}
	if slot, taken := s.ClientSlot(m.Name); taken {
		return conflict("replication slot %s is not a member's, and member %s would use it", slot, m.Name)
	}
	m.Voter, m.Counted = false, false
	s.Members = append(s.Members, m)
	return nil
}

// leave makes the member one that goes. It votes no more at once: Raft's majority is not that of the log.
func (m *Member) leave() { m.Leaving, m.Voter = true, false }

func (c *Ready) change(s *State) error {
	m := s.member(c.ID)
	switch {
	case m == nil || m.Leaving:
		return conflict("%s is no member", c.ID)
	case m.RaftID != c.RaftID:
		return conflict("%s has Raft store %s, not %s", m.Name, m.RaftID, c.RaftID)
	}
	m.Voter = true
	return nil
}

func (c *Leave) change(s *State) error {
	m := s.member(c.ID)
	if m == nil {
		return nil // it has left: to propose this again is no error
	}
	stays := func(o Member) bool { return !o.Leaving && o.ID != c.ID }
	if !slices.ContainsFunc(s.Members, stays) {
		return conflict("%s is the last member", m.Name)
	}
	m.leave()
	return nil
}

func (c *RuleBegin) change(s *State) error {
	if err := s.inEpoch(c.Epoch, Steady); err != nil {
		return err
	}
	switch {
	case s.Joint != nil:
		return conflict("the rule is being changed already, to %q", s.Joint.Text)
	case s.Rule.Version != c.Version:
		return conflict("the rule's version is %d, not %d", s.Rule.Version, c.Version)
	}
	if err := checkRule(s, s.Primary.ID, c.Rule); err != nil {
		return conflict("%v", err)
	}
	for _, id := range c.Counted {
		if s.member(id) == nil {
			return conflict("%s is no member", id)
		}
	}
	rule := c.Rule
	rule.Version = c.Version + 1
	s.Joint, s.JointCounted = &rule, c.Counted
	return nil
}

func (c *RuleEnd) change(s *State) error {
	if err := s.inEpoch(c.Epoch, Steady); err != nil {
		return err
	}
	if err := s.inChange(c.Version); err != nil {
		return err
	}
	for i := range s.Members {
		s.Members[i].Counted = slices.Contains(s.JointCounted, s.Members[i].ID)
	}
	s.Rule, s.Joint, s.JointCounted = *s.Joint, nil, nil
	return nil
}

// inChange compares the version of the rule that is being introduced.
func (s *State) inChange(version uint64) error {
	if s.Joint == nil {
		return conflict("the rule is not being changed")
	}
	if s.Joint.Version != version {
		return conflict("the new rule's version is %d, not %d", s.Joint.Version, version)
	}
	return nil
}

// The rule that stays gets a number of its own, past the one that goes: no word given for that one can
// ever be taken for another's. In every phase: all that was acknowledged so far satisfies the rule
// that stays, and a failover may be waiting for disks that only the other one lists.
func (c *RuleCancel) change(s *State) error {
	if err := s.inEpoch(c.Epoch, Steady, Sealing, Opening); err != nil {
		return err
	}
	if err := s.inChange(c.Version); err != nil {
		return err
	}
	s.Rule.Version = s.Joint.Version + 1
	s.Joint, s.JointCounted = nil, nil
	return nil
}
