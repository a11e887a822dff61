package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A Target is a running cluster that somebody uses.
type Target struct {
	Addresses []string // host:port of some of its nodes

	// The operator's commands, for sh, that stop and start a node: $NODE is its name, $ADDRESS its host:port.
	StopCommand, StartCommand string

	left *Leftovers
}

// lacks says what is missing for a drill on the target, "" if nothing is.
func (t *Target) lacks(d Drill) string {
	if d.Stops && (t.StopCommand == "" || t.StartCommand == "") {
		return "it stops and starts nodes, and how that is done was not said (--stop-command, --start-command)"
	}
	return ""
}

// login honours PGUSER and its companions.
func (t *Target) login() login {
	var parts []string
	for variable, part := range map[string]string{"PGUSER": "user=longship", "PGDATABASE": "dbname=longship"} {
		if os.Getenv(variable) == "" {
			parts = append(parts, part)
		}
	}
	return login(strings.Join(parts, " "))
}

// Members are the names and addresses of the target's nodes that have a table.
func (t *Target) Members(ctx context.Context) ([][2]string, error) {
	c, err := t.cluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var all [][2]string
	for _, n := range c.Nodes() {
		all = append(all, [2]string{n.Name, n.Address})
	}
	return all, nil
}

// cluster finds the nodes. close ends its use.
func (t *Target) cluster(ctx context.Context) (*Cluster, error) {
	c := newCluster("", "", nil)
	c.target, c.login = t, t.login()
	var failed error
	for _, address := range t.Addresses {
		asked := &Node{Name: address, Address: address, cluster: c}
		rows, err := asked.Rows(ctx, "SELECT name, address FROM longship_members WHERE role <> 'witness' ORDER BY name")
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, row := range rows {
			c.nodes = append(c.nodes, &Node{Name: row[0], Address: row[1], cluster: c})
		}
		return c, nil
	}
	c.close()
	return nil, fmt.Errorf("no node of the target answers: %w", failed)
}

// run runs a drill on the target. It writes under a prefix of its own only, and removes that in the end.
func (t *Target) run(ctx context.Context, cfg Config, d Drill, result *Result) error {
	c, err := t.cluster(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	result.Nodes = len(c.Nodes())
	t.left = cfg.Left
	r := newRun(cfg, d, c, fmt.Sprintf("longship-drill/%016x/", rand.Uint64()), result)
	r.say("%d nodes, keys under %s", result.Nodes, r.work.prefix)
	lo, hi := r.work.keys()
	gone := t.left.add("keys of the drill in the cluster: DELETE FROM kv WHERE key >= '%s' AND key < '%s'", lo, hi)
	r.work.start(cfg.Clients)
	r.proceed(ctx)
	r.work.stop()
	result.count(r.work)
	err = t.startStopped(c)
	removed := r.remove(ctx)
	if removed == nil {
		gone()
	}
	return errors.Join(err, removed)
}

// cleanupTimeout is how long the drill tries to leave the target as it found it.
const cleanupTimeout = time.Minute

// startStopped starts nodes that a drill which was cut short has stopped.
func (t *Target) startStopped(c *Cluster) (err error) {
	for _, n := range c.Nodes() {
		if !n.Running() {
			err = errors.Join(err, t.start(n))
		}
	}
	return err
}

// remove deletes all keys of the drill.
func (r *Run) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	lo, hi := r.work.keys()
	err := poll(ctx, func(ctx context.Context) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		return primary.Exec(ctx, "DELETE FROM kv WHERE key >= $1 AND key < $2", lo, hi)
	})
	if err != nil {
		return fmt.Errorf("the drill's keys, from %s to before %s, could not be removed: %w", lo, hi, err)
	}
	return nil
}

// stop stops a node with the operator's command.
func (t *Target) stop(ctx context.Context, n *Node) error {
	n.mu.Lock()
	n.down = true
	n.revived = t.left.add("%s at %s, which was stopped: %s", n.Name, n.Address, t.StartCommand)
	n.mu.Unlock()
	return t.command(ctx, t.StopCommand, n)
}

// start starts a node with the operator's command.
func (t *Target) start(n *Node) error {
	err := t.command(context.Background(), t.StartCommand, n)
	if err == nil {
		n.mu.Lock()
		n.down = false
		n.revived()
		n.mu.Unlock()
	}
	return err
}

// command runs one of the operator's commands for a node.
func (t *Target) command(ctx context.Context, command string, n *Node) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Env = append(os.Environ(), "NODE="+n.Name, "ADDRESS="+n.Address)
	cmd.WaitDelay = time.Second // what it leaves running may hold its output open
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("%q for %s: %w: %s", command, n.Name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
