package integration

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/longship-db/longship/wal"
)

// A receiver is a folder that pg_receivewal fills from a node, or from whichever takes writes.
type receiver struct {
	t     *testing.T
	dsn   string
	dir   string
	flags []string
}

func newReceiver(t *testing.T, from *node, flags ...string) *receiver {
	t.Helper()
	return &receiver{t: t, dsn: from.dsn(), dir: t.TempDir(), flags: flags}
}

func (r *receiver) args(more ...string) []string {
	args := []string{"-d", r.dsn, "-D", r.dir, "--no-password"}
	return append(append(args, r.flags...), more...)
}

// start begins to receive, and goes on until it is stopped.
func (r *receiver) start() *process {
	r.t.Helper()
	p := startProcess(r.t, nil, tool(r.t, "pg_receivewal"), r.args("--verbose")...)
	ctx, cancel := testContext(r.t)
	defer cancel()
	if _, err := p.await(ctx, p.stderr, "starting log streaming"); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// stop interrupts a receiver as a user would; it must end well.
func (r *receiver) stop(p *process) {
	r.t.Helper()
	p.signal(syscall.SIGINT)
	ctx, cancel := testContext(r.t)
	defer cancel()
	if err := p.wait(ctx); err != nil {
		r.t.Fatalf("pg_receivewal: %v\n%s", err, p.stderr)
	}
}

// receiveTo receives until everything up to end is there. pg_receivewal ends when it is past that
// position, so there must be more.
func (r *receiver) receiveTo(end wal.LSN) {
	r.t.Helper()
	mustRun(r.t, tool(r.t, "pg_receivewal"), r.args("--endpos="+end.String(), "--no-loop")...)
}

// segments are the files received, complete or not, by the names of their segments.
func (r *receiver) segments() (complete, partial map[string][]byte) {
	r.t.Helper()
	files, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	complete, partial = map[string][]byte{}, map[string][]byte{}
	for _, f := range files {
		name, isPartial := strings.CutSuffix(f.Name(), ".partial")
		name, isGzip := strings.CutSuffix(name, ".gz")
		if !wal.IsSegmentName(name) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(r.dir, f.Name()))
		if err != nil {
			r.t.Fatal(err)
		}
		if isGzip {
			b = gunzip(r.t, b)
		}
		if isPartial {
			partial[name] = b
		} else {
			complete[name] = b
		}
	}
	return complete, partial
}

// gunzip unpacks what may end in the middle.
func gunzip(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil && err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	return out
}

// check compares the complete segments with those of all nodes, and the partial one up to end with
// the primary's. There must be at least want complete ones.
func (r *receiver) check(c *cluster, want int, end wal.LSN) {
	r.t.Helper()
	complete, partial := r.segments()
	if len(complete) < want {
		r.t.Errorf("%d complete segments, want %d", len(complete), want)
	}
	for name, b := range complete {
		for _, n := range c.nodes {
			if i := firstDifference(b, n.segment(name)); i >= 0 {
				r.t.Errorf("%s differs from that of %s at offset %d", name, n.name, i)
			}
		}
	}
	for name, b := range partial {
		_, segno, _ := segmentSize.ParseFileName(name)
		start := segmentSize.Start(segno)
		if end <= start {
			continue
		}
		n := int(min(end-start, wal.LSN(segmentSize)))
		if len(b) < n {
			r.t.Errorf("partial %s has %d bytes, want %d", name, len(b), n)
		} else if i := firstDifference(b[:n], c.primary().segment(name)[:n]); i >= 0 {
			r.t.Errorf("partial %s differs at offset %d", name, i)
		}
	}
}

// fill writes rows of random sizes until the log has grown by about the number of segments given, in
// transactions of one or a few rows, and returns where it ends and how many transactions there were.
func fill(t *testing.T, n *node, random *rand.Rand, segments int) (end wal.LSN, commits int) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	conn := n.connect()
	defer conn.Close(ctx)
	goal := n.flushed() + wal.LSN(segments)*wal.LSN(segmentSize)
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = 'a' + byte(random.IntN(26))
	}
	for written := n.flushed(); written < goal; commits++ {
		size := random.IntN(200)
		switch random.IntN(8) {
		case 0:
			size = random.IntN(len(noise)) // over many pages, perhaps into the next segment
		case 1:
			size = random.IntN(20_000)
		}
		values, args := []string{"($1, $2)"}, []any{fmt.Sprintf("%08x", random.Uint32()), string(noise[:size])}
		if random.IntN(4) == 0 {
			values, args = append(values, "($3, $4)"), append(args, fmt.Sprintf("%09x", random.Uint32()), string(noise[size/2:size]))
			size += size / 2
		}
		_, err := conn.Exec(ctx, "INSERT INTO kv VALUES "+strings.Join(values, ", ")+" ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value", args...)
		if err != nil {
			t.Fatal(err)
		}
		written += wal.LSN(size + 100)
	}
	return n.flushed(), commits
}

func TestReceivewal(t *testing.T) {
	t.Parallel()
	receivewal := tool(t, "pg_receivewal")
	random := rand.New(rand.NewPCG(3, 4))
	c := newCluster(t, 2, "--wal-keep-size=1GB")
	n1, n2 := c.pair()

	// All of them are started first: there is no WAL yet but the cluster's beginning.
	plain := newReceiver(t, n1)
	slot := newReceiver(t, n1, "--slot=arch1")
	synchronous := newReceiver(t, n1, "--slot=arch2", "--synchronous")
	zipped := newReceiver(t, n1, "--compress=gzip")
	zipped9 := newReceiver(t, n1, "--slot=arch3", "--compress=gzip:9")
	cascading := newReceiver(t, n2)
	all := []*receiver{plain, slot, synchronous, zipped, zipped9, cascading}
	for _, name := range []string{"arch1", "arch2", "arch3"} {
		mustRun(t, receivewal, "-h", "127.0.0.1", "-p", strconv.Itoa(n1.port), "--create-slot", "--slot="+name)
	}

	var running []*process
	for _, r := range all {
		running = append(running, r.start())
	}
	fill(t, n1, random, 4)
	n1.await("SELECT active FROM pg_replication_slots WHERE slot_name = 'arch2'", "t")

	// --synchronous flushes and reports at once: the slot follows without a finished segment.
	n1.exec("INSERT INTO kv VALUES ('sync', '1')")
	n1.awaitThat("SELECT restart_lsn >= '"+n1.flushed().String()+"' FROM pg_replication_slots WHERE slot_name = 'arch2'", func(v string) bool { return v == "t" }, "t")

	// Stopped, and continued after more was written.
	for i, r := range all {
		r.stop(running[i])
	}
	n1.await("SELECT count(*) FROM pg_replication_slots WHERE active", "1")
	fill(t, n1, random, 3)
	n1.value("SELECT pg_switch_wal()")
	n1.exec("INSERT INTO kv VALUES ('after the switch', '')")
	end := c.awaitCaughtUp()
	n1.exec("INSERT INTO kv VALUES ('past the end', '')")
	c.awaitCaughtUp()
	for _, r := range all {
		r.receiveTo(end)
		r.check(c, 6, end)
	}
	for _, r := range []*receiver{plain, slot, synchronous, cascading} {
		out, err := runTool(t, "", tool(t, "pg_waldump"), "--quiet", "--path="+r.dir, "--start=0/100028", "--end="+lastComplete(r).String())
		if err != nil {
			t.Errorf("pg_waldump of %q: %v\n%s", r.flags, err, out)
		}
	}
}

// Slots are made and dropped with pg_receivewal, and one that does not exist is an error.
func TestReceivewalSlots(t *testing.T) {
	t.Parallel()
	receivewal := tool(t, "pg_receivewal")
	n := newCluster(t, 1).primary()
	r := newReceiver(t, n, "--slot=arch1")
	slots := func() string { return n.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'arch1'") }
	mustRun(t, receivewal, r.args("--create-slot")...)
	mustRun(t, receivewal, r.args("--create-slot", "--if-not-exists")...)
	if out, err := runTool(t, "", receivewal, r.args("--create-slot")...); err == nil || !strings.Contains(out, `replication slot "arch1" already exists`) {
		t.Errorf("--create-slot a second time: %v\n%s", err, out)
	}
	if slots() != "1" {
		t.Error("--create-slot makes no slot")
	}
	p := r.start()
	if out, err := runTool(t, "", receivewal, r.args("--no-loop")...); err == nil || !strings.Contains(out, `replication slot "arch1" is active for PID`) {
		t.Errorf("a second receiver on a slot: %v\n%s", err, out)
	}
	r.stop(p)
	mustRun(t, receivewal, r.args("--drop-slot")...)
	if slots() != "0" {
		t.Error("--drop-slot leaves the slot")
	}
	if out, err := runTool(t, "", receivewal, r.args("--no-loop")...); err == nil || !strings.Contains(out, `replication slot "arch1" does not exist`) {
		t.Errorf("pg_receivewal with a slot that does not exist: %v\n%s", err, out)
	}
}

// lastComplete is the end of the newest complete segment.
func lastComplete(r *receiver) wal.LSN {
	complete, _ := r.segments()
	var last uint64
	for name := range complete {
		_, segno, _ := segmentSize.ParseFileName(name)
		last = max(last, segno)
	}
	return segmentSize.Start(last + 1)
}

// A receiver that knows all nodes follows the primary, whoever that is after each crash, from timeline to
// timeline, and what it had stays part of the log.
func TestReceivewalFollowsTimelines(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	random := rand.New(rand.NewPCG(5, 6))
	c := newCluster(t, 3, "--wal-keep-size=1GB")
	r := newReceiver(t, c.primary())
	r.dsn = c.dsn()
	for range 3 {
		p := r.start()
		primary := c.primary()
		fill(t, primary, random, 2)
		primary.kill9()
		c.primary().exec("INSERT INTO kv VALUES ('up', '1') ON CONFLICT (key) DO UPDATE SET value = 'again'")
		primary.start()
		r.stop(p) // else it waits for five seconds until it tries again
	}
	end, _ := fill(t, c.primary(), random, 2)
	c.primary().exec("INSERT INTO kv VALUES ('past the end', '')")
	c.awaitStreaming()
	r.receiveTo(end)
	primary := c.primary()
	h := primary.history()
	if len(h.Switches) < 3 {
		t.Fatalf("the primary has %d timelines, want 4", len(h.Switches)+1)
	}
	complete, partial := r.segments()
	for at := wal.LSN(segmentSize); at < end; at += wal.LSN(segmentSize) {
		segno := segmentSize.Segno(at)
		name := segmentSize.FileName(h.FileTimeline(segno, segmentSize), segno)
		got := complete[name]
		if got == nil {
			got = partial[name]
		}
		n := int(min(end-at, wal.LSN(segmentSize)))
		if len(got) < n {
			t.Errorf("%s has %d bytes, want %d", name, len(got), n)
			continue
		}
		if i := firstDifference(got[:n], primary.segment(name)[:n]); i >= 0 {
			t.Errorf("%s differs at offset %d", name, i)
		}
	}
}
