package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// target_session_attrs finds the right node for libpq and for pgx, whoever is primary, and in_hot_standby
// and default_transaction_read_only are what the drivers go by.
func TestTargetSessionAttrs(t *testing.T) {
	psql := tool(t, "psql")
	c := newCluster(t, 3)
	role := func(attrs string) map[string]string {
		got := map[string]string{}
		for first := range c.nodes {
			cfg, err := c.connConfig(first, attrs)
			if err != nil {
				t.Fatal(err)
			}
			var hosts, ports []string
			for i := range c.nodes {
				hosts, ports = append(hosts, "127.0.0.1"), append(ports, fmt.Sprint(c.nodes[(first+i)%3].port))
			}
			dsn := fmt.Sprintf("host=%s port=%s connect_timeout=2 target_session_attrs=%s", strings.Join(hosts, ","), strings.Join(ports, ","), attrs)
			out, err := runTool(t, "", psql, "-X", "-d", dsn, "-Atc", "SELECT role FROM longship_cluster")
			if err != nil {
				out = "none"
			}
			got["psql: "+strings.TrimSpace(out)] = out
			got["pgx: "+roleByPgx(t, cfg)] = ""
		}
		return got
	}
	check := func(when, attrs, want string) {
		t.Helper()
		got := role(attrs)
		if _, ok := got["psql: "+want]; !ok || len(got) != 2 {
			t.Errorf("%s, %s finds %v, want %s", when, attrs, got, want)
		}
		if _, ok := got["pgx: "+want]; !ok {
			t.Errorf("%s, %s finds %v, want %s", when, attrs, got, want)
		}
	}
	all := func(when string) {
		t.Helper()
		for attrs, want := range map[string]string{
			"read-write": "primary", "primary": "primary", "read-only": "standby", "standby": "standby", "prefer-standby": "standby",
		} {
			check(when, attrs, want)
		}
	}
	all("at first")
	old := c.primary()
	old.kill9()
	c.primary()
	all("after a failover, with one node dead")
	old.start()
	c.awaitStreaming()
	all("when it is back")
	for _, s := range c.standbys() {
		s.kill9()
	}
	check("without standbys", "prefer-standby", "primary")
	check("without standbys", "read-write", "primary")
	check("without standbys", "standby", "none")
}

// roleByPgx is the role of the node that pgx finds.
func roleByPgx(t *testing.T, cfg *pgx.ConnConfig) string {
	ctx, cancel := testContext(t)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "none"
	}
	defer conn.Close(ctx)
	role, err := queryValue(ctx, conn, "SELECT role FROM longship_cluster")
	if err != nil {
		t.Error(err)
	}
	return role
}

// A session on a standby outlives its promotion, hears of it without asking, and can write then. One on
// the primary is told to find the new one.
func TestPromotionIsReported(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	old, next := c.primary(), c.standbys()[0]
	c.awaitStreaming()
	here, there := next.connect(), old.connect()
	ctx, cancel := testContext(t)
	defer cancel()
	if got := here.PgConn().ParameterStatus("in_hot_standby"); got != "on" {
		t.Errorf("in_hot_standby is %q on a standby", got)
	}
	c.switchover(next)
	next.await("SELECT role FROM longship_cluster", "primary")
	if _, err := here.Exec(ctx, "INSERT INTO kv VALUES ('promoted', 'here')"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"in_hot_standby": "off", "default_transaction_read_only": "off"} {
		if got := here.PgConn().ParameterStatus(name); got != want {
			t.Errorf("%s is %q after the promotion, want %q", name, got, want)
		}
	}
	_, err := there.Exec(ctx, "INSERT INTO kv VALUES ('deposed', 'there')")
	if code := sqlState(err); code != "57P01" {
		t.Errorf("the session on the old primary got %v, want 57P01", err)
	}
}
