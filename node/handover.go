package node

import (
	"context"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
)

// handOverTimeout bounds how long a primary that is to stop looks for a successor.
const handOverTimeout = 5 * time.Second

// untilHandedOver returns a context that ends after ctx: a primary that is told to stop first makes
// another node the primary, if one can take over, and follows it until it is open. Meanwhile the
// node's roles change as at any other time. The function returned ends the context and waits for that.
func (n *Node) untilHandedOver(ctx context.Context) (context.Context, func()) {
	roles, end := context.WithCancelCause(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ctx.Done():
			n.handOver(roles)
			end(context.Cause(ctx))
		case <-roles.Done():
		}
	}()
	return roles, func() { end(context.Canceled); <-done }
}

func (n *Node) handOver(ctx context.Context) {
	r, _ := n.present.load()
	if r == nil || r.primary == nil || len(r.sender.Streaming()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	n.log.Info("handing over before stopping")
	to, err := n.Switchover(ctx, election.SwitchoverRequest{})
	if err != nil {
		n.log.Warn("stopping as primary: nobody has taken over", "err", err)
		return
	}
	n.log.Info("handed over", "primary", to.Primary)
	n.awaitSteady(ctx, r.epoch)
}

// awaitSteady returns when an epoch after the given one is steady: until then the new primary may need
// this node's acknowledgement.
func (n *Node) awaitSteady(ctx context.Context, after uint64) {
	for {
		s, changed := n.raft.Watch()
		if s.Epoch > after && s.Phase == raftlog.Steady {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
