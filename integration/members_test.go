package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An empty directory takes the place of a dead node of the same name, in one command: the rule, the
// majorities and Raft follow. It does not matter who is dead.
func TestReplaceDeadNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	k := c.startClients("replace", 4)
	for _, what := range []string{"a standby", "the primary"} {
		k.await(50)
		dead := c.standbys()[0]
		if what == "the primary" {
			dead = c.primary()
		}
		before := c.primary().value("SELECT incarnation FROM longship_members WHERE name = '" + dead.name + "'")
		dead.kill9()
		if err := os.RemoveAll(dead.dir); err != nil {
			t.Fatal(err)
		}
		if dead == c.nodes[0] { // founded the cluster, and must not found another
			dead.flags = append(dead.flags, "--join="+c.nodes[1].address()+","+c.nodes[2].address())
		}
		k.await(50)
		began := time.Now()
		dead.start()
		c.awaitStreaming()
		c.awaitCounted(3)
		now := c.primary()
		if got := now.value("SELECT count(*) FROM longship_members"); got != "3" {
			t.Errorf("there are %s members", got)
		}
		after := now.value("SELECT incarnation FROM longship_members WHERE name = '" + dead.name + "'")
		if after == before {
			t.Errorf("%s is still %s", dead.name, before)
		}
		t.Logf("%s, %s, is replaced after %v", what, dead.name, time.Since(began).Round(time.Millisecond))
		k.nextEra()
	}
	k.finish()
}

// A cluster grows from one node to five and shrinks to one again, under load.
func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	c.node(5) // so that clients know all addresses
	k := c.startClients("grow", 4)
	members := 1
	grow := func(n *node) {
		n.launch()
		n.awaitReady()
		members++
		c.awaitCounted(members)
	}
	shrink := func(n *node) {
		out, err := runTool(t, "", longship, "members", "remove", "--host", "127.0.0.1", "--port", strconv.Itoa(c.primary().port), n.name)
		if err != nil {
			t.Fatalf("remove %s: %v\n%s", n.name, err, out)
		}
		c.primary().await("SELECT count(*) FROM longship_members WHERE name = '"+n.name+"'", "0")
		n.kill9()
		members--
		c.awaitCounted(members)
	}
	step := func(what string, change func(*node), nodes ...*node) {
		at := k.now()
		for _, n := range nodes {
			change(n)
		}
		k.await(50)
		t.Logf("%s to %d members: no write for up to %v", what, members, k.gap(at).Round(time.Millisecond))
		k.nextEra()
	}
	k.await(50)
	step("grow", grow, c.nodes[1], c.nodes[2])
	step("grow", grow, c.nodes[3], c.nodes[4])
	mustRun(t, longship, "switchover", "--to", "n4", "--host", "127.0.0.1", "--port", strconv.Itoa(c.nodes[1].port))
	step("shrink", shrink, c.nodes[0], c.nodes[1])
	step("shrink", shrink, c.nodes[2], c.nodes[4])
	last := c.nodes[3]
	k.stop()
	c.nodes = []*node{last}
	k.checkRows(last)
	k.checkOrder()
	if got := last.value("SELECT name FROM longship_members") + last.value("SELECT count(*) FROM longship_members"); got != "n41" {
		t.Errorf("the members are not n4 alone: %s", got)
	}
	last.restart()
	last.exec("INSERT INTO kv VALUES ('alone', '1')")
	k.checkRows(last)
}

// Two processes with one identity are not both members: a copy of a running node's directory is refused,
// and the original goes on.
func TestCopiedDirectory(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	k := c.startClients("copied", 2)
	k.await(20)
	epoch := c.primary().epoch()
	for _, original := range []*node{c.standbys()[0], c.primary()} {
		k.await(20)
		dir := filepath.Join(t.TempDir(), "copy")
		original.freeze() // else files come and go under the copy
		mustRun(t, "/bin/cp", "-r", original.dir, dir)
		original.thaw()
		copied := &node{t: t, name: original.name + "-copy", dir: dir, port: freePort(t), up: make(chan struct{})}
		copied.flags = append(copied.flags, original.flags...)
		copied.replaceFlag("--data-dir", dir)
		copied.replaceFlag("--listen", copied.address())
		copied.replaceFlag("--raft-listen", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
		copied.replaceFlag("--gossip-listen", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
		copied.launch()
		copied.awaitExit(1)
		said := tail(copied.proc.stderr.String(), 1)
		t.Logf("a copy of %s says: %s", original.name, said)
		if !strings.Contains(said, "cop") || !strings.Contains(said, original.name) {
			t.Errorf("a copy of %s does not say that it is one: %s", original.name, said)
		}
		k.await(20)
		c.awaitStreaming()
	}
	if now := c.primary().epoch(); now != epoch {
		t.Errorf("epoch %d began", now)
	}
	k.finish()
}
