package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// redoLinger is how long a primary collects commits before it applies them to the store. Nobody
// waits for that: its readers see pending commits.
const redoLinger = 10 * time.Millisecond

// drainTimeout bounds how long a shutdown may take.
const drainTimeout = 60 * time.Second

// A primary is what a reign has only while this node is the primary.
type primary struct {
	writer  *wal.Writer
	group   *syncrep.Group
	members *members
	rule    syncrep.Rule
	active  atomic.Int64 // commits under way, for commit_siblings
}

// runPrimary is the node's time as primary: from taking office to a clean shutdown when ctx ends, or
// a failure.
func (n *Node) runPrimary(ctx context.Context, role Role, log *startup.Recovered) error {
	if role.NewEpoch {
		if err := startup.BeginTimeline(n.dir, log, "no recovery target specified"); err != nil {
			return explainRecovery(fmt.Errorf("open a new timeline: %w", err), n.dir.Path)
		}
	}
	r, err := n.newPrimaryReign(log)
	if err != nil {
		return err
	}
	if err := r.loadTable(log.End.LSN); err != nil {
		return err
	}
	writer := n.start(r.primary.writer.Run)
	redo := n.start(r.redo.Run)
	r.checkpoints = n.start(r.checkpointer.Run)
	first, err := r.beginEpoch(role.NewEpoch)
	if err != nil {
		return &FatalError{Err: err}
	}
	n.reign.Store(r)
	opening := n.start(func(ctx context.Context) error { return r.open(ctx, first) })

	select {
	case <-ctx.Done():
	case err := <-n.fatal:
		return err
	}
	n.reign.Store(nil)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	// In the order in which each still needs what comes after it. A failure leaves the rest as a crash
	// would, and the next start recovers.
	for _, step := range []func() error{
		opening.stop,
		func() error { return n.server.TerminateSessions(drain, errShuttingDown()) },
		redo.stop,
		r.redo.CatchUp,
		r.checkpoints.stop,
		n.failed,
		func() error { return r.finishEpoch(drain) },
		func() error { r.drainSenders(drain); return nil },
		func() error { return n.server.TerminateReplication(drain, errShuttingDown()) },
		writer.stop,
	} {
		if err := step(); err != nil {
			return asFatal(err)
		}
	}
	r.table.Close()
	return nil
}

func errShuttingDown() *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeAdminShutdown, "terminating connection due to administrator command").Fatal()
}

// newPrimaryReign puts together what a primary needs to continue the log. Nothing runs yet.
func (n *Node) newPrimaryReign(log *startup.Recovered) (*reign, error) {
	rule, err := syncrep.ParseRule(n.settings.String("synchronous_standby_names"))
	if err != nil {
		return nil, fmt.Errorf("synchronous_standby_names: %w", err)
	}
	members, err := openMembers(n.dir.FS, n.dir.Global(), n.self())
	if err != nil {
		return nil, err
	}
	p := &primary{group: syncrep.NewGroup(), members: members, rule: rule}
	// What the store holds was within the horizon when it was applied (I7).
	p.group.Horizon().Advance(max(log.Horizon, n.store.Applied()))
	r := n.newReign(log, p.group.Horizon())
	p.writer = wal.NewWriter(log.Dir, log.End, n.writerConfig(p, r))
	r.primary = p
	return r, r.assemble()
}

// writerConfig connects the flusher to those who wait for it.
func (n *Node) writerConfig(p *primary, r *reign) wal.WriterConfig {
	return wal.WriterConfig{
		Buffers:        int(n.settings.Bytes("wal_buffers")),
		SyncMethod:     wal.SyncMethod(n.settings.String("wal_sync_method")),
		WriterDelay:    n.settings.Duration("wal_writer_delay"),
		CommitDelay:    time.Duration(n.settings.Int("commit_delay")) * time.Microsecond,
		CommitSiblings: int(n.settings.Int("commit_siblings")),
		Active:         func() int { return int(p.active.Load()) },
		OnFlush:        p.group.LocalFlush,
		OnSegment:      func(uint64) { r.checkpointer.Kick() },
	}
}

// loadTable brings the table up to the end of the log: what is within the horizon is applied, the
// rest is pending.
func (r *reign) loadTable(end wal.LSN) error {
	if applied := r.node.store.Applied(); applied > end {
		return fmt.Errorf("the store has applied the log up to %s, but the log ends at %s: WAL has been removed by hand; put it back, or start again with an empty directory", applied, end)
	}
	if err := r.redo.CatchUp(); err != nil {
		return err
	}
	return startup.LoadPending(r.log.Dir, r.log.History, r.redoStart(), end, r.table.Recover)
}

// beginEpoch makes the rule binding, before any stream can report under it. A new epoch first writes
// its first record, and holds everything until that is acknowledged under the rule (I1). It returns
// where the horizon must come for the epoch to be open.
func (r *reign) beginEpoch(newEpoch bool) (first wal.LSN, err error) {
	p := r.primary
	if newEpoch {
		if first, err = r.insertFirst(); err != nil {
			return 0, fmt.Errorf("write the first record of epoch %d: %w", r.epoch, err)
		}
		p.group.Hold(first)
	}
	p.group.SetRule(p.rule, p.members.counted())
	p.group.LocalFlush(p.writer.Flushed().Load())
	p.writer.RequestFlush(first)
	return first, nil
}

// open waits until the epoch is open: before that nobody may read, for only then does this primary
// know that all that was ever acknowledged or shown is in its log, and on the standbys.
func (r *reign) open(ctx context.Context, first wal.LSN) error {
	n := r.node
	if r.horizon.Load() < first {
		n.log.Info("waiting for the rule to be met before the epoch opens", "epoch", r.epoch, "rule", r.primary.rule.String())
	}
	if err := r.horizon.Wait(ctx, first); err != nil {
		return err
	}
	close(r.opened)
	n.log.Info("epoch is open", "epoch", r.epoch, "timeline", r.log.End.Timeline, "start", r.log.End.LSN)
	n.announceReady("primary %s %s epoch %d", n.cfg.Name, n.address, r.epoch)
	return nil
}

// finishEpoch marks the end of an epoch as a clean one, unless it never opened: then the next start
// has to wait for its first record all the same, in a new epoch.
func (r *reign) finishEpoch(ctx context.Context) error {
	select {
	case <-r.opened:
		r.backups.close()
		return r.checkpointer.Shutdown(ctx)
	default:
		r.node.log.Warn("stopping before the epoch was open: the next start begins another", "epoch", r.epoch)
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
