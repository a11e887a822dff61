package sql

import (
	"slices"

	"github.com/longship-db/longship/pgwire"
)

// A rowNumber is row_number() OVER (…), with which drivers count the columns of a relation: the only window
// function, and only of what is not kv.
type rowNumber struct {
	partition []sortKey
	order     []sortKey
	slot      int // where in env.numbers
}

func (x *rowNumber) typ() Type { return Int8 }

func (x *rowNumber) eval(e *env) (Value, error) { return Int8Value(e.numbers[x.slot]), nil }

func (a *analyzer) rowNumber(n callNode) expr {
	switch {
	case len(n.args) > 0 || n.star:
		a.fail(n.at(), pgwire.CodeUndefinedFunction, "row_number takes no arguments")
	case !a.allowed:
		where := a.noAggregate
		if where == "" {
			where = "ORDER BY"
		}
		a.fail(n.at(), pgwire.CodeWindowingError, "window functions are not allowed in %s", where)
	case a.scope.kv:
		a.alone(n.at(), "a window function of kv")
	}
	x := &rowNumber{slot: len(a.windows)}
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
	keys    [][]Value // of each window: the partition's, then the order's
	numbers []int64
}

// collectRow keeps the row in s.e until all are there.
func (s *selection) collectRow() error {
	if len(s.numbered) == maxDerivedRows {
		return tooManyRows()
	}
	row := &numberedRow{tuple: slices.Clone(s.e.tuple), numbers: make([]int64, len(s.plan.windows))}
	for _, w := range s.plan.windows {
		var keys []Value
		for _, key := range slices.Concat(w.partition, w.order) {
			v, err := key.x.eval(s.e)
			if err != nil {
				return err
			}
			keys = append(keys, v)
		}
		row.keys = append(row.keys, keys)
	}
	s.numbered = append(s.numbered, row)
	size := rowSize + valuesSize(row.tuple)
	for _, keys := range row.keys {
		size += rowSize + valuesSize(keys)
	}
	return s.e.hold(size)
}

// emitNumbered numbers the rows of each window's partitions and emits them, in the order in which they came.
func (s *selection) emitNumbered() error {
	for i, w := range s.plan.windows {
		sorted := slices.Clone(s.numbered)
		slices.SortStableFunc(sorted, func(a, b *numberedRow) int { return w.compare(a.keys[i], b.keys[i]) })
		for k, row := range sorted {
			row.numbers[i] = 1
			if k > 0 && w.samePartition(sorted[k-1].keys[i], row.keys[i]) {
				row.numbers[i] = sorted[k-1].numbers[i] + 1
			}
		}
	}
	for _, row := range s.numbered {
		s.e.tuple, s.e.numbers = row.tuple, row.numbers
		if more, err := s.emit(); err != nil || !more {
			return err
		}
	}
	return nil
}

func (x *rowNumber) compare(a, b []Value) int {
	for i, key := range slices.Concat(x.partition, x.order) {
		if c := key.compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func (x *rowNumber) samePartition(a, b []Value) bool {
	for i := range x.partition {
		if x.partition[i].compare(a[i], b[i]) != 0 {
			return false
		}
	}
	return true
}
