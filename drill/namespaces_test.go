package drill

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestCut runs itself in a hub of its own.
func TestCut(t *testing.T) {
	if InNamespace() {
		testCut(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces take root")
	}
	if out, err := exec.Command("unshare", "--net", "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1").CombinedOutput(); err != nil {
		t.Skipf("no network namespace with links can be made here: %v: %s", err, out)
	}
	argv, err := NamespaceCommand(os.Args[0], []string{"-test.run=^TestCut$"})
	if err != nil {
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A cut counts what it has swallowed, and neither what an earlier one has nor what the hub says by itself.
func testCut(t *testing.T) {
	if b, err := os.ReadFile(strings.Replace(disableIPv6, "default", hole, 1)); err == nil && string(b) != "1\n" || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the hole speaks IPv6: %q, %v", b, err)
	}
	c := newCluster("", t.TempDir(), nil)
	defer c.close()
	c.network = &network{launcher: c.launcher}
	var nodes []*Node
	for _, name := range []string{"n1", "n2"} {
		h, err := c.network.add()
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, &Node{Name: name, host: h})
	}
	between := bothWays(nodes[:1], nodes[1:], "")
	idle := func(w *network) {
		t.Helper()
		mustBeNil(t, w.cut(between))
		if n, err := w.heal(); err != nil || n != 0 {
			t.Errorf("a cut that nobody has met has swallowed %d packets, %v", n, err)
		}
	}
	idle(c.network)
	mustBeNil(t, c.network.cut(between))
	send := "echo hello > /dev/udp/" + nodes[1].host.address + "/5000"
	mustBeNil(t, nodes[0].host.run("", "/bin/bash", "-c", send))
	mustBeNil(t, poll(t.Context(), func(context.Context) error {
		n, err := inHole()
		if err == nil && n == 0 {
			err = errors.New("nothing has come")
		}
		return err
	}))
	if n, err := c.network.heal(); err != nil || n != 1 {
		t.Errorf("a cut of one packet has swallowed %d, %v", n, err)
	}
	idle(c.network)
	idle(&network{launcher: c.launcher, hosts: c.network.hosts}) // as another drill has it, with the same hub
}

func mustBeNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
