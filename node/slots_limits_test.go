package node

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// limitsReign is the part of a standby's reign that decides what WAL stays.
func limitsReign(t *testing.T, settings map[string]string) *reign {
	t.Helper()
	s, err := newSettings(Config{Listen: "127.0.0.1:5433", Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{settings: s, log: slog.New(slog.DiscardHandler)}
	n.id.Store(&startup.Identity{SegmentSize: wal.DefaultSegmentSize})
	set, err := slots.Open(vfs.NewMem(), "pg_replslot", 10)
	if err != nil {
		t.Fatal(err)
	}
	return &reign{node: n, slots: set, found: startup.Recovered{Dir: &wal.Dir{}}}
}

// A base copy under way needs the log from its beginning on, as slots do.
func TestBaseCopyNeedsWAL(t *testing.T) {
	r := limitsReign(t, nil)
	for _, at := range []wal.LSN{300, 200} {
		b := &backup{}
		b.point.LSN = at
		r.backups.hold(b)
	}
	if err := r.slots.Create("a", false, 250, 1); err != nil {
		t.Fatal(err)
	}
	if got, want := r.walNeeds(), (wal.Needs{Slots: 250, Copies: 200}); got != want {
		t.Errorf("needed is %+v, want %+v", got, want)
	}
}

// For how long a slot has been idle is the primary's to judge: a standby hears late that it is in use again.
func TestStandbyLeavesIdleSlots(t *testing.T) {
	synctest.Test(t, standbyLeavesIdleSlots)
}

func standbyLeavesIdleSlots(t *testing.T) {
	r := limitsReign(t, map[string]string{idleTimeoutSetting: "1s"})
	a := slots.Agreement{AsOf: 20, Oldest: func() (wal.LSN, error) { return 1, nil }, Slots: []slots.Agreed{
		{Name: "a", Number: 10, Restart: 100, InactiveSince: time.Now().Add(-time.Hour)},
	}}
	if err := r.slots.Mirror(a); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour)
	if any, err := r.invalidateSlots(0); any || err != nil {
		t.Errorf("invalidated: %t, %v", any, err)
	}
	if any, err := r.invalidateSlots(2); !any || err != nil { // its own disk is another matter
		t.Errorf("beyond the limit: %t, %v", any, err)
	}
}
