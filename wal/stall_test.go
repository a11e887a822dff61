package wal

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
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
		w := NewRawWriter(dir, 1, start, SyncFdatasync)
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
