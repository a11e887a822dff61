package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/longship-db/longship/internal/history"
)

const (
	bootTime    = 2 * time.Minute // for a new cluster to be whole
	calmTime    = 3 * time.Second // after the trouble, before that is looked at
	healTime    = 3 * time.Minute // for it to be whole again, once there is no more trouble
	commitTime  = time.Minute     // and for each client to commit then
	readingTime = 2 * time.Second // for which clients go on before that is looked at
)

// A Result is what a run has found.
type Result struct {
	Seed      uint64
	Nodes     int
	Simulated time.Duration
	Failures  []string // empty: all was as it must be
	Committed int
	Unknown   int
	Stale     int // transactions read elsewhere
	Counts    Counts
	Trace     []string // what happened, in order
}

// A plan is what a seed makes of a run.
type plan struct {
	nodes, clients int
	fill           bool          // another client writes large rows
	fillPause      time.Duration // between two of them, at most
	trouble        time.Duration
	pause          time.Duration // of the clients, on average
	faultPause     time.Duration // between faults, at most
	kinds          []fault
	priorities     []int // of the nodes: who is rather the primary
	witness        bool  // the last node is one
	settings       map[string]string
}

// newPlan chooses. Each run has some kinds of faults and lacks others: rare states need room.
func newPlan(rng *source) plan {
	p := plan{
		nodes:      []int{3, 3, 3, 3, 3, 4, 5, 5, 5, 7}[rng.n(10)],
		clients:    2 + rng.n(4),
		fill:       rng.chance(50),
		fillPause:  2 * time.Second,
		trouble:    20*time.Second + rng.upTo(60*time.Second),
		pause:      []time.Duration{100, 200, 300, 500, 1000}[rng.n(5)] * time.Millisecond,
		faultPause: []time.Duration{1, 3, 6, 10}[rng.n(4)] * time.Second,
		settings: map[string]string{
			"max_wal_size": "2MB", "min_wal_size": "2MB", "checkpoint_timeout": "30s",
			"wal_retrieve_retry_interval": "500ms", "wal_keep_size": "1GB",
		},
	}
	same := rng.chance(50)
	for range p.nodes {
		priority := 100
		if !same && rng.chance(50) {
			priority = 50
		}
		p.priorities = append(p.priorities, priority)
	}
	p.witness = rng.chance(20)
	for _, f := range faults {
		if rng.chance(40) {
			p.kinds = append(p.kinds, f)
		}
	}
	if len(p.kinds) == 0 {
		p.kinds = faults
	}
	for _, s := range [][]string{
		{"wal_keep_size", "0"}, {"commit_delay", "5000"}, {"commit_siblings", "0"}, {"wal_buffers", "32kB"},
		{"wal_receiver_timeout", "3s"}, {"wal_sender_timeout", "3s"}, {"wal_receiver_status_interval", "1s"},
		{"failover_timeout", "500ms"}, {"heartbeat_interval", "100ms"}, {"disk_watchdog_timeout", "2s"},
		{"wal_retrieve_retry_interval", "50ms"}, {"checkpoint_timeout", "300s"},
	} {
		if rng.chance(25) {
			p.settings[s[0]] = s[1]
		}
	}
	if rng.chance(15) { // segments come and go fast
		p.fill, p.fillPause = true, 200*time.Millisecond
		if !p.witness { // which has to keep what the others need, should it have the only log that is left
			p.settings["wal_keep_size"], p.settings["max_slot_wal_keep_size"] = "0", "1"
			p.kinds = append(p.kinds, farBehind, farBehind)
		}
	}
	return p
}

// Run simulates what a seed stands for, or a short version of that. It is called in a bubble of
// testing/synctest, in a process of its own: what its nodes leave running when they end in the middle of
// something goes with that.
func Run(seed uint64, short bool, level slog.Level) Result {
	rng := newSource(seed, 0)
	p := newPlan(rng)
	if short {
		p.trouble, p.faultPause = p.trouble/4, p.faultPause/2
	}
	t := newTrace(level)
	c := newCluster(p.nodes, rng, t, p.settings)
	for i, m := range c.machines {
		m.priority = p.priorities[i]
	}
	c.machines[p.nodes-1].witness = p.witness
	r := &run{plan: p, cluster: c, trace: t, admin: c.network.Boot("127.0.2.1")}
	r.work = &workload{cluster: c, pause: p.pause, gen: history.Generator{Keys: 4, MaxOps: 3, Rounds: 100}}
	t.add("-", fmt.Sprintf("%d nodes, priorities %v, witness %v, %d clients, %v of trouble of %d kinds, settings %v",
		p.nodes, p.priorities, p.witness, p.clients, p.trouble, len(p.kinds), p.settings))
	r.live()
	result := Result{
		Seed: seed, Nodes: p.nodes, Simulated: time.Since(t.began),
		Failures: t.failures, Counts: t.tally.counts, Trace: t.lines,
	}
	for _, x := range r.work.recorder.Txns() {
		switch {
		case x.Stale:
			result.Stale++
		case x.Outcome == history.Committed:
			result.Committed++
		case x.Outcome == history.Unknown:
			result.Unknown++
		}
	}
	return result
}

// A run is a simulation under way.
type run struct {
	plan    plan
	cluster *cluster
	trace   *trace
	work    *workload
	admin   *Host
}

func (r *run) live() {
	for _, m := range r.cluster.machines {
		m.start()
	}
	if err := r.cluster.awaitWhole(r.admin, bootTime); err != nil {
		r.trace.fail("boot", err)
		return
	}
	for _, m := range r.cluster.machines {
		m.join = true // the cluster is there; a new disk joins it
	}
	ctx, stop := context.WithCancel(context.Background())
	var clients []*client
	var running sync.WaitGroup
	for i := range r.plan.clients {
		c := r.work.newClient(i)
		clients = append(clients, c)
		running.Go(func() { c.run(ctx) })
	}
	if r.plan.fill {
		c := r.work.newClient(r.plan.clients)
		running.Go(func() { c.fill(ctx, r.plan.fillPause) })
	}
	trouble, well := context.WithTimeout(ctx, r.plan.trouble)
	n := &nemesis{cluster: r.cluster, tally: r.trace.tally, admin: r.admin, kinds: r.plan.kinds, pause: r.plan.faultPause}
	n.run(trouble)
	well()
	n.heal()
	ok := r.recover(clients)
	stop()
	running.Wait()
	if ok {
		(&checker{cluster: r.cluster, work: r.work, admin: r.admin}).run()
	}
}

// recover demands that all is well again by itself.
func (r *run) recover(clients []*client) bool {
	time.Sleep(calmTime)
	before := make([]int64, len(clients))
	if err := r.cluster.awaitWhole(r.admin, healTime); err != nil {
		r.trace.fail("liveness", fmt.Errorf("the cluster is not whole: %w", err))
		return false
	}
	for i, c := range clients {
		before[i] = c.committed.Load()
	}
	time.Sleep(readingTime)
	deadline := time.Now().Add(commitTime)
	for i, c := range clients {
		for c.committed.Load() == before[i] {
			if time.Now().After(deadline) {
				r.trace.fail("liveness", fmt.Errorf("client %d commits nothing", c.id))
				return false
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return true
}
