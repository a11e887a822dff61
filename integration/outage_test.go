package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node that has lost what it knew of Raft is another Raft server with the same data: it is a voter
// again by itself, and writes go on meanwhile.
func TestRaftDirDeleted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	k := c.startClients("raftdir", 4)
	k.await(50)
	victims := map[string]*node{"a standby": c.standbys()[0], "the Raft leader": c.raftLeader()}
	if victims["the Raft leader"] == victims["a standby"] {
		victims["a standby"] = c.standbys()[1]
	}
	victims["the primary"] = c.primary()
	for what, n := range victims {
		at := k.now()
		n.stop()
		if err := os.RemoveAll(filepath.Join(n.dir, "raft")); err != nil {
			t.Fatal(err)
		}
		k.await(20)
		n.start()
		k.await(50)
		c.awaitCounted(3)
		c.awaitStreaming()
		t.Logf("%s, %s, lost its raft folder: a voter again; no write for %v", what, n.name, k.gap(at).Round(time.Millisecond))
		k.nextEra()
	}
	k.finish()
}

// All nodes are killed at once and started again in any order, one of them late: the cluster opens as
// soon as two are there, whichever they are, and a node alone says why it waits.
func TestAllNodesKilled(t *testing.T) {
	t.Parallel()
	rounds := 4
	if long {
		rounds = 60
	}
	c := newCluster(t, 3)
	k := c.startClients("allkilled", 6)
	random := rand.New(rand.NewPCG(8, 0))
	var opened []time.Duration
	for range rounds {
		k.await(50 + random.IntN(100))
		old, epoch := c.primary(), c.primary().epoch()
		for _, n := range c.nodes {
			n.down()
			n.proc.signal(syscall.SIGKILL)
		}
		for _, n := range c.nodes {
			<-n.proc.done
		}
		k.nextEra()
		order := random.Perm(3)
		first, second, last := c.nodes[order[0]], c.nodes[order[1]], c.nodes[order[2]]
		first.launch()
		if random.IntN(2) == 0 {
			t.Logf("%s alone: %s", first.name, first.waitsFor("majority"))
		}
		at, began := k.now(), time.Now()
		second.launch()
		first.awaitReady()
		second.awaitReady()
		k.await(20)
		opened = append(opened, k.firstAfter(at))
		last.launch()
		last.awaitReady()
		c.awaitStreaming()
		t.Logf("%s was primary; started %s, %s, and %s late: first write %v after the second; %s",
			old.name, first.name, second.name, last.name, opened[len(opened)-1].Round(time.Millisecond), c.phases(began, epoch))
	}
	k.finish()
	t.Logf("from the start of the second of three nodes to the first write: %s", percentiles(opened))
}

// waitsFor waits until the node says what it waits for, in words that contain some, to SQL and to
// longship status, and returns it.
func (n *node) waitsFor(word string) string {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	var said string
	for ; ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
		if said, _ = n.tryValue("SELECT waiting FROM longship_cluster"); strings.Contains(said, word) {
			break
		}
	}
	if !strings.Contains(said, word) {
		n.t.Errorf("%s waits for %q, want %q in it", n.name, said, word)
	}
	out, err := runTool(n.t, "", longship, "status", "--host", "127.0.0.1", "--port", strconv.Itoa(n.port))
	if !strings.Contains(out, strings.TrimPrefix(said, "waiting ")) {
		n.t.Errorf("status of %s does not say %q: %v\n%s", n.name, said, err, out)
	}
	return said
}

// firstAfter is how long after a point in time the next write was acknowledged.
func (j *journal) firstAfter(at time.Duration) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, ack := range j.acks {
		if ack > at {
			return ack - at
		}
	}
	j.t.Errorf("no write was acknowledged after %v", at)
	return 0
}

// What a primary acknowledged to clients who asked for no more than its own disk is cut off when it
// comes back as a standby, and kept where people can look at it.
func TestOrphans(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	old := c.primary()
	old.exec("INSERT INTO kv VALUES ('before', '1')")
	c.awaitCaughtUp()
	const commits = 5
	ctx, cancel := testContext(t)
	defer cancel()
	// Each transaction begins, and reads, while there are standbys: alone, the primary would not know
	// whether it still is one.
	var open []func() error
	for i := range commits {
		conn := old.connect()
		for _, sql := range []string{"SET synchronous_commit = local", "BEGIN", "SELECT value FROM kv WHERE key = 'before'"} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				t.Fatal(err)
			}
		}
		open = append(open, func() error {
			_, err := conn.Exec(ctx, fmt.Sprintf("INSERT INTO kv VALUES ('local/%d', 'lost'); COMMIT", i))
			return err
		})
	}
	standbys := c.standbys()
	for _, s := range standbys {
		s.kill9()
	}
	for i, commit := range open {
		if err := commit(); err != nil {
			t.Fatalf("local commit %d: %v", i, err)
		}
	}
	old.kill9()
	for _, s := range standbys {
		s.launch()
	}
	for _, s := range standbys {
		s.awaitReady()
	}
	c.primary().exec("INSERT INTO kv VALUES ('after', '1')")
	old.start()
	c.awaitStreaming()
	if got := old.value("SELECT count(*) FROM kv WHERE key >= 'local/' AND key < 'local0'"); got != "0" {
		t.Errorf("%s shows %s rows that only it had", old.name, got)
	}
	checkOrphan(t, old, commits)
	k := c.startClients("orphans", 2)
	k.await(20)
	k.finish()
}

// checkOrphan verifies that a node tells of a tail of transactions that wrote local/0 and so on, in
// SQL, in longship status and in longship waldump.
func checkOrphan(t *testing.T, n *node, transactions int) {
	t.Helper()
	if got := n.value("SELECT transactions FROM longship_orphans"); got != fmt.Sprint(transactions) {
		t.Errorf("longship_orphans tells of %q transactions, want %d", got, transactions)
	}
	folder := n.value("SELECT folder FROM longship_orphans")
	status := mustRun(t, longship, "status", "--host", "127.0.0.1", "--port", strconv.Itoa(n.port))
	if !strings.Contains(status, "orphan") {
		t.Errorf("longship status does not tell of the orphan:\n%s", status)
	}
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(n.dir, folder)
	}
	dump, _ := runTool(t, "", longship, "waldump", folder) // ends with the end of the log, which is an error
	for i := range transactions {
		key := fmt.Sprintf("local/%d", i)
		if keys := n.value("SELECT keys FROM longship_orphans"); !strings.Contains(keys, key) {
			t.Errorf("longship_orphans does not list %s but %s", key, keys)
		}
		if !strings.Contains(dump, key) {
			t.Errorf("waldump of %s does not show %s:\n%s", folder, key, dump)
		}
	}
}

// At full load nobody is taken for dead who is not.
func TestNoFalseFailover(t *testing.T) {
	pgbench := tool(t, "pgbench")
	length := 4 * time.Second
	if long {
		length = 10 * time.Minute
	}
	c := newCluster(t, 3)
	script := filepath.Join(t.TempDir(), "upsert.sql")
	text := `\set k random(1, 100000)
INSERT INTO kv VALUES ('key' || :k, repeat('x', 100)) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	primary, epoch, leaderships := c.primary(), c.primary().epoch(), c.leaderships()
	ctx, cancel := context.WithTimeout(t.Context(), length+patience)
	defer cancel()
	p := startProcess(t, nil, pgbench, "-n", "-h", "127.0.0.1", "-p", strconv.Itoa(primary.port),
		"-M", "prepared", "-c", "32", "-j", "2", "-T", fmt.Sprint(int(length.Seconds())), "-f", script)
	if err := p.wait(ctx); err != nil {
		t.Fatalf("%v\n%s", err, p.stderr)
	}
	t.Logf("%s", tail(p.stdout.String(), 4))
	if now := c.primary(); now != primary || now.epoch() != epoch {
		t.Errorf("%s is primary of epoch %d, %s was of epoch %d\n%s", now.name, now.epoch(), primary.name, epoch, c.phases(time.Now(), epoch))
	}
	t.Logf("meanwhile Raft's leader changed %d times", c.leaderships()-leaderships)
	c.awaitCaughtUp()
}

// leaderships counts how often a node began to coordinate.
func (c *cluster) leaderships() (count int) {
	for _, n := range c.nodes {
		log, err := os.ReadFile(n.dir + ".log")
		if err != nil {
			c.t.Fatal(err)
		}
		count += strings.Count(string(log), "msg=coordinate ")
	}
	return count
}
