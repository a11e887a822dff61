package integration

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// serveHTTP gives the next nodes of a cluster, n1 to nN, an HTTP port each.
func (c *cluster) serveHTTP(n int) {
	c.t.Helper()
	for i := range n {
		node := c.node(i + 1)
		node.http = fmt.Sprintf("127.0.0.1:%d", freePort(c.t))
		node.flags = append(node.flags, "--http-listen="+node.http)
	}
}

// newObservedCluster is newCluster with an HTTP port on each node.
func newObservedCluster(t *testing.T, n int, flags ...string) *cluster {
	t.Helper()
	c := unstarted(t)
	c.flags = append([]string{"--wal-retrieve-retry-interval=500ms"}, flags...)
	t.Cleanup(c.tidy)
	c.serveHTTP(n)
	for _, node := range c.nodes {
		node.start()
	}
	c.awaitStreaming()
	c.awaitCounted(n)
	return c
}

// get is the status and the text of a path; 0 if nobody answers.
func (n *node) get(ctx context.Context, path string) (int, string) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+n.http+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// awaitHTTP waits until a path answers with status.
func (n *node) awaitHTTP(path string, status int) {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for {
		got, text := n.get(ctx, path)
		if got == status {
			return
		}
		if ctx.Err() != nil {
			n.t.Fatalf("%s: %s answers %d %q, want %d", n.name, path, got, text, status)
		}
		moment(ctx)
	}
}

var sample = regexp.MustCompile(`^([a-z_]+)(\{.*\})? (\S+)$`)

// scrape is what a node's /metrics has of Longship's own: values by series, name and labels as written.
func (n *node) scrape() map[string]float64 {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	status, text := n.get(ctx, "/metrics")
	if status != 200 {
		n.t.Fatalf("%s: /metrics: %d %s", n.name, status, text)
	}
	series := map[string]float64{}
	for line := range strings.Lines(text) {
		m := sample.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			n.t.Fatal(err)
		}
		series[m[1]+m[2]] = v
	}
	return series
}

// hungCopy takes a base copy that comes slowly and is not read: while it lasts, there is one.
func (n *node) hungCopy() {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	c, err := pgconn.Connect(ctx, n.dsn("replication=true", "application_name=copier"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Conn().Close() })
	c.Frontend().Send(&pgproto3.Query{String: "BASE_BACKUP (PROGRESS true, MAX_RATE 32, WAL true, CHECKPOINT 'fast')"})
	if err := c.Frontend().Flush(); err != nil {
		n.t.Fatal(err)
	}
	n.await("SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 0", "1")
}

// docs/metrics.md has what running nodes serve, all of it and nothing else; and the numbers are those of
// the views.
func TestMetrics(t *testing.T) {
	c := newObservedCluster(t, 3, "--max-slot-wal-keep-size=1GB")
	primary := c.primary()
	primary.exec("INSERT INTO kv VALUES ('a', '1')")
	primary.exec("SELECT * FROM pg_create_physical_replication_slot('hold', true)")
	primary.hungCopy()
	c.awaitCaughtUp()
	primary.checkCommitsTimed()

	seen := map[string]bool{}
	for _, n := range c.nodes {
		for series := range n.scrape() {
			name, _, _ := strings.Cut(series, "{")
			seen[name] = true
		}
	}
	for name := range seen {
		if histogram, ok := strings.CutSuffix(name, "_bucket"); ok {
			seen[histogram] = true
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				delete(seen, histogram+part)
			}
		}
	}
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		named = append(named, m[1])
	}
	slices.Sort(named)
	if served := slices.Sorted(maps.Keys(seen)); !slices.Equal(served, named) {
		for _, name := range named {
			if !seen[name] {
				t.Errorf("no node serves %s, which docs/metrics.md has", name)
			}
		}
		for _, name := range served {
			if !slices.Contains(named, name) {
				t.Errorf("docs/metrics.md does not have %s", name)
			}
		}
	}
	c.checkNumbers(primary)
}

// checkCommitsTimed commits until one was timed, which one in sixteen is: a number of them that fails once in 10^13.
func (n *node) checkCommitsTimed() {
	n.t.Helper()
	for range 500 {
		n.exec("INSERT INTO kv VALUES ('timed', '') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value")
	}
	if at := n.scrape(); at["longship_commit_seconds_count"] == 0 || at["longship_commit_seconds_count"] > 500 || at["longship_commit_seconds_sum"] <= 0 {
		n.t.Errorf("%v of 501 commits were timed, of %v s", at["longship_commit_seconds_count"], at["longship_commit_seconds_sum"])
	}
}

// checkNumbers compares metrics with the views of a cluster that is at rest.
func (c *cluster) checkNumbers(primary *node) {
	c.t.Helper()
	standby := c.standbys()[0]
	of := fmt.Sprintf(`{application_name=%q,kind="member"}`, standby.name)
	stream := " FROM pg_stat_replication WHERE application_name = '" + standby.name + "'"
	for _, check := range []struct {
		node        *node
		series, sql string
	}{
		{primary, "longship_wal_flush_lsn_bytes", "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')"},
		{primary, "longship_horizon_lsn_bytes", "SELECT pg_wal_lsn_diff(horizon, '0/0') FROM longship_cluster"},
		{primary, "longship_cluster_epoch", "SELECT epoch FROM longship_cluster"},
		{primary, "pg_stat_replication_flush_lsn_bytes" + of, "SELECT pg_wal_lsn_diff(flush_lsn, '0/0')" + stream},
		{primary, "pg_stat_replication_replay_lsn_bytes" + of, "SELECT pg_wal_lsn_diff(replay_lsn, '0/0')" + stream},
		{primary, "pg_stat_replication_sync_priority" + of, "SELECT sync_priority" + stream},
		{primary, `pg_replication_slots_restart_lsn_bytes{slot_name="hold"}`, "SELECT pg_wal_lsn_diff(restart_lsn, '0/0') FROM pg_replication_slots WHERE slot_name = 'hold'"},
		{primary, `pg_replication_slots_safe_wal_size_bytes{slot_name="hold"}`, "SELECT safe_wal_size FROM pg_replication_slots WHERE slot_name = 'hold'"},
		{primary, "pg_stat_wal_records_total", "SELECT wal_records FROM pg_stat_wal"},
		{primary, "pg_stat_wal_bytes_total", "SELECT wal_bytes FROM pg_stat_wal"},
		{primary, "longship_wal_flush_seconds_count", "SELECT wal_sync FROM pg_stat_wal"},
		{primary, "pg_stat_wal_sync_total", "SELECT wal_sync FROM pg_stat_wal"},
		{standby, "pg_stat_wal_receiver_flushed_lsn_bytes", "SELECT pg_wal_lsn_diff(flushed_lsn, '0/0') FROM pg_stat_wal_receiver"},
		{standby, "longship_applied_lsn_bytes", "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')"},
		{standby, "longship_cluster_epoch", "SELECT epoch FROM longship_cluster"},
		{standby, "longship_orphans", "SELECT count(*) FROM longship_orphans"},
	} {
		// Something may move between the two looks; in a cluster at rest that ends.
		check.node.awaitThat(check.sql, func(v string) bool {
			got, there := check.node.scrape()[check.series]
			return there && strconv.FormatFloat(got, 'f', -1, 64) == v
		}, "what "+check.series+" says")
	}
}

// A load balancer finds the primary, and none but the primary, before a failover and after it.
func TestReadinessFollowsFailover(t *testing.T) {
	c := newObservedCluster(t, 3)
	old := c.primary()
	old.awaitHTTP("/readyz?role=primary", 200)
	old.awaitHTTP("/readyz?role=standby", 503)
	for _, n := range c.standbys() {
		n.awaitHTTP("/readyz?role=primary", 503)
		n.awaitHTTP("/readyz?role=standby&max_lag=1000000", 200)
	}
	old.kill9()
	now := c.primary()
	now.awaitHTTP("/readyz?role=primary", 200)
	old.start()
	old.awaitHTTP("/readyz?role=standby&max_lag=1000000", 200)
	old.awaitHTTP("/readyz?role=primary", 503)
	if epochs := now.scrape()["longship_cluster_epoch"]; epochs < 2 {
		t.Errorf("after a failover the epoch is %v", epochs)
	}
}
