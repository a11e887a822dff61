package node

import (
	"context"
	"fmt"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
)

// A fetchRequest asks this node, sealed, to get its log to a position from another sealed one, before
// it is named: the longest log may be a node's that is not to be the primary (invariant I5).
type fetchRequest struct {
	from     raftlog.Member
	position raftlog.Position
	ctx      context.Context
	done     chan<- sealReply
}

// Fetch implements election.Service.
func (n *Node) Fetch(ctx context.Context, asked election.FetchRequest) (raftlog.Answer, error) {
	if promised := n.promised.Load(); promised != asked.Epoch {
		return raftlog.Answer{}, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState,
			"node %s is sealed for epoch %d, not %d", n.cfg.Name, promised, asked.Epoch)
	}
	done := make(chan sealReply, 1)
	req := fetchRequest{
		from:     raftlog.Member{ID: asked.Source, Address: asked.Address},
		position: asked.Position,
		ctx:      ctx,
		done:     done,
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

// fetch follows the source until this log is where it should be, or whoever asked has given up. A
// change of timelines on the way ends a role and begins another.
func (n *Node) fetch(ctx context.Context, req fetchRequest, log *startup.Recovered) error {
	for {
		here := raftlog.Position{Epoch: log.LastEpoch(), LSN: log.End.LSN}
		switch {
		case here == req.position:
			req.done <- sealReply{answer: n.answer(log)}
			return nil
		case here.Compare(req.position) > 0:
			req.done <- sealReply{err: fmt.Errorf("this node's log reaches epoch %d, %s, past epoch %d, %s", here.Epoch, here.LSN, req.position.Epoch, req.position.LSN)}
			return nil
		case req.ctx.Err() != nil || ctx.Err() != nil:
			return nil
		}
		n.log.Info("fetching the rest of the log", "from", req.from.Address, "have", here, "want", req.position)
		if err := n.runStandby(ctx, Role{Fetch: &req, Upstream: req.from}, log); err != nil {
			return err
		}
	}
}

// awaitFetched returns when the log is where it should be on this timeline, or nobody waits any more.
func (r *reign) awaitFetched(ctx context.Context, req *fetchRequest) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(req.ctx, func() { cancel(context.Cause(req.ctx)) })()
	if r.epoch == req.position.Epoch {
		r.flushed().Wait(ctx, req.position.LSN)
		return
	}
	<-ctx.Done() // the stream ends by itself when the timeline does
}
