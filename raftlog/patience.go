package raftlog

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// patiencePause is between two attempts to reach a follower.
const patiencePause = 50 * time.Millisecond

// errAnotherServer is why an answer is none: the server that was meant is no more, and this one is at its address.
var errAnotherServer = errors.New("another Raft server is at this address")

// A patientTransport keeps trying to send a leader's entries to a follower that cannot be reached.
// Given the failure, hashicorp/raft would wait twice as long after each, up to ten seconds, and a
// restarted node would be without news, and without a say in what is agreed on, for that long. Each
// follower has goroutines of its own, so nobody else waits.
//
// It takes no answer from a server other than the one that it was meant for. hashicorp/raft goes by addresses: a node
// that comes back with an empty disk would vote, and accept entries, in the place of the server that it was before,
// until that is removed from the configuration; what only that one and those who are away had agreed on would be lost.
type patientTransport struct {
	*raft.NetworkTransport
	raft atomic.Pointer[raft.Raft] // nil while that starts
}

// AppendEntries implements raft.Transport.
func (t *patientTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	for {
		err := t.NetworkTransport.AppendEntries(id, target, args, resp)
		if err == nil {
			err = answeredBy(id, resp.RPCHeader)
		}
		if err == nil || !t.worthwhile(id, target, args.Term) {
			return err
		}
		time.Sleep(patiencePause)
	}
}

// worthwhile reports whether the request is still this leader's to send, to a follower at that address.
func (t *patientTransport) worthwhile(id raft.ServerID, target raft.ServerAddress, term uint64) bool {
	r := t.raft.Load()
	if r == nil || r.State() != raft.Leader || r.CurrentTerm() != term {
		return false
	}
	return slices.ContainsFunc(r.GetConfiguration().Configuration().Servers, func(s raft.Server) bool {
		return s.ID == id && s.Address == target
	})
}

// RequestVote implements raft.Transport.
func (t *patientTransport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := onFreshConn(func() error { return t.NetworkTransport.RequestVote(id, target, args, resp) })
	if err == nil {
		err = answeredBy(id, resp.RPCHeader)
	}
	return err
}

// RequestPreVote implements raft.WithPreVote.
func (t *patientTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := onFreshConn(func() error { return t.NetworkTransport.RequestPreVote(id, target, args, resp) })
	if err == nil {
		err = answeredBy(id, resp.RPCHeader)
	}
	return err
}

// answeredBy is nil if an answer is that of the server it is to be of. (Those to snapshots do not say; whoever has one
// has nothing that had not been agreed on before.)
func answeredBy(id raft.ServerID, h raft.RPCHeader) error {
	if raft.ServerID(h.ID) != id {
		return fmt.Errorf("%w: %s, not %s", errAnotherServer, h.ID, id)
	}
	return nil
}

// onFreshConn repeats a call that fails until the pool is out of connections that were made to a
// process which has ended since: hashicorp/raft asks for each vote once, and one that is lost can
// cost the election.
func onFreshConn(call func() error) (err error) {
	for range pooledConns + 1 {
		err = call()
		if timeout, ok := errors.AsType[net.Error](err); err == nil || ok && timeout.Timeout() || errors.Is(err, errConnect) {
			return err
		}
	}
	return err
}
