package slots

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/wal"
)

// from is where a node's WAL begins.
func from(lsn wal.LSN) func() (wal.LSN, error) { return func() (wal.LSN, error) { return lsn, nil } }

func mirror(t *testing.T, s *Slots, a Agreement) {
	t.Helper()
	if a.Oldest == nil {
		a.Oldest = from(1)
	}
	if err := s.Mirror(a); err != nil {
		t.Fatal(err)
	}
}

func wantSlots(t *testing.T, s *Slots, want ...Slot) {
	t.Helper()
	got := positions(s)
	for i := range got {
		if got[i].PID != 0 && i < len(want) {
			want[i].PID = got[i].PID
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("slots are %+v, want %+v", got, want)
	}
}

// A node that does not lead has the slots that the cluster has, where the cluster has them, and keeps
// what they need. So it is after a restart.
func TestMirrorFollows(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	create(t, s, "own", 50) // from when this node was the primary
	mirror(t, s, Agreement{AsOf: 20, Slots: []Agreed{{Name: "a", Number: 10, Restart: 100}, {Name: "b", Number: 11, Restart: 200}, {Name: "none", Number: 12, Restart: 0}}})
	wantSlots(t, s, Slot{Name: "a", Restart: 100, Number: 10}, Slot{Name: "b", Restart: 200, Number: 11}, Slot{Name: "none", Number: 12})
	if got := s.MinRestart(); got != 100 {
		t.Errorf("MinRestart = %s, want 0/64", got)
	}
	mirror(t, s, Agreement{AsOf: 30, Slots: []Agreed{{Name: "a", Number: 10, Restart: 90}, {Name: "b", Number: 25, Restart: 150}}})
	wantSlots(t, s, Slot{Name: "a", Restart: 90, Number: 10}, Slot{Name: "b", Restart: 150, Number: 25})
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs)
	wantSlots(t, s, Slot{Name: "a", Restart: 90, Number: 10}, Slot{Name: "b", Restart: 150, Number: 25})
	if got := s.MinRestart(); got != 90 {
		t.Errorf("after a restart MinRestart = %s, want 0/5A", got)
	}
}

// What a slot needs now and its file does not keep is on disk when Mirror returns: a node that crashes then may
// remove WAL before it hears from the cluster again.
func TestMirrorKeepsMore(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	states := []Agreed{
		{Restart: 0},
		{Restart: 144},                   // its consumer has come
		{Restart: 200},                   // has moved on: with the next Save
		{Restart: 0, InvalidatedAt: 200}, // is lost: that, too
		{Restart: 300},                   // has come again
		{Restart: 250},                   // from a backup
	}
	for i, state := range states {
		state.Name, state.Number = "a", 10
		mirror(t, s, Agreement{AsOf: uint64(20 + i), Slots: []Agreed{state}})
		if i == 2 {
			if err := s.Save(); err != nil {
				t.Fatal(err)
			}
		}
		if got := open(t, fs).MinRestart(); state.Restart != 0 && (got == 0 || got > state.Restart) {
			t.Errorf("after %+v a crash leaves the log from %s on", state, got)
		}
	}
}

// What a node knows after a start may be old. It takes away no slot that was made since.
func TestMirrorOfOldState(t *testing.T) {
	s := open(t, vfs.NewMem())
	mirror(t, s, Agreement{AsOf: 20, Slots: []Agreed{{Name: "a", Number: 10, Restart: 100}, {Name: "b", Number: 15, Restart: 200}}})
	mirror(t, s, Agreement{AsOf: 12, Slots: []Agreed{{Name: "a", Number: 10, Restart: 50}}})
	wantSlots(t, s, Slot{Name: "a", Restart: 100, Number: 10}, Slot{Name: "b", Restart: 200, Number: 15})

	s = open(t, s.folder.fs)
	mirror(t, s, Agreement{AsOf: 12, Slots: []Agreed{{Name: "a", Number: 10, Restart: 50}}})
	wantSlots(t, s, Slot{Name: "a", Restart: 50, Number: 10}, Slot{Name: "b", Restart: 200, Number: 15})
	mirror(t, s, Agreement{AsOf: 13, Slots: []Agreed{{Name: "b", Number: 13, Restart: 70}}})
	wantSlots(t, s, Slot{Name: "b", Restart: 200, Number: 15})
}

// A primary's slots are where their consumers are. The WAL from where the cluster has them stays, for
// whoever is the primary next, and a crash leaves them there.
func TestMirrorLeads(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	agreed := []Agreed{{Name: "a", Number: 10, Restart: 100}, {Name: "b", Number: 11, Restart: 0}}
	mirror(t, s, Agreement{AsOf: 20, Slots: agreed})
	h := acquire(t, s, "a", 7)
	h.Advance(300)
	acquire(t, s, "b", 8).Advance(310)
	mirror(t, s, Agreement{AsOf: 21, Slots: agreed, Leading: true})
	wantSlots(t, s, Slot{Name: "a", Restart: 300, Number: 10}, Slot{Name: "b", Restart: 310, Number: 11})
	if err := s.Save(); err != nil || s.MinRestart() != 100 {
		t.Errorf("MinRestart = %s, %v, want 0/64", s.MinRestart(), err)
	}
	wantSlots(t, open(t, fs), Slot{Name: "a", Restart: 100, Number: 10}, Slot{Name: "b", Number: 11})

	agreed[0].Restart, agreed[1].Restart = 280, 310
	mirror(t, s, Agreement{AsOf: 22, Slots: agreed, Leading: true})
	if got := s.MinRestart(); got != 100 {
		t.Errorf("before Save MinRestart = %s, want 0/64: a crash leaves the slot there", got)
	}
	if err := s.Save(); err != nil || s.MinRestart() != 280 {
		t.Errorf("MinRestart = %s, %v, want 0/118", s.MinRestart(), err)
	}
	h.Advance(250) // restored from a backup
	if got := s.MinRestart(); got != 250 {
		t.Errorf("MinRestart = %s, want 0/FA", got)
	}

	// It leads no more.
	mirror(t, s, Agreement{AsOf: 22, Slots: agreed})
	wantSlots(t, s, Slot{Name: "a", Restart: 280, Number: 10}, Slot{Name: "b", Restart: 310, Number: 11})
}

// A consumer that has gone back before what is here, and away, has a slot that is lost. While it is here it is told by
// the stream.
func TestMirrorLeadsAndIsBehind(t *testing.T) {
	s := open(t, vfs.NewMem())
	a := Agreement{AsOf: 20, Slots: []Agreed{{Name: "a", Number: 10, Restart: 100}}, Oldest: from(80), Leading: true}
	mirror(t, s, a)
	h := acquire(t, s, "a", 7)
	h.Advance(50)
	mirror(t, s, a)
	wantSlots(t, s, Slot{Name: "a", Restart: 50, Number: 10})
	h.Release()
	mirror(t, s, a)
	wantSlots(t, s, Slot{Name: "a", InvalidatedAt: 50, Number: 10})
	if err := s.Save(); err != nil || s.MinRestart() != 0 {
		t.Errorf("MinRestart = %s, %v, want 0", s.MinRestart(), err)
	}
}

// What the cluster drops goes, though somebody uses it; what it has made again is another slot.
func TestMirrorDropsWhatIsInUse(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	mirror(t, s, Agreement{AsOf: 20, Slots: []Agreed{{Name: "a", Number: 10, Restart: 100}, {Name: "b", Number: 11, Restart: 100}}})
	a, b := acquire(t, s, "a", 1), acquire(t, s, "b", 2)
	mirror(t, s, Agreement{AsOf: 30, Slots: []Agreed{{Name: "b", Number: 25, Restart: 150}}, Leading: true})
	a.Advance(500)
	b.Advance(500)
	wantSlots(t, s, Slot{Name: "b", Restart: 150, Number: 25})
	if names(open(t, fs)) != "b" {
		t.Errorf("on disk: %s", names(open(t, fs)))
	}
}

// A slot whose WAL is not here is lost here, and found again when the cluster has it where WAL is.
func TestMirrorOfLostWAL(t *testing.T) {
	s := open(t, vfs.NewMem())
	a := Agreement{AsOf: 20, Slots: []Agreed{{Name: "a", Number: 10, Restart: 100}}, Oldest: from(120)}
	mirror(t, s, a)
	wantSlots(t, s, Slot{Name: "a", InvalidatedAt: 100, Number: 10})
	a.Slots[0].Restart = 130
	mirror(t, s, a)
	wantSlots(t, s, Slot{Name: "a", Restart: 130, Number: 10})

	// Invalidated here: its WAL may go from now on.
	if _, err := s.Invalidate(Cutoff{Before: 140}); err != nil {
		t.Fatal(err)
	}
	mirror(t, s, a)
	wantSlots(t, s, Slot{Name: "a", InvalidatedAt: 130, Number: 10})
	if got := s.MinRestart(); got != 0 {
		t.Errorf("MinRestart = %s, want 0", got)
	}
	a.Leading = true
	mirror(t, s, a)
	wantSlots(t, s, Slot{Name: "a", InvalidatedAt: 130, Number: 10})
	if got := s.MinRestart(); got != 0 {
		t.Errorf("while leading MinRestart = %s, want 0", got)
	}
	acquire(t, s, "a", 1).Advance(150)
	mirror(t, s, a)
	if got := restart(t, s, "a"); got != 150 || s.MinRestart() != 130 {
		t.Errorf("revived: at %s, MinRestart %s, want 0/96, 0/82", got, s.MinRestart())
	}
}

// A witness keeps what it has for a member of which the cluster may not have heard yet how far it is; but not
// what its own limit has taken.
func TestMirrorKeepsTheRest(t *testing.T) {
	s := open(t, vfs.NewMem())
	a := Agreement{AsOf: 20, Slots: []Agreed{{Name: "a", Number: 10, Restart: 100}}, Oldest: from(120), KeepRest: true}
	for range 2 {
		mirror(t, s, a)
		wantSlots(t, s, Slot{Name: "a", Restart: 120, Number: 10})
		if got := s.MinRestart(); got != 120 {
			t.Errorf("MinRestart = %s, want 120", got)
		}
	}
	a.Slots[0].Restart = 130
	mirror(t, s, a)
	wantSlots(t, s, Slot{Name: "a", Restart: 130, Number: 10})
	if _, err := s.Invalidate(Cutoff{Before: 140}); err != nil {
		t.Fatal(err)
	}
	a.Oldest = from(140)
	mirror(t, s, a)
	wantSlots(t, s, Slot{Name: "a", InvalidatedAt: 130, Number: 10})
}

// The limit on what slots keep holds too for what is kept because the cluster has not heard of a move.
func TestInvalidateWhatIsNotPublished(t *testing.T) {
	s := open(t, vfs.NewMem())
	mirror(t, s, Agreement{AsOf: 20, Slots: []Agreed{{Name: "a", Number: 10, Restart: 100}}})
	acquire(t, s, "a", 1).Advance(300)
	lost, err := s.Invalidate(Cutoff{Before: 200})
	if err != nil || len(lost) != 0 || s.MinRestart() != 300 {
		t.Errorf("lost %v, %v, MinRestart %s, want 0/12C", lost, err, s.MinRestart())
	}
	mirror(t, s, Agreement{AsOf: 21, Slots: []Agreed{{Name: "a", Number: 10, Restart: 100}}, Oldest: from(200), Leading: true})
	wantSlots(t, s, Slot{Name: "a", Restart: 300, Number: 10})
	if s.MinRestart() != 200 { // what is left
		t.Errorf("MinRestart %s, want 0/C8", s.MinRestart())
	}
}

// A member's slot is this node's alone until the cluster has agreed on it.
func TestAdopt(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	old := []Agreed{{Name: "n2", Number: 10, Restart: 100}}
	mirror(t, s, Agreement{AsOf: 20, Slots: old, Leading: true})
	if err := errors.Join(s.Renew("n2", 150, 9), s.Renew("n3", 160, 9)); err != nil {
		t.Fatal(err)
	}
	mirror(t, s, Agreement{AsOf: 21, Slots: old, Leading: true})
	wantSlots(t, s, Slot{Name: "n2", Restart: 150}, Slot{Name: "n3", Restart: 160})
	if err := s.Adopt("n2", 22); err != nil {
		t.Fatal(err)
	}
	wantSlots(t, open(t, fs), Slot{Name: "n2", Restart: 150, Number: 22}, Slot{Name: "n3", Restart: 160})
	mirror(t, s, Agreement{AsOf: 22, Slots: []Agreed{{Name: "n2", Number: 22, Restart: 150}}, Leading: true})
	wantSlots(t, s, Slot{Name: "n2", Restart: 150, Number: 22}, Slot{Name: "n3", Restart: 160})
	mirror(t, s, Agreement{AsOf: 23, Slots: []Agreed{{Name: "n2", Number: 22, Restart: 150}}})
	wantSlots(t, s, Slot{Name: "n2", Restart: 150, Number: 22})

	h := acquire(t, s, "n2", 5)
	wantError(t, s.Renew("n2", 300, 9), ErrActive, `replication slot "n2" is active for PID 5`)
	h.Release()
	if err := s.Renew("n2", 300, 9); err != nil {
		t.Fatal(err)
	}
	wantSlots(t, s, Slot{Name: "n2", Restart: 300})
	wantError(t, s.Renew("N", 300, 9), ErrInvalidCharacter, `replication slot name "N" contains invalid character`)
}

// While the cluster agrees on a slot nobody else has it, and its WAL is held.
func TestClaimAndHold(t *testing.T) {
	s := open(t, vfs.NewMem())
	create(t, s, "a", 200)
	if err := s.Claim(t.Context(), "a", 3, false); err != nil {
		t.Fatal(err)
	}
	_, err := s.Acquire("a", 4)
	wantError(t, err, ErrActive, `replication slot "a" is active for PID 3`)
	s.Unclaim("a", 4)
	_, err = s.Acquire("a", 4)
	wantError(t, err, ErrActive, `replication slot "a" is active for PID 3`)
	s.Unclaim("a", 3)
	acquire(t, s, "a", 4)
	wantError(t, s.Claim(t.Context(), "a", 3, false), ErrActive, `replication slot "a" is active for PID 4`)
	wantError(t, s.CanCreate("a"), ErrExists, `replication slot "a" already exists`)
	if err := s.CanCreate("b"); err != nil {
		t.Error(err)
	}
	h := s.Hold()
	h.Keep(150)
	if got := s.MinRestart(); got != 150 {
		t.Errorf("MinRestart = %s, want 0/96", got)
	}
	h.Release()
	if got := s.MinRestart(); got != 200 {
		t.Errorf("MinRestart = %s, want 0/C8", got)
	}
}

// A temporary slot with the name gives way to the cluster's, and a node with little room has them all.
func TestMirrorNeedsNoRoom(t *testing.T) {
	s := open(t, vfs.NewMem())
	if err := s.Create("a", true, 0, 5); err != nil {
		t.Fatal(err)
	}
	h := acquire(t, s, "a", 5)
	var agreed []Agreed
	for i, name := range []string{"a", "b", "c", "d", "e", "f"} {
		agreed = append(agreed, Agreed{Name: name, Number: uint64(10 + i), Restart: 100})
	}
	mirror(t, s, Agreement{AsOf: 20, Slots: agreed})
	h.Advance(500)
	s.ReleaseAll(5)
	if names(s) != "a b c d e f" || s.MinRestart() != 100 {
		t.Errorf("%s, MinRestart %s", names(s), s.MinRestart())
	}
	wantError(t, s.Create("g", true, 0, 1), ErrNoneFree, "all replication slots are in use")
}

// The power goes at every operation on files, and every operation fails once, while the cluster's slots
// come, move and go: none asks for WAL that was removed, and what Mirror has returned for is there.
func TestMirrorPowerCutAndErrors(t *testing.T) {
	broken := errors.New("input/output error")
	for n := -1; n < 200; n++ {
		mem := newDisk(t)
		var s *Slots
		removed, made, op := wal.LSN(1), "", 0
		check := func() {
			t.Helper()
			removed = max(removed, s.MinRestart())
			for seed := range uint64(2) {
				left := open(t, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 0))}))
				for _, slot := range left.List() {
					if slot.Restart != 0 && slot.Restart < removed {
						t.Errorf("failure %d, operation %d: slot %s needs WAL from %s, removed up to %s", n, op, slot.Name, slot.Restart, removed)
					}
				}
				if made != "" && names(left) != made {
					t.Errorf("failure %d, operation %d: slots %s, want %s", n, op, names(left), made)
				}
			}
		}
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
			if s == nil {
				return nil
			}
			if op++; op == n {
				return broken
			}
			check()
			return nil
		}))
		var err error
		if s, err = Open(fs, dir, 4); err != nil {
			t.Fatal(err)
		}
		over := false
		try := func(after string, f func() error) {
			if over {
				return
			}
			made = ""
			err := f()
			if err != nil && !errors.Is(err, ErrUnsynced) {
				err = f()
			}
			if over = err != nil; !over {
				made = after
				check()
			}
		}
		a := Agreement{AsOf: 20, Oldest: from(1)}
		mirrorTo := func(slots ...Agreed) func() error {
			return func() error {
				a.Slots, a.AsOf = slots, a.AsOf+1
				return s.Mirror(a)
			}
		}
		try("a b", mirrorTo(Agreed{Name: "a", Number: 10, Restart: 100}, Agreed{Name: "b", Number: 11, Restart: 120}))
		a.Leading = true
		if !over {
			acquire(t, s, "a", 1).Advance(300)
		}
		try("a b", s.Save)
		try("a b", mirrorTo(Agreed{Name: "a", Number: 10, Restart: 280}, Agreed{Name: "b", Number: 11, Restart: 290}))
		try("a b", s.Save)
		try("a b c", func() error { return s.Renew("c", 280, 9) })
		try("a b c", func() error { return s.Adopt("c", 25) })
		a.Leading = false
		try("b c", mirrorTo(Agreed{Name: "b", Number: 11, Restart: 290}, Agreed{Name: "c", Number: 25, Restart: 285}))
		try("b c", s.Save)
		if n >= 0 && op < n {
			return // every operation has failed once
		}
	}
	t.Error("too many operations")
}

// Mirror goes on alongside everything that connections do.
func TestMirrorAmongConnections(t *testing.T) {
	s, err := Open(vfs.NewMem(), dir, 100)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pid := int32(1); ctx.Err() == nil; pid++ {
			name := fmt.Sprint("s", pid%3)
			if h, err := s.Acquire(name, pid); err == nil {
				h.Advance(wal.LSN(100 + pid))
				s.MinRestart()
				h.Release()
			}
			if s.Claim(ctx, name, pid, false) == nil {
				s.Unclaim(name, pid)
			}
		}
	}()
	for i := range uint64(300) {
		var agreed []Agreed
		for j := range i % 4 {
			agreed = append(agreed, Agreed{Name: fmt.Sprint("s", j), Number: i - i%4 + j + 1, Restart: wal.LSN(50 + i)})
		}
		mirror(t, s, Agreement{AsOf: i + 1, Slots: agreed, Leading: i%2 == 0})
	}
	cancel()
	<-done
	mirror(t, s, Agreement{AsOf: 1000})
	if len(s.List()) != 0 {
		t.Errorf("left: %+v", s.List())
	}
}
