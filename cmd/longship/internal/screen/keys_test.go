package screen

import (
	"context"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a terminal: what is written to keyboard is typed on it.
func openTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return keyboard, terminal
}

// One of the keys ends the wait without Enter, others do not; afterwards the terminal is as it was.
func TestAwaitKey(t *testing.T) {
	keyboard, terminal := openTerminal(t)
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { defer close(done); AwaitKey(ctx, terminal, "qQ") }()
	// x alone would leave it waiting; q would be of no use behind it, were lines still read as a whole.
	if _, err := keyboard.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	<-done
	if ctx.Err() != nil {
		t.Error("it waited for ctx, not for a key")
	}
	after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal is not as it was: %+v, before %+v, %v", after, before, err)
	}
}

// The end of ctx ends the wait, on a terminal and without one.
func TestAwaitKeyEnds(t *testing.T) {
	_, terminal := openTerminal(t)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	AwaitKey(ctx, terminal, "q")
	AwaitKey(ctx, file, "q")
	if !IsTerminal(terminal) {
		t.Error("a terminal is taken for something else")
	}
}
