package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/longship-db/longship/syncrep"
)

// someCommands has one of each kind, with a value in every kind of field.
func someCommands() []Command {
	id := syncrep.ID{Node: 1, Incarnation: 2}
	rule := Rule{Version: 3, Text: "ANY 1 (n2, archive)", Resolved: syncrep.Resolved{K: 1, Listed: []syncrep.Listed{{ID: id, Name: "n2"}, {Name: "archive"}}}}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	member := Member{Name: "n1", ID: id, RaftID: "r1", Address: "h:1", RaftAddress: "h:2", GossipAddress: "h:3", Zone: "z", Priority: 1}
	return []Command{
		&Init{SystemID: 1 << 63, Member: member, RunID: 1 << 63, Text: rule.Text, Timeline: 1, Start: 0x28, Time: now},
		&Join{Member: member, Replaces: syncrep.ID{Node: 9, Incarnation: 1}},
		&Ready{ID: id, RaftID: "r1"},
		&Leave{ID: id},
		&RuleBegin{Epoch: 1, Version: 2, Rule: rule, Counted: []syncrep.ID{id}},
		&RuleEnd{Epoch: 1, Version: 2},
		&RuleCancel{Epoch: 1, Version: 2},
		&Seal{Epoch: 1, Target: 2, Cause: "dead", By: "n1", Time: now},
		&Promote{
			Epoch: 1, Target: 2, Winner: id, Position: Position{Epoch: 1, LSN: 0x28}, Rule: rule, LeaseWait: time.Second,
			Answers:    []Answer{{ID: id, Name: "n1", RunID: 1 << 63, Promised: 2, Position: Position{Epoch: 1, LSN: 0x28}, LeaseLeft: time.Second, Priority: 1}},
			AcceptLoss: true, LostBytes: 1, Cause: "dead", By: "n1", Time: now,
		},
		&OpeningRule{Epoch: 1, Version: 2, Rule: rule},
		&SetSteady{Epoch: 1, RunID: 1 << 63, Version: 2},
		&SlotCreate{Epoch: 1, Slot: Slot{Name: "vault", Restart: 0x28}, AsOf: 3},
		&SlotDrop{Epoch: 1, Name: "vault", Number: 7},
		&SlotAdvance{Epoch: 1, Slots: []Slot{{Name: "vault", Restart: 0x28, InactiveSince: now}, {Name: "tape", Number: 7, InvalidatedAt: 0x28, Reason: "idle_timeout"}}},
		&SettingSet{Name: "fsync", Value: "on", Reset: true},
		&SettingsReset{},
		&Reload{},
		&barrier{},
	}
}

// Every command survives its encoding, whatever its numbers.
func TestCommandEncoding(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range someCommands() {
		kind := kindOf(c)
		seen[kind] = true
		encoded, err := proposal{id: 1 << 63, command: c}.encode()
		if err != nil {
			t.Fatal(err)
		}
		p, err := decodeProposal(encoded)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if p.id != 1<<63 || !reflect.DeepEqual(p.command, c) {
			t.Errorf("%s comes back as %+v, want %+v", kind, p.command, c)
		}
	}
	if len(seen) != len(newCommand) {
		t.Errorf("%d kinds of commands are tested, there are %d", len(seen), len(newCommand))
	}
}

// What a member does not understand in full it must not apply in part.
func TestCommandFromAnotherVersion(t *testing.T) {
	head := string(append([]byte{commandVersion}, make([]byte, 8)...))
	for name, test := range map[string]struct{ encoded, why string }{
		"nothing":       {"", "0 bytes"},
		"header alone":  {head[1:], "8 bytes"},
		"no body":       {head, "JSON"},
		"newer version": {"\x02" + head[1:] + `{"leave":{}}`, "version 2 of the format, and this program knows 1: run the same version"},
		"older version": {"\x00" + head[1:] + `{"leave":{}}`, "version 0 of the format"},
		"unknown kind":  {head + `{"dance":{}}`, `unknown kind "dance": run the same version`},
		"unknown field": {head + `{"rule_end":{"epoch":1,"softly":true}}`, `unknown field "softly": run the same version`},
		"two commands":  {head + `{"rule_end":{},"rule_cancel":{}}`, "2 commands"},
		"no command":    {head + `{}`, "0 commands"},
		"null":          {head + `{"leave":null}`, "EOF"},
		"too long":      {head + `{"setting_set":{"name":"` + strings.Repeat("x", MaxCommand) + `"}}`, "the limit is"},
	} {
		_, err := decodeProposal([]byte(test.encoded))
		if _, ok := errors.AsType[*InvalidError](err); !ok || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%s: %v, want an InvalidError: %s", name, err, test.why)
		}
	}
	_, err := proposal{command: &SettingSet{Value: strings.Repeat("x", MaxCommand)}}.encode()
	if _, ok := errors.AsType[*InvalidError](err); !ok {
		t.Errorf("encoding of a command that is too long: %v, want an InvalidError", err)
	}
}

func FuzzDecodeProposal(f *testing.F) {
	for i, c := range someCommands() {
		encoded, err := proposal{id: uint64(i), command: c}.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeProposal(b)
		if err != nil {
			return
		}
		once, err := p.encode()
		if err != nil {
			return // JSON that escapes more than ours may be longer
		}
		again, err := decodeProposal(once)
		if err != nil {
			t.Fatalf("%q is encoded as %q, which is refused: %v", b, once, err)
		}
		if twice, err := again.encode(); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q is encoded as %q, then as %q: %v", b, once, twice, err)
		}
		// Whatever it is, every state takes it or refuses it.
		for _, s := range []*State{{}, openState()} {
			before := s.Hash()
			if next, err := s.Apply(1, p.command); err == nil {
				next.Hash()
			}
			if s.Hash() != before {
				t.Fatalf("%q changed a state that others read", once)
			}
		}
	})
}

// openState is a state with something in every field.
func openState() *State {
	m := Member{Name: "n1", ID: syncrep.ID{Node: 1, Incarnation: 2}, RaftID: "r1", Counted: true, Voter: true}
	o := Member{Name: "n2", ID: syncrep.ID{Node: 2, Incarnation: 2}, RaftID: "r2", Counted: true, Voter: true}
	rule := Rule{Version: 2, Resolved: syncrep.Resolved{K: 1, Listed: []syncrep.Listed{{ID: o.ID, Name: o.Name}}}}
	return &State{
		SystemID: 1, Members: []Member{m, o}, Epoch: 1, Phase: Opening, Primary: Office{ID: m.ID, Name: "n1", RunID: 1},
		SteadyPrimary: m.ID, Rule: rule, Joint: &rule, JointCounted: []syncrep.ID{m.ID}, Opening: &rule,
		History: []Reign{{Epoch: 1}}, Slots: []Slot{{Name: "vault", Restart: 1}}, Settings: map[string]string{"fsync": "on"},
		Applied: map[string]string{"fsync": "off"}, Generation: 1,
	}
}

// What the sender of a proposal can tell from an error, it can tell from one that came over the wire.
func TestErrorsSurviveTheWire(t *testing.T) {
	for _, err := range []error{
		&ConflictError{What: "epoch is 1, not 2"}, &InvalidError{What: "timeline 0"}, &Refusal{Lines: []string{"start n1", "or n2"}},
		fmt.Errorf("%w: n1", ErrNameTaken), fmt.Errorf("%w: vault", ErrSlotExists), fmt.Errorf("%w: vault", ErrNoSlot),
		ErrNotLeader, fmt.Errorf("%w: timeout", ErrUnknown), errors.New("connection refused"),
	} {
		got := DecodeError(EncodeError(err))
		if got.Error() != err.Error() {
			t.Errorf("%v comes back as %v", err, got)
		}
		code, _ := EncodeError(err)
		if again, _ := EncodeError(got); again != code {
			t.Errorf("%v has code %s, then %s", err, code, again)
		}
		if sentinel := sentinels[code]; sentinel != nil && !errors.Is(got, sentinel) {
			t.Errorf("%v comes back as %v, which is not %v", err, got, sentinel)
		}
	}
	if err := DecodeError(EncodeError(nil)); err != nil {
		t.Errorf("no error comes back as %v", err)
	}
	if errors.Is(ErrUnknown, ErrNotLeader) || answered(ErrUnknown) || answered(ErrNotLeader) || !answered(&Refusal{}) || !answered(ErrNoSlot) {
		t.Error("an answer of the state machine is not told from a failure to get one")
	}
}

// FuzzDecodeError: an error that came from another member goes on as what it was.
func FuzzDecodeError(f *testing.F) {
	for _, code := range []string{"", "conflict", "invalid", "refusal", "not_leader", "unknown", "error", "x"} {
		f.Add(code, "a\nb")
	}
	f.Fuzz(func(t *testing.T, code, text string) {
		err := DecodeError(code, text)
		again, said := EncodeError(err)
		if err == nil && code != "" || err != nil && said != text || again != code && again != "error" {
			t.Errorf("%q %q became %q %q: %v", code, text, again, said, err)
		}
	})
}
