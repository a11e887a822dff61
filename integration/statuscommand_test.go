package integration

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A report is what longship status says, as far as these tests look.
type report struct {
	Cluster struct {
		Primary, Phase string
	}
	Warnings []string
}

// warns reports whether there is a warning that begins like this.
func (r report) warns(prefix string) bool {
	return slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.HasPrefix(w, prefix) })
}

// awaitStatus asks with longship status --json, of all nodes given until one answers, until what it
// says is good.
func (c *cluster) awaitStatus(what string, good func(report) bool, nodes ...*node) {
	c.t.Helper()
	ctx, cancel := testContext(c.t)
	defer cancel()
	var out string
	for tick := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		var err error
		if out, err = runTool(c.t, "", longship, append([]string{"status", "--json"}, at(nodes)...)...); err != nil {
			continue
		}
		var r report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			c.t.Fatalf("%v\n%s", err, out)
		}
		if good(r) {
			return
		}
	}
	c.t.Fatalf("longship status does not show that %s:\n%s", what, out)
}

// at are the flags that name nodes.
func at(nodes []*node) []string {
	var hosts, ports []string
	for _, n := range nodes {
		hosts, ports = append(hosts, "127.0.0.1"), append(ports, strconv.Itoa(n.port))
	}
	return []string{"--host", strings.Join(hosts, ","), "--port", strings.Join(ports, ",")}
}

// checkStatus returns the exit code of longship status --check.
func (c *cluster) checkStatus(n *node) (code int, out string) {
	c.t.Helper()
	out, err := runTool(c.t, "", longship, append([]string{"status", "--check"}, at([]*node{n})...)...)
	if err == nil {
		return 0, out
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		c.t.Fatal(err)
	}
	return exit.ExitCode(), out
}

// What an operator sees: nothing to worry about; a standby that stands still; a primary that was
// killed, from whoever is left; and the exit codes that monitoring goes by.
func TestStatusTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--heartbeat-interval=200")
	primary, frozen := c.primary(), c.standbys()[0]
	calm := func(r report) bool { return r.Cluster.Phase == "steady" && len(r.Warnings) == 0 }
	for _, n := range c.nodes {
		c.awaitStatus("all is well", calm, n)
	}

	frozen.freeze()
	c.awaitStatus(frozen.name+" stands still", func(r report) bool { return r.warns(frozen.name + " is ") }, primary)
	if code, out := c.checkStatus(primary); code != 3 || !strings.Contains(out, "! "+frozen.name+" is ") {
		t.Errorf("--check exits %d, want 3:\n%s", code, out)
	}
	frozen.thaw()
	c.awaitStatus("all is well again", calm, primary)

	// The first of the nodes named does not answer any more: the next one does.
	primary.kill9()
	if code, out := c.checkStatus(primary); code != 1 || !strings.Contains(out, primary.address()) {
		t.Errorf("--check of a node that is down exits %d, want 1:\n%s", code, out)
	}
	c.awaitStatus(primary.name+" is down", func(r report) bool {
		return r.Cluster.Primary != primary.name && r.Cluster.Phase == "steady" && r.warns(primary.name+" is down")
	}, primary, frozen)
}
