package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
)

// A fetchRequest asks this node, sealed, to get its log to a position from another sealed one, before
// it is named: the longest log may be a node's that is not to be the primary (invariant I5).
type fetchRequest struct {
	epoch    uint64 // that this node is sealed for
	from     raftlog.Member
	position raftlog.Position
	ctx      context.Context
	done     chan<- sealReply
}

// A fetchError says why a log could not be fetched, to the one who asked. The node itself is well.
type fetchError struct{ error }

func (e *fetchError) Unwrap() error { return e.error }

// fetchTimeout bounds how long a node fetches for one who asked: a coordinator that still wants it asks
// again.
const fetchTimeout = time.Minute

// Fetch implements election.Service.
func (n *Node) Fetch(ctx context.Context, asked election.FetchRequest) (raftlog.Answer, error) {
	if !n.connected.Load() {
		return raftlog.Answer{}, errStartingUp()
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	done := make(chan sealReply, 1)
	req := fetchRequest{
		epoch:    asked.Epoch,
		from:     raftlog.Member{ID: asked.Source, Address: asked.Address},
		position: asked.Position,
		ctx:      ctx,
		done:     done,
	}
	if err := n.outdated(req); err != nil {
		return raftlog.Answer{}, err
	}
	select {
	case n.fetches <- req:
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

// outdated reports why a request to fetch is none any more: this node has promised another epoch, or
// the epoch that it was for has begun.
func (n *Node) outdated(req fetchRequest) error {
	if promised := n.promised.Load(); promised != req.epoch {
		return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "node %s is sealed for epoch %d, not %d", n.cfg.Name, promised, req.epoch)
	}
	if s := n.raft.State(); s.Epoch >= req.epoch {
		return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "epoch %d has begun", s.Epoch)
	}
	return req.ctx.Err()
}

// fetch follows the source until this log is where it should be, or nobody wants that any more. A
// change of timelines on the way ends a role and begins another. Once a seal has been answered
// meanwhile it is over: the log stays what the answer says.
func (n *Node) fetch(ctx context.Context, req fetchRequest, log *startup.Recovered) error {
	for sealed := n.sealed; ; {
		here := raftlog.Position{Epoch: log.LastEpoch(), LSN: log.End.LSN}
		err := n.outdated(req)
		switch {
		case ctx.Err() != nil:
			return nil
		case here == req.position:
			req.done <- sealReply{answer: n.answer(log)}
			return nil
		case err == nil && n.sealed != sealed:
			err = fmt.Errorf("node %s has been asked to seal once more", n.cfg.Name)
		case err == nil && here.Compare(req.position) > 0:
			err = fmt.Errorf("the log of node %s reaches %v, past %v", n.cfg.Name, here, req.position)
		}
		if err == nil {
			n.log.Info("fetching the rest of the log", "from", req.from.Address, "have", here, "want", req.position)
			err = n.runStandby(ctx, Role{Duty: election.Duty{Upstream: req.from}, Fetch: &req}, log)
			if _, failed := errors.AsType[*fetchError](err); err != nil && !failed {
				return err
			}
		}
		if err != nil {
			req.done <- sealReply{err: err}
			return nil
		}
	}
}

// awaitFetched returns when the log is where it should be on this timeline, or nobody wants that any
// more. When the timeline ends, so does the stream by itself.
func (r *reign) awaitFetched(ctx context.Context, req *fetchRequest) {
	flushed := r.flushed()
	for {
		_, changed := r.node.raft.Watch()
		at := flushed.Load()
		if r.node.outdated(*req) != nil || r.epoch == req.position.Epoch && at >= req.position.LSN {
			return
		}
		select {
		case <-flushed.Changed(at):
		case <-changed:
		case <-req.ctx.Done():
		case <-ctx.Done():
			return
		}
	}
}
