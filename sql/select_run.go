package sql

import (
	"math"
	"slices"
)

// A selection is one run of a SELECT. Rows go through emit one by one; what must wait for the last
// row (a sort, aggregates) collects them first.
type selection struct {
	plan   *selectPlan
	e      *env
	out    *encoder
	rows   *[][]Value // where rows go instead of to the client, in a subquery
	row    []Value    // of a cursor, where rows are asked for one by one
	offset int64      // rows still to be skipped
	limit  int64      // rows still to be sent
	sent   int64
	sorted []sortedRow
	keep   int64 // rows the sort has to keep

	stages  []*measured // of EXPLAIN ANALYZE, that wait for the first row
	results int64       // groups, or the one row of an aggregate

	numbered []*numberedRow
	sums     []tally
	groups   groups
}

type sortedRow struct {
	keys []Value
	outs []Value
}

// run sends the statement's rows to s.out, or its cursor, and returns how many. txn is nil unless the table is read.
func (p *selectPlan) run(e *env, s *selection, txn Txn) (int64, error) {
	offset, limit, err := p.window(e)
	if err != nil {
		return 0, err
	}
	*s = selection{plan: p, e: e, out: s.out, offset: offset, limit: limit}
	err = s.run(txn)
	return s.sent, err
}

// collect returns the rows of a subquery. What it reads of kv is part of the session's transaction.
func (p *selectPlan) collect(e *env) ([][]Value, error) {
	offset, limit, err := p.window(e)
	if err != nil {
		return nil, err
	}
	var rows [][]Value
	s := &selection{plan: p, e: e, rows: &rows, offset: offset, limit: limit}
	return rows, s.run(e.session.txn)
}

func (s *selection) run(txn Txn) error {
	if m := s.e.session.meter; m != nil {
		return s.runMetered(m, txn)
	}
	return s.work(txn)
}

func (s *selection) work(txn Txn) error {
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
	if err := s.e.cursor.begin(); err != nil {
		return err
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
	if m := s.e.session.meter; m != nil {
		m.count(m.part(stage{s.plan, "Result"}), 1)
	}
	return s.take()
}

// take takes the row in s.e.
func (s *selection) take() (more bool, err error) {
	switch {
	case s.plan.group != nil:
		return true, s.takeGrouped()
	case len(s.plan.aggregates) > 0:
		for i := range s.plan.aggregates {
			if err := s.plan.aggregates[i].add(&s.sums[i], s.e); err != nil {
				return false, err
			}
		}
		return !s.plan.firstOnly, nil
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
	if s.stages != nil {
		s.firstRow()
	}
	if s.offset > 0 {
		s.offset--
		return true, nil
	}
	switch {
	case s.rows != nil:
		err = s.keepRow()
	case s.e.cursor != nil:
		err = s.giveRow()
	default:
		err = s.encodeRow()
	}
	s.sent++
	s.limit--
	return s.limit > 0, err
}

// encodeRow sends the row in s.e to the client.
func (s *selection) encodeRow() error {
	s.out.begin()
	row := unfinished{e: s.e}
	for _, o := range s.plan.outs {
		v, err := row.value(o.x)
		if err != nil {
			return err
		}
		s.out.add(v)
	}
	row.done()
	return s.out.send()
}

// giveRow gives the row in s.e to the cursor.
func (s *selection) giveRow() error {
	s.row = s.row[:0]
	row := unfinished{e: s.e}
	for _, o := range s.plan.outs {
		v, err := row.value(o.x)
		if err != nil {
			return err
		}
		s.row = append(s.row, v)
	}
	row.done()
	return s.e.cursor.give(s.row)
}

// keepRow adds the row in s.e to those of a subquery.
func (s *selection) keepRow() error {
	row, making := make([]Value, len(s.plan.outs)), unfinished{e: s.e}
	for i, o := range s.plan.outs {
		var err error
		if row[i], err = making.value(o.x); err != nil {
			return err
		}
		if s.plan.borrows() { // the row's memory is not ours for long
			row[i] = row[i].clone()
		}
	}
	making.done()
	return s.addRow(row)
}

// borrows reports whether rows have memory that is not theirs for long.
func (p *selectPlan) borrows() bool { return p.kv != nil || p.from != nil && p.from.readsKV }

// keptTuple is the tuple of the row in s.e, to be kept.
func (s *selection) keptTuple() []Value {
	tuple := slices.Clone(s.e.tuple)
	for i := range tuple {
		if s.plan.borrows() {
			tuple[i] = tuple[i].clone()
		}
	}
	return tuple
}

func (s *selection) addRow(row []Value) error {
	if *s.rows = append(*s.rows, row); len(*s.rows) > maxDerivedRows {
		return tooManyRows()
	}
	return s.e.hold(rowSize + valuesSize(row))
}

// collect keeps the row in s.e for the sort. With a LIMIT only about twice as many rows as wanted
// are held at any time, or as many as sortSlack and sortSlackBytes allow.
func (s *selection) collect() error {
	row := sortedRow{make([]Value, len(s.plan.order)), make([]Value, len(s.plan.outs))}
	making := unfinished{e: s.e}
	for i, key := range s.plan.order {
		v, err := making.value(key.x)
		if err != nil {
			return err
		}
		row.keys[i] = v.clone()
	}
	for i, o := range s.plan.outs {
		v, err := making.value(o.x)
		if err != nil {
			return err
		}
		row.outs[i] = v.clone()
	}
	making.done()
	if s.sorted = append(s.sorted, row); s.plan.from != nil && len(s.sorted) > maxDerivedRows {
		return tooManyRows()
	}
	if n := int64(len(s.sorted)); n/2 > s.keep && (n > sortSlack || s.e.held() > sortSlackBytes) {
		if err := s.drop(); err != nil {
			return err
		}
	}
	return s.e.hold(row.size())
}

// How many rows a sort may hold, and how many bytes a statement, however few of them are wanted, before the sort drops
// the others.
const (
	sortSlack      = 1024
	sortSlackBytes = 1 << 20
)

// drop sorts the rows so far and lets go of those that cannot be sent any more.
func (s *selection) drop() error {
	if err := s.sort(); err != nil {
		return err
	}
	dropped := s.sorted[s.keep:]
	size := 0
	for i := range dropped {
		size += dropped[i].size()
	}
	clear(dropped)
	s.sorted = s.sorted[:s.keep]
	return s.e.hold(-size)
}

// size is about how much memory the row takes, in bytes.
func (r *sortedRow) size() int { return rowSize + valuesSize(r.keys) + valuesSize(r.outs) }

func (s *selection) sort() error { return sortRows(&s.e.session.pace, s.sorted, s.plan.order) }

// sortRows puts rows in the order of their keys.
func sortRows(pace *pacer, rows []sortedRow, order []sortKey) error {
	return sortPaced(pace, rows, func(a, b sortedRow) int { return compareKeys(order, a.keys, b.keys) })
}

func compareKeys(order []sortKey, a, b []Value) int {
	for i, key := range order {
		if c := key.compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
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
	if s.plan.group != nil {
		if more, err := s.emitGroups(); err != nil || !more {
			return err
		}
	} else if len(s.plan.aggregates) > 0 {
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
		s.results++
		_, err := s.emit()
		return err
	}
	if s.limit > 0 && len(s.plan.windows) > 0 {
		return s.emitNumbered()
	}
	if s.plan.order == nil {
		return nil
	}
	if err := s.sort(); err != nil {
		return err
	}
	for i, row := range s.sorted {
		if err := s.e.step(rowCost); err != nil {
			return err
		}
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
	if s.stages != nil {
		s.firstRow()
	}
	switch {
	case s.rows != nil:
		return s.addRow(outs)
	case s.e.cursor != nil:
		return s.e.cursor.give(outs)
	}
	return s.out.sendRow(outs)
}

// A rowTaker is given the rows of a scan, one by one in env.row, until it wants no more.
type rowTaker interface {
	take() (more bool, err error)
}

// rows feeds the rows of kv that the condition selects to t.
func (a *access) rows(e *env, txn Txn, t rowTaker) error {
	m := e.session.meter
	if m == nil {
		return a.read(e, txn, t)
	}
	p, before := m.begin(a)
	defer m.end(p, before)
	return a.read(e, txn, &countedTaker{t, m, p, before})
}

func (a *access) read(e *env, txn Txn, t rowTaker) error {
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
	scans, rows := &e.session.counts.seqScans, &e.session.counts.seqRows
	if !r.Unbounded || r.Lo != "" {
		scans, rows = &e.session.counts.indexScans, &e.session.counts.indexRows
	}
	*scans++
	for row, err := range txn.Scan(e.ctx, r) {
		if err != nil {
			return err
		}
		*rows++
		if err := e.cursor.begin(); err != nil {
			return err
		}
		e.row = row
		if more, err := a.takeIf(e, t); err != nil || !more {
			return err
		}
	}
	return e.session.holdReads()
}

func (a *access) pointRows(e *env, txn Txn, t rowTaker) error {
	list := keyList{e: e}
	defer list.done()
	if !a.beside(e) { // whoever runs beside others has keys of its own
		list.keys = e.session.keys[:0]
	}
	if err := a.keys(&list); err != nil {
		return err
	}
	if !a.beside(e) {
		e.session.keys = list.keys
	}
	var rows []Row // of a cursor, which gets them all before the transaction writes any of them
	for _, key := range list.keys {
		if key == "" || len(key) > MaxKeyLen {
			continue // no such row can exist
		}
		if err := e.step(rowCost); err != nil {
			return err
		}
		row, found, err := txn.Get(e.ctx, key)
		if err == nil {
			err = e.session.holdReads()
		}
		if err != nil {
			return err
		}
		e.session.counts.indexScans++
		if !found {
			continue
		}
		e.session.counts.indexRows++
		if e.cursor != nil && !a.joined { // what is joined is read as a whole, see gather
			rows = append(rows, row)
			if err := e.cursor.hold(len(row.Key) + len(row.Value) + 3*valueSize); err != nil {
				return err
			}
			continue
		}
		e.row = row
		if more, err := a.takeIf(e, t); err != nil || !more {
			return err
		}
	}
	return a.takeKept(e, rows, t)
}

// takeKept goes through the rows that a cursor has looked up.
func (a *access) takeKept(e *env, rows []Row, t rowTaker) error {
	if err := e.cursor.begin(); err != nil {
		return err
	}
	for _, row := range rows {
		e.row = row
		if more, err := a.takeIf(e, t); err != nil || !more {
			return err
		}
	}
	return nil
}

func (a *access) takeIf(e *env, t rowTaker) (bool, error) {
	if a.joined {
		for i := range kvColumns {
			e.tuple[a.offset+i] = rowValue(&e.row, i)
		}
	}
	if wanted, err := passes(a.filter, e); err != nil || !wanted {
		e.session.meter.remove(a)
		return true, err
	}
	return t.take()
}
