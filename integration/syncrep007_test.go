package integration

import (
	"testing"
)

// setNames changes synchronous_standby_names while the cluster runs.
func setNames(n *node, names string) {
	n.t.Helper()
	n.exec("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
	n.exec("SELECT pg_reload_conf()")
}

// A standby007 is one of the standbys of PostgreSQL's recovery test 007_sync_rep.
type standby007 interface {
	launch()
	awaitReady()
	stop()
}

// A step007 is one of its cases: what is changed, and the priority and state of those who stream then.
type step007 struct {
	names string // "": as before
	bad   bool   // names are refused
	stop  string // numbers of standbys
	start string
	want  string
}

// run007 plays the steps on standbys 1 to 4. After each of them a commit gets what the rule asks for.
func run007(t *testing.T, primary *node, standbys []standby007, steps []step007) {
	t.Helper()
	for i, s := range steps {
		switch {
		case s.bad:
			if err := primary.tryExec("ALTER SYSTEM SET synchronous_standby_names = '" + s.names + "'"); sqlState(err) != "22023" {
				t.Fatalf("step %d: %s: %v, want 22023", i, s.names, err)
			}
		case s.names != "":
			setNames(primary, s.names)
		}
		for _, number := range s.stop {
			standbys[number-'1'].stop()
		}
		for _, number := range s.start { // together: one alone may have no majority
			standbys[number-'1'].launch()
		}
		for _, number := range s.start {
			standbys[number-'1'].awaitReady()
		}
		awaitStates(t, primary, s.want)
		primary.exec("INSERT INTO kv VALUES ('007', '1') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
		if t.Failed() {
			t.Fatalf("step %d: %+v", i, s)
		}
	}
}

// Every case of src/test/recovery/t/007_sync_rep.pl of PostgreSQL 15, with members as standbys. Two expect something
// else than PostgreSQL, see the package comment of syncrep; in the other nine the numbers and states are PostgreSQL's.
func TestSyncRep007(t *testing.T) {
	t.Parallel()
	c := unstarted(t)
	c.flags = []string{"--wal-retrieve-retry-interval=500ms"}
	c.names = []string{"primary", "standby1", "standby2", "standby3", "standby4"}
	t.Cleanup(c.tidy)
	c.node(1).start()
	for i := 2; i <= 4; i++ {
		c.node(i).start() // one by one: it is the order in which they join
	}
	c.awaitCounted(4)
	standbys := []standby007{c.node(2), c.node(3), c.node(4), c.node(5)}
	run007(t, c.node(1), standbys, []step007{
		{names: "standby1,standby2", want: "standby1 1 sync, standby2 2 potential, standby3 0 async"},
		{names: "*", want: "standby1 1 sync, standby2 1 potential, standby3 1 potential"},
		{names: "2(standby1,standby2,standby3)", stop: "123", start: "23", want: "standby2 2 sync, standby3 3 sync"},
		{start: "14", want: "standby1 1 sync, standby2 2 sync, standby3 3 potential, standby4 0 async"},
		// PostgreSQL has 4, 3 and 2 sync, and commits hang: the list has no six. Here that is refused.
		{names: "6(standby4,standby0,standby3,standby2)", bad: true,
			want: "standby1 1 sync, standby2 2 sync, standby3 3 potential, standby4 0 async"},
		{names: "2(standby1,*,standby2)", want: "standby1 1 sync, standby2 2 sync, standby3 2 potential, standby4 2 potential"},
		// PostgreSQL has 2 and 3 sync, who connected first. Here it is who joined the cluster first.
		{names: "2(*)", want: "standby1 1 sync, standby2 1 sync, standby3 1 potential, standby4 1 potential"},
		{stop: "3", want: "standby1 1 sync, standby2 1 sync, standby4 1 potential"},
		{names: "FIRST 2(standby1, standby2)", want: "standby1 1 sync, standby2 2 sync, standby4 0 async"},
		{names: "ANY 2(standby1, standby2)", want: "standby1 1 quorum, standby2 1 quorum, standby4 0 async"},
		{names: "ANY 2(*)", start: "3", want: "standby1 1 quorum, standby2 1 quorum, standby3 1 quorum, standby4 1 quorum"},
	})
}

// A receiver007 is a pg_receivewal that calls itself by a standby's name.
type receiver007 struct {
	*receiver
	process *process
}

func (r *receiver007) launch()     { r.process = r.receiver.start() }
func (r *receiver007) awaitReady() {}
func (r *receiver007) stop()       { r.receiver.stop(r.process) }

// The same with receivers, who are no members: where the rule lists them by name all is as in PostgreSQL. The
// wildcard does not match them.
func TestSyncRep007Receivers(t *testing.T) {
	t.Parallel()
	tool(t, "pg_receivewal")
	c := newCluster(t, 1)
	n := c.primary()
	var standbys []standby007
	for _, name := range []string{"standby1", "standby2", "standby3", "standby4"} {
		r := newReceiver(t, n, "--synchronous", "--status-interval=1")
		r.dsn = n.dsn("application_name=" + name)
		standbys = append(standbys, &receiver007{receiver: r})
	}
	run007(t, n, standbys, []step007{
		{names: "standby1,standby2", start: "123", want: "standby1 1 sync, standby2 2 potential, standby3 0 async"},
		{names: "standby1,*", want: "standby1 1 sync, standby2 0 async, standby3 0 async"},
		{names: "2(standby1,standby2,standby3)", want: "standby1 1 sync, standby2 2 sync, standby3 3 potential"},
		{stop: "123", start: "23", want: "standby2 2 sync, standby3 3 sync"},
		{start: "14", want: "standby1 1 sync, standby2 2 sync, standby3 3 potential, standby4 0 async"},
		{names: "FIRST 2(standby1, standby2)", stop: "3", want: "standby1 1 sync, standby2 2 sync, standby4 0 async"},
		{names: "ANY 2(standby1, standby2)", want: "standby1 1 quorum, standby2 1 quorum, standby4 0 async"},
		{names: "ANY 1(standby1, *)", start: "3", want: "standby1 1 quorum, standby2 0 async, standby3 0 async, standby4 0 async"},
	})
}
