package kv

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// benchRecords are encoded commits of one put of 100 bytes each, on a million keys.
func benchRecords(n int) [][]byte {
	value := make([]byte, 100)
	records := make([][]byte, n)
	for i := range records {
		key := fmt.Sprintf("key%09d", i*7919%1_000_000)
		records[i] = AppendCommit(nil, &Commit{Ops: []Op{{Kind: Put, Key: key, Value: value}}})
	}
	return records
}

// BenchmarkApply is replay: decode a record, add it to a batch, apply every 256, on a real disk.
func BenchmarkApply(b *testing.B) {
	store, err := OpenStore(vfs.Default, b.TempDir(), StoreOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var horizon wal.Position
	horizon.Advance(^wal.LSN(0))
	table := NewTable(store, nil, &horizon, TableOptions{})
	records := benchRecords(1 << 16)
	batch := store.NewBatch()
	var c Commit
	var end wal.LSN
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Decode(records[int(end/8)%len(records)]); err != nil {
			b.Fatal(err)
		}
		end += 8
		if err := batch.Add(end, c.Ops); err != nil {
			b.Fatal(err)
		}
		if end%(256*8) == 0 {
			if err := table.Apply(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	table.Close()
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
}

// benchLog takes records and forgets them.
type benchLog struct {
	flushed wal.Position
	end     wal.LSN
}

func (l *benchLog) Insert(p *wal.Prepared, xid uint32) (start, end wal.LSN, err error) {
	start = l.end
	l.end += wal.LSN(p.Size()+7) &^ 7
	return start, l.end, nil
}

func (l *benchLog) Flushed() *wal.Position { return &l.flushed }

// newBenchTable returns a table with n rows of 100 bytes and a horizon that is always ahead.
func newBenchTable(b *testing.B, n int) (*Table, *benchLog) {
	store := newTestStore(b)
	log := new(benchLog)
	log.end = 1 << 30
	horizon := new(wal.Position)
	horizon.Advance(^wal.LSN(0))
	batch := store.NewBatch()
	for i := range n {
		op := Op{Kind: Put, Key: fmt.Sprintf("key%09d", i), Value: make([]byte, 100)}
		if err := batch.Add(wal.LSN(i+1), []Op{op}); err != nil {
			b.Fatal(err)
		}
	}
	if err := store.Apply(b.Context(), batch); err != nil {
		b.Fatal(err)
	}
	if err := store.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	table := NewTable(store, log, horizon, TableOptions{})
	b.Cleanup(table.Close)
	return table, log
}

// drain stands in for the applier: it moves the store on without writing the rows.
func drain(b *testing.B, table *Table, log *benchLog) {
	batch := table.store.NewBatch()
	if err := batch.Add(log.end, nil); err != nil {
		b.Fatal(err)
	}
	if err := table.Apply(b.Context(), batch); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkCommitBlind(b *testing.B) {
	table, log := newBenchTable(b, 1)
	value := make([]byte, 100)
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = fmt.Sprintf("key%09d", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tx := table.Begin(TxnOptions{Latest: true})
		if err := tx.Put(keys[i%len(keys)], value); err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
		if i++; i%256 == 0 {
			drain(b, table, log)
		}
	}
}

func BenchmarkCommitUpdate(b *testing.B) {
	const rows = 100_000
	table, log := newBenchTable(b, rows)
	keys := make([]string, rows)
	for i := range keys {
		keys[i] = fmt.Sprintf("key%09d", i*7919%rows)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tx := table.Begin(TxnOptions{Latest: true})
		row, ok, err := tx.Get(b.Context(), keys[i%rows])
		if err != nil || !ok {
			b.Fatal(ok, err)
		}
		if err := tx.Put(row.Key, row.Value); err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
		if i++; i%256 == 0 {
			drain(b, table, log)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	const rows = 100_000
	table, _ := newBenchTable(b, rows)
	keys := make([]string, rows)
	for i := range keys {
		keys[i] = fmt.Sprintf("key%09d", i*7919%rows)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tx := table.Begin(TxnOptions{})
		if _, ok, err := tx.Get(b.Context(), keys[i%rows]); err != nil || !ok {
			b.Fatal(ok, err)
		}
		tx.Rollback()
		i++
	}
}

func BenchmarkScan(b *testing.B) {
	const rows = 100_000
	table, _ := newBenchTable(b, rows)
	b.ReportAllocs()
	for b.Loop() {
		tx := table.Begin(TxnOptions{})
		n := 0
		for _, err := range tx.Scan(b.Context(), Range{Unbounded: true}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		tx.Rollback()
		if n != rows {
			b.Fatalf("scanned %d rows, want %d", n, rows)
		}
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
}

// An insert beside a reader of the past that goes through all there is: it does not wait for that.
func BenchmarkInsertBesideOldScan(b *testing.B) {
	m := newMemtable(0)
	rows := make([]memRow, 100_000)
	for i := range rows {
		rows[i] = memRow{key: fmt.Sprint(i), memVersion: memVersion{lsn: wal.LSN(i + 2), kind: Put}}
	}
	m.insert(rows)
	var over atomic.Bool
	var reader sync.WaitGroup
	reader.Go(func() {
		for !over.Load() {
			m.scan(Range{Unbounded: true}, 1).peek()
		}
	})
	b.ResetTimer()
	for i := range b.N {
		m.insert([]memRow{{key: "new", memVersion: memVersion{lsn: wal.LSN(len(rows) + i + 2), kind: Put}}})
	}
	over.Store(true)
	reader.Wait()
}
