package drill

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// An evidence is all that is known once the load has ended: what clients did, were told and saw, and what
// the nodes hold.
type evidence struct {
	prefix string // of the keys of the clients
	end    wal.LSN
	ops    []porcupine.Operation
	rows   map[string]*inserted
	txns   []*history.Txn
	looks  []look
	nodes  []nodeState
}

// A nodeState is what a node holds up to the evidence's end.
type nodeState struct {
	name  string
	table map[string]cell
	log   nodeLog // nil: it cannot be read
}

// A nodeLog is the log of a node, as far as it is kept.
type nodeLog interface {
	begin() wal.LSN                           // the first byte that there is
	readAt(p []byte, at wal.LSN) (int, error) // some bytes, one at least
	commits(end wal.LSN, each func(at wal.LSN, ops []kv.Op)) error
}

// A Violation is something that cannot be, if the cluster keeps its promises.
type Violation struct {
	Check string `json:"check"`          // what was checked
	Node  string `json:"node,omitempty"` // where, if it is about one
	What  string `json:"what"`           // the place: keys, positions, operations
}

func (v Violation) String() string {
	if v.Node == "" {
		return v.Check + ": " + v.What
	}
	return v.Check + ", " + v.Node + ": " + v.What
}

// The names of checks.
const (
	checkRows      = "acknowledged writes"
	checkRegisters = "linearizability"
	checkTxns      = "strict serializability"
	checkLooks     = "order of visibility"
	checkLogs      = "equal logs"
	checkTables    = "table is the fold of the log"
	checkCluster   = "the cluster comes back by itself"
	checkDrill     = "what the drill promises"
	checkShown     = "what was broken was felt"
)

// A verdict is what the checks found, and how much they looked at.
type verdict struct {
	violations []Violation
	lost       int // acknowledged writes
	keys       int // registers
}

func (v *verdict) complain(check, node, format string, args ...any) {
	v.violations = append(v.violations, Violation{Check: check, Node: node, What: fmt.Sprintf(format, args...)})
}

// check looks for whatever cannot be.
func (e *evidence) check() *verdict {
	v := &verdict{}
	f := e.fold(v)
	if f != nil {
		e.checkTables(v, f)
		e.checkInserted(v, f)
		e.checkLooks(v, f)
	}
	e.checkSameTables(v)
	e.checkRows(v)
	e.checkAppends(v)
	e.checkOrder(v)
	return v
}

// A fold is the table as the log makes it, with its past.
type fold struct {
	begin    wal.LSN // what was written before is not known
	versions map[string][]version
}

// A version is what a key was from a commit on, to the next one.
type version struct {
	cell
	deleted bool
}

// fold compares the logs and reads the longest one. It returns nil if there is none, or if it cannot be read.
func (e *evidence) fold(v *verdict) *fold {
	var reference *nodeState
	for i, n := range e.nodes {
		if n.log != nil && (reference == nil || n.log.begin() < reference.log.begin()) {
			reference = &e.nodes[i]
		}
	}
	if reference == nil {
		return nil
	}
	for _, n := range e.nodes {
		if n.log != nil && n.name != reference.name {
			e.compareLogs(v, reference, &n)
		}
	}
	f := &fold{begin: reference.log.begin(), versions: map[string][]version{}}
	err := reference.log.commits(e.end, func(at wal.LSN, ops []kv.Op) {
		for _, o := range ops {
			next := version{cell: cell{string(o.Value), at}, deleted: o.Kind == kv.Delete}
			past := f.versions[o.Key]
			if n := len(past); n > 0 && past[n-1].lsn == at {
				past = past[:n-1] // written twice by one commit
			}
			f.versions[o.Key] = append(past, next)
		}
	})
	if err != nil {
		v.complain(checkLogs, reference.name, "the log cannot be read: %v", err)
		return nil
	}
	return f
}

// compareLogs compares all bytes that both have.
func (e *evidence) compareLogs(v *verdict, a, b *nodeState) {
	const chunk = 64 << 10
	x, y := make([]byte, chunk), make([]byte, chunk)
	for at := max(a.log.begin(), b.log.begin()); at < e.end; {
		n, err := a.log.readAt(x[:min(chunk, e.end-at)], at)
		if err != nil {
			v.complain(checkLogs, a.name, "%v", err)
			return
		}
		if n, err = b.log.readAt(y[:n], at); err != nil {
			v.complain(checkLogs, b.name, "%v", err)
			return
		}
		for i := range n {
			if x[i] != y[i] {
				v.complain(checkLogs, "", "%s and %s differ at %s: %x… and %x…", a.name, b.name, at+wal.LSN(i),
					x[i:min(i+16, n)], y[i:min(i+16, n)])
				return
			}
		}
		at += wal.LSN(n)
	}
}

// checkTables compares each table with the fold of the log.
func (e *evidence) checkTables(v *verdict, f *fold) {
	for _, n := range e.nodes {
		wrong := 0
		for _, key := range keysOf(f.versions, n.table) {
			past, there := f.versions[key], false
			found, ok := n.table[key]
			var want version
			if len(past) > 0 {
				want = past[len(past)-1]
				there = !want.deleted
			} else if ok && found.lsn <= f.begin {
				continue // written before the log that is kept begins
			}
			if there == ok && (!ok || found == want.cell) {
				continue
			}
			if wrong++; wrong <= shown {
				v.complain(checkTables, n.name, "%s is %s, and in the log %s", key, described(found, ok), described(want.cell, there))
			}
		}
		if wrong > shown {
			v.complain(checkTables, n.name, "… and %d more keys", wrong-shown)
		}
	}
}

// shown is how many violations of a kind are told one by one.
const shown = 5

func described(c cell, there bool) string {
	if !there {
		return "not there"
	}
	return fmt.Sprintf("%q at %s", short(c.value, 60), c.lsn)
}

// keysOf are the keys of both, sorted.
func keysOf[V, W any](a map[string]V, b map[string]W) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// checkSameTables compares the tables with one another: where no log can be read, that is what there is.
func (e *evidence) checkSameTables(v *verdict) {
	for _, n := range e.nodes[min(1, len(e.nodes)):] {
		for _, key := range keysOf(e.nodes[0].table, n.table) {
			a, inA := e.nodes[0].table[key]
			b, inB := n.table[key]
			if a != b || inA != inB {
				v.complain(checkTables, n.name, "%s is %s, and on %s %s", key, described(b, inB), e.nodes[0].name, described(a, inA))
				break
			}
		}
	}
}

// checkRows verifies that each node has every row that was acknowledged, none that was refused, and none
// that nobody wrote.
func (e *evidence) checkRows(v *verdict) {
	lost := map[string]bool{}
	for _, n := range e.nodes {
		for _, key := range slices.Sorted(maps.Keys(e.rows)) {
			r := e.rows[key]
			found, ok := n.table[key]
			switch {
			case !ok && r.outcome == history.Committed:
				lost[key] = true
				v.complain(checkRows, n.name, "%s was acknowledged at %s and is lost", key, r.lsn)
			case ok && r.outcome == history.Aborted:
				v.complain(checkRows, n.name, "%s was refused and is there, at %s", key, found.lsn)
			case ok && found.value != rowValue(key):
				v.complain(checkRows, n.name, "%s has another value, %q", key, short(found.value, 60))
			case ok && r.lsn != 0 && r.lsn != found.lsn:
				v.complain(checkRows, n.name, "%s was acknowledged at %s and is at %s", key, r.lsn, found.lsn)
			}
		}
		rows := e.prefix + "row/"
		for _, key := range slices.Sorted(maps.Keys(n.table)) {
			if _, ok := e.rows[key]; !ok && len(key) > len(rows) && key[:len(rows)] == rows {
				v.complain(checkRows, n.name, "%s is there and nobody wrote it", key)
			}
		}
	}
	v.lost += len(lost)
}

// checkInserted verifies that no row was inserted twice, or removed.
func (e *evidence) checkInserted(v *verdict, f *fold) {
	for _, key := range slices.Sorted(maps.Keys(e.rows)) {
		past := f.versions[key]
		if len(past) > 1 {
			v.complain(checkRows, "", "%s, inserted once, is in the log %d times: at %s and %s", key, len(past), past[0].lsn, past[1].lsn)
		}
	}
}

// checkAppends verifies that the lists hold what was appended: once if that was acknowledged, at most once
// if it is unknown.
func (e *evidence) checkAppends(v *verdict) {
	lost := map[int]bool{}
	for _, n := range e.nodes {
		held := map[int]int{}
		for key, c := range n.table {
			if len(key) <= len(e.prefix) || key[:len(e.prefix)] != e.prefix || key[len(e.prefix)] != 'l' {
				continue
			}
			list, err := history.ParseList(c.value)
			if err != nil {
				v.complain(checkRows, n.name, "%s: %v", key, err)
			}
			for _, value := range list {
				held[value]++
			}
		}
		for _, t := range e.txns {
			for _, o := range t.Ops {
				if o.Kind != history.Append {
					continue
				}
				switch times := held[o.Value]; {
				case times == 0 && t.Outcome == history.Committed:
					lost[o.Value] = true
					v.complain(checkRows, n.name, "%d was appended to %s, acknowledged, and is lost", o.Value, o.Key)
				case times > 0 && t.Outcome == history.Aborted:
					v.complain(checkRows, n.name, "%d was appended to %s, refused, and is there", o.Value, o.Key)
				case times > 1:
					v.complain(checkRows, n.name, "%d was appended to %s and is there %d times", o.Value, o.Key, times)
				}
			}
		}
	}
	v.lost += len(lost)
}

// checkOrder looks for an order of all that was done and read. What the tables hold in the end was read last.
func (e *evidence) checkOrder(v *verdict) {
	last := int64(0)
	for _, o := range e.ops {
		last = max(last, o.Call)
		if o.Return != history.Never {
			last = max(last, o.Return)
		}
	}
	ops := slices.Clone(e.ops)
	registers := map[string]bool{}
	for _, o := range e.ops {
		registers[o.Input.(history.RegisterInput).Key] = true
	}
	for i, n := range e.nodes {
		for key := range registers {
			ops = append(ops, porcupine.Operation{
				ClientId: -1 - i, Input: history.RegisterInput{Op: "read", Key: key}, Call: last + 1,
				Output: history.RegisterOutput{Known: true, Value: n.table[key].value}, Return: last + 2,
			})
		}
	}
	found, keys := history.CheckRegisters(ops, orderTimeout)
	v.keys = keys
	for _, anomaly := range found {
		v.complain(checkRegisters, "", "%s", anomaly)
	}
	for _, anomaly := range history.Check(e.txns) {
		v.complain(checkTxns, "", "%s", anomaly)
	}
}

// checkLooks verifies that each look saw the table as of one position of the log, not before the one that
// was waited for, nor before what its session had seen.
func (e *evidence) checkLooks(v *verdict, f *fold) {
	keys := slices.Sorted(maps.Keys(f.versions))
	floor := map[int]wal.LSN{} // of each session
	for _, l := range e.looks {
		from, to, why := f.position(keys, l)
		if why != "" {
			v.complain(checkLooks, l.node, "%s: %s", l, why)
			continue
		}
		floor[l.session] = max(floor[l.session], l.token)
		if to <= floor[l.session] {
			v.complain(checkLooks, l.node, "%s: it saw the table as of a position before %s, where it has been or waited for; it lacks the commit at %s",
				l, floor[l.session], to)
		}
		floor[l.session] = max(floor[l.session], from)
	}
}

// position is between which positions, from one to before another, the table was as a look found it.
func (f *fold) position(keys []string, l look) (from, to wal.LSN, why string) {
	to = ^wal.LSN(0)
	var first, last string // the keys that set the bounds
	for key := range l.rows {
		if _, ok := f.versions[key]; !ok && l.rows[key].lsn > f.begin {
			return 0, 0, fmt.Sprintf("%s was read, %s, and is not in the log", key, described(l.rows[key], true))
		}
	}
	i, _ := slices.BinarySearch(keys, l.lo)
	for ; i < len(keys) && keys[i] < l.hi; i++ {
		key := keys[i]
		lo, hi, ok := f.span(key, l.rows)
		if !ok {
			found, there := l.rows[key]
			return 0, 0, fmt.Sprintf("%s was read, %s, which it never was in the log", key, described(found, there))
		}
		if lo > from {
			from, first = lo, key
		}
		if hi < to {
			to, last = hi, key
		}
	}
	if from >= to {
		return 0, 0, fmt.Sprintf("it saw %s as of %s, and not yet the commit at %s to %s: at no position was the table so", first, from, to, last)
	}
	return from, to, ""
}

// span is from where to before where a key was what a look found, or if it found none, before it was first written.
func (f *fold) span(key string, rows map[string]cell) (from, to wal.LSN, ok bool) {
	past := f.versions[key]
	found, there := rows[key]
	if !there {
		if slices.ContainsFunc(past, func(x version) bool { return x.deleted }) {
			return 0, ^wal.LSN(0), true // it was not there more than once
		}
		return 0, past[0].lsn, true
	}
	if found.lsn <= f.begin {
		return 0, past[0].lsn, true
	}
	i, ok := slices.BinarySearchFunc(past, found.lsn, func(x version, l wal.LSN) int { return cmp.Compare(x.lsn, l) })
	if !ok || past[i].cell != found || past[i].deleted {
		return 0, 0, false
	}
	if i+1 < len(past) {
		return found.lsn, past[i+1].lsn, true
	}
	return found.lsn, ^wal.LSN(0), true
}
