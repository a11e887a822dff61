package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longship-db/longship/cmd/longship/internal/status"
	"github.com/longship-db/longship/wal"
)

// TestMain lets the test binary play a node: "start" is how a cluster runs its program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "start" {
		os.Exit(playNode())
	}
	os.Exit(m.Run())
}

// playNode is ready at once and ends at SIGTERM, unless FAKE_NODE says otherwise.
func playNode() int {
	args := map[string]string{}
	for i := 2; i+1 < len(os.Args); i += 2 {
		args[os.Args[i]] = os.Args[i+1]
	}
	if os.Getenv("FAKE_NODE") == "not" {
		return runNode(args)
	}
	name, dir := args["--name"], args["--data-dir"]
	if os.Getenv("FAKE_NODE") == "broken" && name == "n2" {
		fmt.Fprintln(os.Stderr, "longship: no luck today")
		return 1
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	os.MkdirAll(dir, 0o700)
	os.WriteFile(filepath.Join(dir, "longship.pid"), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)
	if _, standby := args["--join"]; standby {
		fmt.Printf("base copy: 50%% (1 of 2 MB)\nready: standby %s %s follows %s\n", name, args["--listen"], args["--join"])
	} else {
		fmt.Printf("ready: primary %s %s epoch 1\n", name, args["--listen"])
	}
	if os.Getenv("FAKE_NODE") == "deaf" {
		select {}
	}
	<-terminated
	return 0
}

func startFakes(t *testing.T, behaviour string) (*cluster, chan string) {
	t.Helper()
	t.Setenv("FAKE_NODE", behaviour)
	events := make(chan string, 100)
	cfg := Config{Nodes: 2, Dir: t.TempDir(), Port: 1, RestartDelay: time.Millisecond, Program: os.Args[0]}
	c := newCluster(cfg, func(line string) { events <- line }, func(uint64) {})
	c.start()
	return c, events
}

func alive(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && syscall.Kill(n, 0) == nil
}

// A node that is killed is started again, and when the cluster has been stopped nobody is left.
func TestClusterRestartsTheDead(t *testing.T) {
	c, events := startFakes(t, "")
	if err := c.waitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	primary := c.primary()
	if primary == nil || primary.name != "n1" {
		t.Fatalf("primary() = %v, want n1", primary)
	}
	n2 := c.processes[1]
	first := n2.condition().pid
	pid, _ := strconv.Atoi(first)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got, want := <-events, "n2 has ended (signal: killed); it starts again in 1ms"; got != want {
		t.Errorf("event %q, want %q", got, want)
	}
	for n2.condition().text != "running" {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	second := n2.condition().pid
	if second == first || !alive(second) {
		t.Errorf("n2 is process %s, was %s", second, first)
	}
	pids := []string{primary.condition().pid, second}
	c.stop(t.Context())
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %s is still there", pid)
		}
	}
}

// A node that does not listen to SIGTERM is killed when there is no more time.
func TestClusterStopsTheDeaf(t *testing.T) {
	c, _ := startFakes(t, "deaf")
	if err := c.waitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := c.processes[0].condition().pid
	hurry, now := context.WithCancel(t.Context())
	now()
	c.stop(hurry)
	if alive(pid) {
		t.Errorf("process %s is still there", pid)
	}
}

// A node that cannot be started ends the demonstration, with its own words.
func TestClusterReportsTheBroken(t *testing.T) {
	c, _ := startFakes(t, "broken")
	defer c.stop(t.Context())
	err := c.waitReady(t.Context())
	if err == nil || err.Error() != "n2 ended before it was ready: exit status 1: no luck today" {
		t.Errorf("waitReady() = %v", err)
	}
}

// freePorts is where a demonstration of three nodes can run, below the ports that the system hands out.
// freePorts is the first port of a demonstration. Like the tests of package node it takes blocks of
// twenty ports, and owns each by listening on the one before the first: nobody takes the port of a node
// that is being started again.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		cfg := Config{Nodes: 3, Port: 10_001 + rand.IntN(1000)*20}
		if leasePorts(t, cfg) && checkPorts(cfg) == nil {
			return cfg.Port
		}
	}
	t.Fatal("no free ports")
	return 0
}

func leasePorts(t *testing.T, cfg Config) bool {
	for _, offset := range []int{0, raftPorts, gossipPorts, httpPorts} {
		lease, err := net.Listen("tcp", cfg.at(-1, offset))
		if err != nil {
			return false
		}
		t.Cleanup(func() { lease.Close() })
	}
	return true
}

// Whichever port is taken, it is noticed before anything is started or made.
func TestPortInUse(t *testing.T) {
	base := freePorts(t)
	for _, test := range []struct {
		network string
		offset  int
		want    string
	}{{"tcp", 0, "for clients"}, {"tcp", 2, "for clients"}, {"tcp", 101, "for Raft"}, {"tcp", 202, "for gossip:"}, {"udp", 200, "for gossip over UDP"}} {
		t.Run(fmt.Sprint(test.network, test.offset), func(t *testing.T) {
			address := net.JoinHostPort(host, strconv.Itoa(base+test.offset))
			var l io.Closer
			var err error
			if test.network == "udp" {
				l, err = net.ListenPacket("udp", address)
			} else {
				l, err = net.Listen("tcp", address)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			dir := filepath.Join(t.TempDir(), "demo")
			err = Run(t.Context(), t.Context(), Config{Nodes: 3, Port: base, Load: 1, Dir: dir, Program: "/nonexistent"})
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), address+" "+test.want) || !strings.Contains(err.Error(), "--port") {
				t.Errorf("Run() = %v, want address in use, %q and what to do", err, test.want)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder was made: %v", err)
			}
		})
	}
}

// The first node makes the cluster, once. Later, and where an earlier run has left one, all join.
func TestArguments(t *testing.T) {
	joins := func(c *cluster) string {
		var list []string
		for _, p := range c.processes {
			args := p.arguments()
			if i := slices.Index(args, "--join"); i >= 0 {
				list = append(list, args[i+1])
			} else {
				list = append(list, "-")
			}
		}
		return strings.Join(list, " ")
	}
	cfg := Config{Nodes: 3, Dir: t.TempDir(), Port: 1}
	c := newCluster(cfg, nil, func(uint64) {})
	if got, want := joins(c), "- 127.0.0.1:1 127.0.0.1:1"; got != want {
		t.Errorf("at first %s, want %s", got, want)
	}
	all := "127.0.0.1:2,127.0.0.1:3 127.0.0.1:1,127.0.0.1:3 127.0.0.1:1,127.0.0.1:2"
	for _, p := range c.processes {
		p.hear("ready: primary n1 127.0.0.1:1 epoch 1")
	}
	if got := joins(c); got != all {
		t.Errorf("once they were ready %s, want %s", got, all)
	}
	n3 := c.processes[2]
	if err := os.MkdirAll(n3.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n3.dir, identityFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := joins(newCluster(cfg, nil, nil)); got != all {
		t.Errorf("where there was a cluster %s, want %s", got, all)
	}
}

// Nodes that were deposed and do not know it are not the primary.
func TestLatestPrimary(t *testing.T) {
	c := newCluster(Config{Nodes: 3, Dir: t.TempDir(), Port: 1}, nil, func(uint64) {})
	for i, line := range []string{"primary n1 127.0.0.1:1 epoch 9", "primary n2 127.0.0.1:2 epoch 10", "primary n3 127.0.0.1:3 epoch 8"} {
		c.processes[i].hear("ready: " + line)
	}
	if p := c.primary(); p == nil || p.name != "n2" {
		t.Errorf("primary() = %v, want n2", p)
	}
	c.processes[1].hear("ready: standby n2 127.0.0.1:2 follows 127.0.0.1:1")
	if p := c.primary(); p == nil || p.name != "n1" {
		t.Errorf("primary() = %v, want n1", p)
	}
}

func TestReigns(t *testing.T) {
	var r Reigns
	at := func(ms int) time.Time {
		return time.Date(2000, 1, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
	}
	var began []string
	note := func(node string, epoch uint64, ms int) {
		if reign, isNew := r.Acknowledged(node, epoch, at(ms)); isNew {
			began = append(began, reign.String())
		}
	}
	if reign, silence := r.Now(at(0)); reign != (Reign{}) || silence != 0 {
		t.Errorf("Now() at first = %v, %s", reign, silence)
	}
	note("n1", 1, 1000)
	note("n1", 1, 2000)
	note("n1", 1, 1990) // noted late: time does not go back
	note("n2", 2, 2430)
	note("n1", 1, 2440) // of a reign that is over: nothing
	note("n1", 3, 2500)
	want := "primary n1 since 12:00:01, epoch 1; " +
		"primary n2 since 12:00:02, epoch 2, no commit acknowledged for 0.43 s; " +
		"primary n1 since 12:00:02, epoch 3, no commit acknowledged for 0.07 s"
	if got := strings.Join(began, "; "); got != want {
		t.Errorf("reigns %s, want %s", got, want)
	}
	if reign, silence := r.Now(at(3000)); reign.Epoch != 3 || silence != 500*time.Millisecond {
		t.Errorf("Now() = %v, %s", reign, silence)
	}
	if count, longest := r.Changes(); count != 2 || longest != 430*time.Millisecond {
		t.Errorf("Changes() = %d, %s", count, longest)
	}
}

// When a later epoch has begun, whoever waits for an earlier primary stops waiting.
func TestFollow(t *testing.T) {
	l := newLoad(Config{Nodes: 3, Port: 1, Load: 50}, NewLedger(), new(Reigns), nil)
	defer l.abandon()
	open := func(i int, epoch uint64) *session {
		s := &session{epoch: epoch}
		s.ctx, s.end = context.WithCancel(t.Context())
		l.all[i].session.Store(s)
		return s
	}
	old, present := open(0, 1), open(1, 2)
	l.follow(2)
	l.follow(1) // heard late
	if old.ctx.Err() == nil || present.ctx.Err() != nil || l.newest.Load() != 2 {
		t.Errorf("old session %v, present %v, newest epoch %d", old.ctx.Err(), present.ctx.Err(), l.newest.Load())
	}
}

func TestLedger(t *testing.T) {
	tests := []struct {
		name string
		note func(l *Ledger)
		rows map[string]string
		keys int
		lost string
	}{
		{"nothing happened", func(*Ledger) {}, nil, 0, ""},
		{"acknowledged and there", func(l *Ledger) { l.Acknowledged("k", 1, 0) }, map[string]string{"k": "1"}, 1, ""},
		{"acknowledged and gone", func(l *Ledger) { l.Acknowledged("k", 1, 0) }, nil, 1, "k: 1 was acknowledged, found no row"},
		{"rolled back", func(l *Ledger) { l.Acknowledged("k", 1, 0); l.Acknowledged("k", 2, 0) }, map[string]string{"k": "1"}, 1, "k: 2 was acknowledged, found 1"},
		{"unknown did not happen", func(l *Ledger) { l.Acknowledged("k", 1, 0); l.Unknown("k", 2) }, map[string]string{"k": "1"}, 1, ""},
		{"unknown happened", func(l *Ledger) { l.Acknowledged("k", 1, 0); l.Unknown("k", 2) }, map[string]string{"k": "2"}, 1, ""},
		{"unknown excuses nothing else", func(l *Ledger) { l.Acknowledged("k", 1, 0); l.Unknown("k", 2) }, map[string]string{"k": "3"}, 1, "k: 1 was acknowledged, found 3"},
		{"only unknown", func(l *Ledger) { l.Unknown("k", 2) }, nil, 0, ""},
		{"refused", func(l *Ledger) { l.Refused() }, nil, 0, ""},
		{"left by an earlier run", func(l *Ledger) { l.Acknowledged("k", 1, 0) }, map[string]string{"k": "1", "old": "9"}, 1, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := NewLedger()
			test.note(l)
			keys, lost := l.Check(test.rows)
			var text []string
			for _, l := range lost {
				text = append(text, l.String())
			}
			if got := strings.Join(text, "; "); keys != test.keys || got != test.lost {
				t.Errorf("Check() = %d, %q, want %d, %q", keys, got, test.keys, test.lost)
			}
		})
	}
}

func TestLedgerCounts(t *testing.T) {
	l := NewLedger()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.waitFirst(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("waitFirst() before the first acknowledgement = %v", err)
	}
	l.Acknowledged("a", 1, 3*time.Millisecond)
	l.Acknowledged("b", 2, time.Millisecond)
	l.Unknown("a", 3)
	l.Refused()
	if err := l.waitFirst(t.Context()); err != nil {
		t.Errorf("waitFirst() = %v", err)
	}
	if got, want := l.Totals(), (Totals{2, 1, 1}); got != want {
		t.Errorf("Totals() = %v, want %v", got, want)
	}
	recent := l.Recent()
	if got := percentile(recent, 50) + ", " + percentile(recent, 100); got != "1 ms, 3 ms" {
		t.Errorf("percentiles %s", got)
	}
	if got := percentile(l.Recent(), 50); got != "-" {
		t.Errorf("percentile of nothing: %s", got)
	}
}

// After an unknown outcome a writer leaves the key alone.
func TestUnknownRetiresTheKey(t *testing.T) {
	w := &writer{id: 3, keys: make([]string, 2)}
	var names []string
	for range 2 {
		for range 2 {
			key, _ := w.next()
			names = append(names, key)
		}
	}
	w.retire(names[3])
	for range 2 {
		key, _ := w.next()
		names = append(names, key)
	}
	if got, want := strings.Join(names, " "), "demo/03/1 demo/03/0 demo/03/1 demo/03/0 demo/03/1 demo/03/2"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
}

// What is not a terminal gets whole lines, and when nobody reads them any more, that is noticed.
func TestDisplayWithoutTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	d := newDisplay(f, func() { gone++ })
	d.event("ready")
	d.update("1s 200 commits/s", []string{"a", "table"})
	d.endBlock()
	d.close()
	if got, err := os.ReadFile(f.Name()); err != nil || string(got) != "ready\n1s 200 commits/s\n" {
		t.Errorf("printed %q, %v", got, err)
	}
	f.Close()
	if d.event("more"); gone != 1 {
		t.Errorf("gone was called %d times for a closed file, want 1", gone)
	}
}

// A standbyAt has replayed up to a position and holds one key. At 0 it is a primary.
type standbyAt wal.LSN

func (s standbyAt) Query(_ context.Context, statements ...string) ([][]status.Row, error) {
	if strings.Contains(statements[0], "replay_lsn") {
		return [][]status.Row{{{{Name: "replay_lsn", Value: wal.LSN(s).String()}, {Name: "standby", Value: s != 0}}}}, nil
	}
	return [][]status.Row{{{{Name: "key", Value: "demo/k"}, {Name: "value", Value: "7"}, {Name: "lsn", Value: "0/50"}}}}, nil
}

func TestReadKeysWaitsForReplay(t *testing.T) {
	if _, _, err := readKeys(t.Context(), standbyAt(0x4F), 0x50); err == nil {
		t.Error("a standby that is behind was read")
	}
	for _, at := range []standbyAt{0x50, 0} { // 0: it has become the primary
		rows, end, err := readKeys(t.Context(), at, 0x50)
		if err != nil || rows["demo/k"] != "7" || end != 0x50 {
			t.Errorf("readKeys() at %s = %v, %s, %v", wal.LSN(at), rows, end, err)
		}
	}
}
