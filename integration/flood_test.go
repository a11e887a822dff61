package integration

import (
	"net"
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
