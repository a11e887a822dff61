package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
)

// An output collects what a process prints and can be waited on.
type output struct {
	mu      sync.Mutex
	text    []byte
	changed chan struct{} // closed at the next Write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// find returns the first match of pattern, and a channel that is closed when there is more to look at.
func (o *output) find(pattern *regexp.Regexp) (match []string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range pattern.FindSubmatch(o.text) {
		match = append(match, string(m))
	}
	return match, o.changed
}

// A process is a program that runs beside the test, and not longer.
type process struct {
	name           string
	cmd            *exec.Cmd
	stdout, stderr *output
	done           chan struct{} // closed when it has ended
	err            error         // how it ended; valid once done is closed
}

// startProcess starts a program. It is killed at the end of the test if it still runs, and by the
// kernel if the test's process dies. log gets its standard error too, and may be nil.
func startProcess(t *testing.T, log io.Writer, path string, args ...string) *process {
	t.Helper()
	p := &process{
		name: filepath.Base(path),
		cmd:  exec.Command(path, args...),
		done: make(chan struct{}), stdout: newOutput(), stderr: newOutput(),
	}
	p.cmd.Env = append(os.Environ(), "PGUSER=test", "PGDATABASE=test", "LC_ALL=C", "PGOPTIONS=", "PGTZ=UTC")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, io.Writer(p.stderr)
	if log != nil {
		p.cmd.Stderr = io.MultiWriter(p.stderr, log)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// signal sends sig; a process that has ended does not mind.
func (p *process) signal(sig syscall.Signal) { p.cmd.Process.Signal(sig) }

// stopped reports whether all threads of a process that got a SIGSTOP have stopped, see proc(5).
func (p *process) stopped() bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	for _, path := range threads {
		b, err := os.ReadFile(path)
		_, state, _ := bytes.Cut(b, []byte(") "))
		if err == nil && !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return true
}

// wait returns how the process ended.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w\n%s%s", p.name, ctx.Err(), p.stdout, p.stderr)
	}
}

// await waits until the process has printed something that pattern matches, on o, and returns the
// match and its groups.
func (p *process) await(ctx context.Context, o *output, pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	for {
		match, changed := o.find(re)
		if match != nil {
			return match, nil
		}
		select {
		case <-changed:
		case <-p.done:
			if match, _ := o.find(re); match != nil {
				return match, nil
			}
			return nil, fmt.Errorf("%s ended (%v) and has not printed %q\n%s%s", p.name, p.err, pattern, p.stdout, p.stderr)
		case <-ctx.Done():
			return nil, fmt.Errorf("%s has not printed %q: %w\n%s%s", p.name, pattern, ctx.Err(), p.stdout, p.stderr)
		}
	}
}

// tool is the path of one of PostgreSQL's programs. Without it the test is skipped.
func tool(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("PGBIN")
	if dir == "" {
		dir = "/usr/lib/postgresql/15/bin"
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// runTool runs a program to its end and returns what it printed, both outputs in the order printed.
func runTool(t *testing.T, stdin, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PGUSER=test", "PGDATABASE=test", "LC_ALL=C", "PGOPTIONS=", "PGTZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdin = bytes.NewBufferString(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustRun is runTool for a program that must succeed.
func mustRun(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := runTool(t, "", path, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(path), args, err, out)
	}
	return out
}
