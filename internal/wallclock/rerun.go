package wallclock

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
)

// inChild tells a test that it is in that process.
const inChild = "LONGSHIP_TEST_RERUN"

// A Test is a *testing.T.
type Test interface {
	Helper()
	Name() string
	Skip(args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Rerun runs the test that calls it once more, in a process of its own, and returns there a function that sets
// the wall clock of that process, so many seconds ahead of the true time. In the process that the test was begun
// in it returns nil, when all is over: then the test ends, too. It skips the test where no clock can be set.
func Rerun(t Test) (set func(seconds int64)) {
	t.Helper()
	if os.Getenv(inChild) == t.Name() {
		requests, answers := os.NewFile(3, "requests"), bufio.NewScanner(os.NewFile(4, "answers"))
		return func(seconds int64) {
			t.Helper()
			if _, err := fmt.Fprintln(requests, seconds); err != nil || !answers.Scan() || answers.Text() != "set" {
				t.Fatalf("the clock was not set by %d s: %v, %q", seconds, err, answers.Text())
			}
		}
	}
	if lacks := Lacks(); lacks != "" {
		t.Skip(lacks)
	}
	if out, err := again(t.Name()); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return nil
}

// again runs a test in a process of its own and sets the clock of that as it asks for.
func again(test string) (out string, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	requests, ask, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer requests.Close()
	answer, answers, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer answers.Close()
	log, err := os.CreateTemp("", "rerun-")
	if err != nil {
		return "", err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd := exec.Command(program, "-test.run", "^"+test+"$", "-test.count", "1", "-test.timeout", "1m")
	cmd.Env = append(os.Environ(), inChild+"="+test)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{ask, answer}
	clock, err := Start(cmd, program)
	ask.Close()
	answer.Close()
	if err != nil {
		return "", err
	}
	defer clock.Close()
	err = serve(clock, requests, answers)
	if ended := cmd.Wait(); ended != nil {
		err = fmt.Errorf("in a process whose clock was set: %w", ended)
	}
	b, _ := os.ReadFile(log.Name())
	return string(b), err
}

// serve sets the clock until the process ends.
func serve(clock *Clock, requests io.Reader, answers io.Writer) error {
	for {
		var seconds int64
		if _, err := fmt.Fscanln(requests, &seconds); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := clock.Set(seconds); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(answers, "set"); err != nil {
			return err
		}
	}
}
