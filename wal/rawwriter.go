package wal

// A RawWriter puts bytes received from another node in their place in the log of one timeline, for
// as long as this node follows that stream. Write and Flush may be called by two goroutines, one
// each: the log goes on arriving while a sync is under way.
type RawWriter struct {
	dir     *Dir
	sink    sink
	written Position
	flushed Position

	allocated LSN // end of the segments that exist; owned by the writing goroutine
}

// NewRawWriter returns a writer of timeline tli whose first byte will be at start. Nothing from
// start on counts as written, whatever the files hold.
func NewRawWriter(dir *Dir, tli TimelineID, start LSN, method SyncMethod) *RawWriter {
	w := &RawWriter{dir: dir}
	w.sink.dir, w.sink.tli, w.sink.method = dir, tli, method
	w.allocated = dir.Format.SegmentSize.SegmentStart(start)
	w.written.Advance(start)
	w.flushed.Advance(start)
	return w
}

// Written is how far the log has been handed to the kernel, Flushed how far it is durable.
func (w *RawWriter) Written() *Position { return &w.written }
func (w *RawWriter) Flushed() *Position { return &w.flushed }

// Write appends p, and makes each segment that it completes durable. An error for which IsFatal is
// true is final. After any other, which comes from allocating a segment, most likely for lack of
// room (ENOSPC), nothing of p counts as written and the caller may try again.
func (w *RawWriter) Write(p []byte) (int, error) {
	at := w.written.Load()
	end := at + LSN(len(p))
	size := w.dir.Format.SegmentSize
	for w.allocated < end {
		if err := w.dir.Allocate(w.sink.tli, size.Segno(w.allocated)); err != nil {
			return 0, err
		}
		w.allocated += LSN(size)
	}
	if err := w.sink.write(p, at); err != nil {
		return 0, err
	}
	w.written.Advance(end)
	return len(p), nil
}

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
