package slots

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/internal/wallclock"
)

// inactive is for how long nobody has used a slot, -1 if it is in use.
func inactive(t *testing.T, s *Slots, name string) time.Duration {
	t.Helper()
	slot, ok := s.Get(name)
	if !ok {
		t.Fatalf("slot %s is not there", name)
	}
	if slot.InactiveSince.IsZero() {
		return -1
	}
	return time.Since(slot.InactiveSince)
}

// inactive_since is from the end of the last use, or from creation; a failed DROP is no use.
func TestInactiveSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, vfs.NewMem())
		create(t, s, "a", 100)
		time.Sleep(time.Minute)
		if got := inactive(t, s, "a"); got != time.Minute {
			t.Errorf("inactive for %s, want 1m", got)
		}
		h := acquire(t, s, "a", 1)
		if got := inactive(t, s, "a"); got != -1 {
			t.Errorf("while in use: inactive for %s", got)
		}
		time.Sleep(time.Minute)
		h.Release()
		time.Sleep(time.Hour)
		if err := s.Claim(t.Context(), "a", 2, false); err != nil {
			t.Fatal(err)
		}
		s.Unclaim("a", 2)
		if got := inactive(t, s, "a"); got != time.Hour {
			t.Errorf("inactive for %s, want 1h", got)
		}
	})
}

// A slot that nobody has used for long enough is invalidated; one in use, or one that reserves nothing,
// never is, nor one just given up.
func TestInvalidateIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(vfs.NewMem(), dir, 5)
		if err != nil {
			t.Fatal(err)
		}
		create(t, s, "idle", 100)
		create(t, s, "none", 0)
		create(t, s, "used", 90)
		create(t, s, "fresh", 110)
		create(t, s, "behind", 50)
		acquire(t, s, "used", 1)
		acquire(t, s, "fresh", 2)
		time.Sleep(time.Minute)
		s.ReleaseAll(2)
		const timeout = time.Minute
		if lost, err := s.Invalidate(Cutoff{IdleSince: time.Now().Add(-timeout)}); err != nil || len(lost) != 0 {
			t.Errorf("after exactly the timeout: %v, %v", lost, err)
		}
		time.Sleep(time.Second)
		lost, err := s.Invalidate(Cutoff{Before: 60, IdleSince: time.Now().Add(-timeout)})
		if err != nil || len(lost) != 2 ||
			lost[0] != (Invalidated{Name: "idle", Restart: 100, Reason: IdleTimeout, Idle: 61 * time.Second}) ||
			lost[1] != (Invalidated{Name: "behind", Restart: 50, Reason: WALRemoved, Idle: 61 * time.Second}) {
			t.Errorf("lost %+v, %v", lost, err)
		}
		if slot, _ := s.Get("idle"); slot.Reason != IdleTimeout || !slot.Decided || slot.InvalidatedAt != 100 {
			t.Errorf("%+v", slot)
		}
		acquire(t, s, "idle", 3).Advance(105) // back in time: its WAL is there
		if slot, _ := s.Get("idle"); slot.Reason != "" || slot.Decided || slot.Restart != 105 {
			t.Errorf("revived: %+v", slot)
		}
	})
}

// For how long a slot has been idle is not what the machine's clock says: set ahead it takes no slot, set back
// it spares none. What the cluster says of a slot counts from when this process hears of it, once.
func TestInvalidateIdleWhenClockIsSet(t *testing.T) {
	set := wallclock.Rerun(t)
	if set == nil {
		return
	}
	s := open(t, vfs.NewMem())
	since := time.Now().UTC().Add(-24 * time.Hour)
	agreed := Agreement{AsOf: 20, Slots: []Agreed{{Name: "agreed", Number: 10, Restart: 100, InactiveSince: since}}, Oldest: from(50)}
	mirror := func() {
		t.Helper()
		if err := s.Mirror(agreed); err != nil {
			t.Fatal(err)
		}
	}
	mirror()
	set(20 * 365 * 86400)
	if lost, err := s.Invalidate(Cutoff{IdleSince: time.Now().Add(-time.Hour)}); err != nil || len(lost) != 0 {
		t.Errorf("the clock is set ahead by twenty years: %v, %v", lost, err)
	}
	mirror()
	set(-3600)
	lost, err := s.Invalidate(Cutoff{IdleSince: time.Now()})
	if err != nil || len(lost) != 1 || lost[0].Idle <= 0 || lost[0].Idle > time.Hour {
		t.Errorf("the clock is set back by an hour: %+v, %v", lost, err)
	}
}

// Why a slot was invalidated, and since when nobody uses it, comes from the cluster, and with it to the
// next primary; there the time begins anew only for a slot that was in use.
func TestMirrorReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s := open(t, fs)
		since := time.Now().UTC().Add(-time.Hour)
		a := Agreement{AsOf: 20, Slots: []Agreed{
			{Name: "idle", Number: 10, InvalidatedAt: 100, Reason: IdleTimeout, InactiveSince: since},
			{Name: "here", Number: 11, Restart: 200, InactiveSince: since},
			{Name: "used", Number: 12, Restart: 300},
			{Name: "gone", Number: 13, Restart: 100},
		}, Oldest: from(150)}
		check := func(when string, want ...Slot) {
			t.Helper()
			for i, slot := range s.List() {
				slot.Idle = 0
				if slot != want[i] {
					t.Errorf("%s: %+v, want %+v", when, slot, want[i])
				}
			}
		}
		idle := Slot{Name: "idle", Number: 10, InvalidatedAt: 100, Reason: IdleTimeout, InactiveSince: since}
		here := Slot{Name: "here", Number: 11, Restart: 200, InactiveSince: since}
		used := Slot{Name: "used", Number: 12, Restart: 300}
		gone := Slot{Name: "gone", Number: 13, InvalidatedAt: 100, Reason: WALRemoved} // only here
		mirror(t, s, a)
		check("following", idle, here, used, gone)
		if got := s.MinRestart(); got != 200 {
			t.Errorf("MinRestart %s, want 0/C8", got)
		}
		a.Leading = true
		mirror(t, s, a)
		used.InactiveSince, gone.InactiveSince = time.Now().UTC(), time.Now().UTC()
		check("leading", idle, here, used, gone)
		time.Sleep(time.Second)
		mirror(t, s, a)
		check("leading for a second", idle, here, used, gone)
	})
}
