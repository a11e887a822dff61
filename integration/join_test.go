package integration

import (
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
	l := startLoad(c.primary(), "load", 4)
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
	end := c.awaitCaughtUp()
	for _, n := range c.nodes {
		l.check(n)
	}
	for _, s := range c.standbys() {
		checkSameTable(t, c.primary(), s)
		checkSameWAL(t, c.primary(), s, end)
	}
}

// A base copy that is interrupted at any point starts over and leaves nothing behind.
func TestInterruptedBaseCopy(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms", "--advertise-host=127.0.0.2"}
	n1 := c.node(1)
	p := newProxy(t, n1)
	n1.start()
	fill(t, n1, rand.New(rand.NewPCG(17, 18)), 8)
	n1.exec("CHECKPOINT")
	n2 := c.node(2)
	n2.replaceFlag("--join", p.address())
	for _, bytes := range []int{600, 3_000, 100_000, 1_000_000, 4_000_000} {
		reached := p.limit(bytes)
		n2.launch()
		ctx, cancel := testContext(t)
		select {
		case <-reached:
		case <-n2.proc.done:
			t.Fatalf("after %d bytes the standby ended\n%s", bytes, n2.proc.stderr)
		case <-ctx.Done():
			t.Fatalf("the standby has not taken %d bytes\n%s%s", bytes, n2.proc.stdout, n2.proc.stderr)
		}
		cancel()
		n2.kill9()
		p.open()
		if strings.Contains(n2.proc.stdout.String(), "ready:") {
			t.Fatalf("after %d bytes the standby is ready", bytes)
		}
	}
	n1.await("SELECT count(*) FROM pg_stat_progress_basebackup", "0")
	n2.start()
	c.awaitStreaming()
	n1.exec("INSERT INTO kv VALUES ('after', '1')")
	end := c.awaitCaughtUp()
	checkSameTable(t, n1, n2)
	checkSameWAL(t, n1, n2, end)
	if got := n1.value("SELECT count(*) FROM longship_members"); got != "2" {
		t.Errorf("%s members, want 2", got)
	}
}

// A base copy whose connection breaks, or whose primary restarts, is begun again by the standby itself.
func TestBaseCopyConnectionLost(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms", "--advertise-host=127.0.0.2"}
	n1 := c.node(1)
	p := newProxy(t, n1)
	n1.start()
	fill(t, n1, rand.New(rand.NewPCG(27, 28)), 4)
	n2 := c.node(2)
	n2.replaceFlag("--join", p.address())
	reached := p.limit(1_000_000)
	n2.launch()
	<-reached
	p.open()
	n2.awaitReady()
	c.awaitStreaming()
	end := c.awaitCaughtUp()
	checkSameTable(t, n1, n2)
	checkSameWAL(t, n1, n2, end)

	n3 := c.node(3)
	n3.replaceFlag("--join", p.address())
	reached = p.limit(1_000_000)
	n3.launch()
	<-reached
	n1.kill9()
	p.open()
	n1.start()
	n3.awaitReady()
	c.awaitStreaming()
	end = c.awaitCaughtUp()
	checkSameTable(t, n1, n3)
	checkSameWAL(t, n1, n3, end)
}

// A standby whose WAL is gone, since its slot was not allowed to keep it, takes a new copy by itself.
func TestNewBaseCopyForLostStandby(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, "--max-wal-size=4MB", "--min-wal-size=2MB", "--max-slot-wal-keep-size=2MB", "--wal-buffers=256kB", "--synchronous-standby-names=")
	n1, n2 := c.primary(), c.node(2)
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	c.awaitCaughtUp()
	n2.stop()
	n1.exec("DELETE FROM kv WHERE key = 'a'")
	fill(t, n1, rand.New(rand.NewPCG(31, 32)), 12)
	n1.exec("CHECKPOINT")
	if got := n1.value("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'n2'"); got != "lost" {
		t.Errorf("wal_status of a slot that is too far behind = %s, want lost", got)
	}
	n2.launch()
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := n2.proc.await(ctx, n2.proc.stdout, "base copy: complete"); err != nil {
		t.Fatal(err)
	}
	c.awaitStreaming()
	n1.exec("INSERT INTO kv VALUES ('b', '1')")
	end := c.awaitCaughtUp()
	checkSameTable(t, n1, n2)
	checkSameWAL(t, n1, n2, end)
}

// A stream that is cut anywhere goes on where it was.
func TestCutStream(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms", "--advertise-host=127.0.0.2"}
	n1 := c.node(1)
	p := newProxy(t, n1)
	n1.start()
	n2 := c.node(2)
	n2.replaceFlag("--join", p.address())
	n2.start()
	c.awaitStreaming()
	random := rand.New(rand.NewPCG(19, 20))
	l := startLoad(n1, "load", 4)
	for range 8 {
		<-p.limit(1 + random.IntN(200_000))
		p.open()
		l.await(20)
	}
	l.stop()
	end := c.awaitCaughtUp()
	l.check(n2)
	checkSameWAL(t, n1, n2, end)
}

// Receivers follow a standby as they follow a primary, up to what is certain.
func TestCascadingReceiver(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	c := newCluster(t, 2, "--wal-keep-size=1GB")
	standby := c.node(2)
	r := newReceiver(t, standby)
	p := r.start()
	random := rand.New(rand.NewPCG(21, 22))
	fill(t, c.primary(), random, 3)
	standby.kill9()
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := p.await(ctx, p.stderr, "disconnected; waiting 5 seconds to try again|could not receive data"); err != nil {
		t.Error(err)
	}
	r.stop(p)
	standby.start()
	end, _ := fill(t, c.primary(), random, 3)
	c.primary().exec("INSERT INTO kv VALUES ('past the end', '')")
	c.awaitCaughtUp()
	r.receiveTo(end)
	r.check(c, 5, end)
}

// A clean shutdown of the primary ends each stream in order: the receiver has everything, the shutdown
// checkpoint included, and ends without an error. The primary goes on with the same timeline.
func TestCleanShutdown(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	c := newCluster(t, 2, "--wal-keep-size=1GB")
	n1, n2 := c.primary(), c.node(2)
	r := newReceiver(t, n1)
	r.flags = append(r.flags, "--no-loop")
	p := r.start()
	end, _ := fill(t, n1, rand.New(rand.NewPCG(23, 24)), 2)
	idle := n1.connect()
	n1.stop()
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
	r.check(c, 1, end)
	last := segmentSize.FileName(1, segmentSize.PrevSegno(n1.endOfLog()))
	_, partial := r.segments()
	if out, _ := runTool(t, "", tool(t, "pg_waldump"), filepath.Join(n1.walDir(), last)); !strings.Contains(out, "CHECKPOINT_SHUTDOWN") {
		t.Errorf("the log does not end with a shutdown checkpoint\n%s", tail(out, 5))
	}
	for name, b := range partial {
		if i := firstDifference(b, n1.segment(name)); i >= 0 {
			t.Errorf("%s, received to the end, differs at offset %d", name, i)
		}
	}

	// The standby has it all too.
	n2.stop()
	if i := firstDifference(n1.segment(last), n2.segment(last)); i >= 0 {
		t.Errorf("the last segments differ at offset %d", i)
	}
	n1.launch()
	n2.launch()
	n1.awaitReady()
	n2.awaitReady()
	if got := n1.value("SELECT timeline FROM longship_cluster"); got != "1" {
		t.Errorf("after a clean restart the timeline is %s, want 1", got)
	}
	c.awaitStreaming()
	n1.exec("INSERT INTO kv VALUES ('after', '1')")
	checkSameWAL(t, n1, n2, c.awaitCaughtUp())
}
