package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longship-db/longship/node"
)

// What the drills break inside of nodes: longship_inject_fault() and its companions, in docs/operations.md.

// breakable has the nodes allow that.
var breakable = []string{"--allow-faults"}

// order runs a query in the database for administrators and returns the first value of its answer.
func (n *Node) order(ctx context.Context, query string, args ...any) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := n.connectTo(ctx, node.AdminDatabase)
	if err == nil {
		defer hangUp(conn)
		err = conn.QueryRow(ctx, query, args...).Scan(&answer)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %s %v: %w", n.Name, query, args, err)
	}
	return answer, nil
}

// inject breaks something inside the node.
func (n *Node) inject(ctx context.Context, format string, args ...any) error {
	_, err := n.order(ctx, "SELECT longship_inject_fault($1)::text", fmt.Sprintf(format, args...))
	return err
}

// hits is how often the faults of the node have held something up.
func (n *Node) hits(ctx context.Context) (int, error) {
	text, err := n.order(ctx, "SELECT coalesce(sum(hits), 0)::text FROM longship_faults")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// under breaks something, calls during, and mends it, whatever comes of that. Faults that have held nothing up
// have shown nothing: each of some nodes must have met one, or if there are none anybody.
func (r *Run) under(ctx context.Context, what string, each []*Node, breakIt, during func() error) (err error) {
	r.Strike("%s", what)
	defer func() {
		met, healed := r.heal(ctx)
		if err = errors.Join(err, healed); err != nil {
			return
		}
		total := met[nil]
		for _, n := range r.Cluster.Nodes() {
			if total += met[n]; met[n] == 0 && slices.Contains(each, n) {
				err = untested("%s has not met the fault: %s", n.Name, what)
			}
		}
		if err == nil && total == 0 {
			err = untested("nobody has met the fault: %s", what)
		}
	}()
	if err := breakIt(); err != nil {
		return err
	}
	return during()
}

// heal takes back what is broken, and returns how often that has held something up, by node; nil stands for the network
// between them.
func (r *Run) heal(ctx context.Context) (met map[*Node]int, err error) {
	r.Mend("the faults are taken back")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	met = map[*Node]int{}
	if w := r.Cluster.network; w != nil {
		met[nil], err = w.heal()
	}
	for _, n := range r.Cluster.Nodes() {
		if !n.answers() {
			continue // it has taken its faults with it
		}
		// A deposed primary that hears of it meanwhile ends its sessions.
		failed := poll(ctx, func(ctx context.Context) error {
			more, err := n.hits(ctx)
			if err == nil {
				_, err = n.order(ctx, "SELECT longship_heal_fault()::text")
			}
			if err == nil {
				met[n] = more
			}
			return err
		})
		err = errors.Join(err, failed)
	}
	return met, err
}

// A way is from one node to another, for kinds of connections; "" for all.
type way struct {
	from, to *Node
	kinds    string
}

// ways lead from each of some nodes to each of others.
func ways(from, to []*Node, kinds string) (all []way) {
	for _, a := range from {
		for _, b := range to {
			if a != b {
				all = append(all, way{a, b, kinds})
			}
		}
	}
	return all
}

// bothWays lead to and fro.
func bothWays(a, b []*Node, kinds string) []way {
	return append(ways(a, b, kinds), ways(b, a, kinds)...)
}

// impede does something to the network: "cut", or "delay" with how much at the end. Where the nodes have a
// network of namespaces it is that which is cut. Else each node can do it to the connections that it has made,
// so the two ends of a way are told.
func (r *Run) impede(ctx context.Context, ways []way, effect, amount string) error {
	if w := r.Cluster.network; w != nil && effect == "cut" {
		return w.cut(ways)
	}
	for _, w := range ways {
		to := strings.Join([]string{effect, "to", w.to.Name, w.kinds, amount}, " ")
		from := strings.Join([]string{effect, "from", w.from.Name, w.kinds, amount}, " ")
		if err := errors.Join(w.from.inject(ctx, "%s", to), w.to.inject(ctx, "%s", from)); err != nil {
			return err
		}
	}
	return nil
}

// others are the nodes but for one.
func (c *Cluster) others(n *Node) []*Node {
	return slices.DeleteFunc(c.Nodes(), func(o *Node) bool { return o == n })
}
