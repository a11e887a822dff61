package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/wal"
)

// judge ends the load and checks all there is to check.
func (r *Run) judge(ctx context.Context) {
	r.say("looking for what was acknowledged, and for an order of all that was seen")
	r.work.stop()
	e := r.work.evidence()
	if !r.holds(ctx, checkCluster, func(ctx context.Context) error { return r.gather(ctx, e) }) {
		return
	}
	if r.Cluster.target == nil {
		if !r.holds(ctx, checkCluster, r.Cluster.stop) {
			return
		}
		for i, n := range r.Cluster.Nodes() {
			w, err := openWAL(n.Dir, e.end)
			if err != nil {
				r.violated(checkLogs, "%s: %v", n.Name, err)
				return
			}
			defer w.close()
			e.nodes[i].log = w
		}
	}
	v := e.check()
	r.result.Violations = append(r.result.Violations, v.violations...)
	r.result.tell(e, v)
}

// evidence is what the clients know. They must have ended.
func (w *work) evidence() *evidence {
	return &evidence{prefix: w.prefix, ops: w.ops, rows: w.rows, txns: w.txns.Txns(), looks: w.looks}
}

// gather waits until all nodes have everything and reads their tables, which nobody writes to any more. What
// somebody had left under way may still come: then they are read again.
func (r *Run) gather(ctx context.Context, e *evidence) error {
	return poll(ctx, func(ctx context.Context) error {
		if err := r.Cluster.AwaitWell(ctx); err != nil {
			return err
		}
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		if e.end, err = primary.flushed(ctx); err != nil {
			return err
		}
		lo, hi := "", ""
		if r.Cluster.target != nil {
			lo, hi = r.work.keys()
		}
		e.nodes = nil
		for _, n := range r.Cluster.Nodes() {
			table, err := n.table(ctx, lo, hi, e.end)
			if err != nil {
				return err
			}
			e.nodes = append(e.nodes, nodeState{name: n.Name, table: table})
		}
		return nil
	})
}

// tableTimeout bounds one attempt to read a node's table.
const tableTimeout = 20 * time.Second

// table reads the rows with keys from lo to before hi, all if hi is empty, once the node has everything up to
// end. A row that was written after that is an error.
func (n *Node) table(ctx context.Context, lo, hi string, end wal.LSN) (map[string]cell, error) {
	ctx, cancel := context.WithTimeout(ctx, tableTimeout)
	defer cancel()
	conn, err := n.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	defer hangUp(conn)
	if err := waitFor(ctx, conn, end); err != nil {
		return nil, fmt.Errorf("%s: wait for %s: %w", n.Name, end, err)
	}
	query, args := "SELECT key, value, lsn::text FROM kv WHERE key >= $1", []any{lo}
	if hi != "" {
		query, args = query+" AND key < $2", append(args, hi)
	}
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	all := map[string]cell{}
	var key, value, at string
	_, err = pgx.ForEachRow(rows, []any{&key, &value, &at}, func() error {
		lsn, err := wal.ParseLSN(at)
		if lsn > end {
			return errors.Join(err, fmt.Errorf("%s was written at %s, after %s", key, lsn, end))
		}
		all[key] = cell{value, lsn}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return all, nil
}

// tell fills in what was checked.
func (r *Result) tell(e *evidence, v *verdict) {
	r.Commits.Lost = &v.lost
	r.Registers = Registers{Operations: len(e.ops), Keys: v.keys, Verdict: "linearizable"}
	for _, o := range e.ops {
		if o.Input.(history.RegisterInput).Op == "read" {
			r.ReadsChecked++
		}
	}
	for _, t := range e.txns {
		for _, o := range t.Ops {
			if o.Kind != history.Append && t.Outcome == history.Committed {
				r.ReadsChecked++
			}
		}
		if t.Stale {
			r.Transactions.Elsewhere++
		} else {
			r.Transactions.Primary++
		}
	}
	r.Transactions.Verdict = "strictly serializable"
	r.Looks = len(e.looks)
	r.ReadsChecked += len(e.looks)
	for _, violation := range v.violations {
		switch violation.Check {
		case checkRegisters:
			r.Registers.Verdict = "NOT linearizable"
		case checkTxns:
			r.Transactions.Verdict = "NOT strictly serializable"
		}
	}
}
