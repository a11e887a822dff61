package integration

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A postgres is a PostgreSQL primary with two standbys, s1 synchronous and s2 not.
type postgres struct {
	t    *testing.T
	dir  string
	port int
	cred *syscall.Credential // the server refuses to run as root

	servers []server // in the order in which they were started
}

// A server is one PostgreSQL of them.
type server struct{ pid, port int }

// startPostgres starts all three, with lines of configuration for each of them.
func startPostgres(t *testing.T, config ...string) *postgres {
	t.Helper()
	config = append(config, "max_connections = 300")
	p := onePostgres(t, append(config, "wal_keep_size = 1GB", "synchronous_standby_names = 's1'")...)
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
	p.servers = append(p.servers, p.server(dir))
}

// server reads what the server in dir says of itself in postmaster.pid: process id, directory, time of
// its start and port, one a line.
func (p *postgres) server(dir string) server {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		p.t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 4 {
		p.t.Fatalf("postmaster.pid is %q", text)
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		p.t.Fatal(err)
	}
	port, err := strconv.Atoi(lines[3])
	if err != nil {
		p.t.Fatal(err)
	}
	return server{pid, port}
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
