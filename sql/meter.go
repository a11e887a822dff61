package sql

import "time"

// A meter counts what the parts of a plan do while it runs, for EXPLAIN ANALYZE. A part is whatever of the plan does
// it: a selectPlan, an access, a joinStep. Rows are pushed from part to part, so that one part is at work at any moment:
// the clock runs for that one.
type meter struct {
	timing  bool
	parts   map[any]*measured
	current *measured // the part at work; nil: none of them
	since   time.Time // when it began, or went on

	began time.Time
	ran   time.Duration // the whole statement, but for its commit
}

// A measured is what one part has done.
type measured struct {
	loops   int64
	rows    int64         // that it has given on
	removed int64         // that did not pass its filter, or the condition of its join
	dropped int64         // that did not pass what WHERE asks after a left join
	taken   time.Duration // without the parts below it
	startup time.Duration // from its beginning to its first row, all loops together
	began   time.Time     // of the present loop
	waiting bool          // for the first row of it
}

func newMeter(timing bool) *meter { return &meter{timing: timing, parts: map[any]*measured{}} }

// restart forgets everything: the statement is run again after a conflict.
func (m *meter) restart() {
	if m != nil {
		m.parts, m.current = map[any]*measured{}, nil
	}
}

// start and stop measure the whole statement.
func (m *meter) start() {
	if m != nil {
		m.began = time.Now()
	}
}

func (m *meter) stop() {
	if m != nil {
		m.ran = time.Since(m.began)
	}
}

// part is what is known of a part of the plan.
func (m *meter) part(key any) *measured {
	p := m.parts[key]
	if p == nil {
		p = &measured{}
		m.parts[key] = p
	}
	return p
}

// enter lets the clock run for another part, and returns the one that was at work. A nil meter does nothing.
func (m *meter) enter(p *measured) (before *measured) {
	if m == nil {
		return nil
	}
	before = m.current
	if m.timing {
		now := time.Now()
		if before != nil {
			before.taken += now.Sub(m.since)
		}
		m.since = now
	}
	m.current = p
	return before
}

// begin begins a loop of a part.
func (m *meter) begin(key any) (p, before *measured) {
	if m == nil {
		return nil, nil
	}
	p = m.part(key)
	p.loops++
	before = m.enter(p)
	p.began, p.waiting = m.since, true
	return p, before
}

// end ends a loop that begin has begun.
func (m *meter) end(p, before *measured) {
	if m == nil {
		return
	}
	m.enter(before)
	p.first(m)
}

// first notes the first row of a loop, or its end.
func (p *measured) first(m *meter) {
	if p.waiting && m.timing {
		p.startup += time.Since(p.began)
	}
	p.waiting = false
}

// count counts rows that a part gives on.
func (m *meter) count(p *measured, rows int64) {
	if m != nil && rows > 0 {
		p.first(m)
		p.rows += rows
	}
}

// given counts rows that a part has at once.
func (m *meter) given(key any, rows int) {
	if m == nil {
		return
	}
	p, before := m.begin(key)
	m.count(p, int64(rows))
	m.end(p, before)
}

// remove counts a row that has not passed the filter of a part.
func (m *meter) remove(key any) {
	if m != nil {
		m.part(key).removed++
	}
}

// drop counts a row of a join that WHERE drops.
func (m *meter) drop(key any, left bool) {
	switch {
	case m == nil:
	case left:
		m.part(key).dropped++
	default:
		m.part(key).removed++
	}
}

// A countedTaker counts the rows of a scan, which runs as p, before others take them.
type countedTaker struct {
	rowTaker
	m         *meter
	p, before *measured
}

func (t *countedTaker) take() (more bool, err error) {
	t.m.count(t.p, 1)
	t.m.enter(t.before)
	more, err = t.rowTaker.take()
	t.m.enter(t.p)
	return more, err
}

// runMetered runs a SELECT that is measured. Its work on the rows counts for the lowest of its stages.
func (s *selection) runMetered(m *meter, txn Txn) error {
	p, offset := s.plan, s.offset
	names := p.stages()
	for _, name := range names {
		part := m.part(stage{p, name})
		part.loops++
		part.began, part.waiting = time.Now(), true
		s.stages = append(s.stages, part)
	}
	parts := s.stages
	before := m.enter(m.part(p.worker(names)))
	err := s.work(txn)
	m.enter(before)
	skipped := offset - s.offset
	if p.order != nil {
		skipped = min(offset, int64(len(s.sorted)))
	}
	for i, name := range names {
		switch name {
		case "Result": // it is counted as it is
		case "first row":
			m.count(parts[i], m.part(p.kv).rows)
		case "Aggregate":
			m.count(parts[i], s.results)
		case "Limit":
			m.count(parts[i], s.sent)
		default:
			m.count(parts[i], s.sent+skipped)
		}
		parts[i].first(m)
	}
	return err
}

// stages are what the plan does with rows, from the source to the result.
func (p *selectPlan) stages() (names []string) {
	for _, each := range []struct {
		name string
		is   bool
	}{
		{"Result", p.kv == nil && p.from == nil}, {"first row", p.firstOnly},
		{"Aggregate", p.group != nil || len(p.aggregates) > 0}, {"ProjectSet", len(p.sets) > 0}, {"WindowAgg", len(p.windows) > 0},
		{"Sort", p.order != nil}, {"Limit", p.limit != nil || p.offset != nil},
	} {
		if each.is {
			names = append(names, each.name)
		}
	}
	return names
}

// worker is the part that does what is done with the rows.
func (p *selectPlan) worker(names []string) any {
	switch {
	case len(names) > 0:
		return stage{p, names[0]}
	case p.kv != nil:
		return p.kv
	}
	return p.from.top()
}

// firstRow notes the first row of the result.
func (s *selection) firstRow() {
	m := s.e.session.meter
	for _, p := range s.stages {
		p.first(m)
	}
	s.stages = nil
}

// runMetered runs a join that is measured: the time between two rows is that of the join.
func (j *joiner) runMetered() error {
	top, caller := j.m.part(j.plan.top()), j.m.current
	for i := range j.plan.steps[1:] {
		p := j.m.part(j.plan.part(i + 1))
		p.loops++
		p.began, p.waiting = time.Now(), true
	}
	take := j.take
	j.take = func() (bool, error) {
		j.m.enter(caller)
		defer j.m.enter(top)
		return take()
	}
	j.m.enter(top)
	_, err := j.step(0)
	j.m.enter(caller)
	return err
}

// nextMetered counts a row of a step before it goes on to the next.
func (j *joiner) nextMetered(i int) (more bool, err error) {
	if i > 0 || j.plan.steps[0].kv == nil { // which counts for itself
		j.m.count(j.m.part(j.plan.part(i)), 1)
	}
	return j.step(i + 1)
}
