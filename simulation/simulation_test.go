package simulation

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds = flag.Int("sim.seeds", 50, "how many `runs`")
	soak  = flag.Duration("sim.for", 0, "run for so long instead")
	short = flag.Bool("sim.short", false, "a quarter of the trouble in each")
	seed  = flag.Uint64("sim.seed", 1, "the first `seed`; 0: any")
	trail = flag.Bool("sim.trace", false, "print what happened, whether a run fails or not")
	debug = flag.Bool("sim.debug", false, "with all that the nodes log")
	child = flag.Bool("sim.child", false, "this process is one run")
)

// mutexesAreIdle is set by a build with the tag simulation.
var mutexesAreIdle bool

// resultMark begins the line on which a run's process says what it has found.
const resultMark = "RESULT "

// runTimeout is how long one run may take, of real time.
const runTimeout = 3 * time.Minute

// TestSimulation runs whole clusters in simulated trouble, each in a process of its own.
func TestSimulation(t *testing.T) {
	if !mutexesAreIdle {
		t.Skip("needs a Go runtime in whose bubbles mutexes are idle: make simulate")
	}
	if *child {
		runChild(t)
		return
	}
	s := &summary{t: t, counts: NewCounts(), reached: Counts{}}
	s.run()
	s.print()
	worth := s.runs
	if *short {
		worth /= 3
	}
	for _, what := range Unreached(s.counts, worth) {
		t.Errorf("not once in %d runs: %s", s.runs, what)
	}
}

func runChild(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		level := slog.LevelInfo
		if *debug {
			level = slog.LevelDebug
		}
		r := Run(*seed, *short, level)
		if len(r.Failures) == 0 && !*trail {
			r.Trace = nil
		}
		b, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		os.Stdout.Write(append(append([]byte(resultMark), b...), '\n'))
		pprof.StopCPUProfile() // if -test.cpuprofile has begun one
		syscall.Exit(0)        // os.Exit(0) counts as a failure of the test
	})
}

// A summary is what all runs together have found.
type summary struct {
	t  *testing.T
	mu sync.Mutex

	runs, nodes, committed, unknown, stale int
	simulated, cpu                         time.Duration
	counts                                 Counts
	reached                                Counts // in how many runs
}

// run runs as many at a time as there are processors, until one fails; a soak goes on.
func (s *summary) run() {
	first := *seed
	if first == 0 {
		first = rand.Uint64N(1 << 32)
	}
	began := time.Now()
	var next sync.Mutex
	n := 0
	take := func() (uint64, bool) {
		next.Lock()
		defer next.Unlock()
		more := n < *seeds && !s.t.Failed()
		if *soak > 0 {
			more = time.Since(began) < *soak
		}
		n++
		return first + uint64(n-1), more
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				seed, ok := take()
				if !ok {
					return
				}
				s.one(seed)
			}
		})
	}
	wg.Wait()
}

// one runs one seed.
func (s *summary) one(seed uint64) {
	args := []string{
		"-test.run=^TestSimulation$", "-test.v", "-test.timeout=" + runTimeout.String(),
		"-sim.child", fmt.Sprintf("-sim.seed=%d", seed),
	}
	if *trail {
		args = append(args, "-sim.trace")
	}
	if *short {
		args = append(args, "-sim.short")
	}
	if *debug {
		args = append(args, "-sim.debug")
	}
	cmd := exec.Command(os.Args[0], args...)
	// A race, in a build with -race, ends the process: else nobody would read of it.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400", "GORACE=halt_on_error=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var r Result
	if i := bytes.Index(out, []byte(resultMark)); i < 0 {
		err = errors.Join(err, fmt.Errorf("no result:\n%s%s", out, stderr.Bytes()))
	} else if end := bytes.IndexByte(out[i:], '\n'); end > 0 {
		err = json.Unmarshal(out[i+len(resultMark):i+end], &r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if *trail || len(r.Failures) > 0 {
		fmt.Println(strings.Join(r.Trace, "\n"))
	}
	if err != nil || len(r.Failures) > 0 {
		s.t.Errorf("seed %d: %v%s\nrepeat with: make simulate SEED=%d%s", seed, err, strings.Join(r.Failures, "\n"), seed, map[bool]string{true: " SHORT=1"}[*short])
	}
	s.runs++
	s.nodes += r.Nodes
	s.committed += r.Committed
	s.unknown += r.Unknown
	s.stale += r.Stale
	s.simulated += r.Simulated
	s.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	s.counts.Add(r.Counts)
	for what := range r.Counts {
		s.reached[what]++
	}
}

// print says what was reached.
func (s *summary) print() {
	fmt.Printf("%d runs of %d nodes: %.1f h simulated in %.1f min of CPU, %.2f h/min\n", s.runs, s.nodes,
		s.simulated.Hours(), s.cpu.Minutes(), s.simulated.Hours()/s.cpu.Minutes())
	fmt.Printf("%d transactions committed, %d unknown, %d read elsewhere\n", s.committed, s.unknown, s.stale)
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Printf("%7d in %4d runs: %s\n", s.counts[what], s.reached[what], what)
	}
}
