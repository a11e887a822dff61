package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// refuses starts a node that must end by itself with exit code 1 and an error that says all of want on
// its last line.
func (n *node) refuses(want ...string) {
	n.t.Helper()
	n.launch()
	n.awaitExit(1)
	last := tail(n.proc.stderr.String(), 1)
	for _, w := range want {
		if !strings.Contains(last, w) {
			n.t.Errorf("%s ends with %q, want %q in it", n.name, last, w)
		}
	}
	if strings.Contains(n.proc.stdout.String(), "ready:") {
		n.t.Errorf("%s says that it is ready\n%s", n.name, n.proc.stdout)
	}
}

// variant is another process for the node's place: with flags added, or another data directory, and
// ports of its own.
func (n *node) variant(dir string, flags ...string) *node {
	v := &node{t: n.t, name: n.name + "-variant", dir: dir, port: freePort(n.t), flags: slices.Clone(n.flags), up: make(chan struct{})}
	v.replaceFlag("--data-dir", dir)
	v.replaceFlag("--listen", v.address())
	for _, other := range []string{"--raft-listen", "--gossip-listen"} {
		v.replaceFlag(other, fmt.Sprintf("127.0.0.1:%d", freePort(n.t)))
	}
	v.flags = append(v.flags, flags...)
	return v
}

// replaceFlag changes the value of a flag.
func (n *node) replaceFlag(name, value string) {
	for i, f := range n.flags {
		if strings.HasPrefix(f, name+"=") {
			n.flags[i] = name + "=" + value
		}
	}
}

func TestDataDirLocked(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1).primary()
	n.variant(n.dir).refuses("is in use by process", "stop it first")
	n.exec("INSERT INTO kv VALUES ('a', '1')")

	// The lock of a process that is gone holds nobody up.
	n.kill9()
	n.start()
	if got := n.value("SELECT value FROM kv WHERE key = 'a'"); got != "1" {
		t.Errorf("a = %q, want 1", got)
	}
}

// Nobody but its user may read what a node stores, however it was written.
func TestFilesAreTheirOwners(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1).primary()
	n.exec("INSERT INTO kv VALUES ('a', '1')")
	n.exec("SELECT pg_switch_wal()")
	n.exec("CHECKPOINT")
	n.stop()
	files := 0
	err := filepath.WalkDir(n.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		files++
		return err
	})
	if err != nil || files < 10 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	v := c.primary().variant(filepath.Join(c.dir, "elsewhere"))
	v.replaceFlag("--listen", c.primary().address())
	v.refuses("listen tcp "+c.primary().address(), "address already in use", "--listen")
	if _, err := os.Stat(filepath.Join(v.dir, "node.json")); err == nil {
		t.Error("a node that could not listen has made a cluster")
	}
}

func TestListenOnlyOnLoopback(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	n := c.node(1)
	n.replaceFlag("--listen", "0.0.0.0:5433")
	n.launch()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := n.proc.wait(ctx); err == nil || !strings.Contains(n.proc.stderr.String(), "loopback") {
		t.Errorf("listening on all interfaces: %v\n%s", err, n.proc.stderr)
	}
}

// A standby whose data is of another cluster must not follow, nor change anything.
func TestDataDirOfOtherCluster(t *testing.T) {
	t.Parallel()
	ours, theirs := newCluster(t, 2), newCluster(t, 1)
	ours.primary().exec("INSERT INTO kv VALUES ('a', 'ours')")
	ours.awaitCaughtUp()
	home, stray := ours.pair()
	stray.stop()
	home.stop() // or it might find its own cluster first, and is right to follow that
	stray.replaceFlag("--join", theirs.primary().address())
	stray.launch()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := stray.proc.wait(ctx); err == nil || stray.proc.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("a standby of another cluster ended with %v, want exit code 1", err)
	}
	if last := tail(stray.proc.stderr.String(), 1); !strings.Contains(last, "system identifier") {
		t.Errorf("it ends with %q, want it to name the system identifiers", last)
	}
	if got := theirs.primary().value("SELECT count(*) FROM longship_members"); got != "1" {
		t.Errorf("the other cluster has %s members, want 1", got)
	}
	stray.replaceFlag("--join", home.address())
	home.launch()
	stray.launch()
	home.awaitReady()
	stray.awaitReady()
	ours.awaitCaughtUp()
	checkSameTable(t, ours.primary(), stray)
}

// A directory is started as what it is, or not at all, and no node takes another's place while that is
// there.
func TestDataDirOfOtherNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.node(1), c.node(2)
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	c.awaitCaughtUp()
	for _, n := range c.nodes {
		n.stop()
	}
	n1.variant(n1.dir, "--wal-segsize=2").refuses("WAL segments of 1 MB", "2 MB were asked for")
	n1.variant(n1.dir, "--name=other").refuses(`belongs to node "n1"`, `not "other"`)
	copied := filepath.Join(c.dir, "copied")
	if err := os.CopyFS(copied, os.DirFS(n2.dir)); err != nil {
		t.Fatal(err)
	}

	// Whom to join, and that one has founded the cluster, is of no interest any more.
	n2.flags = slices.DeleteFunc(n2.flags, func(f string) bool { return strings.HasPrefix(f, "--join=") })
	n1.flags = append(n1.flags, "--join="+n2.address())
	n1.launch()
	n2.launch()
	n1.awaitReady()
	n2.awaitReady()
	n1.flags = n1.flags[:len(n1.flags)-1]
	c.awaitStreaming()
	c.checkSame()

	n2.variant(copied).refuses("data directory", "cop", n2.address())
	join := "--join=" + n1.address()
	n2.variant(filepath.Join(c.dir, "n8"), "--name=n1", join).refuses("the name n1 is taken", n1.address())
	n2.variant(filepath.Join(c.dir, "n9"), "--name=n9", "--wal-segsize=16", join).refuses("WAL segments of 1 MB", "16 MB were asked for")
	if got := c.primary().value("SELECT count(*) FROM longship_members WHERE counted"); got != "2" {
		t.Errorf("%s members count, want 2", got)
	}
}

// A directory that a crash left half-initialised is begun again; one with somebody else's files is
// left alone.
func TestDataDirHalfInitialised(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	half := c.node(2)
	write := func(path string) {
		t.Helper()
		path = filepath.Join(half.dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"longship.building", "node.json", "global/control", "pg_wal/000000010000000000000001", "store/CURRENT", "basecopy/store/x"} {
		write(path)
	}
	half.start()
	c.awaitStreaming()
	c.primary().exec("INSERT INTO kv VALUES ('a', '1')")
	c.awaitCaughtUp()
	checkSameTable(t, c.primary(), half)

	foreign := c.node(3)
	half = foreign
	write("holiday.jpg")
	foreign.refuses("holiday.jpg", "not a Longship data directory")
	if _, err := os.Stat(filepath.Join(foreign.dir, "holiday.jpg")); err != nil {
		t.Error(err)
	}
}
