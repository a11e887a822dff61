package raftlog

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

var errDisk = errors.New("input/output error")

// A brokenStore fails or hangs.
type brokenStore struct {
	Storage
	writes atomic.Int32
	hang   chan struct{}
}

func (s *brokenStore) StoreLogs([]*raft.Log) error {
	s.writes.Add(1)
	if s.hang != nil {
		<-s.hang
		return nil
	}
	return errDisk
}

func (s *brokenStore) Set([]byte, []byte) error { s.writes.Add(1); return errDisk }

// A write that fails is reported once, and is the last one: neither it nor any other is tried again,
// and nobody goes on as if it had been done.
func TestFailedWriteIsTheLast(t *testing.T) {
	broken := &brokenStore{}
	var reports []error
	s := newStore(broken, func(err error) { reports = append(reports, err) })
	for range 2 {
		for name, write := range map[string]func(){
			"log":      func() { s.StoreLog(&raft.Log{Index: 1}) },
			"vote":     func() { s.Set([]byte("LastVoteCand"), []byte("n1")) },
			"snapshot": func() { snapshotSink{store: s}.Write(nil) },
		} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				if len(reports) == 0 && name != "log" {
					return // the first one is the log's
				}
				write()
				t.Errorf("%s: a write that failed returns", name)
			}()
			<-done
		}
	}
	if len(reports) != 1 || !errors.Is(reports[0], errDisk) {
		t.Errorf("reported %v, want %v once", reports, errDisk)
	}
	if n := broken.writes.Load(); n != 1 {
		t.Errorf("%d writes reached the disk, want the one that failed", n)
	}
}

// A leader whose disk fails is cut off, says so once, and the others go on without it.
func TestDiskOfLeaderFails(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		leader, follower := c.leader(), c.follower()
		n := c.node(leader)
		c.broken.Store(n.store.db.(*disk))
		c.propose(follower, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		if next := c.leader(); next == leader {
			t.Errorf("%s leads with a broken disk", next)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Equal(c.ended, []string{leader}) {
			t.Errorf("fatal errors at %v, want one at %s", c.ended, leader)
		}
		if !n.stream.isCut() {
			t.Error("the node is not cut off")
		}
	})
}

// How long a write hangs can be seen from outside, while it does.
func TestWriteStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		s := newStore(&brokenStore{hang: hang}, func(error) {})
		n := &Node{store: s}
		if d := n.WriteStalled(); d != 0 {
			t.Errorf("WriteStalled() = %v with no write", d)
		}
		go s.StoreLog(&raft.Log{Index: 1})
		synctest.Wait()
		time.Sleep(3 * time.Second)
		go s.StoreLog(&raft.Log{Index: 2})
		synctest.Wait()
		time.Sleep(time.Second)
		if d := n.WriteStalled(); d != 4*time.Second {
			t.Errorf("WriteStalled() = %v, want 4s", d)
		}
		close(hang)
		synctest.Wait()
		if d := n.WriteStalled(); d != 0 {
			t.Errorf("WriteStalled() = %v after the write", d)
		}
	})
}

// The identity is made once, is in the file that has the votes, and goes with it.
func TestLoadID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	first, fresh, err := LoadID(dir, nil)
	if err != nil || !fresh || first == "" {
		t.Fatalf("LoadID() = %q, %v, %v on an empty disk", first, fresh, err)
	}
	again, fresh, err := LoadID(dir, nil)
	if err != nil || fresh || again != first {
		t.Errorf("LoadID() = %q, %v, %v, want %q again", again, fresh, err, first)
	}
	if err := os.Remove(filepath.Join(dir, storeFile)); err != nil {
		t.Fatal(err)
	}
	other, fresh, err := LoadID(dir, nil)
	if err != nil || !fresh || other == first {
		t.Errorf("LoadID() = %q, %v, %v after the votes were lost, want another than %q", other, fresh, err, first)
	}
}

// A crash in the middle of a bootstrap is made good by the next one; a log that is there is left alone.
func TestBootstrapAgain(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "raft"), Advertise: "n1"}
	var err error
	if cfg.ID, _, err = LoadID(cfg.Dir, nil); err != nil {
		t.Fatal(err)
	}
	look := func(f func(Storage)) {
		t.Helper()
		db, err := openBolt(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		f(db)
	}
	look(func(db Storage) { db.SetUint64(keyTerm, 1) }) // where the crash was
	for range 2 {
		if err := Bootstrap(cfg); err != nil {
			t.Fatal(err)
		}
		look(func(db Storage) {
			if last, err := db.LastIndex(); last != 1 || err != nil {
				t.Errorf("the log ends at %d, %v, want 1", last, err)
			}
		})
	}
	look(func(db Storage) { db.StoreLog(&raft.Log{Index: 2, Term: 5}); db.SetUint64(keyTerm, 5) })
	if err := Bootstrap(cfg); err != nil {
		t.Fatal(err)
	}
	look(func(db Storage) {
		if term, err := db.GetUint64(keyTerm); term != 5 || err != nil {
			t.Errorf("the term is %d, %v, want 5", term, err)
		}
	})
	look(func(db Storage) { db.DeleteRange(1, 2) }) // as after a snapshot
	if err := Bootstrap(cfg); err != nil {
		t.Fatal(err)
	}
	look(func(db Storage) {
		if last, err := db.LastIndex(); last != 0 || err != nil {
			t.Errorf("the log ends at %d, %v, want none", last, err)
		}
	})
}

// A node refuses a store that is not its own.
func TestOpenWrongStore(t *testing.T) {
	c := newCluster(t)
	dir := filepath.Join(c.dir, "n1", "raft")
	if _, _, err := LoadID(dir, nil); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, ID: "another", Advertise: "n1"}
	if _, err := Open(cfg); err == nil {
		t.Error("a node without a listener opens")
	}
	cfg.Listener, cfg.Dial, cfg.Fatal, cfg.Logger = c.network.listen("n1"), c.network.dial, func(error) {}, testLogger(t)
	if _, err := Open(cfg); err == nil {
		t.Error("a node opens the store of another")
	}
}

// A store with a snapshot of a later version is not opened, and Open says why: hashicorp/raft says only that it
// cannot load any.
func TestOpenLaterSnapshot(t *testing.T) {
	c := newCluster(t)
	dir := filepath.Join(c.dir, "n1", "raft")
	id, _, err := LoadID(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := raft.NewFileSnapshotStore(dir, 1, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	to, err := files.Create(raft.SnapshotVersionMax, 9, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(to, `{"version":2,"replicas":[]}`); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, ID: id, Advertise: "n1", Listener: c.network.listen("n1"), Dial: c.network.dial, Logger: testLogger(t)}
	cfg.Fatal = func(err error) { t.Error(err) }
	_, err = Open(cfg)
	if want := "it has version 2 of the format, and this program knows 1"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Open: %v, want: %s", err, want)
	}
}

// A store has room before it needs it: the disk may be full then.
func TestStoreReserve(t *testing.T) {
	dir := t.TempDir()
	for _, what := range []string{"made", "opened"} {
		s, err := openBolt(dir)
		if err != nil {
			t.Fatal(err)
		}
		var file unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, storeFile), &file); err != nil {
			t.Fatal(err)
		}
		if has := file.Blocks * 512; has < storeReserve {
			t.Errorf("a store that was %s has %d bytes on the disk, want %d", what, has, storeReserve)
		}
		s.Close()
	}
}
