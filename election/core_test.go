package election

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// coreSteps are the steps of a schedule.
const coreSteps = 120

// coreSeeds is how many of the standard seeds are run, and until when if there is time for more: LONGSHIP_SOAK.
func coreSeeds(t *testing.T) (seeds uint64, until time.Time) {
	seeds = 800
	if testing.Short() {
		seeds = 30
	}
	if soak := os.Getenv("LONGSHIP_SOAK"); soak != "" {
		d, err := time.ParseDuration(soak)
		if err != nil {
			t.Fatalf("LONGSHIP_SOAK: %v", err)
		}
		until = time.Now().Add(d)
	}
	return seeds, until
}

// Whatever happens to a cluster, in whatever order: what was acknowledged or shown is part of every later log, one
// process writes in an epoch, nobody reads what is old; and when the trouble ends it comes back by itself.
func TestCoreAtRandom(t *testing.T) {
	seeds, until := coreSeeds(t)
	sum := coreFigures{met: make(map[string]int), begin: processorTime(t)}
	for seed := uint64(1); seed <= seeds || time.Now().Before(until); seed++ {
		cfg, events := settings(seed, coreSteps)
		coreBubble(t, func() {
			c := runCore(cfg, events, true, false)
			if c.wrong != "" {
				t.Errorf("seed %d: %s", seed, explain(cfg, events, true, nil))
			}
			sum.add(c, events)
		})
		if t.Failed() {
			return
		}
	}
	t.Log(sum.String(processorTime(t)))
	for _, state := range rareStates {
		if sum.met[state] == 0 && !testing.Short() {
			t.Errorf("in %d runs never: %s", sum.runs, state)
		}
	}
}

// coreFigures are what so many runs come to.
type coreFigures struct {
	runs, events, judged, epochs int
	virtual, begin               time.Duration
	acts                         [acts]int
	met                          map[string]int
}

func (f *coreFigures) add(c *core, events []coreEvent) {
	f.runs++
	f.events += len(events)
	f.judged += c.judged
	f.epochs += int(c.now().Epoch)
	f.virtual += time.Since(c.began)
	for _, e := range events {
		f.acts[e.act]++
	}
	for what, n := range c.met {
		f.met[what] += n
	}
}

func (f *coreFigures) String(now time.Duration) string {
	spent := now - f.begin
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs, %d events, %d epochs, %d sets of seals judged, %.1f simulated hours in %v of processor time: %.0f hours a minute\n",
		f.runs, f.events, f.epochs, f.judged, f.virtual.Hours(), spent.Round(10*time.Millisecond), f.virtual.Hours()/spent.Minutes())
	for act, n := range f.acts {
		fmt.Fprintf(&b, "%s %d  ", actNames[act], n)
	}
	for _, what := range slices.Sorted(maps.Keys(f.met)) {
		fmt.Fprintf(&b, "\n%8d  %s", f.met[what], what)
	}
	return b.String()
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// One seed, event by event: LONGSHIP_SEED.
func TestCoreSeed(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("LONGSHIP_SEED"), 10, 64)
	if err != nil {
		t.Skip("LONGSHIP_SEED is not set: it says which seed to show")
	}
	cfg, events := settings(seed, coreSteps)
	coreBubble(t, func() {
		c := runCore(cfg, events, true, true)
		t.Logf("%+v\n%s\n%s", cfg, strings.Join(c.trace, "\n"), c)
		if c.wrong != "" {
			t.Error(c.wrong)
		}
	})
}

// A seed is one run: the same events, and the same things happen.
func TestCoreReplays(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var traces [2]string
		for i := range traces {
			cfg, events := settings(seed, coreSteps)
			coreBubble(t, func() {
				c := runCore(cfg, events, true, true)
				traces[i] = strings.Join(c.trace, "\n") + "\n" + c.String()
			})
		}
		if traces[0] != traces[1] {
			t.Fatalf("seed %d is two runs:\n%s\nand\n%s", seed, traces[0], traces[1])
		}
	}
}

// Clocks may differ in how fast they run by as much as LeaseHeld allows: the next epoch is not steady before the
// old primary has given up its lease, by its own slower clock. Beyond that it is, and that is noticed.
func TestCoreClocks(t *testing.T) {
	for drift, want := range map[float64]string{0: "", 0.005: "", 0.01: "", 0.02: "by its lease", 0.2: "by its lease"} {
		coreBubble(t, func() {
			c := runCore(coreConfig{members: 3, text: "ANY MAJORITY (*)", drift: drift}, takeover(), false, true)
			if c.wrong == "" != (want == "") || !strings.Contains(c.wrong, want) {
				t.Errorf("with clocks that differ by %v: %q, want %q\n%s", drift, c.wrong, want, strings.Join(c.trace, "\n"))
			}
			if s := c.now(); s.SteadyEpoch != 2 {
				t.Errorf("with clocks that differ by %v: %s", drift, describe(s))
			}
		})
	}
}

// takeover has n1, in office, get a promise of n2, whose clock is the fast one, and of nobody else. At the same
// moment n2 is named, and looks every millisecond whether it may open its epoch.
func takeover() []coreEvent {
	events := append(morning(3), coreEvent{actPass, 0, 0, 1000}, coreEvent{actStream, 1, 0, 2}, coreEvent{actStream, 1, 0, 2})
	events = append(events, []coreEvent{
		{actHear, 1, 0, 0}, {actSuspect, 1, 0, 0}, {actAsk, 1, 1, 0}, {actAsk, 1, 2, 0}, {actDecide, 1, 0, answered},
		{actHear, 1, 0, 0}, {actTurn, 1, 0, 0}, {actFlush, 1, 0, 0}, {actHear, 2, 0, 0}, {actTurn, 2, 0, 0},
		{actStream, 2, 0, 9}, {actPass, 0, 0, 300},
	}...)
	for range 150 {
		events = append(events, coreEvent{actPass, 0, 0, 1}, coreEvent{actLook, 1, 0, answered})
	}
	return events
}

// A disk that reports what it has not kept is found, and the schedule that shows it is as short as that takes: this is
// what tells a harness that finds nothing from one that looks at nothing.
func TestCoreFindsALyingDisk(t *testing.T) {
	lie := func(c *core) { c.liar = c.nodes[1] }
	cfg := coreConfig{members: 3, text: "ANY 1 (*)"}
	for seed := uint64(1); seed <= 200; seed++ {
		events := schedule(rand.New(rand.NewPCG(seed, 7)), cfg.members, coreSteps)
		found := ""
		coreBubble(t, func() {
			if runHarmed(cfg, events, false, false, lie).wrong != "" {
				found = explain(cfg, events, false, lie)
			}
		})
		if found == "" {
			continue
		}
		t.Logf("seed %d: %s", seed, found)
		var n int
		if _, err := fmt.Sscanf(strings.SplitN(found, "}, ", 2)[1], "%d events", &n); err != nil || n > 12 {
			t.Errorf("%d events are left of %d, %v; want 12 at most", n, len(events), err)
		}
		return
	}
	t.Error("nobody noticed")
}
