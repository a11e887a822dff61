package integration

import (
	"encoding/json"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// longship status answers for any node, and longship waldump reads what pg_waldump cannot.
func TestStatusAndWaldumpCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	primary, standby := c.pair()
	primary.exec("INSERT INTO kv VALUES ('hello', 'world')")
	end := c.awaitCaughtUp()
	for _, n := range c.nodes {
		out := mustRun(t, longship, "status", "--json", "--host", "127.0.0.1", "--port", strconv.Itoa(n.port))
		var status struct {
			Cluster     map[string]any
			Members     []map[string]any
			Replication []map[string]any
		}
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if status.Cluster["system_identifier"] == nil || len(status.Members) == 0 {
			t.Errorf("%s: %s", n.name, out)
		}
		if n == primary && (len(status.Replication) != 1 || status.Replication[0]["application_name"] != standby.name || status.Replication[0]["state"] != "streaming") {
			t.Errorf("the primary's replication: %v", status.Replication)
		}
		text := mustRun(t, longship, "status", "--host", "127.0.0.1", "--port", strconv.Itoa(n.port))
		if !strings.Contains(text, n.name) {
			t.Errorf("status of %s does not name it:\n%s", n.name, text)
		}
		dump := mustRun(t, longship, "waldump", "--data-dir", n.dir, "--to", end.String())
		if !strings.Contains(dump, "hello") || !strings.Contains(dump, "world") {
			t.Errorf("waldump on %s does not show the row:\n%s", n.name, dump)
		}
	}
	primary.stop()
	if out, err := runTool(t, "", longship, "status", "--host", "127.0.0.1", "--port", strconv.Itoa(primary.port)); err == nil || strings.Count(out, "\n") != 1 {
		t.Errorf("status of a node that is down: %v\n%s", err, out)
	}
}

// The first signal shuts down cleanly, which may have to wait; the second ends the process at once, as a
// crash does.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.pair()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	c.awaitCaughtUp()
	n2.freeze() // it will neither take over nor confirm the shutdown checkpoint
	n1.down()
	n1.proc.signal(syscall.SIGTERM)
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := n1.proc.await(ctx, n1.proc.stderr, "shutting down"); err != nil {
		t.Fatal(err)
	}
	n1.proc.signal(syscall.SIGTERM)
	n1.awaitExit(1)
	n2.thaw()
	n1.start()
	if got := c.primary().value("SELECT value FROM kv WHERE key = 'a'"); got != "1" {
		t.Errorf("a = %q, want 1", got)
	}
}
