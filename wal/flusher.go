package wal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// RequestFlush asks the flusher to make everything below l durable soon. The caller waits on
// Flushed, or for a release that includes it.
func (w *Writer) RequestFlush(l LSN) {
	w.joined.Add(1)
	for {
		old := w.requested.Load()
		if uint64(l) <= old || w.requested.CompareAndSwap(old, uint64(l)) {
			break
		}
	}
	if !w.gathering.Load() || w.enough() {
		w.kick()
	}
}

// everybody is more than can be under way.
const everybody = 1 << 32

// demandFlush is RequestFlush for an insert that waits for room in the buffer: while it does, nobody else can
// join the flush.
func (w *Writer) demandFlush(l LSN) {
	w.joined.Add(everybody)
	w.RequestFlush(l)
}

// Settled says that commits have been acknowledged: what has joined the next flush may be enough now.
func (w *Writer) Settled() {
	if w.gathering.Load() && w.enough() {
		w.kick()
	}
}

// enough reports whether the next flush is worth its cost: at least as many commits have joined it as are
// still under way. So one commit alone is flushed at once, and of many about one half gathers while the
// other half is flushed, here and on the standbys. What a flush costs on all nodes, some hundred
// microseconds of their processors, is then shared by as many as possible, and no disk is idle for long.
func (w *Writer) enough() bool { return 2*w.joined.Load() >= int64(w.cfg.Waiting()) }

// gatherLimit bounds how long a flush waits for more to join: those under way may be so because a standby
// is far away, or gone. When it was reached, it would be again, and the next flushes do not wait.
const (
	gatherLimit = time.Millisecond
	gatherPause = 15 // flushes
)

// gather waits until enough have joined.
func (w *Writer) gather(ctx context.Context) {
	if w.cfg.Waiting == nil || !w.flushRequested() || w.enough() {
		return
	}
	if w.gatherPause > 0 {
		w.gatherPause--
		return
	}
	w.gathering.Store(true)
	defer w.gathering.Store(false)
	timer := time.NewTimer(gatherLimit)
	defer timer.Stop()
	for !w.enough() {
		select {
		case <-w.wake:
		case <-timer.C:
			w.gatherPause = gatherPause
			return
		case <-ctx.Done():
			return
		}
	}
}

// Flush makes everything below l durable.
func (w *Writer) Flush(ctx context.Context, l LSN) error {
	w.RequestFlush(l)
	for {
		at := w.flushed.Load()
		if at >= l {
			return nil
		}
		select {
		case <-w.flushed.Changed(at):
		case <-w.stopped:
			return ErrWriterStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *Writer) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run is the flusher. It returns nil when ctx has ended and everything inserted by then is durable;
// any other return is an *IOError: a write or a sync failed. Such a failure is never retried, because
// a later sync that succeeds proves nothing of the bytes that failed: the process has to end.
func (w *Writer) Run(ctx context.Context) error {
	defer close(w.stopped)
	err := w.flushLoop(ctx)
	if err == nil {
		err = w.flushInserted()
	}
	return errors.Join(err, w.sink.close())
}

func (w *Writer) flushLoop(ctx context.Context) error {
	for ctx.Err() == nil {
		if w.inserted.Load() <= w.synced {
			w.sleep(ctx)
			continue
		}
		w.awaitRequest(ctx)
		w.gather(ctx)
		w.delayCommit(ctx)
		if err := w.flushInserted(); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) flushRequested() bool { return LSN(w.requested.Load()) > w.synced }

// awaitRequest waits until somebody wants a flush. What nobody waits for, asynchronous commits, is
// flushed after wal_writer_delay all the same.
func (w *Writer) awaitRequest(ctx context.Context) {
	if w.flushRequested() {
		return
	}
	timer := time.NewTimer(w.cfg.WriterDelay())
	defer timer.Stop()
	for !w.flushRequested() {
		select {
		case <-w.wake:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// sleep waits until something has been inserted. The second look, after idle is set, closes the gap
// in which an insert would have seen no reason to wake anybody.
func (w *Writer) sleep(ctx context.Context) {
	w.idle.Store(true)
	defer w.idle.Store(false)
	if w.inserted.Load() > w.synced {
		return
	}
	select {
	case <-w.wake:
	case <-ctx.Done():
	}
}

// delayCommit waits for others to join the flush (commit_delay, commit_siblings).
func (w *Writer) delayCommit(ctx context.Context) {
	if w.cfg.CommitDelay == nil || !w.flushRequested() || w.cfg.Active == nil {
		return
	}
	delay, siblings := w.cfg.CommitDelay()
	if delay <= 0 || w.cfg.Active() <= siblings {
		return
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// flushInserted writes and syncs everything inserted so far. A record of which only the first pages
// are in the buffer yet is written with the rest, but Flushed waits for its end.
func (w *Writer) flushInserted() error {
	w.joined.Store(0) // first: who joins from now on may have come too late for this flush, and counts for the next
	from, to := w.synced, w.inserted.Load()
	// Read second. Otherwise a record published between the two would be synced but not counted.
	whole := LSN(w.whole.Load())
	to = max(to, whole)
	if to <= from {
		return nil
	}
	if w.flushing.Advance(to) {
		w.letSendersGo()
	}
	begin := time.Now()
	through, err := w.write(from, to)
	if err != nil {
		return err
	}
	written := time.Now()
	if through {
		written = begin // it was the sync that took the time
	}
	if err := w.sink.sync(); err != nil {
		return err
	}
	wrote, synced := written.Sub(begin), time.Since(written)
	w.stats.Syncs.Add(1)
	w.stats.WriteTime.Add(int64(wrote))
	w.stats.SyncTime.Add(int64(synced))
	w.synced = to
	if w.flushed.Advance(whole) && w.cfg.OnFlush != nil {
		w.cfg.OnFlush(whole)
	}
	if w.cfg.OnSync != nil {
		w.cfg.OnSync(wrote + synced)
	}
	w.completeSegments(from, to)
	return nil
}

// letSendersGo has the senders that have just been woken go before the sync: else they wait, on a machine with few
// processors, until this thread returns from it. Where others compute, it is their turn, too: then the next flushes
// go first.
func (w *Writer) letSendersGo() {
	if w.yieldPause > 0 {
		w.yieldPause--
		return
	}
	begin := time.Now()
	runtime.Gosched()
	if time.Since(begin) > yieldLimit {
		w.yieldPause = yieldPause
	}
}

const (
	yieldLimit = 250 * time.Microsecond
	yieldPause = 1000 // flushes
)

// write hands the log from from to to to the kernel. through says that all of it is durable already.
func (w *Writer) write(from, to LSN) (through bool, err error) {
	for at := from; at < to; {
		bl := w.buf.pin(at)
		if bl == nil {
			return false, &IOError{Err: fmt.Errorf("WAL buffer lost %s before it was written", at)}
		}
		n := min(to, bl.base+blockSize) - at
		piece := bl.data[at-bl.base:][:n]
		if at+n == to {
			through, err = w.sink.writeThrough(piece, at)
		}
		if !through && err == nil {
			err = w.sink.write(piece, at)
		}
		bl.unpin()
		if err != nil {
			return false, err
		}
		at += n
		w.written.Advance(at)
		w.stats.Writes.Add(1)
	}
	return through, nil
}

// completeSegments reports the segments that a flush from from to to has finished.
func (w *Writer) completeSegments(from, to LSN) {
	if w.cfg.OnSegment == nil {
		return
	}
	size := w.dir.Format.SegmentSize
	for segno := size.Segno(from); segno < size.Segno(to); segno++ {
		w.cfg.OnSegment(segno)
	}
}
