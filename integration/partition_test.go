package integration

import (
	"testing"
	"time"
)

// A partition is a way to cut the network among three nodes.
type partition struct {
	name    string
	cut     func(w *network, primary, a, b *node)
	alone   bool // nothing that the primary writes can be acknowledged
	stopped bool // nor can anything else, while it lasts
}

func cutOff(who func(primary, a, b *node) *node, flags []string, in, out bool) func(w *network, primary, a, b *node) {
	return func(w *network, primary, a, b *node) {
		n := who(primary, a, b)
		for _, o := range w.c.others(n) {
			if out {
				w.cut(n, o, flags)
			}
			if in {
				w.cut(o, n, flags)
			}
		}
	}
}

func thePrimary(primary, _, _ *node) *node { return primary }
func oneStandby(_, a, _ *node) *node       { return a }
func otherStandby(_, _, b *node) *node     { return b }

var partitions = []partition{
	{name: "the primary alone", cut: cutOff(thePrimary, everything, true, true), alone: true},
	{name: "one standby alone", cut: cutOff(oneStandby, everything, true, true)},
	{name: "the other standby alone", cut: cutOff(otherStandby, everything, true, true)},
	{name: "everybody alone", alone: true, stopped: true, cut: func(w *network, primary, a, b *node) {
		w.part(primary, a, everything)
		w.part(primary, b, everything)
		w.part(a, b, everything)
	}},
	{name: "the primary and one standby", cut: func(w *network, primary, a, _ *node) { w.part(primary, a, everything) }},
	{name: "the primary and the other standby", cut: func(w *network, primary, _, b *node) { w.part(primary, b, everything) }},
	{name: "the standbys", cut: func(w *network, _, a, b *node) { w.part(a, b, everything) }},
	{name: "the primary is not heard", cut: cutOff(thePrimary, everything, false, true), alone: true},
	{name: "the primary hears nothing", cut: cutOff(thePrimary, everything, true, false), alone: true},
	{name: "a standby is not heard", cut: cutOff(oneStandby, everything, false, true)},
	{name: "a standby hears nothing", cut: cutOff(oneStandby, everything, true, false)},
	{name: "the primary is not heard by one standby", cut: func(w *network, primary, a, _ *node) { w.cut(primary, a, everything) }},
	{name: "the primary does not hear one standby", cut: func(w *network, primary, a, _ *node) { w.cut(a, primary, everything) }},
	{name: "the primary's Raft alone", cut: cutOff(thePrimary, raftOnly, true, true)},
	{name: "a standby's Raft alone", cut: cutOff(oneStandby, raftOnly, true, true)},
	{name: "the other standby's Raft alone", cut: cutOff(otherStandby, raftOnly, true, true)},
	{name: "no replication from the primary", cut: cutOff(thePrimary, replication, true, true), alone: true},
	{name: "no replication to one standby", cut: func(w *network, primary, a, _ *node) { w.part(primary, a, replication) }},
	{name: "no replication, primary not heard", cut: cutOff(thePrimary, replication, false, true), alone: true},
	{name: "no replication, primary hears nothing", cut: cutOff(thePrimary, replication, true, false), alone: true},
}

// Every way to cut three nodes apart, under load: a primary that is cut off acknowledges nothing, those
// who can reach each other go on, what clients saw can have happened in one order, and once the network
// is healed all follow one primary without a hand.
func TestPartitions(t *testing.T) {
	t.Parallel()
	if !inNetwork(t) {
		return
	}
	c := newCluster(t, 3, "--failover-timeout=1s", heartbeats)
	w := &network{t: t, c: c}
	k := c.startClients("partition", 6)
	for i, p := range partitions {
		if !long && i%3 != 0 { // all of them with LONGSHIP_LONG=1
			continue
		}
		k.endure(w, p)
		if t.Failed() {
			t.FailNow()
		}
	}
	k.finish()
}

// cutLength is how long a cut lasts at least: past failover_timeout, if that is to begin something.
func cutLength() time.Duration {
	if long {
		return 5 * time.Second
	}
	return 1800 * time.Millisecond
}

// endure goes through one partition.
func (k *clientele) endure(w *network, p partition) {
	k.t.Helper()
	c := k.cluster
	k.await(20)
	primary := c.primary()
	standbys := c.others(primary)
	epoch := primary.epoch()
	idle := k.connectTo(primary, 4)
	at, began := k.now(), time.Now()
	p.cut(w, primary, standbys[0], standbys[1])
	var tr *trial
	if p.alone {
		pause(k.t.Context(), 100*time.Millisecond) // what was on its way has arrived
		tr = k.try(idle)
	}
	pause(k.t.Context(), cutLength()-time.Since(began))
	if !p.stopped {
		k.await(20)
	}
	healed := time.Now()
	w.heal()
	if tr != nil {
		tr.checkNone(primary, healed)
	}
	k.await(20)
	c.awaitStreaming()
	gap := k.gap(at)
	k.nextEra()
	k.t.Logf("%-40s no write for %v; all well %v after healing; %s", p.name, gap.Round(time.Millisecond),
		time.Since(healed).Round(time.Millisecond), c.phases(began, epoch))
}

// Without a majority of Raft nobody can become primary, and the one there is goes on: the control plane
// is not needed for writes (I10).
func TestRaftMajorityStopped(t *testing.T) {
	t.Parallel()
	if !inNetwork(t) {
		return
	}
	length := 3 * time.Second
	if long {
		length = time.Minute
	}
	c := newCluster(t, 3)
	w := &network{t: t, c: c}
	k := c.startClients("noraft", 6)
	k.await(50)
	primary, epoch, at := c.primary(), c.primary().epoch(), k.now()
	for i, a := range c.nodes {
		for _, b := range c.nodes[:i] {
			w.part(a, b, raftOnly)
		}
	}
	pause(t.Context(), length)
	if leader := c.raftLeader(); leader != nil {
		t.Errorf("%s leads Raft, and nobody can hear it", leader.name)
	}
	k.await(50)
	gap := k.gap(at)
	w.heal()
	primary.awaitThat("SELECT raft_leader FROM longship_cluster", func(s string) bool { return s != "" }, "a Raft leader")
	k.await(50)
	if now := c.primary(); now != primary || now.epoch() != epoch {
		t.Errorf("%s is primary of epoch %d, %s was of epoch %d", now.name, now.epoch(), primary.name, epoch)
	}
	t.Logf("Raft had no majority for %v: no write for at most %v", length, gap.Round(time.Millisecond))
	k.finish()
}
