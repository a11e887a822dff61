package integration

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pg_basebackup takes a copy while the primary works, in every way it can, and pg_verifybackup finds
// nothing wrong with it. Nodes that are started on copies become members without copying anything again.
func TestBasebackup(t *testing.T) {
	t.Parallel()
	verify := tool(t, "pg_verifybackup")
	c := newCluster(t, 2)
	fill(t, c.primary(), rand.New(rand.NewPCG(25, 26)), 4)
	l := startLoad(c, "load", 2)
	for name, args := range map[string][]string{
		"fetch":       {"--wal-method=fetch", "--max-rate=100M"},
		"none":        {"--wal-method=none", "--manifest-checksums=SHA256"},
		"server gzip": {"--compress=server-gzip", "--wal-method=fetch"},
	} {
		dir := filepath.Join(t.TempDir(), name)
		takeBackup(t, c.primary(), dir, args...)
		var flags []string
		if name == "none" {
			flags = append(flags, "--no-parse-wal")
		}
		mustRun(t, verify, append(flags, dir)...)
	}
	for file, args := range map[string][]string{
		"base.tar.lz4": {"--wal-method=fetch", "--compress=client-lz4"},
		"base.tar.zst": {"--wal-method=stream", "--compress=client-zstd:1"},
	} {
		dir := filepath.Join(t.TempDir(), file)
		takeBackup(t, c.primary(), dir, append(args, "--format=tar")...)
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Size() == 0 {
			t.Errorf("no %s: %v", file, err)
		}
	}

	n3 := c.node(3)
	takeBackup(t, c.primary(), n3.dir, "--wal-method=stream", "--create-slot", "--slot=copy", "--write-recovery-conf")
	mustRun(t, verify, n3.dir)
	n3.flags = slices.DeleteFunc(n3.flags, func(flag string) bool { return strings.HasPrefix(flag, "--join") }) // it is in the copy
	startOnCopy(t, n3)
	n4 := c.node(4)
	tars := filepath.Join(t.TempDir(), "tar")
	takeBackup(t, c.primary(), tars, "--format=tar", "--gzip", "--wal-method=stream")
	for _, archive := range []string{"base.tar.gz", "pg_wal.tar.gz"} {
		into := n4.dir
		if archive != "base.tar.gz" {
			into = filepath.Join(into, "pg_wal")
		}
		if err := os.MkdirAll(into, 0o700); err != nil {
			t.Fatal(err)
		}
		mustRun(t, tool(t, "tar"), "-xzf", filepath.Join(tars, archive), "-C", into)
	}
	startOnCopy(t, n4)
	l.await(50)
	l.stop()
	c.awaitStreaming()
	c.awaitCounted(4)
	c.checkSame()
	if got := n3.value("SELECT pg_promote()"); got != "t" {
		t.Errorf("pg_promote() = %s on a standby, want t", got)
	}
	n3.await("SELECT pg_is_in_recovery()", "f")
	if _, err := n3.tryValue("SELECT pg_promote()"); sqlState(err) != "55000" {
		t.Errorf("pg_promote() on the primary: %v, want 55000", err)
	}
	c.checkSame()
}

// takeBackup runs pg_basebackup.
func takeBackup(t *testing.T, n *node, dir string, args ...string) {
	t.Helper()
	mustRun(t, tool(t, "pg_basebackup"), append([]string{"-d", n.dsn(), "-D", dir, "--checkpoint=fast", "--progress"}, args...)...)
}

// startOnCopy starts a node whose directory is a base backup. It does not take another one.
func startOnCopy(t *testing.T, n *node) {
	t.Helper()
	n.start()
	if out := n.proc.stdout.String(); strings.Contains(out, "base copy") {
		t.Errorf("%s copies what it has:\n%s", n.name, out)
	}
}

// What is no base backup of this cluster, or has no WAL, is refused and left as it was.
func TestForeignBasebackup(t *testing.T) {
	t.Parallel()
	ours, theirs := newCluster(t, 1), newCluster(t, 1)
	for what, copied := range map[string]struct {
		from *node
		args []string
		want string
	}{
		"another cluster": {theirs.primary(), []string{"--wal-method=fetch"}, "different database system"},
		"without WAL":     {ours.primary(), []string{"--wal-method=none"}, "holds no WAL"},
	} {
		dir := filepath.Join(t.TempDir(), what)
		takeBackup(t, copied.from, dir, copied.args...)
		joiner := ours.node(2)
		flags := []string{"start", "--data-dir=" + dir, "--name=copy", "--listen=" + joiner.address(), "--join=" + ours.nodes[0].address()}
		out, err := runTool(t, "", longship, append(flags, joiner.flags[3:5]...)...)
		if err == nil || !strings.Contains(out, copied.want) {
			t.Errorf("%s: %v, want %q\n%s", what, err, copied.want, out)
		}
		mustRun(t, tool(t, "pg_verifybackup"), "--no-parse-wal", "--ignore=longship.pid", "--ignore=raft", dir)
	}
}
