package sql

import (
	"slices"
	"strings"
)

// A keyList is the keys that a statement looks up. They are counted while it does.
type keyList struct {
	e    *env
	keys []string
	held int // bytes of keys
	text int // bytes of the arrays that they are from
}

// keys evaluates the points: ascending, without duplicates and NULLs.
func (a *access) keys(l *keyList) error {
	for _, x := range a.points {
		if list, ok := x.(*subqueryExpr); ok && list.kind == subqueryList {
			if err := l.addRows(list); err != nil {
				return err
			}
			continue
		}
		v, err := x.eval(l.e)
		if err == nil {
			err = l.add(v)
		}
		if err != nil {
			return err
		}
	}
	if err := l.sort(); err != nil || !a.beside(l.e) {
		return err
	}
	for i, key := range l.keys {
		l.keys[i] = strings.Clone(key)
	}
	return nil
}

// add adds a key, or the elements of an array.
func (l *keyList) add(v Value) error {
	switch {
	case v.IsNull(), len(v.s) >= largeRow && v.typ.elem() == 0: // no key is that long
		return nil
	case v.typ.elem() == 0:
		if err := l.room(1); err != nil {
			return err
		}
		l.keys = append(l.keys, v.s)
		return nil
	}
	if err := l.room(int(v.n)); err != nil {
		return err
	}
	if len(v.s) >= largeRow {
		if err := l.e.hold(len(v.s)); err != nil {
			return err
		}
		l.text += len(v.s)
	}
	l.keys = appendElements(l.keys, v)
	return nil
}

// appendElements is a function of its own for escape analysis: what looks up one key allocates nothing for that.
func appendElements(keys []string, array Value) []string {
	for elem := range array.elements() {
		if elem != nullElem {
			keys = append(keys, elem)
		}
	}
	return keys
}

// addRows adds what the rows of a subquery hold in a column.
func (l *keyList) addRows(list *subqueryExpr) error {
	rows, err := list.rows(l.e)
	if err == nil {
		err = l.room(len(rows))
	}
	if err != nil {
		return err
	}
	for _, row := range rows {
		if v := row[list.column]; !v.IsNull() && len(v.s) <= MaxKeyLen {
			l.keys = append(l.keys, v.s)
		}
	}
	return nil
}

// room makes room for n more keys. If there are many they are counted, the old array, too, until the new one is there.
func (l *keyList) room(n int) error {
	const stringSize = 16
	if len(l.keys)+n <= cap(l.keys) {
		return nil
	}
	size := max(len(l.keys)+n, 2*cap(l.keys))
	counted := size * stringSize
	if counted < largeRow {
		counted = 0
	}
	if err := l.e.hold(counted); err != nil {
		return err
	}
	_ = l.e.hold(-l.held) // less, which cannot fail
	l.held = counted
	l.keys = append(make([]string, 0, size), l.keys...)
	return nil
}

// sort puts the keys in order, each once.
func (l *keyList) sort() error {
	if len(l.keys) < 2 {
		return nil
	}
	pace := &l.e.session.pace
	slices.SortFunc(l.keys, func(a, b string) int {
		if pace.step(sortCost) != nil {
			return 0
		}
		return strings.Compare(a, b)
	})
	l.keys = slices.Compact(l.keys)
	return pace.step(0)
}

// done gives back what the keys have held.
func (l *keyList) done() {
	if n := l.held + l.text; n > 0 {
		_ = l.e.hold(-n) // less, which cannot fail
	}
}
