package wal

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/wallclock"
)

// A write or a sync that hangs is seen from outside, and no longer once it is over.
func TestStalled(t *testing.T) {
	for _, op := range []errorfs.OpKind{errorfs.OpFileWriteAt, errorfs.OpFileSyncData} {
		entered, leave := make(chan struct{}), make(chan struct{})
		hang := false
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
			if hang && o.Kind == op {
				hang = false
				entered <- struct{}{}
				<-leave
			}
			return nil
		}))
		dir := NewDir(fs, "pg_wal", Format{SegmentSize: MinSegmentSize})
		if err := fs.MkdirAll("pg_wal", 0o700); err != nil {
			t.Fatal(err)
		}
		start := MinSegmentSize.Start(1)
		w := NewRawWriter(dir, History{Timeline: 1}, start, SyncFdatasync)
		if _, err := w.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if got := w.Stalled(); got != 0 {
			t.Errorf("stalled for %s before anything hangs", got)
		}
		hang = true
		done := make(chan error, 1)
		go func() {
			_, err := w.Write(make([]byte, 100))
			if err == nil {
				_, err = w.Flush()
			}
			done <- err
		}()
		<-entered
		if got := w.Stalled(); got <= 0 {
			t.Errorf("%v hangs, but stalled is %s", op, got)
		}
		close(leave)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := w.Stalled(); got != 0 {
			t.Errorf("stalled for %s after it is over", got)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// How long a write has been under way is not what the machine's clock says: set ahead in the middle of one it
// would have the watchdog end the process, set back it would never notice a disk that hangs.
func TestStallWhenClockIsSet(t *testing.T) {
	set := wallclock.Rerun(t)
	if set == nil {
		return
	}
	for _, hour := range []int64{3600, -3600} {
		var s stall
		before := time.Now()
		s.begin()
		set(hour)
		between := time.Now()
		for time.Since(between) <= 0 { // so that it is not 0
		}
		if d := s.lasts(); d <= 0 || d > time.Since(before) {
			t.Errorf("the clock was set by %d s, and a write that began %s ago lasts %s", hour, time.Since(before), d)
		}
		s.end()
		if d := s.lasts(); d != 0 {
			t.Errorf("a write that has ended lasts %s", d)
		}
		set(0)
	}
}
