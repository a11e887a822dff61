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
	offset int64 // rows still to be skipped
	limit  int64 // rows still to be sent
	sent   int64
	sorted []sortedRow
	keep   int64 // rows the sort has to keep
	sums   []Value
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
	if s.keep = offset + limit; s.keep < 0 {
		s.keep = math.MaxInt64
	}
	for i := range p.aggregates {
		s.sums = append(s.sums, p.aggregates[i].start())
	}
	if limit > 0 {
		if err := s.scan(txn); err != nil {
			return 0, err
		}
	}
	err = s.finish()
	clear(s.sorted)
	return s.sent, err
}

// scan feeds the rows of the source to take.
func (s *selection) scan(txn Txn) error {
	p, e := s.plan, s.e
	switch {
	case p.kv != nil:
		return p.kv.rows(e, txn, s)
	case p.view != nil:
		return s.scanView()
	case p.call != nil:
		return s.scanCall()
	}
	_, err := s.takeIf(p.filter)
	return err
}

func (s *selection) scanView() error {
	var rows [][]Value
	var err error
	if view := s.plan.view; view.session != nil {
		rows = view.session(s.e.session)
	} else if rows, err = view.rows(s.e.ctx); err != nil {
		return err
	}
	for _, row := range rows {
		s.e.tuple = row
		if more, err := s.takeIf(s.plan.filter); err != nil || !more {
			return err
		}
	}
	return nil
}

func (s *selection) scanCall() error {
	call := s.plan.call
	if call.fn.Row == nil {
		v, err := call.eval(s.e)
		if err != nil {
			return err
		}
		s.e.tuple = []Value{v}
	} else {
		args, null, err := call.evalArgs(s.e)
		if err != nil {
			return err
		}
		s.e.tuple = make([]Value, len(call.fn.Columns))
		if !null {
			if s.e.tuple, err = call.fn.Row(s.e.ctx, s.e.session.backend, args); err != nil {
				return err
			}
		}
	}
	_, err := s.takeIf(s.plan.filter)
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
			if s.sums[i], err = s.plan.aggregates[i].add(s.sums[i], s.e); err != nil {
				return false, err
			}
		}
		return true, nil
	case s.plan.order != nil:
		return true, s.collect()
	}
	return s.emit()
}

// emit sends the row in s.e, within OFFSET and LIMIT.
func (s *selection) emit() (more bool, err error) {
	if s.offset > 0 {
		s.offset--
		return true, nil
	}
	s.out.begin()
	for _, o := range s.plan.outs {
		v, err := o.x.eval(s.e)
		if err != nil {
			return false, err
		}
		s.out.add(v)
	}
	if err := s.out.send(); err != nil {
		return false, err
	}
	s.sent++
	s.limit--
	return s.limit > 0, nil
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
	s.sorted = append(s.sorted, row)
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
		s.e.aggs = s.sums
		_, err := s.emit()
		return err
	}
	if s.plan.order == nil {
		return nil
	}
	s.sort()
	for i, row := range s.sorted {
		if int64(i) < s.offset || s.limit == 0 {
			continue
		}
		s.out.begin()
		for _, v := range row.outs {
			s.out.add(v)
		}
		if err := s.out.send(); err != nil {
			return err
		}
		s.sent++
		s.limit--
	}
	return nil
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
	case Text, Name, Varchar:
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
