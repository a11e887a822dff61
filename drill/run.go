package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A Config says how drills are run.
type Config struct {
	Program  string // the longship binary
	Nodes    int
	Rounds   int
	Clients  int
	Duration time.Duration // of the rounds of each drill, instead of their number; 0: Rounds
	Seed     uint64        // of all choices
	Keep     bool          // leave the nodes' folders

	// Namespaces has each node in a network namespace of its own, where partitions are the kernel's. The process
	// must be the hub, see InNamespace.
	Namespaces bool

	Target   *Target // the cluster to run on; nil: one of its own for each drill
	Progress func(line string)
	Left     *Leftovers // filled in while drills are under way
}

const (
	// patience is how long a cluster may take to be well again after a round.
	patience = time.Minute

	// orderTimeout is how long the search for an order of the operations on one register may take.
	orderTimeout = 2 * time.Minute
)

// Execute runs drills, one after the other, each on a cluster of its own, until ctx ends. When it returns,
// every process that it started is gone, and so are their folders, unless something was found or cfg.Keep.
func Execute(ctx context.Context, cfg Config, drills []Drill) *Report {
	began := time.Now()
	for _, dir := range sweep() {
		cfg.Progress("removed what a drill that was killed had left: " + dir)
	}
	report := &Report{Seed: cfg.Seed}
	failed := false
	for _, d := range drills {
		if ctx.Err() != nil {
			failed = true
			break
		}
		r := execute(ctx, cfg, d)
		failed = failed || !r.OK
		report.OK = report.OK || r.Skipped == ""
		report.Drills = append(report.Drills, r)
	}
	report.OK = report.OK && !failed
	report.Seconds = time.Since(began).Seconds()
	return report
}

// execute runs one drill.
func execute(ctx context.Context, cfg Config, d Drill) *Result {
	result := &Result{Drill: d.Name, Breaks: d.Breaks, Holds: d.Holds, Nodes: cfg.Nodes, Rounds: []*Round{}, Violations: []Violation{}}
	switch {
	case cfg.Target != nil:
		result.Skipped = cfg.Target.lacks(d)
	case d.Lacks != nil:
		result.Skipped = d.Lacks()
	}
	if result.Skipped != "" {
		cfg.Progress(fmt.Sprintf("%s: skipped: %s", d.Name, result.Skipped))
		result.OK = true
		return result
	}
	began := time.Now()
	run := own
	if cfg.Target != nil {
		run = cfg.Target.run
	}
	err := run(ctx, cfg, d, result)
	if ctx.Err() != nil {
		err = errors.Join(errors.New("interrupted"), err)
	}
	if err != nil {
		result.Error = err.Error()
	}
	result.OK = err == nil && len(result.Violations) == 0
	result.Seconds = time.Since(began).Seconds()
	return result
}

// own runs a drill on a cluster of its own. When it returns, that is gone.
func own(ctx context.Context, cfg Config, d Drill, result *Result) (err error) {
	dir, err := makeFolder(cfg.Left)
	if err != nil {
		return err
	}
	c := newCluster(cfg.Program, dir.path, d.Flags)
	c.clocks = d.Clocks
	if cfg.Namespaces {
		c.network, result.Network = &network{launcher: c.launcher}, "namespaces"
	}
	r := newRun(cfg, d, c, "drill/", result)
	err = r.all(ctx)
	r.work.stop()
	for _, f := range r.cleanup {
		f()
	}
	r.Cluster.close()
	result.count(r.work)
	if failed := err != nil && ctx.Err() == nil; cfg.Keep || failed || len(result.Violations) > 0 {
		result.Kept = dir.path
		return errors.Join(err, dir.keep())
	}
	return errors.Join(err, dir.remove())
}

// A Run is one drill under way: what Round and its companions work with.
type Run struct {
	Cluster *Cluster
	Random  *rand.Rand // of all choices; used by the drill alone

	drill  Drill
	cfg    Config
	work   *work
	result *Result
	round  *Round        // without a number before the first and after the last
	struck time.Duration // of the work's time; since when the round's gaps count
	reader *logReader

	home    *Node    // the primary in the beginning, for who moves it
	cleanup []func() // at the end of the drill: what it has started besides the nodes
}

func newRun(cfg Config, d Drill, c *Cluster, prefix string, result *Result) *Run {
	return &Run{
		Cluster: c, Random: rand.New(rand.NewPCG(cfg.Seed, hash(d.Name))), drill: d, cfg: cfg, result: result, round: &Round{},
		work: newWork(c, prefix, cfg.Seed), reader: &logReader{cluster: c, offsets: map[string]int64{}},
	}
}

// all is the drill from beginning to end. What does not hold is in the result; an error is of another kind.
func (r *Run) all(ctx context.Context) error {
	r.say("starting %d nodes", r.cfg.Nodes)
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.Cluster.start(starting, r.cfg.Nodes); err != nil {
		return fmt.Errorf("the cluster does not start: %w", err)
	}
	r.work.start(r.cfg.Clients)
	for _, n := range r.Cluster.Nodes() {
		r.watch(n)
	}
	r.proceed(ctx)
	return nil
}

// watch has clients read and write on a node, whatever its role.
func (r *Run) watch(n *Node) {
	r.work.observe(n.Name, n.Address)
	r.work.probe(n.Name, n.Address)
}

// proceed is what follows once clients run.
func (r *Run) proceed(ctx context.Context) {
	r.rounds(ctx)
	r.round = &Round{}
	if ctx.Err() == nil && len(r.result.Violations) == 0 { // else there may be nobody left to ask
		r.judge(ctx)
	}
	for _, what := range r.Cluster.complained() {
		r.violated(checkCluster, "%s", what)
	}
}

// rounds breaks things until it is enough, or something does not hold.
func (r *Run) rounds(ctx context.Context) {
	if r.drill.Begin != nil && !r.holds(ctx, checkDrill, func(ctx context.Context) error { return r.drill.Begin(ctx, r) }) {
		return
	}
	for end := time.Now().Add(r.cfg.Duration); r.more(end) && ctx.Err() == nil; {
		if !r.once(ctx) {
			return
		}
	}
	if r.drill.Finish != nil {
		r.round, r.struck = &Round{}, 0
		r.holds(ctx, checkDrill, func(ctx context.Context) error { return r.drill.Finish(ctx, r) })
	}
}

// more reports whether there is to be another round.
func (r *Run) more(end time.Time) bool {
	if r.cfg.Duration > 0 {
		return len(r.result.Rounds) == 0 || time.Now().Before(end)
	}
	return len(r.result.Rounds) < r.cfg.Rounds
}

// commitsBetween is how many commits there are before, and after, each round, at least.
const commitsBetween = 50

// once is one round, and the recovery from it. It reports whether all held.
func (r *Run) once(ctx context.Context) bool {
	r.round = &Round{Number: len(r.result.Rounds) + 1, Events: []Event{}}
	flowing := func(ctx context.Context) error {
		return r.AwaitCommits(ctx, commitsBetween+r.Random.IntN(commitsBetween))
	}
	if !r.holds(ctx, checkCluster, flowing) {
		return false
	}
	r.reader.skip()
	r.struck = 0
	r.result.Rounds = append(r.result.Rounds, r.round)
	held := r.holds(ctx, checkDrill, func(ctx context.Context) error { return r.drill.Round(ctx, r) }) &&
		r.holds(ctx, checkCluster, r.Cluster.AwaitWell) && r.holds(ctx, checkCluster, flowing)
	r.measure()
	r.work.nextEra()
	for _, what := range r.Cluster.complained() {
		held = false
		r.violated(checkCluster, "%s", what)
	}
	return held
}

// holds calls f with patience and makes a violation of its failure, unless ctx has ended.
func (r *Run) holds(ctx context.Context, check string, f func(context.Context) error) bool {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := f(bounded)
	if err != nil && ctx.Err() == nil {
		if isUntested(err) {
			check = checkShown
		}
		r.violated(check, "%v", err)
	}
	return err == nil && ctx.Err() == nil
}

func (r *Run) violated(check, format string, args ...any) {
	v := Violation{Check: check, What: r.where() + fmt.Sprintf(format, args...)}
	r.result.Violations = append(r.result.Violations, v)
	r.say("VIOLATION: %s", v)
}

// measure completes the report on a round.
func (r *Run) measure() {
	before, after, client := r.work.gaps(r.struck)
	r.round.GapSeconds, r.round.GapFrom, r.round.GapTo = (after.at - before.at).Seconds(), before.on, after.on
	r.round.ClientGapSeconds = client.Seconds()
	since := r.work.began.Add(r.struck)
	r.round.Events = append(r.round.Events, r.reader.events(since)...)
	commits := "longest gap" // its end, where nobody was promoted
	if after.on != "" && slices.ContainsFunc(r.round.Events, func(e Event) bool { return e.Kind == "promotion" }) {
		commits = "first commit"
	}
	r.round.Events = append(r.round.Events, Event{At: milliseconds(after.at - r.struck), Kind: commits, Node: after.on, What: r.round.gap()})
	slices.SortStableFunc(r.round.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	r.say("round %d: %s", r.round.Number, r.round.gap())
}

// Strike notes what is about to be broken. From the first strike of a round on its write gap is measured.
func (r *Run) Strike(format string, args ...any) { r.event("fault", format, args...) }

// Mend notes what is about to be undone.
func (r *Run) Mend(format string, args ...any) { r.event("mend", format, args...) }

func (r *Run) event(kind, format string, args ...any) {
	now := r.work.now()
	if r.struck == 0 {
		r.struck = now
	}
	what := fmt.Sprintf(format, args...)
	r.round.Events = append(r.round.Events, Event{At: milliseconds(now - r.struck), Kind: kind, What: what})
	r.say("%s%s", r.where(), what)
}

// where says in which round it is, if it is in one.
func (r *Run) where() string {
	if r.round.Number == 0 {
		return ""
	}
	return fmt.Sprintf("round %d: ", r.round.Number)
}

func (r *Run) say(format string, args ...any) {
	r.cfg.Progress(r.drill.Name + ": " + fmt.Sprintf(format, args...))
}

// AwaitCommits waits until n commits have been acknowledged from now on.
func (r *Run) AwaitCommits(ctx context.Context, n int) error { return r.work.await(ctx, n) }

// Pause waits for a random time, at most so long.
func (r *Run) Pause(ctx context.Context, longest time.Duration) {
	sleep(ctx, time.Duration(r.Random.Int64N(int64(longest))))
}

// Standby picks a standby.
func (r *Run) Standby(ctx context.Context) (*Node, error) {
	standbys, err := r.Cluster.Standbys(ctx)
	if err != nil {
		return nil, err
	}
	if len(standbys) == 0 {
		return nil, errors.New("there is no standby")
	}
	return standbys[r.Random.IntN(len(standbys))], nil
}
