package integration

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// advanceWAL is what PostgreSQL's recovery tests call so: the log goes on to the next segment, n times.
func (n *node) advanceWAL(segments int) {
	n.t.Helper()
	for range segments {
		n.exec("INSERT INTO kv VALUES ('advance', '') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
		n.value("SELECT pg_switch_wal()")
	}
}

// set changes a setting of the cluster, and waits until it applies.
func (n *node) set(name, value string) {
	n.t.Helper()
	n.exec("ALTER SYSTEM SET " + name + " TO '" + value + "'")
	n.value("SELECT pg_reload_conf()")
	n.await("SHOW "+name, value)
}

// slotSays checks what pg_replication_slots has of a slot.
func (n *node) slotSays(step, slot, columns, want string) {
	n.t.Helper()
	if got := n.value("SELECT " + columns + " FROM longship_slots WHERE slot_name = '" + slot + "'"); got != want {
		n.t.Errorf("%s: %s = %s, want %s", step, columns, got, want)
	}
}

// awaitLogged waits until the node's log has a match, and checks that it has one only.
func (n *node) awaitLogged(pattern string) {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for {
		text, err := os.ReadFile(n.dir + ".log")
		if err != nil {
			n.t.Fatal(err)
		}
		switch found := len(regexp.MustCompile(pattern).FindAll(text, -1)); {
		case found > 1:
			n.t.Errorf("%s: %d times in the log", pattern, found)
			return
		case found == 1:
			return
		case ctx.Err() != nil:
			n.t.Fatalf("%s: not in the log", pattern)
		}
		moment(ctx)
	}
}

// catchUp connects a receiver until its slot is where the log ends.
func (r *receiver) catchUp(n *node, slot string) {
	r.t.Helper()
	p := r.start()
	n.awaitSlot(slot, n.flushed())
	r.stop(p)
	n.await("SELECT active FROM pg_replication_slots WHERE slot_name = '"+slot+"'", "f")
}

// The steps of PostgreSQL 15's recovery test 019_replslot_limit, with pg_receivewal for its standby.
func TestReplslotLimit(t *testing.T) {
	t.Parallel()
	receivewal := tool(t, "pg_receivewal")
	// What is still in the WAL buffer can be streamed though its files are gone: a small one.
	n := newCluster(t, 1, "--wal-buffers=256kB").primary()
	n.set("min_wal_size", "2MB")
	n.set("max_wal_size", "4MB")
	n.value("SELECT slot_name FROM pg_create_physical_replication_slot('rep1')")
	const text = "coalesce(wal_status, '-')"
	n.slotSays("before the first connection", "rep1", "restart_lsn IS NULL AND wal_status IS NULL AND safe_wal_size IS NULL", "t")
	r := newReceiver(t, n, "--slot=rep1", "--synchronous")
	r.catchUp(n, "rep1")
	n.slotSays("catching up", "rep1", text, "reserved")
	n.slotSays("catching up", "rep1", "safe_wal_size IS NULL", "t")
	n.advanceWAL(1)
	n.exec("CHECKPOINT")
	n.slotSays("WAL fits in max_wal_size", "rep1", text, "reserved")
	n.advanceWAL(4)
	n.exec("CHECKPOINT")
	n.slotSays("without max_slot_wal_keep_size", "rep1", text, "reserved")
	n.slotSays("without max_slot_wal_keep_size", "rep1", "safe_wal_size IS NULL", "t")
	r.catchUp(n, "rep1")

	n.set("max_slot_wal_keep_size", "6MB")
	n.slotSays("max_slot_wal_keep_size works", "rep1", text, "reserved")
	n.advanceWAL(2)
	n.exec("CHECKPOINT")
	n.slotSays("remains reserved after advancing", "rep1", text, "reserved")
	r.catchUp(n, "rep1")

	n.set("wal_keep_size", "8MB")
	n.advanceWAL(6)
	n.slotSays("wal_keep_size overrides", "rep1", text, "extended")
	n.advanceWAL(1)
	n.exec("CHECKPOINT")
	n.slotSays("wal_keep_size overrides at a checkpoint", "rep1", text, "extended")
	r.catchUp(n, "rep1")
	n.set("wal_keep_size", "0")

	n.advanceWAL(6)
	n.slotSays("6 MB behind", "rep1", text, "extended")
	n.set("max_wal_size", "40MB") // no checkpoint from here on but those that are asked for
	n.exec("CHECKPOINT")
	n.advanceWAL(1)
	n.slotSays("7 MB behind", "rep1", text, "unreserved")
	n.slotSays("7 MB behind", "rep1", "safe_wal_size <= 0", "t")
	r.catchUp(n, "rep1") // before a checkpoint it still can

	n.exec("CHECKPOINT")
	at := n.slotAt("rep1")
	n.advanceWAL(7)
	n.exec("ALTER SYSTEM RESET max_wal_size")
	n.value("SELECT pg_reload_conf()")
	n.exec("CHECKPOINT")
	n.awaitLogged(fmt.Sprintf(`invalidating slot ."rep1." because its restart_lsn %s exceeds max_slot_wal_keep_size`, at))
	n.slotSays("lost", "rep1", "slot_name || ' ' || active || ' ' || wal_status || ' ' || invalidation_reason", "rep1 false lost wal_removed")
	n.slotSays("lost", "rep1", "restart_lsn IS NULL AND safe_wal_size IS NULL", "t")

	// What is invalidated keeps nothing (bug #17103).
	redo := segmentSize.Segno(parseLSN(t, n.value("SELECT lsn FROM pg_create_physical_replication_slot('s2', true)")))
	if n.segment(segmentSize.FileName(1, redo)) == nil || n.segment(segmentSize.FileName(1, redo-2)) != nil {
		t.Errorf("WAL is not kept from segment %d on, or from the one before, in which its last record may begin", redo)
	}
	n.value("SELECT pg_drop_replication_slot('s2')")
	out, err := runTool(t, "", receivewal, r.args("--no-loop")...)
	if err == nil || !regexp.MustCompile(`could not send replication command "START_REPLICATION": ERROR:  requested WAL segment [0-9A-F]+ has already been removed`).MatchString(out) {
		t.Errorf("a receiver whose slot is lost: %v\n%s", err, out)
	}
	n.restart()
	n.slotSays("lost, after a restart", "rep1", "wal_status || ' ' || invalidation_reason", "lost wal_removed")
}

// A checkpoint does not wait for a walsender, even if its slot may keep nothing.
func TestReplslotLimitOfNothing(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	n := newCluster(t, 1, "--max-slot-wal-keep-size=0", "--min-wal-size=2MB", "--max-wal-size=2MB").primary()
	n.value("SELECT slot_name FROM pg_create_physical_replication_slot('rep1')")
	r := newReceiver(t, n, "--slot=rep1", "--synchronous")
	p := r.start()
	n.advanceWAL(1)
	n.exec("CHECKPOINT") // within the patience of tests
	p.signal(syscall.SIGINT)
}

// The walsender of a slot that is lost is ended, though its receiver hangs.
func TestReplslotTerminatesWalsender(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	n := newCluster(t, 1, "--max-slot-wal-keep-size=1MB", "--min-wal-size=2MB", "--max-wal-size=2MB").primary()
	n.value("SELECT slot_name FROM pg_create_physical_replication_slot('rep3')")
	r := newReceiver(t, n, "--slot=rep3", "--synchronous")
	p := r.start()
	n.awaitSlot("rep3", n.flushed())
	pid := n.value("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'rep3'")
	p.signal(syscall.SIGSTOP)
	defer p.signal(syscall.SIGCONT)
	n.advanceWAL(3)
	n.exec("CHECKPOINT")
	n.await("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'rep3'", "lost")
	n.await("SELECT active FROM pg_replication_slots WHERE slot_name = 'rep3'", "f")
	n.awaitLogged(`terminating process ` + pid + ` to release replication slot ."rep3.`)
	n.awaitLogged(`invalidating slot ."rep3.`)
}

// Idle slots go after idle_replication_slot_timeout, and the reason stays, through a failover. That of a member
// that is away goes as well, as a standby's does in PostgreSQL, and is as it was once the member is back.
func TestIdleSlot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	n, away, stays := c.primary(), c.standbys()[0], c.standbys()[1]
	n.value("SELECT slot_name FROM pg_create_physical_replication_slot('idle', true)")
	since := n.value("SELECT inactive_since FROM longship_slots WHERE slot_name = 'idle'")
	away.kill9()
	n.await("SELECT active FROM pg_replication_slots WHERE slot_name = '"+away.name+"'", "f")
	left := n.value("SELECT inactive_since FROM longship_slots WHERE slot_name = '" + away.name + "'")
	n.set("idle_replication_slot_timeout", "1s")
	n.awaitThat("SELECT clock_timestamp() > TIMESTAMPTZ '"+left+"' + INTERVAL '2 s'", func(v string) bool { return v == "t" }, "t")
	n.exec("CHECKPOINT")
	const lost, fine = "wal_status || ' ' || invalidation_reason", "wal_status || ' ' || coalesce(invalidation_reason, '-')"
	n.slotSays("idle", "idle", lost, "lost idle_timeout")
	n.slotSays("a member that is away", away.name, lost, "lost idle_timeout")
	n.slotSays("a member that streams", stays.name, fine, "reserved -")
	stays.await("SELECT invalidation_reason FROM longship_slots WHERE slot_name = '"+away.name+"'", "idle_timeout")
	away.start()
	c.awaitStreaming()
	stays.await("SELECT "+fine+" FROM longship_slots WHERE slot_name = '"+away.name+"'", "reserved -")
	for _, s := range c.standbys() {
		s.await("SELECT invalidation_reason FROM longship_slots WHERE slot_name = 'idle'", "idle_timeout")
	}
	n.kill9()
	next := c.primary()
	next.slotSays("after a failover", "idle", lost, "lost idle_timeout")
	if got := next.value("SELECT inactive_since FROM longship_slots WHERE slot_name = 'idle'"); got != since {
		t.Errorf("inactive since %s, and after a failover since %s", since, got)
	}
}

// A name that is too long is refused everywhere, and not cut: under the cut name nobody would find the slot.
func TestSlotNameTooLong(t *testing.T) {
	t.Parallel()
	receivewal := tool(t, "pg_receivewal")
	n := newCluster(t, 1).primary()
	name := strings.Repeat("x", 64)
	want := `replication slot name "` + name + `" is too long`
	if _, err := n.tryValue("SELECT slot_name FROM pg_create_physical_replication_slot('" + name + "')"); sqlState(err) != "42622" || !strings.Contains(err.Error(), want) {
		t.Errorf("pg_create_physical_replication_slot: %v", err)
	}
	r := newReceiver(t, n, "--slot="+name)
	if out, err := runTool(t, "", receivewal, r.args("--create-slot")...); err == nil || !strings.Contains(out, want) {
		t.Errorf("pg_receivewal: %v\n%s", err, out)
	}
	if out, err := runTool(t, "", longship, "slots", "create", "--host=127.0.0.1", fmt.Sprintf("--port=%d", n.port), name); err == nil || !strings.Contains(out, want) {
		t.Errorf("longship slots create: %v\n%s", err, out)
	}
	if got := n.value("SELECT count(*) FROM pg_replication_slots"); got != "0" {
		t.Errorf("%s slots were made", got)
	}
}
