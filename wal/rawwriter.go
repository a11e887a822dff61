package wal

// A RawWriter puts bytes received from another node in their place in the log of one timeline, for
// as long as this node follows that stream. What lies before the timeline's beginning, which a new base copy may get,
// goes into the files of the timelines before it, where it is read. Write and Flush may be called by two goroutines, one
// each: the log goes on arriving while a sync is under way.
type RawWriter struct {
	dir     *Dir
	history History
	sink    sink
	buf     *buffer // of what has been written: the page cache need not have it
	written Position
	flushed Position

	// Owned by the writing goroutine.
	allocated LSN // end of the segments that exist
	coming    LSN // see Expect
}

// recentSize is how much of the log a RawWriter keeps in memory: what redo reads when it is a few milliseconds behind.
const recentSize = 4 << 20

// NewRawWriter returns a writer of the timeline that h is of, whose first byte will be at start. Nothing from
// start on counts as written, whatever the files hold.
func NewRawWriter(dir *Dir, h History, start LSN, method SyncMethod) *RawWriter {
	w := &RawWriter{dir: dir, history: h, buf: newBuffer(recentSize, start)}
	w.sink.dir, w.sink.timeline, w.sink.method = dir, w.timeline, method
	w.allocated = dir.Format.SegmentSize.SegmentStart(start)
	w.written.Advance(start)
	w.flushed.Advance(start)
	return w
}

// timeline is the timeline whose file a segment is in.
func (w *RawWriter) timeline(segno uint64) TimelineID {
	return w.history.FileTimeline(segno, w.dir.Format.SegmentSize)
}

// Written is how far the log has been handed to the kernel, Flushed how far it is durable.
func (w *RawWriter) Written() *Position { return &w.written }
func (w *RawWriter) Flushed() *Position { return &w.flushed }

// Expect says that the log up to end is on its way here: segments before that are about to be filled, and need no zeros.
func (w *RawWriter) Expect(end LSN) { w.coming = end }

// Reserve makes sure that there is room for n bytes more. It may have to allocate a segment, which takes as long as
// its zeros take to write, or for which there is no room (ENOSPC). A caller may try again.
func (w *RawWriter) Reserve(n int) error {
	size := w.dir.Format.SegmentSize
	for end := w.written.Load() + LSN(n); w.allocated < end; w.allocated += LSN(size) {
		segno := size.Segno(w.allocated)
		allocate := w.dir.Allocate
		if w.allocated+LSN(size) <= w.coming {
			allocate = w.dir.AllocateBlocks
		}
		if err := allocate(w.timeline(segno), segno); err != nil {
			return err
		}
	}
	return nil
}

// Write appends p, and makes each segment that it completes durable. An error for which IsFatal is
// true is final. After any other, which comes from Reserve, nothing of p counts as written and the caller may
// try again.
func (w *RawWriter) Write(p []byte) (int, error) {
	if err := w.Reserve(len(p)); err != nil {
		return 0, err
	}
	if err := w.sink.write(p, w.written.Load()); err != nil {
		return 0, err
	}
	w.wrote(p)
	return len(p), nil
}

// WriteDurably is Write and Flush. If p is small, and everything is flushed, that may be done at once, at less cost.
func (w *RawWriter) WriteDurably(p []byte) (int, error) {
	if err := w.Reserve(len(p)); err != nil {
		return 0, err
	}
	done, err := w.sink.writeThrough(p, w.written.Load())
	switch {
	case err != nil:
		return 0, err
	case done:
		w.wrote(p)
		w.flushed.Advance(w.written.Load())
		return len(p), nil
	}
	n, err := w.Write(p)
	if err == nil {
		_, err = w.Flush()
	}
	return n, err
}

// wrote says that p is written.
func (w *RawWriter) wrote(p []byte) {
	at := w.written.Load()
	w.buf.append(p, at)
	w.written.Advance(at + LSN(len(p)))
}

// ReadBuffered is as Writer.ReadBuffered.
func (w *RawWriter) ReadBuffered(p []byte, at LSN) (n int, ok bool) { return w.buf.read(p, at) }

// Flush makes durable what had been written when it was called, and reports how far that is. A
// failure is final: the process has to end, and every later call fails too.
func (w *RawWriter) Flush() (LSN, error) {
	to := w.written.Load()
	if err := w.sink.sync(); err != nil {
		return w.flushed.Load(), err
	}
	w.flushed.Advance(to)
	return to, nil
}

// Close closes the open file. It does not flush.
func (w *RawWriter) Close() error { return w.sink.close() }
