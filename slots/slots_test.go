package slots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

const dir = "data/pg_replslot"

func open(t *testing.T, fs vfs.FS) *Slots {
	t.Helper()
	s, err := Open(fs, dir, 4)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Slots, name string, restart wal.LSN) {
	t.Helper()
	if err := s.Create(name, false, restart, 1); err != nil {
		t.Fatal(err)
	}
}

func acquire(t *testing.T, s *Slots, name string, pid int32) *Handle {
	t.Helper()
	h, err := s.Acquire(name, pid)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func restart(t *testing.T, s *Slots, name string) wal.LSN {
	t.Helper()
	slot, ok := s.Get(name)
	if !ok {
		t.Fatalf("slot %s is not there", name)
	}
	return slot.Restart
}

// positions are all slots without when and why.
func positions(s *Slots) []Slot {
	list := s.List()
	for i := range list {
		list[i].InactiveSince, list[i].Idle, list[i].Reason, list[i].Decided = time.Time{}, 0, "", false
	}
	return list
}

func names(s *Slots) string {
	var list []string
	for _, slot := range s.List() {
		list = append(list, slot.Name)
	}
	return strings.Join(list, " ")
}

// wantError checks for a sentinel and for PostgreSQL's message.
func wantError(t *testing.T, err, want error, message string) {
	t.Helper()
	if _, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, want) || err.Error() != message {
		t.Errorf("error %v, want %v: %s", err, want, message)
	}
}

func TestRefusals(t *testing.T) {
	s := open(t, vfs.NewMem())
	create(t, s, "a", 0)
	acquire(t, s, "a", 7)
	wantError(t, s.Create("a", false, 0, 1), ErrExists, `replication slot "a" already exists`)
	wantError(t, s.Create("a", true, 0, 1), ErrExists, `replication slot "a" already exists`)
	wantError(t, s.Create("", false, 0, 1), ErrNameTooShort, `replication slot name "" is too short`)
	wantError(t, s.Create("A", false, 0, 1), ErrInvalidCharacter, `replication slot name "A" contains invalid character`)
	wantError(t, s.Create("../a", true, 0, 1), ErrInvalidCharacter, `replication slot name "../a" contains invalid character`)
	long := strings.Repeat("x", 64)
	wantError(t, s.Create(long, false, 0, 1), ErrNameTooLong, `replication slot name "`+long+`" is too long`)
	_, err := s.Acquire("b", 1)
	wantError(t, err, ErrNotFound, `replication slot "b" does not exist`)
	_, err = s.Acquire("a", 8)
	wantError(t, err, ErrActive, `replication slot "a" is active for PID 7`)
	wantError(t, s.Drop(t.Context(), "b", 1, false), ErrNotFound, `replication slot "b" does not exist`)
	wantError(t, s.Drop(t.Context(), "b", 1, true), ErrNotFound, `replication slot "b" does not exist`)
	wantError(t, s.Drop(t.Context(), "a", 8, false), ErrActive, `replication slot "a" is active for PID 7`)
	for i := range 3 {
		if err := s.Create(fmt.Sprint("t", i), i == 0, 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, s.Create("e", false, 0, 1), ErrNoneFree, "all replication slots are in use")
	wantError(t, s.Create("e", true, 0, 1), ErrNoneFree, "all replication slots are in use")
	if err := s.Create(strings.Repeat("x", 63), true, 0, 1); !errors.Is(err, ErrNoneFree) {
		t.Errorf("a name of 63 bytes: %v", err)
	}
}

func TestMemberName(t *testing.T) {
	long := strings.Repeat("n", 80)
	seen := map[string]string{}
	for _, name := range []string{"n1", "n_1", "n-1", "n.1", "N_1", "", "ü", long, long + "n"} {
		slot := MemberName(name)
		if err := CheckName(slot); err != nil {
			t.Errorf("MemberName(%q): %v", name, err)
		}
		if CheckName(name) == nil && slot != name {
			t.Errorf("MemberName(%q) = %q", name, slot)
		}
		if other, ok := seen[slot]; ok {
			t.Errorf("%q and %q have the slot %q", name, other, slot)
		}
		seen[slot] = name
	}
}

// What is created, saved, invalidated or dropped is so after a restart; the rest is as last saved.
func TestRestart(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	for _, name := range []string{"b", "a", "c"} {
		create(t, s, name, 100)
	}
	if err := s.Create("tmp", true, 50, 1); err != nil {
		t.Fatal(err)
	}
	acquire(t, s, "a", 1).Advance(200)
	acquire(t, s, "b", 1).Advance(300)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	acquire(t, s, "b", 1).Advance(400)
	if err := s.Drop(t.Context(), "c", 1, false); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs)
	if names(s) != "a b" || restart(t, s, "a") != 200 || restart(t, s, "b") != 300 {
		t.Errorf("after a restart: %+v", s.List())
	}
	if _, err := s.Invalidate(Cutoff{Before: 250}); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs)
	want := []Slot{{Name: "a", InvalidatedAt: 200}, {Name: "b", Restart: 300}}
	if got := positions(s); !slices.Equal(got, want) {
		t.Errorf("after invalidation and a restart: %+v, want %+v", got, want)
	}
	if s, err := Open(fs, dir, 1); err != nil || names(s) != "a b" {
		t.Errorf("Open with room for one: %v, %v", err, s)
	}
}

// A slot follows its consumer, back as well. Handles end with their use of the slot.
func TestHandle(t *testing.T) {
	s := open(t, vfs.NewMem())
	create(t, s, "a", 0)
	first := acquire(t, s, "a", 1)
	first.Advance(100)
	first.Advance(90)
	first.Advance(0)
	if got := restart(t, s, "a"); got != 90 {
		t.Errorf("restart %s, want 0/5A", got)
	}
	second := acquire(t, s, "a", 1)
	first.Advance(200)
	first.Release()
	if slot, _ := s.Get("a"); slot.PID != 1 || slot.Restart != 90 {
		t.Errorf("a void handle did something: %+v", slot)
	}
	second.Release()
	second.Advance(300)
	third := acquire(t, s, "a", 2)
	second.Release()
	if slot, _ := s.Get("a"); slot.PID != 2 || slot.Restart != 90 {
		t.Errorf("a released handle did something: %+v", slot)
	}
	s.ReleaseAll(2)
	third.Advance(400)
	if slot, _ := s.Get("a"); slot.PID != 0 || slot.Restart != 90 {
		t.Errorf("after the end of its connection a handle did something: %+v", slot)
	}
}

// A temporary slot is its connection's, from Create to ReleaseAll, and keeps WAL meanwhile.
func TestTemporary(t *testing.T) {
	s := open(t, vfs.NewMem())
	if err := s.Create("t", true, 100, 5); err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", 0)
	_, err := s.Acquire("t", 6)
	wantError(t, err, ErrActive, `replication slot "t" is active for PID 5`)
	h := acquire(t, s, "t", 5)
	h.Advance(150)
	h.Release()
	if slot, _ := s.Get("t"); slot.PID != 5 || s.MinRestart() != 150 {
		t.Errorf("after Release: %+v, MinRestart %s", slot, s.MinRestart())
	}
	acquire(t, s, "a", 5)
	s.ReleaseAll(6)
	if names(s) != "t a" {
		t.Errorf("another connection's end left %s", names(s))
	}
	s.ReleaseAll(5)
	if slot, _ := s.Get("a"); names(s) != "a" || slot.PID != 0 || s.MinRestart() != 0 {
		t.Errorf("its connection's end left %s, %+v, MinRestart %s", names(s), slot, s.MinRestart())
	}
	if err := s.Create("t", true, 100, 5); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(t.Context(), "t", 5, false); err != nil || names(s) != "a" {
		t.Errorf("Drop by its owner: %v, left %s", err, names(s))
	}
}

// DROP … WAIT waits for the consumer's end, or for its own.
func TestDropWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, vfs.NewMem())
		create(t, s, "a", 0)
		create(t, s, "b", 0)
		h := acquire(t, s, "a", 1)
		acquire(t, s, "b", 2)
		gaveUp := errors.New("gave up")
		ctx, cancel := context.WithCancelCause(t.Context())
		var dropped, abandoned error = errors.New("waiting"), nil
		var wg sync.WaitGroup
		wg.Go(func() { dropped = s.Drop(t.Context(), "a", 3, true) })
		wg.Go(func() { abandoned = s.Drop(ctx, "b", 3, true) })
		synctest.Wait()
		if names(s) != "a b" {
			t.Errorf("dropped while in use: left %s", names(s))
		}
		h.Release()
		synctest.Wait()
		if dropped != nil || names(s) != "b" {
			t.Errorf("after Release: %v, left %s", dropped, names(s))
		}
		cancel(gaveUp)
		wg.Wait()
		if !errors.Is(abandoned, gaveUp) || names(s) != "b" {
			t.Errorf("after cancel: %v, left %s", abandoned, names(s))
		}
	})
}

// An invalidated slot reserves nothing, though its consumer still reports; a new consumer that finds
// its WAL revives it.
func TestInvalidate(t *testing.T) {
	s := open(t, vfs.NewMem())
	create(t, s, "behind", 100)
	create(t, s, "exact", 200)
	create(t, s, "none", 0)
	if err := s.Create("tmp", true, 50, 9); err != nil {
		t.Fatal(err)
	}
	h := acquire(t, s, "behind", 8)
	lost, err := s.Invalidate(Cutoff{Before: 200})
	want := []Invalidated{{Name: "behind", Restart: 100, PID: 8, Reason: WALRemoved}, {Name: "tmp", Restart: 50, PID: 9, Reason: WALRemoved}}
	if err != nil || !slices.Equal(lost, want) {
		t.Errorf("Invalidate = %v, %v, want %v", lost, err, want)
	}
	h.Advance(150)
	slot, _ := s.Get("behind")
	if slot != (Slot{Name: "behind", PID: 8, InvalidatedAt: 100, Reason: WALRemoved, Decided: true}) || s.MinRestart() != 200 {
		t.Errorf("after a report: %+v, MinRestart %s", slot, s.MinRestart())
	}
	if lost, err := s.Invalidate(Cutoff{Before: 200}); lost != nil || err != nil {
		t.Errorf("again: %v, %v", lost, err)
	}
	h.Release()
	acquire(t, s, "behind", 10).Advance(180)
	if s.MinRestart() != 180 {
		t.Errorf("revived: MinRestart %s, want 0/B4", s.MinRestart())
	}
}

// WAL goes by what is on disk: a slot that has moved on needs its old WAL until it is saved.
func TestMinRestartWaitsForTheFile(t *testing.T) {
	s := open(t, vfs.NewMem())
	if got := s.MinRestart(); got != 0 {
		t.Errorf("without slots MinRestart = %s", got)
	}
	create(t, s, "a", 100)
	create(t, s, "none", 0)
	h := acquire(t, s, "a", 1)
	h.Advance(200)
	if got := s.MinRestart(); got != 100 {
		t.Errorf("before Save MinRestart = %s, want 0/64", got)
	}
	if err := s.Save(); err != nil || s.MinRestart() != 200 {
		t.Errorf("after Save MinRestart = %s, %v", s.MinRestart(), err)
	}
	h.Advance(150)
	if got := s.MinRestart(); got != 150 {
		t.Errorf("a step back at once: MinRestart = %s", got)
	}
}

// A file that cannot be believed keeps the node from starting.
func TestOpenRefusesCorruptFile(t *testing.T) {
	name := strings.Repeat("x", maxNameLen) // whose file is as long as any can be
	good := appendState(nil, name, state{restart: 100})
	for what, contents := range map[string][]byte{
		"empty": {}, "garbage": []byte("garbage"), "goes on": append(bytes.Clone(good), make([]byte, 1<<20)...),
		"of another slot": appendState(nil, "b", state{restart: 100}),
	} {
		fs := vfs.NewMem()
		create(t, open(t, fs), name, 100)
		path := dir + "/" + name + "/state"
		f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(contents); err != nil {
			t.Fatal(err)
		}
		_, err = Open(fs, dir, 4)
		if corrupt, ok := errors.AsType[*CorruptError](err); !ok || corrupt.Path != path {
			t.Errorf("%s: Open = %v", what, err)
		}
	}
}

// Connections come and go while checkpoints save: nobody's slot is lost, and at the end all is at rest.
func TestManyConnections(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open(fs, dir, 8)
	if err != nil {
		t.Fatal(err)
	}
	var connections, checkpoints sync.WaitGroup
	for pid := int32(1); pid <= 4; pid++ {
		connections.Go(func() {
			own := fmt.Sprint("own", pid)
			for lsn := wal.LSN(1); lsn <= 100; lsn++ {
				err := errors.Join(s.Create(own, false, lsn, pid), s.Create(own+"t", true, lsn, pid))
				h, acquireErr := s.Acquire(own, pid)
				if err = errors.Join(err, acquireErr); err != nil {
					t.Error(err)
					return
				}
				h.Advance(lsn + 1)
				s.ReleaseAll(pid)
				if err := s.Drop(t.Context(), own, pid, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	checkpoints.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			s.MinRestart()
			if err := s.Save(); err != nil {
				t.Error(err)
			}
		}
	})
	connections.Wait()
	close(done)
	checkpoints.Wait()
	if list := s.List(); len(list) != 0 || names(open(t, fs)) != "" {
		t.Errorf("left: %+v, on disk %s", list, names(open(t, fs)))
	}
}
