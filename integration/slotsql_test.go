package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// mustFail runs a statement that is refused, with an SQLSTATE and a message.
func mustFail(t *testing.T, c *pgx.Conn, sql, state, message string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Exec(ctx, sql); sqlState(err) != state || !strings.Contains(err.Error(), message) {
		t.Errorf("%s: %v, want SQLSTATE %s: %s", sql, err, state, message)
	}
}

const countTemporary = "SELECT count(*) FROM pg_replication_slots WHERE temporary"

// Temporary slots are their session's: they go with its end, however that comes, and with an error in it.
// They can be made on a standby too.
func TestTemporarySlotFromSQL(t *testing.T) {
	t.Parallel()
	const create = "SELECT slot_name FROM pg_create_physical_replication_slot('t', true, true)"
	primary, standby := newCluster(t, 2).pair()
	for _, n := range []*node{primary, standby} {
		for how, end := range map[string]func(*pgx.Conn){
			"end": func(c *pgx.Conn) { c.Close(t.Context()) },
			"cut": func(c *pgx.Conn) { // as the kernel does for a client that was killed
				if tcp, ok := c.PgConn().Conn().(*net.TCPConn); ok {
					tcp.SetLinger(0)
				}
				c.PgConn().Conn().Close()
			},
			"error":     func(c *pgx.Conn) { mustFail(t, c, "SELECT 1/0", "22012", "division by zero") },
			"terminate": func(c *pgx.Conn) { n.exec("SELECT pg_terminate_backend($1)", int32(c.PgConn().PID())) },
			"drop": func(c *pgx.Conn) {
				if _, err := c.Exec(t.Context(), "SELECT pg_drop_replication_slot('t')"); err != nil {
					t.Error(err)
				}
			},
			"cancel": func(c *pgx.Conn) {
				if _, err := c.Exec(t.Context(), "SET statement_timeout = 1"); err != nil {
					t.Error(err)
				}
				mustFail(t, c, "SELECT pg_sleep(3600)", "57014", "statement timeout")
			},
		} {
			c := n.connect()
			if _, err := c.Exec(t.Context(), create); err != nil {
				t.Fatalf("%s: %v", n.name, err)
			}
			n.slotSays(how, "t", "temporary AND active AND restart_lsn IS NOT NULL AND active_pid = "+fmt.Sprint(c.PgConn().PID()), "t")
			other := n.connect()
			mustFail(t, other, "SELECT pg_drop_replication_slot('t')", "55006", `replication slot "t" is active for PID`)
			mustFail(t, other, create, "42710", `replication slot "t" already exists`)
			end(c)
			n.await(countTemporary, "0")
		}
	}
}

// Copies and advances, with PostgreSQL 15's answers to what is wrong.
func TestCopyAndAdvanceSlot(t *testing.T) {
	t.Parallel()
	primary, standby := newCluster(t, 2).pair()
	primary.value("SELECT slot_name FROM pg_create_physical_replication_slot('p', true)")
	primary.value("SELECT slot_name FROM pg_create_physical_replication_slot('n')")
	begin := primary.slotAt("p")
	primary.advanceWAL(2)
	primary.exec("CHECKPOINT") // the copy begins before the last one, which is what other new slots begin at
	if got := primary.value("SELECT slot_name || ' ' || (lsn IS NULL) FROM pg_copy_physical_replication_slot('p', 'q')"); got != "q true" {
		t.Errorf("copied: %s", got)
	}
	if got := primary.slotAt("q"); got != begin {
		t.Errorf("the copy is at %s, the slot at %s", got, begin)
	}
	standby.await("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'q'", begin.String())

	c := primary.connect()
	mustFail(t, c, "SELECT slot_name FROM pg_copy_physical_replication_slot('n', 'x')", "55000", "cannot copy a replication slot that doesn't reserve WAL")
	mustFail(t, c, "SELECT slot_name FROM pg_copy_physical_replication_slot('gone', 'x')", "42704", `replication slot "gone" does not exist`)
	mustFail(t, c, "SELECT slot_name FROM pg_copy_physical_replication_slot('p', 'q')", "42710", `replication slot "q" already exists`)
	mustFail(t, c, "SELECT slot_name FROM pg_replication_slot_advance('p', '0/0')", "XX000", "invalid target WAL LSN")
	mustFail(t, c, "SELECT slot_name FROM pg_replication_slot_advance('p', '0/1')", "55000", "cannot advance replication slot to 0/1, minimum is "+begin.String())
	mustFail(t, c, "SELECT slot_name FROM pg_replication_slot_advance('n', '0/1')", "55000", `replication slot "n" cannot be advanced`)
	mustFail(t, c, "SELECT slot_name FROM pg_replication_slot_advance('gone', '0/1')", "42704", `replication slot "gone" does not exist`)
	mustFail(t, standby.connect(), "SELECT slot_name FROM pg_replication_slot_advance('p', 'F/0')", "25006", "on a standby")

	end := primary.flushed()
	if got := primary.value("SELECT slot_name || ' ' || (end_lsn >= '" + end.String() + "' AND end_lsn <= pg_current_wal_flush_lsn()) FROM pg_replication_slot_advance('p', 'F/0')"); got != "p true" {
		t.Errorf("advanced: %s", got)
	}
	standby.awaitSlot("p", end-1<<20)
	advanceToHorizon(primary, standby)
	if got := primary.value("SELECT slot_name FROM pg_copy_physical_replication_slot('q', 't', true)"); got != "t" {
		t.Errorf("copied: %s", got)
	}
	primary.await(countTemporary, "0") // with the connection that made it
	mustRun(t, longship, "slots", "create", "--host=127.0.0.1", fmt.Sprintf("--port=%d", primary.port), "--reserve-wal=false", "later")
	primary.slotSays("not reserved", "later", "restart_lsn IS NULL", "t")
}

// advanceToHorizon has a commit wait for a standby that hangs: no slot moves past what is acknowledged.
func advanceToHorizon(primary, standby *node) {
	t := primary.t
	t.Helper()
	horizon := parseLSN(t, primary.value("SELECT horizon FROM longship_cluster"))
	standby.freeze()
	ctx, cancel := context.WithCancel(t.Context())
	var waits sync.WaitGroup
	waits.Go(func() { // until it is cancelled, or the standby is back
		if c, err := primary.dial(ctx); err == nil {
			c.Exec(ctx, "INSERT INTO kv VALUES ('waits', '')")
			c.Close(ctx)
		}
	})
	primary.await("SELECT pg_current_wal_flush_lsn() > '"+horizon.String()+"'", "t")
	primary.await("SELECT pg_current_wal_flush_lsn() > horizon FROM longship_cluster", "t")
	flushed := primary.flushed()
	got := parseLSN(t, primary.value("SELECT end_lsn FROM pg_replication_slot_advance('p', 'F/0')"))
	horizon = parseLSN(t, primary.value("SELECT horizon FROM longship_cluster"))
	standby.thaw()
	cancel()
	waits.Wait()
	if got > horizon || horizon >= flushed {
		t.Errorf("advanced to %s, with the horizon at %s of %s", got, horizon, flushed)
	}
}

// A member that is removed takes its slot with it, on every node: nobody keeps the log for it.
func TestSlotGoesWithItsMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	primary, gone, stays := c.primary(), c.standbys()[0], c.standbys()[1]
	if c.raftLeader() == stays { // so it has to be replaced first
		gone, stays = stays, gone
	}
	count := "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + gone.name + "'"
	for _, n := range []*node{primary, stays} {
		n.await(count, "1")
	}
	gone.kill9()
	mustRun(t, longship, "members", "remove", "--host=127.0.0.1", fmt.Sprintf("--port=%d", primary.port), gone.name)
	for _, n := range []*node{primary, stays} {
		n.await(count, "0")
	}
	primary.await("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '"+stays.name+"'", "1")
}

// A driver reads all columns of the views in binary.
func TestSlotViewsInBinary(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1).primary()
	n.value("SELECT slot_name FROM pg_create_physical_replication_slot('s', true)")
	lsn := binary.BigEndian.AppendUint64(nil, uint64(n.slotAt("s")))
	since := n.value("SELECT extract(epoch FROM inactive_since) FROM longship_slots WHERE slot_name = 's'")
	want := []any{"s", nil, "physical", nil, nil, false, false, nil, nil, nil, lsn, nil, "reserved", nil, false}
	for _, view := range []string{"pg_replication_slots", "longship_slots"} {
		rows, err := n.connect().Query(t.Context(), "SELECT * FROM "+view, pgx.QueryResultFormats{pgx.BinaryFormatCode})
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		if err != nil || len(all) != 1 || !reflect.DeepEqual(all[0][:len(want)], want) {
			t.Fatalf("%s: %v, %v, want %v", view, all, err, want)
		}
		more := all[0][len(want):]
		if view == "pg_replication_slots" && len(more) == 0 {
			continue
		}
		at, _ := more[0].(time.Time)
		pinned, _ := more[2].(int64)
		if len(more) != 4 || fmt.Sprintf("%d.%06d", at.Unix(), at.Nanosecond()/1000) != since || more[1] != nil || pinned < 0 || more[3] != nil {
			t.Errorf("%s: %v", view, more)
		}
	}
}
