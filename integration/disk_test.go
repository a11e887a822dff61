package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/longship-db/longship/wal"
)

// smallDisk makes a node's data directory a file system of its own, of a few segments, with something
// else on it that can be removed to make room.
func smallDisk(t *testing.T, n *node, segments, ballast int) (makeRoom func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	size := fmt.Sprintf("size=%d", (segments+ballast)*int(segmentSize))
	if err := syscall.Mount("longship-test", n.dir, "tmpfs", 0, size); err != nil {
		t.Skipf("mount of a tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(n.dir, syscall.MNT_DETACH) })
	filler := filepath.Join(n.dir, "lost+found") // the one name that a data directory may hold already
	if err := os.WriteFile(filler, make([]byte, ballast*int(segmentSize)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			t.Error(err)
		}
	}
}

// A full disk refuses writes with 53100, and nothing else: reads go on, and so do writes when there is
// room again.
func TestDiskFullOnPrimary(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	n := c.node(1)
	makeRoom := smallDisk(t, n, 24, 100)
	n.start()
	n.exec("INSERT INTO kv VALUES ('before', '1')")

	acked := map[string]bool{}
	code := fillDisk(t, n, "first", acked)
	if code != "53100" {
		t.Errorf("on a full disk a write gets %s, want 53100", code)
	}
	if got := n.value("SELECT value FROM kv WHERE key = 'before'"); got != "1" {
		t.Errorf("on a full disk a read gets %q, want 1", got)
	}
	for range 3 {
		if err := n.tryExec("INSERT INTO kv VALUES ('more', $1)", strings.Repeat("x", 2<<20)); sqlState(err) != "53100" {
			t.Errorf("another write gets %v, want 53100", err)
		}
	}

	if err := n.tryExec("CHECKPOINT"); sqlState(err) != "53100" {
		t.Errorf("a checkpoint on a full disk gets %v, want 53100", err)
	}
	if got := n.value("SELECT value FROM kv WHERE key = 'before'"); got != "1" {
		t.Errorf("after a failed checkpoint a read gets %q, want 1", got)
	}

	makeRoom()
	n.awaitWritable()
	n.exec("CHECKPOINT")
	for key := range acked {
		if got := n.value("SELECT length(value) FROM kv WHERE key = $1", key); got != "100000" {
			t.Errorf("%s was acknowledged, and now its length is %q", key, got)
		}
	}
	n.restart()
	for key := range acked {
		if got := n.value("SELECT length(value) FROM kv WHERE key = $1", key); got != "100000" {
			t.Errorf("after a restart the length of %s is %q", key, got)
		}
	}
}

// fillDisk writes until it gets an error, whose SQLSTATE it returns, and notes what was acknowledged.
func fillDisk(t *testing.T, n *node, prefix string, acked map[string]bool) string {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	conn := n.connect()
	defer conn.Close(ctx)
	for i := range 2000 {
		key := prefix + "/" + wal.LSN(i).String()
		_, err := conn.Exec(ctx, "INSERT INTO kv VALUES ($1, $2)", key, noise(i, 100_000))
		if err != nil {
			t.Logf("after %d rows: %v", i, err)
			return sqlState(err)
		}
		acked[key] = true
	}
	t.Fatal("the disk does not get full")
	return ""
}

// noise is text that does not compress.
func noise(seed, n int) string {
	b := make([]byte, n)
	state := uint64(seed)*2862933555777941757 + 3037000493
	for i := range b {
		state = state*6364136223846793005 + 1442695040888963407
		b[i] = '!' + byte(state>>58)
	}
	return string(b)
}

// awaitWritable waits until the node takes writes again.
func (n *node) awaitWritable() {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for {
		err := n.tryExec("INSERT INTO kv VALUES ('writable', '1') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
		if err == nil {
			return
		}
		if ctx.Err() != nil || sqlState(err) != "53100" {
			n.t.Fatalf("%s does not take writes again: %v", n.name, err)
		}
	}
}

// A standby whose disk is full never claims to have flushed what it has not, goes on answering
// queries, and catches up when there is room.
func TestDiskFullOnStandby(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms", "--synchronous-standby-names="}
	n1, n2 := c.node(1), c.node(2)
	makeRoom := smallDisk(t, n2, 20, 150)
	n1.start()
	n2.start()
	c.awaitStreaming()
	n1.exec("INSERT INTO kv VALUES ('before', '1')")
	c.awaitCaughtUp()

	for i := range 400 {
		n1.exec("INSERT INTO kv VALUES ($1, $2)", wal.LSN(i).String(), noise(i, 100_000))
	}
	end := n1.flushed()
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := n2.proc.await(ctx, n2.proc.stderr, "no space left on device"); err != nil {
		t.Fatal(err)
	}
	claimed := n2.claimedFlush(n1)
	if claimed >= end {
		t.Fatalf("the standby has %s although its disk is full, want less than %s: make it smaller", claimed, end)
	}
	checkSameWAL(t, n1, n2, claimed)
	if got := n2.value("SELECT value FROM kv WHERE key = 'before'"); got != "1" {
		t.Errorf("the standby answers %q, want 1", got)
	}

	makeRoom()
	n2.awaitLSN(end)
	checkSameWAL(t, n1, n2, end)
	checkSameTable(t, n1, n2)
}

// claimedFlush is how far a standby says it has flushed: to clients, and to its primary.
func (n *node) claimedFlush(primary *node) wal.LSN {
	n.t.Helper()
	claimed := parseLSN(n.t, n.value("SELECT pg_last_wal_receive_lsn()"))
	reported := primary.value("SELECT flush_lsn FROM pg_stat_replication WHERE application_name = '" + n.name + "'")
	if reported == "" {
		return claimed
	}
	return max(claimed, parseLSN(n.t, reported))
}
