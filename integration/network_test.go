package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A network is the loopback interface of a network namespace in which only one test runs. There each
// node is a user of its own, whose connections have a source address of their own, 127.0.1.I: so a
// routing rule can tell who sends what to whom, and send it into a hole instead.
type network struct {
	t *testing.T
	c *cluster
}

const (
	inNamespace  = "LONGSHIP_TEST_NAMESPACE" // set in the process that runs in one
	firstUser    = 41000
	networkUsers = 5
	cutPriority  = 100 // of the routing rules that cut
	localRoutes  = 200
	holeTable    = 999
	setupFailed  = 77
)

// namespaceSetup makes a new namespace a network, and goes on with its arguments.
var namespaceSetup = func() string {
	var b strings.Builder
	b.WriteString(`{ ip link set lo up &&
ip link add hole type veth peer name drain && ip link set hole arp off up && ip link set drain up &&
sysctl -qw net.ipv4.conf.hole.route_localnet=1 && ip route add default dev hole table ` + fmt.Sprint(holeTable) + " &&\n")
	for i := 1; i <= networkUsers; i++ {
		fmt.Fprintf(&b, "ip rule add pref %d uidrange %d-%d lookup %d &&\n", 110+i, firstUser+i, firstUser+i, 100+i)
		fmt.Fprintf(&b, "ip route add local 127.0.0.0/8 dev lo src 127.0.1.%d table %d &&\n", i, 100+i)
	}
	fmt.Fprintf(&b, "ip rule add pref %d lookup local && ip rule del pref 0; } || exit %d\n", localRoutes, setupFailed)
	b.WriteString(`exec "$@"`)
	return b.String()
}()

// nodeAsUser starts a node as the user of its number, who still may read and write what root may, and
// runs other commands as they are.
const nodeAsUser = `#!/bin/sh
for a; do
	case $a in
	--name=n*) exec setpriv --reuid=$((%d + ${a#--name=n})) --clear-groups --pdeathsig=KILL --inh-caps=+dac_override --ambient-caps=+dac_override %s "$@" ;;
	esac
done
exec %s "$@"
`

// inNetwork runs the rest of the test in another process, in a namespace of its own. It returns false in
// the first process, when all is done.
func inNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("a network namespace takes root")
	}
	for _, name := range []string{"ip", "sysctl", "unshare", "setpriv"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	wrapper := filepath.Join(t.TempDir(), "longship")
	if err := os.WriteFile(wrapper, fmt.Appendf(nil, nodeAsUser, firstUser, longship, longship), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "/bin/sh", "-c", namespaceSetup, "sh",
		self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=0", "-test.count=1")
	cmd.Env = append(os.Environ(), inNamespace+"=1", "LONGSHIP_BIN="+wrapper)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	err = cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == setupFailed {
		t.Skip("no network namespace with routing rules can be made here")
	}
	if err != nil {
		t.Errorf("in the namespace: %v", err)
	}
	return false
}

// port is the number in a node's flag.
func (n *node) flagPort(name string) int {
	n.t.Helper()
	for _, f := range n.flags {
		if value, ok := strings.CutPrefix(f, name+"="); ok {
			port, err := strconv.Atoi(value[strings.LastIndexByte(value, ':')+1:])
			if err != nil {
				n.t.Fatal(err)
			}
			return port
		}
	}
	n.t.Fatalf("%s has no %s", n.name, name)
	return 0
}

// source is the address that the node's own connections come from.
func (n *node) source() string { return "127.0.1." + strings.TrimPrefix(n.name, "n") }

// What can be cut between nodes.
var (
	everything  = []string{"--listen", "--raft-listen", "--gossip-listen"}
	replication = []string{"--listen"}
	raftOnly    = []string{"--raft-listen"}
)

// cut drops what goes from one node to another, over the ports that flags name on either. The other
// direction stays as it is.
func (w *network) cut(from, to *node, flags []string) {
	w.t.Helper()
	var rules strings.Builder
	rule := func(format string, args ...any) {
		fmt.Fprintf(&rules, "rule add pref %d %s lookup %d\n", cutPriority, fmt.Sprintf(format, args...), holeTable)
	}
	for _, f := range flags {
		rule("from %s to 127.0.0.1 ipproto tcp dport %d", from.source(), to.flagPort(f)) // on its own connections
		rule("from 127.0.0.1 to %s ipproto tcp sport %d", to.source(), from.flagPort(f)) // on the other's
		if f == "--gossip-listen" {
			rule("ipproto udp sport %d dport %d", from.flagPort(f), to.flagPort(f))
		}
	}
	if out, err := runTool(w.t, rules.String(), "ip", "-batch", "-"); err != nil {
		w.t.Fatalf("ip: %v\n%s", err, out)
	}
}

// part cuts both directions.
func (w *network) part(a, b *node, flags []string) {
	w.t.Helper()
	w.cut(a, b, flags)
	w.cut(b, a, flags)
}

// heal takes all cuts back.
func (w *network) heal() {
	for {
		if err := exec.Command("ip", "rule", "del", "pref", fmt.Sprint(cutPriority)).Run(); err != nil {
			return
		}
	}
}

// others are the nodes but for one.
func (c *cluster) others(n *node) (list []*node) {
	for _, o := range c.nodes {
		if o != n {
			list = append(list, o)
		}
	}
	return list
}

// A trial is what is written on one node while it is cut off.
type trial struct {
	k     *clientele
	conns []idler
	acked chan time.Time
	sent  int
}

// try writes on a node, in sessions that are there already, and does not wait for answers.
func (k *clientele) try(idle []idler) *trial {
	tr := &trial{k: k, conns: idle, acked: make(chan time.Time, len(idle)), sent: len(idle)}
	for _, i := range idle {
		go func() {
			defer hangUp(i.conn)
			i.next++
			key := fmt.Sprintf("%s%03d/%07d", i.prefix("row", i.eraNow()), i.id, i.next)
			ctx, cancel := testContext(k.t)
			defer cancel()
			err := i.insert(ctx, i.conn, key)
			k.note(err)
			if err != nil {
				tr.acked <- time.Time{}
			} else {
				tr.acked <- time.Now()
			}
		}()
	}
	return tr
}

// checkNone verifies that nothing was acknowledged before a point in time, when all have been answered.
func (tr *trial) checkNone(n *node, before time.Time) {
	tr.k.t.Helper()
	for range tr.sent {
		if at := <-tr.acked; !at.IsZero() && at.Before(before) {
			tr.k.t.Errorf("%s, cut off, acknowledged a commit %v before the cut was healed", n.name, before.Sub(at))
		}
	}
}
