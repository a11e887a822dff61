package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// frozenDisk makes a node's data directory a file system of its own, which can be made to hang.
func frozenDisk(t *testing.T, n *node) (freeze, thaw func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a file system takes root")
	}
	for _, name := range []string{"mkfs.ext4", "mount", "umount", "fsfreeze"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	image := filepath.Join(t.TempDir(), "disk")
	mustRun(t, "/bin/sh", "-c", "truncate -s 512M "+image+" && mkfs.ext4 -q -F "+image)
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := runTool(t, "", "/bin/mount", "-o", "loop", image, n.dir); err != nil {
		t.Skipf("mount: %v\n%s", err, out)
	}
	thawed := true
	freeze = func() {
		thawed = false
		mustRun(t, "/bin/sh", "-c", "fsfreeze -f "+n.dir)
	}
	thaw = func() {
		thawed = true
		mustRun(t, "/bin/sh", "-c", "fsfreeze -u "+n.dir)
	}
	t.Cleanup(func() {
		if !thawed {
			exec.Command("fsfreeze", "-u", n.dir).Run()
		}
		n.kill9()
		exec.Command("umount", n.dir).Run()
	})
	return freeze, thaw
}

// A primary whose disk hangs says that it lives, and does nothing. Its watchdog ends that: somebody else
// is primary soon after the deadline.
func TestDiskStall(t *testing.T) {
	const deadline = 2 * time.Second
	c := unstarted(t)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms", "--disk-watchdog-timeout=" + deadline.String()}
	t.Cleanup(c.tidy)
	n1 := c.node(1)
	freeze, thaw := frozenDisk(t, n1)
	n1.start()
	c.node(2).start()
	c.node(3).start()
	c.awaitStreaming()
	c.awaitCounted(3)
	k := c.startClients("stall", 6)
	k.await(100)
	epoch, at, began := n1.epoch(), k.now(), time.Now()
	n1.down()
	freeze()
	k.await(20)
	gap := k.gap(at)
	t.Logf("the disk hung: no write for %v, with a deadline of %v; %s", gap.Round(time.Millisecond), deadline, c.phases(began, epoch))
	thaw()
	n1.awaitExit(1)
	t.Logf("%s", tail(n1.proc.stderr.String(), 1))
	n1.start()
	c.awaitStreaming()
	k.await(20)
	k.finish()
}
