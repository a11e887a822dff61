package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Every thread of a node, the runtime's monitor included, has the node's timer slack; and none of them has if
// whoever started it chose another, as systemd's TimerSlackNSec does.
func TestTimerSlack(t *testing.T) {
	for _, test := range []struct {
		name          string
		started, want int
	}{
		{"a node's", 50_000, 250_000},
		{"chosen", 70_000, 70_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			startWithSlack(t, test.started)
			n := newCluster(t, 1).primary()
			threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", n.proc.cmd.Process.Pid))
			if err != nil || len(threads) < 2 {
				t.Fatalf("threads %q, %v", threads, err)
			}
			for _, thread := range threads {
				got, err := os.ReadFile(filepath.Join("/proc", filepath.Base(thread), "timerslack_ns"))
				if err != nil {
					t.Skipf("the slack of another thread is for root to see: %v", err)
				}
				if string(got) != strconv.Itoa(test.want)+"\n" {
					t.Errorf("a thread has a timer slack of %s ns, want %d", got, test.want)
				}
			}
		})
	}
}

// startWithSlack has processes that the test starts begin with a timer slack.
func startWithSlack(t *testing.T, ns int) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(ns), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0) })
}
