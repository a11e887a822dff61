package raftlog

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's followers miss a leader once its heartbeats have been away for long enough, and then may stand
// for election at the same time, in vain. A leader whose process has ended can be missed at once: its
// connections end, and its address refuses new ones. Then the followers stand one after the other.

// turnPause is what each follower waits for the one before it to be elected.
const turnPause = 100 * time.Millisecond

// watchLoss has the follower look after its leader when a connection ends, and the candidate after itself. The only voter
// has no leader to wait for.
func (n *Node) watchLoss() {
	if n.onlyVoter() {
		n.stand()
	}
	look := time.NewTicker(n.cfg.Election)
	defer look.Stop()
	misled := false
	for {
		select {
		case <-n.stream.ended:
			n.succeed()
		case <-look.C:
			misled = n.misled(misled)
		case <-n.quit:
			return
		}
	}
}

// misled reports whether this server is a candidate that knows a leader, and has it forget the leader if it was so
// before. No candidate should know one: its own log may be too old for it to win, and to those that could it denies
// its vote for the leader's sake, so that nobody leads any more. hashicorp/raft lets it happen to who is told to stand
// at once, by a heartbeat of the leader before that comes while the new term is being stored.
func (n *Node) misled(before bool) bool {
	address, _ := n.raft.LeaderWithID()
	if address == "" || n.raft.State() != raft.Candidate {
		return false
	}
	if before {
		n.cfg.Logger.Warn("a candidate that knows a leader, and so helps nobody to be elected: forgetting it", "leader", address)
		n.stand()
	}
	return true
}

// succeed stands for election if the leader is gone, when it is this follower's turn. An election is
// always safe; one that is called without need costs a moment without a leader.
func (n *Node) succeed() {
	address, id := n.raft.LeaderWithID()
	if id == "" || id == raft.ServerID(n.cfg.ID) || !n.gone(address) { // looking at oneself would never end
		return
	}
	turn := n.turn(id)
	if turn < 0 {
		return
	}
	select {
	case <-time.After(time.Duration(turn) * turnPause):
	case <-n.quit:
		return
	}
	if _, now := n.raft.LeaderWithID(); n.raft.State() != raft.Follower || now != "" && now != id {
		return
	}
	n.cfg.Logger.Info("Raft's leader has ended: standing for election")
	n.stand()
}

// stand has the server stand for election at once.
func (n *Node) stand() {
	self := raft.ServerAddress(n.cfg.Listener.Addr().String())
	ask := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
	if err := n.trans.TimeoutNow(raft.ServerID(n.cfg.ID), self, ask, new(raft.TimeoutNowResponse)); err != nil {
		n.cfg.Logger.Info("waiting for Raft's own election", "err", err)
	}
}

// onlyVoter reports whether no vote but this server's is needed.
func (n *Node) onlyVoter() bool {
	voters := slices.DeleteFunc(n.servers(), func(s raft.Server) bool { return s.Suffrage != raft.Voter })
	return len(voters) == 1 && isID(voters[0], n.cfg.ID) == 1
}

// gone reports whether nobody listens at an address: the process that did has ended. A host that is
// down or cut off is not known to be gone. A process that is ending may still be closing its sockets.
func (n *Node) gone(address raft.ServerAddress) bool {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Heartbeat)
	defer cancel()
	for range 3 {
		c, err := n.cfg.Dial(ctx, "tcp", string(address))
		if err != nil {
			return errors.Is(err, syscall.ECONNREFUSED)
		}
		c.Close()
		select {
		case <-time.After(endingPause):
		case <-n.quit:
			return false
		}
	}
	return false
}

// endingPause is what a process takes to close its sockets when it ends, about.
const endingPause = 20 * time.Millisecond

// turn is how many followers stand for election before this one, -1 if it does not. The primary comes
// last: it had better not be the leader, too.
func (n *Node) turn(leader raft.ServerID) int {
	s := n.State()
	primary, _ := s.Member(s.Primary.ID)
	voters := slices.DeleteFunc(n.servers(), func(v raft.Server) bool {
		return v.Suffrage != raft.Voter || v.ID == leader
	})
	slices.SortFunc(voters, func(a, b raft.Server) int {
		return cmp.Or(cmp.Compare(isID(a, primary.RaftID), isID(b, primary.RaftID)), cmp.Compare(a.ID, b.ID))
	})
	return slices.IndexFunc(voters, func(v raft.Server) bool { return isID(v, n.cfg.ID) == 1 })
}

// isID is 1 for the server with an ID, 0 for any other.
func isID(s raft.Server, id string) int {
	if string(s.ID) == id {
		return 1
	}
	return 0
}
