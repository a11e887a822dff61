package raftlog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// The scripts of testdata/commands propose one command after the other. A member is written n2, or
// n2/3 for the node n2 with the third disk it had; it has the Raft store r2 or r2/3.
//
//	init n1 rule=majority run=11
//	rule-begin epoch=1 version=1 k=1 of=(n2,n3) counted=(n1,n2,n3)
//	promote epoch=1 target=2 winner=n2 at=1:0/5000 answers=(n2:22@1:0/5000, n3:33@1:0/4000) k=1 of=(n3)
//
// What follows is the state, or why the command is refused. Every refusal leaves the state as it is,
// and every command leaves the state before it as it is.
func TestCommands(t *testing.T) {
	datadriven.Walk(t, "testdata/commands", func(t *testing.T, path string) {
		s := &State{}
		index := uint64(0)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			index++
			if d.Cmd == "history" {
				return printHistory(s)
			}
			before := s.Hash()
			// Through the encoding, as Raft would carry it.
			encoded, err := proposal{id: index, command: readCommand(t, d)}.encode()
			if err != nil {
				t.Fatal(err)
			}
			p, err := decodeProposal(encoded)
			if err != nil {
				t.Fatal(err)
			}
			next, err := s.Apply(index, p.command)
			if s.Hash() != before {
				d.Fatalf(t, "the command changed a state that others read")
			}
			if err != nil {
				return err.Error()
			}
			s = next
			return printState(s)
		})
	})
}

func readCommand(t *testing.T, d *datadriven.TestData) Command {
	a := arguments{t, d}
	switch d.Cmd {
	case "init":
		return &Init{SystemID: 7, Member: a.member(), RunID: a.number("run"), Text: strings.Replace(a.text("rule"), "majority", "ANY MAJORITY (*)", 1), Timeline: wal.TimelineID(max(1, a.number("timeline"))), Start: 0x1000}
	case "join":
		m := a.member()
		m.Address = a.text("address")
		m.Name = strings.Split(m.Name, "/")[0]
		if name := a.text("name"); name != "" {
			m.Name = name
		}
		if raft := a.text("raft"); raft != "" {
			m.RaftID = raft
		}
		join := &Join{Member: m}
		if old := a.text("replaces"); old != "" {
			join.Replaces = a.disk(old)
		}
		return join
	case "ready":
		m := a.member()
		if raft := a.text("raft"); raft != "" {
			m.RaftID = raft
		}
		return &Ready{ID: m.ID, RaftID: m.RaftID}
	case "leave":
		return &Leave{ID: a.member().ID}
	case "rule-begin":
		return &RuleBegin{Epoch: a.number("epoch"), Version: a.number("version"), Rule: a.rule(), Counted: a.ids("counted")}
	case "rule-end":
		return &RuleEnd{Epoch: a.number("epoch"), Version: a.number("version")}
	case "rule-cancel":
		return &RuleCancel{Epoch: a.number("epoch"), Version: a.number("version")}
	case "seal":
		return &Seal{Epoch: a.number("epoch"), Target: a.number("target"), Cause: a.text("cause"), By: "n9", Time: time.Unix(int64(a.number("time")), 0).UTC()}
	case "promote":
		return a.promote()
	case "opening-rule":
		return &OpeningRule{Epoch: a.number("epoch"), Version: a.number("version"), Rule: a.rule()}
	case "set-steady":
		return &SetSteady{Epoch: a.number("epoch"), RunID: a.number("run"), Version: a.number("version")}
	case "slot-create":
		return &SlotCreate{Epoch: a.number("epoch"), Slot: Slot{Name: a.text("name"), Restart: a.lsn("restart"), Member: a.slotMember()}, AsOf: a.number("as-of")}
	case "slot-drop":
		return &SlotDrop{Epoch: a.number("epoch"), Name: a.text("name"), Number: a.number("number"), Final: d.HasArg("final")}
	case "slot-advance":
		slot := Slot{Name: a.text("name"), Number: a.number("number"), Restart: a.lsn("restart"), InvalidatedAt: a.lsn("invalidated-at"), Reason: slots.Reason(a.text("reason"))}
		if since := a.number("inactive-since"); since != 0 {
			slot.InactiveSince = time.Unix(int64(since), 0).UTC()
		}
		return &SlotAdvance{Epoch: a.number("epoch"), Slots: []Slot{slot}}
	case "settings-reset":
		return &SettingsReset{}
	case "reload":
		return &Reload{}
	case "setting-set":
		return &SettingSet{Name: a.text("name"), Value: a.text("value"), Reset: d.HasArg("reset")}
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return nil
}

type arguments struct {
	t *testing.T
	d *datadriven.TestData
}

func (a arguments) all(key string) []string {
	for _, arg := range a.d.CmdArgs {
		if arg.Key == key {
			return arg.Vals
		}
	}
	return nil
}

func (a arguments) text(key string) string { return strings.Join(a.all(key), ",") }

func (a arguments) number(key string) uint64 {
	if a.text(key) == "" {
		return 0
	}
	n, err := strconv.ParseUint(a.text(key), 10, 64)
	if err != nil {
		a.d.Fatalf(a.t, "%s: %v", key, err)
	}
	return n
}

func (a arguments) lsn(key string) wal.LSN {
	if a.text(key) == "" {
		return 0
	}
	lsn, err := wal.ParseLSN(a.text(key))
	if err != nil {
		a.d.Fatalf(a.t, "%s: %v", key, err)
	}
	return lsn
}

// disk reads n2 or n2/3.
func (a arguments) disk(s string) syncrep.ID {
	node, incarnation, _ := strings.Cut(strings.TrimPrefix(s, "n"), "/")
	n, err := strconv.ParseUint(node, 10, 64)
	if err != nil {
		a.d.Fatalf(a.t, "member %q: %v", s, err)
	}
	id := syncrep.ID{Node: n, Incarnation: 1}
	if incarnation != "" {
		id.Incarnation, _ = strconv.ParseUint(incarnation, 10, 64)
	}
	return id
}

func (a arguments) member() Member {
	name := a.d.CmdArgs[0].Key
	return Member{Name: name, ID: a.disk(name), RaftID: "r" + strings.TrimPrefix(name, "n"), Priority: 100, Witness: a.d.HasArg("witness")}
}

// slotMember is whose slot it is, nobody's if it is not said.
func (a arguments) slotMember() (id syncrep.ID) {
	if a.text("of") != "" {
		id = a.disk(a.text("of"))
	}
	return id
}

func (a arguments) ids(key string) (ids []syncrep.ID) {
	for _, s := range a.all(key) {
		ids = append(ids, a.disk(s))
	}
	return ids
}

func (a arguments) rule() Rule {
	r := Rule{Text: a.text("text"), Version: 99} // the state machine numbers it, whatever it says
	if r.K = int(a.number("k")); a.d.HasArg("degraded") {
		r.Degraded = &Degraded{Since: time.Unix(0, 0), From: 0x1000, Why: "a test"}
	}
	for _, s := range a.all("of") {
		if receiver, ok := strings.CutPrefix(s, "receiver:"); ok {
			r.Listed = append(r.Listed, syncrep.Listed{Name: receiver})
		} else {
			r.Listed = append(r.Listed, syncrep.Listed{ID: a.disk(s), Name: strings.Split(s, "/")[0]})
		}
	}
	return r
}

func (a arguments) position(s string) Position {
	epoch, at, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(epoch, 10, 64)
	if err != nil {
		a.d.Fatalf(a.t, "position %q: %v", s, err)
	}
	lsn, err := wal.ParseLSN(at)
	if err != nil {
		a.d.Fatalf(a.t, "position %q: %v", s, err)
	}
	return Position{Epoch: n, LSN: lsn}
}

func (a arguments) promote() *Promote {
	p := &Promote{
		Epoch: a.number("epoch"), Target: a.number("target"), Winner: a.disk(a.text("winner")),
		Position: a.position(a.text("at")), Rule: a.rule(), AcceptLoss: a.d.HasArg("accept-loss"),
		LostBytes: a.number("lost"), Cause: a.text("cause"), By: "n9",
	}
	for _, s := range a.all("answers") {
		who, at, _ := strings.Cut(s, "@")
		name, run, _ := strings.Cut(who, ":")
		runID, _ := strconv.ParseUint(run, 10, 64)
		p.Answers = append(p.Answers, Answer{
			ID: a.disk(name), Name: name, RunID: runID, Promised: p.Target, Position: a.position(at), Priority: 100,
		})
	}
	return p
}

func printState(s *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d %s: primary %s, process %d, from %d:%s\n", s.Epoch, s.Phase, printID(s.Primary.ID), s.Primary.RunID, s.Primary.Position.Epoch, s.Primary.Position.LSN)
	if s.Phase == Sealing {
		fmt.Fprintf(&b, "sealing for %d: %s, by %s since %d\n", s.Target, s.Cause, s.SealedBy, s.SealedAt.Unix())
	}
	if s.SteadyEpoch != s.Epoch {
		fmt.Fprintf(&b, "steady epoch %d of %s\n", s.SteadyEpoch, printID(s.SteadyPrimary))
	}
	fmt.Fprintf(&b, "rule %s\n", printRule(s.Rule))
	if s.Joint != nil {
		fmt.Fprintf(&b, "with %s, then counted %s\n", printRule(*s.Joint), printIDs(s.JointCounted))
	}
	if s.Opening != nil {
		fmt.Fprintf(&b, "opening with %s\n", printRule(*s.Opening))
	}
	for _, m := range s.Members {
		fmt.Fprintf(&b, "%s (%s, %s%s)", printID(m.ID), m.Name, m.RaftID, map[bool]string{true: ", " + m.Address}[m.Address != ""])
		for _, flag := range []struct {
			is   bool
			name string
		}{{m.Voter, "voter"}, {m.Counted, "counted"}, {m.Leaving, "leaving"}} {
			if flag.is {
				b.WriteString(" " + flag.name)
			}
		}
		b.WriteByte('\n')
	}
	for _, slot := range s.Slots {
		fmt.Fprintf(&b, "slot %s #%d at %s", slot.Name, slot.Number, slot.Restart)
		if !slot.Member.IsZero() {
			fmt.Fprintf(&b, " of %s", printID(slot.Member))
		}
		if slot.Reason != "" {
			fmt.Fprintf(&b, " invalidated at %s for %s", slot.InvalidatedAt, slot.Reason)
		}
		if !slot.InactiveSince.IsZero() {
			fmt.Fprintf(&b, " inactive since %d", slot.InactiveSince.Unix())
		}
		b.WriteByte('\n')
	}
	if len(s.Settings) > 0 {
		fmt.Fprintf(&b, "settings %v\n", s.Settings)
	}
	if s.Generation > 0 {
		fmt.Fprintf(&b, "applied %v, generation %d\n", s.Applied, s.Generation)
	}
	return b.String()
}

func printHistory(s *State) string {
	var b strings.Builder
	for _, r := range s.History {
		fmt.Fprintf(&b, "%d of %d, timeline %d from %s, %s (%s, by %s)", r.Epoch, r.Parent, r.Timeline, r.Start, r.Primary, r.Cause, r.DecidedBy)
		if r.Steady {
			b.WriteString(" steady")
		}
		if r.LostBytes > 0 {
			fmt.Fprintf(&b, " lost %d bytes", r.LostBytes)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func printID(id syncrep.ID) string {
	if id.Incarnation == 1 {
		return fmt.Sprintf("n%d", id.Node)
	}
	return fmt.Sprintf("n%d/%d", id.Node, id.Incarnation)
}

func printIDs(ids []syncrep.ID) string {
	var names []string
	for _, id := range ids {
		names = append(names, printID(id))
	}
	return "(" + strings.Join(names, " ") + ")"
}

func printRule(r Rule) string {
	var ids []syncrep.ID
	var receivers []string
	for _, l := range r.Listed {
		if (l.ID == syncrep.ID{}) {
			receivers = append(receivers, l.Name)
		} else {
			ids = append(ids, l.ID)
		}
	}
	if r.Degraded != nil {
		return fmt.Sprintf("v%d: degraded from %s, for %q", r.Version, r.Degraded.From, r.Text)
	}
	return fmt.Sprintf("v%d: %d of %s", r.Version, r.K, strings.Join(slices.Concat([]string{printIDs(ids)}, receivers), " + "))
}
