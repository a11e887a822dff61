package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/longship-db/longship/internal/child"
	"github.com/longship-db/longship/internal/wallclock"
)

// A Node is one longship process, its data directory and its addresses.
type Node struct {
	Name    string
	Address string // host:port for clients
	Dir     string // the data directory; the log is beside it, in Dir.log

	cluster *Cluster
	args    []string // of longship, without --join
	raft    string   // host:port for Raft
	host    *host    // the namespace that it is in; nil: the drill's

	mu     sync.Mutex
	proc   *process // the last one; nil: it was never started
	asked  bool     // to end, or allowed to
	frozen bool
	down   bool // it was stopped by the operator's command

	revived func() // while down: to be called when it is started

	offsets []int64 // by which its clock was set, in seconds
}

// A process is one life of a node.
type process struct {
	cmd   *exec.Cmd
	clock *wallclock.Clock // nil: it cannot be set
	ready chan struct{}    // closed when it says that it does its work
	ended chan struct{}    // closed when it has ended
	end   string           // how it ended; valid once ended is closed
}

// Start starts the process. The first node makes the cluster at its first start; all others join it.
func (n *Node) Start() error {
	if t := n.cluster.target; t != nil {
		return t.start(n)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.runningLocked() {
		return fmt.Errorf("%s runs already", n.Name)
	}
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p := &process{ready: make(chan struct{}), ended: make(chan struct{})}
	p.cmd = exec.Command(n.cluster.program, append(slices.Clone(n.args), n.cluster.join(n)...)...)
	if n.host != nil { // nsenter becomes the program: the process is the same
		p.cmd = exec.Command("nsenter", append(n.host.enter(), p.cmd.Args...)...)
	}
	p.cmd.Env = child.EnvironmentWithoutSettings()
	p.cmd.Stdout = &child.Lines{Line: p.hear}
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = child.Attributes()
	if err := n.cluster.launcher.Do(func() error { return p.start(n.cluster) }); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", n.Name, err), log.Close())
	}
	n.proc, n.asked, n.frozen = p, false, false
	n.cluster.processes.Go(func() {
		p.cmd.Wait()
		log.Close()
		if p.clock != nil {
			p.clock.Close()
		}
		n.ended(p)
	})
	return nil
}

// start starts the process, on a thread that lasts.
func (p *process) start(c *Cluster) (err error) {
	if !c.clocks {
		return p.cmd.Start()
	}
	p.cmd.Env = append(p.cmd.Env, "LONGSHIP_TIMERS_RELAXED=1") // else it starts itself anew, with a clock of the kernel
	p.clock, err = wallclock.Start(p.cmd, c.program)
	return err
}

// ended notes how a process ended, and complains if nobody ended it.
func (n *Node) ended(p *process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p.end = p.cmd.ProcessState.String()
	if !n.asked {
		n.cluster.complain(fmt.Sprintf("%s ended by itself (%s): %s", n.Name, p.end, n.lastLog()))
	}
	close(p.ended)
}

// hear is called for each line on the process's standard output.
func (p *process) hear(line string) {
	if strings.HasPrefix(line, "ready: ") && !isClosed(p.ready) {
		close(p.ready)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// LogFile is where the node's log goes, as JSON.
func (n *Node) LogFile() string { return n.Dir + ".log" }

// lastLog is the last line of the node's log, where it says why it ended.
func (n *Node) lastLog() string {
	b, err := os.ReadFile(n.LogFile())
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(b))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// Running reports whether there is a process, frozen or not.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.runningLocked()
}

func (n *Node) runningLocked() bool {
	if n.cluster.target != nil {
		return !n.down
	}
	return n.proc != nil && !isClosed(n.proc.ended)
}

// answers reports whether it makes sense to ask the node.
func (n *Node) answers() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.runningLocked() && !n.frozen
}

func (n *Node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// MayEnd says that the node may end by itself until it is started again: what is done to it makes it.
func (n *Node) MayEnd() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = true
}

// AwaitEnd waits for the process to end and returns its exit code, -1 if a signal ended it.
func (n *Node) AwaitEnd(ctx context.Context) (code int, err error) {
	p := n.process()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s has not ended: %w", n.Name, context.Cause(ctx))
	}
}

// AwaitReady waits until the node says that it does its work.
func (n *Node) AwaitReady(ctx context.Context) error {
	p := n.process()
	select {
	case <-p.ready:
		return nil
	case <-p.ended:
		return fmt.Errorf("%s ended before it was ready (%s): %s", n.Name, p.end, n.lastLog())
	case <-ctx.Done():
		return fmt.Errorf("%s is not ready: %w", n.Name, context.Cause(ctx))
	}
}

// isReady reports whether the node's process has said that it does its work. Of one that somebody else started
// that is not known.
func (n *Node) isReady() bool {
	if n.cluster.target != nil {
		return true
	}
	p := n.process()
	return p != nil && isClosed(p.ready)
}

// signal sends a signal; a process that has ended does not mind.
func (n *Node) signal(s syscall.Signal, ends bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = n.asked || ends
	if n.proc != nil {
		n.proc.cmd.Process.Signal(s)
	}
}

// Kill ends the process as a crash does, kill -9, and waits for its end.
func (n *Node) Kill() {
	n.signal(syscall.SIGKILL, true)
	if p := n.process(); p != nil {
		<-p.ended
	}
}

// Stop shuts the node down cleanly. An exit code other than 0 is an error.
func (n *Node) Stop(ctx context.Context) error {
	if t := n.cluster.target; t != nil {
		return t.stop(ctx, n)
	}
	n.signal(syscall.SIGTERM, true)
	code, err := n.AwaitEnd(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with exit code %d when it was told to stop: %s", n.Name, code, n.lastLog())
	}
	return err
}

// Freeze stops the process from running, but not from being there (SIGSTOP). When it returns every thread
// stands still.
func (n *Node) Freeze(ctx context.Context) error {
	n.signal(syscall.SIGSTOP, false)
	n.mu.Lock()
	n.frozen = true
	pid := n.proc.cmd.Process.Pid
	n.mu.Unlock()
	for !standsStill(pid) {
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not stand still: %w", n.Name, context.Cause(ctx))
		}
		runtime.Gosched()
	}
	return nil
}

// standsStill reports whether all threads of a process have stopped, see proc(5). Where there is no /proc it
// takes the signal's word for it.
func standsStill(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		b, err := os.ReadFile(path)
		_, state, _ := strings.Cut(string(b), ") ")
		if err == nil && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// Thaw lets a frozen process run on.
func (n *Node) Thaw() {
	n.signal(syscall.SIGCONT, false)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = false
}

// Port is the port for clients.
func (n *Node) Port() string {
	_, port, _ := net.SplitHostPort(n.Address)
	return port
}

// Epoch is the epoch that the node knows.
func (n *Node) Epoch(ctx context.Context) (uint64, error) {
	text, err := n.Value(ctx, "SELECT epoch FROM longship_cluster")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// Await waits until a query's one value is want, in a new session each time: nodes that change their role
// end their sessions.
func (n *Node) Await(ctx context.Context, query, want string) error {
	return poll(ctx, func(ctx context.Context) error {
		got, err := n.Value(ctx, query)
		if err == nil && got != want {
			err = fmt.Errorf("%s: %s = %q, want %q", n.Name, query, got, want)
		}
		return err
	})
}

// poll calls f until it succeeds. When ctx ends the error is f's last one.
func poll(ctx context.Context, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil || !sleep(ctx, pollPause) {
			return err
		}
	}
}

// pollPause is between two questions.
const pollPause = 20 * time.Millisecond

// sleep waits, and reports whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
