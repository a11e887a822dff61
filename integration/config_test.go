package integration

import (
	"strings"
	"sync"
	"syscall"
	"testing"
)

// checkShows asks every node that runs for a setting.
func (c *cluster) checkShows(name, want string) {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.running() {
			if got := strings.TrimSpace(psql(c.t, n, "SHOW "+name, "-A", "-t")); got != want {
				c.t.Errorf("%s: %s is %q, want %q", n.name, name, got, want)
			}
		}
	}
}

func (c *cluster) awaitShows(name, want string) {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.running() {
			n.await("SHOW "+name, want)
		}
	}
}

// A setting that is written on a standby is everybody's from the reload on, and not before; it outlives the
// primary, and a stop of all nodes.
func TestClusterSettings(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	standby := c.standbys()[0]
	session := c.primary().connect() // there before the change
	got := psql(t, standby, "ALTER SYSTEM SET statement_timeout = '70s';\nALTER SYSTEM SET synchronous_commit TO remote_write;\nALTER SYSTEM SET max_connections = 77;\n", "-q")
	if got != "" {
		t.Errorf("psql prints %q", got)
	}
	c.checkShows("statement_timeout", "0")
	c.checkShows("synchronous_commit", "on")
	if got := psql(t, standby, "SELECT pg_reload_conf()", "-A", "-t"); strings.TrimSpace(got) != "t" {
		t.Errorf("pg_reload_conf() is %q", got)
	}
	c.awaitShows("statement_timeout", "70s")
	c.checkShows("synchronous_commit", "remote_write")
	ctx, cancel := testContext(t)
	defer cancel()
	if got, err := queryValue(ctx, session, "SHOW synchronous_commit"); got != "remote_write" {
		t.Errorf("a session that was there has %q, %v", got, err)
	}

	standby.exec("ALTER SYSTEM SET statement_timeout = '71s'")
	c.checkShows("statement_timeout", "70s")
	standby.proc.signal(syscall.SIGHUP) // is pg_reload_conf()
	c.awaitShows("statement_timeout", "71s")
	standby.exec("ALTER SYSTEM SET statement_timeout = '70s'")
	standby.value("SELECT pg_reload_conf()")
	c.awaitShows("statement_timeout", "70s")

	c.checkShows("max_connections", "100")
	for _, n := range c.nodes {
		if got := n.value("SELECT name FROM pg_settings WHERE pending_restart"); got != "max_connections" {
			t.Errorf("%s: %q waits for a restart", n.name, got)
		}
	}
	old := c.primary()
	old.kill9()
	c.primary() // another one
	c.checkShows("statement_timeout", "70s")
	old.start()
	for _, n := range c.nodes {
		n.stop()
	}
	for _, n := range c.nodes {
		n.launch()
	}
	for _, n := range c.nodes {
		n.awaitReady()
	}
	c.awaitShows("statement_timeout", "70s")
	c.checkShows("synchronous_commit", "remote_write")
	c.checkShows("max_connections", "77")
}

// Without a majority nothing changes, in bounded time, and the answer says so.
func TestSettingsWithoutMajority(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	standbys := c.standbys()
	left := standbys[0]
	c.primary().kill9()
	standbys[1].kill9()
	ctx, cancel := testContext(t)
	defer cancel()
	refused := func(what, why string, ask func() error) {
		for { // at first it may have asked a leader that was about to end: then it does not know
			err := ask()
			if sqlState(err) == "57P03" && strings.Contains(err.Error(), why) {
				return
			}
			if sqlState(err) != "08007" || ctx.Err() != nil {
				t.Errorf("%s without a majority: %v", what, err)
				return
			}
		}
	}
	var asked sync.WaitGroup // each has patience with Raft for a while
	asked.Go(func() {
		refused("ALTER SYSTEM", "no majority", func() error { return left.tryExec("ALTER SYSTEM SET statement_timeout = '70s'") })
	})
	asked.Go(func() {
		refused("a reload", "", func() error { _, err := left.tryValue("SELECT pg_reload_conf()"); return err })
	})
	asked.Wait()
	c.checkShows("statement_timeout", "0")
}

// The only synchronous standby dies: commits hang. The operator sets the names to ”, and they are
// released; their sessions are as they were.
func TestReleaseByEmptyNames(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	n1, n2 := c.node(1), c.node(2)
	n1.exec("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (n2)'")
	n1.value("SELECT pg_reload_conf()")
	awaitStates(t, n1, "n2 1 sync, n3 0 async")
	n2.kill9()
	commit := startCommit(t, n1, "INSERT INTO kv VALUES ('w', '1')", on)
	commit.awaitFlushed()
	commit.checkWaiting()
	got := psql(t, c.node(3), "ALTER SYSTEM SET synchronous_standby_names = '';\nSELECT pg_reload_conf();\n", "-A", "-t")
	if got != "ALTER SYSTEM\nt\n" {
		t.Errorf("psql prints %q", got)
	}
	ctx, cancel := testContext(t)
	defer cancel()
	if err := commit.result(ctx); err != nil {
		t.Errorf("the commit ends with %v", err)
	}
	if got, err := queryValue(ctx, commit.conn, "SELECT value FROM kv WHERE key = 'w'"); got != "1" || err != nil {
		t.Errorf("its session reads %q, %v", got, err)
	}
	n1.await("SELECT rule FROM longship_cluster", "")
	// Back to what nobody has set, with the standby that returns.
	n2.start()
	n1.exec("ALTER SYSTEM RESET ALL")
	n1.value("SELECT pg_reload_conf()")
	n1.await("SELECT rule FROM longship_cluster", "ANY MAJORITY (*)")
}
