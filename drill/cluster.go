package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/longship-db/longship/internal/child"
	"github.com/longship-db/longship/internal/testport"
	"github.com/longship-db/longship/wal"
)

// A Cluster is the nodes of a drill. The first one makes the cluster, the others join it.
type Cluster struct {
	Dir string

	login     login
	target    *Target // where it is not the drill's own cluster; else nil
	program   string
	flags     []string // of every node
	clocks    bool     // of nodes can be set
	launcher  *child.Launcher
	end       context.CancelFunc // of the launcher
	launched  sync.WaitGroup     // the launcher
	network   *network           // of namespaces; nil: all nodes are on the loopback interface
	processes sync.WaitGroup     // one for each process that runs

	mu         sync.Mutex
	nodes      []*Node  // members, dead or alive
	made       int      // nodes so far
	complaints []string // nodes that ended by themselves
}

// segmentSize is that of the logs: there are many small segments.
const segmentSize = wal.MinSegmentSize

// nodeFlags are those of every node. The whole log is kept, for the check at the end.
var nodeFlags = []string{
	"--log-format=json", fmt.Sprintf("--wal-segsize=%d", segmentSize>>20), "--wal-keep-size=1TB", "--wal-retrieve-retry-interval=500ms",
}

// newCluster makes a cluster in a folder; Start starts it and close ends it.
func newCluster(program, dir string, flags []string) *Cluster {
	c := &Cluster{Dir: dir, login: loopbackLogin, program: program, flags: append(slices.Clone(nodeFlags), flags...), launcher: child.NewLauncher()}
	var ctx context.Context
	ctx, c.end = context.WithCancel(context.Background())
	c.launched.Go(func() { c.launcher.Run(ctx) })
	return c
}

// Nodes are the members, dead or alive.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

const loopback = "127.0.0.1"

// Add makes another node, which Start then starts. Its name is one that nobody has had.
func (c *Cluster) Add() (*Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := "n" + strconv.Itoa(c.made+1)
	n, err := c.make(name, filepath.Join(c.Dir, name))
	if err == nil {
		c.made++
		c.nodes = append(c.nodes, n)
	}
	return n, err
}

// make makes a node that is not one of the cluster's.
func (c *Cluster) make(name, dir string) (*Node, error) {
	n := &Node{Name: name, Dir: dir, cluster: c}
	addresses, err := c.place(n)
	if err != nil {
		return nil, err
	}
	n.Address, n.raft = addresses[0], addresses[1]
	n.args = append([]string{"start", "--data-dir", dir, "--name", name, "--listen", n.Address,
		"--raft-listen", n.raft, "--gossip-listen", addresses[2]}, c.flags...)
	return n, nil
}

// place finds addresses for a node: for clients, for Raft and for gossip.
func (c *Cluster) place(n *Node) (addresses []string, err error) {
	if c.network != nil {
		if n.host, err = c.network.add(); err != nil {
			return nil, err
		}
		return []string{n.host.port(clientPort), n.host.port(raftPort), n.host.port(gossipPort)}, nil
	}
	for range 3 {
		port, err := testport.Take()
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, net.JoinHostPort(loopback, strconv.Itoa(port)))
	}
	return addresses, nil
}

// Forget makes the node none of the cluster's: nobody waits for it any more, and it is not checked.
func (c *Cluster) Forget(n *Node) {
	n.Kill()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(o *Node) bool { return o == n })
}

// join is the flag that says where the cluster is: with the others, unless there is none yet. The caller holds n.mu.
func (c *Cluster) join(n *Node) []string {
	nodes := c.Nodes()
	if n == nodes[0] && n.proc == nil {
		return nil
	}
	var others []string
	for _, o := range nodes {
		if o != n {
			others = append(others, o.Address)
		}
	}
	return []string{"--join", strings.Join(others, ",")}
}

// start starts as many nodes and waits until all is well.
func (c *Cluster) start(ctx context.Context, nodes int) error {
	for i := range nodes {
		n, err := c.Add()
		if err == nil {
			err = n.Start()
		}
		if err == nil && i == 0 {
			err = n.AwaitReady(ctx) // who joins wants somebody to join
		}
		if err != nil {
			return err
		}
	}
	return c.AwaitWell(ctx)
}

// complain notes that a node ended by itself.
func (c *Cluster) complain(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.complaints = append(c.complaints, what)
}

// addresses are where clients find the nodes, beginning with the first-th.
func (c *Cluster) addresses(first int) []string {
	nodes := c.Nodes()
	var all []string
	for i := range nodes {
		all = append(all, nodes[(first+i)%len(nodes)].Address)
	}
	return all
}

// nodeAt is the name of the node that clients find at an address; the address where that is not known.
func (c *Cluster) nodeAt(address string) string {
	for _, n := range c.Nodes() {
		if n.Address == address {
			return n.Name
		}
	}
	return address
}

// Named is the node of that name.
func (c *Cluster) Named(name string) (*Node, error) {
	for _, n := range c.Nodes() {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no node is named %q", name)
}

// Primary waits until a node is the primary, and open.
func (c *Cluster) Primary(ctx context.Context) (primary *Node, err error) {
	err = poll(ctx, func(ctx context.Context) error {
		var trouble []error
		for _, n := range c.Nodes() {
			if !n.answers() {
				continue
			}
			rows, err := n.Rows(ctx, "SELECT role, waiting FROM longship_cluster")
			switch {
			case err != nil:
				trouble = append(trouble, err)
			case rows[0][0] == "primary" && rows[0][1] == "":
				primary = n
				return nil
			default:
				trouble = append(trouble, fmt.Errorf("%s, a %s, waits %s", n.Name, rows[0][0], rows[0][1]))
			}
		}
		return fmt.Errorf("there is no primary: %w", errors.Join(trouble...))
	})
	return primary, err
}

// Standbys are the nodes other than the primary that run.
func (c *Cluster) Standbys(ctx context.Context) (list []*Node, err error) {
	primary, err := c.Primary(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes() {
		if n != primary && n.Running() {
			list = append(list, n)
		}
	}
	return list, nil
}

// Coordinator is the node that leads Raft, and so the failovers.
func (c *Cluster) Coordinator(ctx context.Context) (leader *Node, err error) {
	err = poll(ctx, func(ctx context.Context) error {
		primary, err := c.Primary(ctx)
		if err != nil {
			return err
		}
		name, err := primary.Value(ctx, "SELECT raft_leader FROM longship_cluster")
		if err != nil {
			return err
		}
		leader, err = c.Named(name)
		return err
	})
	return leader, err
}

// AwaitWell waits until there is a primary that meets its rule, and every node is ready, streams, counts and votes.
func (c *Cluster) AwaitWell(ctx context.Context) error {
	return poll(ctx, func(ctx context.Context) error {
		primary, err := c.Primary(ctx)
		if err != nil {
			return err
		}
		rows, err := primary.Rows(ctx, "SELECT name, role, state, counted, voter, leaving FROM longship_members WHERE role <> 'witness'")
		if err != nil {
			return err
		}
		for _, n := range c.Nodes() {
			i := slices.IndexFunc(rows, func(row []string) bool { return row[0] == n.Name })
			switch {
			case !n.isReady():
				return fmt.Errorf("%s is not ready", n.Name)
			case i < 0:
				return fmt.Errorf("%s is no member", n.Name)
			case rows[i][1] == "standby" && rows[i][2] != "streaming":
				return fmt.Errorf("%s does not stream: its state is %q", n.Name, rows[i][2])
			case rows[i][3] != "t" || rows[i][4] != "t" || rows[i][5] != "f":
				return fmt.Errorf("%s does not count, or vote", n.Name)
			}
		}
		if len(rows) != len(c.Nodes()) {
			return fmt.Errorf("there are %d members, and not %d", len(rows), len(c.Nodes()))
		}
		met, err := primary.Value(ctx, "SELECT rule_met FROM longship_cluster")
		if err == nil && met != "t" {
			err = fmt.Errorf("too few stream for the rule")
		}
		return err
	})
}

// stopTimeout is how long nodes may take to shut down before they are killed.
const stopTimeout = 30 * time.Second

// stop shuts every node down cleanly, the primary last, when nobody is left that it would have to hand over
// to.
func (c *Cluster) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	standbys, err := c.Standbys(ctx)
	if err != nil {
		return err
	}
	for _, last := range []bool{false, true} {
		var wg sync.WaitGroup
		failed := make(chan error, len(c.Nodes()))
		for _, n := range c.Nodes() {
			if n.Running() && slices.Contains(standbys, n) != last {
				wg.Go(func() { failed <- n.Stop(ctx) })
			}
		}
		wg.Wait()
		close(failed)
		for e := range failed {
			err = errors.Join(err, e)
		}
	}
	return err
}

// close kills whatever still runs and waits until it is gone.
func (c *Cluster) close() {
	for _, n := range c.Nodes() {
		n.Kill()
	}
	c.processes.Wait()
	if c.network != nil {
		c.network.close()
	}
	c.end()
	c.launched.Wait()
}

// complained returns, once, which nodes ended by themselves.
func (c *Cluster) complained() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.complaints
	c.complaints = nil
	return all
}
