package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// This file is what a node does for the others: election.Service.

// Probe implements election.Service: how this node is, at once, whatever it is doing.
func (n *Node) Probe(context.Context, election.ProbeRequest) (election.Health, error) {
	h := election.Health{
		ID:            n.memberID(),
		Name:          n.cfg.Name,
		RunID:         n.runID,
		Role:          election.RoleJoining,
		Promised:      n.promised.Load(),
		StreamSilence: -1,
	}
	h.DiskFree, h.DiskSize = n.diskFree.Load(), n.diskSize.Load()
	r, _ := n.present.load()
	if r == nil {
		return h, nil
	}
	flushed := r.flushed().Load()
	h.Epoch, h.Horizon = r.epoch, r.horizon.Load()
	h.Damaged, h.Lacking = n.damage(&r.found)
	h.Write, h.Replay = r.written().Load(), r.replayed()
	h.Position = raftlog.Position{Epoch: startup.EpochAt(r.found.History, flushed), LSN: flushed}
	h.Role = election.RoleStandby
	switch {
	case r.primary != nil:
		h.Role, h.InOffice = election.RolePrimary, true
		h.Receivers = r.listedReceivers()
		if f := n.fallback(); f.Degrade {
			h.Fallback = &f
		}
	case r.stream == nil:
		h.Sealed = h.Promised
	default:
		if s := r.stream.Status(); !s.LastMsgReceipt.IsZero() {
			h.StreamEpoch, h.StreamSilence = s.Epoch, time.Since(s.LastMsgReceipt)
		}
	}
	return h, nil
}

// listedReceivers are the receivers that count under the rule now. Most rules list none.
func (r *reign) listedReceivers() (names []string) {
	receiver := func(l syncrep.Listed) bool { return l.ID.IsZero() }
	if !slices.ContainsFunc(raftlog.Rules(r.node.raft.State()), func(rule syncrep.Resolved) bool {
		return slices.ContainsFunc(rule.Listed, receiver)
	}) {
		return nil
	}
	for _, s := range r.primary.group.Snapshot().Streams {
		if s.Standby.ID.IsZero() && s.Status.State > syncrep.Potential {
			names = append(names, s.Standby.Name)
		}
	}
	return names
}

// Propose implements election.Service: another member's command for Raft, of which this node is the
// leader.
func (n *Node) Propose(ctx context.Context, req election.ProposeRequest) (reply election.ProposeReply, err error) {
	if !n.connected.Load() {
		return reply, errStartingUp()
	}
	return election.Proposed(n.raft.ProposeEncoded(ctx, req.Command)), nil
}

// Join implements election.Service: a node that wants to be a member, or is one at another address.
func (n *Node) Join(ctx context.Context, req election.JoinRequest) (reply election.JoinReply, err error) {
	if !n.connected.Load() {
		return reply, errStartingUp()
	}
	return n.coordinator.Join(ctx, req)
}

// Switchover implements election.Service, and is what clients and a primary that stops ask for.
func (n *Node) Switchover(ctx context.Context, req election.SwitchoverRequest) (reply election.SwitchoverReply, err error) {
	if !n.connected.Load() {
		return reply, errStartingUp()
	}
	return n.coordinator.Switchover(ctx, req)
}

// Failover implements election.Service.
func (n *Node) Failover(ctx context.Context, req election.FailoverRequest) (reply election.FailoverReply, err error) {
	if !n.connected.Load() {
		return reply, errStartingUp()
	}
	return n.coordinator.Failover(ctx, req)
}

// Explain implements election.Service.
func (n *Node) Explain(ctx context.Context, req election.ExplainRequest) (reply election.ExplainReply, err error) {
	if !n.connected.Load() {
		return reply, errStartingUp()
	}
	return n.coordinator.Explain(ctx, req)
}

// Remove implements election.Service.
func (n *Node) Remove(ctx context.Context, req election.RemoveRequest) (reply election.RemoveReply, err error) {
	if !n.connected.Load() {
		return reply, errStartingUp()
	}
	return n.coordinator.Remove(ctx, req)
}

// Hold implements election.Service: this primary takes no more commits, and waits until all it has
// taken are acknowledged, and the member that is to take over has everything. It takes commits again
// when it is told so, or when the time is over.
func (n *Node) Hold(ctx context.Context, req election.HoldRequest) (election.HoldReply, error) {
	r, err := n.reigning(req.Epoch)
	if err != nil {
		return election.HoldReply{}, err
	}
	p := r.primary
	if !p.holding.TryLock() {
		return election.HoldReply{}, pgwire.Errorf(pgwire.CodeObjectInUse, "node %s is being drained for a switchover already", n.cfg.Name)
	}
	defer p.holding.Unlock()
	limit := min(max(req.Limit, 0), holdMax)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r.publishSlots(ctx)
	if p.release != nil {
		p.release.Stop() // an earlier one must not open the gate for this one
	}
	p.release = time.AfterFunc(limit, p.gate.open)
	end, err := wal.InvalidLSN, p.gate.close(ctx)
	if err == nil {
		end, err = r.drainTo(ctx, req.Target)
	}
	if err != nil {
		p.gate.open()
		return election.HoldReply{}, err
	}
	return election.HoldReply{LSN: end}, nil
}

// holdMax bounds how long commits may be held up, whatever is asked.
const holdMax = time.Minute

// reigning is the reign of this node as the primary of an epoch.
func (n *Node) reigning(epoch uint64) (*reign, error) {
	r, _ := n.present.load()
	if r == nil || r.primary == nil || r.epoch != epoch {
		return nil, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "node %s is not the primary of epoch %d", n.cfg.Name, epoch)
	}
	return r, nil
}

// drainTo waits until all commits are acknowledged, and a member has flushed them.
func (r *reign) drainTo(ctx context.Context, target syncrep.ID) (wal.LSN, error) {
	p := r.primary
	for {
		end := p.writer.Inserted().Load()
		p.writer.RequestFlush(end)
		if err := r.horizon.Wait(ctx, end); err != nil {
			return 0, fmt.Errorf("waiting for the last commits to be acknowledged: %w", err)
		}
		if p.flushedBy(target) >= end && p.writer.Inserted().Load() == end {
			return end, nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-r.over:
			return 0, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "node %s is not the primary any more", r.node.cfg.Name)
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting for the node that is to take over to have all of the log: %w", context.Cause(ctx))
		}
	}
}

// flushedBy is how far a member has reported to have flushed the log.
func (p *primary) flushedBy(id syncrep.ID) (lsn wal.LSN) {
	for _, s := range p.group.Snapshot().Streams {
		if s.Standby.ID == id {
			lsn = max(lsn, s.Standby.Flush)
		}
	}
	return lsn
}

// Release implements election.Service: the switchover does not take place.
func (n *Node) Release(_ context.Context, req election.ReleaseRequest) (election.ReleaseReply, error) {
	r, err := n.reigning(req.Epoch)
	if err == nil {
		r.primary.gate.open()
	}
	return election.ReleaseReply{}, err
}

var _ election.Service = (*Node)(nil)
