package kv

import (
	"cmp"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/longship-db/longship/wal"
)

// An order is the order of a memtable's keys, as far as somebody has asked for it: runs of numbers of
// keys, each run in the order of their keys. Keys that came since are a run of their own, and runs of
// much the same length are merged, so that there are few of them and none is sorted twice.
type order struct {
	mu   sync.Mutex
	runs [][]uint32 // the longer, the earlier; a run never changes, but is replaced by a merged one
	n    int        // keys in runs
}

// sorted returns runs that hold the keys there are now, and the keys.
func (m *memtable) sorted() (runs [][]uint32, keys []string) {
	o := &m.order
	o.mu.Lock()
	defer o.mu.Unlock()
	m.mu.RLock()
	keys = m.keys
	m.mu.RUnlock()
	if len(keys) > o.n {
		runs := append(slices.Clone(o.runs), sortedRun(keys, o.n, runtime.Gosched))
		for n := len(runs); n > 1 && len(runs[n-2]) < 2*len(runs[n-1]); n-- {
			runs = append(runs[:n-2], mergeRuns(keys, runs[n-2], runs[n-1], runtime.Gosched))
		}
		o.runs, o.n = runs, len(keys)
	}
	return o.runs, keys
}

// whole returns the numbers of all keys, in the order of the keys, and the keys. Nothing is inserted any more. rest
// is called now and then, and no scan waits for that.
func (m *memtable) whole(rest func()) (run []uint32, keys []string) {
	o := &m.order
	o.mu.Lock()
	runs, n := o.runs, o.n
	o.mu.Unlock()
	if n < len(m.keys) {
		run = sortedRun(m.keys, n, rest)
	}
	for i := len(runs) - 1; i >= 0; i-- {
		run = mergeRuns(m.keys, runs[i], run, rest)
	}
	return run, m.keys
}

// A memPiece is what was written in a memtable between two LSNs, in the order of the keys: of each key what was
// written last.
type memPiece struct {
	rows  []struct{ key, version uint32 }
	bytes int     // about what the rows take in a batch
	end   wal.LSN // the latest of them
}

// pieces returns what was written up to the first of stops, which are in order, then up to the second, and so on,
// then up to the end. Nothing is inserted any more. rest is called now and then.
func (m *memtable) pieces(stops []wal.LSN, rest func()) []memPiece {
	pieces := make([]memPiece, len(stops)+1)
	ids, keys := m.whole(rest)
	pieces[len(stops)].rows = make([]struct{ key, version uint32 }, 0, len(ids))
	for i, id := range ids {
		if i%yieldSteps == 0 {
			rest()
		}
		last := len(pieces)
		for at := m.newest[id] + 1; at != 0; at = m.versions[at-1].older {
			v := &m.versions[at-1]
			if piece, _ := slices.BinarySearch(stops, v.lsn); piece < last {
				last = piece
				p := &pieces[piece]
				p.rows = append(p.rows, struct{ key, version uint32 }{id, at - 1})
				p.bytes += len(keys[id]) + len(v.value) + memRowOverhead
				p.end = max(p.end, v.lsn)
			}
			if last == 0 { // the rest is older, and of the same piece
				break
			}
		}
	}
	return pieces
}

// yieldSteps is how many keys are compared, or written, before others may have the processor: Go's scheduler
// would take it away after ten milliseconds only, for which a commit may have to wait.
const yieldSteps = 1024

// sortedRun puts the keys from number from on in order. Most comparisons are of numbers: of the eight bytes
// that follow what all these keys begin with.
func sortedRun(keys []string, from int, rest func()) []uint32 {
	type key struct {
		part uint64
		id   uint32
	}
	common := commonPrefix(keys[from:])
	ids := make([]key, len(keys)-from)
	for i := range ids {
		var part [8]byte
		copy(part[:], keys[from+i][common:])
		ids[i] = key{binary.BigEndian.Uint64(part[:]), uint32(from + i)}
	}
	steps := 0
	slices.SortFunc(ids, func(a, b key) int {
		if steps++; steps%yieldSteps == 0 {
			rest()
		}
		if c := cmp.Compare(a.part, b.part); c != 0 {
			return c
		}
		return strings.Compare(keys[a.id], keys[b.id])
	})
	run := make([]uint32, len(ids))
	for i := range ids {
		run[i] = ids[i].id
	}
	return run
}

// commonPrefix is the length of what all keys begin with.
func commonPrefix(keys []string) int {
	first, n := keys[0], len(keys[0])
	for _, k := range keys[1:] {
		n = min(n, len(k))
		for n > 0 && k[:n] != first[:n] {
			n--
		}
		if n == 0 {
			break
		}
	}
	return n
}

// mergeRuns merges two runs, which have no key in common.
func mergeRuns(keys []string, a, b []uint32, rest func()) []uint32 {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	merged := make([]uint32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if len(merged)%yieldSteps == 0 {
			rest()
		}
		if keys[a[0]] < keys[b[0]] {
			merged, a = append(merged, a[0]), a[1:]
		} else {
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	return append(append(merged, a...), b...)
}

// A memScan goes through the rows of a memtable as of an LSN, in the order of their keys.
type memScan struct {
	table *memtable
	lsn   wal.LSN
	r     Range
	keys  []string
	runs  [][]uint32 // what is left of each
	rows  []memRow   // the next ones: what is left of chunk
	chunk []memRow

	ids, newest [memChunk]uint32 // scratch space: the keys looked at last, and the newest version of each
}

// memChunk is how many keys a scan looks at at a time, while inserts wait.
const memChunk = 128

func (m *memtable) scan(r Range, lsn wal.LSN) *memScan {
	runs, keys := m.sorted()
	s := &memScan{table: m, lsn: lsn, r: r, keys: keys, runs: make([][]uint32, 0, len(runs))}
	for _, run := range runs {
		at, _ := slices.BinarySearchFunc(run, r.Lo, func(id uint32, lo string) int { return strings.Compare(keys[id], lo) })
		if at < len(run) {
			s.runs = append(s.runs, run[at:])
		}
	}
	return s
}

// peek returns the next row, a deletion among them; nil at the end.
func (s *memScan) peek() *memRow {
	if len(s.rows) == 0 {
		s.refill()
	}
	if len(s.rows) == 0 {
		return nil
	}
	return &s.rows[0]
}

// skip moves on past what peek returned.
func (s *memScan) skip() { s.rows = s.rows[1:] }

// refill takes the next rows. Of many keys that came later than what is read there may be none.
func (s *memScan) refill() {
	s.rows = s.chunk[:0]
	for len(s.rows) == 0 && len(s.runs) > 0 {
		s.take()
	}
	s.chunk = s.rows
}

// take looks at the next keys.
func (s *memScan) take() {
	n := 0
	for n < memChunk && len(s.runs) > 0 {
		id := s.nextID()
		if !s.r.below(s.keys[id]) {
			s.runs = nil
			break
		}
		s.ids[n] = id
		n++
	}
	m := s.table
	m.mu.RLock()
	for i, id := range s.ids[:n] {
		s.newest[i] = m.newest[id]
	}
	versions := m.versions
	m.mu.RUnlock()
	for i, id := range s.ids[:n] {
		if v, ok := versionAt(versions, s.newest[i], s.lsn); ok {
			s.rows = append(s.rows, memRow{key: s.keys[id], memVersion: v})
		}
	}
}

// nextID takes the number of the lowest key out of its run.
func (s *memScan) nextID() uint32 {
	low := 0
	for i := 1; i < len(s.runs); i++ {
		if s.keys[s.runs[i][0]] < s.keys[s.runs[low][0]] {
			low = i
		}
	}
	id := s.runs[low][0]
	if s.runs[low] = s.runs[low][1:]; len(s.runs[low]) == 0 {
		s.runs = slices.Delete(s.runs, low, low+1)
	}
	return id
}
