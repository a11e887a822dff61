package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// primaryLinger is how long a primary collects commits before it applies them to the store. Nobody
// waits for that: its readers see pending commits. Those of a standby see what is applied, but while many
// commits come, one batch a millisecond is enough; who waits for a certain commit does not wait for that.
const (
	primaryLinger = 10 * time.Millisecond
	standbyLinger = time.Millisecond
)

// drainTimeout bounds how long a shutdown may take.
const drainTimeout = 60 * time.Second

// A primary is what a reign has only while this node is the primary.
type primary struct {
	writer  *wal.Writer
	group   *syncrep.Group
	keeper  *election.Keeper
	first   wal.LSN      // end of the epoch's first record; 0 if the epoch was founded here
	gate    gate         // commits pass it; closed while another node is to take over
	ages    ages         // when the log reached which position
	active  atomic.Int64 // commits under way, for commit_siblings
	deposed chan uint64  // told by the keeper: Raft wants another epoch

	holding sync.Mutex  // one switchover at a time drains the commits; guards release
	release *time.Timer // opens the gate should nobody say more
}

// runPrimary is the node's time as primary: from taking office to a clean shutdown when ctx ends, to
// the end of its epoch, or a failure.
func (n *Node) runPrimary(ctx context.Context, role Role, log *startup.Recovered) error {
	n.reigned.Store(role.Epoch) // whatever comes of it, this process does not try again
	if !role.Founding {
		if taken, err := n.takeOffice(role, log); !taken {
			return err
		}
	}
	r, err := n.newPrimaryReign(log)
	if err != nil {
		return err
	}
	if err := r.loadTable(ctx, log.End.LSN); err != nil {
		r.table.Close()
		return stopped(ctx, err)
	}
	writer := n.start(r.primary.writer.Run)
	redo := n.start(r.redo.Run)
	r.checkpoints = n.start(r.checkpointer.Run)
	if err := r.beginEpoch(role); err != nil {
		return &FatalError{Err: err}
	}
	n.present.set(r)
	r.slotKeeper = n.start(r.keepSlots)
	keeper := n.start(r.keepRule)
	prepare, beat, scrub, others := n.start(r.prepare), n.start(r.beat), n.start(r.scrub), n.start(r.tendOthers)

	req, err := r.awaitEnd(ctx)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		r.publishSlots(context.WithoutCancel(ctx))
	}
	n.present.set(nil)
	if err := errors.Join(prepare.stop(), beat.stop(), scrub.stop(), others.stop()); err != nil {
		return err
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	end := r.endReign
	if ctx.Err() == nil {
		end = r.demote
	}
	if err := end(drain, keeper, redo, writer); err != nil {
		return asFatal(err)
	}
	r.table.Close()
	log.Control = r.checkpointer.Control()
	log.Horizon = max(log.Horizon, r.horizon.Load())
	log.End = wal.End{LSN: r.primary.writer.Inserted().Load(), Prev: r.primary.writer.Prev(), Timeline: log.End.Timeline}
	if req == nil {
		return nil
	}
	return n.seal(log, *req)
}

// awaitEnd returns when this node is to be the primary no longer, with the request to seal if that is
// why. An error ends the process.
func (r *reign) awaitEnd(ctx context.Context) (*sealRequest, error) {
	n := r.node
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case err := <-n.fatal:
			return nil, err
		case req := <-n.seals:
			if !r.missed(req) {
				return &req, nil
			}
		case epoch := <-r.primary.deposed:
			n.log.Warn("this node is not the primary any more", "epoch", r.epoch, "next_epoch", epoch)
			return nil, nil
		}
	}
}

// takeOffice opens the timeline of the epoch that this node was named for, if its log is the one that
// it was named with (invariant I5).
func (n *Node) takeOffice(role Role, log *startup.Recovered) (taken bool, err error) {
	o, epoch := role.Office, role.Epoch
	here := raftlog.Position{Epoch: log.LastEpoch(), LSN: log.End.LSN}
	if !role.Fits(here) {
		n.log.Error("not taking office: this node's log is not the one it was named for", "epoch", epoch, "log", here, "named_for", o.Position)
		return false, nil
	}
	if o.LossAccepted {
		if err := startup.AcceptLoss(n.dir, log); err != nil {
			return false, err
		}
	}
	err = startup.BeginTimeline(n.dir, log, epoch, fmt.Sprintf("node %s takes office", n.cfg.Name))
	if mayNot(err) {
		n.log.Error("not taking office", "epoch", epoch, "err", err)
		return false, nil
	}
	if err != nil {
		return false, explainRecovery(fmt.Errorf("open timeline %d: %w", epoch, err), n.dir.Path)
	}
	n.promised.Store(max(n.promised.Load(), epoch))
	return true, nil
}

// mayNot reports whether an office is refused for what this node has or has promised: another epoch is
// needed.
func mayNot(err error) bool {
	_, promised := errors.AsType[*startup.EpochError](err)
	return promised || errors.Is(err, startup.ErrLogBehind) || errors.Is(err, startup.ErrEpochUsed)
}

// endReign is a clean shutdown. In the order in which each step still needs what comes after it. A
// failure leaves the rest as a crash would, and the next start recovers.
func (r *reign) endReign(ctx context.Context, keeper, redo, writer *task) error {
	n := r.node
	return inOrder(
		func() error { return n.server.TerminateSessions(ctx, errShuttingDown()) },
		keeper.stop,
		r.slotKeeper.stop,
		redo.stop,
		func() error { return r.redo.CatchUp(ctx) },
		r.checkpoints.stop,
		n.failed,
		func() error { return r.finishEpoch(ctx) },
		func() error { r.drainSenders(ctx); return nil },
		func() error { return r.endSenders(ctx, errShuttingDown()) },
		writer.stop,
	)
}

// demote ends a reign because another epoch is to begin: nothing is acknowledged from here on, and
// nothing is added to the log. Clients hear that their commits are not confirmed, and look for the
// new primary.
func (r *reign) demote(ctx context.Context, keeper, redo, writer *task) error {
	n := r.node
	r.primary.group.Hold(syncrep.Unbounded)
	r.primary.gate.fail(errNotCommitted())
	return inOrder(
		func() error { return n.server.TerminateSessions(ctx, errDemoted()) },
		func() error { return r.endSenders(ctx, errDemoted()) },
		keeper.stop,
		r.slotKeeper.stop,
		redo.stop,
		r.checkpoints.stop,
		n.failed,
		writer.stop,
	)
}

func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func errShuttingDown() *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeAdminShutdown, "terminating connection due to administrator command").Fatal()
}

func errDemoted() *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeAdminShutdown, "terminating connection because this node is not the primary any more").
		WithHint("Connect again with target_session_attrs=read-write and all nodes' addresses.").Fatal()
}

// errNotCommitted is for a commit that was not let into the log: nothing was done, and it may be made
// again elsewhere.
func errNotCommitted() error {
	return pgwire.Errorf(pgwire.CodeSerializationFailure, "the transaction was not committed because this node is not the primary any more").
		WithHint("Retry it on the new primary.")
}

// errLogFailed is for a commit that came after a failed write or sync of the log, which ends the process:
// no record was inserted, so it will never be seen.
func errLogFailed() error {
	return pgwire.Errorf(pgwire.CodeCrashShutdown, "the transaction was not committed because this node cannot write its log any more").
		WithHint("Connect again with all nodes' addresses and retry it; this server's log says what failed.").Fatal()
}

// newPrimaryReign puts together what a primary needs to continue the log. Nothing runs yet.
func (n *Node) newPrimaryReign(log *startup.Recovered) (*reign, error) {
	p := &primary{group: syncrep.NewGroup(), deposed: make(chan uint64, 1)}
	// What the store holds was within the horizon when it was applied (I7).
	p.group.Horizon().Advance(max(log.Horizon, n.store.Applied()))
	r := n.newReign(log, p.group.Horizon())
	p.ages.note(log.End.LSN, time.Now())
	p.writer = wal.NewWriter(log.Dir, log.End, n.writerConfig(p, r))
	p.group.OnRelease = p.writer.Settled
	r.primary = p
	return r, r.assemble()
}

// writerConfig connects the flusher to those who wait for it.
func (n *Node) writerConfig(p *primary, r *reign) wal.WriterConfig {
	return wal.WriterConfig{
		Buffers:     int(n.settings.Bytes("wal_buffers")),
		SyncMethod:  wal.SyncMethod(n.settings.String("wal_sync_method")),
		WriterDelay: n.setting("wal_writer_delay"),
		CommitDelay: func() (time.Duration, int) {
			delay := time.Duration(n.settings.Int("commit_delay")) * time.Microsecond
			if delay == 0 {
				return 0, 0
			}
			return delay, int(n.settings.Int("commit_siblings"))
		},
		Active:  func() int { return int(p.active.Load()) },
		Waiting: p.group.Waiting,
		OnFlush: func(lsn wal.LSN) {
			p.group.LocalFlush(lsn)
			p.ages.note(lsn, time.Now())
		},
		OnSync:    n.latencies.flushed,
		OnSegment: func(uint64) { r.checkpointer.Kick() },
	}
}

// loadTable brings the table up to the end of the log: what is within the horizon is applied, the
// rest is pending.
func (r *reign) loadTable(ctx context.Context, end wal.LSN) error {
	if applied := r.node.store.Applied(); applied > end {
		return fmt.Errorf("the store has applied the log up to %s, but the log ends at %s: WAL has been removed by hand; put it back, or start again with an empty directory", applied, end)
	}
	if err := r.redo.CatchUp(ctx); err != nil {
		return err
	}
	next, err := startup.LoadPending(r.log.Dir, r.log.History, r.redoStart(), end, r.redo.NextXID(r.log.Control.NextXID), r.table.Recover)
	if err != nil {
		return err
	}
	r.table.SetNextXID(next)
	return nil
}

// beginEpoch writes the first record of a new epoch, and hands what is released to the keeper: until
// Raft holds the epoch as steady, that is nothing (I1).
func (r *reign) beginEpoch(role Role) error {
	n, p := r.node, r.primary
	p.group.Hold(syncrep.Unbounded)
	if !role.Founding {
		var err error
		if p.first, err = r.insertFirst(); err != nil {
			return fmt.Errorf("write the first record of epoch %d: %w", r.epoch, err)
		}
	}
	p.keeper = election.NewKeeper(election.KeeperConfig{
		Raft:      n.raft,
		Epoch:     r.epoch,
		RunID:     n.runID,
		Self:      n.memberID(),
		Group:     p.group,
		First:     p.first,
		LeaseWait: role.Office.LeaseWait,
		Text:      n.standbyNames,
		Fallback:  n.fallback,
		Pending:   func() bool { return r.table.PendingBytes() > 0 },
		Streaming: r.sender.Streaming,
		RuleUsed:  r.sender.RuleChanged,
		Opened:    r.open,
		Deposed: func(epoch uint64) {
			select {
			case p.deposed <- epoch:
			default:
			}
		},
		Logger: n.log.With("component", "keeper"),
	})
	p.group.LocalFlush(p.writer.Flushed().Load())
	p.writer.RequestFlush(p.first)
	return nil
}

// keepRule runs the keeper to the end of the reign.
func (r *reign) keepRule(ctx context.Context) error {
	err := r.primary.keeper.Run(ctx)
	if errors.Is(err, election.ErrDeposed) {
		return nil
	}
	return err
}

// open is called once, when the epoch is steady: before that nobody may read, for only then does this
// primary know that all that was ever acknowledged or shown is in its log, and on the standbys.
func (r *reign) open() {
	n := r.node
	close(r.opened)
	n.judgeOwnRule()
	n.log.Info("epoch is open", "epoch", r.epoch, "timeline", r.log.End.Timeline, "start", r.log.End.LSN)
	n.announceReady("primary %s %s epoch %d", n.cfg.Name, n.address, r.epoch)
}

// finishEpoch marks the end of a log as a clean one, unless its epoch never opened.
func (r *reign) finishEpoch(ctx context.Context) error {
	select {
	case <-r.opened:
		r.backups.close()
		return r.checkpointer.Shutdown(ctx)
	default:
		r.node.log.Warn("stopping before the epoch was open", "epoch", r.epoch)
		return nil
	}
}

// senderDrainTimeout bounds how long a shutdown waits for receivers. One that is away, or that the
// rule keeps from the last records, gets them after the next start.
const senderDrainTimeout = 10 * time.Second

func (r *reign) drainSenders(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, senderDrainTimeout)
	defer cancel()
	if err := r.sender.Drain(ctx); err != nil {
		r.node.log.Warn("stopping although not every receiver has confirmed the end of the log", "err", err)
	}
}

// insertFirst writes the record that opens a new timeline.
func (r *reign) insertFirst() (end wal.LSN, err error) {
	switches := r.log.History.Switches
	first := wal.EndOfRecovery{
		Time:         time.Now(),
		Timeline:     r.log.End.Timeline,
		PrevTimeline: switches[len(switches)-1].Parent,
	}
	_, end, err = r.primary.writer.InsertSystem(first.Prepare())
	return end, err
}
