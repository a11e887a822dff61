package node

import (
	"context"
	"errors"
	"net"

	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// errRebuild says that this node's data cannot be brought to where its upstream's log begins: only a
// new base copy helps.
var errRebuild = errors.New("the WAL that this node needs is gone")

// runStandby is the node's time as a standby of one upstream, on one timeline. It returns nil when ctx
// has ended and everything is shut down cleanly, and also when the log has to be opened again on
// another timeline.
func (n *Node) runStandby(ctx context.Context, role Role, log *startup.Recovered) error {
	r, err := n.newStandbyReign(role, log)
	if err != nil {
		return err
	}
	if err := r.redo.CatchUp(); err != nil {
		return err
	}
	redo := n.start(r.redo.Run)
	r.checkpoints = n.start(r.checkpointer.Run)
	streaming, stopStreaming := context.WithCancelCause(ctx)
	defer stopStreaming(nil)
	r.giveUp = stopStreaming
	streamed := make(chan error, 1)
	go func() { streamed <- r.stream.Run(streaming) }()
	close(r.opened)
	n.reign.Store(r)
	n.announceReady("standby %s %s follows %s", n.cfg.Name, n.address, role.Upstream)

	var end error
	select {
	case end = <-streamed:
	case err := <-n.fatal:
		return err
	}
	if IsFatal(end) {
		return end
	}
	n.reign.Store(nil)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	for _, step := range []func() error{
		func() error { return n.server.TerminateSessions(drain, errShuttingDown()) },
		func() error { return n.server.TerminateReplication(drain, errShuttingDown()) },
		redo.stop,
		r.checkpoints.stop,
		n.failed,
	} {
		if err := step(); err != nil {
			return asFatal(err)
		}
	}
	defer r.table.Close()
	return r.endStandby(drain, stopped(ctx, end))
}

// endStandby leaves the data directory as the reason for the end asks.
func (r *reign) endStandby(ctx context.Context, end error) error {
	if change, ok := errors.AsType[*walreceiver.SwitchError](end); ok {
		r.log.Control = r.checkpointer.Control()
		return startup.SwitchTimeline(r.node.dir, r.log, change.History, change.End)
	}
	if r.wasCut {
		return end // the control file says so; what the checkpointer knows is from before
	}
	if err := r.redo.CatchUp(); err != nil {
		return err
	}
	if err := r.checkpointer.Shutdown(ctx); err != nil {
		return err
	}
	if removed, ok := errors.AsType[*wal.RemovedError](end); ok {
		r.node.log.Warn("taking a new base copy", "upstream", r.upstream, "because", removed)
		return errRebuild
	}
	return end
}

// cut takes what only this node has out of its log, for the stream. The checkpointer must not write
// the control file any more: it believes the log to be longer.
func (r *reign) cut(ctx context.Context, fork wal.LSN) error {
	if err := r.checkpoints.stop(); err != nil {
		return err
	}
	r.log.Control = r.checkpointer.Control()
	r.log.End.LSN = r.stream.Flushed().Load()
	r.wasCut = true
	err := startup.Cut(r.node.dir, r.log, fork, r.node.store.Applied())
	if errors.Is(err, startup.ErrStoreAhead) {
		r.node.log.Warn("taking a new base copy", "upstream", r.upstream, "because", err)
		r.giveUp(errRebuild)
	}
	return err
}

// promise is given to the primary of an epoch before any of its log is taken: this node follows
// nothing older any more, whatever happens to it (I3).
func (r *reign) promise(_ context.Context, epoch uint64) error { return r.checkpointer.Promise(epoch) }

// newStandbyReign puts together what a standby needs to follow its upstream. Nothing runs yet.
func (n *Node) newStandbyReign(role Role, log *startup.Recovered) (*reign, error) {
	r := n.newReign(log, new(wal.Position))
	// What the store holds was within the horizon when it was applied (I7).
	r.horizon.Advance(max(log.Horizon, n.store.Applied()))
	r.upstream = role.Upstream
	cfg := n.receiverConfig(n.id, role.Upstream)
	cfg.Promise = r.promise
	r.stream = walreceiver.New(cfg, walreceiver.Log{
		Dir:     log.Dir,
		End:     log.End,
		History: log.History,
		Applied: &r.applied,
		Horizon: r.horizon,
		Cut:     r.cut,
	})
	return r, r.assemble()
}

// receiverConfig says how to follow, or look at, the node at address.
func (n *Node) receiverConfig(id startup.Identity, address string) walreceiver.Config {
	return walreceiver.Config{
		Primary:        address,
		Dial:           new(net.Dialer).DialContext,
		Name:           n.cfg.Name,
		Address:        n.address,
		NodeID:         uint64(id.NodeID),
		Incarnation:    uint64(id.Incarnation),
		SystemID:       id.SystemID,
		Timeout:        n.settings.Duration("wal_receiver_timeout"),
		StatusInterval: n.settings.Duration("wal_receiver_status_interval"),
		RetryInterval:  n.settings.Duration("wal_retrieve_retry_interval"),
		SyncMethod:     wal.SyncMethod(n.settings.String("wal_sync_method")),
		Slot:           slots.MemberName(n.cfg.Name),
		Logger:         n.log,
		Fatal:          func(err error) { n.fail(&FatalError{Err: err}) },
	}
}
