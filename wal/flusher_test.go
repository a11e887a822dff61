package wal

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// OnSync is told of each sync, and how long that and the write before it took: what Stats adds up.
func TestOnSync(t *testing.T) {
	var told int64
	var took time.Duration
	w := start(t, newDir(t, vfs.NewMem()), emptyLog, WriterConfig{OnSync: func(d time.Duration) { told, took = told+1, took+d }})
	for range 5 {
		_, end, err := w.Insert(Prepare(RmgrLongship, 0, pattern(100)), 1)
		must(t, err)
		must(t, w.Flush(t.Context(), end))
	}
	must(t, w.stop())
	s := w.Stats()
	if n, d := s.Syncs.Load(), s.WriteTime.Load()+s.SyncTime.Load(); told != n || took != time.Duration(d) || n < 5 {
		t.Errorf("told of %d syncs that took %v, want %d and %v", told, took, n, time.Duration(d))
	}
}
