package raftlog

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// Reconcile makes Raft's configuration what the state's members ask for, one server at a time: who
// leaves or has another store now is removed, who is new is added without a vote, who is ready votes,
// who has moved is found. Only the leader can: ErrNotLeader. A leader that leaves hands over first,
// last of all, and the next one removes it. It may be called at any time, and again after any error.
func (n *Node) Reconcile(ctx context.Context) error {
	n.configuring.Lock()
	defer n.configuring.Unlock()
	for {
		if !n.IsLeader() {
			return ErrNotLeader
		}
		step := nextStep(n.servers(), n.State().Members, raft.ServerID(n.cfg.ID))
		if step.do == nothing {
			return nil
		}
		if step.do == handOver {
			return n.Transfer(ctx, "")
		}
		if err := n.await(ctx, func() error { return n.carryOut(step) }); err != nil {
			return fmt.Errorf("change raft configuration: %s %s (%s): %w", step.do, step.server.ID, step.server.Address, err)
		}
		n.cfg.Logger.Info("Raft configuration changed", "step", string(step.do), "server", string(step.server.ID), "address", string(step.server.Address))
	}
}

// carryOut makes one change, and waits until a majority has it.
func (n *Node) carryOut(step step) error {
	id, address := step.server.ID, step.server.Address
	switch step.do {
	case remove:
		return n.raft.RemoveServer(id, 0, n.cfg.attempt()).Error()
	case addVoter:
		return n.raft.AddVoter(id, address, 0, n.cfg.attempt()).Error()
	default:
		return n.raft.AddNonvoter(id, address, 0, n.cfg.attempt()).Error()
	}
}

// A step is one change of Raft's configuration.
type step struct {
	do     action
	server raft.Server
}

type action string

const (
	nothing     action = "nothing"
	remove      action = "remove"
	addNonvoter action = "add without a vote"
	addVoter    action = "add with a vote"
	handOver    action = "hand over"
)

// nextStep is the first thing that Raft's configuration lacks. Removals come first: who is dead and
// replaced counts in a majority as long as it is there, and may have the address of its successor.
func nextStep(servers []raft.Server, members []Member, self raft.ServerID) step {
	if len(members) == 0 {
		return step{do: nothing} // there is no cluster yet, but this server
	}
	selfLeaves := false
	for _, s := range servers {
		if _, stays := wanted(members, s.ID); stays {
			continue
		}
		if s.ID != self {
			return step{remove, s}
		}
		selfLeaves = true
	}
	for _, m := range members {
		if m.Leaving || m.RaftAddress == "" {
			continue
		}
		server := raft.Server{ID: raft.ServerID(m.RaftID), Address: raft.ServerAddress(m.RaftAddress)}
		i := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == server.ID })
		switch {
		case i < 0:
			return step{addNonvoter, server}
		case servers[i].Suffrage != raft.Voter && m.Voter:
			return step{addVoter, server}
		case servers[i].Address != server.Address:
			return step{addNonvoter, server} // of one that is there it changes the address, and no more
		}
	}
	if selfLeaves {
		return step{do: handOver}
	}
	return step{do: nothing}
}

// wanted returns the member whose Raft server this is, unless it leaves.
func wanted(members []Member, id raft.ServerID) (Member, bool) {
	i := slices.IndexFunc(members, func(m Member) bool { return m.RaftID == string(id) && !m.Leaving })
	if i < 0 {
		return Member{}, false
	}
	return members[i], true
}
