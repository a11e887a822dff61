package sql

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/longship-db/longship/pgwire"
)

// A stillBackend has one row and keeps nothing: what is measured is this package.
type stillBackend struct {
	catalog *Catalog
	txn     stillTxn
}

type stillTxn struct{ row Row }

func (b *stillBackend) Catalog() *Catalog                           { return b.catalog }
func (b *stillBackend) Begin(context.Context, TxnMode) (Txn, error) { return &b.txn, nil }

func (t *stillTxn) Get(context.Context, string) (Row, bool, error) { return t.row, true, nil }
func (t *stillTxn) Put(string, []byte) error                       { return nil }
func (t *stillTxn) Delete(string) error                            { return nil }
func (*stillTxn) Savepoint() int                                   { return 0 }
func (*stillTxn) RollbackTo(int)                                   {}
func (*stillTxn) ReleaseSavepoints()                               {}
func (*stillTxn) ReadBytes() int                                   { return 0 }

func (t *stillTxn) Commit(_ context.Context, level SyncLevel) (Committed, error) {
	return Committed{LSN: 1, Level: level}, nil
}
func (t *stillTxn) Rollback()                                         {}
func (t *stillTxn) Scan(context.Context, Range) iter.Seq2[Row, error] { return nil }

type nowhere struct{}

func (nowhere) Row([][]byte) error { return nil }

func stillSession(t testing.TB) *Session {
	b := &stillBackend{catalog: NewCatalog(NewSettings()), txn: stillTxn{Row{Key: "k1", Value: make([]byte, 100), LSN: 7}}}
	s, err := NewSession(&client{}, b, Identity{User: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hot are the statements that applications send all day.
var hot = []struct {
	name, text string
	args       pgwire.Args
	allocs     float64
}{
	{"upsert", "insert into kv (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value",
		pgwire.Args{Values: [][]byte{[]byte("key:000000001"), make100()}}, 2},
	{"get", "select value from kv where key = $1", pgwire.Args{Values: [][]byte{[]byte("key:000000001")}}, 1},
	{"getBinary", "select key, value, lsn from kv where key = $1",
		pgwire.Args{Values: [][]byte{[]byte("key:000000001")}, Formats: []int16{1}, ResultFormats: []int16{1}}, 1},
}

func make100() []byte { return []byte(fmt.Sprintf("%0100d", 1)) }

func BenchmarkPrepared(b *testing.B) {
	for _, h := range hot {
		b.Run(h.name, func(b *testing.B) {
			s := stillSession(b)
			st, err := s.Parse(b.Context(), h.text, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Execute(b.Context(), st, h.args, nowhere{}, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSimple is a query string that is never the same twice, as pgbench -M simple sends it.
func BenchmarkSimple(b *testing.B) {
	s := stillSession(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		text := fmt.Sprintf("insert into kv (key, value) values ('key:%d', 'value') on conflict (key) do update set value = excluded.value", i)
		list, err := s.ParseAll(b.Context(), text)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Execute(b.Context(), list[0], pgwire.Args{}, nowhere{}, true); err != nil {
			b.Fatal(err)
		}
	}
}

// A hot statement allocates its parameters and nothing else.
func TestHotPathAllocations(t *testing.T) {
	for _, h := range hot {
		s := stillSession(t)
		st, err := s.Parse(t.Context(), h.text, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := testing.AllocsPerRun(100, func() {
			if _, err := s.Execute(t.Context(), st, h.args, nowhere{}, true); err != nil {
				t.Fatal(err)
			}
		})
		if got > h.allocs {
			t.Errorf("%s: %.0f allocations, want at most %.0f", h.name, got, h.allocs)
		}
	}
}
