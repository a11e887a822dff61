package startup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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

	// Needed returns the lowest position that a slot or a base copy needs, 0 if none does, after
	// slots that need a segment below limit have been invalidated. Save makes the slots' positions
	// durable.
	Needed func(limit uint64) (wal.LSN, error)
	Save   func() error

	Log *slog.Logger

	requests chan chan error
	kick     chan struct{}

	// Owned by Run, and then by Shutdown.
	lastEnd  wal.LSN // end of the last checkpoint record
	estimate float64 // bytes between two checkpoints

	mu      sync.Mutex // held while the control file is written
	control Control    // as it is on disk
}

// Control is the content of the control file.
func (c *Checkpointer) Control() Control {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.control
}

// NewCheckpointer returns a checkpointer with its channels; the caller fills in the exported fields.
func NewCheckpointer(control Control) *Checkpointer {
	return &Checkpointer{requests: make(chan chan error), kick: make(chan struct{}, 1), control: control}
}

// Promise records, durably, that this node follows and acknowledges no epoch before the given one. It
// refuses an epoch older than one promised before.
func (c *Checkpointer) Promise(epoch uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch promised := c.control.PromisedEpoch; {
	case epoch < promised:
		return fmt.Errorf("epoch %d is over: this node has promised to follow nothing before epoch %d", epoch, promised)
	case epoch == promised:
		return nil
	}
	control := c.control
	control.PromisedEpoch = epoch
	control.Time = time.Now().UTC()
	if err := control.Write(c.DataDir.FS, c.DataDir.Global()); err != nil {
		return err
	}
	c.control = control
	return nil
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

// passing reports whether a checkpoint's failure is no reason to end: it will be tried again.
func (c *Checkpointer) passing(err error) bool {
	full := errors.Is(err, wal.ErrDiskFull) || errors.Is(err, syscall.ENOSPC)
	if full {
		c.Log.Warn("checkpoint failed for lack of disk space: will try again", "err", err)
	}
	return full
}

func (c *Checkpointer) due() bool {
	return c.Retention().CheckpointDue(c.Control().Redo, c.Flushed.Load())
}

func (c *Checkpointer) preallocate() error {
	if c.Writer == nil {
		return nil
	}
	return c.Writer.Preallocate()
}

// Shutdown makes the last checkpoint of a clean stop. Nothing is inserted during it or after it.
func (c *Checkpointer) Shutdown(ctx context.Context) error {
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
	control := c.control
	control.Horizon = c.Horizon.Load() // first: on a primary it is not past what is flushed
	control.Durable = c.Flushed.Load()
	control.NextXID = c.NextXID()
	control.Time = time.Now().UTC()
	change(&control)
	if err := control.Write(c.DataDir.FS, c.DataDir.Global()); err != nil {
		return err
	}
	c.control = control
	return nil
}

// checkpoint flushes the store, records where redo would start from now on, and lets go of WAL
// before that. Unless forced it does nothing if there is nothing new.
func (c *Checkpointer) checkpoint(ctx context.Context, forced bool, opcode uint8) error {
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
	c.Log.Info("checkpoint complete", "redo", redo, "end", c.Flushed.Load(), "removed", removed, "recycled", recycled, "took", time.Since(begin))
	return c.preallocate()
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
	start, end, err := c.Writer.InsertSystem(cp.Prepare(opcode))
	if err != nil {
		return 0, fmt.Errorf("write checkpoint record: %w", err)
	}
	c.lastEnd = end
	return start, c.Writer.Flush(ctx, end)
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

// removeOld removes or recycles the segments that neither redo, nor a slot, nor wal_keep_size needs.
func (c *Checkpointer) removeOld(redo wal.LSN) (removed, recycled int, err error) {
	now, tli := c.Flushed.Load(), c.Control().Timeline
	r := c.Retention()
	needed, err := c.Needed(r.SlotLimit(now))
	if err != nil {
		return 0, 0, err
	}
	history, err := c.WAL.ReadHistory(tli)
	if err != nil {
		return 0, 0, err
	}
	first, err := segmentBefore(c.WAL, history, redo)
	if err != nil {
		return 0, 0, err
	}
	keep := min(r.KeepFrom(redo, now, needed), first)
	if limit := r.SegmentSize.Segno(redo); keep > limit {
		panic(fmt.Sprintf("about to remove WAL segment %d, which redo from %s needs", limit, redo))
	}
	return c.WAL.RemoveBefore(keep, tli, r.SegmentSize.Segno(now), r.RecycleTo(redo, c.estimate))
}
