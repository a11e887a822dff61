package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A sealRequest asks the node to promise that it acknowledges nothing before an epoch any more, and
// to say how far its log reaches (invariant I3). The goroutine that lives the node's roles answers:
// by then it has left the role in which it could have acknowledged something.
type sealRequest struct {
	epoch uint64
	done  chan<- sealReply
}

type sealReply struct {
	answer raftlog.Answer
	err    error
}

// sealTimeout bounds how long a request to seal waits for a node that is busy with something else, such
// as a copy of the data. Whoever asks asks again.
const sealTimeout = 5 * time.Second

// epochsAhead is how far ahead of what this node knows an epoch may be that it is asked to promise. A
// promise cannot be taken back.
const epochsAhead = 1 << 20

// Seal implements election.Service. A node that is part of the reign of that epoch, or of a later one,
// refuses: whoever asks has missed something.
func (n *Node) Seal(ctx context.Context, asked election.SealRequest) (raftlog.Answer, error) {
	if !n.connected.Load() {
		return raftlog.Answer{}, errStartingUp()
	}
	s := n.raft.State()
	if known := max(s.Epoch, s.Target, n.promised.Load()); asked.Epoch > min(known+epochsAhead, math.MaxUint32) {
		return raftlog.Answer{}, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "epoch %d is too far ahead of epoch %d", asked.Epoch, known)
	}
	ctx, cancel := context.WithTimeout(ctx, sealTimeout)
	defer cancel()
	done := make(chan sealReply, 1)
	select {
	case n.seals <- sealRequest{asked.Epoch, done}:
	case <-ctx.Done():
		return raftlog.Answer{}, context.Cause(ctx)
	}
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return raftlog.Answer{}, context.Cause(ctx)
	}
}

// seal answers a request between two roles: streams are closed, and what was written is flushed. The
// promise is on disk before the answer is given.
func (n *Node) seal(log *startup.Recovered, req sealRequest) error {
	return n.answerSeal(log, req, func() error { return startup.Seal(n.dir, log, req.epoch) })
}

// seal answers a request within the reign of a standby that follows nobody: there is nothing to stop.
func (r *reign) seal(req sealRequest) error {
	return r.node.answerSeal(r.log, req, func() error {
		return r.checkpointer.Seal(max(req.epoch, r.node.promised.Load()), r.log.End.LSN)
	})
}

// missed refuses a request to seal that came for an epoch which this reign is part of already.
func (r *reign) missed(req sealRequest) bool {
	promised := r.node.promised.Load()
	if r.fetch != nil || req.epoch > promised {
		return false
	}
	req.done <- sealReply{err: pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState,
		"node %s is part of epoch %d already", r.node.cfg.Name, promised)}
	return true
}

func (n *Node) answerSeal(log *startup.Recovered, req sealRequest, promise func() error) error {
	if err := promise(); err != nil {
		err = fmt.Errorf("seal for epoch %d: %w", req.epoch, err)
		req.done <- sealReply{err: clientError(err)}
		if _, full := errors.AsType[*wal.NoRoomError](err); full { // nothing is promised, and whoever asks asks again
			n.log.Warn("cannot promise anything for lack of disk space, or of file descriptors", "err", err)
			return nil
		}
		return asFatal(err)
	}
	level := slog.LevelDebug // a coordinator that can promote nobody asks again and again
	if req.epoch > n.promised.Load() {
		level = slog.LevelInfo
		n.promised.Store(req.epoch)
	}
	n.sealed++
	n.leases.Stop(n.promised.Load()) // before it is said what remains of those given
	a := n.answer(log)
	req.done <- sealReply{answer: a}
	n.log.Log(context.Background(), level, "sealed", "epoch", req.epoch, "last_epoch", a.Position.Epoch, "end", a.Position.LSN)
	return nil
}

// answer is what this node, sealed, says of itself.
func (n *Node) answer(log *startup.Recovered) raftlog.Answer {
	damaged, lacking := n.damage(log)
	return raftlog.Answer{
		ID:        n.memberID(),
		Name:      n.cfg.Name,
		RunID:     n.runID,
		Promised:  n.promised.Load(),
		Position:  raftlog.Position{Epoch: log.LastEpoch(), LSN: log.End.LSN},
		LeaseLeft: n.leases.Left(),
		Priority:  n.cfg.priority(),
		Damaged:   damaged,
		Lacking:   lacking,
	}
}
