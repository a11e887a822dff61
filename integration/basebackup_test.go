package integration

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// pg_basebackup takes a copy while the primary works, in every way it can, and pg_verifybackup finds
// nothing wrong with it.
func TestBasebackup(t *testing.T) {
	t.Parallel()
	basebackup, verify := tool(t, "pg_basebackup"), tool(t, "pg_verifybackup")
	c := newCluster(t, 2)
	fill(t, c.primary(), rand.New(rand.NewPCG(25, 26)), 4)
	l := startLoad(c, "load", 2)
	for name, args := range map[string][]string{
		"stream": {"--wal-method=stream"},
		"fetch":  {"--wal-method=fetch", "--max-rate=100M"},
		"none":   {"--wal-method=none", "--manifest-checksums=SHA256"},
	} {
		dir := filepath.Join(t.TempDir(), name)
		mustRun(t, basebackup, append([]string{"-d", c.primary().dsn(), "-D", dir, "--checkpoint=fast", "--progress"}, args...)...)
		var flags []string
		if name == "none" {
			flags = append(flags, "--no-parse-wal")
		}
		mustRun(t, verify, append(flags, dir)...)
	}
	dir := filepath.Join(t.TempDir(), "tar")
	mustRun(t, basebackup, "-d", c.primary().dsn(), "-D", dir, "--format=tar", "--gzip", "--wal-method=fetch", "--checkpoint=fast")
	if info, err := os.Stat(filepath.Join(dir, "base.tar.gz")); err != nil || info.Size() == 0 {
		t.Errorf("no base.tar.gz: %v", err)
	}
	l.await(50)
	l.stop()
}
