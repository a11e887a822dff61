package integration

import (
	"strconv"
	"strings"
	"testing"
)

// usedUp is what is said of commits once max_degraded_wal_size is.
const usedUp = "writes wait: the rule is not met, and the 1 MB that may be written without it are used up;"

// synchronous_mode = bounded, from the first commit that nobody acknowledges to the end of the debt: it is not larger
// than max_degraded_wal_size, and nobody else can take over. A standby that is back is all it takes.
func TestBounded(t *testing.T) {
	t.Parallel()
	c := newObservedCluster(t, 3, "--synchronous-standby-names=ANY 2 (*)", "--synchronous-mode=bounded", "--degrade-after=200",
		"--max-degraded-wal-size=1MB", "--heartbeat-interval=0")
	p, lost, other := c.primary(), c.standbys()[0], c.standbys()[1]
	p.await("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'", "2")
	p.await("SELECT debt_since FROM longship_cluster", "") // of when it was alone
	p.exec("INSERT INTO kv VALUES ('before', '1')")
	lost.kill9()

	conn := p.connect()
	checkLevel(t, conn, "INSERT INTO kv VALUES ('during', '1')", "local")
	for _, n := range c.others(lost) {
		n.awaitThat("SELECT debt_since FROM longship_cluster", func(v string) bool { return v != "" }, "a time")
	}
	loss, goOn := `SELECT "then" FROM longship_what_if`+" WHERE lose = '"+other.name+"'", "writes go on without the rule, up to 1 MB;"
	p.awaitThat(loss+" AND writes", func(v string) bool { return strings.Contains(v, goOn) }, goOn)
	got := psql(t, p, "SELECT longship_switchover('"+other.name+"')")
	wantLines(t, got, "55000", p.name+" alone has what it acknowledged", "HINT")

	large := strings.Repeat("x", 200<<10)
	for i := range 4 {
		mustExec(t, conn, "INSERT INTO kv VALUES ('large "+strconv.Itoa(i)+"', '"+large+"')")
	}
	over := startCommit(t, p, "INSERT INTO kv VALUES ('over', '"+strings.Repeat("x", 512<<10)+"')")
	over.awaitFlushed()
	over.checkWaiting()
	if debt, err := strconv.Atoi(p.value("SELECT debt_bytes FROM longship_cluster")); err != nil || debt < 800<<10 || debt > 1<<20 {
		t.Errorf("the debt is %d bytes (%v), want 800 kB or more, and no more than 1 MB", debt, err)
	}
	p.await("SELECT debt_commits FROM longship_cluster", "5")
	for _, n := range []*node{p, other} { // by the settings of the primary, whoever is asked
		n.awaitThat(loss+" AND NOT writes", func(v string) bool { return strings.Contains(v, usedUp) }, usedUp)
	}
	p.awaitThat("SELECT waiting_age FROM longship_cluster", older, "a commit waits") // for long enough to be told of
	wantLines(t, mustRun(t, longship, "status", "--host", "127.0.0.1", "--port", strconv.Itoa(p.port)),
		"! WRITES WAIT", "! DURABILITY DEBT since ", "5 commits, ", "held by "+p.name+" alone")

	p.await("SELECT rule_met FROM longship_cluster", "f")
	p.awaitMetric("longship_debt_commits", 5)
	p.awaitMetric(`longship_what_if_survives{member="`+other.name+`"}`, 0)
	if at := p.scrape(); at["longship_rule_degraded"] != 1 || at["longship_debt_bytes"] < 800<<10 || at["longship_debt_seconds"] == 0 {
		t.Errorf("metrics of the debt: degraded %v, %v bytes, for %v s",
			at["longship_rule_degraded"], at["longship_debt_bytes"], at["longship_debt_seconds"])
	}

	lost.start()
	mustEnd(t, over)
	p.await("SELECT debt_since FROM longship_cluster", "")
	p.awaitMetric("longship_rule_degraded", 0)
	p.awaitMetric("longship_debt_bytes", 0)
	checkLevel(t, conn, "INSERT INTO kv VALUES ('after', '1')", "on")
	c.switchover(other)
	c.checkSame()
}
