package drill

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The drills that change who has to have a commit, and who is there.

// someRules are rules that nodes of any number can meet when all are well. None of them is empty: under such a
// rule nothing would be promised.
var someRules = []string{"ANY MAJORITY (*)", "ANY 1 (*)", "FIRST 1 (*)", "ANY 2 (*)", "FIRST 1 (n2, n3, n1)", "ANY 1 (n1, n2, n3)", "FIRST 2 (*)"}

var ruleChangeStorm = Drill{
	Name:   "rule-change-storm",
	Breaks: "changes synchronous_standby_names five times in a row, and kills the primary a moment after every other one was asked for",
	Holds:  "each rule comes into force",
	Shown:  "each rule differs from the one before and is in force; after the signal has ended the primary the epoch is a later one",
	Round: func(ctx context.Context, r *Run) error {
		for i := range 5 {
			rule, err := r.otherRule(ctx)
			if err == nil {
				err = r.changeRule(ctx, rule, i%2 == 1)
			}
			if err != nil {
				return err
			}
		}
		return nil
	},
	Finish: func(ctx context.Context, r *Run) error {
		return r.changeRule(ctx, someRules[0], false)
	},
}

// otherRule picks a rule that is not in force.
func (r *Run) otherRule(ctx context.Context) (string, error) {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return "", err
	}
	now, err := primary.Value(ctx, "SELECT rule FROM longship_cluster")
	others := slices.DeleteFunc(slices.Clone(someRules), func(rule string) bool { return rule == now })
	return others[r.Random.IntN(len(others))], err
}

// changeRule changes the rule and waits until it is in force.
func (r *Run) changeRule(ctx context.Context, rule string, kill bool) error {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	r.Strike("the rule is to be %s", rule)
	if err := primary.Exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = '"+rule+"'"); err != nil {
		return err
	}
	if err := primary.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	if kill {
		r.Pause(ctx, 100*time.Millisecond)
		if err := r.newEpoch(ctx, primary, func() error { return r.killFor(ctx, primary, "the primary") }); err != nil {
			return err
		}
	}
	return poll(ctx, func(ctx context.Context) error {
		if err := r.Cluster.AwaitWell(ctx); err != nil {
			return err
		}
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		rows, err := primary.Rows(ctx, "SELECT rule, rule_wanted FROM longship_cluster")
		if err == nil && (rows[0][0] != rule || rows[0][1] != "") {
			err = fmt.Errorf("the rule is %q, and not %q; wanted is %q", rows[0][0], rule, rows[0][1])
		}
		return err
	})
}

var membershipChurn = Drill{
	Name:   "membership-churn",
	Breaks: "adds a node, and removes another one for good, the oldest that is not the primary",
	Holds:  "majorities and the rule follow, and what left is needed no more",
	Shown:  "the new node streams, votes and counts; the other is no member any more",
	Round: func(ctx context.Context, r *Run) error {
		n, err := r.Cluster.Add()
		if err != nil {
			return err
		}
		r.Strike("%s joins", n.Name)
		if err := n.Start(); err != nil {
			return err
		}
		r.watch(n)
		if err := r.Cluster.AwaitWell(ctx); err != nil {
			return err
		}
		standbys, err := r.Cluster.Standbys(ctx)
		if err != nil {
			return err
		}
		leaves := standbys[0]
		r.Strike("%s leaves", leaves.Name)
		r.Cluster.Forget(leaves)
		return poll(ctx, func(ctx context.Context) error {
			primary, err := r.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			rows, err := primary.Rows(ctx, "SELECT name FROM longship_members WHERE name = '"+leaves.Name+"'")
			if err != nil || len(rows) == 0 {
				return err
			}
			return primary.Exec(ctx, "SELECT longship_remove_member($1)", leaves.Name)
		})
	},
}
