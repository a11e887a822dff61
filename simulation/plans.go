package simulation

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/longship-db/longship/wal"
)

// Some states take several things in the right order, which chance alone seldom brings about. These faults watch
// what the nodes log, and strike then.

// eventTime is how long they wait for what they strike at.
const eventTime = 5 * time.Second

// heard waits for a line of a log, and returns the machine whose it is. Nil: it did not come.
func (n *nemesis) heard(ctx context.Context, who <-chan string) *machine {
	timer := time.NewTimer(eventTime)
	defer timer.Stop()
	select {
	case name := <-who:
		return n.cluster.machine(name)
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// takenOffice is in the log of a node that becomes the primary.
const takenOffice = "role primary=true"

// chase has each primary go as soon as it has taken office, a few times: there are epochs that are never steady, one
// after the other, and logs that fork in the same epoch. Each is back soon, or there would be no next one.
func (n *nemesis) chase(ctx context.Context) string {
	var list []string
	m := n.cluster.machine(n.tally.leader())
	for range 2 + n.cluster.rng.n(3) {
		if m == nil {
			break
		}
		next := n.tally.next(takenOffice)
		list = append(list, n.removeFor(m, 500*time.Millisecond+n.cluster.rng.upTo(2*time.Second)))
		m = n.heard(ctx, next)
		sleep(ctx, n.cluster.rng.upTo(30*time.Millisecond))
	}
	return strings.Join(list, ", ")
}

// removeFor takes a machine down or cuts it off for a while.
func (n *nemesis) removeFor(m *machine, away time.Duration) string {
	if n.cluster.rng.chance(60) {
		return n.downFor(m, n.cluster.rng.chance(50), away)
	}
	n.isolateFromAll(m)
	go func() {
		time.Sleep(away)
		n.cluster.network.Heal()
	}()
	return fmt.Sprintf("%s cut off for %v", m.name, away)
}

// overlap changes the rule, and has the primary go before that is done, at times with one whom the rule lists.
func (n *nemesis) overlap(ctx context.Context) string {
	begun := n.tally.next("rules in force", ruleBesideRule)
	what := n.changeRule(ctx)
	if what == "" {
		return ""
	}
	m := n.heard(ctx, begun)
	if m == nil {
		return what
	}
	sleep(ctx, n.cluster.rng.upTo(3*time.Millisecond))
	what += ", " + n.removeFor(m, n.cluster.rng.upTo(5*time.Second))
	if o := n.pick(); o != m && n.cluster.rng.chance(40) {
		what += ", " + n.downFor(o, false, n.cluster.rng.upTo(10*time.Second))
	}
	return what
}

// outrun has the log reach the one who is to be the next primary late, and the primary go.
func (n *nemesis) outrun(ctx context.Context) string {
	m := n.cluster.machine(n.tally.leader())
	if m == nil {
		return ""
	}
	var next *machine
	for _, o := range n.cluster.machines {
		if o != m && !o.witness && (next == nil || o.priority > next.priority) {
			next = o
		}
	}
	by := 200*time.Millisecond + n.cluster.rng.upTo(800*time.Millisecond)
	n.cluster.network.Slow(m.ip, next.ip, by)
	sleep(ctx, 2*time.Second+n.cluster.rng.upTo(time.Second))
	return fmt.Sprintf("%s by %v, %s", next.name, by, n.downFor(m, true, 3*time.Second+n.cluster.rng.upTo(3*time.Second)))
}

// forget cuts the primary off from the other nodes, not from clients, and has one that has promised the next epoch, not
// as the first, lose its power at once. That is back in a moment, and then it is the only node that the old primary
// reaches: what it has answered with must hold.
func (n *nemesis) forget(ctx context.Context) string {
	m := n.cluster.machine(n.tally.leader())
	if m == nil {
		return ""
	}
	defer n.heal()
	by := n.cluster.rng.upTo(20 * time.Millisecond)
	for _, o := range n.cluster.machines {
		if p := o.current(); o != m && p != nil {
			p.mount.Slow(dataDir+"/global/", by)
		}
		n.cutFrom(m, o)
	}
	const sealed = "INFO sealed"
	first := n.heard(ctx, n.tally.next(sealed))
	o := first
	for o != nil && (o == first || o == m) {
		o = n.heard(ctx, n.tally.next(sealed))
	}
	if o == nil {
		return m.name + " alone"
	}
	sleep(ctx, n.cluster.rng.upTo(3*time.Millisecond))
	what := n.downFor(o, true, n.cluster.rng.upTo(30*time.Millisecond))
	n.cluster.network.Mend(m.ip, o.ip)
	sleep(ctx, time.Second+n.cluster.rng.upTo(time.Second))
	return fmt.Sprintf("%s with %s", m.name, what)
}

// usurp cuts the primary off from the other nodes, not from clients, until another has been the primary for a while: who
// reads on the old one meanwhile must not be answered.
func (n *nemesis) usurp(ctx context.Context) string {
	m, opened := n.cluster.machine(n.tally.leader()), n.tally.next("epoch is open")
	if m == nil {
		return ""
	}
	for _, o := range n.cluster.machines {
		n.cutFrom(m, o)
	}
	next := n.heard(ctx, opened)
	if next != nil {
		sleep(ctx, time.Second+n.cluster.rng.upTo(3*time.Second))
	}
	n.heal()
	if next == nil {
		return m.name + " alone"
	}
	return m.name + " beside " + next.name
}

// strand cuts the primary and one standby off from a majority, not from clients, where that standby is all that the
// rule asks for: what they commit the others do not have, and none of those may take over.
func (n *nemesis) strand(ctx context.Context) string {
	if len(n.cluster.machines) < 5 {
		return ""
	}
	what := n.setRule(ctx, "ANY 1 (*)")
	sleep(ctx, time.Second)
	m, o := n.cluster.machine(n.tally.leader()), n.pick()
	if what == "" || m == nil || m == o {
		return what
	}
	for _, x := range n.cluster.machines {
		if x != m && x != o {
			n.cutFrom(m, x)
			n.cutFrom(o, x)
		}
	}
	sleep(ctx, 2*time.Second+n.cluster.rng.upTo(3*time.Second))
	n.heal()
	return fmt.Sprintf("%s, %s and %s", what, m.name, o.name)
}

// deny has one standby be the only one that the primary reaches, and that acknowledges, and a sync of its log fail.
// Then its power goes, and the primary: what it has acknowledged must be on its disk when it and the others choose the
// next primary.
func (n *nemesis) deny(ctx context.Context) string {
	if len(n.cluster.machines) > 3 && n.setRule(ctx, "ANY 1 (*)") == "" {
		return ""
	}
	sleep(ctx, time.Second)
	m, o := n.cluster.machine(n.tally.leader()), n.pick()
	p := o.current()
	if m == nil || m == o || p == nil {
		return ""
	}
	for _, x := range n.cluster.machines {
		if x != o {
			n.cutFrom(m, x)
		}
	}
	failed := make(chan struct{})
	p.failSync(dataDir+"/pg_wal/", func() { close(failed) })
	timer := time.NewTimer(eventTime)
	defer timer.Stop()
	select {
	case <-failed:
	case <-timer.C:
		n.heal()
		return o.name + " alone"
	}
	sleep(ctx, n.cluster.rng.upTo(20*time.Millisecond))
	what := n.powerOff(o, n.cluster.rng.upTo(30*time.Millisecond))
	what += ", " + n.downFor(m, false, 3*time.Second+n.cluster.rng.upTo(3*time.Second))
	n.heal()
	return what
}

// farBehind makes sense where slots do not keep what their members need.
var farBehind = fault{"one far behind", (*nemesis).leaveBehind}

// leaveBehind has a member be away until the log that it needs next is gone. It comes back to take a new base copy, in
// the middle of which it or another may go; or the primary has lost its disk by then, and there is no other that its
// successor's epoch can be opened with.
func (n *nemesis) leaveBehind(ctx context.Context) string {
	mayLose := n.expendable(ctx)
	m, primary := n.pick(), n.cluster.machine(n.tally.leader())
	if primary == nil || m == primary {
		return ""
	}
	gone := n.tally.next(fmt.Sprintf("invalidating slot %q", m.name))
	if !m.kill(n.cluster.rng.chance(50)) {
		return ""
	}
	defer m.start()
	for waited := time.Duration(0); waited < 4*eventTime; waited += eventTime {
		if n.heard(ctx, gone) != nil {
			break
		}
	}
	what := m.name
	struck := n.tally.next("taking a new base copy")
	if mayLose && n.cluster.rng.chance(50) && primary.kill(true) {
		n.sound = false
		primary.replaceDisk()
		what += ", and the disk of " + primary.name + " lost"
		struck = n.tally.next(takenOffice)
		go func() {
			time.Sleep(n.cluster.rng.upTo(20 * time.Second))
			primary.start()
		}()
	}
	go func() {
		if o := n.heard(ctx, struck); o != nil {
			sleep(ctx, n.cluster.rng.upTo(100*time.Millisecond))
			if n.cluster.rng.chance(50) {
				o = n.someone()
			}
			n.cluster.trace.add("!", "then "+n.down(o, n.cluster.rng.chance(50)))
		}
	}()
	return what
}

// remove has the cluster do without a member. That is restarted: it finds out, and comes back with an empty disk. If it
// is not known whether it was removed, it may find out later.
func (n *nemesis) remove(ctx context.Context) string {
	m := n.pick()
	if m.name == n.tally.leader() || !n.expendable(ctx) {
		return ""
	}
	n.sound = false
	m.removed.Store(true)
	n.order(ctx, fmt.Sprintf("SELECT longship_remove_member('%s')", m.name))
	return n.downFor(m, true, n.cluster.rng.upTo(3*time.Second))
}

// rot changes a bit of the log of a node that runs, in the segment that is being written. That node becomes the primary,
// and another one, whose disk is lost, needs that part of the log.
func (n *nemesis) rot(ctx context.Context) string {
	m := n.pick()
	if m.witness || !n.expendable(ctx) {
		return ""
	}
	what := n.flipAt(m, func(l diskLog) (from, to wal.LSN) {
		return l.dir.Format.SegmentSize.SegmentStart(l.control.Durable), l.control.Durable
	})
	if what == "" {
		return ""
	}
	if m.name != n.tally.leader() {
		next := n.tally.next(takenOffice)
		n.order(ctx, fmt.Sprintf("SELECT longship_switchover('%s')", m.name))
		n.heard(ctx, next)
	}
	if o := n.pick(); o != m && n.expendable(ctx) {
		what += ", " + n.wipeOne(o)
	}
	return what
}
