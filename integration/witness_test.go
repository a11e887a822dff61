package integration

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// newWitnessCluster starts n1 and n2, which keep the table, and n3, which is a witness.
func newWitnessCluster(t *testing.T) *cluster {
	t.Helper()
	c := unstarted(t)
	c.node(3).flags = append(c.node(3).flags, "--witness")
	c.start()
	return c
}

// Two nodes that keep the table and a witness lose nothing: whoever is killed, and if the witness alone
// is left with the end of the log.
func TestWitness(t *testing.T) {
	t.Parallel()
	c := newWitnessCluster(t)
	witness := c.node(3)
	k := c.startClients("witness", 8)
	random := rand.New(rand.NewPCG(3, 3))
	var gaps faultGaps
	for range 3 {
		k.await(50)
		gaps.strike(k, random, []*node{c.primary()})
	}
	outlive(k, witness)
	gaps.strike(k, random, []*node{witness})

	witness.kill9()
	k.await(100)
	witness.launch()
	witness.awaitReady()
	c.awaitStreaming()
	outlive(k, witness)
	k.finish()
	gaps.print(t)
}

// The same with a node that keeps the table and is never promoted.
func TestLongestLogOfPriorityZero(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.node(3).flags = append(c.node(3).flags, "--failover-priority=0")
	c.start()
	k := c.startClients("priority", 8)
	outlive(k, c.node(3))
	k.finish()
}

// outlive has a keeper that is never promoted alone hold what is acknowledged while the only candidate
// is away, and then the primary lost. The candidate comes back, fetches what it lacks, and takes over.
func outlive(k *clientele, keeper *node) {
	k.t.Helper()
	c := k.cluster
	primary := c.primary()
	var candidate *node
	for _, n := range c.nodes {
		if n != primary && n != keeper {
			candidate = n
		}
	}
	k.nextEra()
	k.await(20)
	candidate.kill9()
	k.await(100)
	acked := primary.flushed()
	primary.kill9()
	k.nextEra()
	candidate.start()
	if now := c.primary(); now != candidate {
		k.t.Fatalf("%s is the primary, want %s", now.name, candidate.name)
	}
	k.await(50)
	if log := candidate.proc.stderr.String(); !strings.Contains(log, "fetching the rest of the log") {
		k.t.Errorf("%s took over and fetched nothing, though %s alone had the log up to %s", candidate.name, keeper.name, acked)
	}
	primary.start()
	c.awaitStreaming()
	k.nextEra()
}

// A node is a witness for good, and no cluster begins with one.
func TestWitnessDirectory(t *testing.T) {
	t.Parallel()
	c := newWitnessCluster(t)
	witness, standby := c.node(3), c.standbys()[0]
	lone := unstarted(t).node(1)
	lone.flags = append(lone.flags, "--witness")
	lone.refuses("a witness cannot found a cluster", "--join")
	witness.stop()
	standby.stop()
	witness.without("--witness").refuses("is a witness's, and holds no table", "start it with --witness")
	standby.variant(standby.dir, "--witness").refuses("holds a table", "start it without --witness")
	witness.start()
	standby.start()
	c.awaitStreaming()
	c.primary().exec("INSERT INTO kv VALUES ('a', '1')")
	c.checkSame()
}

// without is the node with a flag less.
func (n *node) without(flag string) *node {
	v := n.variant(n.dir)
	v.flags = slices.DeleteFunc(v.flags, func(f string) bool { return f == flag })
	return v
}

// A witness shows itself as one, has the views and no table, and is nobody's standby: a client that
// knows all nodes never ends up there, whatever it looks for.
func TestWitnessSessions(t *testing.T) {
	t.Parallel()
	c := newWitnessCluster(t)
	w, primary := c.node(3), c.primary()
	primary.exec("INSERT INTO kv VALUES ('a', '1')")
	w.awaitLSN(primary.flushed())
	primary.await("SELECT replay_lsn IS NULL AND replay_lag IS NULL AND flush_lsn = sent_lsn FROM pg_stat_replication WHERE application_name = 'n3'", "t")
	for query, want := range map[string]string{
		"SELECT role FROM longship_cluster":                                "witness",
		"SELECT role FROM longship_members WHERE name = 'n3'":              "witness",
		"SELECT pg_is_in_recovery()":                                       "t",
		"SELECT pg_last_wal_replay_lsn() IS NULL":                          "t",
		"SELECT count(*) FROM longship_members WHERE counted":              "3",
		"SELECT failover_priority FROM longship_members WHERE name = 'n3'": "0",
	} {
		if got := w.value(query); got != want {
			t.Errorf("%s = %q, want %q", query, got, want)
		}
	}
	for query, want := range map[string]string{
		"SELECT * FROM kv":                 "0A000",
		"BEGIN; SELECT * FROM kv":          "0A000",
		"INSERT INTO kv VALUES ('b', '2')": "25006",
		"WAIT FOR LSN '0/1'":               "0A000",
		"SELECT longship_switchover('n3')": "55000",
	} {
		if err := w.tryExec(query); sqlState(err) != want {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
	if err := w.tryExec("SELECT longship_switchover('n3')"); err == nil || !strings.Contains(err.Error(), "it is a witness, which keeps no table") {
		t.Errorf("switchover to the witness: %v", err)
	}
	psql := tool(t, "psql")
	c.nodes = []*node{w, c.node(1), c.node(2)} // in the order in which they are tried
	for attrs, want := range map[string]string{
		"any": "primary", "standby": "standby", "prefer-standby": "standby", "read-only": "standby", "read-write": "primary", "primary": "primary",
	} {
		got := strings.TrimSpace(mustRun(t, psql, strings.Replace(c.dsn(), "read-write", attrs, 1), "-Atc", "SELECT role FROM longship_cluster"))
		if got != want {
			t.Errorf("target_session_attrs=%s leads to a %s", attrs, got)
		}
	}
	if out, err := runTool(t, "", tool(t, "pg_basebackup"), "-d", w.dsn(), "-D", t.TempDir()+"/copy"); err == nil || !strings.Contains(out, "is a witness, which keeps no table") {
		t.Errorf("pg_basebackup from the witness: %v\n%s", err, out)
	}
}

// While nobody is there who applies, commits at remote_apply wait, others do not, and who asks hears why.
func TestWitnessRemoteApply(t *testing.T) {
	t.Parallel()
	c := newWitnessCluster(t)
	primary, w := c.primary(), c.node(3)
	var standby *node
	for _, n := range c.standbys() {
		if n != w {
			standby = n
		}
	}
	standby.kill9()
	primary.exec("INSERT INTO kv VALUES ('on', '1')")
	commit := startCommit(t, primary, "SET synchronous_commit = remote_apply; INSERT INTO kv VALUES ('applied', '1')")
	commit.awaitFlushed()
	primary.await("SELECT waiting FROM longship_cluster", "commits at synchronous_commit = remote_apply wait for "+standby.name+
		" to apply them: a witness applies nothing; synchronous_commit = on does not wait for that")
	commit.checkWaiting()
	primary.exec("INSERT INTO kv VALUES ('on', '2') ON CONFLICT (key) DO UPDATE SET value = excluded.value")
	lsn := primary.flushed()
	w.awaitLSN(lsn)
	wantLines(t, explainCommit(t, primary, lsn.String()), "remote_write, on reached; remote_apply not yet",
		"a witness, which applies nothing", "missing: for remote_apply "+standby.name+" must apply it")
	wantLines(t, explainCommit(t, w, lsn.String()), "witness "+w.name+": flushed ", "holds the log up to there")

	standby.start()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := commit.result(ctx); err != nil {
		t.Fatal(err)
	}
	primary.await("SELECT waiting IS NULL FROM longship_cluster", "t")
	c.awaitStreaming()
	c.checkSame()
}

// With the witness pinned alone every commit is on its disk, and need be on no other: whoever takes over
// fetches the rest from it.
func TestWitnessPinned(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.flags = append(c.flags, "--synchronous-standby-names=FIRST 1 (n3, n2)")
	c.node(3).flags = append(c.node(3).flags, "--witness")
	c.start()
	k := c.startClients("pinned", 4)
	k.await(20)
	c.primary().await("SELECT sync_state FROM pg_stat_replication WHERE application_name = 'n3'", "sync")
	outlive(k, c.node(3))
	k.finish()
}

// A witness is replaced by an empty one of its name, which is as good; it makes room for a third node
// that keeps the table.
func TestWitnessComesAndGoes(t *testing.T) {
	t.Parallel()
	c := newWitnessCluster(t)
	w := c.node(3)
	third := c.node(4)
	k := c.startClients("witness", 4) // which know of the third, too
	c.nodes = c.nodes[:3]
	k.await(20)
	before := c.primary().value("SELECT incarnation FROM longship_members WHERE name = 'n3'")
	w.kill9()
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	k.await(20)
	w.start()
	c.awaitStreaming()
	c.awaitCounted(3)
	if now := c.primary().value("SELECT incarnation FROM longship_members WHERE role = 'witness'"); now == before {
		t.Errorf("the witness is still %s", now)
	}
	outlive(k, w)

	third.start()
	c.nodes = append(c.nodes, third)
	c.awaitStreaming()
	c.awaitCounted(4)
	mustRun(t, longship, "members", "remove", "--host", "127.0.0.1", "--port", strconv.Itoa(c.primary().port), w.name)
	c.primary().await("SELECT count(*) FROM longship_members WHERE role = 'witness'", "0")
	w.kill9()
	c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool { return n == w })
	c.awaitCounted(3)
	k.await(20)
	first := c.primary()
	first.kill9()
	k.nextEra()
	k.await(20)
	first.start()
	c.awaitStreaming()
	k.finish()
}

// A witness that is replaced while a standby is down does not count before that is back: what the standby lacks
// the new one may never have had. Meanwhile commits go on, under another rule too.
func TestWitnessReplacedWhileStandbyIsDown(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	for i := 4; i <= 5; i++ { // with three that keep the table: a majority is there without two
		n := c.node(i)
		n.flags = append(n.flags, "--witness")
	}
	c.start()
	primary, down, w := c.primary(), c.standbys()[0], c.node(4)
	down.kill9()
	primary.exec("INSERT INTO kv VALUES ('a', '1')")
	w.kill9()
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	w.start()
	primary.await("SELECT state FROM longship_members WHERE name = 'n4' AND NOT leaving", "streaming")
	primary.set("synchronous_standby_names", "ANY 2 (*)") // whoever counts by then does under this rule
	primary.await("SELECT rule FROM longship_cluster", "ANY 2 (*)")
	const counted = "SELECT counted FROM longship_members WHERE name = 'n4' AND NOT leaving"
	if got := primary.value(counted); got != "f" {
		t.Errorf("with a standby down the new witness counts: %s", got)
	}
	primary.exec("INSERT INTO kv VALUES ('b', '1')")
	down.start()
	primary.await(counted, "t")
	primary.await("SELECT count(*) FROM longship_members WHERE leaving", "0")
	c.checkSame()
}

// A witness that was away for longer than its WAL was kept begins anew by itself, and counts.
func TestWitnessBeginsAnew(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.flags = append(c.flags, "--max-wal-size=4MB", "--min-wal-size=2MB", "--max-slot-wal-keep-size=2MB", "--wal-buffers=256kB")
	c.node(3).flags = append(c.node(3).flags, "--witness")
	c.start()
	primary, w := c.primary(), c.node(3)
	w.stop()
	fill(t, primary, rand.New(rand.NewPCG(33, 34)), 12)
	primary.exec("CHECKPOINT")
	primary.await("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'n3'", "lost")
	w.start()
	c.awaitStreaming()
	c.awaitCounted(3)
	if !strings.Contains(w.proc.stdout.String(), "base copy: complete") {
		t.Errorf("the witness has begun with what it had\n%s", w.proc.stdout)
	}
	if got := c.primary().value("SELECT count(*) FROM longship_members"); got != "3" {
		t.Errorf("%s members, want 3", got)
	}
	c.primary().exec("INSERT INTO kv VALUES ('after', '1')")
	c.checkSame()
}
