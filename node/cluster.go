package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/gossip"
	"github.com/longship-db/longship/internal/faults"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// memberID is this node with its present disk.
func (n *Node) memberID() syncrep.ID {
	id := n.identity()
	return syncrep.ID{Node: uint64(id.NodeID), Incarnation: uint64(id.Incarnation)}
}

// member is this node as the cluster is to know it.
func (n *Node) member() raftlog.Member {
	return raftlog.Member{
		Name:          n.cfg.Name,
		ID:            n.memberID(),
		RaftID:        n.raftID,
		Address:       n.address,
		RaftAddress:   n.raftAddress,
		GossipAddress: n.gossipAddress,
		Zone:          n.cfg.Zone,
		Priority:      n.cfg.priority(),
		Witness:       n.cfg.Witness,
	}
}

// enterCluster opens what connects this node to the others: Raft, the coordinator, gossip. They last
// until leaveCluster, whatever the node's roles.
func (n *Node) enterCluster(ctx context.Context) error {
	if err := n.refuseCopy(ctx); err != nil {
		return errors.Join(err, n.raftListener.Close())
	}
	raft, err := raftlog.Open(n.raftConfig())
	if err != nil {
		return errors.Join(fmt.Errorf("open Raft's store: %w", err), n.raftListener.Close())
	}
	n.raft = raft
	n.applySettings(raft.State())
	n.coordinator = election.NewCoordinator(election.CoordinatorConfig{
		Self:              n.memberID,
		Name:              n.cfg.Name,
		Raft:              raft,
		Peers:             n.peers,
		FailoverTimeout:   n.setting("failover_timeout"),
		SwitchoverTimeout: n.setting("switchover_timeout"),
		Alive:             n.heardOf,
		Hint:              n.hints,
		Logger:            n.log.With("component", "coordinator"),
	})
	if err := n.openGossip(); err != nil {
		return errors.Join(err, raft.Close())
	}
	n.connected.Store(true)
	n.tasks = append(n.tasks,
		n.start(n.coordinator.Run),
		n.start(func(ctx context.Context) error { n.gossip.Run(ctx); return nil }),
		n.start(n.watchDisk),
		n.start(n.followSettings),
		n.start(n.watchSpace),
	)
	return nil
}

// leaveCluster closes what enterCluster opened, in a way that costs the others no election.
func (n *Node) leaveCluster(ctx context.Context) error {
	var errs []error
	for _, t := range n.tasks {
		errs = append(errs, t.stop())
	}
	n.tasks = nil
	if n.raft.IsLeader() && len(n.raft.State().Members) > 1 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := n.raft.Transfer(ctx, ""); err != nil {
			n.log.Info("stopping as Raft leader: another node has to be elected", "err", err)
		}
	}
	n.peers.Close()
	return errors.Join(append(errs, n.gossip.Close(), n.raft.Close())...)
}

func (n *Node) raftConfig() raftlog.Config {
	return raftlog.Config{
		Dir:       n.dir.Raft(),
		ID:        n.raftID,
		Listener:  n.raftListener,
		Advertise: n.raftAddress,
		Dial:      n.dialer(faults.Raft),
		Storage:   n.cfg.Machine.Raft,
		Logger:    n.log.With("component", "raft"),
		Fatal:     func(err error) { n.fail(&FatalError{Err: err}) },
		Forward:   n.peers.Forward,
	}
}

func (n *Node) openGossip() error {
	cfg := gossip.Config{
		Name:      n.cfg.Name,
		Listen:    n.cfg.GossipListen,
		Advertise: n.cfg.advertise(),
		Key:       n.cfg.GossipKey,
		Meta:      n.gossipMeta,
		Seeds:     n.gossipSeeds,
		OnDead:    n.hint,
		Logger:    n.log.With("component", "gossip"),
	}
	if n.faults != nil {
		cfg.Dial, cfg.Packets = n.dialer(faults.Gossip), n.faults.Packets(faults.Gossip)
	}
	g, err := n.cfg.Machine.Gossip(cfg)
	if err != nil {
		return fmt.Errorf("gossip on %s: %w; choose another port with --gossip-listen", n.cfg.GossipListen, err)
	}
	n.gossip, n.gossipAddress = g, g.Address()
	return nil
}

// hint makes the coordinator look at once.
func (n *Node) hint(string) {
	select {
	case n.hints <- struct{}{}:
	default:
	}
}

// heardOf reports whether gossip has a member as alive.
func (n *Node) heardOf(m raftlog.Member) bool {
	return slices.ContainsFunc(n.gossip.Members(), func(o gossip.Member) bool { return o.Alive && o.Meta.ID == m.ID })
}

func (n *Node) gossipSeeds() []string {
	var seeds []string
	for _, m := range n.raft.State().Members {
		if m.Name != n.cfg.Name {
			seeds = append(seeds, m.GossipAddress)
		}
	}
	return seeds
}

// slowWrite is how long a write has to take for the others to hear of it.
const slowWrite = 500 * time.Millisecond

func (n *Node) gossipMeta() gossip.Meta {
	m := gossip.Meta{ID: n.memberID(), Client: n.address, Raft: n.raftAddress, Role: gossip.Standby}
	r, _ := n.present.load()
	if !n.ready.Load() {
		m.Health |= gossip.Copying
	}
	if _, stalled := n.stalled(); stalled >= slowWrite {
		m.Health |= gossip.SlowDisk
	}
	if r == nil {
		return m
	}
	if r.primary != nil {
		m.Role = gossip.Primary
	}
	m.Epoch, m.Write, m.Flush, m.Replay = r.epoch, r.written().Load(), r.flushed().Load(), r.replayed()
	return m
}

// joinRetry is the pause between attempts to find somebody who can take this node in.
const joinRetry = 500 * time.Millisecond

// announce tells the cluster who and where this node is, until somebody has taken note. An error is
// final: the cluster does not want this node as it is.
func (n *Node) announce(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := n.tryJoin(ctx)
		n.takenIn = n.takenIn || err == nil
		if err == nil || refusedMember(err) {
			return err
		}
		if attempt == 0 {
			n.log.Info("waiting for a member that can take this node in", "err", err)
		}
		select {
		case <-time.After(joinRetry):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// refusedMember reports whether the cluster has answered, and said no.
func refusedMember(err error) bool {
	e, ok := errors.AsType[*pgwire.Error](err)
	return ok && (e.Code == pgwire.CodeDuplicateObject || e.Code == pgwire.CodeObjectInUse ||
		e.Code == pgwire.CodeInvalidAuthorization)
}

// tryJoin asks the Raft leader, or whoever knows it, once.
func (n *Node) tryJoin(ctx context.Context) error {
	ready := n.ready.Load()
	req := election.JoinRequest{Member: n.member(), RunID: n.runID, Returning: ready, Again: n.takenIn && !ready}
	if n.raft.IsLeader() {
		_, err := n.coordinator.Join(ctx, req)
		return err
	}
	err := errors.New("no member is known: say with --join host:port where one is")
	for _, addr := range n.peerAddresses() {
		if err = n.joinAt(ctx, addr, req); err == nil {
			return nil
		}
		if refusedMember(err) {
			return err
		}
	}
	return err
}

func (n *Node) joinAt(ctx context.Context, addr string, req election.JoinRequest) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := n.peers.Join(ctx, addr, req)
	return err
}

// peerAddresses are the client addresses of others, the likeliest to help first.
func (n *Node) peerAddresses() []string {
	var list []string
	add := func(addr string) {
		if addr != "" && addr != n.address && !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	if leader, ok := n.raft.Leader(); ok {
		add(leader.Address)
	}
	for _, m := range n.raft.State().Members {
		add(m.Address)
	}
	for _, addr := range n.cfg.Join {
		add(addr)
	}
	for _, m := range n.knownPeers() {
		add(m.Address)
	}
	return list
}

// takePart makes this node a full member once Raft's log has reached it, and stays informed of its own
// address: it announces itself, then says that it may vote.
func (n *Node) takePart(ctx context.Context) error {
	if err := n.announce(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &RefusedError{Err: err}
	}
	for {
		var retry <-chan time.Time
		s, changed := n.raft.Watch()
		if m, ok := s.Member(n.memberID()); ok && m.RaftID == n.raftID {
			if m.Voter {
				return nil
			}
			_, err := n.raft.Propose(ctx, &raftlog.Ready{ID: m.ID, RaftID: n.raftID})
			if err == nil || ctx.Err() != nil {
				return err
			}
			n.log.Warn("cannot say that this node may vote: will try again", "err", err)
			retry = time.After(joinRetry)
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leaveDelay is how long a member that is to leave goes on, for the sake of those who still count it.
const leaveDelay = 5 * time.Second

// awaitRemoval ends the node once the cluster has removed it. Raft may tell it no more than that it is
// to leave.
func (n *Node) awaitRemoval(ctx context.Context) error {
	var deadline <-chan time.Time
	for seen := false; ; {
		s, changed := n.raft.Watch()
		m, member := s.Member(n.memberID())
		seen = seen || member
		if m.Leaving && deadline == nil {
			n.log.Warn("this node is being removed from the cluster")
			deadline = time.After(leaveDelay)
		}
		if seen && !member && deadline == nil {
			return errRemoved(n.cfg.Name)
		}
		select {
		case <-changed:
		case <-deadline:
			return errRemoved(n.cfg.Name)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func errRemoved(name string) error {
	return &RefusedError{Err: fmt.Errorf("%s has been removed; to be a member again it must start with an empty data directory and --join", name)}
}

// foundWith makes the cluster that this node has bootstrapped one that has a primary: this process, with
// the log as it is. Where there is a cluster already it has nothing to do.
func (n *Node) foundWith(log wal.End) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			s, changed := n.raft.Watch()
			leading := n.raft.WatchLeader()
			if s.SystemID != 0 {
				return nil
			}
			if n.raft.IsLeader() {
				return n.found(ctx, log)
			}
			select {
			case <-changed:
			case <-leading:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

func (n *Node) found(ctx context.Context, log wal.End) error {
	_, err := n.raft.Propose(ctx, &raftlog.Init{
		SystemID: n.identity().SystemID,
		Member:   n.member(),
		RunID:    n.runID,
		Text:     n.standbyNames(),
		Timeline: log.Timeline,
		Start:    log.LSN,
		Time:     time.Now().UTC(),
	})
	if _, conflict := errors.AsType[*raftlog.ConflictError](err); conflict {
		return nil // another attempt has made it
	}
	return err
}
