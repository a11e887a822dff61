package demo

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longship-db/longship/node"
	"github.com/longship-db/longship/startup"
)

// runNode is a real node.
func runNode(args map[string]string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	n, err := node.New(node.Config{
		DataDir:          args["--data-dir"],
		Name:             args["--name"],
		Listen:           args["--listen"],
		RaftListen:       args["--raft-listen"],
		GossipListen:     args["--gossip-listen"],
		HTTPListen:       args["--http-listen"],
		Join:             strings.FieldsFunc(args["--join"], func(r rune) bool { return r == ',' }),
		FailoverPriority: 1,
		SegmentSize:      1 << 20,
		Logger:           slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Out:              os.Stdout,
	})
	if err == nil {
		err = n.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// The primary is killed twice under load: each time there is another reign, nothing is lost, the dead
// come back, and in the end no process is left. The next primary is another node, unless the dead one
// is back before anybody is named: then its log may be the longest.
func TestFailovers(t *testing.T) {
	t.Setenv("FAKE_NODE", "not")
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	outcome := make(chan error, 1)
	go func() {
		cfg := Config{Nodes: 3, Dir: dir, Port: freePorts(t), Load: 200, RestartDelay: time.Second, Program: os.Args[0], Out: w}
		outcome <- Run(ctx, t.Context(), cfg)
		w.Close()
	}()
	reign := regexp.MustCompile(`^primary (n\d) since \S+, epoch (\d+), no commit acknowledged for \d+\.\d\d s$`)
	primaries := []string{"n1"}
	var epochs []int // of those after the first
	pids := map[string]bool{}
	var last string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		last = lines.Text()
		t.Log(last)
		for _, name := range []string{"n1", "n2", "n3"} {
			pids[pidOf(dir, name)] = true
		}
		if m := reign.FindStringSubmatch(last); m != nil {
			epoch, err := strconv.Atoi(m[2])
			if err != nil {
				t.Error(err)
			}
			primaries, epochs = append(primaries, m[1]), append(epochs, epoch)
		}
		// Once a second: all run, so the next one to be killed can be replaced.
		primary := primaries[len(primaries)-1]
		switch steady := strings.Count(last, " running") == 3 && strings.Contains(last, "primary "+primary+" "); {
		case !steady:
		case len(primaries) >= 3:
			end()
		default:
			pid, err := strconv.Atoi(pidOf(dir, primary))
			if err != nil {
				t.Error(err)
			}
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if err := <-outcome; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if len(primaries) < 3 || !slices.IsSorted(epochs) || len(slices.Compact(epochs)) != len(primaries)-1 {
		t.Errorf("primaries %v of epochs %v, want two changes", primaries, epochs)
	}
	if !strings.HasPrefix(last, "acknowledged ") || !strings.HasSuffix(last, " lost 0") {
		t.Errorf("last line %q", last)
	}
	for pid := range pids {
		if alive(pid) {
			t.Errorf("process %s is still there", pid)
		}
	}
}

// pidOf is the process that a node's pid file names, "" if there is none.
func pidOf(dir, name string) string {
	text, _ := os.ReadFile(filepath.Join(dir, name, startup.PIDFile))
	pid, _, _ := strings.Cut(string(text), "\n")
	return pid
}
