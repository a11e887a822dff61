package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const alertRules = "../docs/alerts.yml"

// promtool is Prometheus' own program: on the PATH, or where make tools puts it.
func promtool(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"promtool", "../bin/promtool"} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	t.Skip("promtool is not installed: make tools")
	return ""
}

// A story is what Prometheus would have scraped: chapters of so many samples, in each of which the
// series stand still. The values are real nodes' own, but for up, which is Prometheus', and for what a
// chapter replaces.
type story struct {
	t        *testing.T
	c        *cluster
	chapters []chapter
}

type chapter struct {
	name   string
	series map[string]float64
	firing []string // the alerts that fire at its end, and no others do
}

const (
	sampleEvery = 15 // seconds
	samples     = 32 // of a chapter: longer than any alert waits, and shorter than what one looks back
)

// tell scrapes every node as it is, for a chapter at the end of which these alerts fire.
func (s *story) tell(name string, firing ...string) *chapter {
	s.t.Helper()
	series := map[string]float64{}
	for _, n := range s.c.nodes {
		up := fmt.Sprintf(`up{job="longship",instance=%q}`, n.name)
		series[up] = 0
		if !n.running() || n.proc.stopped() {
			continue
		}
		series[up] = 1
		for key, v := range n.scrape() {
			name, labels, labelled := strings.Cut(key, "{")
			key = fmt.Sprintf(`%s{job="longship",instance=%q}`, name, n.name)
			if labelled {
				key = fmt.Sprintf(`%s{job="longship",instance=%q,%s`, name, n.name, labels)
			}
			series[key] = v
		}
	}
	slices.Sort(firing)
	s.chapters = append(s.chapters, chapter{name, series, firing})
	return &s.chapters[len(s.chapters)-1]
}

// replace gives every series of a name another value in the chapter.
func (c *chapter) replace(name string, value float64) {
	for key := range c.series {
		if strings.HasPrefix(key, name+"{") {
			c.series[key] = value
		}
	}
}

// values is a series through all chapters in promtool's notation: gone where a chapter does not have it.
func (s *story) values(key string) string {
	var all []string
	for _, c := range s.chapters {
		if v, there := c.series[key]; there {
			all = append(all, strconv.FormatFloat(v, 'f', -1, 64)+fmt.Sprintf("+0x%d", samples-1))
		} else {
			all = append(all, "stale", fmt.Sprintf("_x%d", samples-1))
		}
	}
	return strings.Join(all, " ")
}

// check has promtool play the story, and ask at the end of each chapter which alerts fire.
func (s *story) check(tool string) {
	s.t.Helper()
	type object = map[string]any
	keys := map[string]bool{}
	var asked []object
	for i, c := range s.chapters {
		for key := range c.series {
			keys[key] = true
		}
		expected := []object{}
		for _, alert := range c.firing {
			expected = append(expected, object{"labels": fmt.Sprintf(`{alertname=%q}`, alert), "value": 1})
		}
		asked = append(asked, object{
			"expr":        `max by (alertname) (ALERTS{alertstate="firing"})`,
			"eval_time":   fmt.Sprintf("%ds", ((i+1)*samples-1)*sampleEvery),
			"exp_samples": expected,
		})
	}
	input := []object{}
	for key := range keys {
		input = append(input, object{"series": key, "values": s.values(key)})
	}
	rules, err := filepath.Abs(alertRules)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := json.Marshal(object{ // which is YAML, too
		"rule_files":          []string{rules},
		"evaluation_interval": fmt.Sprintf("%ds", sampleEvery),
		"tests":               []object{{"interval": fmt.Sprintf("%ds", sampleEvery), "input_series": input, "promql_expr_test": asked}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.t.TempDir(), "story.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command(tool, "test", "rules", file).CombinedOutput(); err != nil {
		for i, c := range s.chapters {
			s.t.Logf("%ds: %s: %v", ((i+1)*samples-1)*sampleEvery, c.name, c.firing)
		}
		s.t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}

// Every alert of docs/alerts.yml fires on what real nodes say when that happens to them, and none fires
// while all is well.
func TestAlerts(t *testing.T) {
	tool := promtool(t)
	if out, err := exec.Command(tool, "check", "rules", alertRules).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := newObservedCluster(t, 3, "--max-slot-wal-keep-size=4MB", "--max-wal-size=2MB", "--min-wal-size=2MB")
	s := &story{t: t, c: c}
	c.node(1).exec("INSERT INTO kv VALUES ('a', '1')")
	c.awaitAllUp()
	s.tell("all is well")
	checkMetricsFormat(t, tool, c.node(1))
	s.tell("a disk is slow", "LongshipDiskSlow").replace("longship_disk_stalled_seconds", 0.7)
	s.tell("a disk is full", "LongshipDiskFull").replace("longship_disk_available_bytes", 1)
	s.tell("a log is damaged", "LongshipWALDamaged").replace("longship_wal_scrub_damaged", 1)
	s.tell("the rule is done without", "LongshipDegraded").replace("longship_rule_degraded", 1)
	s.tellOfSlot(c.node(1))

	c.node(1).kill9()
	p := c.primary()
	c.node(1).start()
	c.awaitAllUp()
	s.tell("the primary was replaced", "LongshipFailover")
	s.tellOfLoss(p, c.standbys())
	c.awaitAllUp()
	s.tell("all are back")
	s.tell("data was given up", "LongshipDataLost").replace("longship_lost_bytes_total", 1000)
	s.settle()
	s.check(tool)
	s.checkAllFire()
}

// tellOfSlot has a slot keep WAL until it may not.
func (s *story) tellOfSlot(p *node) {
	s.t.Helper()
	p.exec("SELECT * FROM pg_create_physical_replication_slot('hold', true)")
	advance := func() {
		p.exec("INSERT INTO kv VALUES ('b', '1') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
		p.exec("SELECT pg_switch_wal()")
	}
	for at := p.scrape(); 3*at[`pg_replication_slots_safe_wal_size_bytes{slot_name="hold"}`] >=
		at[`pg_replication_slots_pg_wal_lsn_diff{slot_name="hold"}`]; at = p.scrape() {
		advance()
	}
	s.c.awaitAllUp()
	s.tell("a slot keeps the disk", "LongshipSlotInDanger", "LongshipSlotPinsWAL").replace("longship_disk_size_bytes", 100)
	for range 4 {
		advance()
	}
	p.exec("CHECKPOINT")
	p.await("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'hold'", "lost")
	s.c.awaitAllUp()
	s.tell("a slot is lost", "LongshipSlotLost")
	p.exec("SELECT pg_drop_replication_slot('hold')")
	for _, n := range s.c.nodes {
		n.await("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'hold'", "0")
	}
}

// tellOfLoss loses one node after the other.
func (s *story) tellOfLoss(p *node, standbys []*node) {
	s.t.Helper()
	first, second := standbys[0], standbys[1]
	first.freeze()
	p.exec("INSERT INTO kv VALUES ('c', '1')")
	p.awaitThat("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication WHERE application_name = '"+first.name+"'",
		func(v string) bool { return v != "" && v != "0" }, "a standby to be behind")
	up := fmt.Sprintf("longship_member_up{member=%q}", first.name)
	second.awaitMetric(up, 0)
	s.tell("a standby stands still", "LongshipMemberDown", "LongshipNodeDown", "LongshipStandbyStuck", "LongshipWouldNotSurvive")
	s.tell("and is far behind", "LongshipMemberDown", "LongshipNodeDown", "LongshipStandbyStuck", "LongshipStandbyLags", "LongshipWouldNotSurvive").
		replace("pg_stat_replication_pg_wal_lsn_diff", 1<<30)
	first.thaw()
	first.kill9()
	p.awaitMetric(up, 0)
	second.awaitMetric(up, 0)
	s.tell("a member is down", "LongshipMemberDown", "LongshipNodeDown", "LongshipWouldNotSurvive")

	second.kill9()
	session := p.connect()
	go session.Exec(s.t.Context(), "INSERT INTO kv VALUES ('d', '1')")
	p.awaitMetric("longship_raft_has_leader", 0)
	p.awaitMetric("longship_rule_met", 0)
	p.awaitMetric("longship_commits_waiting", 1)
	s.tell("a primary is alone", "LongshipCommitsWait", "LongshipMemberDown", "LongshipNodeDown", "LongshipNoRaftLeader",
		"LongshipRuleNotMet", "LongshipWouldNotSurvive")

	p.kill9()
	first.launch()
	first.awaitHTTP("/readyz", 200)
	first.awaitMetric("longship_raft_has_leader", 0)
	s.tell("a standby is alone, and has heard of nobody", "LongshipNodeDown", "LongshipNoPrimary", "LongshipNoRaftLeader")
	second.launch()
	p.launch()
}

// awaitAllUp waits until every node says that every node is up, and could be lost, and nobody is behind.
func (c *cluster) awaitAllUp() {
	c.t.Helper()
	c.primary()
	c.awaitStreaming()
	for _, n := range c.nodes {
		for _, other := range c.nodes {
			n.awaitMetric(fmt.Sprintf("longship_member_up{member=%q}", other.name), 1)
			n.awaitMetric(fmt.Sprintf("longship_what_if_survives{member=%q}", other.name), 1)
		}
	}
	p := c.primary()
	for _, n := range c.standbys() {
		p.awaitMetric(fmt.Sprintf(`pg_stat_replication_pg_wal_lsn_diff{application_name=%q,kind="member"}`, n.name), 0)
	}
}

// settle makes the disks of all chapters the ones of a machine with room, but where a chapter is about
// that: how full the disk of this one is does not matter.
func (s *story) settle() {
	for i := range s.chapters {
		c := &s.chapters[i]
		if !slices.Contains(c.firing, "LongshipDiskFull") {
			c.replace("longship_disk_available_bytes", 1e12)
		}
		if !slices.Contains(c.firing, "LongshipSlotPinsWAL") {
			c.replace("longship_disk_size_bytes", 2e12)
		}
		if !slices.Contains(c.firing, "LongshipDiskSlow") {
			c.replace("longship_disk_stalled_seconds", 0)
		}
	}
}

// checkAllFire makes sure that no rule is left out.
func (s *story) checkAllFire() {
	s.t.Helper()
	text, err := os.ReadFile(alertRules)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, alert, ok := strings.Cut(strings.TrimSpace(line), "- alert: ")
		fires := func(c chapter) bool { return slices.Contains(c.firing, alert) }
		if ok && !slices.ContainsFunc(s.chapters, fires) {
			s.t.Errorf("%s never fires", alert)
		}
	}
}

// awaitMetric waits until a node's metric has a value.
func (n *node) awaitMetric(series string, want float64) {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for got := n.scrape()[series]; got != want; got = n.scrape()[series] {
		if ctx.Err() != nil {
			n.t.Fatalf("%s: %s is %v, want %v", n.name, series, got, want)
		}
		moment(ctx)
	}
}

// checkMetricsFormat has Prometheus' linter read what a node serves.
func checkMetricsFormat(t *testing.T, tool string, n *node) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	_, text := n.get(ctx, "/metrics")
	cmd := exec.Command(tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
