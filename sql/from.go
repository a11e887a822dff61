package sql

import (
	"github.com/longship-db/longship/pgwire"
)

// Queries of views, functions and subqueries, joined or not: the catalog queries of drivers and of psql.
// All of these are small, so relations are joined by nested loops over rows in memory.

// A source is what FROM can name besides kv.
type source interface {
	tuples(e *env) ([][]Value, error)
}

// A fromPlan is FROM with JOIN and WHERE: its relations from left to right, and what each must fulfil.
type fromPlan struct {
	steps []joinStep
	width int // columns of all relations
}

type joinStep struct {
	source        source
	table         string // what it is called
	lateral       bool   // depends on the row so far
	left          bool   // LEFT JOIN: a row of NULLs stands in if none matches
	on            expr   // nil: all match
	where         []expr // parts of WHERE that can be decided here
	offset, width int
}

// maxDerivedRows bounds what a query that joins, or that is part of another, may hold.
const maxDerivedRows = 1 << 20

func tooManyRows() error {
	return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "too many rows in a join or subquery").
		WithDetail("At most %d rows can be joined, sorted or compared.", maxDerivedRows)
}

// A joiner is one run of a fromPlan.
type joiner struct {
	plan *fromPlan
	e    *env
	rows [][][]Value // of each step that is not lateral
	take func() (more bool, err error)
	seen int
	m    *meter
}

// top is the last of the parts that a meter measures.
func (p *fromPlan) top() any {
	return p.part(len(p.steps) - 1)
}

// part is what a meter knows of the rows up to a step: of the join, or of the first relation.
func (p *fromPlan) part(i int) any {
	if i > 0 {
		return joinPart{&p.steps[i]}
	}
	return &p.steps[0]
}

// scan sets e.tuple to each row of the join and calls take, until that wants no more.
func (p *fromPlan) scan(e *env, take func() (more bool, err error)) error {
	e.tuple = make([]Value, p.width)
	j := &joiner{plan: p, e: e, rows: make([][][]Value, len(p.steps)), take: take, m: e.session.meter}
	if j.m != nil {
		return j.runMetered()
	}
	_, err := j.step(0)
	return err
}

func (j *joiner) step(i int) (more bool, err error) {
	if i == len(j.plan.steps) {
		return j.take()
	}
	step := &j.plan.steps[i]
	rows := j.rows[i]
	if rows == nil || step.lateral {
		if rows, err = j.read(i, step); err != nil {
			return false, err
		}
		if !step.lateral {
			if err := j.e.hold(len(rows) * (rowSize + step.width*valueSize)); err != nil {
				return false, err
			}
		}
		j.rows[i] = rows
	}
	if !step.lateral && i > 0 {
		j.m.given(keptPart{step}, len(rows))
	}
	matched := false
	for _, row := range rows {
		if err := j.interrupted(); err != nil {
			return false, err
		}
		copy(j.e.tuple[step.offset:], row)
		ok, err := passes(step.on, j.e)
		if err != nil {
			return false, err
		}
		if !ok {
			j.m.remove(j.plan.part(i))
			continue
		}
		matched = true
		if more, err := j.next(i); err != nil || !more {
			return false, err
		}
	}
	if matched || !step.left {
		return true, nil
	}
	clear(j.e.tuple[step.offset : step.offset+step.width])
	return j.next(i)
}

// next goes on to the next relation if the row so far may become one of the result.
func (j *joiner) next(i int) (more bool, err error) {
	for _, cond := range j.plan.steps[i].where {
		if ok, err := passes(cond, j.e); err != nil || !ok {
			j.m.drop(j.plan.part(i), i > 0 && j.plan.steps[i].left)
			return err == nil, err
		}
	}
	if j.m == nil {
		return j.step(i + 1)
	}
	return j.nextMetered(i)
}

// read reads the rows of a relation.
func (j *joiner) read(i int, step *joinStep) ([][]Value, error) {
	p, before := j.m.begin(step)
	rows, err := step.source.tuples(j.e)
	if i > 0 { // those of the first are counted when they have passed its filter
		j.m.count(p, int64(len(rows)))
	}
	j.m.end(p, before)
	return rows, err
}

// interrupted tells, now and then, that the statement has been cancelled.
func (j *joiner) interrupted() error {
	if j.seen++; j.seen%1024 != 0 {
		return nil
	}
	return j.e.ctx.Err()
}

// tuples are the rows of a view.
func (v *view) tuples(e *env) ([][]Value, error) {
	return v.rows(e.ctx, e.session)
}

// tuples are the rows of a function in FROM.
func (x *callExpr) tuples(e *env) ([][]Value, error) {
	making := unfinished{e: e}
	defer making.done()
	if x.fn.set != nil {
		args, null, err := x.evalArgs(&making)
		if err == nil {
			err = making.hold(argsSize(args))
		}
		if err != nil || null {
			return nil, err
		}
		return x.fn.set(e, args)
	}
	if x.fn.Row == nil {
		v, err := x.eval(e)
		return [][]Value{{v}}, err
	}
	args, null, err := x.evalArgs(&making)
	if err != nil {
		return nil, err
	}
	if null {
		return [][]Value{make([]Value, len(x.fn.Columns))}, nil
	}
	row, err := x.fn.Row(e.ctx, e.session.backend, args)
	return [][]Value{row}, err
}

// A callsSource has the rows of functions side by side, those of the shorter ones filled up with NULLs, and their numbers
// if it is WITH ORDINALITY.
type callsSource struct {
	calls   []*callExpr
	ordinal bool
	width   int
}

// tuples counts the rows while it makes them; whoever keeps them counts them as a whole.
func (s *callsSource) tuples(e *env) ([][]Value, error) {
	before := e.held()
	defer func() { _ = e.hold(before - e.held()) }() // less, which cannot fail
	sets, most := make([][][]Value, len(s.calls)), 0
	for i, call := range s.calls {
		rows, err := call.tuples(e)
		if err != nil {
			return nil, err
		}
		if err := e.hold(len(rows) * (rowSize + valueSize)); err != nil {
			return nil, err
		}
		sets[i], most = rows, max(most, len(rows))
	}
	if err := e.hold(most * (rowSize + s.width*valueSize)); err != nil {
		return nil, err
	}
	rows := make([][]Value, most)
	for i := range rows {
		rows[i] = s.row(sets, i)
	}
	return rows, nil
}

// row is row i of the sets side by side.
func (s *callsSource) row(sets [][][]Value, i int) []Value {
	row := make([]Value, 0, s.width)
	for _, set := range sets {
		if i < len(set) {
			row = append(row, set[i]...)
		} else { // of unnest, which has one column
			row = append(row, Null)
		}
	}
	if s.ordinal {
		row = append(row, Int8Value(int64(i)+1))
	}
	return row
}
