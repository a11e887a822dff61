// Package child runs nodes as child processes, which do not outlive the process that started them: for the
// demonstration and for the drills.
package child

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// Environment is ours without what would tell every node to be the same one.
func Environment() []string {
	return environment(func(name string) bool {
		switch name {
		case "LONGSHIP_DATA_DIR", "LONGSHIP_NAME", "LONGSHIP_LISTEN", "LONGSHIP_RAFT_LISTEN", "LONGSHIP_GOSSIP_LISTEN",
			"LONGSHIP_HTTP_LISTEN", "LONGSHIP_ADVERTISE_HOST", "LONGSHIP_JOIN":
			return false
		}
		return true
	})
}

// EnvironmentWithoutSettings is ours without anything that tells nodes what to do.
func EnvironmentWithoutSettings() []string {
	return environment(func(name string) bool { return !strings.HasPrefix(name, "LONGSHIP_") })
}

// environment is those of our variables whose names are wanted, but for the one that says whom to tell that we
// are ready.
func environment(wanted func(name string) bool) (env []string) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "NOTIFY_SOCKET" && wanted(name) {
			env = append(env, v)
		}
	}
	return env
}

// Reign is the epoch in what a node says when it is ready, behind "ready: ": "primary n1 127.0.0.1:5433 epoch
// 1". It is 0 for what a standby says.
func Reign(role string) uint64 {
	words := strings.Fields(role)
	if len(words) != 5 || words[0] != "primary" || words[3] != "epoch" {
		return 0
	}
	epoch, _ := strconv.ParseUint(words[4], 10, 64)
	return epoch
}

// A Lines calls Line for each whole line written to it. Carriage returns end lines, too.
type Lines struct {
	Line    func(string)
	partial []byte
}

// maxLine bounds what is kept of a line that does not end.
const maxLine = 64 << 10

// Write implements io.Writer.
func (w *Lines) Write(b []byte) (int, error) {
	w.partial = append(w.partial, b...)
	for {
		i := bytes.IndexAny(w.partial, "\r\n")
		if i < 0 {
			break
		}
		if i > 0 {
			w.Line(string(w.partial[:i]))
		}
		w.partial = w.partial[i+1:]
	}
	if len(w.partial) > maxLine {
		w.partial = nil
	}
	return len(b), nil
}

// A Launcher starts processes from one thread. The kernel's promise to kill children with their
// parent (PR_SET_PDEATHSIG) means the parent thread, so that thread must last.
type Launcher struct {
	requests chan func() error
	results  chan error
	mu       sync.Mutex
}

// NewLauncher returns a launcher that Run serves.
func NewLauncher() *Launcher {
	return &Launcher{requests: make(chan func() error), results: make(chan error)}
}

// Run serves until ctx ends. The thread ends with it, and with the thread every process that is
// still there.
func (l *Launcher) Run(ctx context.Context) {
	runtime.LockOSThread() // for good: a locked thread ends with its goroutine
	for {
		select {
		case start := <-l.requests:
			l.results <- start()
		case <-ctx.Done():
			return
		}
	}
}

// Start starts a program. It is called while Run serves.
func (l *Launcher) Start(cmd *exec.Cmd) error { return l.Do(cmd.Start) }

// Do has the thread call a function that starts a program. It is called while Run serves.
func (l *Launcher) Do(start func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests <- start
	return <-l.results
}
