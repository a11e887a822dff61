package node

import (
	"context"

	"github.com/longship-db/longship/election"
)

// A Role is what a node is to be. It arrives as a value, and lasts one function call. The zero Role is that of a
// standby with nobody to follow.
type Role struct {
	election.Duty
	Fetch *fetchRequest // of a sealed standby: why it follows Upstream, which is no primary
}

// role is what this node is to be now, and a channel that is closed when that may have changed.
func (n *Node) role(log uint64) (Role, <-chan struct{}) {
	s, changed := n.raft.Watch()
	return Role{Duty: election.DutyOf(s, election.Process{
		ID:       n.memberID(),
		RunID:    n.runID,
		Promised: n.promised.Load(),
		Log:      log,
		Reigned:  n.reigned.Load(),
	})}, changed
}

// awaitOtherRole returns when the role of this node, whose log is of epoch log, is not r any more.
func (n *Node) awaitOtherRole(ctx context.Context, r Role, log uint64) {
	for {
		now, changed := n.role(log)
		if !now.Same(r.Duty) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// serveRoles is the node in one loop: learn the role, be that until it ends, and again.
func (n *Node) serveRoles(ctx context.Context) error {
	log, err := n.recover(ctx)
	if err != nil {
		return stopped(ctx, err)
	}
	n.promised.Store(max(n.promised.Load(), log.Control.PromisedEpoch))
	n.scrubbing.load(log.Control.Faults())
	if n.identity().Founder {
		founding := n.start(n.foundWith(log.End))
		defer founding.stop()
	}
	for ctx.Err() == nil {
		role, _ := n.role(log.Control.Epoch)
		n.log.Info("role", "primary", role.Primary, "epoch", role.Epoch, "upstream", role.Upstream.Name)
		if role.Primary {
			err = n.runPrimary(ctx, role, log)
		} else {
			err = n.runStandby(ctx, role, log)
		}
		if err == nil && n.wanted != nil {
			req := *n.wanted
			n.wanted = nil
			err = n.fetch(ctx, req, log)
		}
		if err != nil {
			return stopped(ctx, err)
		}
	}
	return nil
}
