package drill

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// A fakeLog is a log in memory. A commit takes commitSize bytes of it.
type fakeLog struct {
	from   wal.LSN
	bytes  []byte
	logged []logged
	err    error
}

type logged struct {
	at  wal.LSN
	ops []kv.Op
}

const (
	logBegin   wal.LSN = 1 << 20
	commitSize         = 100
)

func (l *fakeLog) begin() wal.LSN { return l.from }

func (l *fakeLog) readAt(p []byte, at wal.LSN) (int, error) {
	return copy(p, l.bytes[at-logBegin:]), l.err
}

func (l *fakeLog) commits(end wal.LSN, each func(wal.LSN, []kv.Op)) error {
	for _, c := range l.logged {
		if c.at > l.from && c.at <= end {
			each(c.at, c.ops)
		}
	}
	return l.err
}

// A database does what is asked, at once, and makes the evidence of it.
type database struct {
	*evidence
	random *rand.Rand
	log    fakeLog
	table  map[string]cell
	now    int64
	lists  history.Generator
}

func newDatabase(seed uint64) *database {
	return &database{
		evidence: &evidence{prefix: "p/", end: logBegin, rows: map[string]*inserted{}},
		random:   rand.New(rand.NewPCG(seed, 0)), log: fakeLog{from: logBegin}, table: map[string]cell{},
		lists: history.Generator{Prefix: "p/", Keys: 3, MaxOps: 3, Rounds: 40},
	}
}

// commit writes to the table and the log.
func (d *database) commit(ops ...kv.Op) wal.LSN {
	d.end += commitSize
	for range commitSize {
		d.log.bytes = append(d.log.bytes, byte(d.random.Uint32()))
	}
	for _, o := range ops {
		d.table[o.Key] = cell{string(o.Value), d.end}
	}
	d.log.logged = append(d.log.logged, logged{d.end, ops})
	return d.end
}

func put(key, value string) kv.Op { return kv.Op{Kind: kv.Put, Key: key, Value: []byte(value)} }

func (d *database) tick() int64 {
	d.now++
	return d.now
}

// outcome is what the client is told, and whether it is done: what is unknown may be.
func (d *database) outcome() (o history.Outcome, happens bool) {
	switch d.random.IntN(10) {
	case 0:
		return history.Unknown, d.random.IntN(2) == 0
	case 1:
		return history.Aborted, false
	}
	return history.Committed, true
}

func (d *database) insertRow(i int) {
	key := fmt.Sprintf("p/row/%05d", i)
	r := &inserted{}
	var happens bool
	if r.outcome, happens = d.outcome(); happens {
		if at := d.commit(put(key, rowValue(key))); r.outcome == history.Committed {
			r.lsn = at
		}
	}
	d.rows[key] = r
}

func (d *database) useRegister(i int) {
	in := history.RegisterInput{Op: "write", Key: "p/register/" + strconv.Itoa(d.random.IntN(3)), New: strconv.Itoa(i)}
	o := porcupine.Operation{ClientId: d.random.IntN(3), Call: d.tick()}
	out := history.RegisterOutput{Known: true}
	became, happens := d.outcome()
	if in.Op = []string{"read", "write", "cas"}[d.random.IntN(3)]; in.Op == "cas" {
		in.Old = d.table[in.Key].value
		out.Changed = happens
	}
	if became == history.Aborted {
		return
	}
	if in.Op == "read" {
		became, in.New, out.Value = history.Committed, "", d.table[in.Key].value
	} else if happens {
		d.commit(put(in.Key, in.New))
	}
	o.Return = d.tick()
	if became == history.Unknown {
		out, o.Return = history.RegisterOutput{}, history.Never
	}
	o.Input, o.Output = in, out
	d.ops = append(d.ops, o)
}

func (d *database) transact() {
	t := &history.Txn{Client: d.random.IntN(3), Call: d.tick(), Ops: d.lists.Next(d.random)}
	var happens bool
	t.Outcome, happens = d.outcome()
	now := maps.Clone(d.table)
	var writes []kv.Op
	for i := range t.Ops {
		o := &t.Ops[i]
		switch o.Kind {
		case history.Append:
			w := put(o.Key, now[o.Key].value+o.Item())
			now[o.Key] = cell{value: string(w.Value)}
			writes = append(writes, w)
		case history.Read:
			o.List, _ = history.ParseList(now[o.Key].value)
		case history.Range:
			o.Lists = map[string][]int{}
			for key, c := range now {
				if key >= o.Key && key < o.Hi {
					o.Lists[key], _ = history.ParseList(c.value)
				}
			}
		}
	}
	if happens && len(writes) > 0 {
		d.commit(writes...)
	}
	t.Return = d.tick()
	d.txns = append(d.txns, t)
}

// lookAt reads everything of a kind on a node that is a little behind, but not behind what the session has seen.
func (d *database) lookAt(session int, floor wal.LSN) wal.LSN {
	position := max(floor, d.end-wal.LSN(d.random.IntN(10))*commitSize, logBegin)
	kind := []string{"p/row", "p/register"}[d.random.IntN(2)]
	l := look{node: "n2", session: session, token: floor, lo: kind + "/", hi: kind + "0", rows: map[string]cell{}}
	for _, c := range d.log.logged {
		for _, o := range c.ops {
			if c.at <= position && o.Key >= l.lo && o.Key < l.hi {
				l.rows[o.Key] = cell{string(o.Value), c.at}
			}
		}
	}
	d.looks = append(d.looks, l)
	return position
}

// goodEvidence is that of a run in which everything was as it should be.
func goodEvidence(seed uint64) *database {
	d := newDatabase(seed)
	var floor wal.LSN
	for i := range 400 {
		switch d.random.IntN(4) {
		case 0:
			d.insertRow(i)
		case 1:
			d.useRegister(i)
		case 2:
			d.transact()
		default:
			floor = d.lookAt(1, floor)
		}
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		log := d.log
		log.bytes = slices.Clone(log.bytes)
		if name == "n3" {
			log.from += 5 * commitSize // it had a base copy
		}
		d.nodes = append(d.nodes, nodeState{name: name, table: maps.Clone(d.table), log: &log})
	}
	return d
}

// everywhere calls f for each node.
func (d *database) everywhere(f func(n *nodeState, log *fakeLog)) {
	for i := range d.nodes {
		f(&d.nodes[i], d.nodes[i].log.(*fakeLog))
	}
}

// row is the key of a row with an outcome that is in the table, or not.
func (d *database) row(o history.Outcome, there bool) string {
	for _, key := range slices.Sorted(maps.Keys(d.rows)) {
		if _, ok := d.table[key]; d.rows[key].outcome == o && ok == there {
			return key
		}
	}
	panic("there is no such row")
}

// forget takes a key out of tables and logs, as if it had never been written.
func (d *database) forget(key string) {
	d.everywhere(func(n *nodeState, log *fakeLog) {
		delete(n.table, key)
		log.logged = slices.Clone(log.logged)
		for i, c := range log.logged {
			log.logged[i].ops = slices.DeleteFunc(slices.Clone(c.ops), func(o kv.Op) bool { return o.Key == key })
		}
	})
}

// again writes something at the end of the logs and in the tables.
func (d *database) again(key, value string) {
	at := d.commit(put(key, value))
	d.everywhere(func(n *nodeState, log *fakeLog) {
		n.table[key] = cell{value, at}
		log.bytes, log.logged = slices.Clone(d.log.bytes), slices.Clone(d.log.logged)
	})
}

func (d *database) read(min int) (t *history.Txn, o *history.Op) {
	for _, t := range d.txns {
		for i := range t.Ops {
			if o := &t.Ops[i]; o.Kind == history.Read && len(o.List) >= min && t.Outcome == history.Committed && i == 0 {
				return t, o
			}
		}
	}
	panic("there is no such read")
}

// appended is an append with an outcome.
func (d *database) appended(outcome history.Outcome) history.Op {
	for _, t := range d.txns {
		for _, o := range t.Ops {
			if o.Kind == history.Append && t.Outcome == outcome {
				return o
			}
		}
	}
	panic("there is no such append")
}

// A checker that finds nothing proves nothing: what is not as it should be is reported, by the check that is
// there for it.
func TestTampering(t *testing.T) {
	for _, test := range []struct {
		name   string
		tamper func(d *database)
		check  string // who must report it
		what   string // among the words
		lost   int
	}{
		{"an acknowledged row is gone everywhere", func(d *database) { d.forget(d.row(history.Committed, true)) }, checkRows, "is lost", 1},
		{"an acknowledged row is gone on one node", func(d *database) { delete(d.nodes[1].table, d.row(history.Committed, true)) }, checkRows, "is lost", 1},
		{"a refused row is there", func(d *database) { k := d.row(history.Aborted, false); d.again(k, rowValue(k)) }, checkRows, "was refused and is there", 0},
		{"a row of unknown outcome is there twice", func(d *database) { k := d.row(history.Unknown, true); d.again(k, rowValue(k)) }, checkRows, "2 times", 0},
		{"an acknowledged row is elsewhere", func(d *database) { d.rows[d.row(history.Committed, true)].lsn += 8 }, checkRows, "was acknowledged at", 0},
		{"a row has another value", func(d *database) { d.again(d.row(history.Unknown, true), "x") }, checkRows, "has another value", 0},
		{"a row that nobody wrote", func(d *database) { d.again("p/row/x", "x") }, checkRows, "nobody wrote it", 0},
		{"an acknowledged append is gone", func(d *database) { d.forget(d.appended(history.Committed).Key) }, checkRows, "was appended to", -1},
		{"a refused append is there", func(d *database) { o := d.appended(history.Aborted); d.again(o.Key, d.table[o.Key].value+o.Item()) }, checkRows, "refused, and is there", 0},
		{"an append is there twice", func(d *database) { o := d.appended(history.Committed); d.again(o.Key, d.table[o.Key].value+o.Item()) }, checkRows, "2 times", 0},
		{"a register was read as it never was", func(d *database) { d.changeRead("never") }, checkRegisters, "no order of the operations", 0},
		{"a register was read as it was before", func(d *database) { d.staleRead() }, checkRegisters, "no order of the operations", 0},
		{"an acknowledged value of a register is gone", func(d *database) { d.revertRegister() }, checkRegisters, "no order of the operations", 0},
		{"a list was read without its end", func(d *database) { _, o := d.read(2); o.List = o.List[:1] }, checkTxns, "", 0},
		{"a list was read in another order", func(d *database) { _, o := d.read(2); o.List = slices.Clone(o.List); slices.Reverse(o.List) }, checkTxns, "", 0},
		{"a look lacks a commit", func(d *database) {
			delete(d.looks[len(d.looks)-1].rows, slices.Min(slices.Collect(maps.Keys(d.looks[len(d.looks)-1].rows))))
		}, checkLooks, "at no position", 0},
		{"a look saw what never was", func(d *database) { d.changeLook(cell{"x", d.end - commitSize}) }, checkLooks, "never was in the log", 0},
		{"a look is behind what it waited for", func(d *database) { d.looks[0].token = d.end }, checkLooks, "a position before", 0},
		{"a session goes back", func(d *database) { d.goBack() }, checkLooks, "a position before", 0},
		{"a byte of a log differs", func(d *database) { d.nodes[2].log.(*fakeLog).bytes[1234] ^= 4 }, checkLogs, "n1 and n3 differ at " + (logBegin + 1234).String(), 0},
		{"a log cannot be read", func(d *database) { d.nodes[0].log.(*fakeLog).err = errors.New("no luck") }, checkLogs, "no luck", 0},
		{"a log cannot be compared", func(d *database) { d.nodes[2].log.(*fakeLog).err = errors.New("no luck") }, checkLogs, "no luck", 0},
		{"a table lacks what the log says", func(d *database) { delete(d.nodes[1].table, "p/register/1") }, checkTables, "p/register/1 is not there", 0},
		{"all tables lack what the log says", func(d *database) { d.everywhere(func(n *nodeState, _ *fakeLog) { delete(n.table, "p/register/1") }) }, checkTables, "p/register/1 is not there", 0},
		{"a table has more than the log says", func(d *database) { d.nodes[1].table["x"] = cell{"x", d.end} }, checkTables, "x is \"x\"", 0},
		{"without logs, tables differ", func(d *database) {
			d.everywhere(func(n *nodeState, _ *fakeLog) { n.log = nil })
			d.nodes[1].table["x"] = cell{"x", d.end}
		}, checkTables, "x is \"x\"", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := goodEvidence(1)
			test.tamper(d)
			v := d.check()
			if !slices.ContainsFunc(v.violations, func(v Violation) bool { return v.Check == test.check && strings.Contains(v.What, test.what) }) {
				t.Errorf("found %v, want %s with %q", v.violations, test.check, test.what)
			}
			if v.lost != test.lost && (test.lost >= 0 || v.lost == 0) {
				t.Errorf("%d lost, want %d", v.lost, test.lost)
			}
		})
	}
}

// Nothing is found where nothing is wrong.
func TestNoFalseAlarm(t *testing.T) {
	for seed := range uint64(20) {
		if v := goodEvidence(seed).check(); len(v.violations) > 0 || v.lost > 0 {
			t.Errorf("seed %d: found %v, %d lost", seed, v.violations, v.lost)
		}
	}
}

// changeRead changes what the last read of a register found.
func (d *database) changeRead(value string) {
	for i := len(d.ops) - 1; i >= 0; i-- {
		if d.ops[i].Input.(history.RegisterInput).Op == "read" {
			d.ops[i].Output = history.RegisterOutput{Known: true, Value: value}
			return
		}
	}
	panic("there is no read")
}

// staleRead has a read find what the register was before the last acknowledged write.
func (d *database) staleRead() {
	before := map[string]string{}
	now := map[string]string{}
	for i, o := range d.ops {
		in, out := o.Input.(history.RegisterInput), o.Output.(history.RegisterOutput)
		switch {
		case in.Op == "read" && before[in.Key] != "" && out.Value == now[in.Key]:
			d.ops[i].Output = history.RegisterOutput{Known: true, Value: before[in.Key]}
			return
		case out.Known && (in.Op == "write" || out.Changed):
			before[in.Key], now[in.Key] = now[in.Key], in.New
		case !out.Known:
			before[in.Key], now[in.Key] = "", ""
		}
	}
	panic("there is no such read")
}

// revertRegister takes the last acknowledged write to a register away, in tables and logs.
func (d *database) revertRegister() {
	for i := len(d.ops) - 1; i >= 0; i-- {
		in, out := d.ops[i].Input.(history.RegisterInput), d.ops[i].Output.(history.RegisterOutput)
		if out.Known && (in.Op == "write" || out.Changed) {
			d.forget(in.Key)
			return
		}
	}
	panic("there is no write")
}

// changeLook changes a row of the last look that has one.
func (d *database) changeLook(c cell) {
	l := d.looks[len(d.looks)-1]
	l.rows[slices.Min(slices.Collect(maps.Keys(l.rows)))] = c
}

// goBack has a session see its first look again in the end.
func (d *database) goBack() {
	again := d.looks[0]
	again.token = 0
	d.looks = append(d.looks, again)
}
