package integration

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"testing"
)

// barman receives the log of a cluster as it is written and takes a base backup beside it. What it makes of both is the
// directory of a node, which needs no other copy.
func TestBarman(t *testing.T) {
	t.Parallel()
	barman := tool(t, "barman")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 2, heartbeats) // pg_receivewal ends a segment when the next one begins
	home := t.TempDir()
	conf := filepath.Join(home, "barman.conf")
	text := fmt.Sprintf(`[barman]
barman_user = %s
barman_home = %s
[here]
description = a cluster
conninfo = %s
streaming_conninfo = %[3]s
backup_method = postgres
streaming_archiver = on
slot_name = barman
path_prefix = %s
`, me.Username, home, c.primary().dsn(), filepath.Dir(tool(t, "pg_receivewal")))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		return mustRun(t, barman, append([]string{"-c", conf}, args...)...)
	}
	ctx, cancel := testContext(t)
	defer cancel()

	run("receive-wal", "--create-slot", "here")
	receiving := startProcess(t, nil, barman, "-c", conf, "receive-wal", "here")
	if _, err := receiving.await(ctx, receiving.stderr, "starting log streaming"); err != nil {
		t.Fatal(err)
	}
	c.primary().exec("INSERT INTO kv VALUES ('before', 'the backup')")
	run("switch-wal", "--force", "--archive", "here")
	run("check", "here")
	run("backup", "--wait", "here")
	c.primary().exec("INSERT INTO kv VALUES ('after', 'the backup')")
	n3 := c.node(3)
	run("recover", "here", "latest", n3.dir)
	startOnCopy(t, n3)
	c.awaitStreaming()
	c.awaitCounted(3)
	c.checkSame()

	run("receive-wal", "--stop", "here")
	if err := receiving.wait(ctx); ctx.Err() != nil {
		t.Error(err)
	}
}
