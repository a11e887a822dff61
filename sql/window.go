package sql

import (
	"slices"

	"github.com/longship-db/longship/pgwire"
)

// A windowCall is row_number() OVER (…), with which drivers count the columns of a relation, or count(*) OVER (…), with
// which people page: it counts the rows of the partition.
type windowCall struct {
	count     bool
	partition []sortKey
	order     []sortKey
	slot      int // where in env.numbers
}

func (x *windowCall) typ() Type { return Int8 }

func (x *windowCall) eval(e *env) (Value, error) { return Int8Value(e.numbers[x.slot]), nil }

func (a *analyzer) windowCall(n callNode) expr {
	switch {
	case n.star && (n.distinct || n.filter != nil || n.order != nil || n.over.order != nil):
		a.fail(n.at(), pgwire.CodeFeatureNotSupported, "count(*) OVER with more than PARTITION BY is not supported")
	case n.star != (n.name == "count"), len(n.args) > 0:
		a.fail(n.at(), pgwire.CodeFeatureNotSupported, "a window function other than row_number() and count(*) is not supported")
	case !a.allowed:
		where := a.noAggregate
		if where == "" {
			where = "ORDER BY"
		}
		a.fail(n.at(), pgwire.CodeWindowingError, "window functions are not allowed in %s", where)
	}
	x := &windowCall{count: n.star, slot: len(a.windows)}
	for _, p := range n.over.partition {
		x.partition = append(x.partition, sortKey{x: a.typed(p)})
	}
	for _, item := range n.over.order {
		x.order = append(x.order, sortKey{a.typed(item.expr), item.desc, item.nullsFirst})
	}
	a.windows = append(a.windows, x)
	return x
}

// A numberedRow is a row that waits for its numbers.
type numberedRow struct {
	tuple   []Value
	row     Row       // instead, of kv
	keys    [][]Value // of each window: the partition's, then the order's
	numbers []int64
}

// collectRow keeps the row in s.e until all are there.
func (s *selection) collectRow() error {
	if len(s.numbered) == maxDerivedRows {
		return tooManyRows()
	}
	row := &numberedRow{tuple: s.keptTuple(), row: s.e.row, numbers: make([]int64, len(s.plan.windows))}
	row.row.Value = cloneBytes(row.row.Value)
	for _, w := range s.plan.windows {
		var keys []Value
		for _, key := range slices.Concat(w.partition, w.order) {
			v, err := key.x.eval(s.e)
			if err != nil {
				return err
			}
			keys = append(keys, v.clone())
		}
		row.keys = append(row.keys, keys)
	}
	s.numbered = append(s.numbered, row)
	size := 2*rowSize + valuesSize(row.tuple) + len(row.row.Key) + len(row.row.Value)
	for _, keys := range row.keys {
		size += rowSize + valuesSize(keys)
	}
	return s.e.hold(size)
}

// emitNumbered numbers the rows of each window's partitions and emits them, in the order in which they came.
func (s *selection) emitNumbered() error {
	for i, w := range s.plan.windows {
		if err := s.number(i, w); err != nil {
			return err
		}
	}
	for _, row := range s.numbered {
		if err := s.e.step(rowCost); err != nil {
			return err
		}
		s.e.tuple, s.e.row, s.e.numbers = row.tuple, row.row, row.numbers
		if more, err := s.emit(); err != nil || !more {
			return err
		}
	}
	return nil
}

// number numbers the rows for window i.
func (s *selection) number(i int, w *windowCall) error {
	sorted := slices.Clone(s.numbered)
	order := slices.Concat(w.partition, w.order)
	err := sortPaced(&s.e.session.pace, sorted, func(a, b *numberedRow) int { return compareKeys(order, a.keys[i], b.keys[i]) })
	for k := 0; err == nil && k < len(sorted); k++ {
		if sorted[k].numbers[i] = 1; k > 0 && w.samePartition(sorted[k-1].keys[i], sorted[k].keys[i]) {
			sorted[k].numbers[i] = sorted[k-1].numbers[i] + 1
		}
		err = s.e.step(sortCost)
	}
	for k := len(sorted) - 2; err == nil && w.count && k >= 0; k-- { // the last of a partition has the number of all
		if w.samePartition(sorted[k].keys[i], sorted[k+1].keys[i]) {
			sorted[k].numbers[i] = sorted[k+1].numbers[i]
		}
		err = s.e.step(sortCost)
	}
	return err
}

func (x *windowCall) samePartition(a, b []Value) bool { return compareKeys(x.partition, a, b) == 0 }
