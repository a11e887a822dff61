package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/longship-db/longship/wal"
)

// A model is the table in its simplest form: the log from its beginning, replayed for every read.
type model struct {
	x   *testTable
	own wal.LSN // the last acknowledged commit
	ts  []*modelTxn
}

// A modelTxn is a transaction and what should become of it.
type modelTxn struct {
	tx     *Txn
	opts   TxnOptions
	opened bool
	at     wal.LSN // reads see the log up to here
	seen   wal.LSN // newest commit past the horizon that a read depended on
	keys   []string
	ranges []Range
	writes map[string]Op
	marks  []int           // savepoints
	saved  []map[string]Op // writes as they were at each

	cursors  []*modelCursor
	outlived bool // its table is closed
}

// rowsAt replays the log up to lsn: the last operation on each key, and when.
func (m *model) rowsAt(lsn wal.LSN) map[string]version {
	rows := make(map[string]version)
	for _, c := range m.x.log.commits {
		if c.end > lsn {
			break
		}
		for _, op := range c.commit.Ops {
			rows[op.Key] = version{key: op.Key, lsn: c.end, kind: op.Kind, value: op.Value}
		}
	}
	return rows
}

func (m *model) open(x *modelTxn) {
	if x.opened {
		return
	}
	x.opened = true
	if x.at = m.x.log.end; !x.opts.Latest {
		x.at = max(m.x.horizon.Load(), x.opts.Own)
	}
}

// read is what a transaction should find at key; the row does not exist if ok is false.
func (x *modelTxn) read(rows map[string]version, key string) (row Row, ok bool) {
	if op, written := x.writes[key]; written {
		return op.row(), op.Kind != Delete
	}
	v := rows[key]
	if x.opts.Latest {
		x.seen = max(x.seen, v.lsn)
	}
	if v.lsn == 0 || v.kind == Delete {
		return Row{}, false
	}
	return v.row(), true
}

func (x *modelTxn) conflicts(log []logged) bool {
	for _, c := range log {
		for _, op := range c.commit.Ops {
			inRange := func(r Range) bool { return op.Key >= r.Lo && (r.Unbounded || op.Key < r.Hi) }
			if c.end > x.at && (slices.Contains(x.keys, op.Key) || slices.ContainsFunc(x.ranges, inRange)) {
				return true
			}
		}
	}
	return false
}

func (m *model) begin(t *rapid.T) {
	opts := TxnOptions{Latest: rapid.Bool().Draw(t, "latest")}
	if rapid.Bool().Draw(t, "own") {
		opts.Own = m.own
	}
	m.ts = append(m.ts, &modelTxn{tx: m.x.Begin(opts), opts: opts, writes: map[string]Op{}})
}

// savepoint sets one, goes back to one, or releases all.
func (m *model) savepoint(t *rapid.T) {
	x := m.pick(t)
	switch what := rapid.IntRange(0, 5).Draw(t, "savepoint"); {
	case what < 3:
		x.marks = append(x.marks, x.tx.Savepoint())
		x.saved = append(x.saved, maps.Clone(x.writes))
	case what < 5 && len(x.marks) > 0:
		i := rapid.IntRange(0, len(x.marks)-1).Draw(t, "back to")
		x.tx.RollbackTo(x.marks[i])
		x.writes = maps.Clone(x.saved[i])
		x.marks, x.saved = x.marks[:i+1], x.saved[:i+1]
	default:
		x.tx.ReleaseSavepoints()
		x.marks, x.saved = nil, nil
	}
}

func (m *model) drop(x *modelTxn) {
	m.ts = slices.DeleteFunc(m.ts, func(y *modelTxn) bool { return x == y })
	for len(x.cursors) > 0 {
		x.cursors[0].close()
	}
}

func (m *model) pick(t *rapid.T) *modelTxn {
	if len(m.ts) == 0 {
		t.Skip("no transaction")
	}
	return m.ts[rapid.IntRange(0, len(m.ts)-1).Draw(t, "transaction")]
}

var modelKeys = rapid.StringOfN(rapid.SampledFrom([]rune("abc")), 1, 2, -1)

func (m *model) get(t *rapid.T) {
	x, key := m.pick(t), modelKeys.Draw(t, "key")
	m.open(x)
	want, wantOK := x.read(m.rowsAt(x.at), key)
	if _, own := x.writes[key]; !own {
		x.keys = append(x.keys, key)
	}
	got, ok, err := x.tx.Get(t.Context(), key)
	if err != nil || ok != wantOK || describe(got) != describe(want) {
		t.Errorf("Get(%s) = %s, %v, %v, want %s, %v", key, describe(got), ok, err, describe(want), wantOK)
	}
}

func (m *model) scan(t *rapid.T) {
	x := m.pick(t)
	r := Range{Lo: modelKeys.Draw(t, "lo"), Hi: modelKeys.Draw(t, "hi"), Unbounded: rapid.Bool().Draw(t, "unbounded")}
	stop := rapid.IntRange(1, 20).Draw(t, "stop")
	var got, want []string
	m.open(x)
	last := ""
	for row, err := range x.tx.Scan(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, row.Key+" "+describe(row))
		if last = row.Key; len(got) == stop {
			break
		}
	}
	if len(got) == stop {
		r.Hi, r.Unbounded = last+"\x00", false
	}
	x.ranges = append(x.ranges, r)

	rows := m.rowsAt(x.at)
	keys := slices.Concat(slices.Collect(maps.Keys(rows)), slices.Collect(maps.Keys(x.writes)))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if key >= r.Lo && (r.Unbounded || key < r.Hi) {
			if row, ok := x.read(rows, key); ok {
				want = append(want, key+" "+describe(row))
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("Scan(%+v) = %q, want %q", r, got, want)
	}
}

func (m *model) write(t *rapid.T) {
	x, op := m.pick(t), drawOp(t, modelKeys)
	if x.outlived {
		t.Skip("it is on a standby")
	}
	x.writes[op.Key] = op
	var err error
	if op.Kind == Delete {
		err = x.tx.Delete(op.Key)
	} else {
		err = x.tx.Put(op.Key, op.Value)
	}
	if err != nil {
		t.Error(err)
	}
}

func (m *model) commit(t *rapid.T) {
	x := m.pick(t)
	m.drop(x)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no wait is fine, or reported
	var want error
	switch {
	case len(x.writes) == 0 && x.seen > m.x.horizon.Load():
		want = context.Canceled
	case len(x.writes) > 0 && x.conflicts(m.x.log.commits):
		want = ErrConflict
	}
	end, err := x.tx.Commit(ctx)
	if !errors.Is(err, want) {
		t.Errorf("Commit() = %v, want %v", err, want)
	}
	if err == nil && len(x.writes) > 0 {
		if end != m.x.log.end {
			t.Errorf("Commit() = %s, want the end of the log, %s", end, m.x.log.end)
		}
		m.own = end
	}
}

func (m *model) rollback(t *rapid.T) {
	x := m.pick(t)
	m.drop(x)
	x.tx.Rollback()
}

// between draws the end of a commit in (from, to].
func (m *model) between(t *rapid.T, from, to wal.LSN) wal.LSN {
	var ends []wal.LSN
	for _, c := range m.x.log.since(from) {
		if c.end <= to {
			ends = append(ends, c.end)
		}
	}
	if len(ends) == 0 {
		t.Skip("nothing to move")
	}
	return rapid.SampledFrom(ends).Draw(t, "lsn")
}

func (m *model) advanceHorizon(t *rapid.T) {
	m.x.horizon.Advance(m.between(t, m.x.horizon.Load(), m.x.log.end))
}

func (m *model) apply(t *rapid.T) {
	if err := m.x.applyTo(m.between(t, m.x.store.Applied(), m.x.horizon.Load())); err != nil {
		t.Error(err)
	}
}

// put commits a write of its own and, most of the time, has all that there is applied.
func (m *model) put(t *rapid.T) {
	op := drawOp(t, modelKeys)
	m.x.write(func(tx *Txn) error { return tx.writes.add(op) })
	if rapid.IntRange(0, 3).Draw(t, "apply") > 0 {
		m.x.settleAll()
	}
}

// writeOut moves what is applied from the memtable to Pebble.
func (m *model) writeOut(t *rapid.T) {
	if err := m.x.store.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

// check looks at the table's books.
func (m *model) check(t *rapid.T) {
	pending := 0
	for _, c := range m.x.log.since(m.x.store.Applied()) {
		for _, op := range c.commit.Ops {
			pending += len(op.Key) + len(op.Value) + versionOverhead
		}
	}
	if got := m.x.PendingBytes(); got != int64(pending) {
		t.Errorf("PendingBytes() = %d, want %d", got, pending)
	}
}

// Whatever transactions, the horizon and the applier do, in whatever order: every read and every
// commit is as in the model.
func TestTableAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{x: newTestTable(t, TableOptions{})}
		defer func() {
			for len(m.ts) > 0 {
				x := m.ts[0]
				m.drop(x)
				x.tx.Rollback()
			}
		}()
		actions := map[string]func(*rapid.T){
			"begin":     m.begin,
			"get":       m.get,
			"get2":      m.get,
			"scan":      m.scan,
			"cursor":    m.cursor,
			"fetch":     m.fetch,
			"fetch2":    m.fetch,
			"role":      m.changeRole,
			"savepoint": m.savepoint,
			"write":     m.write,
			"write2":    m.write,
			"put":       m.put,
			"put2":      m.put,
			"commit":    m.commit,
			"rollback":  m.rollback,
			"horizon":   m.advanceHorizon,
			"apply":     m.apply,
			"writeOut":  m.writeOut,
			"":          m.check,
		}
		for range 3 { // once is about 30 actions: too few for transactions to grow old
			rt.Repeat(actions)
		}
	})
}

func TestReadSetAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringOfN(rapid.SampledFrom([]rune("abcd")), 1, 2, -1)
		var s readSet
		var keys []string
		var ranges []Range
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			if rapid.Bool().Draw(t, "is key") {
				keys = append(keys, key.Draw(t, "key"))
				s.addKey(keys[len(keys)-1], rapid.Bool().Draw(t, "clone"))
				continue
			}
			r := Range{Lo: key.Draw(t, "lo"), Hi: key.Draw(t, "hi"), Unbounded: rapid.IntRange(0, 9).Draw(t, "unbounded") == 0}
			ranges = append(ranges, r)
			s.addRange(r, rapid.Bool().Draw(t, "clone"))
		}
		for _, k := range strings.Fields("0 a aa ab ac ad b ba bb bc bd c ca cb cc cd d da db dc dd e") {
			want := slices.Contains(keys, k) || slices.ContainsFunc(ranges, func(r Range) bool {
				return k >= r.Lo && (r.Unbounded || k < r.Hi)
			})
			if got := s.contains(k); got != want {
				t.Errorf("contains(%s) = %v, want %v, keys %q, ranges %+v, merged to %+v", k, got, want, keys, ranges, s.ranges)
			}
		}
		bytes := 0
		for _, k := range slices.Compact(slices.Sorted(slices.Values(keys))) {
			bytes += readKeySize + len(k)
		}
		for _, r := range s.ranges {
			bytes += readRangeSize + len(r.Lo) + len(r.Hi)
		}
		if s.bytes != bytes {
			t.Errorf("%d bytes are counted for keys %q and ranges %+v, want %d", s.bytes, keys, s.ranges, bytes)
		}
		if !slices.IsSortedFunc(s.ranges, func(a, b Range) int { return cmp.Compare(a.Lo, b.Lo) }) {
			t.Errorf("ranges not in order: %+v", s.ranges)
		}
	})
}

// Transfers between accounts, with an applier and a horizon as fast as they can be: they run before
// Insert has even returned. Every reader must see all of the money, and everything that the horizon
// had passed before it began.
func TestTableConcurrently(t *testing.T) {
	const accounts, writers, readers, transfers = 10, 4, 3, 300
	x := newTestTable(t, TableOptions{MaxPendingBytes: 20_000})
	account := func(i int) string { return fmt.Sprintf("account%d", i) }
	tx := x.Begin(TxnOptions{})
	for i := range accounts {
		tx.Put(account(i), []byte{100})
	}
	tx.Put("last", nil)
	if _, err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.settleAll()

	work := make(chan struct{}, 1)
	x.log.inserted = func(c logged) {
		if c.end%3 != 0 { // sometimes it takes longer
			x.horizon.Advance(c.end)
		}
		select {
		case work <- struct{}{}:
		default:
		}
	}
	var writing, applying, reading sync.WaitGroup
	var stop atomic.Bool
	applying.Go(func() {
		for range work {
			if err := x.applyTo(x.horizon.Load()); err != nil {
				t.Error(err)
			}
		}
	})
	for w := range writers {
		writing.Go(func() { transfer(x, rand.New(rand.NewPCG(1, uint64(w))), account, accounts, transfers) })
	}
	for r := range readers {
		reading.Go(func() {
			for !stop.Load() {
				checkBalance(x, TxnOptions{Latest: r == 0}, accounts)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		writing.Wait()
		close(done)
	}()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-x.AppliedPosition().Changed(x.AppliedPosition().Load()):
		case work <- struct{}{}: // the horizon moves on by itself
			x.horizon.Advance(wal.LSN(x.added.Load()))
		}
	}
	stop.Store(true)
	x.horizon.Advance(wal.LSN(x.added.Load())) // for those who wait for what they saw
	reading.Wait()
	close(work)
	applying.Wait()
	x.settleAll()
	checkBalance(x, TxnOptions{}, accounts)
	if n := x.PendingBytes(); n != 0 {
		t.Errorf("PendingBytes() = %d at the end, want 0", n)
	}
}

func transfer(x *testTable, rng *rand.Rand, account func(int) string, accounts, transfers int) {
	for n := 0; n < transfers; {
		tx := x.Begin(TxnOptions{Latest: true})
		from, to := account(rng.IntN(accounts)), account(rng.IntN(accounts))
		a, _, errA := tx.Get(x.t.Context(), from)
		b, _, errB := tx.Get(x.t.Context(), to)
		if err := errors.Join(errA, errB); err != nil {
			x.t.Error(err)
			return
		}
		if from == to || a.Value[0] == 0 {
			tx.Rollback()
			continue
		}
		err := errors.Join(tx.Put(from, []byte{a.Value[0] - 1}), tx.Put(to, []byte{b.Value[0] + 1}), tx.Put("last", nil))
		if err != nil {
			x.t.Error(err)
		}
		if _, err = tx.Commit(x.t.Context()); err != nil && !errors.Is(err, ErrConflict) {
			x.t.Error(err)
			return
		}
		if err == nil {
			n++
		}
	}
}

func checkBalance(x *testTable, opts TxnOptions, accounts int) {
	passed := x.horizon.Load()
	tx := x.Begin(opts)
	defer tx.Rollback()
	sum, n := 0, 0
	for row, err := range tx.Scan(x.t.Context(), Range{Lo: "account", Hi: "accountX"}) {
		if err != nil {
			x.t.Error(err)
			return
		}
		sum, n = sum+int(row.Value[0]), n+1
		if !opts.Latest && row.LSN > x.horizon.Load() {
			x.t.Errorf("row of %s shown, horizon is %s", row.LSN, x.horizon.Load())
		}
	}
	if n != accounts || sum != 100*accounts {
		x.t.Errorf("%d accounts hold %d, want %d and %d", n, sum, accounts, 100*accounts)
	}
	// Every commit writes this row.
	last, _, err := tx.Get(x.t.Context(), "last")
	var want wal.LSN
	for _, c := range x.log.since(0) {
		if c.end <= passed {
			want = c.end
		}
	}
	if err != nil || last.LSN < want {
		x.t.Errorf("the last commit seen is %s (%v), the horizon had passed %s before", last.LSN, err, want)
	}
}
