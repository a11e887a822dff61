package node

import (
	"context"
	"sync"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
)

// How long the members that are asked how they are may take to answer, and how long their answers are
// good for: views are for people and for monitoring, who must not make a cluster busy.
const (
	neighbourTimeout = 250 * time.Millisecond
	neighbourMemory  = 500 * time.Millisecond
)

// The neighbours are the members as they answered when they were asked last: the only ones who know
// for certain how they are. Gossip finds out within seconds only that one is gone.
type neighbours struct {
	mu    sync.Mutex
	asked time.Time
	known map[string]election.Health // by name; those who have not answered are not in it
}

// health asks all members how they are, at the same time, or takes what they answered just before. The
// node itself is among them. Whoever asks first does so for all who ask meanwhile, and so not by his own context.
func (n *Node) health() map[string]election.Health {
	nb := &n.neighbours
	nb.mu.Lock()
	defer nb.mu.Unlock()
	if nb.known != nil && time.Since(nb.asked) < neighbourMemory {
		return nb.known
	}
	ctx, cancel := context.WithTimeout(context.Background(), neighbourTimeout)
	defer cancel()
	members := n.raft.State().Members
	answers := make([]*election.Health, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { answers[i] = n.askHealth(ctx, m) })
	}
	wg.Wait()
	nb.known, nb.asked = map[string]election.Health{}, time.Now()
	for i, m := range members {
		if answers[i] != nil {
			nb.known[m.Name] = *answers[i]
		}
	}
	return nb.known
}

// askHealth is nil if the member has not answered, or another one has at its address.
func (n *Node) askHealth(ctx context.Context, m raftlog.Member) *election.Health {
	ask := func() (election.Health, error) { return n.peers.Probe(ctx, m.Address, election.ProbeRequest{}) }
	if m.ID == n.memberID() {
		ask = func() (election.Health, error) { return n.Probe(ctx, election.ProbeRequest{}) }
	}
	h, err := ask()
	if err != nil || h.ID != m.ID {
		return nil
	}
	return &h
}

// spaceInterval is how often a node looks how full its disk is.
const spaceInterval = 5 * time.Second

// watchSpace looks how full the disk of the data directory is. A disk that hangs holds up nobody else.
func (n *Node) watchSpace(ctx context.Context) error {
	tick := time.NewTicker(spaceInterval)
	defer tick.Stop()
	for {
		if usage, err := n.dir.FS.GetDiskUsage(n.dir.Path); err == nil {
			n.diskFree.Store(usage.AvailBytes)
			n.diskSize.Store(usage.TotalBytes)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
