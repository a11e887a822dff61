package raftlog

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A Command changes the state, or is refused. Each is a compare-and-set on what it names.
type Command interface {
	// change carries the command out on a state of its own, which is thrown away if it is refused.
	change(s *State) error
}

// Init makes the state of a new cluster: one member, which is the primary of its first epoch, steady.
// The epoch has the number of the timeline.
type Init struct {
	SystemID uint64         `json:"system_identifier,string"`
	Member   Member         `json:"member"`
	RunID    uint64         `json:"run_id,string"` // of the process that is the primary
	Text     string         `json:"text"`          // synchronous_standby_names
	Timeline wal.TimelineID `json:"timeline"`
	Start    wal.LSN        `json:"start"` // where the timeline begins
	Time     time.Time      `json:"time"`
}

// Join makes a node a member, or says where the member with this disk is now. A new member neither
// votes nor counts, and so does one with a new Raft store not vote.
type Join struct {
	Member   Member     `json:"member"`
	Replaces syncrep.ID `json:"replaces,omitzero"` // the member that has the name and leaves: this one, and no other that has it by then
}

// Ready says that a member's Raft store holds what Raft has agreed on: it may vote.
type Ready struct {
	ID     syncrep.ID `json:"id"`
	RaftID string     `json:"raft_id"` // of that store
}

// Leave makes a member go, once no rule lists it and it is not the primary.
type Leave struct {
	ID syncrep.ID `json:"id"`
}

// RuleBegin begins to change the rule: from now on both bind, the old one and this one (invariant I2).
// The state machine numbers it.
type RuleBegin struct {
	Epoch   uint64       `json:"epoch"`
	Version uint64       `json:"version"` // of State.Rule
	Rule    Rule         `json:"rule"`
	Counted []syncrep.ID `json:"counted"` // who counts once it stands alone
}

// RuleEnd lets the new rule stand alone. Its author has the primary's word for it (invariant I2).
type RuleEnd struct {
	Epoch   uint64 `json:"epoch"`
	Version uint64 `json:"version"` // of State.Joint
}

// RuleCancel calls a change of the rule off.
type RuleCancel struct {
	Epoch   uint64 `json:"epoch"`
	Version uint64 `json:"version"` // of State.Joint
}

// Seal begins a failover, or begins it anew for a higher target: promises are collected for Target.
type Seal struct {
	Epoch  uint64    `json:"epoch"`
	Target uint64    `json:"target"`
	Cause  string    `json:"cause"`
	By     string    `json:"by"`
	Time   time.Time `json:"time"`
}

// OpeningRule replaces the rule of an epoch that is not steady yet: nothing was released under it.
type OpeningRule struct {
	Epoch   uint64 `json:"epoch"`
	Version uint64 `json:"version"` // of State.Opening
	Rule    Rule   `json:"rule"`
}

// SetSteady says that the first record of the epoch is acknowledged under its rule and that old read
// leases have run out. It retires the rules of the epoch before (invariant I5).
type SetSteady struct {
	Epoch   uint64 `json:"epoch"`
	RunID   uint64 `json:"run_id,string"` // of the primary's process
	Version uint64 `json:"version"`       // of State.Opening
}

// SlotCreate makes a permanent physical slot, for the primary. One for a member replaces what has its
// name. The state machine numbers it. Who makes a slot for a client may have given up, and the command be applied
// later, when the client has made the slot in another attempt, and dropped it: it must not come back.
type SlotCreate struct {
	Epoch uint64 `json:"epoch"`
	Slot  Slot   `json:"slot"`
	AsOf  uint64 `json:"as_of,omitempty"` // State.Index that it was made for; 0: not compared
}

// SlotDrop removes one: that with the number, if it names one. Who drops a slot may have given up, and the command be
// applied later, when another slot has the name.
type SlotDrop struct {
	Epoch  uint64 `json:"epoch"`
	Name   string `json:"name"`
	Number uint64 `json:"number,omitempty"` // of Slot
	Final  bool   `json:"final,omitempty"`  // a SlotCreate for a state before makes none any more; logs of before say nothing
}

// SlotAdvance puts slots where the primary says that their consumers are, which may be back: a consumer
// can be restored from a backup. It says too who is in use, and who was invalidated. Those that are gone,
// or were made again since, stay as they are. The epoch keeps out what a primary says that is none any
// more: it does not know of consumers that have gone to another.
type SlotAdvance struct {
	Epoch uint64 `json:"epoch"`
	Slots []Slot `json:"slots"` // all but whose they are
}

// SettingSet writes a value of a setting for the whole cluster, or takes it away. Nothing goes by it
// before the next Reload.
type SettingSet struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Reset bool   `json:"reset,omitempty"`
}

// SettingsReset takes all values away that were written.
type SettingsReset struct{}

// Reload makes what is written what the nodes go by.
type Reload struct{}

// A Promote names the primary of epoch Target. The state machine judges it by its answers
// (CheckPromotion), whatever the coordinator that proposed it thought.
type Promote struct {
	Epoch  uint64 `json:"epoch"`  // the state's, which is sealing
	Target uint64 `json:"target"` // the state's

	Answers    []Answer      `json:"answers"`
	Winner     syncrep.ID    `json:"winner"`
	Position   Position      `json:"position"` // where the new epoch starts
	Rule       Rule          `json:"rule"`     // of the new epoch
	LeaseWait  time.Duration `json:"lease_wait"`
	AcceptLoss bool          `json:"accept_loss,omitempty"` // somebody said so
	LostBytes  uint64        `json:"lost_bytes,omitempty"`  // at most

	Cause string    `json:"cause"`
	By    string    `json:"by"`
	Time  time.Time `json:"time"`
}

// A barrier changes nothing: when it is answered, everything before it is applied.
type barrier struct{}

func (*barrier) change(*State) error { return nil }

// MaxCommand is the most bytes an encoded command has.
const MaxCommand = 1 << 20

// commandVersion is the first byte of an encoded command. A member that does not know the version, the
// kind or a field cannot follow the others, and stops.
const commandVersion = 1

const sameVersion = "run the same version of longship on every node"

// A proposal is a command on its way through Raft:
//
//	| version 1B | id 8B, big endian | JSON: {"KIND": {fields of the command}} |
//
// The id is its author's: two proposals with the same one are the same, and the second has no effect.
type proposal struct {
	id      uint64
	command Command
}

// newCommand makes an empty command of each kind.
var newCommand = map[string]func() Command{
	"init":           func() Command { return new(Init) },
	"join":           func() Command { return new(Join) },
	"ready":          func() Command { return new(Ready) },
	"leave":          func() Command { return new(Leave) },
	"rule_begin":     func() Command { return new(RuleBegin) },
	"rule_end":       func() Command { return new(RuleEnd) },
	"rule_cancel":    func() Command { return new(RuleCancel) },
	"seal":           func() Command { return new(Seal) },
	"promote":        func() Command { return new(Promote) },
	"opening_rule":   func() Command { return new(OpeningRule) },
	"set_steady":     func() Command { return new(SetSteady) },
	"slot_create":    func() Command { return new(SlotCreate) },
	"slot_drop":      func() Command { return new(SlotDrop) },
	"slot_advance":   func() Command { return new(SlotAdvance) },
	"setting_set":    func() Command { return new(SettingSet) },
	"settings_reset": func() Command { return new(SettingsReset) },
	"reload":         func() Command { return new(Reload) },
	"barrier":        func() Command { return new(barrier) },
}

// kindOf is the name of a command's kind in its encoding.
func kindOf(c Command) string {
	switch c.(type) {
	case *Init:
		return "init"
	case *Join:
		return "join"
	case *Ready:
		return "ready"
	case *Leave:
		return "leave"
	case *RuleBegin:
		return "rule_begin"
	case *RuleEnd:
		return "rule_end"
	case *RuleCancel:
		return "rule_cancel"
	case *Seal:
		return "seal"
	case *Promote:
		return "promote"
	case *OpeningRule:
		return "opening_rule"
	case *SetSteady:
		return "set_steady"
	case *SlotCreate:
		return "slot_create"
	case *SlotDrop:
		return "slot_drop"
	case *SlotAdvance:
		return "slot_advance"
	case *SettingSet:
		return "setting_set"
	case *SettingsReset:
		return "settings_reset"
	case *Reload:
		return "reload"
	case *barrier:
		return "barrier"
	}
	panic(fmt.Sprintf("raftlog: command of type %T", c))
}

// encode returns the proposal's bytes. The error is an *InvalidError: it is too long.
func (p proposal) encode() ([]byte, error) {
	body, err := json.Marshal(map[string]Command{kindOf(p.command): p.command})
	if err != nil {
		return nil, &InvalidError{What: err.Error()}
	}
	if len(body) > MaxCommand-proposalHeader {
		return nil, &InvalidError{What: fmt.Sprintf("%d bytes, the limit is %d", len(body), MaxCommand-proposalHeader)}
	}
	b := append(make([]byte, 0, proposalHeader+len(body)), commandVersion)
	return append(binary.BigEndian.AppendUint64(b, p.id), body...), nil
}

const proposalHeader = 1 + 8

// decodeProposal reads what encode wrote. The error is an *InvalidError.
func decodeProposal(b []byte) (proposal, error) {
	if len(b) > MaxCommand {
		return proposal{}, &InvalidError{What: fmt.Sprintf("%d bytes, the limit is %d", len(b), MaxCommand)}
	}
	if len(b) < proposalHeader {
		return proposal{}, &InvalidError{What: fmt.Sprintf("%d bytes, %d at least", len(b), proposalHeader)}
	}
	if b[0] != commandVersion {
		return proposal{}, &InvalidError{What: fmt.Sprintf("it has version %d of the format, and this program knows %d: %s", b[0], commandVersion, sameVersion)}
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(b[proposalHeader:], &body); err != nil {
		return proposal{}, &InvalidError{What: err.Error()}
	}
	if len(body) != 1 {
		return proposal{}, &InvalidError{What: fmt.Sprintf("%d commands in one", len(body))}
	}
	p := proposal{id: binary.BigEndian.Uint64(b[1:])}
	for kind, fields := range body {
		if newCommand[kind] == nil {
			return proposal{}, &InvalidError{What: fmt.Sprintf("unknown kind %q: %s", kind, sameVersion)}
		}
		p.command = newCommand[kind]()
		if err := decodeStrictly(fields, p.command); err != nil {
			return proposal{}, &InvalidError{What: fmt.Sprintf("%s: %v: %s", kind, err, sameVersion)}
		}
	}
	return p, nil
}

// decodeStrictly refuses fields it does not know: to leave them out is to have another state.
func decodeStrictly(b []byte, v any) error {
	if bytes.Equal(b, []byte("null")) {
		return io.ErrUnexpectedEOF
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
