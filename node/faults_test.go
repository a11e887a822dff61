package node

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// admin is a connection to the node's views and functions.
func (n *testNode) admin() *pgx.Conn {
	n.t.Helper()
	c, err := pgx.Connect(n.t.Context(), fmt.Sprintf("postgres://test@%s/%s?sslmode=disable", n.cfg.Listen, AdminDatabase))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// The functions for faults say why they do not do what they are asked.
func TestFaultsRefused(t *testing.T) {
	n := newTestNode(t, "n1")
	n.start()
	refused := func(c *pgx.Conn, sql, code, hint string) {
		t.Helper()
		_, err := c.Exec(t.Context(), sql)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != code || e.Hint != hint {
			t.Errorf("%s: %v with hint %q, want %s with %q", sql, err, e.Hint, code, hint)
		}
	}
	const enable = "Start it with --allow-faults, or LONGSHIP_ALLOW_FAULTS=true in its environment; never where data matters."
	refused(n.admin(), "SELECT longship_inject_fault('stall')", "55000", enable)
	refused(n.admin(), "SELECT longship_heal_fault()", "55000", enable)
	if got := n.value("SELECT count(*)::text FROM longship_faults"); got != "0" {
		t.Errorf("%s faults are shown", got)
	}
	n.stop()
	n.cfg.AllowFaults = true
	n.start()
	refused(n.connect(), "SELECT longship_inject_fault('stall')", "42501", `Connect to database "longship_admin".`)
	refused(n.admin(), "SELECT longship_inject_fault('stall everything at once')", "22023", "")
	refused(n.admin(), "SELECT longship_inject_fault('cut n7')", "42704", "")
	if got := n.value("SELECT count(*)::text FROM longship_faults"); got != "0" {
		t.Errorf("%s faults are there", got)
	}
}

// A disk that stalls holds commits up, and nobody who wants to heal it.
func TestStalledDisk(t *testing.T) {
	for _, folder := range []string{"", "pg_wal"} {
		n := newTestNode(t, "n1")
		n.cfg.AllowFaults = true
		n.cfg.Settings = map[string]string{"disk_watchdog_timeout": "0"}
		n.start()
		admin, client := n.admin(), n.connect()
		var id int
		if err := admin.QueryRow(t.Context(), "SELECT longship_inject_fault('stall "+folder+"')").Scan(&id); err != nil || id != 1 {
			t.Fatalf("injected as %d, %v", id, err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := client.Exec(t.Context(), "INSERT INTO kv VALUES ('a', '1')")
			done <- err
		}()
		for hits := 0; hits == 0; {
			if err := admin.QueryRow(t.Context(), "SELECT hits FROM longship_faults WHERE id = 1").Scan(&hits); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-done:
			t.Fatalf("stall %s: the commit is done, %v", folder, err)
		default:
		}
		n.admin().Exec(t.Context(), "SELECT 1") // a new connection is answered
		if _, err := admin.Exec(t.Context(), "SELECT longship_heal_fault(1)"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("stall %s: after healing: %v", folder, err)
		}
		n.stop()
	}
}
