package pgwire

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func connString(addr net.Addr) string {
	tcp := addr.(*net.TCPAddr)
	return fmt.Sprintf("host=%s port=%d user=u dbname=d", tcp.IP, tcp.Port)
}

// The real psql: its default start-up (SSLRequest first), several statements, an error, a setting.
func TestPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	addr := serve(t, newTestServer(Config{}))
	run := func(args ...string) string {
		out, _ := exec.CommandContext(t.Context(), psql, append([]string{"-X", "-At", connString(addr)}, args...)...).CombinedOutput()
		return string(out)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-c", "rows 2"}, "0\n1\n"},
		{[]string{"-c", "begin", "-c", "rows 1", "-c", "commit"}, "BEGIN\n0\nCOMMIT\n"},
		{[]string{"-c", "fail 22012"}, "ERROR:  failed as asked\nDETAIL:  d\nHINT:  h\n"},
		{[]string{"-c", "nonsense"}, "ERROR:  syntax error at or near \"nonsense\"\nLINE 1: nonsense\n        ^\n"},
		{[]string{"-c", `\echo :SERVER_VERSION_NAME :SERVER_VERSION_NUM :USER :ENCODING`}, "15.18 (Longship test) 150018 u UTF8\n"},
	} {
		if got := run(tt.args...); got != tt.want {
			t.Errorf("psql %q:\n%s\nwant:\n%s", tt.args, got, tt.want)
		}
	}
}

// The real pgbench, in its three modes, with more than one client.
func TestPgbench(t *testing.T) {
	pgbench, err := exec.LookPath("pgbench")
	if err != nil {
		t.Skip("pgbench is not installed")
	}
	tcp := serve(t, newTestServer(Config{})).(*net.TCPAddr)
	script := filepath.Join(t.TempDir(), "script.sql")
	if err := os.WriteFile(script, []byte("begin;\nrows 3;\nwrite;\ncommit;\nrows 100;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"simple", "extended", "prepared"} {
		out, err := exec.CommandContext(t.Context(), pgbench, "-n", "-M", mode, "-c", "4", "-t", "200", "-f", script,
			"-h", tcp.IP.String(), "-p", strconv.Itoa(tcp.Port), "-U", "u", "d").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "transactions actually processed: 800/800") {
			t.Errorf("pgbench -M %s: %v\n%s", mode, err, out)
		}
	}
}

// Rows kept behind a row limit arrive whole, however many.
func TestFetchManyRows(t *testing.T) {
	c := newClient(t, newTestServer(Config{}))
	c.connect()
	c.send(&pgproto3.Parse{Query: "rows 50000"}, &pgproto3.Bind{}, &pgproto3.Execute{MaxRows: 10},
		&pgproto3.Execute{MaxRows: 40000}, &pgproto3.Execute{}, &pgproto3.Sync{})
	next := 0
	var rest []string
	for {
		line := c.receive()
		if line == fmt.Sprintf("D %q", strconv.Itoa(next)) {
			next++
		} else {
			rest = append(rest, fmt.Sprintf("%d: %s", next, line))
		}
		if line == "Z I" || line == "EOF" {
			break
		}
	}
	want := []string{"0: ParseComplete", "0: BindComplete", "10: PortalSuspended", "40010: PortalSuspended", "50000: C SELECT 9990", "50000: Z I"}
	if !slices.Equal(rest, want) {
		t.Errorf("beside rows in order: %q, want %q", rest, want)
	}
}

// pgx: prepared statements, its pipeline (a batch), errors, and a cancel request when a context ends.
func TestPgx(t *testing.T) {
	s := newTestServer(Config{})
	config, err := pgx.ParseConfig(connString(serve(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())

	var got string
	if err := conn.QueryRow(t.Context(), "echo", "hello").Scan(&got); err != nil || got != "hello" {
		t.Errorf("echo: %q, %v", got, err)
	}
	batch := &pgx.Batch{}
	batch.Queue("write")
	batch.Queue("echo", "x")
	batch.Queue("fail 40001")
	batch.Queue("write")
	err = conn.SendBatch(t.Context(), batch).Close()
	if e, ok := err.(*pgconn.PgError); !ok || e.Code != "40001" || e.Hint != "h" {
		t.Errorf("batch: %v", err)
	}
	if tag, err := conn.Exec(t.Context(), "write"); err != nil || tag.RowsAffected() != 1 {
		t.Errorf("write: %v, %v", tag, err)
	}

	failed := make(chan error)
	go func() {
		_, err := conn.Exec(context.Background(), "wait")
		failed <- err
	}()
	waitBusy(s)
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "57014") {
		t.Errorf("cancelled statement: %v", err)
	}
}

// waitBusy waits until some connection of s runs a statement.
func waitBusy(s *Server) *Conn {
	for {
		for _, c := range s.Conns() {
			if _, ok := c.busy(); ok {
				return c
			}
		}
		runtime.Gosched()
	}
}

// BenchmarkPrepared is pgbench -M prepared: Bind, Describe, Execute, Sync for each statement, from
// several clients over loopback.
func BenchmarkPrepared(b *testing.B) {
	config, err := pgconn.ParseConfig(connString(serve(b, newTestServer(Config{}))))
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := pgconn.ConnectConfig(context.Background(), config)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close(context.Background())
		if _, err := conn.Prepare(context.Background(), "p", "echo", nil); err != nil {
			b.Error(err)
			return
		}
		args := [][]byte{[]byte("a value of one hundred bytes or so, which is what the figures in our design are made with, more or less")}
		for pb.Next() {
			if res := conn.ExecPrepared(context.Background(), "p", args, nil, nil).Read(); res.Err != nil {
				b.Error(res.Err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "stmt/s")
}

// BenchmarkMessageLoop is the same without sockets and a client's work: what a statement costs the
// server in user code.
func BenchmarkMessageLoop(b *testing.B) {
	var round []byte
	for _, line := range []string{"B |p|a value", "D P", "E", "S"} {
		round = append(round, encodeLine(b, line)...)
	}
	in := &repeated{prefix: encodeLine(b, "P p|echo"), round: round, n: b.N}
	near, far := net.Pipe()
	defer near.Close()
	c := newConn(newTestServer(Config{}), b.Context(), &discardConn{Conn: far, in: in})
	c.in.src = in
	b.ReportAllocs()
	b.ResetTimer()
	c.serveSQL(&quietSession{fakeSession{conn: c, tx: 'I'}})
}

// repeated yields prefix, then n times round.
type repeated struct {
	prefix, round []byte
	n             int
}

func (r *repeated) Read(b []byte) (int, error) {
	if len(r.prefix) > 0 {
		n := copy(b, r.prefix)
		r.prefix = r.prefix[n:]
		return n, nil
	}
	if r.n == 0 {
		return 0, net.ErrClosed
	}
	r.n--
	return copy(b, r.round), nil
}

type discardConn struct {
	net.Conn
	in *repeated
}

func (d *discardConn) Read(b []byte) (int, error)  { return d.in.Read(b) }
func (d *discardConn) Write(b []byte) (int, error) { return len(b), nil }

// quietSession answers without taking notes.
type quietSession struct{ fakeSession }

func (s *quietSession) Execute(_ context.Context, _ Statement, args Args, out RowSink, _ bool) (string, error) {
	return "SELECT 1", out.Row(args.Values)
}

func (s *quietSession) Finish(context.Context) error { return nil }
