package simulation

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

func instant() time.Duration { return 0 }

func mount(d *Disk) *Mount { return NewMount(d, instant) }

func write(t *testing.T, m *Mount, name, text string, sync bool) {
	t.Helper()
	f, err := m.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := errors.Join(f.Sync(), wal.SyncDir(m, m.PathDir(name))); err != nil {
			t.Fatal(err)
		}
	}
}

func content(m *Mount, name string) string {
	b, err := wal.ReadFile(m, name, 1<<20)
	if err != nil {
		return "none"
	}
	return string(b)
}

// After a power cut there is what was synced, of files and of names, and nothing else, or all else, or a part of it.
func TestPowerCut(t *testing.T) {
	m := mount(NewDisk())
	write(t, m, "synced", "old", true)
	write(t, m, "synced", "new", false)
	long := strings.Repeat("a", 3*pageSize)
	write(t, m, "long", strings.Repeat("b", 3*pageSize), true)
	write(t, m, "long", long, false)
	write(t, m, "nameless", "x", false)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		percent             int
		synced, other, long string
	}{
		{0, "old", "none", strings.Repeat("b", 3*pageSize)},
		{100, "new", "x", long},
	} {
		for i := 0; ; i++ {
			after := mount(m.Disk().PowerCut(rng, c.percent))
			got := []string{content(after, "synced"), content(after, "nameless"), content(after, "long")}
			if got[0] == c.synced && got[1] == c.other && got[2] == c.long {
				break // at 100 percent pages may still be torn
			}
			if c.percent == 0 || i == 100 {
				t.Fatalf("%d percent: %.5q, want %.5q", c.percent, got, []string{c.synced, c.other, c.long})
			}
		}
	}
	torn := map[bool]int{}
	for range 200 {
		s := content(mount(m.Disk().PowerCut(rng, 50)), "long")
		torn[strings.Count(s, "a")%pageSize != 0]++
		if len(s) != 3*pageSize {
			t.Fatalf("%d bytes", len(s))
		}
	}
	write(t, m, "head", strings.Repeat("h", 700), true)
	write(t, m, "head", strings.Repeat("h", 700)+strings.Repeat("t", 700), false)
	for range 200 {
		if s := content(mount(m.Disk().PowerCut(rng, 50)), "head"); strings.Count(s, "h") != 700 {
			t.Fatalf("what was synced is gone: %q", s)
		}
	}
	if torn[true] == 0 || torn[false] == 0 {
		t.Errorf("pages torn or not: %v", torn)
	}
	if got := content(m, "synced"); got != "new" {
		t.Errorf("the disk that was copied has %q", got)
	}
}

// What a sync that failed was to keep is read as before, until the power fails: neither another sync nor one of
// what is written behind it brings it back. What is written again is kept.
func TestFailedSyncForgets(t *testing.T) {
	m := mount(NewDisk())
	write(t, m, "f", strings.Repeat("a", pageSize), true)
	f, err := m.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	put := func(page int, s string) {
		t.Helper()
		if _, err := f.WriteAt([]byte(strings.Repeat(s, pageSize)), int64(page)*pageSize); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		after := content(mount(m.Disk().PowerCut(rand.New(rand.NewPCG(1, 1)), 100)), "f")
		var got strings.Builder
		for i := 0; i < len(after); i += pageSize {
			got.WriteByte(after[i])
		}
		if got.String() != want {
			t.Errorf("pages of %q after a power cut, want %q", got.String(), want)
		}
	}
	put(0, "b")
	put(2, "b")
	m.Break(func(string, string) error { return syscall.EIO })
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	m.Break(nil)
	if got := content(m, "f"); got[:1] != "b" {
		t.Errorf("read %.1q before the power cut", got)
	}
	expect("a\x00\x00")
	put(1, "c")
	expect("ac\x00")
	put(0, "d")
	expect("dc\x00")
}

// What a killed process has written stays, and is still not durable; neither side changes the other.
func TestKilled(t *testing.T) {
	m := mount(NewDisk())
	write(t, m, "f", "old", true)
	write(t, m, "f", "new", false)
	if err := m.Link("f", "g"); err != nil {
		t.Fatal(err)
	}
	after := mount(m.Disk().Killed())
	write(t, m, "f", "ghost", true)
	if got := content(after, "f"); got != "new" {
		t.Errorf("read %q", got)
	}
	write(t, after, "g", "NEW", false)
	if got := content(after, "f"); got != "NEW" {
		t.Errorf("a hard link became another file: %q", got)
	}
	if got := content(m, "f"); got != "ghost" {
		t.Errorf("read %q", got)
	}
	if got := content(mount(after.Disk().PowerCut(rand.New(rand.NewPCG(1, 1)), 0)), "f"); got != "old" {
		t.Errorf("durable is %q, want what was synced", got)
	}
}

// A disk hangs, fails, is full, and flips bits as it is told.
func TestDiskFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mount(NewDisk())
		write(t, m, "f", "x", true)
		f, err := m.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		m.Hang(time.Now().Add(time.Hour))
		began := time.Now()
		if err := f.Sync(); err != nil || time.Since(began) != time.Hour {
			t.Errorf("a sync of a disk that hangs: %v after %v", err, time.Since(began))
		}
		m.Hang(time.Now().Add(time.Hour))
		time.AfterFunc(time.Minute, func() { m.Hang(time.Time{}) })
		began = time.Now()
		if err := f.Sync(); err != nil || time.Since(began) != time.Minute {
			t.Errorf("a sync of a disk that hung for a minute: %v after %v", err, time.Since(began))
		}
		m.Break(func(op, name string) error {
			if op == "sync" && name == "f" {
				return syscall.EIO
			}
			return nil
		})
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync: %v", err)
		}
		m.Break(nil)
		m.Disk().SetFull(true)
		if _, err := f.WriteAt([]byte("y"), 0); err != nil {
			t.Errorf("to overwrite needs no room: %v", err)
		}
		if _, err := f.WriteAt([]byte("y"), 1); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("write: %v", err)
		}
		if !m.Disk().Flip("f", 0, 1) || m.Disk().Flip("f", 1, 1) {
			t.Error("flip")
		}
		b := make([]byte, 2)
		if n, err := f.ReadAt(b, 0); n != 1 || err != io.EOF || b[0] != 'y'^2 {
			t.Errorf("read %d %v %q", n, err, b)
		}
		if _, err := m.Stat("g"); !os.IsNotExist(err) {
			t.Errorf("stat: %v", err)
		}
	})
}
