package election

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/raftlog"
)

// A new primary shows and acknowledges nothing before Raft holds its epoch as steady, and Raft does so
// only once the first record is held under the opening rule and old leases have run out (I1, I5).
func TestKeeperOpensWhenSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "ANY 1 (*)", 3)
		w.raft.lag = true
		w.start(300 * time.Millisecond)
		w.write(0x200)
		w.stream(2, 0xff)
		w.pass(time.Second)
		if len(w.raft.proposed) > 0 {
			t.Errorf("proposed %v below the end of the first record", w.raft.proposed)
		}
		w.flush(2, 0x150)
		w.wantRule("1 of [2 3]")
		w.wantHorizon(0)
		if w.opened != 0 {
			t.Error("opened before this node saw the epoch steady")
		}
		w.raft.setLag(false)
		w.wantHorizon(0x150)
		if w.opened != 1 {
			t.Errorf("opened %d times", w.opened)
		}
		w.check()
	})
}

// The wait for old leases begins with Run.
func TestKeeperWaitsForLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "ANY 1 (*)", 3)
		w.start(time.Second)
		w.pass(400 * time.Millisecond)
		w.stream(2, 0x100)
		w.pass(599 * time.Millisecond)
		w.wantRule("opening 1 of [2 3]")
		w.wantHorizon(0)
		w.pass(time.Millisecond)
		w.wantRule("1 of [2 3]")
		w.wantHorizon(0x100)
	})
}

// Once steady, nothing is released below the end of the first record, even if it was held before and is
// not any more.
func TestKeeperHoldsAtFirstRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "ANY 1 (*)", 3)
		w.raft.lag = true
		w.start(0)
		w.stream(2, 0x100)
		w.leave(2)
		w.raft.setLag(false)
		w.stream(3, 0x80)
		w.wantHorizon(0)
		w.flush(3, 0x100)
		w.wantHorizon(0x100)
	})
}

// The founder of a cluster has nothing to wait for.
func TestKeeperFounder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "ANY MAJORITY (*)", 1)
		w.start(0)
		w.write(0x50)
		w.wantHorizon(0x50)
		if w.opened != 1 {
			t.Errorf("opened %d times", w.opened)
		}
	})
}

func TestKeeperNeedsFirstRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, "", 1)
		w.first = 0
		w.start(0)
		if err := <-w.ended; err == nil {
			t.Error("ran in a promoted epoch without a first record")
		}
	})
}

// An office that was given to another process of this node is not its own.
func TestKeeperOfAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, "", 1)
		w.raft.state.Primary.RunID++
		w.start(0)
		w.pass(time.Minute)
		w.wantHorizon(0)
		if len(w.raft.proposed) > 0 || w.opened > 0 {
			t.Errorf("acted in another process's office: %v", w.raft.proposed)
		}
	})
}

// A later epoch, or promises that are collected for one, end the reign; nothing is released any more.
func TestKeeperDeposed(t *testing.T) {
	for name, later := range map[string]func(*raftlog.State){
		"sealing": func(s *raftlog.State) { s.Phase, s.Target = raftlog.Sealing, 4 },
		"named":   func(s *raftlog.State) { s.Epoch, s.Phase, s.Opening = 4, raftlog.Opening, &raftlog.Rule{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, "", 1)
				w.start(0)
				w.write(0x50)
				w.raft.edit(later)
				if err := <-w.ended; !errors.Is(err, ErrDeposed) {
					t.Errorf("Run() = %v", err)
				}
				if len(w.deposed) != 1 || w.deposed[0] != 4 {
					t.Errorf("deposed by %v, want 4 once", w.deposed)
				}
				w.write(0x60)
				w.wantHorizon(0x50)
			})
		})
	}
}

// A proposal under way does not keep a reign from ending.
func TestKeeperDeposedWhileProposing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, "", 1)
		w.raft.answer(func(raftlog.Command) (apply, answer bool) { return false, false })
		w.start(0)
		start := time.Now()
		w.raft.edit(func(s *raftlog.State) { s.Phase, s.Target = raftlog.Sealing, 3 })
		<-w.ended
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// Without a majority of Raft everything stays as it is, and commits go on (I10).
func TestKeeperWithoutRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "FIRST 1 (n2, n3)", 3)
		w.raft.answer(func(raftlog.Command) (apply, answer bool) { return false, false })
		w.start(0)
		w.write(0x50)
		w.stream(2, 0x50)
		w.stream(3, 0x50)
		w.set("")
		w.pass(time.Minute)
		w.wantRule("1 of [2]")
		w.write(0x60)
		w.wantHorizon(0x50)
		w.flush(2, 0x60)
		w.wantHorizon(0x60)
		w.leave(2)
		w.write(0x70)
		w.flush(3, 0x70)
		w.pass(time.Minute)
		w.wantHorizon(0x60)
		w.check()
	})
}

// Of FIRST k one that is gone is replaced while the epoch opens, in one step, after a pause (H8).
func TestKeeperReplacesOpeningRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "FIRST 1 (*)", 4)
		w.start(0)
		w.stream(3, 0x100)
		w.pass(openPause - time.Millisecond)
		w.wantRule("opening 1 of [2]")
		w.pass(time.Millisecond)
		w.wantRule("1 of [3]")
		w.wantHorizon(0x100)
		if b, ok := w.raft.proposed[0].(*raftlog.OpeningRule); !ok || b.Version != 2 {
			t.Errorf("proposed %v", w.raft.proposed)
		}
	})
}

// ANY and MAJORITY ask for no fewer while an epoch opens: it waits.
func TestKeeperOpeningRuleIsNotWeakened(t *testing.T) {
	for _, text := range []string{"ANY MAJORITY (*)", "ANY 2 (*)", "FIRST 2 (*)"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 3, text, 5)
			w.start(0)
			w.stream(5, 0x100)
			w.pass(time.Minute)
			if w.opened > 0 || w.horizon() > 0 {
				t.Errorf("%s: opened with one of two", text)
			}
			w.stream(4, 0x100)
			w.pass(time.Minute)
			if w.opened != 1 {
				t.Errorf("%s: did not open", text)
			}
			w.check()
		})
	}
}

// An opening rule that was replaced while steady was proposed is not the one that becomes steady unseen:
// what is released is released under the rule that Raft holds.
func TestKeeperSteadyUnderReplacedRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "ANY 1 (*)", 5)
		w.raft.lag = true
		w.raft.answer(func(raftlog.Command) (apply, answer bool) { return false, false })
		w.start(0)
		w.stream(2, 0x100)
		w.text = "ANY 2 (*)"
		w.raft.edit(func(s *raftlog.State) {
			s.Opening = &raftlog.Rule{Version: 3, Text: "ANY 2 (*)", Resolved: w.resolve(s, "ANY 2 (*)")}
		})
		w.raft.late(0)
		w.wantRule("opening 2 of [2 3 4 5]")
		w.raft.answer(nil)
		w.raft.setLag(false)
		w.pass(time.Minute)
		w.wantHorizon(0)
		w.stream(4, 0x100)
		w.pass(time.Minute)
		w.wantHorizon(0x100)
		w.check()
	})
}

// The rules come before the release, though the epoch turns out to be steady under others than those it
// was opening with here.
func TestKeeperSteadyUnderAnotherRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "ANY 1 (*)", 5)
		w.raft.answer(func(raftlog.Command) (apply, answer bool) { return false, false })
		w.start(0)
		w.stream(2, 0x100)
		w.raft.edit(func(s *raftlog.State) {
			s.Phase, s.Opening = raftlog.Steady, nil
			s.Rule = raftlog.Rule{Version: 3, Text: "ANY 2 (*)", Resolved: w.resolve(s, "ANY 2 (*)")}
		})
		w.wantHorizon(0)
		w.stream(3, 0x100)
		w.wantHorizon(0x100)
	})
}
