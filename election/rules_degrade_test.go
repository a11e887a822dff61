package election

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

const degradeAfter = 30 * time.Second

func (w *world) wantDebt(want syncrep.Debt, owes bool) {
	w.t.Helper()
	if got, ok := w.group.Debt(); got != want || ok != owes {
		w.t.Errorf("debt %+v, %v, want %+v, %v", got, ok, want, owes)
	}
}

// The way there and back: two dead of two that ANY 2 lists, of five members. Each way is joint (I2).
func TestKeeperDegrades(t *testing.T) {
	inBubble(t, "ANY 2 (n2, n3)", func(w *world) {
		w.raft.forget()
		w.fallBack(raftlog.Fallback{Degrade: true, After: degradeAfter})
		w.leave(2)
		w.leave(3)
		w.pass(time.Hour) // nothing waits
		w.idle.Store(true)
		w.write(0x58)
		w.pass(time.Hour) // nor do heartbeats
		w.wantSteps()
		w.idle.Store(false)
		w.pass(time.Second)
		w.write(0x60)
		w.pass(degradeAfter - time.Second)
		w.wantHorizon(0x50)
		w.wantSteps()
		w.pass(3 * time.Second)
		w.wantHorizon(0x60)
		w.wantSteps("2 of [2 3] + degraded", "degraded")
		w.wantDebt(syncrep.Debt{From: 0x50, Bytes: 0x10}, true)
		mark := w.raft.now().Debt()
		if mark == nil || mark.From != 0x50 || w.raft.now().Rule.Text != "ANY 2 (n2, n3)" {
			w.t.Errorf("Raft holds %+v", w.raft.now().Rule)
		}
		w.write(0x70)
		w.wantHorizon(0x70)

		w.stream(2, 0x50)
		w.pass(time.Minute)
		w.wantSteps()
		w.stream(3, 0x50) // enough stream: commits wait for them
		w.pass(time.Second)
		w.wantSteps("degraded + 2 of [2 3]")
		w.wantDebt(syncrep.Debt{From: 0x50, Bytes: 0x20}, true)
		w.write(0x80)
		w.wantHorizon(0x70)
		w.flush(2, 0x80)
		w.flush(3, 0x70)
		w.pass(time.Second)
		w.wantSteps("2 of [2 3]")
		w.wantDebt(syncrep.Debt{}, false)
		w.flush(3, 0x80)
		w.wantHorizon(0x80)
	})
}

// An epoch that is steady, and of which nothing could be released yet, owes nothing before its first record: all that
// is older is held under the rules before. Its cap is counted from there.
func TestKeeperDegradesAtFirstRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "ANY 1 (*)", 2)
		w.fall = raftlog.Fallback{Degrade: true, After: degradeAfter, Limit: 0x10}
		w.raft.lag = true
		w.start(0)
		w.stream(2, 0x100)
		w.leave(2)
		w.raft.setLag(false)
		w.wantHorizon(0)
		w.pass(degradeAfter + 3*time.Second)
		w.write(0x200)
		w.pass(time.Second)
		w.wantHorizon(0x110)
		w.wantDebt(syncrep.Debt{From: 0x100, Bytes: 0x10}, true)
	})
}

// Nothing but synchronous_mode makes it so.
func TestKeeperRequires(t *testing.T) {
	inBubble(t, "ANY 2 (n2, n3)", func(w *world) {
		w.raft.forget()
		w.leave(2)
		w.write(0x60)
		w.pass(time.Hour)
		w.wantHorizon(0x50)
		w.wantSteps()
	})
}

// Who streams is waited for, however slow: the end of a stream, or wal_sender_timeout, tells that somebody is lost.
func TestKeeperWaitsForTheSlow(t *testing.T) {
	inBubble(t, "ANY 2 (n2, n3)", func(w *world) {
		w.raft.forget()
		w.fallBack(raftlog.Fallback{Degrade: true, After: degradeAfter})
		w.write(0x60)
		w.pass(time.Hour)
		w.wantHorizon(0x50)
		w.wantSteps()
		w.leave(2)
		w.pass(degradeAfter + 3*time.Second)
		w.wantHorizon(0x60)
	})
}

// Who comes back in time, or changes the mode back, starts the clock anew.
func TestKeeperDegradesLate(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.raft.forget()
		w.fallBack(raftlog.Fallback{Degrade: true, After: degradeAfter})
		w.leave(2)
		w.write(0x60)
		w.pass(degradeAfter - time.Second)
		w.stream(2, 0x60)
		w.pass(2 * time.Second)
		w.leave(2)
		w.write(0x70)
		w.pass(degradeAfter - time.Second)
		w.wantSteps()
		w.wantHorizon(0x60)
	})
}

// synchronous_mode = required, while it is degraded: commits wait from then on, and the debt lasts until
// they do not.
func TestKeeperRequiresAgain(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.fallBack(raftlog.Fallback{Degrade: true})
		w.leave(2)
		w.write(0x60)
		w.pass(3 * time.Second)
		w.wantHorizon(0x60)
		w.raft.forget()
		w.fallBack(raftlog.Fallback{})
		w.pass(time.Second)
		w.wantSteps("degraded + 1 of [2]")
		w.write(0x70)
		w.pass(2 * backOffMax)
		w.wantSteps()
		w.wantHorizon(0x60)
		w.wantDebt(syncrep.Debt{From: 0x50, Bytes: 0x10}, true)
		w.stream(2, 0x70)
		w.pass(time.Second)
		w.wantSteps("1 of [2]")
		w.wantHorizon(0x70)
		w.wantDebt(syncrep.Debt{}, false)
	})
}

// Bounded: the debt ends at the limit, whatever is written; a higher limit applies at once.
func TestKeeperBounded(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.fallBack(raftlog.Fallback{Degrade: true, Limit: 0x20})
		w.leave(2)
		w.write(0x90) // more than may be let go at once
		w.pass(3 * time.Second)
		w.wantHorizon(0x70)
		w.write(0xA0)
		w.pass(time.Hour)
		w.wantHorizon(0x70)
		w.wantDebt(syncrep.Debt{From: 0x50, Bytes: 0x20}, true)
		w.fallBack(raftlog.Fallback{Degrade: true, Limit: 0x30})
		w.wantHorizon(0x80)
		w.stream(2, 0xA0)
		w.pass(time.Second)
		w.wantHorizon(0xA0)
		w.wantDebt(syncrep.Debt{}, false)
	})
}

// A change that nobody can meet any more does not keep commits waiting.
func TestKeeperDegradesJoint(t *testing.T) {
	inBubble(t, "ANY 1 (n2)", func(w *world) {
		w.fallBack(raftlog.Fallback{Degrade: true, After: time.Second})
		w.write(0x60)
		w.flush(2, 0x60)
		w.set("ANY 1 (n3)")
		w.pass(time.Second)
		w.wantRule("1 of [2] + 1 of [3]")
		w.leave(2)
		w.leave(3)
		w.write(0x70)
		w.pass(time.Minute)
		w.wantRule("degraded")
		w.wantHorizon(0x70)
	})
}

// A primary that begins an epoch that cannot open: after degradeAfter; at once if it was degraded in the epoch
// before, with the debt it had. Another's debt, the loss of which was accepted, is not its own.
func TestKeeperDegradesOpening(t *testing.T) {
	old := &raftlog.Degraded{Since: time.Unix(1, 0), From: 0x20}
	for _, test := range []struct{ before, debt *raftlog.Degraded }{{nil, nil}, {old, old}, {old, nil}} {
		debt := test.debt
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2, "ANY 2 (n2, n3)", 5)
			w.raft.state.Primary.Position.LSN = 0x90
			w.raft.state.Rule.Degraded, w.raft.state.SteadyPrimary = test.before, id(1)
			if test.before != debt {
				w.raft.state.SteadyPrimary = id(4)
			}
			w.fall = raftlog.Fallback{Degrade: true, After: degradeAfter, Limit: 0x10}
			w.start(0)
			w.pass(openPause + time.Second)
			from := wal.LSN(0x90)
			if debt != nil {
				from = debt.From
			} else {
				w.wantRule("opening 2 of [2 3]")
				w.pass(degradeAfter)
			}
			w.wantRule("degraded")
			w.wantHorizon(0x100) // the first record is not held back by the limit
			if got := w.raft.now().Debt(); got == nil || got.From != from || debt != nil && !got.Since.Equal(debt.Since) {
				t.Errorf("debt in Raft: %+v", got)
			}
			w.stream(2, 0x100)
			w.stream(3, 0x100)
			w.pass(time.Second)
			w.wantRule("2 of [2 3]")
		})
	}
}
