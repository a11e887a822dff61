package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/longship-db/longship/internal/child"
)

// A network has a network namespace for each node, connected to that of the drill and its clients, the hub,
// which forwards between them:
//
//	hub, 127.18.0.1 ─┬─ n1, 127.18.0.11
//	                 ├─ n2, 127.18.0.12
//	                 └─ …
//
// The hub is a namespace, too, and the one that the whole process is in ([InNamespace]): so nothing of the
// machine's own network is touched, and all addresses are those of the loopback interface, as nodes want them. A
// cut is a routing rule of the hub, by sender, receiver and port: what it is about goes into a hole, where it is
// counted, and nobody is told.
//
// Namespaces have no names. Each lasts as long as a process that does nothing else, and ends with the drill,
// whatever ends that.
type network struct {
	launcher *child.Launcher
	hosts    []*host

	rules  int // that cut
	before int // packets in the hole when the first of them was made
}

// A host is the network namespace of a node.
type host struct {
	cmd     *exec.Cmd
	hold    io.Closer // its standard input: it ends with that
	link    string    // the hub's end of the link to it
	address string
}

const (
	hole        = "drillhole" // a link of the hub
	hubAddress  = "127.18.0.1"
	hostAddress = "127.18.0.%d"
	firstHost   = 11
	holeTable   = 999
	cutPriority = 100 // of the rules that cut
)

// Ports of the nodes, the same in each namespace.
const (
	clientPort = 5433
	raftPort   = 5533
	gossipPort = 5633
)

// settings have a namespace forward and accept what it would not: addresses of the loopback interface that come
// from elsewhere.
const settings = `for f in all default; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done
echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
`

// hubSetup makes a new namespace the hub, and goes on with its arguments. Its links speak no IPv6: nothing goes
// into the hole by itself.
var hubSetup = fmt.Sprintf(`set -e
%[1]secho 1 > /proc/sys/net/ipv4/ip_forward
if [ -e %[6]s ]; then echo 1 > %[6]s; fi
ip -batch - <<end
link set lo up
address add %[2]s/32 dev lo
link add %[3]s type veth peer name drain
link set %[3]s arp off up
link set drain up
route add default dev %[3]s table %[4]d
rule add pref %[5]d lookup local
rule del pref 0
end
exec "$@"
`, settings, hubAddress, hole, holeTable, 2*cutPriority, disableIPv6)

// disableIPv6 is for the links that are made later. A kernel without IPv6 does not have it.
const disableIPv6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"

// InNamespace reports whether this process is in the hub of a network of namespaces.
func InNamespace() bool {
	_, err := inHole()
	return err == nil
}

// NamespaceCommand is the command with which a program is in the hub of a network of namespaces. It takes root.
func NamespaceCommand(program string, args []string) (argv []string, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces take root")
	}
	argv = []string{"unshare", "--net", "/bin/sh", "-c", hubSetup, "sh", program}
	for i, name := range []string{"unshare", "ip", "nsenter"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, fmt.Errorf("network namespaces take the program %s: %w", name, err)
		}
		if i == 0 {
			argv[0] = path
		}
	}
	return append(argv, args...), nil
}

// add makes a namespace for a node, and connects it.
func (w *network) add() (*host, error) {
	number := len(w.hosts)
	h, err := w.hold()
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	w.hosts = append(w.hosts, h)
	h.link, h.address = "node"+strconv.Itoa(number), fmt.Sprintf(hostAddress, firstHost+number)
	// What leads to other addresses than its own goes before the route to all that are the loopback interface's.
	set := h.run("", "/bin/sh", "-e", "-c", settings)
	return h, errors.Join(set,
		script(nil,
			fmt.Sprintf("link add %s type veth peer name eth0 netns %d", h.link, h.cmd.Process.Pid),
			fmt.Sprintf("link set %s up", h.link),
			fmt.Sprintf("route add %s dev %s src %s table local", h.address, h.link, hubAddress)),
		script(h,
			"link set lo up",
			"link set eth0 up",
			fmt.Sprintf("address add %s/32 dev lo", h.address),
			fmt.Sprintf("route add %s dev eth0 src %s table local", hubAddress, h.address),
			fmt.Sprintf("route add %s/24 via %s dev eth0 src %s onlink table local", fmt.Sprintf(hostAddress, 0), hubAddress, h.address)))
}

// hold makes a network namespace.
func (w *network) hold() (*host, error) {
	cmd := exec.Command("unshare", "--net", "cat")
	cmd.SysProcAttr = child.Attributes()
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	echo, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.launcher.Start(cmd); err != nil {
		return nil, err
	}
	h := &host{cmd: cmd, hold: hold}
	if _, err = hold.Write([]byte{'.'}); err == nil { // when that comes back the namespace is there
		_, err = io.ReadFull(echo, make([]byte, 1))
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// enter are the arguments of nsenter that have it run something in the namespace.
func (h *host) enter() []string {
	return []string{"--net", "--target", strconv.Itoa(h.cmd.Process.Pid)}
}

func (h *host) close() {
	h.hold.Close()
	h.cmd.Wait()
}

// port is the address of one of the node's ports.
func (h *host) port(port int) string { return net.JoinHostPort(h.address, strconv.Itoa(port)) }

// cut has the hub drop what takes these ways.
func (w *network) cut(ways []way) (err error) {
	if w.rules == 0 {
		if w.before, err = inHole(); err != nil {
			return err
		}
	}
	var rules []string
	for _, c := range ways {
		for _, match := range matches(c.kinds) {
			rules = append(rules, fmt.Sprintf("rule add pref %d from %s to %s %s lookup %d",
				cutPriority, c.from.host.address, c.to.host.address, match, holeTable))
		}
	}
	w.rules += len(rules)
	return script(nil, rules...)
}

// matches tell the packets of some kinds of connections from others, see [way]: by the port of either end.
func matches(kinds string) (all []string) {
	if kinds == "" {
		return []string{""}
	}
	add := func(protocol string, port int) {
		for _, end := range []string{"sport", "dport"} {
			all = append(all, fmt.Sprintf("ipproto %s %s %d", protocol, end, port))
		}
	}
	if strings.Contains(kinds, "raft") {
		add("tcp", raftPort)
	}
	if strings.Contains(kinds, "gossip") {
		add("tcp", gossipPort)
		add("udp", gossipPort)
	}
	if strings.Contains(kinds, "replication") || strings.Contains(kinds, "commands") { // they share a port
		add("tcp", clientPort)
	}
	return all
}

// heal takes all cuts back, and returns how many packets they have swallowed.
func (w *network) heal() (swallowed int, err error) {
	if w.rules == 0 {
		return 0, nil
	}
	rules := make([]string, w.rules)
	for i := range rules {
		rules[i] = fmt.Sprintf("rule del pref %d", cutPriority)
	}
	err = script(nil, rules...)
	w.rules = 0
	now, counted := inHole()
	return now - w.before, errors.Join(err, counted)
}

// inHole is how many packets have gone into the hole.
func inHole() (int, error) {
	b, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return 0, err
	}
	for row := range strings.Lines(string(b)) {
		// eight columns for what came in, then those for what went out: bytes, packets, …
		if columns := strings.Fields(row); len(columns) > 10 && columns[0] == hole+":" {
			return strconv.Atoi(columns[10])
		}
	}
	return 0, errors.New("there is no hole to count what is cut in")
}

// close removes the network. The nodes must have ended.
func (w *network) close() {
	w.heal()
	for _, h := range w.hosts {
		script(nil, "link del "+h.link) // the namespace lasts as long as its last connection
		h.close()
	}
}

// script runs commands of ip in a namespace, nil for the hub.
func script(in *host, lines ...string) error {
	if len(lines) == 0 {
		return nil
	}
	return in.run(strings.Join(lines, "\n"), "ip", "-batch", "-")
}

// toolTimeout bounds a command that configures the network.
const toolTimeout = 10 * time.Second

// run runs a program in the namespace, nil for the hub, with some input.
func (h *host) run(input, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	if h != nil {
		program, args = "nsenter", append(append(h.enter(), program), args...)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
