package election

import (
	"errors"
	"fmt"

	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

const majority = "ANY MAJORITY (*)"

// A primary that is killed is replaced at once: nobody waits for a timeout.
func TestPrimaryDies(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.kill("n1")
		if took := f.awaitSteady(1, time.Minute); took > 300*time.Millisecond {
			t.Errorf("took %v", took)
		}
		f.pass(time.Minute)
		if s := f.now(); s.Epoch != 2 || !strings.Contains(s.History[1].Cause, "n1: the process is gone") || s.History[1].DecidedBy != "n3" {
			t.Errorf("%+v", s.History)
		}
		f.start("n1") // and comes back as a standby
		f.pass(time.Minute)
		if s := f.now(); s.Epoch != 2 || f.peek("n1").follows != 2 {
			t.Errorf("epoch %d, n1 follows %d", s.Epoch, f.peek("n1").follows)
		}
	})
}

// A primary that was started again between two probes is replaced at once, by itself at best.
func TestPrimaryRestarts(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.kill("n1")
		f.start("n1")
		if took := f.awaitSteady(1, time.Minute); took > 300*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if s := f.now(); s.Epoch != 2 || !strings.Contains(s.History[1].Cause, "started again") {
			t.Errorf("%+v", s.History)
		}
	})
}

// A primary that dies while the rule changes to one that only it meets was acknowledging under both: the change is
// called off, and blocks nobody (hole H9). On the way back from such a rule it was not.
func TestPrimaryDiesWhileRuleChanges(t *testing.T) {
	both := syncrep.Resolved{K: 2, Listed: []syncrep.Listed{{ID: id(2), Name: "n2"}, {ID: id(3), Name: "n3"}}}
	degraded := raftlog.Rule{Version: 1, Text: "ANY 2 (*)", Degraded: &raftlog.Degraded{From: 0x1000}}
	rule := raftlog.Rule{Version: 1, Text: "ANY 2 (*)", Resolved: both}
	sail(t, "ANY 2 (*)", 3, func(f *fleet) {
		f.change(func() {
			joint := degraded
			joint.Version = 2
			f.state.Rule, f.state.Joint = rule, &joint
		})
		f.kill("n1")
		f.pass(10 * time.Second)
		if s := f.now(); s.Epoch != 2 || s.Rule.Degraded != nil || s.Joint != nil && s.Phase != raftlog.Opening {
			t.Errorf("epoch %d is %s under %+v, joint %+v", s.Epoch, s.Phase, s.Rule, s.Joint)
		}
	})
	sail(t, "ANY 2 (*)", 3, func(f *fleet) {
		f.change(func() {
			joint := rule
			joint.Version = 2
			f.state.Rule, f.state.Joint = degraded, &joint
		})
		f.kill("n1")
		f.pass(10 * time.Second)
		if s := f.now(); s.Epoch != 1 || s.Phase != raftlog.Sealing || s.Joint == nil {
			t.Errorf("epoch %d is %s under %+v, joint %+v", s.Epoch, s.Phase, s.Rule, s.Joint)
		}
	})
}

// One node alone promotes itself.
func TestAlone(t *testing.T) {
	sail(t, majority, 1, func(f *fleet) {
		f.change(func() { f.ships[0].runID++; f.ships[0].reign = 0 })
		f.awaitSteady(1, time.Minute)
		f.wantPrimary("n1", 2)
	})
}

// All nodes are killed at once and come back in any order, one of them never.
func TestAllKilled(t *testing.T) {
	for _, order := range [][]string{{"n1", "n2"}, {"n2", "n1"}, {"n2", "n3"}, {"n3", "n2"}, {"n3", "n1"}} {
		sail(t, majority, 3, func(f *fleet) {
			for _, name := range []string{"n1", "n2", "n3"} {
				f.kill(name)
			}
			f.pass(10 * time.Second)
			for _, name := range order {
				f.start(name)
				f.elect(f.ship(name).n)
				f.pass(5 * time.Second)
			}
			f.awaitSteady(1, time.Minute)
		})
	}
}

// A primary that is silent is replaced after failover_timeout, and not before.
func TestPrimaryHangs(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { f.ship("n1").hung = true })
		if took := f.awaitSteady(1, time.Minute); took < testTimeout || took > testTimeout*3/2 {
			t.Errorf("took %v", took)
		}
	})
}

// A coordinator that does not reach the primary while a standby streams from it leaves it alone.
func TestCoordinatorCutOff(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { f.cut[[2]int{2, 0}], f.cut[[2]int{0, 2}] = true, true })
		f.pass(time.Minute)
		f.wantPrimary("n1", 1)
		if r := f.ship("n3").c.Report(); !strings.Contains(r.Doing, "n2 streams from it") {
			t.Errorf("%+v", r)
		}
		f.change(func() { f.ship("n1").hung = true })
		if took := f.awaitSteady(1, time.Minute); took > 2*testTimeout {
			t.Errorf("took %v", took)
		}
	})
}

// A coordinator that reaches nobody, though Raft works, does not depose the primary, and lets another one
// coordinate. What it has begun before, another one ends.
func TestCoordinatorReachesNobody(t *testing.T) {
	cutOff := func(f *fleet) {
		for _, other := range []int{0, 1} {
			f.cut[[2]int{2, other}], f.cut[[2]int{other, 2}] = true, true
		}
	}
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { cutOff(f) })
		f.pass(time.Minute)
		f.wantPrimary("n1", 1)
		if f.ship("n3").c.cfg.Raft.IsLeader() {
			t.Error("n3 coordinates")
		}
	})
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() {
			cutOff(f)
			f.state.Phase, f.state.Target = raftlog.Sealing, 2
		})
		if took := f.awaitSteady(1, time.Minute); took > 5*testTimeout {
			t.Errorf("took %v", took)
		}
	})
	sail(t, "ANY 1 (n2, n3)", 5, func(f *fleet) { // n2 must answer, and n5 does not reach it
		f.change(func() { f.cut[[2]int{4, 1}] = true })
		f.kill("n1")
		if took := f.awaitSteady(1, 2*time.Minute); took > time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// A primary that has left office is replaced at once.
func TestPrimaryLeavesOffice(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { f.ship("n1").reign = 0 })
		if took := f.awaitSteady(1, time.Minute); took > 300*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// One that is named and does not take office is replaced after failover_timeout, and so is one that
// dies before it has opened its epoch, at once.
func TestNamedPrimaryFails(t *testing.T) {
	t.Run("does not take office", func(t *testing.T) {
		sail(t, majority, 3, func(f *fleet) {
			f.change(func() { f.ship("n2").barred = true })
			f.change(func() { f.ship("n2").member.Priority = 200; f.state.Members[1].Priority = 200 })
			f.kill("n1")
			f.pass(time.Second)
			if s := f.now(); s.Phase != raftlog.Opening || s.Primary.Name != "n2" {
				t.Fatalf("epoch %d %s, %s", s.Epoch, s.Phase, s.Primary.Name)
			}
			f.change(func() { f.ship("n2").member.Priority = 0; f.state.Members[1].Priority = 0 })
			if took := f.awaitSteady(2, time.Minute); took > testTimeout {
				t.Errorf("took %v", took)
			}
			f.wantPrimary("n3", 3)
		})
	})
	t.Run("dies", func(t *testing.T) {
		sail(t, majority, 5, func(f *fleet) {
			for _, s := range f.ships {
				s.dull = s.n < 3
			}
			f.kill("n1")
			f.pass(time.Second)
			s := f.now()
			if s.Phase != raftlog.Opening || f.peek(s.Primary.Name).reign != 2 {
				t.Fatalf("epoch %d %s", s.Epoch, s.Phase)
			}
			f.change(func() {
				for _, s := range f.ships {
					s.dull = false
				}
			})
			f.kill(s.Primary.Name)
			if took := f.awaitSteady(2, time.Minute); took > 300*time.Millisecond {
				t.Errorf("took %v", took)
			}
		})
	})
}

// A primary that opens its epoch slowly, but is in office, is left alone.
func TestOpeningTakesLong(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() {
			for _, s := range f.ships {
				s.dull = true
			}
		})
		f.kill("n1")
		f.pass(time.Minute)
		if s := f.now(); s.Phase != raftlog.Opening || s.Epoch != 2 {
			t.Errorf("epoch %d is %s", s.Epoch, s.Phase)
		}
	})
}

// Wherever a coordinator ends, alone or with its node, the next one finishes what it began.
func TestCoordinatorEndsAnywhere(t *testing.T) {
	for _, ends := range []string{"cut off", "deposed", "killed"} {
		steps := 0
		for more := true; more; steps++ {
			more = false
			sail(t, "ANY 2 (*)", 5, func(f *fleet) {
				f.change(func() { // n5 has the longest log and may not be primary: somebody must fetch
					f.state.Members[3].Priority = 0
					f.ship("n4").member.Priority = 0
					f.ship("n4").behind = true
				})
				f.pass(100 * time.Millisecond)
				f.kill("n1")
				f.change(func() {
					f.ship("n4").position = raftlog.Position{Epoch: 1, LSN: f.ship("n2").position.LSN + 0x1000}
					f.ship("n4").behind = false
				})
				seen, ended := 0, false
				began := f.count()
				f.change(func() {
					f.hook = func(from int, event string) {
						if from != 4 || event == "reconcile" {
							return
						}
						f.mu.Lock()
						hit := seen == steps
						seen++
						f.mu.Unlock()
						if !hit || ended {
							return
						}
						ended, more = true, true
						switch ends {
						case "killed":
							f.kill("n5")
						case "deposed":
							f.elect(2)
						case "cut off": // leadership is lost, and the coordinator hears of it late
							f.change(func() { f.leader = 2 })
							time.AfterFunc(3*time.Second, func() { f.elect(2) })
						}
					}
				})
				took := f.awaitSteady(1, 2*time.Minute)
				if took > 15*time.Second || !ended && took > 200*time.Millisecond {
					t.Errorf("%s at step %d: took %v", ends, steps, took)
				}
				s := f.now()
				if s.Primary.Position.LSN < f.peek("n4").position.LSN-0x1000 || s.Primary.Name == "n4" {
					t.Errorf("%s at step %d: %+v", ends, steps, s.Primary)
				}
				if !ended && !f.saw(began, "fetch") {
					t.Error("nobody had to fetch")
				}
			})
		}
		if steps < 10 {
			t.Errorf("%s: only %d steps", ends, steps)
		}
	}
}

// What is not provably safe waits and says why, and is done once it is.
func TestRefusedThenDone(t *testing.T) {
	sail(t, "ANY 1 (*)", 5, func(f *fleet) {
		f.kill("n2")
		f.pass(time.Second)
		f.kill("n1")
		f.pass(time.Minute)
		if s := f.now(); s.Phase != raftlog.Sealing || s.Epoch != 1 {
			t.Fatalf("epoch %d is %s", s.Epoch, s.Phase)
		}
		r := f.ship("n5").c.Report()
		if len(r.Lines) == 0 || !strings.Contains(r.Lines[0], "n2") || r.Leader != "n5" || time.Since(r.Since) < 30*time.Second {
			t.Errorf("%+v", r)
		}
		f.start("n2")
		if took := f.awaitSteady(1, time.Minute); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// Somebody accepts the loss: then it is done without the proof, and the loss is written down.
func TestAcceptLoss(t *testing.T) {
	sail(t, "ANY 1 (*)", 5, func(f *fleet) {
		f.change(func() {
			for _, s := range f.ships[2:] {
				s.behind = true
			}
		})
		f.pass(time.Second)
		f.kill("n2")
		f.kill("n1")
		lost := uint64(f.peek("n1").position.LSN - f.peek("n3").position.LSN)
		f.pass(10 * time.Second)
		f.change(func() {
			for _, s := range f.ships[2:] {
				s.behind = false
			}
		})
		reply, err := f.ship("n4").c.Failover(f.t.Context(), FailoverRequest{AcceptLoss: true})
		if err != nil || reply.Epoch != 2 {
			t.Fatalf("%+v, %v", reply, err)
		}
		if reply.LostBytes == 0 || reply.LostBytes > lost || lost-reply.LostBytes > 200 {
			t.Errorf("lost %d bytes of %d", reply.LostBytes, lost)
		}
		if len(reply.Survivors) != 5 || reply.Survivors[1].Answered || reply.Survivors[1].Error == "" || !reply.Survivors[2].Answered {
			t.Errorf("%+v", reply.Survivors)
		}
	})
}

// A member that has promised more is asked for no less.
func TestTargetIsRaised(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.change(func() { f.ship("n2").promised = 7; f.ship("n2").follows = 0 })
		f.kill("n1")
		f.awaitSteady(1, time.Minute)
		if s := f.now(); s.Epoch != 7 || len(s.History) != 2 {
			t.Errorf("%+v, want epoch 7 after epoch 1", s.History)
		}
	})
}

// A winner that cannot fetch what it lacks is passed over.
func TestFetchFails(t *testing.T) {
	sail(t, "ANY 2 (*)", 5, func(f *fleet) {
		tried := map[string]int{}
		f.change(func() {
			f.state.Members[3].Priority = 0
			f.ship("n4").behind = true
			f.fetches = func(s *ship, _ FetchRequest) error {
				if tried[s.member.Name]++; s.member.Name != "n5" {
					return errors.New("no")
				}
				return nil
			}
		})
		f.pass(100 * time.Millisecond)
		f.kill("n1")
		f.change(func() { f.ship("n4").position.LSN += 0x10000; f.ship("n4").behind = false })
		f.awaitSteady(1, time.Minute)
		f.wantPrimary("n5", 2)
		if tried["n2"] > 1 || tried["n3"] > 1 || tried["n5"] != 1 || len(tried) < 2 {
			t.Errorf("%v", tried)
		}
	})
}

// A winner that was started again while it fetched is not named on what it answered before.
func TestFetcherRestarts(t *testing.T) {
	sail(t, "ANY 2 (*)", 5, func(f *fleet) {
		var tried []string
		f.change(func() {
			f.state.Members[3].Priority = 0
			f.ship("n4").behind = true
			f.fetches = func(s *ship, _ FetchRequest) error {
				if tried = append(tried, s.member.Name); len(tried) == 1 {
					s.runID++
				}
				return nil
			}
		})
		f.pass(100 * time.Millisecond)
		f.kill("n1")
		f.change(func() { f.ship("n4").position.LSN += 0x10000; f.ship("n4").behind = false })
		f.awaitSteady(1, time.Minute)
		asked := 0
		f.change(func() {
			for _, e := range f.events {
				if e == "seal n2:5433" {
					asked++
				}
			}
		})
		if s := f.now(); asked < 2 || s.Primary.RunID != f.peek(s.Primary.Name).runID {
			t.Errorf("asked %d times; %v, %+v", asked, tried, s.Primary)
		}
	})
}

// An answer from another disk than Raft lists at the address is none (I9).
func TestAnotherDiskIsNoAnswer(t *testing.T) {
	sail(t, "ANY 1 (*)", 3, func(f *fleet) {
		f.change(func() { f.ship("n2").member.ID = id(9) })
		f.kill("n1")
		f.pass(time.Minute)
		if s := f.now(); s.Phase != raftlog.Sealing {
			t.Errorf("epoch %d is %s", s.Epoch, s.Phase)
		}
		if r := f.ship("n3").c.Report(); len(r.Lines) == 0 || !strings.Contains(strings.Join(r.Lines, "; "), "n2") {
			t.Errorf("%+v", r)
		}
	})
}

// Nor is one from a member at another one's address: a copy of its directory answers there.
func TestAnotherMemberIsNoAnswer(t *testing.T) {
	b := &ballot{failed: make(map[syncrep.ID]error)}
	n2 := raftlog.Member{Name: "n2", ID: id(2), Priority: 5}
	b.take(response{member: n2, answer: raftlog.Answer{ID: id(3), Name: "n3"}})
	if len(b.answers) != 0 || b.failed[id(2)] == nil {
		t.Errorf("%+v", b)
	}
	b.take(response{member: n2, answer: raftlog.Answer{ID: id(2), Name: "formerly", Priority: 9}})
	if len(b.answers) != 1 || b.answers[0].Name != "n2" || b.answers[0].Priority != 5 {
		t.Errorf("%+v", b.answers)
	}
}

// A verdict takes no more and no less than it should.
func TestJudge(t *testing.T) {
	office := raftlog.Office{ID: id(1), Name: "n1", RunID: 5}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	healthy := Health{ID: id(1), RunID: 5, InOffice: true, Epoch: 3}
	with := func(change func(h *Health)) sighting { h := healthy; change(&h); return sighting{health: h} }
	var (
		ok       = sighting{health: healthy}
		idle     = with(func(h *Health) { h.InOffice = false })
		older    = with(func(h *Health) { h.Epoch = 2 })
		again    = with(func(h *Health) { h.RunID = 6 })
		stranger = with(func(h *Health) { h.ID = id(9) })
		refused  = sighting{err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}
		timeout  = sighting{err: errors.New("timeout")}
	)
	tries := map[string]int{"not in office, the third": 3, "not in office, the hundredth": 100}
	type look struct {
		after time.Duration
		what  sighting
		want  verdict
	}
	for name, looks := range map[string][]look{
		"gone, twice":                     {{0, ok, fine}, {1, refused, fine}, {2, refused, dead}},
		"gone, not in a row":              {{0, ok, fine}, {1, refused, fine}, {2, ok, fine}, {3, refused, fine}, {4, timeout, fine}, {5, refused, fine}},
		"somebody else, twice":            {{0, ok, fine}, {1, stranger, fine}, {2, stranger, dead}},
		"started again":                   {{0, ok, fine}, {1, again, dead}},
		"has left":                        {{0, ok, fine}, {1, idle, dead}},
		"took office of an older epoch":   {{0, older, fine}, {1, older, fine}, {2 * time.Second, older, dead}},
		"not in office yet":               {{0, idle, fine}, {1999 * time.Millisecond, idle, fine}, {2 * time.Second, idle, dead}},
		"not in office, the third":        {{2 * time.Second, idle, fine}, {5999 * time.Millisecond, idle, fine}, {6 * time.Second, idle, dead}},
		"not in office, the hundredth":    {{15 * time.Second, idle, fine}, {16 * time.Second, idle, dead}},
		"silent":                          {{0, ok, fine}, {time.Second, timeout, fine}, {2 * time.Second, timeout, silent}},
		"silent from the beginning":       {{time.Second, timeout, fine}, {1999 * time.Millisecond, timeout, fine}, {2 * time.Second, timeout, silent}},
		"silent once, as we stood still":  {{0, ok, fine}, {time.Hour, timeout, fine}, {time.Hour + 1, ok, fine}, {time.Hour + 2, timeout, fine}},
		"silent, answered, silent":        {{0, timeout, fine}, {time.Second, ok, fine}, {2 * time.Second, timeout, fine}, {2900 * time.Millisecond, timeout, fine}},
		"started again before it started": {{0, again, dead}},
	} {
		v := &vigil{epoch: 3, office: office, since: begin, heard: begin, tries: tries[name]}
		v.tries = max(v.tries, 1)
		for i, l := range looks {
			if got, why := v.judge(l.what, begin.Add(l.after), 2*time.Second); got != l.want || (got != fine) != (why != "") {
				t.Errorf("%s: look %d: %d %q, want %d", name, i, got, why, l.want)
			}
		}
	}
}

// Only a stream of this epoch that is not silent itself speaks for a primary, and only of a member.
func TestHears(t *testing.T) {
	good := Health{ID: id(2), StreamEpoch: 3, StreamSilence: time.Second}
	for want, healths := range map[bool][]Health{
		true: {good, {ID: id(2), StreamEpoch: 3}, {ID: id(2), StreamEpoch: 3, StreamSilence: 2*time.Second - 1}},
		false: {
			{ID: id(9), StreamEpoch: 3, StreamSilence: time.Second},
			{ID: id(2), StreamEpoch: 2, StreamSilence: time.Second},
			{ID: id(2), StreamEpoch: 3, StreamSilence: -1},
			{ID: id(2), StreamEpoch: 3, StreamSilence: 2 * time.Second},
		},
	} {
		for _, h := range healths {
			if h.hears(id(2), 3, 2*time.Second) != want {
				t.Errorf("%+v: %t", h, !want)
			}
		}
	}
}

// Raft's leadership moves off the primary, and does not bounce if it keeps coming back.
func TestLeaderStepsAside(t *testing.T) {
	sail(t, majority, 3, func(f *fleet) {
		f.elect(0)
		f.pass(time.Second)
		if f.ship("n1").c.cfg.Raft.IsLeader() || f.movesSoFar() != 1 {
			t.Fatalf("%d moves", f.movesSoFar())
		}
		for range 300 {
			f.elect(0)
			f.pass(time.Second)
		}
		if f.movesSoFar() < 5 || f.movesSoFar() > 15 {
			t.Errorf("%d moves in five minutes", f.movesSoFar())
		}
		f.wantPrimary("n1", 1)
	})
}

// Alone, there is nobody to step aside for.
func TestLeaderAloneStays(t *testing.T) {
	sail(t, majority, 1, func(f *fleet) {
		f.pass(time.Minute)
		if f.movesSoFar() != 0 {
			t.Errorf("%d moves", f.movesSoFar())
		}
	})
}
