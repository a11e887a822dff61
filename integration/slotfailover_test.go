package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/wal"
)

// An archive is a receiver that uses a slot, and looks for the primary among all nodes.
type archive struct{ *receiver }

func newArchive(c *cluster, slot string) archive {
	c.t.Helper()
	r := newReceiver(c.t, c.primary(), "--slot="+slot, "--synchronous")
	r.dsn = c.dsn()
	return archive{r}
}

const slotPosition = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '%s'"

// awaitSlot waits until a slot is at lsn or further.
func (n *node) awaitSlot(slot string, lsn wal.LSN) {
	n.t.Helper()
	there := func(v string) bool { return v != "" && parseLSN(n.t, v) >= lsn }
	n.awaitThat(fmt.Sprintf(slotPosition, slot), there, "at least "+lsn.String())
}

// slotAt is where a slot is.
func (n *node) slotAt(slot string) wal.LSN {
	n.t.Helper()
	return parseLSN(n.t, n.value(fmt.Sprintf(slotPosition, slot)))
}

// check compares the archive from one position to another with the log of a node.
func (a archive) check(n *node, from, to wal.LSN) {
	a.t.Helper()
	complete, partial := a.segments()
	h := n.history()
	for segno := segmentSize.Segno(from); segmentSize.Start(segno) < to; segno++ {
		name := segmentSize.FileName(h.FileTimeline(segno, segmentSize), segno)
		var got []byte
		for tli := h.FileTimeline(segno, segmentSize); tli > 0 && got == nil; tli-- { // it may not have followed yet
			held := segmentSize.FileName(tli, segno)
			if got = complete[held]; got == nil {
				got = partial[held]
			}
		}
		size := int(min(to-segmentSize.Start(segno), wal.LSN(segmentSize)))
		want := n.segment(name)
		if len(got) < size || len(want) < size {
			a.t.Errorf("of %s the archive has %d bytes and %s %d, want %d", name, len(got), n.name, len(want), size)
		} else if i := firstDifference(got[:size], want[:size]); i >= 0 {
			a.t.Errorf("%s differs from that of %s at offset %d", name, n.name, i)
		}
	}
}

// dump has pg_waldump read each timeline of the archive, from the segment in which it begins to the one
// in which the next does.
func (a archive) dump(h wal.History, from wal.LSN) {
	a.t.Helper()
	begin := func(lsn wal.LSN) wal.LSN { return segmentSize.Start(segmentSize.Segno(lsn)) }
	timeline := wal.TimelineID(1)
	read := func(to wal.LSN, next wal.TimelineID) {
		if to > from {
			out, err := runTool(a.t, "", tool(a.t, "pg_waldump"), "--quiet", "--path="+a.dir, fmt.Sprintf("--timeline=%d", timeline), "--start="+from.String(), "--end="+to.String())
			if err != nil {
				a.t.Errorf("pg_waldump of timeline %d from %s to %s: %v\n%s", timeline, from, to, err, out)
			}
		}
		from, timeline = begin(to), next
	}
	for i, s := range h.Switches {
		next := h.Timeline
		if i+1 < len(h.Switches) {
			next = h.Switches[i+1].Parent
		}
		read(begin(s.At), next)
	}
	read(lastComplete(a.receiver), 0)
}

// The primary is killed under load, again and again: while its archive's receiver is stopped, and under it.
// Each time the slot is on the next primary, not ahead of the archive, and the receiver goes on with it.
// What it has in the end is the log, across the changes of timelines, without a gap.
func TestSlotOutlivesPrimary(t *testing.T) {
	t.Parallel()
	receivewal := tool(t, "pg_receivewal")
	random := rand.New(rand.NewPCG(7, 8))
	c := newCluster(t, 3, "--wal-keep-size=1GB")
	a := newArchive(c, "s")
	mustRun(t, receivewal, "--dbname="+a.dsn, "--slot=s", "--create-slot")
	p := a.start()
	begin := segmentSize.Start(1)
	rounds := 3
	if long {
		rounds = 100
	}
	for round := range rounds {
		old := c.primary()
		end, _ := fill(t, old, random, 3)
		old.awaitSlot("s", end)
		for _, n := range c.standbys() {
			n.awaitSlot("s", end-wal.LSN(segmentSize)) // as Raft has it, a segment behind at most
		}
		stopped := round%2 == 0
		if stopped {
			a.stop(p)
		}
		load := startLoad(c, fmt.Sprint("load", round), 4)
		load.await(20)
		old.kill9()
		next := c.primary()
		load.await(20)
		load.stop()
		if stopped {
			a.check(next, begin, next.slotAt("s"))
			p = a.start()
		}
		next.await("SELECT active FROM pg_replication_slots WHERE slot_name = 's'", "t")
		next.exec("INSERT INTO kv VALUES ($1, '')", fmt.Sprint("round ", round))
		old.start()
		c.awaitStreaming()
	}
	fill(t, c.primary(), random, 2)
	c.primary().value("SELECT pg_switch_wal()")
	c.primary().exec("INSERT INTO kv VALUES ('past the end', '')")
	end := c.awaitCaughtUp()
	c.primary().awaitSlot("s", end)
	a.stop(p)
	if switches := len(c.primary().history().Switches); switches < rounds {
		t.Fatalf("%d changes of timelines, want %d", switches, rounds)
	}
	for _, n := range c.nodes {
		a.check(n, begin, end)
	}
	a.dump(c.primary().history(), begin)
}

// A primary that hands over says where its slots are.
func TestSlotIsHandedOver(t *testing.T) {
	t.Parallel()
	receivewal := tool(t, "pg_receivewal")
	c := newCluster(t, 2)
	a := newArchive(c, "s")
	mustRun(t, receivewal, "--dbname="+a.dsn, "--slot=s", "--create-slot")
	p := a.start()
	old, next := c.pair()
	old.exec("INSERT INTO kv VALUES ('less than a segment', '')")
	at := old.flushed()
	old.awaitSlot("s", at)
	a.stop(p)
	if _, err := old.tryValue("SELECT longship_switchover()"); err != nil && sqlState(err) != "57P01" {
		t.Fatal(err)
	}
	if got := c.primary(); got != next {
		t.Fatalf("%s is the primary, want %s", got.name, next.name)
	}
	if got := next.slotAt("s"); got < at {
		t.Errorf("the slot was at %s, and is at %s on the next primary", at, got)
	}
}

// Every node keeps what a slot needs, whoever is the primary, until it is dropped.
func TestSlotKeepsWALEverywhere(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(9, 10))
	c := newCluster(t, 3, "--max-wal-size=3MB", "--min-wal-size=2MB")
	first := c.primary()
	fill(t, first, random, 6)
	for _, n := range c.nodes {
		n.exec("CHECKPOINT")
	}
	first.value("SELECT slot_name FROM pg_create_physical_replication_slot('s', true)")
	at := first.slotAt("s")
	name := func(n *node) string {
		return segmentSize.FileName(n.history().FileTimeline(segmentSize.Segno(at), segmentSize), segmentSize.Segno(at))
	}
	// Nothing is streamed with a slot that keeps nothing before all nodes keep what follows.
	first.value("SELECT slot_name FROM pg_create_physical_replication_slot('unused')")
	begin := segmentSize.Start(segmentSize.Segno(first.flushed()))
	for round := range 2 {
		fill(t, c.primary(), random, 8)
		c.awaitCaughtUp()
		for _, n := range c.nodes {
			n.await("SELECT restart_lsn = '"+at.String()+"' FROM pg_replication_slots WHERE slot_name = 's'", "t")
			n.exec("CHECKPOINT")
			if n.segment(name(n)) == nil {
				t.Errorf("%s has removed what the slot needs: %s", n.name, name(n))
			}
		}
		if round == 0 {
			streamWith(t, first, "unused", begin)
		}
		c.primary().kill9()
		for _, n := range c.nodes {
			if !n.running() {
				if got := c.primary().slotAt("unused"); got != begin {
					t.Errorf("the slot begins at %s, on the next primary at %s", begin, got)
				}
				n.start()
			}
		}
		c.awaitStreaming()
	}
	// On a standby nobody makes, drops or uses one.
	standby := c.standbys()[0]
	for _, call := range []string{"slot_name FROM pg_create_physical_replication_slot('x')", "pg_drop_replication_slot('s')"} {
		if _, err := standby.tryValue("SELECT " + call); sqlState(err) != "25006" {
			t.Errorf("%s on a standby: %v", call, err)
		}
	}
	r := newReceiver(t, standby, "--slot=s", "--no-loop")
	if out, err := runTool(t, "", tool(t, "pg_receivewal"), r.args()...); err == nil || !strings.Contains(out, `cannot use replication slot "s" on a standby`) {
		t.Errorf("pg_receivewal with a slot on a standby: %v\n%s", err, out)
	}
	c.primary().value("SELECT pg_drop_replication_slot('s')")
	for _, n := range c.nodes {
		n.await("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 's'", "0")
	}
}

// streamWith begins a stream with a slot, and returns when it has begun. It says nothing on it.
func streamWith(t *testing.T, n *node, slot string, start wal.LSN) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	conn, err := pgconn.Connect(ctx, n.dsn("replication=true"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Conn().Close() })
	conn.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s %s", slot, start)})
	if err := conn.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	msg, err := conn.ReceiveMessage(ctx)
	if _, ok := msg.(*pgproto3.CopyBothResponse); !ok {
		t.Fatalf("a stream with slot %s is answered with %T, %v", slot, msg, err)
	}
}

// Without a majority of Raft nobody makes or drops a slot, and is told why; what is there goes on.
func TestSlotWithoutMajority(t *testing.T) {
	t.Parallel()
	tool(t, "psql")
	c := newCluster(t, 3, "--synchronous-standby-names=")
	n1 := c.primary()
	n1.value("SELECT slot_name FROM pg_create_physical_replication_slot('s', true)")
	n1.value("SELECT slot_name FROM pg_copy_physical_replication_slot('s', 'used')")
	n1.value("SELECT slot_name FROM pg_create_physical_replication_slot('unused')")
	for _, n := range c.standbys() {
		n.kill9()
	}
	streamWith(t, n1, "used", n1.slotAt("s"))
	var refused string
	var wg sync.WaitGroup
	wg.Go(func() { refused = replicationPsql(t, n1, "START_REPLICATION SLOT unused "+n1.slotAt("s").String()) })
	for _, call := range []string{
		"slot_name FROM pg_create_physical_replication_slot('other')", "pg_drop_replication_slot('s')",
	} {
		wg.Go(func() {
			if _, err := n1.tryValue("SELECT " + call); sqlState(err) != "57P03" {
				t.Errorf("%s without a majority: %v, want SQLSTATE 57P03", call, err)
			}
		})
	}
	wg.Wait()
	if want := `57P03: the cluster has not agreed on where replication slot "unused" begins`; !strings.Contains(refused, want) {
		t.Errorf("a stream with a slot that keeps nothing: %s\nwant %s", refused, want)
	}
	if _, err := n1.tryValue("SELECT slot_name FROM pg_create_physical_replication_slot('s')"); sqlState(err) != "42710" {
		t.Errorf("a slot that is there: %v", err)
	}
	if at := n1.slotAt("s"); at == 0 {
		t.Error("the slot reserves nothing any more")
	}
	// A member is admitted, though its slot cannot be agreed on: the log is kept for it here.
	for _, n := range c.nodes {
		if n != n1 {
			n.start()
			break
		}
	}
	n1.await("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name <> 'used'", "1")
}
