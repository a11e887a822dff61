package raftlog

import (
	"fmt"
	"slices"
	"testing"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A rot is one record of one standby's log that cannot be read any more.
type rot struct {
	disk    int
	hole    int  // records before it
	lacking bool // its own recovery reads there; otherwise its table has what was committed there, if it keeps one
	barred  bool // that member is never promoted
}

// A doubt says whether a standby acknowledges its log up to the hole only.
type doubt func(*world, int, rot) bool

// asBuilt is what reign.vital of package node is for. Whoever is never promoted must be able to hand on what it
// acknowledges, to whoever may be and lacks it.
func asBuilt(w *world, n int, r rot) bool {
	return r.lacking || r.barred && slices.ContainsFunc(w.disks[1:n], func(j journal) bool { return j.len() <= r.hole })
}

// TestDamageTakesNothing goes through what can be of a log that is damaged on one of the standbys, and is known to be,
// when a record is acknowledged: whatever failover proves enough then, somebody in it can be promoted who has that
// record, or can read it from one who has. And without a clause of asBuilt that is not so.
func TestDamageTakesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		doubt doubt
		lost  bool
	}{
		{"as built", asBuilt, false},
		{"what its own recovery reads counts", func(w *world, n int, r rot) bool { return !r.lacking && asBuilt(w, n, r) }, true},
		{"who is never promoted hands nothing on", func(_ *world, _ int, r rot) bool { return r.lacking }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 3; n <= 4; n++ {
				for _, noMajority := range []bool{false, true} {
					s := newSearch(n, 1, mutant{noMajority: noMajority})
					s.eachRot(func(w *world, r rot) {
						if s.lost == "" {
							s.lost = s.acrossRot(w, r, c.doubt)
						}
					})
					if c.lost != (s.lost != "") {
						t.Errorf("%d members, majority needed %v: lost %q", n, !noMajority, s.lost)
					}
					t.Log(s.decisions, s.lost)
				}
			}
		})
	}
}

// eachRot yields logs of up to two records under each rule, with each record of each standby damaged.
func (s *search) eachRot(yield func(*world, rot)) {
	whole := journal(0).add(1).add(1)
	w := &world{wiped: -1}
	var from func(i int)
	from = func(i int) {
		if i < s.n {
			for records := range whole.len() + 1 {
				w.disks[i] = whole.prefix(records)
				from(i + 1)
			}
			return
		}
		for disk := 1; disk < s.n; disk++ {
			for hole := range w.disks[disk].len() {
				for kind := range 4 {
					yield(w, rot{disk, hole, kind&1 != 0, kind&2 != 0})
				}
			}
		}
	}
	for listed := 0; listed < 1<<s.n; listed += 2 {
		s.eachK(listed, 0, func(r syncrep.Resolved) {
			w.state = s.founded(r)
			from(0)
		})
	}
}

// acrossRot acknowledges what the rule allows, has every subset answer a seal, and says what is lost by that.
func (s *search) acrossRot(w *world, r rot, doubts doubt) (lost string) {
	counted := *w
	if doubts(w, s.n, r) {
		counted.disks[r.disk] = w.disks[r.disk].prefix(r.hole)
	}
	w.acked = counted.released(0, w.disks[0], Rules(w.state))
	sealing := s.apply(w.state, &Seal{Epoch: 1, Target: 2})
	for set := 1; set < 1<<s.n; set++ {
		view, answers := s.mutant.view(sealing, w.answers(s.n, set, r), -1)
		proven, err := provenSet(view, answers)
		if err != nil || !slices.ContainsFunc(electable(view, proven), func(a Answer) bool { return a.ID != diskID(r.disk) }) {
			continue // no failover, or it waits for somebody who can be promoted
		}
		s.decisions++
		if !slices.ContainsFunc(candidates(view, proven), func(a Answer) bool { return w.obtains(a, proven, r) }) {
			return fmt.Sprintf("nobody of %s can have what was acknowledged, with %+v: %s", names(answers), r, w)
		}
	}
	return ""
}

// answers are those of a set of members.
func (w *world) answers(n, set int, r rot) (answers []Answer) {
	for i := range n {
		a := Answer{ID: diskID(i), Name: diskName(i), RunID: 1, Promised: 2, Position: w.disks[i].position(), Priority: 1}
		if i == r.disk {
			a.Damaged, a.Lacking = wal.LSN(r.hole+1), r.lacking
			if r.barred {
				a.Priority = 0
			}
		}
		if set>>i&1 == 1 {
			answers = append(answers, a)
		}
	}
	return answers
}

// obtains reports whether a candidate has what was acknowledged, or can read it from one that answered: from behind
// its own end on.
func (w *world) obtains(candidate Answer, answers []Answer, r rot) bool {
	own := w.disks[candidate.ID.Node-1]
	return own.has(w.acked) || slices.ContainsFunc(answers, func(a Answer) bool {
		readable := a.ID != diskID(r.disk) || r.hole < own.len() || r.hole >= w.acked.len()
		return readable && w.disks[a.ID.Node-1].has(w.acked)
	})
}
