package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/longship-db/longship/syncrep"
)

// A network connects listeners by name, in memory, so that it works in a bubble.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	deaf      string // nobody reaches this one
	accepted  map[string][]net.Conn
}

type listener struct {
	network *network
	name    string
	backlog chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (w *network) listen(name string) *listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &listener{network: w, name: name, backlog: make(chan net.Conn), closed: make(chan struct{})}
	if w.listeners == nil {
		w.listeners = make(map[string]*listener)
		w.accepted = make(map[string][]net.Conn)
	}
	w.listeners[name] = l
	return l
}

func (w *network) dial(ctx context.Context, _, name string) (net.Conn, error) {
	w.mu.Lock()
	l := w.listeners[name]
	if l == nil || w.deaf == name {
		w.mu.Unlock()
		return nil, fmt.Errorf("nobody listens at %s", name)
	}
	select {
	case <-l.closed:
		w.mu.Unlock()
		return nil, syscall.ECONNREFUSED
	default:
	}
	here, there := net.Pipe()
	w.accepted[name] = append(w.accepted[name], there)
	w.mu.Unlock()
	select {
	case l.backlog <- there:
		return here, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// deafen lets nobody reach a listener, until another one is deafened.
func (w *network) deafen(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = name
	for _, c := range w.accepted[name] {
		c.Close()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.name) }

// A cluster is some nodes on one network, each with a directory of its own.
type cluster struct {
	t       *testing.T
	network network
	dir     string
	nodes   map[string]*Node
	members map[string]Member
	broken  atomic.Pointer[disk]
	newTerm atomic.Pointer[func()] // called once, before a server stores the term that it has begun

	loseAnswers atomic.Bool
	forwarded   atomic.Int32 // commands, their answers lost

	mu    sync.Mutex // guards nodes, which forwarding reads, and what follows
	ended []string   // nodes that have met a fatal error
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), nodes: make(map[string]*Node), members: make(map[string]Member)}
	t.Cleanup(c.stop)
	return c
}

func (c *cluster) stop() {
	for name := range c.members {
		c.kill(name)
	}
}

func (c *cluster) node(name string) *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[name]
}

// open starts a node. Its Raft server is a new one if the directory is.
func (c *cluster) open(name string, found bool) *Node {
	c.t.Helper()
	dir := filepath.Join(c.dir, name, "raft")
	id, _, err := LoadID(dir, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := Config{
		Dir: dir, ID: id, Advertise: name, Listener: c.network.listen(name), Dial: c.network.dial,
		Logger:  slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", name),
		Fatal:   func(err error) { c.fatal(name, err) },
		Forward: c.forward,
	}
	if found {
		if err := Bootstrap(cfg); err != nil {
			c.t.Fatal(err)
		}
	}
	n, err := c.start(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[name] = n
	c.members[name] = Member{Name: name, ID: syncrep.ID{Node: uint64(name[1] - '0'), Incarnation: 1}, RaftID: id, RaftAddress: name, Priority: 100}
	return n
}

// start is Open, with a disk that can be made to fail.
func (c *cluster) start(cfg Config) (*Node, error) {
	cfg.Storage = func(dir string) (Storage, error) {
		db, err := openBolt(dir)
		return &disk{Storage: db, broken: &c.broken, newTerm: &c.newTerm}, err
	}
	return Open(cfg)
}

// A disk fails all writes once it is broken.
type disk struct {
	Storage
	broken  *atomic.Pointer[disk]
	newTerm *atomic.Pointer[func()]
}

func (d *disk) SetUint64(key []byte, v uint64) error {
	if string(key) == "CurrentTerm" {
		if call := d.newTerm.Swap(nil); call != nil {
			(*call)()
		}
	}
	return d.Storage.SetUint64(key, v)
}

func (d *disk) StoreLogs(logs []*raft.Log) error {
	if d.broken.Load() == d {
		return errDisk
	}
	return d.Storage.StoreLogs(logs)
}

// fatal notes that a node has to end.
func (c *cluster) fatal(name string, err error) {
	if !errors.Is(err, errDisk) || c.broken.Load() == nil {
		c.t.Errorf("%s: %v", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, name)
}

// forward carries a command as the port for members does: errors as text.
func (c *cluster) forward(ctx context.Context, leader Member, command []byte) error {
	n := c.node(leader.Name)
	if n == nil {
		return errors.New("connection refused")
	}
	err := DecodeError(EncodeError(n.ProposeEncoded(ctx, command)))
	if c.loseAnswers.Load() {
		c.forwarded.Add(1)
		return errors.New("connection reset")
	}
	return err
}

func (c *cluster) kill(name string) {
	c.mu.Lock()
	n := c.nodes[name]
	delete(c.nodes, name)
	c.mu.Unlock()
	if n == nil {
		return
	}
	if err := n.Close(); err != nil {
		c.t.Errorf("close %s: %v", name, err)
	}
}

func (c *cluster) propose(name string, command Command) *State {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	s, err := c.node(name).Propose(ctx, command)
	if err != nil {
		c.t.Fatalf("%s: propose %s: %v", name, kindOf(command), err)
	}
	return s
}

// found starts a cluster of one.
func (c *cluster) found(name string) {
	c.t.Helper()
	c.open(name, true)
	c.propose(name, &Init{SystemID: 7, Member: c.members[name], RunID: 1, Text: "ANY MAJORITY (*)", Timeline: 1, Start: 0x1000000, Time: time.Now()})
}

// join starts a node and makes it a voting member.
func (c *cluster) join(name string) {
	c.t.Helper()
	leader := c.leader()
	c.open(name, false)
	c.propose(leader, &Join{Member: c.members[name]})
	c.reconcile()
	c.until(name, func(s *State) bool { _, ok := s.Named(name); return ok })
	c.propose(name, &Ready{ID: c.members[name].ID, RaftID: c.members[name].RaftID})
	c.reconcile()
}

// until waits until a node's state is as wanted.
func (c *cluster) until(name string, is func(*State) bool) {
	c.t.Helper()
	timeout := time.After(time.Minute)
	for {
		s, newer := c.node(name).Watch()
		if is(s) {
			return
		}
		select {
		case <-newer:
		case <-timeout:
			c.t.Fatalf("%s: state does not come: %+v", name, s)
		}
	}
}

// leader waits for a leader that the others know, and returns its name.
func (c *cluster) leader() string {
	c.t.Helper()
	for range 10_000 {
		for name, n := range c.nodes {
			if n.IsLeader() && n.Barrier(c.t.Context()) == nil {
				return name
			}
		}
		time.Sleep(10 * time.Millisecond) // of the bubble
	}
	c.t.Fatal("no leader")
	return ""
}

func (c *cluster) reconcile() {
	c.t.Helper()
	for range 100 {
		err := c.node(c.leader()).Reconcile(c.t.Context())
		if err == nil {
			return
		}
		c.t.Log(err)
		time.Sleep(100 * time.Millisecond) // of the bubble
	}
	c.t.Fatal("Raft's configuration does not come")
}

// equal checks that all nodes have the same state once they have applied the same.
func (c *cluster) equal() {
	c.t.Helper()
	c.propose(c.leader(), &SettingSet{Name: "last", Value: time.Now().String()})
	time.Sleep(time.Second) // of the bubble
	var want string
	for name, n := range c.nodes {
		index, hash := n.Fingerprint()
		got := fmt.Sprintf("%d %x", index, hash)
		if want == "" {
			want = got
		}
		if got != want {
			c.t.Errorf("%s has %s, another %s", name, got, want)
		}
	}
}
