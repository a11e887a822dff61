package integration

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// A standby with an empty directory joins while the primary takes writes.
func TestJoinUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "--max-wal-size=4MB", "--min-wal-size=2MB")
	fill(t, c.primary(), rand.New(rand.NewPCG(15, 16)), 20)
	l := startLoad(c, "load", 4)
	for range 2 {
		l.await(300)
		joiner := c.node(len(c.nodes) + 1)
		joiner.start()
		if !strings.Contains(joiner.proc.stdout.String(), "base copy: complete") {
			t.Errorf("%s says nothing of a base copy\n%s", joiner.name, joiner.proc.stdout)
		}
		c.awaitStreaming()
	}
	l.await(100)
	l.stop()
	c.checkSame()
	for _, n := range c.nodes {
		l.check(n)
	}
}

// A base copy that is interrupted at any point starts over and leaves nothing behind.
func TestInterruptedBaseCopy(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	t.Cleanup(c.tidy)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms"}
	n1 := c.node(1)
	p := newProxy(t, n1)
	n1.start()
	fill(t, n1, rand.New(rand.NewPCG(17, 18)), 8)
	n1.exec("CHECKPOINT")
	n2 := c.node(2)
	for _, bytes := range []int{600, 3_000, 100_000, 1_000_000, 4_000_000} {
		reached := p.limit(bytes)
		n2.launch()
		awaitLimit(t, reached, n2)
		n2.kill9()
		p.open()
		if strings.Contains(n2.proc.stdout.String(), "ready:") {
			t.Fatalf("after %d bytes the standby is ready", bytes)
		}
	}
	n1.await("SELECT count(*) FROM pg_stat_progress_basebackup", "0")
	n2.start()
	c.awaitStreaming()
	c.awaitCounted(2)
	c.primary().exec("INSERT INTO kv VALUES ('after', '1')")
	c.checkSame()
	if got := c.primary().value("SELECT count(*) FROM longship_members"); got != "2" {
		t.Errorf("%s members, want 2", got)
	}
}

// awaitLimit waits until a proxy has let through what it was to while a node takes a copy.
func awaitLimit(t *testing.T, reached <-chan struct{}, joiner *node) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	select {
	case <-reached:
	case <-joiner.proc.done:
		t.Fatalf("%s ended\n%s", joiner.name, joiner.proc.stderr)
	case <-ctx.Done():
		t.Fatalf("%s has not taken as much\n%s%s", joiner.name, joiner.proc.stdout, joiner.proc.stderr)
	}
}

// A base copy whose connection breaks, or whose primary crashes and is perhaps not the primary any more
// when it is back, is begun again by the standby itself.
func TestBaseCopyConnectionLost(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	t.Cleanup(c.tidy)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms"}
	proxies := map[*node]*proxy{}
	for i := range 2 {
		proxies[c.node(i+1)] = newProxy(t, c.node(i+1))
	}
	n1, n2, n3 := c.node(1), c.node(2), c.node(3)
	c.nodes = c.nodes[:2]
	n1.start()
	fill(t, n1, rand.New(rand.NewPCG(27, 28)), 4)
	reached := proxies[n1].limit(1_000_000)
	n2.launch()
	awaitLimit(t, reached, n2)
	proxies[n1].open()
	n2.awaitReady()
	c.awaitStreaming()
	c.awaitCounted(2)
	c.checkSame()

	primary := c.primary()
	reached = proxies[primary].limit(1_000_000)
	n3.launch()
	awaitLimit(t, reached, n3)
	primary.kill9()
	proxies[primary].open()
	primary.start()
	n3.awaitReady()
	c.nodes = append(c.nodes, n3)
	c.awaitStreaming()
	c.awaitCounted(3)
	c.checkSame()
}

// A standby whose WAL is gone, since its slot was not allowed to keep it, takes a new copy by itself.
func TestNewBaseCopyForLostStandby(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--max-wal-size=4MB", "--min-wal-size=2MB", "--max-slot-wal-keep-size=2MB", "--wal-buffers=256kB", "--synchronous-standby-names=")
	n1, n2 := c.primary(), c.standbys()[0]
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	c.awaitCaughtUp()
	n2.stop()
	n1.exec("DELETE FROM kv WHERE key = 'a'")
	fill(t, n1, rand.New(rand.NewPCG(31, 32)), 12)
	n1.exec("CHECKPOINT")
	if got := n1.value("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '" + n2.name + "'"); got != "lost" {
		t.Errorf("wal_status of a slot that is too far behind = %s, want lost", got)
	}
	n2.launch()
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := n2.proc.await(ctx, n2.proc.stdout, "base copy: complete"); err != nil {
		t.Fatal(err)
	}
	c.awaitStreaming()
	c.awaitCounted(3)
	c.primary().exec("INSERT INTO kv VALUES ('b', '1')")
	c.checkSame()
	if got := c.primary().value("SELECT count(*) FROM longship_members"); got != "3" {
		t.Errorf("%s members, want 3: an empty disk takes the place of the one before", got)
	}
}

// A stream that is cut anywhere goes on where it was.
func TestCutStream(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	t.Cleanup(c.tidy)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms"}
	proxies := map[*node]*proxy{}
	for i := range 2 {
		proxies[c.node(i+1)] = newProxy(t, c.node(i+1))
	}
	c.node(1).start()
	c.node(2).start()
	c.awaitStreaming()
	c.awaitCounted(2)
	random := rand.New(rand.NewPCG(19, 20))
	l := startLoad(c, "load", 4)
	for range 8 {
		p := proxies[c.primary()]
		<-p.limit(1 + random.IntN(200_000))
		p.open()
		l.await(20)
	}
	l.stop()
	c.checkSame()
	for _, n := range c.nodes {
		l.check(n)
	}
}

// Receivers follow a standby as they follow a primary, up to what is certain.
func TestCascadingReceiver(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	c := newCluster(t, 2, "--wal-keep-size=1GB")
	primary, standby := c.pair()
	r := newReceiver(t, standby)
	p := r.start()
	random := rand.New(rand.NewPCG(21, 22))
	fill(t, primary, random, 3)
	standby.kill9()
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := p.await(ctx, p.stderr, "disconnected; waiting 5 seconds to try again|could not receive data"); err != nil {
		t.Error(err)
	}
	r.stop(p)
	standby.start()
	end, _ := fill(t, primary, random, 3)
	primary.exec("INSERT INTO kv VALUES ('past the end', '')")
	c.awaitCaughtUp()
	r.receiveTo(end)
	r.check(c, 5, end)
}

// A clean shutdown of a node alone ends each stream in order: the receiver has everything, the shutdown
// checkpoint included, and ends without an error. The next start opens a new timeline.
func TestCleanShutdown(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	c := newCluster(t, 1, "--wal-keep-size=1GB")
	n := c.primary()
	r := newReceiver(t, n)
	r.flags = append(r.flags, "--no-loop")
	p := r.start()
	end, _ := fill(t, n, rand.New(rand.NewPCG(23, 24)), 2)
	idle := n.connect()
	n.stop()
	ctx, cancel := testContext(t)
	defer cancel()
	p.wait(ctx)
	// That is how pg_receivewal puts a stream that ended in order; one that broke off is "unexpected
	// termination" or "could not receive data".
	if text := p.stderr.String(); !strings.Contains(text, "replication stream was terminated before stop point") {
		t.Errorf("pg_receivewal ends with\n%s", text)
	}
	if err := idle.Ping(ctx); sqlState(err) != "57P01" {
		t.Errorf("an idle session ends with %v, want 57P01", err)
	}
	last := segmentSize.FileName(1, segmentSize.PrevSegno(n.endOfLog()))
	complete, partial := r.segments()
	if len(complete) == 0 {
		t.Error("no complete segment was received")
	}
	if out, _ := runTool(t, "", tool(t, "pg_waldump"), filepath.Join(n.walDir(), last)); !strings.Contains(out, "CHECKPOINT_SHUTDOWN") {
		t.Errorf("the log does not end with a shutdown checkpoint\n%s", tail(out, 5))
	}
	maps.Copy(complete, partial)
	for name, b := range complete {
		if i := firstDifference(b, n.segment(name)); i >= 0 {
			t.Errorf("%s, received to the end, differs at offset %d", name, i)
		}
	}
	n.start()
	if got := n.value("SELECT timeline FROM longship_cluster"); got != "2" {
		t.Errorf("after a restart the timeline is %s, want 2", got)
	}
	n.exec("INSERT INTO kv VALUES ('after', '1')")
	r.flags = r.flags[:0]
	r.receiveTo(end)
}

// A primary that is to stop makes another node the primary first. Its sessions hear of it, nothing is
// lost, and when it is back it follows.
func TestStopHandsOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	old := c.primary()
	idle := old.connect()
	l := startLoad(c, "load", 4)
	for round := range 3 {
		l.await(50)
		old = c.primary()
		epoch := old.value("SELECT epoch FROM longship_cluster")
		old.stop()
		if text := old.proc.stderr.String(); !strings.Contains(text, `msg="handed over"`) {
			t.Errorf("round %d: %s has not handed over\n%s", round, old.name, tail(text, 20))
		}
		l.await(50)
		if got := c.primary().value("SELECT cause || ' of ' || parent FROM longship_history ORDER BY epoch DESC LIMIT 1"); got != "switchover of "+epoch {
			t.Errorf("round %d: the last epoch was begun by a %s, want a switchover of %s", round, got, epoch)
		}
		old.start()
		if old.isPrimary(t.Context()) {
			t.Errorf("round %d: %s is the primary again", round, old.name)
		}
		c.awaitStreaming()
	}
	l.stop()
	t.Logf("no commit for %v at most", l.gap)
	if err := idle.Ping(t.Context()); sqlState(err) != "57P01" {
		t.Errorf("an idle session ends with %v, want 57P01", err)
	}
	c.checkSame()
	for _, n := range c.nodes {
		l.check(n)
	}
}
