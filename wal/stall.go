package wal

import (
	"sync/atomic"
	"time"
)

// A stall is the time since an operation on the disk began that has not ended, by the monotonic clock. One goroutine
// begins and ends them.
type stall struct{ since atomic.Int64 } // nanoseconds after stallsFrom; 0: none is under way

// stallsFrom is a moment before all stalls.
var stallsFrom = time.Now().Add(-time.Second)

func (s *stall) begin() { s.since.Store(int64(time.Since(stallsFrom))) }
func (s *stall) end()   { s.since.Store(0) }

func (s *stall) lasts() time.Duration {
	since := s.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(stallsFrom) - time.Duration(since)
}

// Stalled is how long the oldest write or sync of the log has been under way, 0 if none is: a disk that
// hangs answers nothing, not even an error (invariant I12).
func (w *Writer) Stalled() time.Duration { return w.sink.stalled() }

// Stalled is as Writer.Stalled.
func (w *RawWriter) Stalled() time.Duration { return w.sink.stalled() }

func (s *sink) stalled() time.Duration { return max(s.writing.lasts(), s.synced.lasts()) }
