package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Sessions and streams that have ended leave no goroutine and no open file behind, however they ended.
func TestNoLeaks(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n, standby := c.pair()
	n.exec("INSERT INTO kv VALUES ('a', '1')")
	n.await("SELECT value FROM kv WHERE key = 'a'", "1")
	files := n.openFiles()
	ctx, cancel := testContext(t)
	defer cancel()
	for i := range 150 {
		conn, err := pgx.Connect(ctx, n.dsn())
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0: // a client that goes away without a word, in a transaction
			conn.Exec(ctx, "BEGIN")
			conn.Exec(ctx, "INSERT INTO kv VALUES ('b', '1')")
			conn.PgConn().Conn().Close()
		case 1:
			conn.Exec(ctx, "SELECT nope")
			conn.Close(ctx)
		case 2:
			startReplication(t, n, "START_REPLICATION 7F/0")
			conn.Close(ctx)
		}
	}
	for range 3 {
		standby.kill9()
		standby.start()
		c.awaitStreaming()
	}
	n.awaitThat("SELECT count(*) FROM pg_stat_replication", func(string) bool { return n.openFiles() <= files+8 },
		fmt.Sprintf("(and %d open files, as at first)", files))

	// An idle primary with one standby and one session needs some dozens of goroutines, those of Pebble, Raft
	// and gossip included.
	n.down()
	n.proc.signal(syscall.SIGQUIT)
	n.proc.wait(ctx)
	if got := len(regexp.MustCompile(`(?m)^goroutine \d+ `).FindAllString(n.proc.stderr.String(), -1)); got == 0 || got > 90 {
		t.Errorf("%d goroutines are left, want at most 90\n%s", got, tail(n.proc.stderr.String(), 200))
	}
}

// openFiles counts the process's file descriptors.
func (n *node) openFiles() int {
	files, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(n.proc.cmd.Process.Pid), "fd"))
	if err != nil {
		n.t.Skipf("cannot count open files: %v", err)
	}
	return len(files)
}
