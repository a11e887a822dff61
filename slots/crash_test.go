package slots

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/wal"
)

// newDisk returns a disk that holds the data directory, durably.
func newDisk(t *testing.T) *vfs.MemFS {
	mem := vfs.NewCrashableMem()
	if err := errors.Join(mem.MkdirAll("data", 0o700), folder{fs: mem}.syncDir("/")); err != nil {
		t.Fatal(err)
	}
	return mem
}

// life is a sequence of requests, with what each slot may be after a crash at any moment of it.
type life struct {
	t       *testing.T
	slots   *Slots
	may     map[string][]state // what may be found; absent stands for no slot
	removed wal.LSN            // WAL below is gone: removed by what MinRestart said
	failing bool               // errors are expected, and their requests repeated
	over    bool               // a folder could not be synced: the process has ended
}

// absent is what a slot is that is not there.
var absent = state{restart: ^wal.LSN(0)}

// step runs a request that takes a slot from one state to another: while it runs either may be found,
// after it only the new one.
func (l *life) step(name string, to state, request func() error) {
	if l.over {
		return
	}
	l.may[name] = append(slices.Clone(l.may[name]), to)
	err := request()
	l.over = errors.Is(err, ErrUnsynced)
	if err != nil && l.failing && !l.over {
		err = request()
	}
	switch {
	case err == nil:
		l.may[name] = []state{to}
	case !l.failing || !l.over:
		l.t.Fatal(err)
	}
	l.removeWAL()
}

// removeWAL is what a checkpoint does: all that no slot needs may go.
func (l *life) removeWAL() { l.removed = max(l.removed, l.slots.MinRestart()) }

func (l *life) create(name string, restart wal.LSN) {
	l.step(name, state{restart: restart}, func() error { return l.slots.Create(name, false, restart, 1) })
}

func (l *life) advanceAndSave(name string, restart wal.LSN) {
	if l.over {
		return
	}
	h, err := l.slots.Acquire(name, 1)
	if err != nil {
		l.t.Fatal(err)
	}
	h.Advance(restart)
	h.Release()
	l.removeWAL()
	l.step(name, state{restart: restart}, l.slots.Save)
}

func (l *life) invalidate(name string, at wal.LSN) {
	l.step(name, state{invalidatedAt: at}, func() error {
		_, err := l.slots.Invalidate(Cutoff{Before: at + 1})
		return errors.Join(err, l.slots.Save())
	})
}

// drop is asked for by another connection each time: a failed one must let go of the slot.
func (l *life) drop(name string) {
	pid := int32(1)
	l.step(name, absent, func() error {
		pid++
		return l.slots.Drop(l.t.Context(), name, pid, false)
	})
}

// live is a life with every kind of request.
func (l *life) live() {
	l.create("a", 100)
	l.create("b", 120)
	l.advanceAndSave("a", 200)
	l.advanceAndSave("b", 220)
	l.advanceAndSave("a", 300)
	l.drop("b")
	l.create("b", 310)
	l.invalidate("a", 300)
	l.advanceAndSave("b", 400)
	l.drop("a")
}

// check opens what is left after a crash, and compares.
func (l *life) check(what string, fs vfs.FS) {
	l.t.Helper()
	s, err := Open(fs, dir, 4)
	if err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
	for _, name := range []string{"a", "b"} {
		found := absent
		if slot, ok := s.Get(name); ok {
			found = state{restart: slot.Restart, invalidatedAt: slot.InvalidatedAt}
			if found.restart != 0 && found.restart < l.removed {
				l.t.Errorf("%s: slot %s needs WAL from %s, removed up to %s", what, name, found.restart, l.removed)
			}
		}
		if allowed := l.may[name]; !slices.Contains(allowed, found) {
			l.t.Errorf("%s: slot %s is %v, want one of %v", what, name, found, allowed)
		}
	}
	if names, err := fs.List(dir); err != nil || slices.ContainsFunc(names, func(name string) bool {
		return strings.HasSuffix(name, tmpSuffix)
	}) {
		l.t.Errorf("%s: left in the folder: %v, %v", what, names, err)
	}
}

// The power goes at every operation on files, before it and so after the one before; of what is not
// synced nothing, some or all survives. Then again right after the recovery.
func TestPowerCut(t *testing.T) {
	for _, percent := range []int{0, 30, 70, 100} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			mem := newDisk(t)
			l := &life{t: t, may: map[string][]state{"a": {absent}, "b": {absent}}}
			cuts := 0
			cut := func(op errorfs.Op) error {
				if l.slots == nil {
					return nil
				}
				if op.Kind == errorfs.OpRemoveAll && !strings.HasSuffix(op.Path, tmpSuffix) {
					t.Errorf("removal of %s: not atomic, however it looks in memory", op.Path)
				}
				l.removeWAL()
				for seed := range uint64(4) {
					cuts++
					what := fmt.Sprintf("cut %d before %v of %s, seed %d", cuts, op.Kind, op.Path, seed)
					crashed := mem.CrashClone(vfs.CrashCloneCfg{
						UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 0)),
					})
					l.check(what, crashed)
				}
				return nil
			}
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(cut))
			slots, err := Open(fs, dir, 4)
			if err != nil {
				t.Fatal(err)
			}
			l.slots = slots
			l.live()
			if cuts < 200 {
				t.Errorf("only %d cuts", cuts)
			}
		})
	}
}

// The process dies at every operation and is started again on the same machine, removes what WAL it
// may, and then the power goes.
func TestKillThenPowerCut(t *testing.T) {
	killed := errors.New("killed")
	for n := 0; ; n++ {
		mem := newDisk(t)
		l := &life{t: t, may: map[string][]state{"a": {absent}, "b": {absent}}}
		slots, err := Open(mem, dir, 4)
		if err != nil {
			t.Fatal(err)
		}
		op := 0
		l.slots = slots
		l.slots.folder.fs = errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
			if op++; op > n {
				panic(killed)
			}
			return nil
		}))
		finished := runUntilKilled(l, killed)
		l.slots = open(t, mem)
		found := map[string][]state{"a": {absent}, "b": {absent}}
		for _, slot := range l.slots.List() {
			found[slot.Name] = []state{{restart: slot.Restart, invalidatedAt: slot.InvalidatedAt}}
		}
		l.may = found // what was seen once stays
		l.removeWAL()
		l.check(fmt.Sprintf("killed at operation %d, then cut", n),
			mem.CrashClone(vfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(0, 0))}))
		if finished {
			break
		}
	}
}

func runUntilKilled(l *life, killed error) (finished bool) {
	defer func() {
		if r := recover(); r != nil && r != any(killed) {
			panic(r)
		}
	}()
	l.live()
	return true
}

// Every operation fails once. The request says so, and can be made again, unless a folder could not be
// synced: then the process ends. Whatever was reported holds after a power cut.
func TestEveryOperationFailsOnce(t *testing.T) {
	broken := errors.New("input/output error")
	for n := 0; ; n++ {
		mem := newDisk(t)
		l := &life{t: t, failing: true, may: map[string][]state{"a": {absent}, "b": {absent}}}
		slots, err := Open(mem, dir, 4)
		if err != nil {
			t.Fatal(err)
		}
		op, failed := 0, errorfs.Op{}
		l.slots = slots
		l.slots.folder.fs = errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
			op++
			if op == n+1 {
				failed = o
				return broken
			}
			return nil
		}))
		l.live()
		for seed := range uint64(4) {
			l.check(fmt.Sprintf("operation %d failed: %v of %s", n, failed.Kind, failed.Path),
				mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 0))}))
		}
		if op <= n {
			break
		}
	}
}

// A slot keeps its WAL from the first moment of Create, and while its file is written the lower of what
// the file may hold and of what its consumer said meanwhile.
func TestMinRestartDuringWrites(t *testing.T) {
	mem := newDisk(t)
	s := open(t, mem)
	var during func()
	s.folder.fs = errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
		during()
		return nil
	}))
	ops := 0
	atMost := func(lsn wal.LSN) {
		t.Helper()
		ops++
		if got := s.MinRestart(); got == 0 || got > lsn {
			t.Errorf("MinRestart = %s, want at most %s", got, lsn)
		}
	}
	during = func() { atMost(100) }
	create(t, s, "a", 100)
	h := acquire(t, s, "a", 1)
	h.Advance(50) // the file still says 100, and may say 50 any moment now
	during = func() {
		h.Advance(500)
		atMost(50)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	atMost(50)
	during = func() { atMost(50) }
	if err := s.Save(); err != nil || s.MinRestart() != 500 {
		t.Errorf("MinRestart = %s after the second Save, %v", s.MinRestart(), err)
	}
	if ops < 12 {
		t.Errorf("only %d operations seen", ops)
	}
}

// On real files, where a folder cannot be renamed onto another one that holds something: remains of
// what was not finished are in nobody's way.
func TestRealFiles(t *testing.T) {
	fs, where := vfs.Default, filepath.Join(t.TempDir(), "pg_replslot")
	leave := func(name string) {
		f := folder{fs: fs, dir: where}
		err := errors.Join(fs.MkdirAll(f.path(name), 0o700), f.write(f.path(name, "state.tmp"), "other", state{restart: 1}))
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(fs, where, 4)
	if err != nil {
		t.Fatal(err)
	}
	leave("a.tmp")
	create(t, s, "a", 100)
	leave("a")
	acquire(t, s, "a", 1).Advance(200)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	leave("a.tmp")
	leave("b.tmp")
	create(t, s, "c", 300)
	if s, err = Open(fs, where, 4); err != nil || names(s) != "a c" || restart(t, s, "a") != 200 {
		t.Fatalf("after a restart: %v, %v", err, s)
	}
	leave("a.tmp")
	if err := s.Drop(t.Context(), "a", 1, false); err != nil {
		t.Fatal(err)
	}
	if list, err := fs.List(where); err != nil || !slices.Equal(list, []string{"c"}) {
		t.Errorf("left in the folder: %v, %v", list, err)
	}
}
