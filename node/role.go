package node

import (
	"context"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
)

// A Role is what a node is to be. It is worked out from what Raft holds, arrives as a value, and
// lasts one function call. The zero Role is that of a standby with nobody to follow.
type Role struct {
	Epoch    uint64
	Primary  bool
	Founding bool           // of a primary: its log is the first epoch's, and goes on as it is
	Office   raftlog.Office // of a primary: what it was named with
	Upstream raftlog.Member // the primary that a standby follows; zero: nobody
	Fetch    *fetchRequest  // of a sealed standby: why it follows Upstream, which is no primary
}

// A self is what of a node decides on its role.
type self struct {
	id       syncrep.ID
	runID    uint64
	promised uint64 // nothing before this epoch is followed
	log      uint64 // epoch of the log
	reigned  uint64 // the last epoch in which this process was the primary
}

// roleOf says what the cluster, as far as this node knows, wants of it. A process that was named takes
// office once. One that was started since, or has promised a later epoch, does not: a new epoch is
// needed, and until then it follows nobody.
func roleOf(s *raftlog.State, me self) Role {
	if s.SystemID == 0 || s.Epoch < me.promised {
		return Role{}
	}
	if s.Primary.ID != me.id {
		upstream, _ := s.Member(s.Primary.ID)
		return Role{Epoch: s.Epoch, Upstream: upstream}
	}
	sealing := s.Phase == raftlog.Sealing
	if s.Primary.RunID != me.runID || s.Epoch <= me.reigned || sealing {
		return Role{}
	}
	founding := s.Epoch == me.log
	return Role{Epoch: s.Epoch, Primary: true, Founding: founding, Office: s.Primary}
}

// same reports whether a role goes on if it becomes o: a standby's does while it follows the same
// primary at the same address.
func (r Role) same(o Role) bool {
	return r.Epoch == o.Epoch && r.Primary == o.Primary &&
		r.Upstream.ID == o.Upstream.ID && r.Upstream.Address == o.Upstream.Address
}

// role is what this node is to be now, and a channel that is closed when that may have changed.
func (n *Node) role(log uint64) (Role, <-chan struct{}) {
	s, changed := n.raft.Watch()
	return roleOf(s, self{
		id:       n.memberID(),
		runID:    n.runID,
		promised: n.promised.Load(),
		log:      log,
		reigned:  n.reigned.Load(),
	}), changed
}

// awaitOtherRole returns when the role of this node, whose log is of epoch log, is not r any more.
func (n *Node) awaitOtherRole(ctx context.Context, r Role, log uint64) {
	for {
		now, changed := n.role(log)
		if !now.same(r) {
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
	log, err := startup.Recover(n.dir, n.identity(), n.log.With("component", "startup"))
	if err != nil {
		return explainRecovery(err, n.dir.Path)
	}
	n.promised.Store(max(n.promised.Load(), log.Control.PromisedEpoch))
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
