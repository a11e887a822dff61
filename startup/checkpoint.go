package startup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// A Checkpointer bounds what recovery has to redo, and removes or recycles WAL that nobody needs.
// On a primary it writes a checkpoint record; on a standby the same without a record is what
// PostgreSQL calls a restartpoint.
//
// A checkpoint is cheap: the store's files are immutable, so it is one flush of what was applied
// since the last, and there are no full-page writes after it.
type Checkpointer struct {
	DataDir   DataDir
	WAL       *wal.Dir
	Store     *kv.Store
	Writer    *wal.Writer // nil on a standby
	Flushed   *wal.Position
	Horizon   *wal.Position
	NextXID   func() uint32
	Retention func() wal.Retention
	Timeout   func() time.Duration // checkpoint_timeout
	Important func() wal.LSN       // end of the last record applied that is no heartbeat

	// Needed returns what slots and base copies need; this checkpointer adds redo. Invalidate takes the
	// claim from slots that need a segment before the one with this number, or are idle for too long,
	// and reports whether there were any. Save makes the slots' positions durable.
	Needed     func() wal.Needs
	Invalidate func(before uint64) (bool, error)
	Save       func() error

	Log *slog.Logger

	requests chan chan error
	kick     chan struct{}

	// Owned by Run, and then by Shutdown.
	lastEnd  wal.LSN // end of the last checkpoint record
	estimate float64 // bytes between two checkpoints

	control atomic.Pointer[Control] // as last written, or as given
	stats   CheckpointStats

	mu     sync.Mutex // held while the control file, or a checkpoint's record, is written
	sealed bool
}

// ErrSealed is what a checkpoint fails with after Seal.
var ErrSealed = errors.New("no checkpoint is made: this node has promised to write nothing more in this epoch")

// NewCheckpointer returns a checkpointer with its channels; the caller fills in the exported fields.
func NewCheckpointer(control Control) *Checkpointer {
	c := &Checkpointer{requests: make(chan chan error), kick: make(chan struct{}, 1)}
	c.control.Store(&control)
	return c
}

// Control is the content of the control file, as far as this checkpointer knows.
func (c *Checkpointer) Control() Control { return *c.control.Load() }

// CheckpointStats counts the checkpoints that a Checkpointer has completed, as pg_stat_bgwriter does.
type CheckpointStats struct {
	Timed     atomic.Int64 // due for their time or for the volume of WAL
	Requested atomic.Int64
	Time      atomic.Int64 // nanoseconds
}

// Stats returns the counters, which go on.
func (c *Checkpointer) Stats() *CheckpointStats { return &c.stats }

// Promise records, durably, that this node follows and acknowledges no epoch before the given one. The
// error is an *EpochError if that cannot be, a *wal.NoRoomError if it can be tried again; with any other the
// process must end.
func (c *Checkpointer) Promise(epoch uint64) error {
	if epoch == c.Control().PromisedEpoch {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.change(func(control *Control) error { return control.Promise(epoch) })
}

// Seal promises the epoch as Promise does, and records that the log is durable up to end, where its
// last whole record ends: then the next start need not prove it again. It is called once nothing is
// written to the log any more: a primary's writer or a standby's stream has ended. It may be called
// again, for a later epoch.
//
// A sealed log is not touched: when Seal has returned, this checkpointer writes neither a checkpoint's
// record nor the control file, but for later promises, though Run may be in the middle of a
// checkpoint. Checkpoints that are due are left out, those that are asked for fail with ErrSealed, and
// Shutdown does nothing. If Seal fails, nothing changes; with anything else than an *EpochError the
// process must end.
func (c *Checkpointer) Seal(epoch uint64, end wal.LSN) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.change(func(control *Control) error {
		if err := control.Promise(epoch); err != nil {
			return err
		}
		if flushed := max(c.Flushed.Load(), control.Durable); end < control.Durable || end > flushed {
			return fmt.Errorf("cannot seal the log at %s: it is durable from %s to %s", end, control.Durable, flushed)
		}
		control.Durable = end
		// Not past end, as long as nobody said so before: if the log has been cut, the horizon may
		// have been that of what is cut off.
		control.Horizon = max(control.Horizon, min(c.Horizon.Load(), end))
		control.NextXID = c.NextXID()
		return nil
	})
	c.sealed = c.sealed || err == nil
	return err
}

func (c *Checkpointer) isSealed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sealed
}

// change changes the control file. c.mu is held.
func (c *Checkpointer) change(change func(*Control) error) error {
	control, err := c.DataDir.changeControl(change)
	if err == nil {
		c.control.Store(&control)
	}
	return err
}

// Kick makes Run look whether a checkpoint is due: a segment has been completed.
func (c *Checkpointer) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Request makes a checkpoint and waits for it (CHECKPOINT).
func (c *Checkpointer) Request(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case c.requests <- done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run makes checkpoints when they are due or asked for, until ctx ends. Its error is fatal to the
// process.
func (c *Checkpointer) Run(ctx context.Context) error {
	last := time.Now()
	for ctx.Err() == nil {
		done, err := c.await(ctx, last)
		if err != nil {
			return err
		}
		timed := time.Since(last) >= c.Timeout()
		if done == nil && !timed && !c.due() {
			continue
		}
		err = c.checkpoint(ctx, done != nil, wal.XLOGCheckpointOnline)
		if done != nil {
			done <- err
		}
		if err != nil && ctx.Err() == nil && !c.passing(err) {
			return err
		}
		last = time.Now()
	}
	return nil
}

// volumeInterval is how often the volume of WAL is looked at when nobody calls Kick.
const volumeInterval = time.Second

// await waits for a request, which it returns, for a segment to be completed, or for the time to
// look again.
func (c *Checkpointer) await(ctx context.Context, last time.Time) (done chan error, err error) {
	timer := time.NewTimer(min(volumeInterval, time.Until(last.Add(c.Timeout()))))
	defer timer.Stop()
	select {
	case done = <-c.requests:
	case <-c.kick:
		err = c.preallocate()
	case <-timer.C:
	case <-ctx.Done():
	}
	return done, err
}

// passing reports whether a checkpoint's failure is no reason to end: it will be tried again, or the
// reign is over and its owner knows.
func (c *Checkpointer) passing(err error) bool {
	if errors.Is(err, ErrSealed) || errors.Is(err, wal.ErrWriterStopped) {
		return true
	}
	full := errors.Is(err, wal.ErrDiskFull) || errors.Is(err, syscall.ENOSPC)
	if full {
		c.Log.Warn("checkpoint failed for lack of disk space: will try again", "err", err)
	}
	return full
}

func (c *Checkpointer) due() bool {
	return c.Retention().CheckpointDue(c.Control().Redo, c.Flushed.Load())
}

// idle reports whether nothing has happened since the last checkpoint: heartbeats alone are not worth
// one, unless there are so many of them that one is due for their volume.
func (c *Checkpointer) idle() bool {
	return c.Important() <= max(c.lastEnd, c.Control().Redo) && !c.due()
}

func (c *Checkpointer) preallocate() error {
	if c.Writer == nil || c.isSealed() {
		return nil
	}
	return c.Writer.Preallocate()
}

// Shutdown makes the last checkpoint of a clean stop. Nothing is inserted during it or after it. A
// log that is sealed stays as it is.
func (c *Checkpointer) Shutdown(ctx context.Context) error {
	if c.isSealed() {
		return nil
	}
	if err := c.checkpoint(ctx, true, wal.XLOGCheckpointShutdown); err != nil {
		return err
	}
	// Should something have been inserted all the same, the next start looks for the end of it.
	whole := c.Writer == nil || c.Writer.Inserted().Load() == c.Flushed.Load()
	return c.write(func(control *Control) { control.Clean = whole })
}

// write replaces the control file after change. If it fails, what is in memory is what was there
// before; the file is that or the new one.
func (c *Checkpointer) write(change func(*Control)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed {
		return ErrSealed
	}
	return c.change(func(control *Control) error {
		control.Horizon = c.Horizon.Load() // first: on a primary it is not past what is flushed
		control.Durable = c.Flushed.Load()
		control.NextXID = c.NextXID()
		change(control)
		return nil
	})
}

// checkpoint flushes the store, records where redo would start from now on, and lets go of WAL
// before that. Unless forced it does nothing if there is nothing new. (PostgreSQL calls records that
// are no news unimportant, too.)
func (c *Checkpointer) checkpoint(ctx context.Context, forced bool, opcode uint8) error {
	if c.isSealed() {
		return ErrSealed
	}
	if !forced && c.idle() {
		return nil
	}
	begin := time.Now()
	if err := c.Store.Flush(ctx); err != nil {
		return err
	}
	redo, err := c.redo()
	if err != nil {
		return err
	}
	if !forced && (redo == c.Control().Redo || redo == c.lastEnd) {
		return nil
	}
	// A crash from here on starts redo at the old position, which is still there.
	record, err := c.record(ctx, redo, opcode)
	if err != nil {
		return err
	}
	if err := c.Save(); err != nil {
		return err
	}
	before := c.Control().Redo
	if err := c.write(func(control *Control) { control.Redo, control.Checkpoint = redo, record }); err != nil {
		return err
	}
	// The commit point: redo starts at the new position, and what lies before may go. A crash leaves
	// segments that the next checkpoint removes.
	c.estimateVolume(float64(redo - before))
	removed, recycled, err := c.removeOld(redo)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	c.stats.count(forced, took)
	c.Log.Info("checkpoint complete", "redo", redo, "end", c.Flushed.Load(), "removed", removed, "recycled", recycled, "took", took)
	return c.preallocate()
}

func (s *CheckpointStats) count(forced bool, took time.Duration) {
	s.Time.Add(int64(took))
	if forced {
		s.Requested.Add(1)
	} else {
		s.Timed.Add(1)
	}
}

// redo is where redo may start from now on: what the store holds for certain. A copied store is ahead
// of the log at first, and there redo waits for the log: it starts nowhere that the log has not been.
func (c *Checkpointer) redo() (wal.LSN, error) {
	redo, err := c.Store.DurableApplied()
	before := c.Control().Redo
	if redo > c.Flushed.Load() {
		return before, err
	}
	return max(redo, before), err
}

// record writes the checkpoint record and makes it durable. It returns where it starts.
func (c *Checkpointer) record(ctx context.Context, redo wal.LSN, opcode uint8) (wal.LSN, error) {
	if c.Writer == nil {
		return c.Control().Checkpoint, nil
	}
	tli := c.Writer.Timeline()
	cp := wal.Checkpoint{Redo: c.WAL.Format.RecordStart(redo), Timeline: tli, PrevTimeline: tli, NextXID: uint64(c.NextXID()), Time: time.Now()}
	start, end, err := c.insert(cp.Prepare(opcode))
	if err != nil {
		return 0, fmt.Errorf("write checkpoint record: %w", err)
	}
	c.lastEnd = end
	return start, c.Writer.Flush(ctx, end)
}

func (c *Checkpointer) insert(p *wal.Prepared) (start, end wal.LSN, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed {
		return 0, 0, ErrSealed
	}
	return c.Writer.InsertSystem(p)
}

// estimateVolume learns from the number of bytes between two checkpoints, as PostgreSQL does: at once
// if there were more than expected, slowly if less.
func (c *Checkpointer) estimateVolume(size float64) {
	if c.estimate < size {
		c.estimate = size
	} else {
		c.estimate = 0.90*c.estimate + 0.10*size
	}
}

// removeOld removes or recycles the segments that nothing needs. Slots that are beyond their limits are
// invalidated first.
func (c *Checkpointer) removeOld(redo wal.LSN) (removed, recycled int, err error) {
	keep, err := c.keepFrom(redo)
	if err != nil {
		return 0, 0, err
	}
	invalidated, err := c.Invalidate(keep)
	if err == nil && invalidated {
		keep, err = c.keepFrom(redo)
	}
	if err != nil {
		return 0, 0, err
	}
	removed, recycled, err = c.removeBefore(keep, redo)
	if _, refused := errors.AsType[*wal.NeededError](err); refused {
		// Somebody has come to need it since keep was computed; with that taken into account it stays.
		if keep, err = c.keepFrom(redo); err == nil {
			removed, recycled, err = c.removeBefore(keep, redo)
		}
	}
	if needed, refused := errors.AsType[*wal.NeededError](err); refused {
		// Two came to need it while this went on, or the arithmetic is wrong. A full disk can be mended, a
		// gap can not.
		c.Log.Error("refusing to remove WAL that is needed",
			"keep_from", needed.Keep, "needed", needed.Needed, "redo", redo, "needs", c.needs(redo), "retention", c.Retention())
		return 0, 0, nil
	}
	return removed, recycled, err
}

func (c *Checkpointer) needs(redo wal.LSN) wal.Needs {
	n := c.Needed()
	n.Redo = redo
	return n
}

// keepFrom is the number of the oldest segment to stay.
func (c *Checkpointer) keepFrom(redo wal.LSN) (uint64, error) {
	history, err := c.WAL.ReadHistory(c.Control().Timeline)
	if err != nil {
		return 0, err
	}
	first, err := segmentBefore(c.WAL, history, redo)
	if err != nil {
		return 0, err
	}
	return min(c.Retention().KeepFrom(c.needs(redo), c.Flushed.Load()), first), nil
}

func (c *Checkpointer) removeBefore(keep uint64, redo wal.LSN) (removed, recycled int, err error) {
	r := c.Retention()
	needed := func() uint64 { return r.Oldest(c.needs(redo)) }
	return c.WAL.RemoveBefore(keep, needed, c.Control().Timeline, r.SegmentSize.Segno(c.Flushed.Load()), r.RecycleTo(redo, c.estimate))
}
