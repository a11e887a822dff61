package election

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// inBubble runs a test with a founder of five, so that a majority does not cover for a rule of k = 1: all
// have the log up to 0/50, and all stream.
func inBubble(t *testing.T, text string, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, text, 5)
		w.start(0)
		w.write(0x50)
		for n := 2; n <= 5; n++ {
			w.stream(n, 0x50)
		}
		w.pass(time.Minute)
		w.wantHorizon(0x50)
		test(w)
		w.check()
	})
}

// wantSteps compares the rules that Raft held since the last call.
func (w *world) wantSteps(want ...string) {
	w.t.Helper()
	if got := w.raft.forget(); !slices.Equal(got, want) {
		w.t.Errorf("Raft held\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// While a rule changes, acknowledgements satisfy both, and the new one stands alone only once all that was
// released is held under it (I2; mutants ackOldOnly, noConfirm, noHold).
func TestKeeperJoint(t *testing.T) {
	inBubble(t, "ANY 1 (n2, n3)", func(w *world) {
		w.leave(4)
		w.leave(5)
		w.write(0x60)
		w.flush(2, 0x60)
		w.stream(4, 0x50)
		w.set("ANY 1 (n4)")
		w.pass(time.Second)
		w.wantRule("1 of [2 3] + 1 of [4]")
		w.write(0x70)
		w.flush(2, 0x70)
		w.wantHorizon(0x60) // n4 does not have 0/70
		w.check()
		w.flush(4, 0x5f)
		w.pass(time.Second)
		w.wantRule("1 of [2 3] + 1 of [4]")
		w.check()
		w.flush(4, 0x60)
		w.pass(jointPoll)
		w.wantRule("1 of [4]")
		w.check()
		w.write(0x80)
		w.flush(2, 0x80)
		w.wantHorizon(0x60)
		w.flush(4, 0x80)
		w.wantHorizon(0x80)
	})
}

// A rule is used when Raft holds it, not before (mutant onestepPrimary).
func TestKeeperUsesWhatRaftHolds(t *testing.T) {
	inBubble(t, "ANY 2 (*)", func(w *world) {
		w.raft.answer(func(raftlog.Command) (apply, answer bool) { return false, false })
		w.set("ANY 1 (n2)")
		w.pass(time.Second)
		w.write(0x60)
		w.flush(2, 0x60)
		w.wantHorizon(0x50)
		w.check()

		// Raft has both, which nobody here has heard of: the old one is enough.
		w.raft.setLag(true)
		w.raft.answer(nil)
		w.raft.late(0)
		w.wantRule("2 of [2 3 4 5] + 1 of [2]")
		w.flush(3, 0x60)
		w.wantHorizon(0x60)
		w.check()

		// It takes this node to hear of both for Raft to have the new one alone.
		w.pass(time.Minute)
		w.wantRule("2 of [2 3 4 5] + 1 of [2]")
		w.raft.setLag(false)
		w.pass(time.Minute)
		w.wantRule("1 of [2]")
	})
}

// Until this node hears that the new rule stands alone, it acknowledges under both.
func TestKeeperHearsOfNewAloneLate(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.raft.answer(func(c raftlog.Command) (apply, answer bool) {
			_, end := c.(*raftlog.RuleEnd)
			w.raft.lag = end
			return true, true
		})
		w.set("ANY 1 (n3)")
		w.pass(time.Second)
		w.wantRule("1 of [3]")
		w.write(0x60)
		w.flush(3, 0x60)
		w.wantHorizon(0x50)
		w.raft.setLag(false)
		w.wantHorizon(0x60)
	})
}

// The horizon that the new rule has to hold is one of this epoch: right after a failover the primary's own
// may lie below what older epochs acknowledged (hole H2).
func TestKeeperHorizonOfThisEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "FIRST 1 (*)", 5)
		w.raft.lag = true
		w.start(0)
		w.stream(2, 0x100) // its acknowledgement makes the epoch steady, and it is gone before anybody hears
		w.leave(2)
		w.raft.setLag(false)
		w.wantRule("1 of [2]")
		w.wantHorizon(0)
		w.stream(3, 0xff)
		w.pass(jointTimeout - time.Second)
		w.wantRule("1 of [2] + 1 of [3]")
		w.check()
		w.flush(3, 0x100)
		w.pass(jointPoll)
		w.wantRule("1 of [3]")
		w.wantHorizon(0x100)
		w.check()
	})
}

// From one to three to five and back, with overlap at every step.
func TestKeeperGrowsAndShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "ANY MAJORITY (*)", 1)
		w.start(0)
		w.write(0x50)
		grow := func(nodes ...int) {
			for _, n := range nodes {
				w.join(n, "n"+string(rune('0'+n)))
				w.pass(time.Second)
			}
			for _, n := range nodes {
				w.stream(n, 0x50)
			}
			w.pass(time.Second)
			w.check()
		}
		shrink := func(n int) {
			w.remove(n)
			w.pass(time.Second)
			w.leave(n)
			w.check()
		}
		grow(2)
		w.wantSteps("0 of []", "0 of [] + 1 of [2]", "1 of [2]")
		grow(3)
		w.wantSteps("1 of [2]", "1 of [2] + 1 of [2 3]", "1 of [2 3]")
		grow(4, 5)
		w.wantSteps("1 of [2 3]", "1 of [2 3] + 2 of [2 3 4 5]", "2 of [2 3 4 5]")
		shrink(4)
		w.wantSteps("2 of [2 3 4 5]", "2 of [2 3 4 5] + 2 of [2 3 5]", "2 of [2 3 5]")
		shrink(2)
		w.wantSteps("2 of [2 3 5]", "2 of [2 3 5] + 1 of [3 5]", "1 of [3 5]")
		shrink(5)
		shrink(3)
		w.wantSteps("1 of [3 5]", "1 of [3 5] + 1 of [3]", "1 of [3]", "1 of [3] + 0 of []", "0 of []")
		if n := len(w.raft.now().Members); n != 1 {
			t.Errorf("%d members are left, want 1", n)
		}
		w.write(0x60)
		w.wantHorizon(0x60)
	})
}

// The last of two is removed for good after it died: the primary goes on alone.
func TestKeeperShrinksWithoutTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "ANY MAJORITY (*)", 2)
		w.start(0)
		w.write(0x50)
		w.pass(time.Minute)
		w.wantHorizon(0)
		w.remove(2)
		w.pass(time.Second)
		w.wantRule("0 of []")
		w.wantHorizon(0x50)
	})
}

// A node that was replaced counts until the one that has its name now does: they change places in one step.
func TestKeeperReplacedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "ANY MAJORITY (*)", 3)
		w.start(0)
		w.write(0x50)
		w.stream(2, 0x50)
		w.raft.forget()
		w.join(4, "n3")
		w.remove(3)
		w.pass(time.Minute)
		w.wantSteps("1 of [2 3]")
		w.stream(4, 0x50)
		w.pass(time.Second)
		w.wantSteps("1 of [2 3] + 1 of [2 4]", "1 of [2 4]")
		if got, want := countedIDs(w.raft.now()), []syncrep.ID{id(1), id(2), id(4)}; !slices.Equal(got, want) {
			t.Errorf("counted %v, want %v", got, want)
		}
	})
}

// No new rule may list one that leaves: when something else is to change meanwhile, it goes first.
func TestKeeperReplacedNodeGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "ANY MAJORITY (*)", 3)
		w.start(0)
		w.write(0x50)
		w.stream(2, 0x50)
		w.raft.forget()
		w.join(4, "n3")
		w.remove(3)
		w.join(5, "n5")
		w.stream(5, 0x50)
		w.pass(time.Second)
		w.wantSteps("1 of [2 3]", "1 of [2 3] + 1 of [2 5]", "1 of [2 5]")
		w.stream(4, 0x50)
		w.pass(time.Second)
		w.wantSteps("1 of [2 5] + 2 of [2 4 5]", "2 of [2 4 5]")
	})
}

// Of FIRST k one that is gone is replaced by another, though it cannot confirm that any more: the new one
// alone has to hold what was released. A better one takes over when it is there again.
func TestKeeperPinsAnew(t *testing.T) {
	inBubble(t, "FIRST 1 (*)", func(w *world) {
		w.wantRule("1 of [2]")
		w.raft.forget()
		w.leave(2)
		w.write(0x60)
		w.flush(3, 0x60)
		w.wantHorizon(0x50)
		w.pass(urgentSettle)
		w.wantSteps("1 of [2] + 1 of [3]", "1 of [3]")
		w.wantHorizon(0x60)
		w.check()
		w.stream(2, 0x50)
		w.pass(changeSettle)
		w.wantRule("1 of [3] + 1 of [2]")
		w.check()
		w.flush(2, 0x60)
		w.pass(jointPoll)
		w.wantRule("1 of [2]")
	})
}

// One that comes and goes does not make the rule change each time.
func TestKeeperDoesNotFlap(t *testing.T) {
	inBubble(t, "FIRST 1 (n3, n2)", func(w *world) {
		w.leave(3)
		w.pass(time.Second)
		w.wantRule("1 of [2]")
		w.raft.forget()
		for range 100 {
			w.stream(3, 0x50)
			w.pass(changeSettle / 2)
			w.leave(3)
			w.pass(changeSettle / 2)
		}
		w.wantSteps()
	})
}

// A short absence of the pinned standby changes nothing.
func TestKeeperPatience(t *testing.T) {
	inBubble(t, "FIRST 1 (*)", func(w *world) {
		w.raft.forget()
		w.leave(2)
		w.pass(urgentSettle / 2)
		w.stream(2, 0x50)
		w.pass(time.Minute)
		w.wantSteps()
	})
}

// A change that holds up commits is called off when they could go on without it, and not tried again at
// once.
func TestKeeperCallsOff(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.write(0x60)
		w.flush(2, 0x60)
		w.raft.forget()
		w.set("ANY 1 (n3)") // which hangs at 0/50
		w.pass(time.Second)
		w.write(0x70)
		w.flush(2, 0x70)
		w.pass(jointTimeout - 2*time.Second)
		w.wantHorizon(0x60)
		w.pass(2 * time.Second)
		w.wantSteps("1 of [2] + 1 of [3]", "1 of [2]")
		w.wantHorizon(0x70)
		w.check()
		w.pass(backOffMin - 2*time.Second)
		w.wantSteps()
		w.pass(5 * time.Second)
		w.wantRule("1 of [2] + 1 of [3]")
		w.pass(jointTimeout)
		w.raft.forget()
		w.pass(2*backOffMin - 5*time.Second)
		w.wantSteps()
		w.set("ANY 1 (n4, n5)") // this was not tried yet
		w.write(0x80)
		w.flush(4, 0x80)
		w.pass(time.Second)
		w.wantRule("1 of [4 5]")
		w.check()
	})
}

// A change is called off once, however long Raft takes to hear of it.
func TestKeeperCallsOffOnce(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.raft.answer(func(c raftlog.Command) (apply, answer bool) {
			_, cancel := c.(*raftlog.RuleCancel)
			return !cancel, !cancel
		})
		w.write(0x60)
		w.flush(2, 0x60)
		w.set("ANY 1 (n3)")
		w.pass(time.Minute)
		w.raft.late(0)
		w.wantRule("1 of [2]")
		w.pass(proposeTimeout + time.Second)
		w.wantRule("1 of [2] + 1 of [3]")
	})
}

// A change is not called off when that would not let commits go on, unless something else would.
func TestKeeperCallsOffForSomethingElse(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.write(0x60)
		w.flush(2, 0x60)
		w.set("ANY 1 (n3)")
		w.pass(time.Second)
		w.leave(2)
		w.pass(time.Minute)
		w.wantRule("1 of [2] + 1 of [3]")
		w.set("")
		w.pass(2 * time.Second)
		w.wantRule("0 of []")
	})
}

// What is held under the new rule is so for good, on disks: the change can end though nobody is there.
func TestKeeperEndsWhatWasHeld(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.raft.answer(func(c raftlog.Command) (apply, answer bool) {
			_, end := c.(*raftlog.RuleEnd)
			return !end, !end
		})
		w.leave(2)
		w.set("ANY 1 (n3)")
		w.pass(time.Second)
		w.leave(3)
		w.stream(2, 0x50)
		w.pass(time.Minute)
		w.wantRule("1 of [2] + 1 of [3]")
		w.raft.late(0)
		w.wantRule("1 of [3]")
	})
}

// Another rule with the same version may take a change's place unseen: it has to be confirmed anew.
func TestKeeperComparesRulesWhole(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.write(0x60)
		w.flush(2, 0x60)
		w.set("ANY 1 (n3)")
		w.pass(time.Second)
		w.raft.edit(func(s *raftlog.State) {
			other := *s.Joint
			other.Listed = []syncrep.Listed{{ID: id(4), Name: "n4"}}
			s.Joint = &other
		})
		w.flush(3, 0x70)
		w.pass(time.Second)
		w.wantRule("1 of [2] + 1 of [4]")
		w.check()
	})
}

// A rule that nobody meets is not begun, since commits would wait for it; it is as soon as it can be met.
func TestKeeperDoesNotBeginInVain(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.leave(3)
		w.raft.forget()
		w.set("ANY 1 (n3)")
		w.pass(time.Minute)
		w.wantSteps()
		w.stream(3, 0x50)
		w.pass(time.Second)
		w.wantSteps("1 of [2] + 1 of [3]", "1 of [3]")
		w.set("ANY 1 (archive)")
		w.pass(time.Minute)
		w.wantSteps()
		h := w.group.Join("Archive", syncrep.ID{})
		h.SetState(syncrep.Streaming)
		h.Report(0x50, 0x50, 0x50) // nobody kicks for a receiver
		w.pass(lookAgain)
		w.wantSteps("1 of [3] + 1 of [0]", "1 of [0]")
		w.set("not a (rule")
		w.pass(time.Minute)
		w.wantSteps()
	})
}

// Who moves to another zone counts there once a change of the rule says so, joint as any other: until then
// the zones are those that a seal goes by (I2, I4).
func TestKeeperMovesZone(t *testing.T) {
	inBubble(t, "ANY 2 (*) ZONES 2", func(w *world) {
		w.leave(3) // it was alone in zone c
		w.leave(4)
		w.move(5, "a") // where n4 is; n2 is in b
		w.write(0x60)
		w.flush(2, 0x60)
		w.wantHorizon(0x50)
		w.flush(5, 0x60)
		w.wantHorizon(0x50) // in the rule, it still is where n2 is
		w.check()
		w.pass(time.Second)
		w.wantSteps("2 in 2 zones of [2b 3c 4a 5b]",
			"2 in 2 zones of [2b 3c 4a 5b] + 2 in 2 zones of [2b 3c 4a 5a]", "2 in 2 zones of [2b 3c 4a 5a]")
		w.wantHorizon(0x60)
	})
	inBubble(t, "ANY 2 (*)", func(w *world) {
		w.raft.forget()
		w.move(5, "a")
		w.pass(time.Minute)
		w.wantSteps("2 of [2 3 4 5]") // only a rule that asks for zones cares
	})
}

// A text that means the same is agreed on too: the next epoch's rule is made from it.
func TestKeeperRecordsText(t *testing.T) {
	inBubble(t, "ANY MAJORITY (*)", func(w *world) {
		w.set("ANY 2 (*)")
		w.pass(time.Second)
		if got := w.raft.now().Rule.Text; got != "ANY 2 (*)" {
			w.t.Errorf("text in Raft: %q", got)
		}
	})
}

// Read leases ask for a majority of those that count (I11).
func TestKeeperTellsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "ANY 1 (n2)", 3)
		w.start(0)
		w.write(0x50)
		w.stream(2, 0x50)
		promise := func() bool {
			w.disks[id(2)].handle.Promise(time.Now().Add(time.Second))
			return time.Now().Before(w.group.Lease())
		}
		if !promise() {
			t.Error("two of three promised: there is no lease")
		}
		w.join(4, "n4")
		w.join(5, "n5")
		w.stream(4, 0x50)
		w.stream(5, 0x50)
		w.pass(2 * time.Second)
		if promise() {
			t.Error("two of five promised: there is a lease")
		}
	})
}
