package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longship-db/longship/internal/faults"
	"github.com/longship-db/longship/syncrep"
)

// hurried is five times as fast as the real thing.
var hurried = timing{
	probe: 200 * time.Millisecond, update: 50 * time.Millisecond, small: 500 * time.Millisecond,
	look: 50 * time.Millisecond, rejoin: 300 * time.Millisecond,
	conflict: 1500 * time.Millisecond, forget: time.Hour,
}

// A testNode is a Gossip in the test's hands.
type testNode struct {
	*Gossip
	t         *testing.T
	stop      func() // ends Run and waits for it
	epoch     *atomic.Uint64
	dead      chan string
	conflicts chan string
}

type nodeOption func(*Config)

func listenOn(addr string) nodeOption        { return func(c *Config) { c.Listen = addr } }
func withKey(key []byte) nodeOption          { return func(c *Config) { c.Key = key } }
func withTiming(tm timing) nodeOption        { return func(c *Config) { c.timing = tm } }
func withSeeds(f func() []string) nodeOption { return func(c *Config) { c.Seeds = f } }

func withID(id syncrep.ID) nodeOption {
	return func(c *Config) {
		inner := c.Meta
		c.Meta = func() Meta {
			m := inner()
			m.ID = id
			return m
		}
	}
}

// start runs a node whose number makes its name and identity, and which looks for the seeds.
func start(t *testing.T, number int, seeds []*testNode, options ...nodeOption) *testNode {
	t.Helper()
	n := &testNode{t: t, epoch: new(atomic.Uint64), dead: make(chan string, 100), conflicts: make(chan string, 100)}
	cfg := Config{
		Name: fmt.Sprintf("n%d", number), Listen: "127.0.0.1:0",
		Meta: func() Meta {
			m := testMeta(uint64(number))
			m.Epoch = n.epoch.Load()
			return m
		},
		Seeds: func() (list []string) {
			for _, s := range seeds {
				list = append(list, s.Address())
			}
			return list
		},
		OnDead:     func(name string) { n.dead <- name },
		OnConflict: func(text string) { n.conflicts <- text },
		Logger:     slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", number),
		timing:     hurried,
	}
	for _, o := range options {
		o(&cfg)
	}
	g, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { g.Run(ctx) })
	n.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(func() {
		n.stop()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// alive are the names that a node says are there, and their epochs.
func (n *testNode) alive() string {
	var list []string
	for _, m := range n.Members() {
		if m.Alive {
			list = append(list, fmt.Sprintf("%s:%d", m.Name, m.Meta.Epoch))
		}
	}
	return strings.Join(list, " ")
}

// eventually asks until the answer is the wanted one.
func eventually(t *testing.T, want string, ask func() string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); wait(t.Context(), 10*time.Millisecond) {
		if got = ask(); got == want {
			return
		}
	}
	t.Fatalf("got %q, want %q", got, want)
}

func (n *testNode) hears(c <-chan string, want string) {
	n.t.Helper()
	select {
	case got := <-c:
		if !strings.Contains(got, want) {
			n.t.Errorf("told %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		n.t.Fatalf("not told %q", want)
	}
}

// Three find each other through one, learn what each says and what changes, and notice the end of
// one that says good-bye and of one that falls silent.
func TestThree(t *testing.T) {
	for name, key := range map[string][]byte{"clear": nil, "encrypted": bytes.Repeat([]byte{1}, 32)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n1 := start(t, 1, nil, withKey(key))
			n2 := start(t, 2, []*testNode{n1}, withKey(key))
			n3 := start(t, 3, []*testNode{n1}, withKey(key))
			eventually(t, "n2:0 n3:0", n1.alive)
			eventually(t, "n1:0 n3:0", n2.alive)
			eventually(t, "n1:0 n2:0", n3.alive)
			want := testMeta(3)
			want.Epoch = 0
			if got := n1.Members()[1]; got.Meta != want || got.Address != n3.Address() {
				t.Errorf("n3 is %+v, want %+v at %s", got, want, n3.Address())
			}
			n3.epoch.Store(9)
			eventually(t, "n1:0 n3:9", n2.alive)

			n3.stop()
			if err := n3.Close(); err != nil {
				t.Error(err)
			}
			n1.hears(n1.dead, "n3")
			n2.Cut()
			n1.hears(n1.dead, "n2")
			eventually(t, "", n1.alive)
			if got := len(n1.Members()); got != 2 {
				t.Errorf("%d members are remembered, want 2", got)
			}
		})
	}
}

// With another key, or none, nobody is heard.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	n1 := start(t, 1, nil, withKey(bytes.Repeat([]byte{1}, 16)))
	n2 := start(t, 2, []*testNode{n1}, withKey(bytes.Repeat([]byte{1}, 16)))
	n3 := start(t, 3, []*testNode{n1}, withKey(bytes.Repeat([]byte{2}, 16)))
	n4 := start(t, 4, []*testNode{n1})
	eventually(t, "n2:0", n1.alive)
	eventually(t, "n1:0", n2.alive)
	wait(t.Context(), 5*hurried.look) // the others have tried by now
	// On a machine that stands still n2 may be out of hearing for a moment.
	if got := strings.TrimPrefix(n1.alive(), "n2:0") + n3.alive() + n4.alive(); got != "" {
		t.Errorf("heard %q across keys", got)
	}
	eventually(t, "n2:0", n1.alive)
}

// With the timing of the real thing, a node that falls silent is dead after about six seconds.
func TestDeadAfterSixSeconds(t *testing.T) {
	t.Parallel()
	n1 := start(t, 1, nil, withTiming(defaultTiming))
	n2 := start(t, 2, []*testNode{n1}, withTiming(defaultTiming))
	n3 := start(t, 3, []*testNode{n1}, withTiming(defaultTiming))
	eventually(t, "n1:0 n3:0", n2.alive)
	n3.Cut()
	began := time.Now()
	n1.hears(n1.dead, "n3")
	if took := time.Since(began); took < 3*time.Second || took > 9*time.Second {
		t.Errorf("dead after %v", took)
	}
}

// A node that comes back elsewhere is found again, and is not a conflict.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	n1 := start(t, 1, nil)
	n2 := start(t, 2, []*testNode{n1})
	eventually(t, "n2:0", n1.alive)
	n2.Cut()
	again := start(t, 2, []*testNode{n1})
	eventually(t, again.Address(), func() string {
		if m := n1.Members(); len(m) == 1 && m[0].Alive {
			return m[0].Address
		}
		return ""
	})
	wait(t.Context(), 2*hurried.conflict)
	select {
	case text := <-n1.conflicts:
		t.Errorf("told %q", text)
	default:
	}
}

// A copied directory, with its identity, is a conflict; so is a name given twice.
func TestConflicts(t *testing.T) {
	t.Parallel()
	n1 := start(t, 1, nil)
	n2 := start(t, 2, []*testNode{n1})
	eventually(t, "n2:0", n1.alive)
	n2copy := start(t, 2, []*testNode{n1})
	n1.hears(n1.conflicts, "two processes run as n2 with one and the same data, at ")
	n2copy.stop()
	n2copy.Cut()

	start(t, 2, []*testNode{n1}, withID(syncrep.ID{Node: 77, Incarnation: 78}))
	n1.hears(n1.conflicts, "two nodes are called n2 (n2.0000000000000002.0000000200000000 and n2.000000000000004d.000000000000004e)")
	n2.hears(n2.conflicts, "two ")
}

// A node that was given up is found again through the seeds: nobody else would try.
func TestRejoin(t *testing.T) {
	t.Parallel()
	n1 := start(t, 1, nil)
	var known atomic.Bool
	n2 := start(t, 2, nil, withSeeds(func() []string {
		if known.Load() {
			_, port, _ := net.SplitHostPort(n1.Address())
			return []string{net.JoinHostPort("localhost", port), "nonsense", "127.0.0.1:1"}
		}
		return nil
	}))
	wait(t.Context(), 3*hurried.look)
	if got := n1.alive() + n2.alive(); got != "" {
		t.Fatalf("heard %q without seeds", got)
	}
	known.Store(true)
	eventually(t, "n1:0", n2.alive)
	eventually(t, "n2:0", n1.alive)
}

// A name is resolved before it is bound: memberlist would listen on every interface.
func TestListensWhereTold(t *testing.T) {
	n := start(t, 1, nil, listenOn("localhost:0"))
	host, port, err := net.SplitHostPort(n.Address())
	if err != nil || host != "127.0.0.1" {
		t.Errorf("advertises %s, %v", n.Address(), err)
	}
	other, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Errorf("127.0.0.2 is taken, too: %v", err)
	} else {
		other.Close()
	}
}

func TestOpenRefuses(t *testing.T) {
	n := start(t, 1, nil)
	for want, change := range map[string]func(*Config){
		"address already in use":  func(c *Config) { c.Listen = n.Address() },
		"missing port":            func(c *Config) { c.Listen = "127.0.0.1" },
		"say under which address": func(c *Config) { c.Listen = ":0" },
		"advertised address":      func(c *Config) { c.Advertise = "127.0.0.1" },
		"key size":                func(c *Config) { c.Key = []byte("short") },
		"printable ASCII":         func(c *Config) { c.Meta = func() Meta { return Meta{Client: "\n"} } },
	} {
		cfg := Config{
			Name: "n2", Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
			Meta: func() Meta { return testMeta(2) }, Seeds: func() []string { return nil },
		}
		change(&cfg)
		g, err := Open(cfg)
		if err == nil {
			g.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open() = %v, want %q", err, want)
		}
	}
}

// Cut does not wait, not even for a Close, and what it leaves behind ends.
func TestCut(t *testing.T) {
	n1 := start(t, 1, nil)
	n2 := start(t, 2, []*testNode{n1})
	eventually(t, "n2:0", n1.alive)
	began := time.Now()
	n2.Cut()
	n2.Cut()
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("Cut took %v", took)
	}
	n2.stop()
	eventually(t, "", func() string { // the port is free again
		l, err := net.Listen("tcp", n2.Address())
		if err != nil {
			return err.Error()
		}
		l.Close()
		return ""
	})
	eventually(t, "true", func() string { // memberlist does not wait for its goroutines, but ends them
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return fmt.Sprint(!bytes.Contains(stacks, []byte("gossip.(*Gossip).Cut")))
	})
}

// Between two that are cut off from each other nothing passes, by UDP or TCP, and afterwards all does.
func TestFaults(t *testing.T) {
	t.Parallel()
	var nodes [2]*testNode
	var tables [2]*faults.Table
	for i := range nodes {
		tables[i] = faults.NewTable(func(string) []string { return []string{nodes[1-i].Address()} })
		nodes[i] = start(t, i+1, nil, withSeeds(func() []string { return nil }), func(c *Config) {
			c.Dial = tables[i].Dialer(faults.Gossip, new(net.Dialer).DialContext)
			c.Packets = tables[i].Packets(faults.Gossip)
		})
		t.Cleanup(tables[i].Close)
	}
	if _, err := nodes[0].list.Join([]string{nodes[1].Address()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "n2:0", nodes[0].alive)
	eventually(t, "n1:0", nodes[1].alive)
	for _, table := range tables {
		if _, err := table.Inject(faults.Fault{Effect: faults.Cut, Peer: "other"}); err != nil {
			t.Fatal(err)
		}
	}
	nodes[0].hears(nodes[0].dead, "n2")
	nodes[1].hears(nodes[1].dead, "n1")
	if _, err := nodes[0].list.Join([]string{nodes[1].Address()}); err == nil {
		t.Error("the other one can be reached through a cut")
	}
	for _, table := range tables {
		table.Heal(0)
	}
	if _, err := nodes[0].list.Join([]string{nodes[1].Address()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "n2:0", nodes[0].alive)
	eventually(t, "n1:0", nodes[1].alive)
}
