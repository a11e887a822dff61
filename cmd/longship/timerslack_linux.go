package main

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// The kernel may fire a thread's timers so much later, in nanoseconds (prctl(2), PR_SET_TIMERSLACK).
const (
	kernelTimerSlack = 50_000
	nodeTimerSlack   = 250_000
)

// relaxed is the environment variable of a program that was started anew.
const relaxed = "LONGSHIP_TIMERS_RELAXED"

// relaxTimers starts the program anew with a timer slack that suits a node, unless whoever started it has chosen
// one (systemd's TimerSlackNSec). It returns if there is nothing to do, or no way to do it.
//
// The monitor thread of Go's runtime sleeps 20 µs at a time while system calls come and go, which they always do
// where commits are synced one by one: with the kernel's slack it wakes ten thousand times a second, in each node,
// and takes a tenth of a small machine's processors from those who work. It exists before main does, and a thread
// inherits its slack from its creator: only a new start reaches it.
func relaxTimers() {
	if os.Getenv(relaxed) != "" { // where the kernel forgets what was set, once is enough
		return
	}
	runtime.LockOSThread() // what is asked and set is the thread's, which exec makes the process
	defer runtime.UnlockOSThread()
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || slack != kernelTimerSlack {
		return
	}
	if unix.Prctl(unix.PR_SET_TIMERSLACK, nodeTimerSlack, 0, 0, 0) != nil {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	_ = syscall.Exec(program, os.Args, append(os.Environ(), relaxed+"=1")) // a node without works too
}
