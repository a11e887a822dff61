// Package wallclock starts processes whose wall clock can be set apart from everybody else's, by who started them: for
// drills and tests of what happens when a machine's clock is set. It takes neither root nor the machine's clock.
//
// A process asks for the time by calling clock_gettime in the vDSO, code that the kernel maps into it (vdso(7)).
// That code is the process's own as soon as it is written to, as by debuggers that set a breakpoint. So Start
// stops the program before its first instruction, and writes another function there, which asks the kernel and
// adds an offset to CLOCK_REALTIME alone: the monotonic clock is what it is, as when an administrator sets the
// time. Everything in the process that goes through the vDSO sees it, as programs written in Go do; file times
// are the kernel's, and stay true.
package wallclock

import (
	"fmt"
	"os"
	"os/exec"
)

// A Clock is the wall clock of one process.
type Clock struct {
	memory *os.File // the process's; it stays valid when the process has ended, and is of no other one
	which  int64    // where in it the index of the offset is that is used
	used   byte
}

// Set sets the clock ahead of the true time by so many seconds, or back, and takes the place of what was set
// before. It is not for concurrent use.
//
// There are two offsets, of which an index of one byte tells which is used: the process never sees half of one.
func (c *Clock) Set(seconds int64) error {
	next := 1 - c.used
	if _, err := c.memory.WriteAt(encode(seconds), c.which-offsetsSize+int64(next)*8); err != nil {
		return fmt.Errorf("set the clock of a process: %w", err)
	}
	if _, err := c.memory.WriteAt([]byte{next}, c.which); err != nil {
		return fmt.Errorf("set the clock of a process: %w", err)
	}
	c.used = next
	return nil
}

// offsetsSize is the size of the two offsets, which lie before the index.
const offsetsSize = 16

// Close ends the use of the clock, which stays as it is.
func (c *Clock) Close() error { return c.memory.Close() }

// Start starts a command whose clock can be set, which is right in the beginning. The command may begin with
// another program that then becomes this one, as nsenter does. The thread must be locked to the goroutine
// (runtime.LockOSThread).
func Start(cmd *exec.Cmd, program string) (*Clock, error) { return start(cmd, program, false) }

// Lacks says why no clock can be set here; "": it can. It tries.
func Lacks() string {
	if err := try(); err != nil {
		return fmt.Sprintf("the clock of a process cannot be set here: %v", err)
	}
	return ""
}
