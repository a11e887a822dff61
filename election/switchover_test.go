package election

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
)

// A switchover moves the primary to whom it was asked for, from whatever node, at once.
func TestSwitchover(t *testing.T) {
	for _, test := range []struct{ at, to, want string }{{"n3", "n2", "n2"}, {"n1", "n3", "n3"}, {"n2", "", "n3"}} {
		sail(t, majority, 3, func(f *fleet) {
			f.change(func() { f.state.Members[2].Priority = 200 })
			began := time.Now()
			reply, err := f.ship(test.at).c.Switchover(f.t.Context(), SwitchoverRequest{To: test.to})
			if err != nil || reply.Primary != test.want || reply.Address != test.want+":5433" || reply.Epoch != 2 {
				t.Fatalf("%+v, %v", reply, err)
			}
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("took %v", took)
			}
			f.wantPrimary(test.want, 2)
			if s := f.now(); s.History[1].Cause != "switchover" || f.peek("n1").releases != 0 {
				t.Errorf("%+v, %d releases", s.History[1], f.peek("n1").releases)
			}
			f.pass(time.Minute)
			f.wantPrimary(test.want, 2)
			if f.ship(test.want).c.cfg.Raft.IsLeader() { // the order is done with: it may step aside
				t.Errorf("%s is primary and leads Raft", test.want)
			}
		})
	}
}

// There and back, a hundred times.
func TestSwitchoverAgainAndAgain(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		for range 100 {
			if _, err := f.ship("n2").c.Switchover(f.t.Context(), SwitchoverRequest{}); err != nil {
				t.Fatal(err)
			}
		}
		if s := f.now(); s.Epoch != 101 {
			t.Errorf("epoch %d", s.Epoch)
		}
	})
}

// refused fails the test unless err is a refusal that says so, and nothing has changed.
func (f *fleet) refused(err error, code, text string) {
	f.t.Helper()
	e, ok := errors.AsType[*pgwire.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Message+" "+e.Detail, text) {
		f.t.Errorf("%v, want %s %q", err, code, text)
	}
}

// What cannot be the target is refused before anything is held.
func TestSwitchoverRefused(t *testing.T) {
	for _, test := range []struct {
		name, to, code, text string
		change               func(f *fleet)
	}{
		{"unknown", "n9", pgwire.CodeUndefinedObject, "n9", func(*fleet) {}},
		{"the primary", "n1", pgwire.CodeObjectNotInPrerequisiteState, "already", func(*fleet) {}},
		{"dead", "n2", pgwire.CodeObjectNotInPrerequisiteState, "does not answer", func(f *fleet) { f.ship("n2").up = false }},
		{"hung", "n2", pgwire.CodeObjectNotInPrerequisiteState, "does not answer", func(f *fleet) { f.ship("n2").hung = true }},
		{"priority 0", "n2", pgwire.CodeObjectNotInPrerequisiteState, "failover_priority", func(f *fleet) { f.state.Members[1].Priority = 0 }},
		{"not counted", "n2", pgwire.CodeObjectNotInPrerequisiteState, "not all there is", func(f *fleet) { f.state.Members[1].Counted = false }},
		{"not streaming", "n2", pgwire.CodeObjectNotInPrerequisiteState, "does not stream", func(f *fleet) { f.ship("n2").behind = true; f.ship("n2").follows = 0 }},
		{"another disk", "n2", pgwire.CodeObjectNotInPrerequisiteState, "another disk", func(f *fleet) { f.ship("n2").member.ID = id(9) }},
		{"nobody", "", pgwire.CodeObjectNotInPrerequisiteState, "n2: ", func(f *fleet) {
			f.state.Members[1].Priority, f.state.Members[2].Priority = 0, 0
		}},
		{"in debt", "n2", pgwire.CodeObjectNotInPrerequisiteState, "n1 alone has", func(f *fleet) { f.state.Rule.Degraded = &raftlog.Degraded{} }},
		{"failing over", "n2", pgwire.CodeObjectNotInPrerequisiteState, "no primary to move", func(f *fleet) {
			next := *f.state
			next.Phase, next.Target = raftlog.Sealing, 2
			for _, s := range f.ships {
				s.hung = s.n < 2
			}
			f.set(&next)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			sail(t, majority, 3, func(f *fleet) {
				f.change(func() { test.change(f) })
				_, err := f.ship("n3").c.Switchover(f.t.Context(), SwitchoverRequest{To: test.to})
				f.refused(err, test.code, test.text)
				if s := f.now(); s.Epoch != 1 || f.peek("n1").held || f.saw(0, "hold n1:5433") {
					t.Errorf("epoch %d, held %t", s.Epoch, f.peek("n1").held)
				}
			})
		})
	}
}

// If the target dies before it has everything, the primary goes on.
func TestSwitchoverReleases(t *testing.T) {
	for name, holding := range map[string]func(f *fleet) error{
		"target gone": func(f *fleet) error { return errors.New("n2 has gone") },
		"conflict": func(f *fleet) error { // somebody else acts in between
			next := *f.state
			next.Epoch, next.Target, next.Phase = 1, 9, raftlog.Sealing
			f.set(&next)
			f.hook = func(_ int, event string) {
				if event == "propose Seal" {
					f.change(func() {
						back := *f.state
						back.Phase, back.Epoch, back.Target = raftlog.Steady, 2, 0
						back.History = append(back.History, raftlog.Reign{Epoch: 2})
						f.ship("n1").reign, f.ship("n1").promised = 2, 2
						f.set(&back)
					})
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			sail(t, majority, 3, func(f *fleet) {
				f.change(func() { f.holding = func(*ship, HoldRequest) error { return holding(f) } })
				_, err := f.ship("n3").c.Switchover(f.t.Context(), SwitchoverRequest{To: "n2"})
				if err == nil {
					t.Fatal("done")
				}
				if n1 := f.peek("n1"); n1.held || n1.releases != 1 {
					t.Errorf("held %t, %d releases", n1.held, n1.releases)
				}
				f.pass(10 * time.Second)
				if s := f.now(); s.Phase != raftlog.Steady || s.Primary.Name != "n1" {
					t.Errorf("epoch %d is %s with %s", s.Epoch, s.Phase, s.Primary.Name)
				}
			})
		})
	}
}

// If the target dies once the epoch is sealed, somebody else becomes primary, and the reply says who.
func TestSwitchoverTargetDiesSealed(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() {
			f.hook = func(_ int, event string) {
				if event == "proposed Seal" {
					f.kill("n2")
				}
			}
		})
		reply, err := f.ship("n3").c.Switchover(f.t.Context(), SwitchoverRequest{To: "n2"})
		if err != nil || reply.Primary == "n2" || f.now().Primary.Name != reply.Primary {
			t.Fatalf("%+v, %v", reply, err)
		}
		f.wantPrimary(reply.Primary, 2)
	})
}

// The coordinator may lose leadership once the epoch is sealed: who asked still hears the end.
func TestSwitchoverOutlivesLeadership(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() {
			f.hook = func(_ int, event string) {
				if event == "proposed Seal" {
					f.elect(1)
				}
			}
		})
		reply, err := f.ship("n3").c.Switchover(f.t.Context(), SwitchoverRequest{To: "n2"})
		if err != nil || reply.Epoch != 2 {
			t.Fatalf("%+v, %v", reply, err)
		}
	})
}

// Without a Raft leader, or once who asked has gone, nothing happens.
func TestSwitchoverWithoutLeader(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { f.ship("n3").up = false })
		ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
		defer cancel()
		_, err := f.ship("n2").c.Switchover(ctx, SwitchoverRequest{})
		f.refused(err, pgwire.CodeCannotConnectNow, "no Raft leader")
		_, err = f.ship("n2").c.Switchover(f.t.Context(), SwitchoverRequest{Forwarded: true})
		if !errors.Is(err, raftlog.ErrNotLeader) {
			t.Error(err)
		}
	})
}

// A failover that is asked for replaces a healthy primary.
func TestFailoverOfHealthyPrimary(t *testing.T) {
	for _, accept := range []bool{false, true} {
		sail(t, majority, 3, func(f *fleet) {
			reply, err := f.ship("n2").c.Failover(f.t.Context(), FailoverRequest{AcceptLoss: accept})
			if err != nil || reply.Primary == "n1" || reply.Epoch != 2 || reply.LostBytes != 0 {
				t.Fatalf("%+v, %v", reply, err)
			}
			f.wantPrimary(reply.Primary, 2)
		})
	}
}

// Somebody who stops waiting for a failover is told what it waits for.
func TestFailoverStopsWaiting(t *testing.T) {
	sail(t, "ANY 1 (*)", 5, func(f *fleet) {
		f.kill("n2")
		f.kill("n1")
		ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
		defer cancel()
		_, err := f.ship("n5").c.Failover(ctx, FailoverRequest{})
		f.refused(err, pgwire.CodeQueryCanceled, "start n1")
	})
}
