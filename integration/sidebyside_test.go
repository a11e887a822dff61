package integration

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The script both systems run: an upsert of a 100-byte value over 100,000 keys.
const upsertScript = `\set k random(1, 100000)
INSERT INTO kv VALUES ('key' || :k, '` + value100 + `') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;
`

const value100 = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

// TestBesidePostgreSQL is a benchmark and not a test: it asserts nothing. PostgreSQL 15 and Longship,
// each a primary with one standby that a commit waits for and one that it does not, run the same
// pgbench script alternately. The machine may be noisy: what counts are the ratios of one run.
// LONGSHIP_BENCH is the number of rounds.
func TestBesidePostgreSQL(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("LONGSHIP_BENCH"))
	if rounds == 0 {
		t.Skip("a benchmark: set LONGSHIP_BENCH to the number of rounds")
	}
	pg := startPostgres(t)
	c := newCluster(t, 3, "--wal-segsize=16", "--max-connections=300")
	script := filepath.Join(t.TempDir(), "upsert.sql")
	if err := os.WriteFile(script, []byte(upsertScript), 0o644); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%8s  %22s  %22s  %s\n", "clients", "PostgreSQL tps (ms)", "Longship tps (ms)", "ratio of tps (of latency)")
	for _, clients := range []int{1, 8, 32, 64, 128} {
		var theirs, ours []result
		for range rounds {
			theirs = append(theirs, runPgbench(t, pg.port, script, clients))
			ours = append(ours, runPgbench(t, c.primary().port, script, clients))
		}
		a, b := median(theirs), median(ours)
		fmt.Printf("%8d  %12.0f (%6.2f)  %12.0f (%6.2f)  %.2f (%.2f)\n", clients, a.tps, a.ms, b.tps, b.ms, b.tps/a.tps, b.ms/a.ms)
	}
}

// A result is what pgbench measured: transactions a second, and the mean latency.
type result struct{ tps, ms float64 }

func median(r []result) result {
	slices.SortFunc(r, func(a, b result) int { return int(math.Copysign(1, a.tps-b.tps)) })
	return r[len(r)/2]
}

var (
	tpsLine     = regexp.MustCompile(`tps = ([0-9.]+)`)
	latencyLine = regexp.MustCompile(`latency average = ([0-9.]+) ms`)
)

func runPgbench(t *testing.T, port int, script string, clients int) result {
	t.Helper()
	out := mustRun(t, tool(t, "pgbench"), "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "postgres", "-n",
		"-M", "prepared", "-f", script, "-c", strconv.Itoa(clients), "-j", "2", "-T", "5", "postgres")
	tps, latency := tpsLine.FindStringSubmatch(out), latencyLine.FindStringSubmatch(out)
	if tps == nil || latency == nil {
		t.Fatalf("pgbench printed no result:\n%s", out)
	}
	var r result
	r.tps, _ = strconv.ParseFloat(tps[1], 64)
	r.ms, _ = strconv.ParseFloat(latency[1], 64)
	return r
}

// A postgres is a PostgreSQL primary with two standbys, s1 synchronous and s2 not.
type postgres struct {
	t    *testing.T
	dir  string
	port int
	cred *syscall.Credential // the server refuses to run as root
}

func startPostgres(t *testing.T) *postgres {
	t.Helper()
	p := onePostgres(t, "max_connections = 300", "wal_keep_size = 1GB", "synchronous_standby_names = 's1'")
	for i, name := range []string{"s1", "s2"} {
		dir := filepath.Join(p.dir, name)
		p.run("pg_basebackup", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "postgres", "-D", dir, "-R", "-c", "fast")
		p.configure(dir, freePort(t), "cluster_name = '"+name+"'")
		p.serve(dir)
		p.await("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", strconv.Itoa(i+1))
	}
	return p
}

// onePostgres is a PostgreSQL by itself, with an empty table kv.
func onePostgres(t *testing.T, config ...string) *postgres {
	t.Helper()
	p := newPostgres(t)
	primary := filepath.Join(p.dir, "primary")
	p.configure(primary, p.port, config...)
	p.serve(primary)
	p.sql("SET synchronous_commit = local; CREATE TABLE kv (key text PRIMARY KEY, value text, lsn pg_lsn)")
	return p
}

// newPostgres makes a primary that is yet to be configured and served.
func newPostgres(t *testing.T) *postgres {
	t.Helper()
	tool(t, "initdb")
	u, err := user.Lookup("postgres")
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs root and a user postgres to run a PostgreSQL server")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir, err := os.MkdirTemp("", "longship-beside-") // not t.TempDir, which only its owner may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	p := &postgres{t: t, dir: dir, port: freePort(t), cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	p.run("initdb", "-D", filepath.Join(dir, "primary"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N")
	return p
}

func (p *postgres) configure(dir string, port int, lines ...string) {
	p.t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	lines = append(lines, fmt.Sprintf("port = %d", port), "unix_socket_directories = '"+p.dir+"'", "listen_addresses = '127.0.0.1'")
	if _, err := f.WriteString("\n" + strings.Join(lines, "\n") + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *postgres) serve(dir string) {
	p.t.Helper()
	p.run("pg_ctl", "-D", dir, "-l", dir+".log", "-w", "start")
	p.t.Cleanup(func() { p.run("pg_ctl", "-D", dir, "-m", "immediate", "-w", "stop") })
}

func (p *postgres) run(name string, args ...string) {
	p.t.Helper()
	cmd := exec.Command(tool(p.t, name), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	log, err := os.CreateTemp(p.dir, name)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log // a file: the server pg_ctl starts keeps it open
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		p.t.Fatalf("%s %q: %v\n%s", name, args, err, text)
	}
}

func (p *postgres) sql(text string) string {
	p.t.Helper()
	out := mustRun(p.t, tool(p.t, "psql"), "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "postgres", "-d", "postgres", "-Atqc", text)
	return strings.TrimSpace(out)
}

// await repeats a query until it answers want.
func (p *postgres) await(query, want string) {
	p.t.Helper()
	ctx, cancel := testContext(p.t)
	defer cancel()
	for p.sql(query) != want {
		if ctx.Err() != nil {
			p.t.Fatalf("%s: never %q", query, want)
		}
	}
}
