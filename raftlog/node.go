package raftlog

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A Node is one member's Raft server, and its copy of what was agreed on.
type Node struct {
	cfg    Config
	fsm    *fsm
	store  *store
	stream *stream
	trans  *patientTransport
	raft   *raft.Raft
	before uint64 // index of the last command in the log when it was opened

	leadership  signal     // when somebody begins or ends to lead
	configuring sync.Mutex // held while Raft's configuration is being changed

	watcher sync.WaitGroup
	quit    chan struct{} // closed by Close
	lost    sync.Once

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // of hashicorp/raft, in goroutines of their own; mu is held to begin one
}

// Open starts the Raft server whose store is in cfg.Dir. If nobody has added it to a cluster yet, it
// waits for that. If Open fails, the listener is the caller's to close.
func Open(cfg Config) (*Node, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	db, err := cfg.Storage.In(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n, err := openOn(db, cfg)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return n, nil
}

// openOn starts the Raft server on a store.
func openOn(db Storage, cfg Config) (*Node, error) {
	if id, err := db.Get(keyID); err != nil || string(id) != cfg.ID {
		return nil, errors.Join(fmt.Errorf("raft store in %s is that of server %q, not %q", cfg.Dir, id, cfg.ID), err)
	}
	files, err := db.Snapshots(&raftLogger{to: cfg.Logger})
	if err != nil {
		return nil, fmt.Errorf("open Raft snapshots in %s: %w", cfg.Dir, err)
	}
	n := &Node{cfg: cfg, quit: make(chan struct{}), stream: newStream(cfg.Listener, cfg.Advertise, cfg.Dial)}
	if n.before, err = lastCommand(db); err != nil {
		return nil, fmt.Errorf("read the Raft log in %s: %w", cfg.Dir, err)
	}
	n.store = newStore(db, n.lose)
	n.fsm = newFSM(n.store.fatal)
	n.trans = &patientTransport{NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          n.stream,
		Logger:          &raftLogger{to: cfg.Logger, quiet: true},
		MaxPool:         pooledConns,
		MaxRPCsInFlight: 1, // pipelining makes commits slower (hashicorp/raft#541)
		Timeout:         cfg.attempt(),
	})}
	notify := make(chan bool, 1)
	n.raft, err = raft.NewRaft(cfg.raftConfig(notify), n.fsm, n.store, n.store, snapshots{files, n.store}, n.trans)
	if err != nil {
		n.trans.Close()
		return nil, fmt.Errorf("start Raft: %w", cmp.Or(n.fsm.refused, err))
	}
	n.fsm.start()
	n.trans.raft.Store(n.raft)
	n.watcher.Go(func() { n.watchLeadership(notify) })
	n.watcher.Go(n.watchLoss)
	return n, nil
}

// watchLeadership turns what hashicorp/raft says about leaders into "look again". Raft blocks on
// notify, so nothing else happens here.
func (n *Node) watchLeadership(notify <-chan bool) {
	observed := make(chan raft.Observation, 1) // one is enough to look again
	observer := raft.NewObserver(observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	defer n.raft.DeregisterObserver(observer)
	n.leadership.raise() // what was missed before
	for {
		select {
		case <-notify:
		case <-observed:
		case <-n.quit:
			return
		}
		n.leadership.raise()
	}
}

// lose is called when the store has failed, or the state machine cannot go on.
func (n *Node) lose(err error) {
	n.lost.Do(func() {
		n.Cut()
		n.cfg.Fatal(err)
	})
}

// State returns what was agreed on, as far as this member knows. It is never nil.
func (n *Node) State() *State { return n.fsm.current().State }

// CaughtUp reports whether the state holds all that this member had in its log when it was started. Before that it may
// be older than what the member went by then: until a leader is heard of it is that of the last snapshot.
func (n *Node) CaughtUp() bool { return n.fsm.current().Applied >= n.before }

// Watch returns the state, and a channel that is closed once there is a newer one.
func (n *Node) Watch() (*State, <-chan struct{}) { return n.fsm.watch() }

// Fingerprint returns the index of the last command applied here, and a hash of all that commands have
// made. Members with equal indexes have equal hashes.
func (n *Node) Fingerprint() (index uint64, hash [sha256.Size]byte) {
	r := n.fsm.current()
	return r.Applied, r.hash()
}

// Leader returns the member that leads Raft, if there is one and the state knows it.
func (n *Node) Leader() (Member, bool) {
	_, id := n.raft.LeaderWithID()
	if id == "" {
		return Member{}, false
	}
	for _, m := range n.State().Members {
		if m.RaftID == string(id) {
			return m, true
		}
	}
	return Member{}, false
}

// IsLeader reports whether this node leads Raft, as far as it knows. A new leader calls Barrier before
// it acts on the state. A node that is cut off leads nobody, though its Raft may never notice that:
// with a disk that hangs, it looks at nothing any more.
func (n *Node) IsLeader() bool { return n.raft.State() == raft.Leader && !n.stream.isCut() }

// WatchLeader returns a channel that is closed when Leader or IsLeader may answer otherwise.
func (n *Node) WatchLeader() <-chan struct{} { return n.leadership.next() }

// Transfer has another server lead: the one with this ID, or, if it is empty, any that votes. Nil
// means that this node does not lead any more; who does will show. ErrNotLeader: it did not.
func (n *Node) Transfer(ctx context.Context, raftID string) error {
	if !n.IsLeader() {
		return ErrNotLeader
	}
	if raftID == "" {
		return n.await(ctx, func() error { return n.raft.LeadershipTransfer().Error() })
	}
	for _, s := range n.servers() {
		if string(s.ID) == raftID {
			return n.await(ctx, func() error {
				return n.raft.LeadershipTransferToServer(s.ID, s.Address).Error()
			})
		}
	}
	return fmt.Errorf("transfer Raft leadership: no server %s", raftID)
}

// servers is a copy of Raft's configuration, as of the last entry of the log.
func (n *Node) servers() []raft.Server {
	f := n.raft.GetConfiguration() // answers at once, and cannot fail
	if f.Error() != nil {
		return nil
	}
	return slices.Clone(f.Configuration().Servers)
}

// await calls a function that waits for hashicorp/raft, until ctx ends or the attempt has taken too
// long: hashicorp/raft answers at its leisure, and never if its disk hangs.
func (n *Node) await(ctx context.Context, call func() error) error {
	result := make(chan error, 1)
	if !n.begin(func() { result <- call() }) {
		return ErrClosed
	}
	timer := time.NewTimer(n.cfg.attempt())
	defer timer.Stop()
	select {
	case err := <-result:
		return translate(err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	case <-timer.C:
		return fmt.Errorf("%w: Raft does not answer", ErrUnknown)
	case <-n.quit:
		return ErrClosed
	}
}

// begin runs a call of hashicorp/raft in a goroutine that Close waits for. It reports false, and does
// nothing, once the node is closed.
func (n *Node) begin(call func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.calls.Go(call)
	return true
}

// translate turns the errors of hashicorp/raft into ours.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore), errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

// WriteStalled returns for how long the oldest write to Raft's store has been in flight, 0 if none is.
// A node whose disk hangs goes on answering heartbeats, as leader even sends them (hashicorp/raft#503):
// somebody has to look, and call Cut.
func (n *Node) WriteStalled() time.Duration { return n.store.stalled() }

// Cut closes the listener and every connection of this node's Raft at once, waits for nobody, and lets
// no new ones be. It does not end the node.
func (n *Node) Cut() {
	n.stream.cut()
	n.leadership.raise()
}

// Close ends the Raft server. What is being proposed ends with ErrClosed, its outcome unknown.
func (n *Node) Close() error {
	n.mu.Lock()
	again := n.closed
	n.closed = true
	n.mu.Unlock()
	if again {
		return nil
	}
	close(n.quit)
	done := make(chan error, 1)
	go func() { done <- n.stop() }()
	timer := time.NewTimer(closeDeadline)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errors.New("close raft: its disk does not answer")
	}
}

// closeDeadline is how long Close waits for writes in flight.
const closeDeadline = 5 * time.Second

// stop ends everything in order. Calls under way are answered first, by a leader's commit or by the end
// of its lease, since hashicorp/raft does not answer all of them once it is shut down.
func (n *Node) stop() error {
	idle := make(chan struct{})
	go func() {
		n.calls.Wait()
		close(idle)
	}()
	timer := time.NewTimer(n.cfg.attempt())
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	stopped := n.raft.Shutdown()
	n.stream.cut() // ends the calls to others, which Shutdown waits for
	err := stopped.Error()
	n.trans.CloseStreams()
	n.watcher.Wait()
	return errors.Join(err, n.store.db.Close())
}

// A signal wakes whoever waits for its next channel to be closed. The zero signal is ready.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
