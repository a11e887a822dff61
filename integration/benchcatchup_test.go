package integration

import (
	"context"
	"math"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/longship-db/longship/wal"
)

// TestBenchCatchup is a benchmark and asserts nothing: how fast a standby that is 1 GB behind gets what it
// has missed, beside pg_receivewal from either primary, and how many commits there are meanwhile.
func TestBenchCatchup(t *testing.T) {
	benchRounds(t) // one round says it all: each figure is of a gigabyte
	ctx, cancel := benchContext(t)
	defer cancel()
	theirs := startPostgres(t).system()
	c := benchCluster(t, 3)
	ours := c.system()
	script := writeScript(t, upsertScript)
	for _, s := range []system{theirs, ours} {
		s.preload(ctx)
	}
	absent := []*absentee{
		{system: theirs, what: "pg_receivewal from PostgreSQL", name: "pg_receivewal"},
		{system: ours, what: "pg_receivewal from Longship", name: "pg_receivewal"},
		{system: ours, what: "Longship's standby", name: c.standbys()[0].name, node: c.standbys()[0]},
	}
	alone := newTable("Catching up while nothing is written", "who", "MB", "received MB/s", "replayed MB/s")
	loaded := newTable("Catching up while 32 clients write", "who", "MB", "MB/s", "tps afterwards", "tps meanwhile", "ratio")
	for _, a := range absent {
		r := a.alone(ctx)
		alone.row(a.what, number(r.mb), number(r.received), number(r.replayed))
		l := a.loaded(ctx, script)
		row := append([]string{a.what, number(l.mb), number(l.received)}, both(l.afterwards, l.meanwhile)...)
		loaded.row(row...)
	}
	alone.print()
	loaded.print()
}

// A caughtUp is how an absentee caught up: with how much, and how much a second was received and replayed; and
// while clients write, commits a second meanwhile, and afterwards, when it keeps up.
type caughtUp struct{ mb, received, replayed, meanwhile, afterwards float64 }

// An absentee is a standby, or a pg_receivewal with a slot, that is away while the log grows.
type absentee struct {
	system
	what string
	name string // in pg_stat_replication
	node *node  // nil if it is pg_receivewal

	slot, dir string
}

// leave is away until the log has grown by 1 GB in transactions of 1 MB, from start to end.
func (a *absentee) leave(ctx context.Context, conn *pgx.Conn, label string) (start, end wal.LSN) {
	a.t.Helper()
	start = parseLSN(a.t, a.value(ctx, conn, "SELECT pg_current_wal_flush_lsn()"))
	if a.node != nil {
		a.node.stop()
	} else {
		a.slot, a.dir = "bench_"+label, a.t.TempDir()
		a.value(ctx, conn, "SELECT slot_name FROM pg_create_physical_replication_slot('"+a.slot+"', true)")
	}
	end = a.grow(ctx, a.name+"/"+label+"/", 100, scaled(1<<30, 16<<20))
	a.grow(ctx, a.name+"/"+label+"/more/", 100, 1) // pg_receivewal ends when it sees more than it wants
	return start, end
}

// comeBack starts a standby, or a pg_receivewal with more arguments.
func (a *absentee) comeBack(more ...string) *process {
	a.t.Helper()
	if a.node != nil {
		a.node.launch()
		return a.node.proc
	}
	args := append([]string{"-d", a.servers[0].dsn(), "-D", a.dir, "--no-password", "--slot=" + a.slot}, more...)
	return startProcess(a.t, nil, tool(a.t, "pg_receivewal"), args...)
}

// alone measures while nobody else is at work.
func (a *absentee) alone(ctx context.Context) (r caughtUp) {
	a.t.Helper()
	conn := a.connect(ctx)
	defer conn.Close(ctx)
	start, end := a.leave(ctx, conn, "alone")
	r.mb = float64(end-start) / 1e6
	begun := time.Now()
	p := a.comeBack("--no-loop", "--endpos="+end.String())
	if a.node == nil {
		if err := p.wait(ctx); err != nil {
			a.t.Fatal(err)
		}
		r.received, r.replayed = r.mb/time.Since(begun).Seconds(), math.NaN()
		a.dropSlot(ctx, conn)
		return r
	}
	begun = a.await(ctx, conn, func(sent) bool { return true }) // the process has started, joined and connected
	r.received = r.mb / a.await(ctx, conn, func(s sent) bool { return s.flush >= end }).Sub(begun).Seconds()
	r.replayed = r.mb / a.await(ctx, conn, func(s sent) bool { return s.replay >= end }).Sub(begun).Seconds()
	a.awaitCounted(ctx, conn)
	return r
}

// loaded measures while 32 clients write: until the absentee gets what is new, and no longer what it missed, and
// then as long as usual when it has also applied that. It has only the processors' time that nobody else wants: on
// a machine of its own it would take none from the primary, and what is left here is what it does to the disk, and
// what sending to it costs.
func (a *absentee) loaded(ctx context.Context, script string) (r caughtUp) {
	a.t.Helper()
	conn := a.connect(ctx)
	defer conn.Close(ctx)
	start, _ := a.leave(ctx, conn, "loaded")
	log := filepath.Join(a.t.TempDir(), "log")
	load := startProcess(a.t, nil, tool(a.t, "pgbench"), pgbenchArgs(a.servers[0].port, script, log, 32, time.Hour)...)
	letPass(ctx, benchTime()) // it gets going
	p := a.comeBackHumbly()
	from := a.await(ctx, conn, func(sent) bool { return true })
	to := a.await(ctx, conn, func(s sent) bool { return s.state == "streaming" })
	end := parseLSN(a.t, a.value(ctx, conn, "SELECT pg_current_wal_flush_lsn()"))
	a.await(ctx, conn, func(s sent) bool { return a.node == nil || s.replay >= end })
	after := time.Now()
	letPass(ctx, 2*benchTime()) // what pgbench has not written of its log when it is killed is of the second half
	load.signal(syscall.SIGKILL)
	<-load.done
	if a.node == nil {
		p.signal(syscall.SIGKILL)
		<-p.done
		a.dropSlot(ctx, conn)
	} else {
		a.awaitCounted(ctx, conn)
	}
	all := readLog(a.t, log)
	r.mb = float64(end-start) / 1e6
	r.received = r.mb / to.Sub(from).Seconds()
	r.meanwhile, r.afterwards = rate(all, from, to), rate(all, after, after.Add(benchTime()))
	return r
}

// comeBackHumbly is comeBack for a process that gets the processors only while nobody else wants them (SCHED_IDLE), which
// it has from the thread that starts it. The lowest priority would not do: who has a processor keeps it for
// some milliseconds, whoever wakes up meanwhile.
func (a *absentee) comeBackHumbly() *process {
	a.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	policy := func(p uint32) {
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: p}, 0); err != nil { // back again only root may
			a.t.Fatal(err)
		}
	}
	policy(unix.SCHED_IDLE)
	defer policy(unix.SCHED_NORMAL)
	return a.comeBack()
}

// dropSlot lets go of the WAL that a pg_receivewal has received, once the server has noticed that it ended.
func (a *absentee) dropSlot(ctx context.Context, conn *pgx.Conn) {
	a.t.Helper()
	for {
		_, err := queryValue(ctx, conn, "SELECT pg_drop_replication_slot('"+a.slot+"')")
		if err == nil {
			return
		}
		if sqlState(err) != "55006" {
			a.t.Fatalf("%s: %v", a.what, err)
		}
		moment(ctx)
	}
}

// rate is how many of the transactions logged, of which each stands for ten, ended in a second between two times.
func rate(all []logged, from, to time.Time) float64 {
	n := 0
	for _, x := range all {
		if !x.end.Before(from) && x.end.Before(to) {
			n++
		}
	}
	return 10 * float64(n) / to.Sub(from).Seconds()
}

// letPass lets time pass, in which something is measured.
func letPass(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// A sent is what pg_stat_replication says of one who streams.
type sent struct {
	state         string
	flush, replay wal.LSN
}

// await asks until the primary says of the absentee what is wanted, and returns when that was.
func (a *absentee) await(ctx context.Context, conn *pgx.Conn, ok func(sent) bool) time.Time {
	a.t.Helper()
	query := "SELECT state, flush_lsn, replay_lsn FROM pg_stat_replication WHERE application_name = '" + a.name + "'"
	for {
		rows, err := conn.Query(ctx, query, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			a.t.Fatalf("%s: %v", a.what, err)
		}
		found, s := rows.Next(), sent{}
		if found {
			v := rows.RawValues()
			s.state = string(v[0])
			s.flush, _ = wal.ParseLSN(string(v[1])) // NULL before the first report
			s.replay, _ = wal.ParseLSN(string(v[2]))
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			a.t.Fatalf("%s: %v", a.what, err)
		}
		if found && ok(s) {
			return time.Now()
		}
		letPass(ctx, 50*time.Millisecond) // to ask takes time of the processors, too
	}
}

// awaitCounted waits until a standby that is back counts for the rule, as before.
func (a *absentee) awaitCounted(ctx context.Context, conn *pgx.Conn) {
	a.t.Helper()
	for a.value(ctx, conn, "SELECT count(*) FROM longship_members WHERE counted AND voter") != "3" {
		moment(ctx)
	}
}
