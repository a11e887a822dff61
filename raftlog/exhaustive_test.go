package raftlog

import (
	"fmt"
	"slices"
	"testing"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/syncrep"
)

// A search goes through everything that can happen to a cluster of n members in a few failovers, with
// the decisions and the state machine as they are in production:
//
//	reign     records of the first epoch reach any of the disks, and are acknowledged as the rule says,
//	          whatever the rule is, while it changes too
//	failover  any subset answers the seal, and whoever may be promoted then is, each of them in turn
//	reign     of the next epoch, under any rule, followed by any of the others as far as may be; it
//	          becomes steady and acknowledges, or does not
//	failover  …
//
// Whoever is promoted must have everything that was acknowledged, and keep the table; and with a witness
// among those that answer one of the others is promoted if one would be were it none. What a disk does
// after its seal, or without one while others are sealed, is covered by what it did before: positions
// only grow.
//
// Worlds that differ in the names of the members alone are visited once.
type search struct {
	n         int
	failovers int
	mutant    mutant
	zones     string          // a letter for each member: the zone it is in; "" if there are none
	witness   int             // the member that keeps no table; -1: none
	seen      [8]map[key]bool // by step
	decisions int
	promoted  int
	lost      string // a promotion that lost something
}

// TestEveryFailover is the claim: nothing acknowledged is ever lost.
func TestEveryFailover(t *testing.T) {
	slow.Test(t)
	for _, c := range []struct {
		n, failovers int
		noMajority   bool   // by the rules alone, which stands for larger clusters
		zones        string // rules ask for all numbers of them
		witness      bool   // the last one is
	}{
		{1, 2, false, "", false}, {2, 3, false, "", false}, {2, 3, true, "", false}, {3, 2, false, "", false}, {3, 3, true, "", false},
		{4, 2, false, "", false}, {4, 2, true, "", false}, {5, 2, false, "", false},
		{3, 2, true, "aab", false}, {3, 2, true, "abc", false}, {4, 2, true, "aabb", false}, {4, 1, true, "abbc", false}, {5, 1, true, "aabbc", false},
		{3, 2, false, "", true}, {3, 2, true, "", true}, {4, 2, false, "", true},
	} {
		t.Run(fmt.Sprintf("%d members, zones %q, majority needed %v, witness %v", c.n, c.zones, !c.noMajority, c.witness), func(t *testing.T) {
			t.Parallel()
			s := newSearch(c.n, c.failovers, mutant{noMajority: c.noMajority})
			s.zones = c.zones
			if c.witness {
				s.witness = c.n - 1
			}
			s.run()
			if s.lost != "" {
				t.Fatal(s.lost)
			}
			t.Logf("%d decisions, %d promotions", s.decisions, s.promoted)
			if s.promoted == 0 && c.failovers > 1 {
				t.Error("nobody was ever promoted")
			}
		})
	}
}

func newSearch(n, failovers int, m mutant) *search {
	s := &search{n: n, failovers: failovers, mutant: m, witness: -1}
	for i := range s.seen {
		s.seen[i] = make(map[key]bool)
	}
	return s
}

// fresh reports whether a world has not been at a step before. When something was lost, none is.
func (s *search) fresh(step int, w *world) bool {
	k := w.key(s.n)
	if s.lost != "" || s.seen[step][k] {
		return false
	}
	s.seen[step][k] = true
	return true
}

// run begins with every rule and every pair of rules, up to the names of the members. Member A is the
// first primary; of the others a rule lists the first ones.
func (s *search) run() {
	others := 1<<s.n - 2
	for older := 0; older <= others; older += 2 {
		for newer := 0; newer <= others; newer += 2 {
			if s.tidy(older, newer) {
				if s.n == maxDisks && s.zones != "" && newer != 0 {
					continue // likewise
				}
				s.eachK(older, 0, func(r syncrep.Resolved) {
					s.eachK(newer, 0, func(next syncrep.Resolved) { s.firstReign(r, &next) })
				})
			}
		}
	}
	receivers := 1
	if s.n == maxDisks {
		receivers = 0 // they double the time
	}
	for listed := 0; listed <= others; listed += 2 {
		for receivers := range receivers + 1 {
			if s.tidy(listed, 0) {
				s.eachK(listed, receivers, func(r syncrep.Resolved) { s.firstReign(r, nil) })
			}
		}
	}
}

// tidy reports whether the members of each zone come in the order: listed by both rules, by the older,
// the newer, none. Every pair of rules can be renamed to be so. No other is like the witness.
func (s *search) tidy(older, newer int) bool {
	last := make(map[string]int)
	for i := 1; i < s.n; i++ {
		if i == s.witness {
			continue
		}
		class, zone := older>>i&1<<1|newer>>i&1, zoneIn(s.zones, i)
		if before, ok := last[zone]; ok && class > before {
			return false
		}
		last[zone] = class
	}
	return true
}

// eachK yields the rules that list a set of members and so many receivers: one for each number of them,
// and of zones if there are any; the empty rule if nobody is listed.
func (s *search) eachK(set, receivers int, yield func(syncrep.Resolved)) {
	r := syncrep.Resolved{Listed: make([]syncrep.Listed, receivers)}
	zones := make(map[string]bool)
	for i := range s.n {
		if set>>i&1 == 1 {
			r.Listed = append(r.Listed, s.listed(diskID(i)))
			zones[zoneIn(s.zones, i)] = true
		}
	}
	most := 0
	if s.zones != "" {
		most = len(zones) + receivers
	}
	for r.K = min(1, len(r.Listed)); r.K <= len(r.Listed); r.K++ {
		for r.Zones = 0; r.Zones <= min(r.K, most); r.Zones++ {
			if r.Zones != 1 { // which is as good as none
				yield(r)
			}
		}
	}
}

// listed is how a rule lists a disk.
func (s *search) listed(id syncrep.ID) syncrep.Listed {
	i := int(id.Node) - 1
	return syncrep.Listed{ID: id, Name: diskName(i), Zone: zoneIn(s.zones, i), Witness: i == s.witness}
}

// founded is the state of a cluster in its first epoch.
func (s *search) founded(rule syncrep.Resolved) *State {
	st := &State{
		Epoch: 1, Phase: Steady, SteadyEpoch: 1, SteadyPrimary: diskID(0), Primary: Office{ID: diskID(0), Name: "A", RunID: 1},
		Rule: Rule{Version: 1, Resolved: rule}, History: []Reign{{Epoch: 1, Timeline: 1, Steady: true, Primary: "A"}},
	}
	for i := range s.n {
		st.Members = append(st.Members, Member{
			Name: diskName(i), ID: diskID(i), RaftID: diskName(i), Zone: zoneIn(s.zones, i), Priority: 1, Voter: true, Counted: true,
			Witness: i == s.witness,
		})
	}
	return st
}

// firstReign is the first epoch: under one rule, or while it changes to another one, at each moment of
// that: Raft has both and the primary has not heard of it; it has; Raft has the new one alone.
func (s *search) firstReign(rule syncrep.Resolved, next *syncrep.Resolved) {
	st := s.founded(rule)
	old := s.mutant.rules(st)
	if next == nil {
		s.spread(st, 2, old)
		return
	}
	var counted []syncrep.ID
	for i := range s.n {
		counted = append(counted, diskID(i))
	}
	if s.mutant.oneStep {
		st.Rule = Rule{Version: 2, Resolved: *next}
		s.spread(st, 1, old)
		return
	}
	joint := s.apply(st, &RuleBegin{Epoch: 1, Version: 1, Rule: Rule{Resolved: *next}, Counted: counted})
	s.spread(joint, 1, old)
	s.spread(joint, 1, s.mutant.rules(joint))
	s.spread(s.apply(joint, &RuleEnd{Epoch: 1, Version: 2}), 1, s.mutant.rules(joint))
}

// spread has so many records reach the disks, each any number of them, acknowledges what the rules
// allow, and goes on with a disk lost, each in turn, and with none.
func (s *search) spread(st *State, records int, rules []syncrep.Resolved) {
	w := &world{state: st, zones: s.zones, wiped: -1}
	var whole journal
	for range records {
		whole = whole.add(1)
	}
	var from func(i int)
	from = func(i int) {
		if i < s.n {
			for n := 0; n <= records; n++ {
				w.disks[i] = whole.prefix(n)
				from(i + 1)
			}
			return
		}
		w.acked = w.released(0, whole, rules)
		if !s.fresh(0, w) {
			return
		}
		s.failover(w, s.failovers)
		for i := range s.n {
			if s.n > 3 && (st.Joint != nil || s.zones != "" || s.witness >= 0) {
				break // the search would take minutes
			}
			s.failover(s.wipe(w, i), s.failovers)
		}
	}
	from(0)
}

// wipe replaces disk i by an empty one, which joins in place of the old one.
func (s *search) wipe(w *world, i int) *world {
	next := *w
	next.wiped, next.disks[i] = int8(i), 0
	m, _ := w.state.Member(diskID(i))
	old := m.ID
	m.ID.Incarnation, m.RaftID = 2, m.RaftID+"2"
	next.state = s.apply(w.state, &Join{Member: m, Replaces: old})
	return &next
}

// apply has the state machine carry a command out that it must take.
func (s *search) apply(st *State, c Command) *State {
	next, err := st.Apply(st.Index+1, c)
	if err != nil {
		panic(fmt.Sprintf("%T: %v", c, err))
	}
	return next
}

// failover seals every subset and promotes whom it may, and has left failovers to go.
func (s *search) failover(w *world, left int) {
	lacking := slices.ContainsFunc(w.disks[:s.n], func(j journal) bool { return !j.has(w.acked) })
	if left == 1 && !lacking || !s.fresh(2*left-1, w) {
		return // nobody could be a wrong choice, or it is known
	}
	sealing := s.apply(w.state, &Seal{Epoch: w.state.Epoch, Target: w.state.Epoch + 1})
	like := s.likes(w)
	before := make(map[[2]int]bool)
	for set := 1; set < 1<<s.n && s.lost == ""; set++ {
		if !firstOfLikes(set, like) {
			continue
		}
		var answers []Answer
		for i := range s.n {
			if set>>i&1 == 1 {
				answers = append(answers, Answer{
					ID: w.id(i), Name: diskName(i), RunID: 1, Promised: sealing.Target, Position: w.disks[i].position(), Priority: 1,
				})
			}
		}
		s.check(w, sealing, answers)
		for i := range s.n {
			if set>>i&1 == 1 && like[i] < 0 && left > 1 && !s.choose(w, sealing, answers, diskName(i), left, before) {
				break
			}
		}
	}
}

// likes returns for each disk the one before it that differs from it in name alone, or -1.
func (s *search) likes(w *world) (like [maxDisks]int) {
	for i := range s.n {
		like[i] = -1
		for j := range i {
			if w.trait(j) == w.trait(i) {
				like[i] = j
			}
		}
	}
	return like
}

// firstOfLikes reports whether a set takes those that differ in name alone in their order.
func firstOfLikes(set int, like [maxDisks]int) bool {
	for i, l := range like {
		if set>>i&1 == 1 && l >= 0 && set>>l&1 == 0 {
			return false
		}
	}
	return true
}

// check has the state machine judge, as they stand, the candidates that must not be taken: those that
// lack something, of those with the same log one; and the witness.
func (s *search) check(w *world, sealing *State, answers []Answer) {
	var judged [maxDisks]journal
	for i, a := range answers {
		log := w.disks[a.ID.Node-1]
		if int(a.ID.Node)-1 == s.witness {
			judged[i] = unjudged
		} else if judged[i] = log; log.has(w.acked) || slices.Contains(judged[:i], log) {
			continue
		}
		s.decisions++
		err := s.mutant.check(sealing, answers, i)
		if _, refused := err.(*Refusal); refused {
			return // whoever it is
		}
		if err == nil {
			s.lost = fmt.Sprintf("%s may be promoted by the answers of %s: %s", a.Name, names(answers), w)
		}
	}
}

// choose promotes whom the coordinator would, given a preference, and reports whether it would anybody.
// Before says which winners have been promoted in this world, each with which log.
func (s *search) choose(w *world, sealing *State, answers []Answer, prefer string, left int, before map[[2]int]bool) bool {
	s.decisions++
	choice, err := s.mutant.choose(sealing, answers, prefer)
	if err != nil {
		s.stuck(w, sealing, answers)
		return false
	}
	winner, source := int(choice.Winner.ID.Node)-1, int(choice.Source.ID.Node)-1
	next := *w
	next.disks[winner] = w.disks[source]
	if !next.disks[winner].has(w.acked) || winner == s.witness {
		s.lost = fmt.Sprintf("%s is promoted by the answers of %s: %s", choice.Winner.Name, names(answers), w)
		return false
	}
	outcome := [2]int{winner, int(next.disks[winner])}
	if before[outcome] {
		return true
	}
	before[outcome] = true
	fetched := choice.Winner
	fetched.ID, fetched.Position = w.id(winner), next.disks[winner].position()
	next.state = s.apply(sealing, s.mutant.promotion(sealing, append(answers, fetched), choice))
	s.promoted++
	s.nextReign(&next, left-1)
	return true
}

// stuck has nobody be promoted because one of them is a witness, unless it alone has answered: the
// others fetch what it has.
func (s *search) stuck(w *world, sealing *State, answers []Answer) {
	if s.witness < 0 || !slices.ContainsFunc(answers, func(a Answer) bool { return int(a.ID.Node)-1 != s.witness }) {
		return
	}
	peer := sealing.clone()
	for i := range peer.Members {
		peer.Members[i].Witness = false
	}
	if choice, err := s.mutant.choose(peer, answers, ""); err == nil {
		s.lost = fmt.Sprintf("nobody is promoted by the answers of %s, and %s would be were none of them a witness: %s", names(answers), choice.Winner.Name, w)
	}
}

func names(answers []Answer) (all string) {
	for _, a := range answers {
		all += a.Name
	}
	return all
}
