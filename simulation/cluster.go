package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/node"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

const (
	dataDir    = "/data"
	clientPort = 5433
	raftPort   = 5434
	gossipPort = 5435
)

// A machine is where one node of the cluster lives: its disk, and the process that runs, if one does.
type machine struct {
	cluster *cluster
	name    string
	ip      string
	join    bool // it takes its data from the others when it has none

	priority int
	witness  bool

	flipped atomic.Bool // a bit of the disk was changed
	removed atomic.Bool // the cluster was told to do without it

	mu      sync.Mutex
	disk    *Disk // between two processes
	process *process
}

// A process is one run of a node.
type process struct {
	machine *machine
	node    *node.Node
	host    *Host
	mount   *Mount
	stop    context.CancelFunc
	ended   chan struct{} // closed when the node's Run has returned
	err     error         // what it returned
	mute    *mute
}

// A cluster is all of a simulation but for those who use and who break it.
type cluster struct {
	rng      *source
	network  *Network
	vine     *grapevine
	trace    *trace
	machines []*machine
	settings map[string]string
}

// A source is a random source that many may use.
type source struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newSource(seed, stream uint64) *source { return &source{r: rand.New(rand.NewPCG(seed, stream))} }

// n is a number from 0 to n-1.
func (s *source) n(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.IntN(n)
}

// chance is true so many times in a hundred.
func (s *source) chance(percent int) bool { return s.n(100) < percent }

// upTo is a time from 0 to d.
func (s *source) upTo(d time.Duration) time.Duration {
	return time.Duration(s.n(int(d/time.Microsecond)+1)) * time.Microsecond
}

// fork is a random source of its own.
func (s *source) fork() *rand.Rand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rand.New(rand.NewPCG(s.r.Uint64(), s.r.Uint64()))
}

func newCluster(nodes int, rng *source, t *trace, settings map[string]string) *cluster {
	network := NewNetwork(rng.fork())
	c := &cluster{
		rng: rng, network: network, trace: t, settings: settings,
		vine: &grapevine{network: network, peers: map[*gossiper]bool{}},
	}
	for i := range nodes {
		c.machines = append(c.machines, &machine{
			cluster: c, name: fmt.Sprintf("n%d", i+1), ip: fmt.Sprintf("127.0.0.%d", i+1), join: i > 0, disk: NewDisk(),
			priority: 100,
		})
	}
	return c
}

func (m *machine) address() string { return fmt.Sprintf("%s:%d", m.ip, clientPort) }

// start runs a node on the machine's disk.
func (m *machine) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.cluster
	p := &process{machine: m, host: c.network.Boot(m.ip), ended: make(chan struct{}), mute: &mute{}}
	p.mount = NewMount(m.disk, c.syncLatency)
	n, err := node.New(m.config(p))
	if err != nil {
		panic(err) // the configuration is wrong
	}
	ctx, stop := context.WithCancel(context.Background())
	p.node, p.stop, m.process = n, stop, p
	c.trace.add(m.name, "started")
	go func() {
		p.err = n.Run(ctx)
		close(p.ended)
		m.end(p)
	}()
}

func (m *machine) config(p *process) node.Config {
	c := m.cluster
	cfg := node.Config{
		DataDir:          dataDir,
		Name:             m.name,
		Listen:           m.address(),
		RaftListen:       fmt.Sprintf("%s:%d", m.ip, raftPort),
		GossipListen:     fmt.Sprintf("%s:%d", m.ip, gossipPort),
		FailoverPriority: m.priority,
		Witness:          m.witness,
		Settings:         c.settings,
		Logger:           slog.New(c.trace.handler(m.name, p.mute)),
		Out:              io.Discard,
		Machine: node.Machine{
			FS: p.mount, Raft: openRaft(p.mount), Listen: p.host.Listen, Dial: p.host.Dial, Gossip: c.vine.open(p.host),
			Lock: func(dir, _ string) (io.Closer, error) {
				if err := p.mount.MkdirAll(dir, 0o700); err != nil {
					return nil, err
				}
				return p.mount.Lock(path.Join(dir, startup.PIDFile))
			},
		},
	}
	if m.join {
		for _, o := range c.machines {
			if o != m {
				cfg.Join = append(cfg.Join, o.address())
			}
		}
	} else {
		cfg.SegmentSize = wal.MinSegmentSize
	}
	return cfg
}

// syncLatency is how long a sync takes: mostly some hundred microseconds, seldom some milliseconds.
func (c *cluster) syncLatency() time.Duration {
	if c.rng.chance(3) {
		return c.rng.upTo(10 * time.Millisecond)
	}
	return 100*time.Microsecond + c.rng.upTo(400*time.Microsecond)
}

// restartPause is how long a supervisor waits before it starts a process again that has ended.
const restartPause = time.Second

// end is called when a node has ended. If nobody wanted that, it is started again.
func (m *machine) end(p *process) {
	m.mu.Lock()
	current := m.process == p
	m.mu.Unlock()
	if !current {
		return
	}
	t := m.cluster.trace
	t.add(m.name, fmt.Sprintf("has ended: %v", p.err))
	if p.err == nil {
		t.fail(m.name, errors.New("the node has ended without a reason"))
	}
	if !m.kill(false) {
		return
	}
	if _, corrupt := errors.AsType[*wal.CorruptError](p.err); corrupt {
		if !m.flipped.Load() {
			t.fail(m.name, p.err)
		}
		m.replaceDisk() // as the error tells the operator
		t.tally.add("corruption repaired from a peer")
	}
	if m.removed.Load() && removal.MatchString(fmt.Sprint(p.err)) {
		m.replaceDisk() // the same
		t.tally.add("removed, and back as another")
	}
	time.Sleep(restartPause + m.cluster.rng.upTo(2*restartPause))
	m.start()
}

// removal is what a node ends with that the cluster does without: with that disk it is no member again.
var removal = regexp.MustCompile("has been removed|is being removed")

// kill ends the process at once, or takes away the machine's power. It reports false if none was running. What
// the process still does, it does on a disk that nobody looks at, and in a network that does not know it; so it
// can be shut down in peace.
func (m *machine) kill(power bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.process
	if p == nil {
		return false
	}
	m.process = nil
	p.mute.set()
	if power {
		p.host.PowerOff()
		m.disk = p.mount.Disk().PowerCut(m.cluster.rng.fork(), m.cluster.rng.n(101))
	} else {
		p.host.Kill()
		m.disk = p.mount.Disk().Killed()
	}
	p.mount.Break(nil)
	p.mount.Hang(time.Time{})
	p.stop()
	return true
}

// loseCache takes away the power of a machine on which no process runs.
func (m *machine) loseCache() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		m.disk = m.disk.PowerCut(m.cluster.rng.fork(), m.cluster.rng.n(101))
	}
}

// current is the process that runs, or nil.
func (m *machine) current() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process
}

// content is the machine's disk as it is now.
func (m *machine) content() *Disk {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return m.process.mount.Disk()
	}
	return m.disk
}

// replaceDisk puts an empty disk into a machine that is down.
func (m *machine) replaceDisk() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk, m.join = NewDisk(), true
	m.flipped.Store(false)
}

func (c *cluster) machine(name string) *machine {
	for _, m := range c.machines {
		if m.name == name {
			return m
		}
	}
	return nil
}

// whole is nil if every node is a member that votes, counts, and streams from the primary, if it is not that, and
// has all that was acknowledged when it was asked.
func (c *cluster) whole(ctx context.Context, from *Host) error {
	err := errors.New("no primary answers")
	for _, m := range c.machines {
		if e := c.wholeAt(ctx, from, m); e == nil || e != errNotPrimary {
			err = e
		}
		if err == nil {
			return nil
		}
	}
	return err
}

var errNotPrimary = errors.New("not the primary")

func (c *cluster) wholeAt(ctx context.Context, from *Host, m *machine) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dial(ctx, from, m, "longship")
	if err != nil {
		return errNotPrimary
	}
	defer hangUp(conn)
	if conn.ParameterStatus("in_hot_standby") != "off" {
		return errNotPrimary
	}
	rows, err := query(ctx, conn, "SELECT name, role, state, counted, voter FROM longship_members")
	if err != nil {
		return err
	}
	there := 0
	for _, r := range rows {
		if r[3] == "t" && r[4] == "t" && (r[1] == "primary" || r[2] == "streaming") {
			there++
		}
	}
	if there < len(c.machines) || len(rows) != len(c.machines) {
		return fmt.Errorf("at %s: %v", m.name, rows)
	}
	known, err := query(ctx, conn, "SELECT epoch, horizon FROM longship_cluster")
	if err != nil {
		return err
	}
	for _, o := range c.machines {
		if err := c.has(ctx, from, o, known[0][0], known[0][1]); err != nil {
			return fmt.Errorf("at %s: %w", o.name, err)
		}
	}
	return nil
}

// has is nil if a node is in an epoch and has the log up to a position, or soon has. A primary may believe in a standby
// that has just lost its power, and one that is cut off, and deposed, in all of them. A witness shows nothing, so it
// cannot be asked how far it is.
func (c *cluster) has(ctx context.Context, from *Host, m *machine, epoch, lsn string) error {
	conn, err := dial(ctx, from, m, node.AdminDatabase)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	if !m.witness {
		if err := execute(ctx, conn, fmt.Sprintf("WAIT FOR LSN '%s' TIMEOUT 1000", lsn)); err != nil {
			return err
		}
	}
	rows, err := query(ctx, conn, "SELECT epoch FROM longship_cluster")
	if err == nil && rows[0][0] != epoch {
		err = fmt.Errorf("epoch %s, not %s", rows[0][0], epoch)
	}
	return err
}

// awaitWhole is nil once the cluster is whole, and the last thing that was missing otherwise.
func (c *cluster) awaitWhole(from *Host, limit time.Duration) (err error) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		if err = c.whole(context.Background(), from); err == nil {
			return nil
		}
	}
	return err
}
