package integration

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// traceSyncs attaches strace to a node, to watch, and perhaps to spoil, the system calls by which it syncs its log:
// fdatasync, and pwritev2, which writes and syncs.
func traceSyncs(t *testing.T, n *node, args ...string) *process {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	args = append(args, "-f", "-e", "trace=fdatasync,pwritev2", "-p", strconv.Itoa(n.proc.cmd.Process.Pid))
	p := startProcess(t, nil, path, args...)
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := p.await(ctx, p.stderr, `Process \d+ attached`); err != nil {
		t.Skipf("strace cannot attach: %v", err)
	}
	return p
}

// failSync makes every further sync of a node's log fail with EIO.
func failSync(t *testing.T, n *node) {
	t.Helper()
	traceSyncs(t, n, "-e", "inject=fdatasync,pwritev2:error=EIO")
}

// What is written past the page cache is durable when the call returns: the disk is told so each time.
func TestDirectWritesAreDurable(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1).nodes[0]
	const cached = `msg="WAL is written through the page cache"`
	if strings.Contains(n.proc.stderr.String(), cached) {
		t.Skip(cached)
	}
	p := traceSyncs(t, n)
	n.exec("INSERT INTO kv VALUES ('a', '1')")
	ctx, cancel := testContext(t)
	defer cancel()
	// What is done while another thread calls is told of in two lines, the first without the result.
	if _, err := p.await(ctx, p.stderr, `pwritev2\(.*, RWF_DSYNC(\) = \d+| <unfinished)`); err != nil {
		t.Errorf("no write with RWF_DSYNC: %v", err)
	}
}

// After a failed fsync nobody knows what is on the disk: the process ends, and no commit is acknowledged
// that the others do not have, of which one takes over. The next start recovers all that was.
func TestFailedSyncOnPrimary(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	n := c.primary()
	l := startLoad(c, "load", 4)
	l.await(100)
	n.down()
	failSync(t, n)
	n.awaitExit(1)
	l.mu.Lock()
	before := len(l.acked)
	l.mu.Unlock()
	if _, err := n.proc.await(t.Context(), n.proc.stderr, `(?m)^longship: .*input/output error`); err != nil {
		t.Error(err)
	}
	l.await(50)
	n.start()
	l.await(50)
	l.stop()
	t.Logf("%d commits acknowledged before, %d in all", before, len(l.acked))
	c.checkSame()
	for _, n := range c.nodes {
		l.check(n)
	}
}

// On a standby too, and the primary goes on.
func TestFailedSyncOnStandby(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	l := startLoad(c, "load", 4)
	l.await(100)
	s := c.standbys()[0]
	failSync(t, s)
	s.awaitExit(1)
	l.await(100)
	s.start()
	l.await(100)
	l.stop()
	c.checkSame()
	for _, n := range c.nodes {
		l.check(n)
	}
}
