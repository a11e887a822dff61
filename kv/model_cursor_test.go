package kv

import (
	"iter"
	"maps"
	"slices"

	"pgregory.net/rapid"
)

// A modelCursor is a scan that stays open while other things happen.
type modelCursor struct {
	x     *modelTxn
	sees  modelTxn // with the writes as they were when it began
	whole Range
	left  Range
	next  func() (Row, error, bool)
	stop  func()
}

// cursor opens one, with its first row.
func (m *model) cursor(t *rapid.T) {
	x := m.pick(t)
	r := Range{Lo: modelKeys.Draw(t, "lo"), Hi: modelKeys.Draw(t, "hi"), Unbounded: rapid.Bool().Draw(t, "unbounded")}
	m.open(x)
	c := &modelCursor{x: x, sees: modelTxn{opts: x.opts, writes: maps.Clone(x.writes)}, whole: r, left: r}
	c.next, c.stop = iter.Pull2(x.tx.Scan(m.x.t.Context(), r))
	x.cursors = append(x.cursors, c)
	m.step(t, c)
}

func (m *model) fetch(t *rapid.T) {
	x := m.pick(t)
	if len(x.cursors) == 0 {
		t.Skip("no cursor")
	}
	c := x.cursors[rapid.IntRange(0, len(x.cursors)-1).Draw(t, "cursor")]
	if rapid.IntRange(0, 9).Draw(t, "close") == 0 {
		c.close()
		return
	}
	m.step(t, c)
}

// step takes one row.
func (m *model) step(t *rapid.T, c *modelCursor) {
	want, ok := "", false
	rows := m.rowsAt(c.x.at)
	keys := slices.Concat(slices.Collect(maps.Keys(rows)), slices.Collect(maps.Keys(c.sees.writes)))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if ok || key < c.left.Lo || !c.left.Unbounded && key >= c.left.Hi {
			continue
		}
		var row Row
		if row, ok = c.sees.read(rows, key); ok {
			want = key + " " + describe(row)
			c.left.Lo = key + "\x00"
		}
	}
	c.x.seen = max(c.x.seen, c.sees.seen)
	row, err, more := c.next()
	got := ""
	if more {
		got = row.Key + " " + describe(row)
	}
	if err != nil || got != want {
		t.Errorf("a cursor on %+v gives %q, %v, want %q", c.whole, got, err, want)
	}
	if !more {
		c.left.Lo = c.whole.Hi
		c.end(c.whole)
	}
}

func (c *modelCursor) close() { c.end(Range{Lo: c.whole.Lo, Hi: c.left.Lo}) }

// end closes the cursor, which has read so far.
func (c *modelCursor) end(read Range) {
	c.stop()
	c.x.ranges = append(c.x.ranges, read)
	c.x.cursors = slices.DeleteFunc(c.x.cursors, func(x *modelCursor) bool { return x == c })
}

// changeRole puts another table in the place of the one that there is, as a promotion does. What reads applied commits
// alone goes on, as it can on a standby; other transactions end.
func (m *model) changeRole(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "often enough") > 0 {
		t.Skip("not so often")
	}
	for _, x := range slices.Clone(m.ts) {
		if !x.opened || len(x.writes) > 0 || x.at > m.x.store.Applied() {
			m.drop(x)
			x.tx.Rollback()
		}
		x.outlived = true
	}
	m.x.Close()
	m.x.Table = NewTable(m.x.store, m.x.log, m.x.horizon, TableOptions{})
	for _, c := range m.x.log.since(m.x.store.Applied()) {
		if err := m.x.Recover(c.end, c.commit.Ops); err != nil {
			t.Error(err)
		}
	}
}
