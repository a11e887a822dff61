package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

	"github.com/longship-db/longship/startup"
)

// A process is one node: started, and started again when it dies, until it is stopped.
type process struct {
	name    string
	address string
	dir     string
	args    []string // of the program, without --join
	others  []string // addresses of the other nodes
	founder string   // address of the node that makes the cluster; "": there is one
	program string
	opened  func(epoch uint64) // called when the node says that its epoch as primary has begun

	mu       sync.Mutex
	cmd      *exec.Cmd // nil while it is down
	stopping bool
	epoch    uint64    // as primary, when it last said that it is ready; 0: it is a standby
	ready    bool      // since it was last started
	started  time.Time // last
	restart  time.Time // when it will be started again, while it is down
	said     string    // the last line on its standard output

	readiness chan struct{} // closed when it is ready for the first time
	ended     chan struct{} // closed when it has ended and is not started again
}

func newProcess(cfg Config, i int) *process {
	p := &process{
		name:      cfg.name(i),
		address:   cfg.address(i),
		dir:       filepath.Join(cfg.Dir, cfg.name(i)),
		program:   cfg.Program,
		readiness: make(chan struct{}),
		ended:     make(chan struct{}),
	}
	p.args = []string{"start", "--data-dir", p.dir, "--name", p.name, "--listen", p.address,
		"--raft-listen", cfg.at(i, raftPorts), "--gossip-listen", cfg.at(i, gossipPorts),
		"--http-listen", cfg.at(i, httpPorts)}
	for j := range cfg.Nodes {
		if j != i {
			p.others = append(p.others, cfg.address(j))
		}
	}
	return p
}

// arguments are those of the program for its next start. The first node of all makes the cluster, once:
// if its directory is lost later, it comes back as a new member, and does not make another cluster.
func (p *process) arguments() []string {
	join := p.others
	if p.founder != "" && !isClosed(p.readiness) {
		join = []string{p.founder}
		if p.founder == p.address {
			join = nil
		}
	}
	if len(join) == 0 {
		return p.args
	}
	return append(slices.Clone(p.args), "--join", strings.Join(join, ","))
}

// identityFile is in the directory of a node that is a member of a cluster.
const identityFile = "node.json"

func (p *process) exists() bool {
	_, err := os.Stat(filepath.Join(p.dir, identityFile))
	return err == nil
}

func (p *process) pidFile() string { return filepath.Join(p.dir, startup.PIDFile) }
func (p *process) logFile() string { return p.dir + ".log" }

// supervise keeps the node running. It returns when the node has been stopped, or an error if it
// ends before it was ever ready: then something is wrong that trying again does not mend. A node that
// died is started again after delay, or when hasten is closed.
func (p *process) supervise(l *launcher, delay time.Duration, hasten <-chan struct{}, event func(string)) error {
	for {
		end, err := p.runOnce(l)
		p.mu.Lock()
		stopping, everReady := p.stopping, isClosed(p.readiness)
		p.restart = time.Now().Add(delay)
		p.mu.Unlock()
		if err != nil {
			end = "cannot be started: " + err.Error()
		}
		switch {
		case stopping:
			return nil
		case !everReady:
			return fmt.Errorf("%s ended before it was ready: %s", p.name, end)
		}
		event(fmt.Sprintf("%s has ended (%s); it starts again in %s", p.name, end, delay))
		p.pause(delay, hasten)
	}
}

// minPause is between two starts of a node that keeps failing, even in haste.
const minPause = time.Second

// pause waits for delay; once hasten is closed, for no longer than minPause after the last start.
func (p *process) pause(delay time.Duration, hasten <-chan struct{}) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-hasten:
		time.Sleep(min(time.Until(p.startedAt().Add(minPause)), delay))
	case <-timer.C:
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

// runOnce starts the node, waits for its end, and says how it ended.
func (p *process) runOnce(l *launcher) (end string, err error) {
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command(p.program, p.arguments()...)
	cmd.Env = environment()
	cmd.Stdout = &lineWriter{line: p.hear}
	cmd.Stderr = log
	cmd.SysProcAttr = childAttributes()

	// Starting and stopping exclude each other: nothing is started after stop.
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return "", nil
	}
	if err := l.start(cmd); err != nil {
		p.mu.Unlock()
		return "", err
	}
	p.cmd, p.ready, p.started = cmd, false, time.Now()
	p.mu.Unlock()

	err = cmd.Wait()
	p.mu.Lock()
	p.cmd, p.ready = nil, false
	p.mu.Unlock()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return "", err
	}
	end = cmd.ProcessState.String()
	if cmd.ProcessState.Exited() && !cmd.ProcessState.Success() {
		end += ": " + p.lastLog()
	}
	return end, nil
}

func (p *process) startedAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started
}

// environment is ours without what would tell every node to be the same one.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "LONGSHIP_DATA_DIR", "LONGSHIP_NAME", "LONGSHIP_LISTEN", "LONGSHIP_RAFT_LISTEN", "LONGSHIP_GOSSIP_LISTEN",
			"LONGSHIP_HTTP_LISTEN", "LONGSHIP_ADVERTISE_HOST", "LONGSHIP_JOIN", "NOTIFY_SOCKET":
		default:
			env = append(env, v)
		}
	}
	return env
}

// hear is called for each line that the node prints.
func (p *process) hear(line string) {
	p.mu.Lock()
	p.said = line
	role, ok := strings.CutPrefix(line, "ready: ")
	if !ok {
		p.mu.Unlock()
		return
	}
	p.ready, p.epoch = true, reignIn(role)
	epoch := p.epoch
	if !isClosed(p.readiness) {
		close(p.readiness)
	}
	p.mu.Unlock()
	if epoch != 0 {
		p.opened(epoch)
	}
}

// reignIn is the epoch in "primary n1 127.0.0.1:5433 epoch 1", and 0 for what a standby says.
func reignIn(role string) uint64 {
	words := strings.Fields(role)
	if len(words) != 5 || words[0] != "primary" || words[3] != "epoch" {
		return 0
	}
	epoch, _ := strconv.ParseUint(words[4], 10, 64)
	return epoch
}

// stop sends the signal, if the node runs, and keeps it from being started again.
func (p *process) stop(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	if p.cmd != nil {
		p.cmd.Process.Signal(s) // it may have ended meanwhile
	}
}

// awaitEnd waits for the end of a node that has been told to stop. When ctx ends it is killed.
func (p *process) awaitEnd(ctx context.Context) {
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.stop(syscall.SIGKILL)
		<-p.ended
	}
}

// A condition is what there is to say of a process.
type condition struct {
	pid   string // "-" while it is down
	text  string
	ready bool
	epoch uint64 // of which it says that it is the primary; 0: of none
}

func (p *process) condition() condition {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := condition{pid: "-", ready: p.ready}
	if p.ready {
		c.epoch = p.epoch
	}
	if p.cmd != nil {
		c.pid = fmt.Sprint(p.cmd.Process.Pid)
	}
	switch {
	case p.cmd == nil && p.restart.IsZero():
		c.text = "not started"
	case p.cmd == nil:
		c.text = fmt.Sprintf("down, starts in %.0fs", max(time.Until(p.restart), 0).Seconds())
	case p.ready:
		c.text = "running"
	case p.said != "" && !strings.HasPrefix(p.said, "ready: "):
		c.text = p.said // how far a base copy is
	default:
		c.text = "starting"
	}
	return c
}

// lastLog is the last line of the node's log, where it says why it ended.
func (p *process) lastLog() string {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "longship: ")
}

// A lineWriter calls line for each whole line written to it. Carriage returns end lines, too.
type lineWriter struct {
	line    func(string)
	partial []byte
}

// maxLine bounds what is kept of a line that does not end.
const maxLine = 64 << 10

func (w *lineWriter) Write(b []byte) (int, error) {
	w.partial = append(w.partial, b...)
	for {
		i := bytes.IndexAny(w.partial, "\r\n")
		if i < 0 {
			break
		}
		if i > 0 {
			w.line(string(w.partial[:i]))
		}
		w.partial = w.partial[i+1:]
	}
	if len(w.partial) > maxLine {
		w.partial = nil
	}
	return len(b), nil
}

// A launcher starts processes from one thread. The kernel's promise to kill children with their
// parent (PR_SET_PDEATHSIG) means the parent thread, so that thread must last.
type launcher struct {
	requests chan *exec.Cmd
	results  chan error
	mu       sync.Mutex
}

func newLauncher() *launcher {
	return &launcher{requests: make(chan *exec.Cmd), results: make(chan error)}
}

// run serves until ctx ends. The thread ends with it, and with the thread every process that is
// still there.
func (l *launcher) run(ctx context.Context) {
	runtime.LockOSThread() // for good: a locked thread ends with its goroutine
	for {
		select {
		case cmd := <-l.requests:
			l.results <- cmd.Start()
		case <-ctx.Done():
			return
		}
	}
}

func (l *launcher) start(cmd *exec.Cmd) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests <- cmd
	return <-l.results
}
