package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/longship-db/longship/drill"
	"github.com/longship-db/longship/internal/wallclock"
)

// A drill as people run it: its report says what happened, its exit code that all held, and nothing is left.
func TestDrill(t *testing.T) {
	t.Parallel()
	p, left := startDrill(t, "run", "kill-primary", "--rounds", "1", "--clients", "6", "--json")
	report := reportOf(t, p)
	d := report.Drills[0]
	if !report.OK || d.Commits.Acknowledged < 100 || d.Commits.Lost == nil || *d.Commits.Lost != 0 || d.Looks < 20 || d.Transactions.Elsewhere < 5 || d.Registers.Operations < 50 {
		t.Errorf("report %s: too little to show anything, or not all held", p.stdout)
	}
	kinds := map[string]bool{}
	for _, e := range d.Rounds[0].Events {
		kinds[e.Kind] = true
	}
	for _, kind := range []string{"fault", "suspicion", "seal", "promotion", "open", "first commit", "rejoin"} {
		if !kinds[kind] {
			t.Errorf("the timeline %v has no %s", d.Rounds[0].Events, kind)
		}
	}
	left(t)
}

// The drills that break nodes from inside, as people run them: the faults are there, and do what they are to do.
func TestDrillFaults(t *testing.T) {
	for name, kinds := range map[string][]string{
		"partition-primary": {"fault", "suspicion", "promotion", "mend", "cut"},
		"disk-full":         {"fault", "full", "mend"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, left := startDrill(t, "run", name, "--rounds", "1", "--clients", "4", "--json")
			report := reportOf(t, p)
			for _, kind := range kinds {
				if !slices.ContainsFunc(report.Drills[0].Rounds[0].Events, func(e drill.Event) bool { return e.Kind == kind }) {
					t.Errorf("the timeline %v has no %s", report.Drills[0].Rounds[0].Events, kind)
				}
			}
			left(t)
		})
	}
}

// The clock of a node is set while all goes on. It is felt, else the drill is UNTESTED and fails.
func TestDrillClock(t *testing.T) {
	if lacks := wallclock.Lacks(); lacks != "" {
		t.Skip(lacks)
	}
	t.Parallel()
	p, left := startDrill(t, "run", "clock-jump", "--rounds", "1", "--clients", "4", "--json")
	report := reportOf(t, p)
	faults := 0
	for _, e := range report.Drills[0].Rounds[0].Events {
		if e.Kind == "fault" && strings.Contains(e.What, "the clock of n1") {
			faults++
		}
	}
	if d := report.Drills[0]; d.Skipped != "" || faults != 13 || d.Commits.Acknowledged < 100 {
		t.Errorf("report %s: the clock was set %d times, want 13", p.stdout, faults)
	}
	left(t)
}

// With a network of namespaces it is the kernel that cuts. Nothing of the machine's own network changes.
func TestDrillNamespaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces take root")
	}
	if out, err := exec.Command("unshare", "--net", "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1").CombinedOutput(); err != nil {
		t.Skipf("no network namespace with links can be made here: %v: %s", err, out)
	}
	t.Parallel()
	p, left := startDrill(t, "run", "partition-oneway", "--rounds", "1", "--clients", "4", "--network", "namespaces", "--json")
	report := reportOf(t, p)
	if d := report.Drills[0]; d.Network != "namespaces" || d.Commits.Acknowledged < 100 || d.Rounds[0].GapFrom == d.Rounds[0].GapTo {
		t.Errorf("report %s: too little to show anything, or no namespaces", p.stdout)
	}
	left(t)
}

// Ctrl-C ends a drill, and leaves no process and no folder.
func TestDrillInterrupted(t *testing.T) {
	t.Parallel()
	p, left := startDrill(t, "run", "kill-all", "--rounds", "1000")
	ctx, cancel := testContext(t)
	defer cancel()
	if _, err := p.await(ctx, p.stdout, "round 1: kill -9 of all"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGINT)
	p.wait(ctx)
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.stdout.String(), "interrupted") {
		t.Errorf("exit code %d, printed\n%s%s", code, p.stdout, p.stderr)
	}
	left(t)
}

// A drill that is killed leaves a folder, and no process: the next one removes it, and not that of one under way.
func TestDrillKilled(t *testing.T) {
	t.Parallel()
	ctx, cancel := testContext(t)
	defer cancel()
	under, left := startDrill(t, "run", "kill-all", "--rounds", "1000")
	killed := startProcess(t, nil, "/usr/bin/env", under.cmd.Args[1:]...)
	for _, p := range []*process{under, killed} {
		if _, err := p.await(ctx, p.stdout, "round 1: kill -9 of all"); err != nil {
			t.Fatal(err)
		}
	}
	killed.signal(syscall.SIGKILL)
	killed.wait(ctx)
	next := startProcess(t, nil, "/usr/bin/env", under.cmd.Args[1:]...)
	if _, err := next.await(ctx, next.stdout, "removed what a drill that was killed had left"); err != nil {
		t.Error(err)
	}
	if _, err := under.await(ctx, under.stdout, "round 3: "); err != nil {
		t.Error(err)
	}
	for _, p := range []*process{under, next} {
		p.signal(syscall.SIGINT)
		p.wait(ctx)
	}
	if strings.Contains(under.stdout.String(), "VIOLATION") {
		t.Errorf("the drill that was under way:\n%s", under.stdout)
	}
	left(t)
}

// On a cluster that is in use a drill does only what that can do to itself, asks before, and leaves no key behind.
func TestDrillTarget(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.primary().exec("INSERT INTO kv VALUES ('mine', '1')")
	target := "--target=" + c.nodes[1].address()
	for _, args := range [][]string{{"all"}, {"kill-primary", "--yes"}} { // nobody can be asked; not on this one
		if out, err := runTool(t, "", longship, append([]string{"drill", "run", target}, args...)...); err == nil {
			t.Errorf("drill run %s %q was not refused:\n%s", target, args, out)
		}
	}
	var report drill.Report
	out := mustRun(t, "/bin/sh", "-c", fmt.Sprintf("%s drill run %s all --yes --rounds 1 --clients 6 --json 2>/dev/null", longship, target))
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, d := range report.Drills {
		if d.Drill == "restart-standby" {
			if d.Skipped == "" {
				t.Error("restart-standby was run without being told how")
			}
		} else if d.Commits.Acknowledged < 50 || d.ReadsChecked < 50 {
			t.Errorf("too little to show anything: %+v", d)
		}
	}
	if left := c.primary().rows("", ""); len(left) != 1 || len(report.Drills) != 2 {
		t.Errorf("%d drills have left the rows %v, want the one that was there", len(report.Drills), left)
	}
}

// reportOf waits for a drill that was run with --json, all of which must hold, and returns its report.
func reportOf(t *testing.T, p *process) (report drill.Report) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	if err := p.wait(ctx); err != nil {
		t.Fatalf("%v\n%s%s", err, p.stdout, p.stderr)
	}
	if err := json.Unmarshal([]byte(p.stdout.String()), &report); err != nil {
		t.Fatalf("%v\n%s", err, p.stdout)
	}
	return report
}

// startDrill starts longship drill, and returns what verifies that it has left nothing.
func startDrill(t *testing.T, args ...string) (p *process, left func(*testing.T)) {
	t.Helper()
	dir := t.TempDir()
	p = startProcess(t, nil, "/usr/bin/env", append([]string{"TMPDIR=" + dir, longship, "drill"}, args...)...)
	return p, func(t *testing.T) {
		t.Helper()
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("left in the folder for temporary files: %v, %v", entries, err)
		}
		commands, _ := filepath.Glob("/proc/*/cmdline")
		for _, path := range commands {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), filepath.Join(dir, "longship-drill-")) {
				t.Errorf("a process is left: %s", strings.ReplaceAll(string(b), "\x00", " "))
			}
		}
	}
}
