package startup

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// A Redo reads the log behind the applied LSN and applies it to the store, in LSN order, up to the
// lower of its limits and never further. The same loop recovers after a crash, replays on a
// standby, and applies a primary's own commits once the horizon has passed them.
type Redo struct {
	Reader  *wal.Reader     // stands at the store's applied LSN, or at the start of the log
	Limits  []*wal.Position // on a primary the horizon; on a standby also what it has flushed
	Batch   *kv.Batch
	Apply   func(context.Context, *kv.Batch) error // writes the batch, and its end as the applied LSN
	Applied *wal.Position

	// Linger is a pause between two batches, in which more arrives. It ends when somebody waits for what
	// is not applied yet, as Wanted says.
	Linger time.Duration
	Wanted *wal.Position

	// Behind reports whether much more of the log that may be applied is about to arrive. Redo stands back then, for as
	// long as patience, unless somebody waits as above: it would take half of the processors, and the log is safe here
	// the sooner, and applied no later, if it comes first. Nil if nothing arrives.
	Behind func() bool

	lastCommit atomic.Int64  // a wal.Timestamp
	lastTime   atomic.Int64  // the same, of a transaction or a heartbeat
	important  wal.Position  // end of the last record applied that is no heartbeat
	lastXID    atomic.Uint32 // of the last transaction read; 0 before the first

	// Owned by Run and CatchUp.
	commit    kv.Commit
	batch     progress      // of the batch, once it is applied
	stoodBack time.Duration // since everything was applied, and not much more was about to arrive
}

// A progress is what becomes known when a batch has been applied.
type progress struct {
	commit    wal.Timestamp // of the last transaction; 0 before the first
	time      wal.Timestamp // of the last transaction or heartbeat
	important wal.LSN       // end of the last record that is no heartbeat
}

// batchSize is how many bytes are applied at once, at the most but for one transaction.
const batchSize = 512 << 10

// Run applies until ctx ends, which it reports, or something is wrong with the log or the store.
func (r *Redo) Run(ctx context.Context) error {
	defer r.Reader.Close()
	for {
		if err := r.standBack(ctx); err != nil {
			return err
		}
		limit := r.limit()
		if err := r.fill(limit); err != nil {
			return err
		}
		if r.Batch.End() == 0 {
			if !r.behind() {
				r.stoodBack = 0
			}
			if err := r.wait(ctx, limit); err != nil {
				return err
			}
			continue
		}
		full := r.Batch.Size() >= batchSize
		if err := r.apply(ctx); err != nil {
			return err
		}
		if err := r.linger(ctx, full); err != nil {
			return err
		}
	}
}

func (r *Redo) apply(ctx context.Context) error {
	end := r.Batch.End()
	if err := r.Apply(ctx, r.Batch); err != nil {
		return err
	}
	r.lastCommit.Store(int64(r.batch.commit))
	r.lastTime.Store(int64(r.batch.time))
	r.important.Advance(r.batch.important)
	r.Applied.Advance(end)
	return nil
}

// CatchUp applies what there is up to the limits as they are now, without waiting for more. It is
// called before Run, or after it. The end of ctx ends a wait for room only.
func (r *Redo) CatchUp(ctx context.Context) error {
	defer r.Reader.Close() // it opens its file again when it goes on
	for limit := r.limit(); ; {
		if err := r.fill(limit); err != nil {
			return err
		}
		if r.Batch.End() == 0 {
			return nil
		}
		if err := r.apply(ctx); err != nil {
			return err
		}
	}
}

// LoadPending hands the commits of a log between the applied LSN and its end to a new primary's
// table: they may neither be applied, being past the horizon, nor overlooked by what comes after. It
// returns the transaction id after the last one used, given that before from it was next.
func LoadPending(dir *wal.Dir, h wal.History, from, end wal.LSN, next uint32, add func(end wal.LSN, ops []kv.Op) error) (uint32, error) {
	r := wal.NewReader(wal.NewRawReader(dir, h, nil), from, 0)
	defer r.Close()
	var c kv.Commit
	for {
		rec, ok, err := r.Next(end)
		if err != nil || !ok {
			return next, err
		}
		next = xidAfter(next, rec.XID)
		mine, err := decodeCommit(rec, &c)
		if err != nil {
			return next, fmt.Errorf("record at %s: %w", rec.LSN, err)
		}
		if !mine {
			continue
		}
		if err := add(rec.End, c.Ops); err != nil {
			return next, err
		}
	}
}

// LastCommit is the commit time of the last transaction applied; ok is false before the first.
func (r *Redo) LastCommit() (t time.Time, ok bool) {
	at := r.lastCommit.Load()
	return wal.Timestamp(at).Time(), at != 0
}

// LastTime is the time in the last record applied that has one, by the clock of the primary that wrote
// it: a transaction or a heartbeat. ok is false before the first.
func (r *Redo) LastTime() (t time.Time, ok bool) {
	at := r.lastTime.Load()
	return wal.Timestamp(at).Time(), at != 0
}

// Important is the end of the last record applied that is no heartbeat: what lies behind it says
// nothing but how late it is. 0 before the first.
func (r *Redo) Important() wal.LSN { return r.important.Load() }

// NextXID is the transaction id after that of the last transaction read, or next if there was none.
// A standby's checkpoints record it: it gives out none itself.
func (r *Redo) NextXID(next uint32) uint32 { return xidAfter(next, r.lastXID.Load()) }

func (r *Redo) limit() wal.LSN {
	limit := r.Limits[0].Load()
	for _, p := range r.Limits[1:] {
		limit = min(limit, p.Load())
	}
	return limit
}

// fill reads records into the batch until it is large enough or the limit is reached.
func (r *Redo) fill(limit wal.LSN) error {
	for r.Batch.Size() < batchSize {
		rec, ok, err := r.Reader.Next(limit)
		if err != nil {
			return fmt.Errorf("redo: %w", err)
		}
		if !ok {
			return nil
		}
		if err := r.add(rec); err != nil {
			return fmt.Errorf("redo of the record at %s: %w", rec.LSN, err)
		}
	}
	return nil
}

// add puts a record into the batch. Only transactions change the table, but every record moves the
// applied LSN.
func (r *Redo) add(rec wal.Record) error {
	mine, err := decodeCommit(rec, &r.commit)
	if err != nil {
		return err
	}
	if at, beat := rec.Heartbeat(); beat {
		r.batch.time = at
	} else {
		r.batch.important = rec.End
	}
	if !mine {
		return r.Batch.Add(rec.End, nil)
	}
	r.lastXID.Store(rec.XID)
	r.batch.commit, r.batch.time = r.commit.Time, r.commit.Time
	return r.Batch.Add(rec.End, r.commit.Ops)
}

// wait blocks until the lowest of the limits is past the given one.
func (r *Redo) wait(ctx context.Context, past wal.LSN) error {
	for _, p := range r.Limits {
		select {
		case <-p.Changed(past):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// patience is for how long redo stands back in all until everything has come and is applied, and standBackStep how
// often it looks. A log that goes on arriving slowly does so for other reasons than redo.
const (
	patience      = 2 * time.Second
	standBackStep = 2 * time.Millisecond
)

func (r *Redo) behind() bool { return r.Behind != nil && r.Behind() }

// standBack waits while the log arrives.
func (r *Redo) standBack(ctx context.Context) error {
	for r.stoodBack < patience && r.behind() && r.Wanted.Load() <= r.Applied.Load() {
		began := time.Now()
		if err := r.pause(ctx, standBackStep); err != nil {
			return err
		}
		r.stoodBack += time.Since(began)
	}
	return nil
}

// linger waits for more, unless a full batch says that there is more already.
func (r *Redo) linger(ctx context.Context, full bool) error {
	if r.Linger == 0 || full {
		return context.Cause(ctx)
	}
	return r.pause(ctx, r.Linger)
}

// pause waits for a while, or until somebody waits for what is not applied yet.
func (r *Redo) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.Wanted.Changed(r.Applied.Load()):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// IsStopped reports whether err is what Run returns when its context ends.
func IsStopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Cause(ctx))
}
