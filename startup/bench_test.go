package startup

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// BenchmarkRedo is recovery and replay, from the log's files to the store, on the real disk: commits of one
// value of 100 bytes over 100,000 keys. What counts as one operation is one record.
func BenchmarkRedo(b *testing.B) {
	id := testIdentity
	id.SegmentSize = wal.DefaultSegmentSize
	d := DataDir{FS: vfs.Default, Path: b.TempDir()}
	if state, _, err := d.Open(); err != nil || state != Empty {
		b.Fatal(state, err)
	}
	must(b, d.NewCluster(id))
	end := writeCommits(b, d, id, b.N)
	log, err := Recover(d, id, quiet)
	must(b, err)
	store, err := kv.OpenStore(d.FS, d.Store(), kv.StoreOptions{})
	must(b, err)
	var horizon, applied wal.Position
	horizon.Advance(end)
	table := kv.NewTable(store, nil, &horizon, kv.TableOptions{})
	redo := &Redo{
		Reader:  wal.NewReader(wal.NewRawReader(log.Dir, log.History, nil), log.Control.Redo, 0),
		Limits:  []*wal.Position{&horizon},
		Batch:   store.NewBatch(),
		Apply:   table.Apply,
		Applied: &applied,
	}
	b.ReportAllocs()
	b.ResetTimer()
	must(b, redo.CatchUp(b.Context()))
	b.StopTimer()
	if applied.Load() != end {
		b.Fatalf("applied up to %s, want %s", applied.Load(), end)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	table.Close()
	must(b, store.Close())
}

// writeCommits writes a log of n commits and returns its end.
func writeCommits(b *testing.B, d DataDir, id Identity, n int) (end wal.LSN) {
	b.Helper()
	log, err := Recover(d, id, quiet)
	must(b, err)
	w := wal.NewWriter(log.Dir, log.End, wal.WriterConfig{})
	k := start(w.Run)
	value := make([]byte, 100)
	var buf []byte
	for i := range n {
		op := kv.Op{Kind: kv.Put, Key: fmt.Sprintf("key%06d", i*7919%100_000), Value: value}
		buf = kv.AppendCommit(buf[:0], &kv.Commit{Time: 1, Ops: []kv.Op{op}})
		_, end, err = w.Insert(wal.Prepare(wal.RmgrLongship, kv.InfoCommit, buf), 3)
		must(b, err)
	}
	must(b, w.Flush(b.Context(), end))
	k.stop(b)
	return end
}
