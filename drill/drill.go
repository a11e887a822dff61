package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Drill is one kind of trouble, and what must hold all the same. What every drill checks is in the
// package's comment.
type Drill struct {
	Name   string   // words with dashes between them
	Breaks string   // what it does: "kills the primary with kill -9"
	Holds  string   // what must hold besides what every drill checks
	Shown  string   // what shows, in each round, that it was broken: without it nothing was tested
	Flags  []string // of longship start, for every node
	Target bool     // a cluster that is in use can do it to itself, without a loss
	Clocks bool     // it sets the clocks of nodes
	Stops  bool     // with Target: it stops and starts nodes, which takes the operator's commands

	// Lacks says what this machine lacks for it, such as a program; "": nothing. Nil: it needs nothing.
	Lacks func() string

	// Begin is called once, before the first round. Nil: there is nothing to do.
	Begin func(ctx context.Context, r *Run) error

	// Round breaks something once; see the package's comment.
	Round func(ctx context.Context, r *Run) error

	// Finish is called once after the last round, when all is well, while clients run. Nil: nothing is left to check.
	Finish func(ctx context.Context, r *Run) error
}

// All returns the drills in the order in which they are listed and run.
func All() []Drill {
	return []Drill{
		killPrimary, killStandby, killCoordinator, killAll,
		pausePrimary, pauseStandby, clockJump, cancelDuringWait, flapping,
		partitionPrimary, partitionOneway, partitionRaft, partitionReplication, slowStandby,
		diskStall, diskFull, fsyncError,
		switchoverStorm, rollingRestart, restartStandby, ruleChangeStorm, membershipChurn,
		tornTail, bitFlip, lostRaftDir, wipedDisk, duplicateNode,
		slotUnderFailover, receiverAcrossFailover,
	}
}

// ForTarget returns those of the drills that can be run on a cluster that is in use. With all it leaves the
// others out; without, one of them is an error.
func ForTarget(drills []Drill, all bool) (list []Drill, err error) {
	for _, d := range drills {
		switch {
		case d.Target:
			list = append(list, d)
		case !all:
			return nil, fmt.Errorf("drill %s breaks things that a running cluster needs: without a target it runs on a cluster of its own", d.Name)
		}
	}
	return list, nil
}

// Find returns the drills of these names; "all" stands for all of them.
func Find(names []string) ([]Drill, error) {
	all := All()
	if slices.Contains(names, "all") {
		return all, nil
	}
	var found []Drill
	for _, name := range names {
		i := slices.IndexFunc(all, func(d Drill) bool { return d.Name == name })
		if i < 0 {
			var known []string
			for _, d := range all {
				known = append(known, d.Name)
			}
			return nil, fmt.Errorf("there is no drill %q: there are %s, and all", name, strings.Join(known, ", "))
		}
		found = append(found, all[i])
	}
	return found, nil
}
