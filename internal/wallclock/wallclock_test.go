package wallclock

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// asChild has the test binary tell the time, line by line, and how far its monotonic clock is.
const asChild = "LONGSHIP_TEST_WALLCLOCK"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) == "" {
		os.Exit(m.Run())
	}
	began := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		now := time.Now()
		fmt.Println(now.UnixNano(), now.Sub(began).Nanoseconds())
	}
}

// A teller is a process that tells its time.
type teller struct {
	t     *testing.T
	ask   *os.File
	lines *bufio.Scanner
	clock *Clock
}

// lockedProgram is this program, to be started from the thread that it locks (Start); the caller unlocks it.
func lockedProgram(t *testing.T) string {
	t.Helper()
	if lacks := Lacks(); lacks != "" {
		t.Skip(lacks)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	return program
}

func startTeller(t *testing.T, argv ...string) *teller {
	t.Helper()
	program := lockedProgram(t)
	defer runtime.UnlockOSThread()
	argv = append(argv, program)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), asChild+"=1")
	cmd.Stderr = os.Stderr
	in, ask, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Start(cmd, program)
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	t.Cleanup(func() {
		ask.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process whose clock was set ends with %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &teller{t: t, ask: ask, lines: bufio.NewScanner(out), clock: c}
}

// off is by how much the process's clock is off, in whole seconds, and how far its monotonic clock has come.
func (p *teller) off() (seconds int64, since time.Duration) {
	p.t.Helper()
	before := time.Now()
	fmt.Fprintln(p.ask)
	if !p.lines.Scan() {
		p.t.Fatalf("the process has ended: %v", p.lines.Err())
	}
	after := time.Now()
	var at, ran int64
	if _, err := fmt.Sscan(p.lines.Text(), &at, &ran); err != nil {
		p.t.Fatal(err)
	}
	seconds = int64(math.Ceil(float64(at-after.UnixNano()) / 1e9))
	if ahead := at - before.UnixNano(); seconds*1e9 > ahead {
		p.t.Fatalf("the process's clock is %s ahead: that is no whole number of seconds", time.Duration(ahead))
	}
	return seconds, time.Duration(ran)
}

// The wall clock is what it is set to, the monotonic one is nobody's to set.
func TestClock(t *testing.T) {
	p := startTeller(t)
	began := time.Now()
	_, last := p.off()
	for _, want := range []int64{0, 3600, -3600, 20 * 365 * 86400, -46 * 365 * 86400, 1, -1, 0} {
		if err := p.clock.Set(want); err != nil {
			t.Fatal(err)
		}
		got, since := p.off()
		if got != want {
			t.Errorf("set off by %s, the clock is off by %s", sec(want), sec(got))
		}
		if since < last || since-last > time.Since(began) {
			t.Errorf("the monotonic clock has gone from %s to %s when the clock was set off by %s", last, since, sec(want))
		}
		last = since
	}
}

// The program that is wanted may be the one that another one becomes.
func TestBecomesProgram(t *testing.T) {
	p := startTeller(t, "/usr/bin/env", "/bin/sh", "-c", `exec "$0"`)
	if err := p.clock.Set(100); err != nil {
		t.Fatal(err)
	}
	if got, _ := p.off(); got != 100 {
		t.Errorf("the clock is off by %s, want 100 s", sec(got))
	}
}

// A command that never becomes the program has no clock to be set, and is not left behind.
func TestNeverBecomesProgram(t *testing.T) {
	program := lockedProgram(t)
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/bin/sh", "-c", "exit 3")
	if c, err := Start(cmd, program); err == nil {
		t.Errorf("Start() = %v, want an error", c)
	}
}

func sec(n int64) string { return strconv.FormatInt(n, 10) + " s" }
