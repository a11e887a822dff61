package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Short forms for histories. A transaction is called and returns at call and ret.
func txn(client int, call, ret int64, ops ...Op) *Txn {
	return &Txn{Client: client, Call: call, Return: ret, Outcome: Committed, Ops: ops}
}

func (t *Txn) as(o Outcome) *Txn { t.Outcome = o; return t }
func (t *Txn) stale() *Txn       { t.Stale = true; return t }

func a(key string, value int) Op   { return Op{Kind: Append, Key: key, Value: value} }
func r(key string, list ...int) Op { return Op{Kind: Read, Key: key, List: list} }
func g(lo, hi string, rows ...Op) Op { // rows: reads
	o := Op{Kind: Range, Key: lo, Hi: hi, Lists: map[string][]int{}}
	for _, row := range rows {
		o.Lists[row.Key] = row.List
	}
	return o
}

// Each anomaly, made by hand, has its name; and what is none has none. At the same time is 0 to 9.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		want string // names, in order of discovery
		txns []*Txn
	}{
		{"nothing", "", nil},
		{"one after the other", "", []*Txn{
			txn(1, 0, 1, a("x", 1), r("x", 1)), txn(2, 2, 3, r("x", 1), a("x", 2)), txn(1, 4, 5, r("x", 1, 2), g("a", "z", r("x", 1, 2)))}},
		{"at the same time, in either order", "", []*Txn{
			txn(1, 0, 9, a("x", 1)), txn(2, 0, 9, r("x")), txn(3, 0, 9, r("x", 1)), txn(4, 0, 9, a("x", 2), r("x", 1, 2))}},
		{"unknown, and read", "", []*Txn{txn(1, 0, 0, a("x", 1)).as(Unknown), txn(2, 5, 6, r("x", 1))}},
		{"unknown, and not there, or later", "", []*Txn{
			txn(1, 0, 0, a("x", 1)).as(Unknown), txn(2, 5, 6, r("x")), txn(3, 7, 8, r("x", 1))}},
		{"aborted, and not read", "", []*Txn{txn(1, 0, 1, a("x", 1)).as(Aborted), txn(2, 2, 3, r("x"))}},
		{"reads of what was aborted are nobody's", "", []*Txn{
			txn(1, 0, 1, a("x", 1), a("y", 2)), txn(2, 0, 9, r("x", 1), r("y")).as(Aborted)}},

		{"own append missing", "internal", []*Txn{txn(1, 0, 1, a("x", 1), r("x"))}},
		{"own append missing from a range", "internal", []*Txn{txn(1, 0, 1, a("x", 1), g("a", "z"))}},
		{"two states of a list", "internal", []*Txn{txn(1, 0, 1, a("x", 1)), txn(2, 0, 9, r("x"), r("x", 1))}},
		{"invented", "unwritten", []*Txn{txn(1, 0, 1, r("x", 7))}},
		{"invented in a range", "unwritten", []*Txn{txn(1, 0, 1, g("a", "z", r("x", 7)))}},
		{"under another key", "unwritten", []*Txn{txn(1, 0, 1, a("y", 7)), txn(2, 2, 3, r("x", 7))}},
		{"twice", "duplicate", []*Txn{txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, r("x", 1, 1))}},
		{"two orders", "incompatible-order", []*Txn{
			txn(1, 0, 9, a("x", 1)), txn(2, 0, 9, a("x", 2)), txn(3, 0, 9, r("x", 1, 2)), txn(4, 0, 9, r("x", 2))}},
		{"aborted read", "G1a", []*Txn{txn(1, 0, 9, a("x", 1)).as(Aborted), txn(2, 0, 9, r("x", 1))}},
		{"intermediate read", "G1b", []*Txn{txn(1, 0, 9, a("x", 1), a("x", 2)), txn(2, 0, 9, r("x", 1)), txn(3, 0, 9, r("x", 1, 2))}},
		{"dirty writes", "G0", []*Txn{
			txn(1, 0, 9, a("x", 1), a("y", 2)), txn(2, 0, 9, a("x", 3), a("y", 4)), txn(3, 0, 9, r("x", 1, 3)), txn(4, 0, 9, r("y", 4, 2))}},
		{"each reads the other", "G1c", []*Txn{txn(1, 0, 9, a("x", 1), r("y", 2)), txn(2, 0, 9, a("y", 2), r("x", 1))}},
		{"read skew", "G-single", []*Txn{txn(1, 0, 9, a("x", 1), a("y", 2)), txn(2, 0, 9, r("x", 1), r("y"))}},
		{"lost update", "G2-item", []*Txn{txn(1, 0, 9, r("x"), a("x", 1)), txn(2, 0, 9, r("x"), a("x", 2))}},
		{"lost update that is read", "G-single", []*Txn{
			txn(1, 0, 9, r("x"), a("x", 1)), txn(2, 0, 9, r("x"), a("x", 2)), txn(3, 10, 11, r("x", 1, 2))}},
		{"write skew", "G2-item", []*Txn{txn(1, 0, 9, r("x"), a("y", 1)), txn(2, 0, 9, r("y"), a("x", 2)), txn(3, 10, 11, r("x", 2), r("y", 1))}},
		{"write skew over ranges", "phantom", []*Txn{
			txn(1, 0, 9, g("x", "z"), a("x", 1)), txn(2, 0, 9, g("x", "z"), a("y", 2)), txn(3, 10, 11, g("x", "z", r("x", 1), r("y", 2)))}},
		{"half of a transaction in a range", "phantom", []*Txn{
			txn(1, 0, 9, a("x", 1), a("y", 2)), txn(2, 0, 9, g("a", "z", r("x", 1)))}},
		{"write skew over rows of a range", "G2-item", []*Txn{
			txn(9, 0, 1, a("x", 8), a("y", 9)), txn(1, 2, 9, g("x", "z", r("x", 8), r("y", 9)), a("x", 1)),
			txn(2, 2, 9, g("x", "xx", r("x", 8)), a("y", 2)), txn(3, 10, 11, g("x", "z", r("x", 8, 1), r("y", 9, 2)))}},

		{"stale read", "G-single-realtime", []*Txn{txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, r("x"))}},
		{"stale read of a range", "phantom-realtime", []*Txn{txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, g("a", "z"))}},
		{"read before it was written", "G1c-realtime", []*Txn{txn(1, 4, 5, a("x", 1)), txn(2, 2, 3, r("x", 1))}},
		{"written in the wrong order", "G0-realtime", []*Txn{
			txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, a("x", 2)), txn(3, 4, 5, r("x", 2, 1))}},
		{"lost", "G0-realtime", []*Txn{txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, a("x", 2)), txn(3, 4, 5, r("x", 2))}},
		{"long fork", "G2-item", []*Txn{
			txn(1, 0, 9, a("x", 1)), txn(2, 0, 9, a("y", 2)), txn(3, 0, 9, r("x", 1), r("y")), txn(4, 0, 9, r("x"), r("y", 2))}},
		{"unknown, seen and gone", "G-single-realtime", []*Txn{
			txn(1, 0, 0, a("x", 1)).as(Unknown), txn(2, 5, 6, r("x", 1)), txn(3, 7, 8, r("x"))}},

		{"a standby is behind", "", []*Txn{txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, r("x")).stale()}},
		{"a standby that shows the future", "G1c-realtime", []*Txn{txn(1, 4, 5, a("x", 1)), txn(2, 2, 3, r("x", 1)).stale()}},
		{"a standby goes back", "G-single-realtime", []*Txn{
			txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, r("x", 1)).stale(), txn(2, 4, 5, r("x")).stale()}},
		{"a standby lacks the client's own", "G-single-realtime", []*Txn{txn(1, 0, 1, a("x", 1)), txn(1, 2, 3, r("x")).stale()}},
		{"a standby shows half", "G-single", []*Txn{txn(1, 0, 1, a("x", 1), a("y", 2)), txn(2, 2, 3, r("x", 1), r("y")).stale()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The order of the list means nothing.
			for range 4 {
				var names []string
				found := Check(tt.txns)
				for _, anomaly := range found {
					names = append(names, anomaly.Name)
				}
				if got := strings.Join(slices.Compact(names), " "); got != tt.want {
					t.Fatalf("found %q, want %q: %v", got, tt.want, found)
				}
				rand.Shuffle(len(tt.txns), func(i, j int) { tt.txns[i], tt.txns[j] = tt.txns[j], tt.txns[i] })
			}
		})
	}
}

// A verdict says which transactions, in the order of the cycle, and by what.
func TestAnomalyIsExplained(t *testing.T) {
	found := Check([]*Txn{txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, a("y", 2)), txn(3, 4, 5, r("x"))})
	want := "G-single-realtime: each before the next, and the last before the first: T1 rw x, T2 rt\n" +
		"  T1: client 3, 4 to 5, committed; read x []\n" +
		"  T2: client 1, 0 to 1, committed; append x 1"
	if got := fmt.Sprint(found[0]); len(found) != 1 || got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// A serial execution has no anomalies, whatever it does; and if one transaction is told something that it was
// not at its place, there is one.
func TestSerialExecution(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		gen := &Generator{Keys: 3, MaxOps: 4, Rounds: 20}
		var txns []*Txn
		lists := map[string][]int{}
		for i := range 60 {
			x := txn(random.IntN(4), int64(2*i), int64(2*i+1), gen.Next(random)...)
			serve(x, lists)
			txns = append(txns, x)
		}
		if found := Check(txns); len(found) > 0 {
			t.Fatalf("seed %d: %v", seed, found)
		}
		// A later reader is told of a list as it was before.
		last := txns[len(txns)-1].Ops[0].Key
		end := txn(9, 1000, 1001, r(last, lists[last]...))
		if len(lists[last]) == 0 {
			continue
		}
		end.Ops[0].List = end.Ops[0].List[:random.IntN(len(lists[last]))]
		if found := Check(append(txns, end)); len(found) == 0 {
			t.Fatalf("seed %d: a stale read of %v is not found", seed, end)
		}
	}
}

// serve runs a transaction on lists.
func serve(t *Txn, lists map[string][]int) {
	for i := range t.Ops {
		switch o := &t.Ops[i]; o.Kind {
		case Append:
			lists[o.Key] = append(slices.Clip(lists[o.Key]), o.Value)
		case Read:
			o.List = lists[o.Key]
		case Range:
			o.Lists = map[string][]int{}
			for key, list := range lists {
				if key >= o.Key && key < o.Hi {
					o.Lists[key] = list
				}
			}
		}
	}
}

func TestParseList(t *testing.T) {
	list, err := ParseList(a("x", 1).Item() + a("x", 20).Item())
	if err != nil || !slices.Equal(list, []int{1, 20}) {
		t.Errorf("ParseList() = %v, %v", list, err)
	}
	if _, err := ParseList("1 x"); err == nil {
		t.Error("ParseList accepts what is no number")
	}
}

func BenchmarkCheck(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	gen := &Generator{Keys: 8, MaxOps: 4, Rounds: 500}
	var txns []*Txn
	lists := map[string][]int{}
	for i := range 10_000 {
		x := txn(i%16, int64(2*i), int64(2*i+1), gen.Next(random)...)
		serve(x, lists)
		txns = append(txns, x)
	}
	for b.Loop() {
		if found := Check(txns); len(found) > 0 {
			b.Fatal(found[0])
		}
	}
}
