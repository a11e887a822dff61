package sql

import (
	"github.com/longship-db/longship/pgwire"
)

// Queries of views, functions and subqueries, joined or not, and of kv joined with any: relations are joined by nested
// loops. The rows of one that is gone through again are kept in memory. What is looked up in kv for each row of the others
// is not, and neither is kv if it comes first.

// A source is what FROM can name.
type source interface {
	tuples(e *env) ([][]Value, error)
}

// A fromPlan is FROM with JOIN and WHERE: its relations from left to right, and what each must fulfil.
type fromPlan struct {
	steps   []joinStep
	width   int  // columns of all relations
	readsKV bool // rows in env.tuple may have the memory of rows of kv, which is not theirs for long
}

type joinStep struct {
	number        int // of the relation, as it is written
	source        source
	kv            *access // of a source that is kv
	table         string  // what it is called
	lateral       bool    // depends on the row so far
	left          bool    // LEFT JOIN: a row of NULLs stands in if none matches
	right         bool    // RIGHT JOIN: rows that match none come after the others, with NULLs for all steps from tree on
	tree          int     // the first step of those that are joined with it
	on            expr    // nil: all match
	where         []expr  // parts of WHERE that can be decided here
	offset, width int

	conds []condition // of the join, until arrange has put them where they are decided
	after []condition // of WHERE
}

// streams reports whether rows are taken as they are read.
func (s *joinStep) streams() bool { return s.kv != nil && s.lateral }

// outer reports whether what WHERE asks is no condition of the join.
func (s *joinStep) outer() bool { return s.left || s.right }

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
	met  [][]bool    // which of them have matched, of a RIGHT JOIN
	take func() (more bool, err error)
	m    *meter
}

// top is the last of the parts that a meter measures.
func (p *fromPlan) top() any {
	return p.part(len(p.steps) - 1)
}

// part is what a meter knows of the rows up to a step: of the join, or of the first relation.
func (p *fromPlan) part(i int) any {
	switch step := &p.steps[i]; {
	case i > 0:
		return joinPart{step}
	case step.kv != nil:
		return step.kv
	default:
		return step
	}
}

// scan sets e.tuple to each row of the join and calls take, until that wants no more.
func (p *fromPlan) scan(e *env, take func() (more bool, err error)) error {
	e.tuple = make([]Value, p.width)
	n := len(p.steps)
	j := &joiner{plan: p, e: e, rows: make([][][]Value, n), met: make([][]bool, n), take: take, m: e.session.meter}
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
	more, err = j.matches(i)
	for r := i + 1; r < len(j.plan.steps) && err == nil && more; r++ {
		if step := &j.plan.steps[r]; step.right && step.tree == i {
			more, err = j.unmet(r)
		}
	}
	return more, err
}

// matches goes on with the rows of a step that match those before it.
func (j *joiner) matches(i int) (more bool, err error) {
	step, t := &j.plan.steps[i], &matcher{j: j, i: i, more: true}
	if step.streams() {
		err = step.kv.rows(j.e, j.e.session.txn, t)
	} else {
		err = t.takeAll(step)
	}
	if err != nil || !t.more || t.matched || !step.left {
		return t.more, err
	}
	clear(j.e.tuple[step.offset : step.offset+step.width])
	return j.next(i)
}

// unmet goes on with the rows of a RIGHT JOIN that no row of those that it is joined with has matched.
func (j *joiner) unmet(r int) (more bool, err error) {
	step := &j.plan.steps[r]
	rows, err := j.kept(r)
	if err != nil {
		return false, err
	}
	met := j.met[r]
	j.met[r] = nil
	for i, row := range rows {
		if met != nil && met[i] {
			continue
		}
		if err := j.e.step(rowCost); err != nil {
			return false, err
		}
		for _, left := range j.plan.steps[step.tree:r] {
			clear(j.e.tuple[left.offset : left.offset+left.width])
		}
		copy(j.e.tuple[step.offset:], row)
		if more, err := j.next(r); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// A matcher takes the rows of a step, beside one row of those before it.
type matcher struct {
	j       *joiner
	i       int
	matched bool // by any row
	row     int  // which of those that are kept it is at
	more    bool // rows are wanted
}

// takeAll takes the rows of a relation that is read at once.
func (t *matcher) takeAll(step *joinStep) (err error) {
	j, i := t.j, t.i
	rows, err := j.kept(i)
	if err != nil {
		return err
	}
	if !step.lateral && i > 0 {
		j.m.given(keptPart{step}, len(rows))
	}
	if step.right && j.met[i] == nil {
		j.met[i] = make([]bool, len(rows))
	}
	for k, row := range rows {
		t.row = k
		copy(j.e.tuple[step.offset:], row)
		if more, err := t.take(); err != nil || !more {
			return err
		}
	}
	return nil
}

// kept are the rows of a relation that is read at once.
func (j *joiner) kept(i int) (rows [][]Value, err error) {
	step := &j.plan.steps[i]
	if rows = j.rows[i]; rows != nil && !step.lateral {
		return rows, nil
	}
	if rows, err = j.read(i, step); err != nil {
		return nil, err
	}
	if rows == nil { // it has been read
		rows = [][]Value{}
	}
	if !step.lateral && step.kv == nil { // those of kv are counted one by one
		if err := j.e.hold(len(rows) * (rowSize + step.width*valueSize)); err != nil {
			return nil, err
		}
	}
	j.rows[i] = rows
	return rows, nil
}

// take takes the row that is in the tuple.
func (t *matcher) take() (more bool, err error) {
	j := t.j
	if err := j.e.step(rowCost); err != nil {
		return false, err
	}
	if ok, err := passes(j.plan.steps[t.i].on, j.e); err != nil || !ok {
		if err == nil {
			j.m.remove(j.plan.part(t.i))
		}
		return err == nil, err
	}
	t.matched = true
	if j.plan.steps[t.i].right {
		j.met[t.i][t.row] = true
	}
	t.more, err = j.next(t.i)
	return t.more, err
}

// next goes on to the next relation if the row so far may become one of the result.
func (j *joiner) next(i int) (more bool, err error) {
	for _, cond := range j.plan.steps[i].where {
		if ok, err := passes(cond, j.e); err != nil || !ok {
			j.m.drop(j.plan.part(i), i > 0 && j.plan.steps[i].outer())
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

// keptRows are the rows of kv where they are gone through again for each row before them.
type keptRows struct{ *access }

func (k keptRows) tuples(e *env) ([][]Value, error) {
	kept := &keeper{e: e, offset: k.offset, rows: [][]Value{}}
	err := k.rows(e, e.session.txn, kept)
	return kept.rows, err
}

// A keeper keeps rows of kv.
type keeper struct {
	e      *env
	offset int
	rows   [][]Value
}

func (k *keeper) take() (more bool, err error) {
	row := cloneRow(k.e.tuple[k.offset : k.offset+len(kvColumns)])
	if k.rows = append(k.rows, row); len(k.rows) > maxDerivedRows {
		return false, tooManyRows()
	}
	return true, k.e.hold(rowSize + valuesSize(row))
}

// cloneRow copies a row whose memory is not its own.
func cloneRow(row []Value) []Value {
	cloned := make([]Value, len(row))
	for i, v := range row {
		cloned[i] = v.clone()
	}
	return cloned
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
		if err := e.step(rowCost); err != nil {
			return nil, err
		}
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
