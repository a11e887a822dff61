package election

import (
	"os"
	"testing"
)

// A coreChoice is something that may happen next: several events that nothing is likely to come between.
type coreChoice []coreEvent

// choices are what can happen to a small cluster.
func choices(members int) (all []coreChoice) {
	for a := range members {
		all = append(all,
			coreChoice{{actHear, a, 0, 0}, {actTurn, a, 0, 0}},
			coreChoice{{actHear, a, 0, 0}, {actLook, a, 0, answered}},
			coreChoice{{actWrite, a, 0, 0}},
			coreChoice{{actFlush, a, 0, 0}},
			coreChoice{{actStream, a, 0, 2}},
			coreChoice{{actStream, a, 1, 2}},
			coreChoice{{actDeliver, a, 0, 0}},
			coreChoice{{actCrash, a, 0, 0}, {actStart, a, 0, 0}},
		)
	}
	for set := 1; set < 1<<members; set++ {
		leader := 0
		for set>>leader&1 == 0 {
			leader++
		}
		round := coreChoice{{actHear, leader, 0, 0}, {actSuspect, leader, 0, answered}}
		for m := range members {
			if set>>m&1 == 1 {
				round = append(round, coreEvent{actAsk, leader, m, 0})
			}
		}
		all = append(all, append(round, coreEvent{actDecide, leader, 0, answered}))
	}
	return append(all, coreChoice{{actPass, 0, 0, 1000}}, coreChoice{{actSet, 0, 0, 7}})
}

// An explorer goes through everything that can happen to a cluster in so many choices, breadth first: a schedule that
// fails is a shortest one. A cluster that is like one that was seen before is not followed again.
type explorer struct {
	cfg    coreConfig
	begin  []coreEvent // what has happened before
	seen   map[uint64]bool
	steps  int
	failed []coreEvent
}

func (x *explorer) run(depth int) {
	all := choices(x.cfg.members)
	edge := [][]coreEvent{x.begin}
	for range depth {
		var next [][]coreEvent
		for _, path := range edge {
			for _, choice := range all {
				events := append(path[:len(path):len(path)], choice...)
				x.steps++
				c := runCore(x.cfg, events, false, false)
				if c.wrong != "" {
					x.failed = events
					return
				}
				if key := c.fingerprint(); !x.seen[key] {
					x.seen[key] = true
					next = append(next, events)
				}
			}
		}
		edge = next
	}
}

// morning is the beginning of a day: everybody follows the first primary, and a record is acknowledged.
func morning(members int) (events []coreEvent) {
	events = append(events, coreEvent{actLook, 0, 0, answered}, coreEvent{actWrite, 0, 0, 0}, coreEvent{actFlush, 0, 0, 0})
	for a := 1; a < members; a++ {
		events = append(events, coreEvent{actStream, a, 0, 2})
	}
	return events
}

// TestCoreExhaustively is the claim for small clusters and a few choices, in every order.
func TestCoreExhaustively(t *testing.T) {
	deeper := 0
	switch {
	case os.Getenv("LONGSHIP_SOAK") != "":
		deeper = 1
	case testing.Short():
		deeper = -1
	}
	for _, tt := range []struct {
		cfg   coreConfig
		depth int
		begin []coreEvent
	}{
		{coreConfig{members: 2, text: "ANY 1 (*)"}, 4, nil},
		{coreConfig{members: 3, text: "ANY MAJORITY (*)"}, 3, nil},
		{coreConfig{members: 3, text: "ANY 1 (n2)"}, 3, morning(3)},
	} {
		x := &explorer{cfg: tt.cfg, begin: tt.begin, seen: make(map[uint64]bool)}
		coreBubble(t, func() {
			x.run(tt.depth + deeper)
			if x.failed != nil {
				t.Errorf("%s", explain(tt.cfg, x.failed, false, nil))
			}
		})
		t.Logf("%d members, %q: %d clusters in %d steps, all of %d choices deep", tt.cfg.members, tt.cfg.text, len(x.seen), x.steps, tt.depth+deeper)
		if len(x.seen) < 500 && deeper >= 0 {
			t.Errorf("only %d clusters were met", len(x.seen))
		}
	}
}
