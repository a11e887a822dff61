package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestBenchRecovery is a benchmark and asserts nothing: how long after a kill -9 at full load, 64 clients
// and default settings, a server without standbys takes its first commit again, and how that grows with
// what is stored. 10 GB take LONGSHIP_LONG=1.
func TestBenchRecovery(t *testing.T) {
	rounds := benchRounds(t)
	ctx, cancel := benchContext(t)
	defer cancel()
	sizes := []int{100, 1000}
	if long {
		sizes = append(sizes, 10_000)
	}
	pg := onePostgres(t, "max_connections = 300")
	c := benchCluster(t, 1)
	theirs := crasher{pg.system(), func() { pg.crash() }}
	ours := crasher{c.system(), func() { c.node(1).kill9(); c.node(1).launch() }}
	script := writeScript(t, upsertScript)
	tab := newTable("From a kill -9 to the next commit", "MB stored", "PostgreSQL s", "Longship s", "ratio")
	for i, size := range sizes {
		for _, x := range []crasher{theirs, ours} {
			if i == 0 {
				x.preload(ctx)
			}
			x.store(ctx, i, sizes)
		}
		var a, b []float64
		for range rounds {
			a = append(a, theirs.recovery(ctx, script))
			b = append(b, ours.recovery(ctx, script))
		}
		same := func(v float64) float64 { return v }
		tab.row(append([]string{strconv.Itoa(scaled(size, 1))}, cells(a, b, same)...)...)
	}
	tab.print()
}

// A crasher is a server that is killed and started again.
type crasher struct {
	system
	crash func()
}

// store adds what is missing of a size, in rows of 1 kB.
func (x crasher) store(ctx context.Context, i int, sizes []int) {
	x.t.Helper()
	mb := scaled(sizes[i], 1)
	if i > 0 {
		mb -= scaled(sizes[i-1], 1)
	}
	c := x.connect(ctx)
	defer c.Close(ctx)
	for n := range mb {
		x.copyRows(ctx, c.PgConn(), fmt.Sprintf("%d/%d/", i, n), 1000, 1000)
	}
}

// recovery is how many seconds pass from the kill to the first commit.
func (x crasher) recovery(ctx context.Context, script string) float64 {
	x.t.Helper()
	log := filepath.Join(x.t.TempDir(), "log")
	load := startProcess(x.t, nil, tool(x.t, "pgbench"), pgbenchArgs(x.servers[0].port, script, log, 64, time.Hour)...)
	letPass(ctx, benchTime())
	killed := time.Now()
	x.crash()
	for !x.commits(ctx) {
		moment(ctx)
	}
	took := time.Since(killed)
	load.signal(syscall.SIGKILL)
	<-load.done
	return took.Seconds()
}

// commits reports whether a client can connect and write.
func (x crasher) commits(ctx context.Context) bool {
	if ctx.Err() != nil {
		x.t.Fatal(ctx.Err())
	}
	c, err := pgx.Connect(ctx, x.servers[0].dsn())
	if err != nil {
		return false
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, "INSERT INTO kv (key, value) VALUES ('up', '') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
	return err == nil
}

// crash kills all processes of the one server, and starts it again without waiting for it.
func (p *postgres) crash() {
	p.t.Helper()
	dir := filepath.Join(p.dir, "primary")
	tree := processTree(p.server(dir).pid)
	for _, pid := range tree { // the first one first: it would start the others again
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range tree {
		for runs(pid) {
			moment(p.t.Context())
		}
	}
	// The next start takes a process that nobody has waited for for one that runs.
	sockets, _ := filepath.Glob(filepath.Join(p.dir, ".s.PGSQL.*"))
	for _, name := range append(sockets, filepath.Join(dir, "postmaster.pid")) {
		if err := os.Remove(name); err != nil {
			p.t.Fatal(err)
		}
	}
	p.run("pg_ctl", "-D", dir, "-l", dir+".log", "-W", "start")
}
