package sql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/longship-db/longship/pgwire"
)

// A listener answers SQL connections from a table in memory.
type listener struct{ m *memory }

func (l listener) Connect(_ context.Context, c *pgwire.Conn) (pgwire.Session, error) {
	return NewSession(c, l.m, Identity{User: c.User, Database: c.Database, PID: c.PID, Params: c.Params})
}

func (l listener) ConnectReplication(context.Context, *pgwire.Conn) (pgwire.Replication, error) {
	return nil, errors.New("no replication here")
}

// serve runs a server on a loopback port until the test ends.
func serve(t *testing.T, m *memory) *net.TCPAddr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- pgwire.NewServer(pgwire.Config{Handler: listener{m}, ServerVersion: "15.18 (Longship test)"}).Serve(ctx, ln)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().(*net.TCPAddr)
}

func connectPgx(t *testing.T, m *memory, mode pgx.QueryExecMode) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://ada@%s/kv?sslmode=disable&application_name=app", serve(t, m)))
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = mode
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// pgx describes statements and asks for binary where it can: every type it decodes must be right.
func TestPgx(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			m := newMemory()
			conn := connectPgx(t, m, mode)
			ctx := t.Context()
			for i := range 3 {
				tag, err := conn.Exec(ctx, "insert into kv (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value", "k", strconv.Itoa(i))
				if err != nil || tag.String() != "INSERT 0 1" {
					t.Fatalf("upsert: %v, %v", tag, err)
				}
			}
			var key, lsn string
			var value *string
			if err := conn.QueryRow(ctx, "select key, value, lsn::text from kv where key = $1", "k").Scan(&key, &value, &lsn); err != nil {
				t.Fatal(err)
			}
			if key != "k" || *value != "2" || lsn != "0/1000300" {
				t.Errorf("got %s, %s, %s", key, *value, lsn)
			}
			checkPgxTypes(t, conn)
			err := conn.QueryRow(ctx, "insert into kv values ('k', 'x')").Scan()
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != pgwire.CodeUniqueViolation {
				t.Errorf("got %v, want 23505", err)
			}
		})
	}
}

func checkPgxTypes(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var (
		b     bool
		i4    int32
		i8    int64
		f     float64
		n     pgtype.Numeric
		at    time.Time
		span  time.Duration
		addr  netip.Addr
		enums []string
	)
	err := conn.QueryRow(t.Context(), `select true, 42, 9000000000, 1.5::float8, pg_wal_lsn_diff('1/0', '0/1'),
		timestamptz '2026-11-21 04:03:03.25+00', interval '00:00:01.5', '127.0.0.1'::inet, enumvals
		from pg_settings where name = 'wal_level'`).Scan(&b, &i4, &i8, &f, &n, &at, &span, &addr, &enums)
	if err != nil {
		t.Fatal(err)
	}
	want := time.Date(2026, 11, 21, 4, 3, 3, 250_000_000, time.UTC)
	if v, err := n.Int64Value(); err != nil || v.Int64 != 4294967295 {
		t.Errorf("numeric %+v, %v", n, err)
	}
	if !b || i4 != 42 || i8 != 9_000_000_000 || f != 1.5 || !at.Equal(want) || span != 1500*time.Millisecond ||
		addr.String() != "127.0.0.1" || strings.Join(enums, " ") != "minimal replica logical" {
		t.Errorf("got %v %v %v %v %v %v %v %v", b, i4, i8, f, at, span, addr, enums)
	}
}

// Parameters that pgx encodes in binary, a transaction, a batch, a cancelled query.
func TestPgxConversation(t *testing.T) {
	m := newMemory()
	conn := connectPgx(t, m, pgx.QueryExecModeCacheStatement)
	ctx := t.Context()
	var sum int64
	var at time.Time
	now := time.Now().Truncate(time.Microsecond)
	if err := conn.QueryRow(ctx, "select $1::int8 + $2::int4, $3::timestamptz", int64(1)<<40, int32(7), now).Scan(&sum, &at); err != nil || sum != 1<<40+7 || !at.Equal(now) {
		t.Errorf("got %d, %v, %v", sum, at, err)
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	if err != nil {
		t.Fatal(err)
	}
	batch := &pgx.Batch{}
	for i := range 10 {
		batch.Queue("insert into kv values ($1, $2)", fmt.Sprintf("k%d", i), nil)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	var count int
	if err := conn.QueryRow(ctx, "select count(*) from kv where value is null").Scan(&count); err != nil || count != 10 {
		t.Errorf("%d rows, %v", count, err)
	}
	if name := conn.PgConn().ParameterStatus("application_name"); name != "app" {
		t.Errorf("application_name %q", name)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := conn.Exec(short, "select pg_sleep(60)"); err == nil {
		t.Error("a cancelled query succeeded")
	}
}

// psql -c with the statements of the README, errors with their position.
func TestPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	addr := serve(t, newMemory())
	for _, tt := range []struct{ command, want string }{
		{"insert into kv values ('a', '1') returning lsn", "0/1000100\nINSERT 0 1\n"},
		{"begin; update kv set value = '2'; select value from kv; commit", "BEGIN\nUPDATE 1\n2\nCOMMIT\n"},
		{"select valu from kv", "ERROR:  column \"valu\" does not exist\nLINE 1: select valu from kv\n               ^\n"},
		{"show synchronous_commit", "on\n"},
	} {
		out, _ := exec.CommandContext(t.Context(), psql, "-X", "-At", "-h", addr.IP.String(), "-p", strconv.Itoa(addr.Port), "-U", "ada", "kv", "-c", tt.command).CombinedOutput()
		if string(out) != tt.want {
			t.Errorf("psql -c %q:\n%s\nwant:\n%s", tt.command, out, tt.want)
		}
	}
}

// pgbench in its three modes: parameters it leaves untyped, statements named and unnamed.
func TestPgbench(t *testing.T) {
	pgbench, err := exec.LookPath("pgbench")
	if err != nil {
		t.Skip("pgbench is not installed")
	}
	addr := serve(t, newMemory())
	script := filepath.Join(t.TempDir(), "script.sql")
	text := `\set k random(1, 1000)
insert into kv (key, value) values (:k, :k) on conflict (key) do update set value = excluded.value;
select value from kv where key = :k::text;
begin;
update kv set value = value || '.' where key = 'c' || :client_id;
end;
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"simple", "extended", "prepared"} {
		out, err := exec.CommandContext(t.Context(), pgbench, "-n", "-M", mode, "-c", "4", "-t", "50", "-f", script,
			"-h", addr.IP.String(), "-p", strconv.Itoa(addr.Port), "-U", "ada", "kv").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "transactions actually processed: 200/200") {
			t.Errorf("pgbench -M %s: %v\n%s", mode, err, out)
		}
	}
}
