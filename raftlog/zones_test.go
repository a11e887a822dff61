package raftlog

import (
	"math/bits"
	"testing"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// Aurora's arithmetic, and any other: six members in three zones, every rule, every set that acknowledges
// by it, every set that is sealed. Whoever acknowledged has one among those by which somebody is promoted;
// and if nobody is because of the rule, there is a set that acknowledged and has none among them: the
// rule does not ask for more answers than it must.
func TestSealsMeetAcknowledgements(t *testing.T) {
	slow.Test(t)
	const zones, others = "abcabc", 1<<6 - 2 // A is the primary, in zone a
	s := newSearch(len(zones), 1, mutant{})
	s.zones = zones
	rules := 0
	for listed := 0; listed <= others; listed += 2 {
		if !s.tidy(listed, 0) {
			continue
		}
		for receivers := range 2 {
			s.eachK(listed, receivers, func(r syncrep.Resolved) {
				rules++
				acking := acknowledging(r)
				for set := 0; set <= others; set += 2 {
					st := s.founded(r)
					st.Phase, st.Target = Sealing, 2
					may := covered(st, st.Rule, answersOf(set))
					misses := false
					for _, acks := range acking {
						misses = misses || acks&set == 0
					}
					if may == misses {
						t.Fatalf("rule %s: %06b sealed: may promote %v; a set that acknowledges misses it: %v", resolvedText(r), set, may, misses)
					}
				}
			})
		}
	}
	t.Logf("%d rules", rules)
}

// acknowledging returns the sets of members that let a commit go, by the arithmetic that lets it go.
// Receivers have everything at once.
func acknowledging(r syncrep.Resolved) (sets []int) {
	for set := 0; set < 1<<6; set++ {
		var standbys []syncrep.Standby
		for _, l := range r.Listed {
			if l.ID.IsZero() || set>>(l.ID.Node-1)&1 == 1 {
				standbys = append(standbys, syncrep.Standby{
					Name: l.Name, ID: l.ID, State: syncrep.Streaming, Write: 9, Flush: 9, Apply: 9,
				})
			}
		}
		if _, released := syncrep.Evaluate(syncrep.Rule{}, []syncrep.Resolved{r}, standbys); released.Flush >= wal.LSN(9) {
			sets = append(sets, set)
		}
	}
	return sets
}

func answersOf(set int) (answers []Answer) {
	for i := range bits.Len(uint(set)) {
		if set>>i&1 == 1 {
			answers = append(answers, Answer{ID: diskID(i), Name: diskName(i), Promised: 2, Priority: 1})
		}
	}
	return answers
}

// Six in three zones under ANY 3 (*) ZONES 2. Without any zone, somebody is the primary and commits go on.
// Without a zone and one more, whatever was acknowledged is on somebody who is left, and nobody writes.
func TestAurora(t *testing.T) {
	const all = 1<<6 - 1
	s := newSearch(6, 1, mutant{})
	s.zones = "aabbcc"
	st := s.founded(syncrep.Resolved{})
	st.Rule.Resolved = auroraRule(t, st, diskID(0))
	sealing := s.apply(st, &Seal{Epoch: 1, Target: 2})
	for zone := range 3 {
		left := all &^ (3 << (2 * zone))
		primary := diskID(0)
		if left&1 == 0 {
			c, err := Choose(sealing, answersOf(left), "")
			if err != nil {
				t.Fatalf("zone %d lost: %v", zone, err)
			}
			primary = c.Winner.ID
		}
		if !writes(t, st, left, primary) {
			t.Errorf("zone %d lost: commits wait", zone)
		}
		for one := range 6 {
			rest := left &^ (1 << one)
			if rest == left {
				continue
			}
			for _, acks := range acknowledging(st.Rule.Resolved) {
				if (acks|1)&rest == 0 {
					t.Errorf("zone %d and %s lost: what %06b acknowledged is gone", zone, diskName(one), acks)
				}
			}
			if c, err := Choose(sealing, answersOf(rest), ""); err == nil {
				t.Errorf("zone %d and %s lost: %s is promoted by the rest", zone, diskName(one), c.Winner.Name)
			}
			if rest&1 == 1 && writes(t, st, rest, diskID(0)) {
				t.Errorf("zone %d and %s lost: commits go on", zone, diskName(one))
			}
		}
	}
}

func auroraRule(t *testing.T, st *State, primary syncrep.ID) syncrep.Resolved {
	r, err := Resolve("ANY 3 (*) ZONES 2", primary, st.Members, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// writes reports whether a primary can acknowledge, with those who are alive.
func writes(t *testing.T, st *State, alive int, primary syncrep.ID) bool {
	reign := *st
	reign.Rule.Resolved = auroraRule(t, st, primary)
	var reports []Report
	for _, a := range answersOf(alive) {
		reports = append(reports, Report{ID: a.ID, Name: a.Name, Alive: true, Streaming: true})
	}
	return acknowledges(&reign, reports)
}
