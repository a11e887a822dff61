package integration

import (
	"strconv"
	"testing"

	"github.com/longship-db/longship/wal"
)

// lateAfter is the age, in seconds, at which a standby counts as late.
const lateAfter = 2

func older(s string) bool { f, err := strconv.ParseFloat(s, 64); return err == nil && f > lateAfter }

func younger(s string) bool { f, err := strconv.ParseFloat(s, 64); return err == nil && f < lateAfter }

// A standby that stands still is seen to be late although nobody writes anything; and a standby whose
// primary stands still says so itself.
func TestLagOfIdleCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--heartbeat-interval=200", "--failover-timeout=60000")
	primary := c.primary()
	frozen := c.standbys()[0]
	age := func(n *node, column string) string {
		return "SELECT " + column + " FROM longship_members WHERE name = '" + n.name + "'"
	}
	for _, n := range c.nodes {
		primary.awaitThat(age(n, "replay_age"), younger, "less than 2")
		n.awaitThat(age(n, "replay_age"), younger, "less than 2")
	}
	before := primary.flushed()
	primary.awaitThat("SELECT pg_current_wal_flush_lsn()", func(s string) bool {
		lsn, err := wal.ParseLSN(s)
		return err == nil && lsn > before
	}, "beyond "+before.String())
	if got := frozen.value("SELECT pg_last_xact_replay_timestamp()"); got != "" {
		t.Errorf("pg_last_xact_replay_timestamp() is %s, though there was no transaction", got)
	}

	frozen.freeze()
	for _, column := range []string{"write_age", "flush_age", "replay_age"} {
		primary.awaitThat(age(frozen, column), older, "more than 2")
	}
	frozen.thaw()
	primary.awaitThat(age(frozen, "replay_age"), younger, "less than 2")

	// The heartbeats stop with the primary: its standbys know how old their data is.
	primary.freeze()
	frozen.awaitThat(age(frozen, "replay_age"), older, "more than 2")
	primary.thaw()
	frozen.awaitThat(age(frozen, "replay_age"), younger, "less than 2")
}
