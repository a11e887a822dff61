package wal

import (
	"errors"
	"fmt"
)

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
	w := &RawWriter{dir: dir, sink: sink{dir: dir, tli: tli, method: method}}
	w.allocated = dir.Format.SegmentSize.SegmentStart(start)
	w.written.Advance(start)
	w.flushed.Advance(start)
	return w
}

// Written is how far the log has been handed to the kernel, Flushed how far it is durable.
func (w *RawWriter) Written() *Position { return &w.written }
func (w *RawWriter) Flushed() *Position { return &w.flushed }

// Write appends p. Any error is final but one for lack of room (ENOSPC while a segment is being
// allocated), after which nothing of p counts as written.
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
		return 0, &IOError{Err: err}
	}
	w.written.Advance(end)
	return len(p), nil
}

// Flush makes durable what had been written when it was called, and reports how far that is. A
// failure is never retried: the process has to end.
func (w *RawWriter) Flush() (LSN, error) {
	to := w.written.Load()
	if to == w.flushed.Load() {
		return to, nil
	}
	if err := w.sink.sync(); err != nil {
		return w.flushed.Load(), &IOError{Err: err}
	}
	w.flushed.Advance(to)
	return to, nil
}

// Close closes the open file. It does not flush.
func (w *RawWriter) Close() error { return w.sink.close() }

// An IOError is a failed write or sync of an existing segment. What the file holds is unknown and
// will stay so: the process has to end and recover.
type IOError struct{ Err error }

func (e *IOError) Error() string { return fmt.Sprintf("WAL I/O failed: %v", e.Err) }
func (e *IOError) Unwrap() error { return e.Err }

// IsFatal reports whether err means that the process must not go on.
func IsFatal(err error) bool {
	_, ok := errors.AsType[*IOError](err)
	return ok
}
