package election

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// Who may be a member, and in whose place (I9).
func TestJoin(t *testing.T) {
	for _, test := range []struct {
		name    string
		id      syncrep.ID
		as      string
		at      string // address it will have
		runID   uint64
		before  bool // it was a member before
		again   bool // likewise, and had no data yet
		witness bool
		change  func(f *fleet)
		code    string // of the refusal
		text    string
		leaves  string
	}{
		{name: "new", id: id(4), as: "n4", at: "n4:5433", runID: 1},
		{name: "moved", id: id(2), as: "n2", at: "elsewhere:1", runID: 201, change: func(f *fleet) { f.ship("n2").up = false }},
		{name: "the same process", id: id(2), as: "n2", at: "n2:5433", runID: 200},
		{name: "copied directory", id: id(2), as: "n2", at: "n9:5433", runID: 9, code: pgwire.CodeObjectInUse, text: "copied"},
		{name: "copied directory, other name", id: id(2), as: "n9", at: "n9:5433", runID: 9, code: pgwire.CodeObjectInUse, text: "copied"},
		{name: "name taken", id: id(4), as: "n2", at: "n4:5433", runID: 9, code: pgwire.CodeDuplicateObject, text: "alive"},
		{name: "in place of a dead one", id: id(4), as: "n2", at: "n4:5433", runID: 9, change: func(f *fleet) { f.ship("n2").up = false }, leaves: "n2"},
		{name: "in place of a silent one", id: id(4), as: "n2", at: "n4:5433", runID: 9, change: func(f *fleet) { f.ship("n2").hung = true }, leaves: "n2"},
		{name: "with a new disk", id: syncrep.ID{Node: 2, Incarnation: 2}, as: "n2", at: "n2:5433", runID: 9, leaves: "n2",
			change: func(f *fleet) { f.ship("n2").member.ID, f.ship("n2").runID = syncrep.ID{Node: 2, Incarnation: 2}, 9 }},
		{name: "in place of the primary", id: id(4), as: "n1", at: "n4:5433", runID: 9, code: pgwire.CodeObjectNotInPrerequisiteState, text: "primary",
			change: func(f *fleet) { f.cut[[2]int{2, 0}] = true }},
		{name: "removed", id: id(4), as: "n4", at: "n4:5433", runID: 1, before: true, code: pgwire.CodeInvalidAuthorization, text: "removed"},
		{name: "removed, and another has its name since", id: id(4), as: "n2", at: "n2:5433", runID: 1, before: true, code: pgwire.CodeInvalidAuthorization, text: "removed",
			change: func(f *fleet) { f.ship("n2").up = false }},
		{name: "removed before it had data", id: id(4), as: "n4", at: "n4:5433", runID: 1, again: true, code: pgwire.CodeInvalidAuthorization, text: "removed"},
		{name: "replaced before it had data", id: id(4), as: "n2", at: "n2:5433", runID: 9, again: true, leaves: "n2",
			change: func(f *fleet) { f.ship("n2").member.ID, f.ship("n2").runID = id(4), 9 }},
		{name: "replaced before it had data, by one that lives", id: id(4), as: "n2", at: "n4:5433", runID: 9, again: true, code: pgwire.CodeDuplicateObject, text: "alive"},
		{name: "taken in, and has no data yet", id: id(2), as: "n2", at: "n2:5433", runID: 200, again: true},
		{name: "back at the same place", id: id(2), as: "n2", at: "n2:5433", runID: 200, before: true},
		{name: "a witness on a disk with a table", id: id(2), as: "n2", at: "n2:5433", runID: 200, before: true, witness: true,
			code: pgwire.CodeInvalidAuthorization, text: "has joined with witness false"},
		{name: "a new witness", id: id(4), as: "n4", at: "n4:5433", runID: 1, witness: true},
		{name: "a client's slot has its name", id: id(4), as: "n4", at: "n4:5433", runID: 1, code: pgwire.CodeDuplicateObject, text: `slot "n4"`,
			change: func(f *fleet) { f.state.Slots = []raftlog.Slot{{Name: "n4", Number: 7}} }},
		{name: "a member's slot has its name", id: id(4), as: "n4", at: "n4:5433", runID: 1,
			change: func(f *fleet) { f.state.Slots = []raftlog.Slot{{Name: "n4", Number: 7, Member: id(9)}} }},
		{name: "nobody", id: syncrep.ID{}, as: "n4", at: "n4:5433", code: pgwire.CodeInvalidParameterValue, text: "identity"},
	} {
		t.Run(test.name, func(t *testing.T) {
			sail(t, majority, 3, func(f *fleet) {
				if test.change != nil {
					f.change(func() { test.change(f) })
				}
				m := raftlog.Member{Name: test.as, ID: test.id, RaftID: "r", Address: test.at, RaftAddress: "a:1", Witness: test.witness}
				reply, err := f.ship("n3").c.Join(f.t.Context(), JoinRequest{Member: m, RunID: test.runID, Returning: test.before, Again: test.again})
				if test.code != "" {
					f.refused(err, test.code, test.text)
					if m, there := f.now().Member(test.id); there && (test.id == id(4) || m.Witness) {
						t.Error("joined")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				now, ok := f.now().Member(test.id)
				if !ok || now.Address != test.at || reply.Member != now || reply.SystemID != 77 || reply.Primary != "n1" {
					t.Errorf("%+v", reply)
				}
				for _, o := range f.now().Members {
					if o.Leaving != (o.Name == test.leaves && o.ID != test.id) {
						t.Errorf("%+v", o)
					}
				}
			})
		})
	}
}

// A process took a new base copy, which is another disk, and became the member with that. What it had asked for
// as the disk before arrives late, and does not bring that back in the place of its own.
func TestJoinOvertaken(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		now := syncrep.ID{Node: 2, Incarnation: 2}
		f.change(func() {
			f.ship("n2").member.ID = now
			i := slices.IndexFunc(f.state.Members, func(m raftlog.Member) bool { return m.Name == "n2" })
			m := f.state.Members[i]
			f.state.Members[i].Leaving = true // the rule lists it
			m.ID = now
			f.state.Members = append(f.state.Members, m)
		})
		m := raftlog.Member{Name: "n2", ID: id(2), RaftID: "r", Address: "n2:5433", RaftAddress: "a:1"}
		_, err := f.ship("n3").c.Join(f.t.Context(), JoinRequest{Member: m, RunID: f.ship("n2").runID, Returning: true})
		f.refused(err, pgwire.CodeObjectNotInPrerequisiteState, "another disk by now")
		if m, there := f.now().Member(now); !there || m.Leaving {
			t.Errorf("%+v", m)
		}
	})
}

// A node lost its disk, and a power cut took the one that came after, before that was a member. What the process before
// had asked for is decided at the same time as what the present one asks for: whoever comes second looks again.
func TestJoinsAtTheSameTime(t *testing.T) {
	for _, presentFirst := range []bool{true, false} {
		sail(t, majority, 3, func(f *fleet) {
			f.change(func() { f.ship("n2").hung = true })
			join := func(incarnation, runID uint64) error {
				m := raftlog.Member{Name: "n2", ID: syncrep.ID{Node: 2, Incarnation: incarnation}, RaftID: fmt.Sprint("r", incarnation), Address: "n2:5433", RaftAddress: "a:1"}
				_, err := f.ship("n3").c.Join(f.t.Context(), JoinRequest{Member: m, RunID: runID})
				return err
			}
			present := func() error {
				err := join(3, 9)
				f.change(func() {
					n2 := f.ship("n2")
					n2.member.ID, n2.runID, n2.hung = syncrep.ID{Node: 2, Incarnation: 3}, 9, false
				})
				return err
			}
			before := func() error { return join(2, 8) }
			first, second := present, before
			if !presentFirst {
				first, second = before, present
			}
			done := make(chan error, 1)
			go func() { done <- first() }()
			time.Sleep(time.Millisecond) // of the bubble: both are admitted while nobody answers
			errs := []error{second(), <-done}
			if m, ok := f.now().Named("n2"); !ok || m.ID != (syncrep.ID{Node: 2, Incarnation: 3}) {
				t.Errorf("the present one first: %v: n2 is %s, want its present disk; %v", presentFirst, m.ID, errs)
			}
		})
	}
}

// Who is being removed, and is started again, is no member again by that: the rule would list a node that ends. Nor
// does it take the place of the disk that took its own.
func TestJoinLeaving(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		sail(t, majority, 3, func(f *fleet) {
			f.change(func() {
				m := f.state.Members[1]
				f.state.Members[1].Leaving = true // the rule lists it
				if m.ID = id(4); replaced {
					f.state.Members = append(f.state.Members, m)
				}
			})
			m := raftlog.Member{Name: "n2", ID: id(2), RaftID: "r", Address: "n2:5433", RaftAddress: "a:1"}
			_, err := f.ship("n3").c.Join(f.t.Context(), JoinRequest{Member: m, RunID: f.ship("n2").runID, Returning: true})
			f.refused(err, pgwire.CodeInvalidAuthorization, "is being removed")
			if m, there := f.now().Member(id(2)); !there || !m.Leaving {
				t.Errorf("%+v", m)
			}
			if m, there := f.now().Member(id(4)); there != replaced || m.Leaving {
				t.Errorf("%+v", m)
			}
		})
	}
}

// A request reaches the leader from any node.
func TestJoinForwarded(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		m := raftlog.Member{Name: "n4", ID: id(4), RaftID: "r", Address: "n4:1", RaftAddress: "n4:2"}
		if _, err := f.ship("n1").c.Join(f.t.Context(), JoinRequest{Member: m, RunID: 1}); err != nil {
			t.Error(err)
		}
		reply, err := f.ship("n1").c.Explain(f.t.Context(), ExplainRequest{})
		if err != nil || len(reply.Health) != 4 || reply.Health[0].Health == nil || !reply.Health[0].Health.InOffice || reply.Health[3].Error == "" || reply.Report.Leader != "n3" {
			t.Errorf("%+v, %v", reply, err)
		}
		if len(reply.Lines) == 0 || len(reply.WhatIf) != 3 || reply.WhatIf[0].Primary == "" || reply.WhatIf[0].Primary == "n1" {
			t.Errorf("%+v", reply)
		}
		if r := f.ship("n1").c.Report(); r.Leader != "n3" {
			t.Errorf("%+v", r)
		}
		if removed, err := f.ship("n1").c.Remove(f.t.Context(), RemoveRequest{Name: "n4"}); err != nil || !removed.Gone {
			t.Errorf("%+v, %v", removed, err)
		}
	})
}

// A leader that cannot have a member recorded says that it is to ask again.
func TestJoinUndecided(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { f.ship("n1").up, f.ship("n2").up = false, false })
		m := raftlog.Member{Name: "n4", ID: id(4), RaftID: "r", Address: "n4:1", RaftAddress: "n4:2"}
		_, err := f.ship("n3").c.Join(f.t.Context(), JoinRequest{Member: m, RunID: 1})
		f.refused(err, pgwire.CodeCannotConnectNow, "join")
	})
}

// Without a Raft leader nobody is removed, and whoever asked is told, soon.
func TestRemoveWithoutLeader(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { f.ship("n3").up, f.ship("n2").up = false, false })
		began := time.Now()
		_, err := f.ship("n1").c.Remove(f.t.Context(), RemoveRequest{Name: "n3"})
		if e, ok := errors.AsType[*pgwire.Error](err); !ok || e.Code != pgwire.CodeCannotConnectNow || !strings.Contains(e.Message, "no Raft leader") {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took > removeTimeout+leaderPause {
			t.Errorf("after %v", took)
		}
	})
}

// Without a Raft leader any node still says what it sees.
func TestExplainWithoutLeader(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { f.ship("n3").up, f.ship("n2").up = false, false })
		reply, err := f.ship("n1").c.Explain(f.t.Context(), ExplainRequest{})
		if err != nil || reply.Report.Leader != "" || !strings.Contains(reply.Report.Doing, "no Raft leader") || reply.Health[1].Error == "" || len(reply.Lines) == 0 {
			t.Errorf("%+v, %v", reply, err)
		}
	})
}

// Who asks a leader that cannot have it agreed on, or that does not answer, is told to look what has become of it.
func TestRemoveUndecided(t *testing.T) {
	for name, change := range map[string]func(f *fleet){
		"the leader": func(f *fleet) { f.ship("n1").up, f.ship("n2").up = false, false },
		"a member, whose connection to the leader breaks": func(f *fleet) {
			f.ship("n1").c.cfg.Peers = &mute{f.ship("n1").c.cfg.Peers}
		},
	} {
		t.Run(name, func(t *testing.T) {
			sail(t, majority, 3, func(f *fleet) {
				f.change(func() { change(f) })
				asked := f.ship("n3")
				if name != "the leader" {
					asked = f.ship("n1")
				}
				_, err := asked.c.Remove(f.t.Context(), RemoveRequest{Name: "n2"})
				f.refused(err, pgwire.CodeCannotConnectNow, "n2 is removed")
				if e, ok := errors.AsType[*pgwire.Error](err); !ok || !strings.Contains(e.Hint, "longship_members") {
					t.Error(err)
				}
			})
		})
	}
}

// A mute has connections that break before a removal is answered.
type mute struct{ Peers }

func (*mute) Remove(context.Context, string, RemoveRequest) (RemoveReply, error) {
	return RemoveReply{}, io.EOF
}

// The primary cannot be removed, nor somebody who is not there.
func TestRemoveRefused(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		_, err := f.ship("n3").c.Remove(f.t.Context(), RemoveRequest{Name: "n1"})
		f.refused(err, pgwire.CodeObjectNotInPrerequisiteState, "is the primary")
		if e, ok := errors.AsType[*pgwire.Error](err); !ok || !strings.Contains(e.Hint, "switchover") {
			t.Error(err)
		}
		_, err = f.ship("n3").c.Remove(f.t.Context(), RemoveRequest{Name: "n9"})
		f.refused(err, pgwire.CodeUndefinedObject, "n9")
	})
}
