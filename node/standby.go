package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/longship-db/longship/internal/faults"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// runStandby is the node's time as a standby of one primary, on one timeline, or of nobody. It returns
// nil when ctx has ended and everything is shut down cleanly, and also when the role has ended: log
// then says where the log ends now.
func (n *Node) runStandby(ctx context.Context, role Role, log *startup.Recovered) error {
	r, err := n.newStandbyReign(role, log)
	if err != nil {
		return err
	}
	if err := r.redo.CatchUp(ctx); err != nil {
		r.table.Close()
		return stopped(ctx, err)
	}
	r.applying = n.start(r.redo.Run)
	r.checkpoints = n.start(r.checkpointer.Run)
	r.slotKeeper = n.start(r.keepSlots)
	prepare := n.start(r.prepare)
	r.scrubs = n.start(r.scrub)
	streamed := r.startStream(ctx)
	close(r.opened)
	n.present.set(r)
	if role.Upstream.Address != "" && role.Fetch == nil {
		n.announceReady("%s %s %s follows %s", n.standbyRole(), n.cfg.Name, n.address, role.Upstream.Address)
	}
	req, end := r.serveStandby(ctx, role, streamed)
	r.giveUp(nil)
	if IsFatal(end) {
		return end
	}
	end = r.unlessOver(ctx, req, end)
	n.present.set(nil)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if ctx.Err() != nil {
		if err := n.server.TerminateSessions(drain, errShuttingDown()); err != nil {
			return asFatal(err)
		}
	}
	for _, step := range []func() error{
		func() error { return r.endSenders(drain, errShuttingDown()) },
		r.applying.stop,
		r.slotKeeper.stop,
		r.scrubs.stop,
		r.checkpoints.stop,
		prepare.stop,
		n.failed,
	} {
		if err := step(); err != nil {
			return asFatal(err)
		}
	}
	defer r.table.Close()
	if err := r.endStandby(drain, ctx.Err() != nil, stopped(ctx, end)); err != nil || req == nil {
		return err
	}
	return n.seal(log, *req)
}

// startStream follows the upstream, if there is one. The channel says what the stream ended with.
func (r *reign) startStream(ctx context.Context) <-chan error {
	streamed := make(chan error, 1)
	streaming, giveUp := context.WithCancelCause(ctx)
	r.giveUp = giveUp
	if r.stream == nil {
		context.AfterFunc(streaming, func() { streamed <- context.Cause(streaming) })
		return streamed
	}
	stream, stop := context.WithCancelCause(streaming)
	r.stopStream = stop
	go func() { streamed <- r.follow(streaming, stream) }()
	return streamed
}

// errRoleEnds ends a stream because the node is to be something else.
var errRoleEnds = errors.New("the role ends")

// serveStandby returns when the stream has ended: by itself, or because the node is asked to promise
// something, or to be something else. A node that follows nobody answers requests to seal as it is.
func (r *reign) serveStandby(ctx context.Context, role Role, streamed <-chan error) (*sealRequest, error) {
	n := r.node
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	other := make(chan struct{})
	go func() {
		defer close(other)
		if role.Fetch != nil {
			r.awaitFetched(watching, role.Fetch)
		} else {
			n.awaitOtherRole(watching, role, r.epoch)
		}
	}()
	defer func() { stopWatching(); <-other }()

	for {
		select {
		case err := <-streamed:
			return nil, err
		case err := <-n.fatal:
			return nil, err
		case req := <-n.seals:
			if r.stream == nil {
				if err := r.seal(req); err != nil {
					return nil, err
				}
			} else if !r.missed(req) {
				r.giveUp(errRoleEnds)
				return &req, <-streamed
			}
		case req := <-n.fetches:
			if err := n.outdated(req); err != nil || r.stream != nil {
				req.done <- sealReply{err: cmp.Or(err, fmt.Errorf("node %s follows another", n.cfg.Name))}
				continue
			}
			n.wanted = &req
			r.giveUp(errRoleEnds)
			return nil, <-streamed
		case <-other:
			r.giveUp(errRoleEnds)
			return nil, <-streamed
		}
	}
}

// endStandby leaves the data directory, and what is known of the log, as the reason for the end asks.
func (r *reign) endStandby(ctx context.Context, stopping bool, end error) error {
	if !r.wasCut { // otherwise the control file says so; what the checkpointer knows is from before
		r.log.Control = r.checkpointer.Control()
	}
	r.log.Control.NextXID = r.nextXID()
	r.log.Horizon = max(r.log.Horizon, r.horizon.Load())
	change, switched := errors.AsType[*walreceiver.SwitchError](end)
	if switched {
		if err := startup.SwitchTimeline(r.node.dir, r.log, change.History, change.End); err != nil {
			return err
		}
		r.node.scrubbing.cut(change.End.LSN)
	}
	if r.wasCut {
		// What comes before the end is known to the log alone, and whoever continues it must know too.
		if err := r.recoverLog(ctx); err != nil {
			return err
		}
	}
	switch {
	case switched:
		return nil
	case r.wasCut:
		return r.excused(end)
	}
	return r.endStream(ctx, stopping, end)
}

// endStream is the end on the timeline on which the reign began.
func (r *reign) endStream(ctx context.Context, stopping bool, end error) error {
	whole := true
	if r.stream != nil {
		r.log.End, whole = r.stream.End()
	}
	_, replaced := errors.AsType[*replacement](end)
	if stopping {
		if err := r.redo.CatchUp(ctx); err != nil {
			return err
		}
		if err := r.checkpointer.Shutdown(ctx); err != nil {
			return err
		}
	}
	if !whole && !stopping && !replaced {
		if err := r.recoverLog(ctx); err != nil {
			return err
		}
	}
	return r.excused(end)
}

// recoverLog finds the end of the log anew, and has it mended first if that is needed.
func (r *reign) recoverLog(ctx context.Context) error {
	log, err := r.node.recover(ctx)
	if err != nil {
		return err
	}
	*r.log = *log
	r.node.scrubbing.add(log.Control.Faults())
	return nil
}

// excused is nil for the end of a role that goes on in another. Of a fetch, whatever ends the stream
// is for the one who asked: another source may do.
func (r *reign) excused(err error) error {
	switch {
	case err == nil || errors.Is(err, errRoleEnds):
		return nil
	case r.fetch != nil && !IsFatal(err):
		return &fetchError{err}
	}
	return err
}

// cut takes what only this node has out of its log, for the stream. The checkpointer must not write
// the control file any more: it believes the log to be longer. If the store is past the fork, so that the log stays as
// it is until a base copy takes its place, the stream is over.
func (r *reign) cut(ctx context.Context, fork wal.LSN) error {
	if err := r.applying.stop(); err != nil { // redo must not pass the fork meanwhile
		return err
	}
	r.wasCut = r.node.store.Applied() <= fork
	if r.wasCut {
		if err := errors.Join(r.scrubs.stop(), r.checkpoints.stop()); err != nil {
			return err
		}
	}
	r.log.Control = r.checkpointer.Control()
	r.log.End.LSN = r.stream.Flushed().Load()
	err := startup.Cut(r.node.dir, r.log, fork, r.node.store.Applied())
	if err == nil {
		r.node.scrubbing.cut(fork)
	}
	if errors.Is(err, startup.ErrStoreAhead) && r.fetch == nil {
		r.stopStream(err)
	}
	return err
}

// promise is given to the primary of an epoch before any of its log is taken: this node follows
// nothing older any more, whatever happens to it (I3).
func (r *reign) promise(_ context.Context, epoch uint64) error {
	err := r.checkpointer.Promise(epoch)
	_, refused := errors.AsType[*startup.EpochError](err)
	_, full := errors.AsType[*wal.NoRoomError](err)
	switch {
	case err == nil:
		r.node.promised.Store(epoch)
	case !refused && !full: // what is on disk is not known: the next attempt would prove nothing
		r.node.fail(err)
	}
	return err
}

// newStandbyReign puts together what a standby needs to follow its upstream, if it has one. Nothing
// runs yet.
func (n *Node) newStandbyReign(role Role, log *startup.Recovered) (*reign, error) {
	r := n.newReign(log, new(wal.Position))
	// What the store holds was within the horizon when it was applied (I7).
	r.horizon.Advance(max(log.Horizon, n.store.Applied()))
	r.upstream, r.fetch = role.Upstream, role.Fetch
	r.tail.Advance(log.End.LSN)
	if role.Upstream.Address != "" {
		applied := &r.applied
		if n.cfg.Witness {
			applied = new(wal.Position) // what it reports: it shows nothing to anybody
		}
		cfg := n.receiverConfig(n.identity(), role.Upstream.Address)
		cfg.Promise = r.promise
		if role.Fetch != nil {
			cfg.Fetch, cfg.Slot = true, ""
			cfg.Promise = nil // the source is sealed for the same epoch: nothing it sends is acknowledged
		}
		r.stream = walreceiver.New(cfg, walreceiver.Log{
			Dir:     log.Dir,
			End:     log.End,
			History: log.History,
			Applied: applied,
			Horizon: r.horizon,
			Wanted:  &r.wanted,
			Cut:     r.cut,
		})
	}
	return r, r.assemble()
}

// receiverConfig says how to follow, or look at, the node at address.
func (n *Node) receiverConfig(id startup.Identity, address string) walreceiver.Config {
	return walreceiver.Config{
		Primary:        address,
		Dial:           n.dialer(faults.Replication),
		Name:           n.cfg.Name,
		Address:        n.address,
		NodeID:         uint64(id.NodeID),
		Incarnation:    uint64(id.Incarnation),
		SystemID:       id.SystemID,
		Secret:         n.cfg.ClusterSecret,
		Leases:         n.leases,
		Timeout:        n.setting("wal_receiver_timeout"),
		StatusInterval: n.setting("wal_receiver_status_interval"),
		RetryInterval:  n.setting("wal_retrieve_retry_interval"),
		SyncMethod:     wal.SyncMethod(n.settings.String("wal_sync_method")),
		Slot:           slots.MemberName(n.cfg.Name),
		Bare:           n.cfg.Witness,
		Logger:         n.log,
		Fatal:          func(err error) { n.fail(&FatalError{Err: err}) },
	}
}
