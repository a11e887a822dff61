package raftlog

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// Initialised reports whether the cluster has been made: the zero State is nobody's.
func (s *State) Initialised() bool { return s.Epoch > 0 }

// Hash is a fingerprint: equal states have equal ones.
func (s *State) Hash() [sha256.Size]byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("raftlog: state cannot be encoded: %v", err)) // nothing in it can fail
	}
	return sha256.Sum256(b)
}

// Apply returns the state that a command makes, or why it is refused. It is a function of the two, the
// same on every member and at every time. It leaves s as it is: others are reading it.
func (s *State) Apply(index uint64, c Command) (*State, error) {
	switch c.(type) {
	case *barrier:
		return s, nil
	case *Init:
	default:
		if !s.Initialised() {
			return nil, conflict("there is no cluster yet")
		}
	}
	next := s.clone()
	next.Index = index // slots are numbered by it
	if err := c.change(next); err != nil {
		return nil, err
	}
	next.dismiss()
	next.Index = index
	return next, nil
}

// clone copies what commands change in place. Rules and answers are replaced as a whole and shared.
func (s *State) clone() *State {
	next := *s
	next.Members = slices.Clone(s.Members)
	next.History = slices.Clone(s.History)
	next.Slots = slices.Clone(s.Slots)
	next.Settings = maps.Clone(s.Settings) // Applied is replaced as a whole
	return &next
}

// dismiss removes those who leave and are needed no more: no rule lists them, so nothing that they
// alone have was acknowledged, and they are not a primary whose word would spare a failover. Their
// slots go with them.
func (s *State) dismiss() {
	s.Members = slices.DeleteFunc(s.Members, func(m Member) bool {
		return m.Leaving && m.ID != s.Primary.ID && m.ID != s.SteadyPrimary && !s.listed(m.ID)
	})
	s.Slots = slices.DeleteFunc(s.Slots, func(slot Slot) bool {
		return !slot.Member.IsZero() && s.member(slot.Member) == nil
	})
}

// listed reports whether any rule, of this epoch or in force, counts a disk.
func (s *State) listed(id syncrep.ID) bool {
	return s.Rule.Lists(id) || s.Joint != nil && s.Joint.Lists(id) || s.Opening != nil && s.Opening.Lists(id)
}

// member returns the member with a disk, to be changed.
func (s *State) member(id syncrep.ID) *Member {
	i := slices.IndexFunc(s.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Members[i]
}

func conflict(format string, args ...any) error {
	return &ConflictError{What: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return &InvalidError{What: fmt.Sprintf(format, args...)}
}

// inEpoch compares the epoch and the phases a command is for with the state's.
func (s *State) inEpoch(epoch uint64, phases ...Phase) error {
	if s.Epoch != epoch {
		return conflict("epoch is %d, not %d", s.Epoch, epoch)
	}
	if !slices.Contains(phases, s.Phase) {
		return conflict("epoch %d is %s", s.Epoch, s.Phase)
	}
	return nil
}

// inReign compares the epoch of a primary that speaks of its slots.
func (s *State) inReign(epoch uint64) error { return s.inEpoch(epoch, Steady, Sealing, Opening) }

// A slot begins where every node still has the log. A standby removes WAL as it likes, but for what
// slots need; from where the primary's own slot stands, it keeps it. (A node holds nothing for its own
// slot, and the primary asks only for what it has.) A member that joins is given what the primary has:
// if that is gone elsewhere, it takes another base copy.
func (c *SlotCreate) change(s *State) error {
	if err := s.inReign(c.Epoch); err != nil {
		return err
	}
	if err := slots.CheckName(c.Slot.Name); err != nil {
		return invalid("%v", err)
	}
	slot := c.Slot
	slot.Number = s.Index
	i, found := s.slot(slot.Name)
	switch kept := s.keptEverywhere(); {
	case !slot.Member.IsZero() && s.member(slot.Member) == nil:
		return conflict("%s is no member", slot.Member)
	case c.AsOf != 0 && s.SlotDropped > c.AsOf:
		return conflict("a replication slot was dropped meanwhile")
	case !slot.Member.IsZero() && found:
		s.Slots[i] = slot
		return nil
	case found || slot.Member.IsZero() && s.memberUses(slot.Name):
		return fmt.Errorf("%w: %s", ErrSlotExists, slot.Name)
	case slot.Member.IsZero() && slot.Restart != 0 && slot.Restart < kept && !s.keptForClients(slot.Restart):
		return conflict("the log before %s need not be on every node any more", kept)
	}
	s.Slots = slices.Insert(s.Slots, i, slot)
	return nil
}

// memberUses reports whether a slot's name is that of a member's, which it makes when it connects.
func (s *State) memberUses(name string) bool {
	return slices.ContainsFunc(s.Members, func(m Member) bool { return slots.MemberName(m.Name) == name })
}

// keptEverywhere is where the log begins that every node has, as far as the state can tell.
func (s *State) keptEverywhere() wal.LSN {
	i := slices.IndexFunc(s.Slots, func(slot Slot) bool { return slot.Member == s.Primary.ID })
	if i < 0 {
		return 0
	}
	return s.Slots[i].Restart
}

// keptForClients reports whether every node keeps the log from a position on for a client's slot, which may
// be copied. (For a member's slot that member keeps nothing.)
func (s *State) keptForClients(from wal.LSN) bool {
	return slices.ContainsFunc(s.Slots, func(slot Slot) bool {
		return slot.Member.IsZero() && slot.Restart != 0 && slot.Restart <= from
	})
}

func (c *SlotDrop) change(s *State) error {
	if err := s.inReign(c.Epoch); err != nil {
		return err
	}
	i, found := s.slot(c.Name)
	if !found || c.Number != 0 && c.Number != s.Slots[i].Number {
		return fmt.Errorf("%w: %s", ErrNoSlot, c.Name)
	}
	s.Slots = slices.Delete(s.Slots, i, i+1)
	if c.Final {
		s.SlotDropped = s.Index
	}
	return nil
}

func (c *SlotAdvance) change(s *State) error {
	if err := s.inReign(c.Epoch); err != nil {
		return err
	}
	for _, a := range c.Slots {
		if i, found := s.slot(a.Name); found && s.Slots[i].Number == a.Number {
			a.Member = s.Slots[i].Member
			s.Slots[i] = a
		}
	}
	return nil
}

// slot returns the place of a slot in s.Slots, or where it would be.
func (s *State) slot(name string) (i int, found bool) {
	return slices.BinarySearchFunc(s.Slots, name, func(slot Slot, name string) int { return strings.Compare(slot.Name, name) })
}
