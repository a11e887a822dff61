package raftlog

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// patiencePause is between two attempts to reach a follower.
const patiencePause = 50 * time.Millisecond

// A patientTransport keeps trying to send a leader's entries to a follower that cannot be reached.
// Given the failure, hashicorp/raft would wait twice as long after each, up to ten seconds, and a
// restarted node would be without news, and without a say in what is agreed on, for that long. Each
// follower has goroutines of its own, so nobody else waits.
type patientTransport struct {
	*raft.NetworkTransport
	raft atomic.Pointer[raft.Raft] // nil while that starts
}

// AppendEntries implements raft.Transport.
func (t *patientTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	for {
		err := t.NetworkTransport.AppendEntries(id, target, args, resp)
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
