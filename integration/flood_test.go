package integration

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// With all places taken, and more connections in start-up than there may be, who administers gets in, and the
// sessions that there are go on.
func TestFloodOfConnections(t *testing.T) {
	t.Parallel()
	const most, reserved = 10, 3
	c := newCluster(t, 1, "--max-connections=10", "--max-wal-senders=2")
	n := c.primary()
	var sessions []*pgx.Conn
	for range most - reserved {
		sessions = append(sessions, n.connect())
	}
	for i := range 100 { // as many again as there may be at all could be in start-up
		nc, err := net.Dial("tcp", n.address())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.Write([]byte{0, 0, 0x20}[:i%4%3]) // nothing, or a part of a length
	}
	if _, err := n.tryValue("SELECT 1"); sqlState(err) != "53300" {
		t.Errorf("one session more: %v, want 53300", err)
	}
	ctx, cancel := testContext(t)
	defer cancel()
	admin, err := pgx.Connect(ctx, n.dsn("dbname=longship_admin"))
	if err != nil {
		t.Fatalf("no place for who administers: %v", err)
	}
	defer admin.Close(ctx)
	for _, s := range append(sessions, admin) {
		if _, err := s.Exec(ctx, "INSERT INTO kv VALUES ('a', '1') ON CONFLICT DO NOTHING"); err != nil {
			t.Errorf("a session that was there: %v", err)
		}
	}
}

// Idle sessions are small, those that have read, written and prepared statements too.
func TestIdleSessionsAreSmall(t *testing.T) {
	t.Parallel()
	const sessions, limit = 1000, 20 << 10
	c := newObservedCluster(t, 1, "--max-connections="+strconv.Itoa(sessions+10), "--enable-pprof")
	n := c.primary()
	ctx, cancel := testContext(t)
	defer cancel()
	before := n.memoryInUse(ctx)
	conns := make([]*pgx.Conn, sessions)
	var wg sync.WaitGroup
	places := make(chan struct{}, 16)
	for i := range conns {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			var err error
			if conns[i], err = pgx.Connect(ctx, n.dsn()); err == nil {
				err = useSession(ctx, conns[i], fmt.Sprint("k", i))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if each := (n.memoryInUse(ctx) - before) / sessions; each >= limit {
		t.Errorf("an idle session takes %d bytes, want less than %d", each, limit)
	} else {
		t.Logf("an idle session takes %d bytes", each)
	}
	for _, conn := range conns {
		if conn != nil {
			conn.Close(ctx)
		}
	}
}

// useSession does what applications do: pgx prepares each statement.
func useSession(ctx context.Context, conn *pgx.Conn, key string) error {
	for _, statement := range []struct {
		text string
		args []any
	}{
		{"INSERT INTO kv (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value", []any{key, strings.Repeat("x", 100)}},
		{"BEGIN", nil},
		{"SELECT value FROM kv WHERE key = $1", []any{key}},
		{"UPDATE kv SET value = value || 'y' WHERE key = $1", []any{key}},
		{"COMMIT", nil},
		{"SELECT key, value FROM kv WHERE key > $1 ORDER BY key LIMIT 20", []any{key}},
		{"SELECT count(*) FROM kv WHERE key = ANY($1)", []any{[]string{key, "b"}}},
		{"DELETE FROM kv WHERE key = $1", []any{key + "/none"}},
	} {
		if _, err := conn.Exec(ctx, statement.text, statement.args...); err != nil {
			return fmt.Errorf("%s: %w", statement.text, err)
		}
	}
	return nil
}

// memoryInUse is what a node's heap and stacks take after a garbage collection, in bytes.
func (n *node) memoryInUse(ctx context.Context) (sum int) {
	n.t.Helper()
	_, profile := n.get(ctx, "/debug/pprof/heap?gc=1&debug=1")
	for _, kind := range []string{"HeapAlloc", "Stack"} {
		found := regexp.MustCompile(`(?m)^# ` + kind + ` = (\d+)`).FindStringSubmatch(profile)
		if found == nil {
			n.t.Fatalf("no %s in %.1000s", kind, profile)
		}
		size, err := strconv.Atoi(found[1])
		if err != nil {
			n.t.Fatal(err)
		}
		sum += size
	}
	return sum
}
