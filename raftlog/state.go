package raftlog

import (
	"cmp"
	"slices"
	"time"

	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A Phase is where an epoch is in its life.
type Phase string

// The phases. A cluster is steady while its primary's first record is acknowledged under the rule,
// sealing while a failover collects promises, and opening from the naming of a primary until its
// first record is acknowledged.
const (
	Steady  Phase = "steady"
	Sealing Phase = "sealing"
	Opening Phase = "opening"
)

// A State is what the cluster has agreed on. It is immutable: a command makes a new one.
type State struct {
	Index    uint64 `json:"index"` // of the Raft entry that made it
	SystemID uint64 `json:"system_identifier,string"`

	Members []Member `json:"members"` // in the order in which they joined

	Epoch   uint64 `json:"epoch"` // the last one for which a primary was named
	Phase   Phase  `json:"phase"`
	Primary Office `json:"primary"` // of Epoch

	// While sealing: the epoch that promises are collected for, why, and who has begun that and when.
	Target   uint64    `json:"target,omitempty"`
	Cause    string    `json:"cause,omitempty"`
	SealedBy string    `json:"sealed_by,omitempty"`
	SealedAt time.Time `json:"sealed_at,omitzero"`

	// The rules in force: those of the last steady epoch. Joint is the partner while the rule changes.
	SteadyEpoch   uint64       `json:"steady_epoch"`
	SteadyPrimary syncrep.ID   `json:"steady_primary"`
	Rule          Rule         `json:"rule"`
	Joint         *Rule        `json:"joint,omitempty"`
	JointCounted  []syncrep.ID `json:"joint_counted,omitempty"` // who counts once Joint stands alone

	Opening *Rule `json:"opening,omitempty"` // of Epoch, until that is steady

	History []Reign `json:"history"`
	Slots   []Slot  `json:"slots,omitempty"` // by name

	SlotDropped uint64 `json:"slot_dropped,omitempty"` // Index of the last SlotDrop that was final

	// Settings are what ALTER SYSTEM has written, by name, as it was written. Applied is what they were at
	// the last Reload: what the nodes go by. Generation counts the reloads that changed something; before
	// the first one, and in a store of a version that knew none, nothing is applied.
	Settings   map[string]string `json:"settings,omitempty"`
	Applied    map[string]string `json:"applied_settings,omitempty"`
	Generation uint64            `json:"settings_generation,omitempty"`
}

// A Member is a node of the cluster, with the disk it has now.
type Member struct {
	Name string     `json:"name"`
	ID   syncrep.ID `json:"id"`

	RaftID        string `json:"raft_id"`        // of its Raft store; a new store is a new Raft server
	Address       string `json:"address"`        // for clients, receivers and members
	RaftAddress   string `json:"raft_address"`   // host:port
	GossipAddress string `json:"gossip_address"` // host:port
	Zone          string `json:"zone,omitempty"`
	Priority      int    `json:"failover_priority"` // the higher the rather promoted; 0: never
	Witness       bool   `json:"witness,omitempty"` // it has the log alone and no table; as long as it has this disk

	Voter   bool `json:"voter"`   // its Raft log has caught up: it may vote
	Counted bool `json:"counted"` // it had all there was once: majorities count it, whether it is there or not
	Leaving bool `json:"leaving"` // it is removed once no rule lists it
}

// Barred is why a member is never to be the primary, "" if it may be.
func (m Member) Barred() string {
	switch {
	case m.Witness:
		return "it is a witness, which keeps no table"
	case m.Priority <= 0:
		return "its failover_priority is 0"
	}
	return ""
}

// A Rule is synchronous_standby_names as it was agreed on.
type Rule struct {
	Version uint64 `json:"version"`
	Text    string `json:"text"` // what it was made from
	syncrep.Resolved

	// Degraded: it waits for nobody, in place of what its text means.
	Degraded *Degraded `json:"degraded,omitempty"`
}

// A Degraded is why a rule that cannot be met is not asked for, and since when. What the primary
// acknowledges meanwhile is its debt: nobody else need have it, and nobody else is promoted.
type Degraded struct {
	Since time.Time `json:"since"`
	From  wal.LSN   `json:"from"` // what was acknowledged up to there is held under a rule
	Why   string    `json:"why"`
}

// A Position is how far a log reaches. Epochs come first: a longer log of an older epoch has a tail
// that nobody had to have (invariant I5).
type Position struct {
	Epoch uint64  `json:"epoch"` // of the last record
	LSN   wal.LSN `json:"lsn"`   // its end
}

// Compare orders positions.
func (p Position) Compare(o Position) int {
	return cmp.Or(cmp.Compare(p.Epoch, o.Epoch), cmp.Compare(p.LSN, o.LSN))
}

// An Office is the naming of a primary: one process, at one position. A process that was started
// since, or does not have that position, does not take it.
type Office struct {
	ID        syncrep.ID    `json:"id"`
	Name      string        `json:"name"`
	RunID     uint64        `json:"run_id,string"`
	Position  Position      `json:"position"`
	LeaseWait time.Duration `json:"lease_wait"` // from taking office until old read leases have run out

	LossAccepted bool `json:"loss_accepted,omitempty"` // somebody gave up what this process does not have
}

// A Reign is one line of the cluster's history.
type Reign struct {
	Epoch     uint64         `json:"epoch"`
	Parent    uint64         `json:"parent"` // the epoch whose log it continues; 0 for the first
	Timeline  wal.TimelineID `json:"timeline"`
	Start     wal.LSN        `json:"start"`
	Steady    bool           `json:"steady"` // it became so
	Primary   string         `json:"primary"`
	Cause     string         `json:"cause"`
	DecidedBy string         `json:"decided_by"`
	Time      time.Time      `json:"time"`
	LostBytes uint64         `json:"lost_bytes,omitempty"` // at most, when loss was accepted
}

// A Slot is a permanent physical replication slot. Every node keeps the log from Restart on, which is
// never past what its consumer has confirmed, nor past the horizon: so whoever is the primary next has
// it, as part of its own log.
type Slot struct {
	Name    string     `json:"name"`
	Number  uint64     `json:"number"`          // index of the Raft entry that made it
	Restart wal.LSN    `json:"restart"`         // 0: reserves nothing yet
	Member  syncrep.ID `json:"member,omitzero"` // whose it is, and with whom it goes; zero: a client's

	// What entries written before there were these fields leave zero.
	InactiveSince time.Time    `json:"inactive_since,omitzero"` // zero: in use, as far as the primary has said
	InvalidatedAt wal.LSN      `json:"invalidated_at,omitzero"` // where it was when it was invalidated
	Reason        slots.Reason `json:"reason,omitempty"`        // why; empty: it was not, or is in use again
}

// Member returns the member with a disk.
func (s *State) Member(id syncrep.ID) (Member, bool) {
	i := slices.IndexFunc(s.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return s.Members[i], true
}

// Debt returns the mark of the rule in force if that is degraded: only the primary of the last steady
// epoch is sure to have what it acknowledged since. It is so until another rule stands alone, in this epoch
// or a later one that became steady.
func (s *State) Debt() *Degraded { return s.Rule.Degraded }

// Slot returns the slot called name.
func (s *State) Slot(name string) (Slot, bool) {
	i, found := s.slot(name)
	if !found {
		return Slot{}, false
	}
	return s.Slots[i], true
}

// ClientSlot returns the name of the slot that a member of that name would have, if a client has made it: what
// it keeps is somebody else's.
func (s *State) ClientSlot(member string) (name string, taken bool) {
	slot, ok := s.Slot(slots.MemberName(member))
	return slot.Name, ok && slot.Member.IsZero()
}

// Named returns the member that has a name and is not leaving.
func (s *State) Named(name string) (Member, bool) {
	i := slices.IndexFunc(s.Members, func(m Member) bool { return m.Name == name && !m.Leaving })
	if i < 0 {
		return Member{}, false
	}
	return s.Members[i], true
}
