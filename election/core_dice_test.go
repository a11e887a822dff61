package election

import "math/rand/v2"

// A coreDice makes schedules.
type coreDice struct {
	*rand.Rand
	nodes  int
	deaf   map[int]bool // hear nothing and do nothing on their own for a while, but go on with what they were doing
	events []coreEvent
}

func (d *coreDice) add(act coreAct, a, b, n int) {
	d.events = append(d.events, coreEvent{act, a, b, n})
}

// schedule is a seed's: quiet stretches, in which a cluster gets on with its work, failovers, and all else that can
// happen to it.
func schedule(r *rand.Rand, nodes, steps int) []coreEvent {
	d := &coreDice{Rand: r, nodes: nodes, deaf: make(map[int]bool)}
	d.quiet()
	storm := r.IntN(3) // how much there is at once: without peace nothing that takes its time ever ends
	for range steps {
		switch n := r.IntN(12); {
		case n < 6-2*storm:
			d.quiet()
		case n < 6:
			d.failover()
		case n == 6 && r.IntN(2) == 0:
			d.change()
		default:
			d.trouble()
		}
	}
	return d.events
}

// change is a change of the rule, during which anything may happen, for as long as it takes to give it up.
func (d *coreDice) change() {
	d.add(actSet, 0, 0, d.IntN(len(texts)))
	for range 2 { // it is wanted for a while before it begins
		d.quiet()
		d.add(actPass, 0, 0, 600)
	}
	if d.IntN(3) > 0 {
		d.crash(d.any())
		d.add(actPart, d.any(), 1, 0)
	}
	if d.IntN(3) == 0 {
		d.failover()
		d.round()
		d.round()
		return
	}
	for range 3 {
		d.quiet()
		d.add(actPass, 0, 0, 2000)
	}
}

func (d *coreDice) any() int { return d.IntN(d.nodes) }

// outcome is mostly an answer.
func (d *coreDice) outcome() int { return max(0, d.IntN(outcomes+6)-6) }

// often is 1 once in so many times, 0 otherwise.
func (d *coreDice) often(times int) int {
	if d.IntN(times) == 0 {
		return 1
	}
	return 0
}

// quiet is what a cluster does all day, each node when it comes to it.
func (d *coreDice) quiet() {
	d.add(actPass, 0, 0, 1+d.IntN(400))
	for _, n := range d.Perm(d.nodes) {
		if !d.deaf[n] && d.IntN(6) > 0 {
			d.add(actHear, n, 0, 0)
			d.add(actTurn, n, 0, 0)
			d.add(actLook, n, 0, d.outcome())
		}
		d.add(actWrite, n, 0, d.IntN(3))
		if d.IntN(4) > 0 {
			d.add(actFlush, n, 0, 0)
		}
	}
	for _, n := range d.Perm(d.nodes) {
		if d.IntN(6) > 0 {
			d.add(actStream, n, d.often(6), 1+d.IntN(20))
		}
	}
	if d.IntN(2) == 0 {
		d.round()
	}
}

// round is a coordinator's: those it asks, in any order, and perhaps too few of them.
func (d *coreDice) round() {
	leader := d.any()
	d.add(actHear, leader, 0, 0)
	d.add(actProbe, leader, 0, 0)
	for _, m := range d.Perm(d.nodes) {
		if d.IntN(4) > 0 {
			d.add(actAsk, leader, m, 0)
		}
	}
	d.add(actDecide, leader, 0, d.outcome())
}

// failover replaces a primary that does not hear of it, and perhaps its successor before that has got anywhere.
func (d *coreDice) failover() {
	leader, old := d.any(), d.any()
	d.add(actHear, leader, 0, 0)
	d.add(actSuspect, leader, 0, 0)
	for _, m := range d.Perm(d.nodes) {
		if m != old && d.IntN(5) > 0 {
			d.add(actAsk, leader, m, 0)
		}
	}
	if d.IntN(3) == 0 {
		d.add(actStream, d.any(), d.IntN(2), 3)
		d.add(actDeliver, d.any(), 0, 0)
		d.add(actFlush, old, 0, 0)
	}
	d.add(actDecide, leader, 0, max(0, d.IntN(8)-5))
	if d.IntN(3) > 0 {
		for range 1 + d.IntN(3) {
			d.follow(old)
		}
	}
}

// follow is what those do who are not the old primary: one takes office, the others follow it, and it opens its epoch.
func (d *coreDice) follow(old int) {
	for _, m := range d.Perm(d.nodes) {
		if m == old {
			continue
		}
		d.add(actHear, m, 0, 0)
		d.add(actTurn, m, 0, 0)
		d.add(actFlush, m, 0, 0)
		d.add(actStream, m, d.often(6), 1+d.IntN(20))
		d.add(actLook, m, 0, d.outcome())
	}
	d.add(actPass, 0, 0, d.IntN(300))
}

// trouble is one thing, any one.
func (d *coreDice) trouble() {
	a, b := d.any(), d.any()
	switch d.IntN(28) {
	case 0:
		d.add(actPass, 0, 0, d.IntN(800))
	case 1:
		d.add(actPass, 0, 0, d.IntN(6000))
	case 2:
		d.add(actWrite, a, 0, d.IntN(3))
	case 3, 4, 5:
		d.add(actStream, a, d.IntN(2), d.IntN(4))
	case 6:
		d.add(actDeliver, a, 0, 0)
	case 7:
		d.add(actPart, a, d.IntN(2), 0)
	case 8, 9:
		d.add(actHear, a, 0, d.IntN(3))
		d.add(actTurn, a, 0, 0)
	case 10, 11:
		d.add(actLook, a, 0, d.outcome())
	case 12:
		d.add(actLate, 0, 0, d.IntN(8))
	case 13, 14:
		d.round()
	case 15:
		d.add(actAsk, a, b, 0)
	case 16:
		d.add(actDecide, a, 0, d.outcome())
	case 17:
		d.add(actPrefer, a, b, 0)
	case 18, 19, 20:
		d.crash(a)
	case 21:
		d.add(actStart, a, 0, 0)
	case 22:
		d.add(actCut, a, b, 0)
		if d.IntN(2) == 0 {
			d.add(actCut, b, a, 0)
		}
	case 23, 24:
		d.add(actMend, a, b-d.IntN(2)*d.nodes, 0)
	case 25:
		d.add(actSet, 0, 0, d.IntN(len(texts)))
	case 26:
		d.deaf[a] = !d.deaf[a] && len(d.deaf) < d.nodes-1
	case 27:
		d.seldom(a)
	}
}

// crash ends a process, between a write and what would follow it or not, and mostly begins another.
func (d *coreDice) crash(a int) {
	if d.IntN(2) == 0 {
		d.add(actWrite, a, 0, d.IntN(3))
		d.add(actStream, d.any(), 0, d.IntN(4))
	}
	d.add(actCrash, a, 0, d.IntN(8))
	if d.IntN(3) > 0 {
		d.add(actStart, a, 0, 0)
	}
}

// seldom is what happens once or twice in the life of a cluster.
func (d *coreDice) seldom(a int) {
	switch d.IntN(4) {
	case 0:
		d.add(actWipe, a, 0, 0)
		d.add(actStart, a, 0, 0)
	case 1:
		d.add(actLeave, a, 0, 0)
	}
}
