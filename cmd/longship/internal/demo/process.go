package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/longship-db/longship/internal/child"
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
func (p *process) supervise(l *child.Launcher, delay time.Duration, hasten <-chan struct{}, event func(string)) error {
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
func (p *process) runOnce(l *child.Launcher) (end string, err error) {
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command(p.program, p.arguments()...)
	cmd.Env = child.Environment()
	cmd.Stdout = &child.Lines{Line: p.hear}
	cmd.Stderr = log
	cmd.SysProcAttr = child.Attributes()

	// Starting and stopping exclude each other: nothing is started after stop.
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return "", nil
	}
	if err := l.Start(cmd); err != nil {
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

// hear is called for each line that the node prints.
func (p *process) hear(line string) {
	p.mu.Lock()
	p.said = line
	role, ok := strings.CutPrefix(line, "ready: ")
	if !ok {
		p.mu.Unlock()
		return
	}
	p.ready, p.epoch = true, child.Reign(role)
	epoch := p.epoch
	if !isClosed(p.readiness) {
		close(p.readiness)
	}
	p.mu.Unlock()
	if epoch != 0 {
		p.opened(epoch)
	}
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
