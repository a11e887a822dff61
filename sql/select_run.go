package sql

import (
	"math"
	"slices"

	"github.com/longship-db/longship/pgwire"
)

// A selection is one run of a SELECT. Rows go through emit one by one; what must wait for the last
// row (a sort, aggregates) collects them first.
type selection struct {
	plan   *selectPlan
	e      *env
	out    *encoder
	rows   *[][]Value // where rows go instead of to the client, in a subquery
	offset int64      // rows still to be skipped
	limit  int64      // rows still to be sent
	sent   int64
	sorted []sortedRow
	keep   int64 // rows the sort has to keep

	numbered []*numberedRow
	sums     []tally
}

type sortedRow struct {
	keys []Value
	outs []Value
}

// run sends the statement's rows and returns how many. txn is nil unless the table is read.
func (p *selectPlan) run(e *env, txn Txn, out *encoder) (int64, error) {
	offset, limit, err := p.window(e)
	if err != nil {
		return 0, err
	}
	s := &e.session.selection
	*s = selection{plan: p, e: e, out: out, offset: offset, limit: limit, sorted: s.sorted[:0], sums: s.sums[:0]}
	err = s.run(txn)
	clear(s.sorted)
	return s.sent, err
}

// collect returns the rows of a subquery.
func (p *selectPlan) collect(e *env) ([][]Value, error) {
	offset, limit, err := p.window(e)
	if err != nil {
		return nil, err
	}
	var rows [][]Value
	s := &selection{plan: p, e: e, rows: &rows, offset: offset, limit: limit}
	return rows, s.run(nil)
}

func (s *selection) run(txn Txn) error {
	if s.keep = s.offset + s.limit; s.keep < 0 {
		s.keep = math.MaxInt64
	}
	for i := range s.plan.aggregates {
		s.sums = append(s.sums, s.plan.aggregates[i].start())
	}
	if s.limit > 0 {
		if err := s.scan(txn); err != nil {
			return err
		}
	}
	return s.finish()
}

// scan feeds the rows of the source to take.
func (s *selection) scan(txn Txn) error {
	p, e := s.plan, s.e
	switch {
	case p.kv != nil:
		return p.kv.rows(e, txn, s)
	case p.from != nil:
		return p.from.scan(e, s.take)
	}
	_, err := s.takeIf(p.filter)
	return err
}

// takeIf takes the row if it passes the filter. more is false when no further row is wanted.
func (s *selection) takeIf(filter expr) (more bool, err error) {
	if wanted, err := passes(filter, s.e); err != nil || !wanted {
		return true, err
	}
	return s.take()
}

// take takes the row in s.e.
func (s *selection) take() (more bool, err error) {
	switch {
	case len(s.plan.aggregates) > 0:
		for i := range s.plan.aggregates {
			if err := s.plan.aggregates[i].add(&s.sums[i], s.e); err != nil {
				return false, err
			}
		}
		return true, nil
	case s.plan.order != nil:
		return true, s.collect()
	case len(s.plan.sets) > 0:
		return s.emitSets()
	case len(s.plan.windows) > 0:
		return true, s.collectRow()
	}
	return s.emit()
}

// emitSets emits a row for each element of the longest set among the functions of the select list; the
// others end in NULLs.
func (s *selection) emitSets() (more bool, err error) {
	sets := make([][][]Value, len(s.plan.sets))
	n := 0
	for i, call := range s.plan.sets {
		if sets[i], err = call.tuples(s.e); err != nil {
			return false, err
		}
		n = max(n, len(sets[i]))
	}
	s.e.set = make([]Value, len(sets))
	for k := range n {
		for i, rows := range sets {
			if s.e.set[i] = Null; k < len(rows) {
				s.e.set[i] = rows[k][0]
			}
		}
		if more, err := s.emit(); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// emit sends the row in s.e, within OFFSET and LIMIT.
func (s *selection) emit() (more bool, err error) {
	if s.offset > 0 {
		s.offset--
		return true, nil
	}
	if s.rows != nil {
		err = s.keepRow()
	} else {
		err = s.encodeRow()
	}
	s.sent++
	s.limit--
	return s.limit > 0, err
}

// encodeRow sends the row in s.e to the client.
func (s *selection) encodeRow() error {
	s.out.begin()
	for _, o := range s.plan.outs {
		v, err := o.x.eval(s.e)
		if err != nil {
			return err
		}
		s.out.add(v)
	}
	return s.out.send()
}

// keepRow adds the row in s.e to those of a subquery.
func (s *selection) keepRow() error {
	row := make([]Value, len(s.plan.outs))
	for i, o := range s.plan.outs {
		var err error
		if row[i], err = o.x.eval(s.e); err != nil {
			return err
		}
	}
	return s.addRow(row)
}

func (s *selection) addRow(row []Value) error {
	if *s.rows = append(*s.rows, row); len(*s.rows) > maxDerivedRows {
		return tooManyRows()
	}
	return nil
}

// collect keeps the row in s.e for the sort. With a LIMIT only about twice as many rows as wanted
// are held at any time.
func (s *selection) collect() error {
	row := sortedRow{make([]Value, len(s.plan.order)), make([]Value, len(s.plan.outs))}
	for i, key := range s.plan.order {
		v, err := key.x.eval(s.e)
		if err != nil {
			return err
		}
		row.keys[i] = v.clone()
	}
	for i, o := range s.plan.outs {
		v, err := o.x.eval(s.e)
		if err != nil {
			return err
		}
		row.outs[i] = v.clone()
	}
	if s.sorted = append(s.sorted, row); s.plan.from != nil && len(s.sorted) > maxDerivedRows {
		return tooManyRows()
	}
	const slack = 1024
	if n := int64(len(s.sorted)); n > slack && n/2 > s.keep {
		s.sort()
		clear(s.sorted[s.keep:])
		s.sorted = s.sorted[:s.keep]
	}
	return nil
}

func (s *selection) sort() {
	slices.SortStableFunc(s.sorted, func(a, b sortedRow) int {
		for i, key := range s.plan.order {
			if c := key.compare(a.keys[i], b.keys[i]); c != 0 {
				return c
			}
		}
		return 0
	})
}

func (k *sortKey) compare(a, b Value) int {
	switch {
	case a.IsNull() && b.IsNull():
		return 0
	case a.IsNull() == k.nullsFirst && a.IsNull() != b.IsNull():
		return -1
	case a.IsNull() || b.IsNull():
		return 1
	case k.desc:
		return compareValues(b, a)
	}
	return compareValues(a, b)
}

// finish sends what had to wait for the last row.
func (s *selection) finish() error {
	if len(s.plan.aggregates) > 0 {
		if s.limit == 0 {
			return nil
		}
		s.e.aggs = make([]Value, len(s.sums))
		for i := range s.sums {
			var err error
			if s.e.aggs[i], err = s.plan.aggregates[i].result(&s.sums[i], s.e); err != nil {
				return err
			}
		}
		_, err := s.emit()
		return err
	}
	if s.limit > 0 && len(s.plan.windows) > 0 {
		return s.emitNumbered()
	}
	if s.plan.order == nil {
		return nil
	}
	s.sort()
	for i, row := range s.sorted {
		if int64(i) < s.offset || s.limit == 0 {
			continue
		}
		if err := s.sendSorted(row.outs); err != nil {
			return err
		}
		s.sent++
		s.limit--
	}
	return nil
}

func (s *selection) sendSorted(outs []Value) error {
	if s.rows != nil {
		return s.addRow(outs)
	}
	s.out.begin()
	for _, v := range outs {
		s.out.add(v)
	}
	return s.out.send()
}

// A rowTaker is given the rows of a scan, one by one in env.row, until it wants no more.
type rowTaker interface {
	take() (more bool, err error)
}

// rows feeds the rows of kv that the condition selects to t.
func (a *access) rows(e *env, txn Txn, t rowTaker) error {
	if a.points != nil {
		return a.pointRows(e, txn, t)
	}
	return a.scanRows(e, txn, t)
}

func (a *access) scanRows(e *env, txn Txn, t rowTaker) error {
	r, ok, err := a.keyRange(e)
	if err != nil || !ok {
		return err
	}
	for row, err := range txn.Scan(e.ctx, r) {
		if err != nil {
			return err
		}
		e.row = row
		if more, err := a.takeIf(e, t); err != nil || !more {
			return err
		}
	}
	return nil
}

func (a *access) pointRows(e *env, txn Txn, t rowTaker) error {
	keys, err := a.keys(e, e.session.keys[:0])
	if err != nil {
		return err
	}
	e.session.keys = keys
	for _, key := range keys {
		if key == "" || len(key) > MaxKeyLen {
			continue // no such row can exist
		}
		row, found, err := txn.Get(e.ctx, key)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		e.row = row
		if more, err := a.takeIf(e, t); err != nil || !more {
			return err
		}
	}
	return nil
}

func (a *access) takeIf(e *env, t rowTaker) (bool, error) {
	if wanted, err := passes(a.filter, e); err != nil || !wanted {
		return true, err
	}
	return t.take()
}

// An encoder turns values into the bytes of one row after the other, reusing its memory.
type encoder struct {
	sink    pgwire.RowSink
	session *Session
	formats []int16
	values  [][]byte
	buf     []byte
	spans   []span
}

// A span is where a value lies in buf, or the value itself if it needed no encoding.
type span struct {
	start, end int
	direct     []byte
	null       bool
}

// encoderKeep is the largest buffer that is kept for the next statement, in bytes.
const encoderKeep = 4 << 10

func (c *encoder) forget() {
	c.sink = nil
	clear(c.values)
	clear(c.spans)
	if cap(c.buf) > encoderKeep {
		c.buf = nil
	}
}

func (c *encoder) begin() {
	c.buf, c.spans = c.buf[:0], c.spans[:0]
}

// add encodes the next value of the row.
func (c *encoder) add(v Value) {
	if v.IsNull() {
		c.spans = append(c.spans, span{null: true})
		return
	}
	switch v.typ {
	case Text, Name, Varchar, Char:
		c.spans = append(c.spans, span{direct: bytesOf(v.s)})
		return
	}
	start := len(c.buf)
	if pgwire.Format(c.formats, len(c.spans)) == binaryFormat {
		c.buf = appendBinary(c.buf, v)
	} else {
		c.buf = appendText(c.buf, v, c.session.settings.location())
	}
	c.spans = append(c.spans, span{start: start, end: len(c.buf)})
}

// send hands the row to the client.
func (c *encoder) send() error {
	c.values = c.values[:0]
	for _, s := range c.spans {
		switch {
		case s.null:
			c.values = append(c.values, nil)
		case s.direct != nil:
			c.values = append(c.values, s.direct)
		default:
			c.values = append(c.values, c.buf[s.start:s.end:s.end])
		}
	}
	return c.sink.Row(c.values)
}

const binaryFormat = 1
