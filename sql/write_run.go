package sql

import (
	"strings"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// A writing is one run of an INSERT, UPDATE or DELETE. Rows of RETURNING are kept until the whole
// statement has run, and until its commit if it commits with it.
type writing struct {
	e        *env
	txn      Txn
	outs     []output
	affected int64
	returned [][]Value
	keeps    bool // RETURNING shows rows that stay: a bare lsn is this commit's
}

// A writePlan is a planNode that writes.
type writePlan interface {
	planNode
	run(w *writing) error
}

func (p *insertPlan) run(w *writing) error {
	w.keeps = true
	var seen map[string]bool // keys already written, for rows proposed twice
	if (len(p.rows) > 1 || p.query != nil) && p.conflict == conflictUpdate {
		seen = make(map[string]bool, len(p.rows))
	}
	if p.query == nil {
		w.e.session.meter.given(&p.rows, len(p.rows))
	}
	if p.query == nil && !p.nested {
		for i := range p.rows {
			row, err := p.rows[i].eval(w.e)
			if err != nil {
				return err
			}
			if err := p.propose(w, row, seen); err != nil {
				return err
			}
		}
		return nil
	}
	rows, err := p.found(w.e)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := p.propose(w, row, seen); err != nil {
			return err
		}
	}
	return nil
}

// propose inserts one row, unless its key is among those seen, which it joins.
func (p *insertPlan) propose(w *writing, row Row, seen map[string]bool) error {
	if err := w.e.step(rowCost + (len(row.Key)+len(row.Value))/copyPerStep); err != nil {
		return err
	}
	if seen[row.Key] {
		return pgwire.Errorf(pgwire.CodeCardinalityViolation, "ON CONFLICT DO UPDATE command cannot affect row a second time").
			WithHint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
	}
	written, err := p.insert(w, row)
	if err == nil && written && seen != nil {
		seen[row.Key] = true
	}
	return err
}

// found are rows to insert that depend on rows of kv: all of them are found before any is written.
func (p *insertPlan) found(e *env) (rows []Row, err error) {
	if p.query != nil {
		return p.queried(e)
	}
	for i := range p.rows {
		row, err := p.rows[i].eval(e)
		if err != nil {
			return nil, err
		}
		if rows, err = p.wait(e, rows, row); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// queried are the rows of INSERT … SELECT.
func (p *insertPlan) queried(e *env) (rows []Row, err error) {
	found, err := p.query.rows(e)
	if err != nil {
		return nil, err
	}
	for _, values := range found {
		var columns [2]Value
		for i, v := range values {
			columns[p.columns[i]] = v
		}
		row, err := proposedRow(columns[keyColumn], columns[valueColumn])
		if err != nil {
			return nil, err
		}
		if rows, err = p.wait(e, rows, row); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// wait counts a proposed row that waits to be written.
func (p *insertPlan) wait(e *env, rows []Row, row Row) ([]Row, error) {
	if err := e.step(rowCost); err != nil {
		return nil, err
	}
	return append(rows, row), e.hold(proposedSize(row))
}

// proposedSize is what a row counts that waits to be written.
func proposedSize(row Row) int { return len(row.Key) + len(row.Value) + 3*valueSize }

// insert inserts one row, or does what ON CONFLICT says.
func (p *insertPlan) insert(w *writing, row Row) (written bool, err error) {
	w.e.excluded = row
	if !p.blind {
		old, found, err := w.txn.Get(w.e.ctx, row.Key)
		if err == nil {
			err = w.e.session.holdReads()
		}
		switch {
		case err != nil:
			return false, err
		case !found:
			w.e.session.counts.inserted++
			return true, w.put(row)
		case p.conflict == conflictError:
			return false, duplicateKey(row.Key)
		case p.conflict == conflictNothing:
			return false, nil
		}
		w.e.row = old
		if wanted, err := passes(p.where, w.e); err != nil || !wanted {
			return false, err
		}
	}
	if row.Value, err = assigned(p.value, w.e); err != nil {
		return false, err
	}
	if p.blind {
		w.e.session.counts.inserted++
	} else {
		w.e.session.counts.updated++
	}
	return true, w.put(row)
}

// duplicateKey is PostgreSQL's error for a key that exists.
func duplicateKey(key string) error {
	return pgwire.Errorf(pgwire.CodeUniqueViolation, `duplicate key value violates unique constraint "kv_pkey"`).
		WithDetail("Key (key)=(%s) already exists.", key).
		WithObject(pgwire.Object{Schema: "public", Table: "kv", Constraint: "kv_pkey"})
}

func passes(cond expr, e *env) (bool, error) {
	if cond == nil {
		return true, nil
	}
	v, err := cond.eval(e)
	return v.Bool(), err
}

// assigned evaluates SET value = x; without an assignment the row keeps its value. The result
// shares nothing with the old row, which does not outlive the transaction.
func assigned(x expr, e *env) ([]byte, error) {
	if x == nil {
		return cloneBytes(e.row.Value), nil
	}
	v, err := x.eval(e)
	if err != nil || v.IsNull() {
		return nil, err
	}
	if isExcludedValue(x) {
		return bytesOf(v.s), nil
	}
	return bytesOf(strings.Clone(v.s)), nil
}

func cloneBytes(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// eval computes a proposed row and checks its key.
func (r *insertRow) eval(e *env) (Row, error) {
	key, value := Null, Null
	var err error
	if r.key != nil {
		if key, err = r.key.eval(e); err != nil {
			return Row{}, err
		}
	}
	if r.value != nil {
		if value, err = r.value.eval(e); err != nil {
			return Row{}, err
		}
	}
	return proposedRow(key, value)
}

func proposedRow(key, value Value) (Row, error) {
	if key.IsNull() {
		return Row{}, missingKey(value)
	}
	row := Row{Key: key.s}
	if !value.IsNull() {
		row.Value = bytesOf(value.s)
	}
	return row, checkRow(&row)
}

// missingKey is PostgreSQL's error for a row without a key.
func missingKey(value Value) error {
	return pgwire.Errorf(pgwire.CodeNotNullViolation,
		`null value in column "key" of relation "kv" violates not-null constraint`).
		WithDetail("Failing row contains (null, %s, null).", shown(value)).
		WithObject(pgwire.Object{Schema: "public", Table: "kv", Column: "key"})
}

// shown is a value as it appears in a detail, shortened.
func shown(v Value) string {
	const most = 64
	switch {
	case v.IsNull():
		return "null"
	case len(v.s) > most:
		return strings.ToValidUTF8(v.s[:most], "") + "..."
	}
	return v.s
}

// checkRow checks what the table demands of a new row.
func checkRow(row *Row) error {
	switch {
	case row.Key == "":
		return pgwire.Errorf(pgwire.CodeCheckViolation, `new row for relation "kv" violates check constraint "kv_key_check"`).
			WithDetail("Failing row contains (, %s, null).", shown(rowValue(row, valueColumn))).
			WithHint("A key must not be empty.")
	case len(row.Key) > MaxKeyLen:
		return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "key of %d bytes exceeds the maximum of %d", len(row.Key), MaxKeyLen)
	}
	return nil
}

// put writes a row and keeps what RETURNING says of it.
func (w *writing) put(row Row) error {
	if len(row.Value) > MaxValueLen {
		return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "value of %d bytes exceeds the maximum of %d", len(row.Value), MaxValueLen)
	}
	if err := w.e.session.holdWrite(len(row.Key) + len(row.Value)); err != nil {
		return err
	}
	if err := w.txn.Put(row.Key, row.Value); err != nil {
		return err
	}
	row.LSN = wal.InvalidLSN
	w.e.row = row
	return w.done()
}

// done counts the row in e.row and evaluates RETURNING for it.
func (w *writing) done() error {
	if err := w.e.step(rowCost); err != nil {
		return err
	}
	w.affected++
	if len(w.outs) == 0 {
		return nil
	}
	row, making := make([]Value, len(w.outs)), unfinished{e: w.e}
	for i, o := range w.outs {
		v, err := making.value(o.x)
		if err != nil {
			return err
		}
		row[i] = v.clone()
	}
	making.done()
	w.returned = append(w.returned, row)
	return w.e.hold(rowSize + valuesSize(row))
}

// send hands the rows of RETURNING to the client. Where the list says lsn, rows show the LSN they
// have been committed with, if that is known by now.
func (w *writing) send(out *encoder, committed wal.LSN) error {
	for _, row := range w.returned {
		out.begin()
		for i, v := range row {
			if w.keeps && isLSN(w.outs[i].x) {
				v = LSNOrNull(committed)
			}
			out.add(v)
		}
		if err := out.send(); err != nil {
			return err
		}
	}
	return nil
}

// isLSN reports whether x is the lsn of the row that is written.
func isLSN(x expr) bool {
	switch x := x.(type) {
	case *kvColumn:
		return x.index == lsnColumn
	case *viewColumn: // kv comes first of what it is joined with
		return x.index == lsnColumn
	}
	return false
}

// A rowCollector keeps rows, so that none is changed before all are found. Those of a scan are
// cloned: their values do not outlive their turn.
type rowCollector struct {
	e     *env
	clone bool
	rows  []Row
}

func (c *rowCollector) take() (bool, error) {
	row := c.e.row
	if c.clone {
		row.Value = cloneBytes(row.Value)
	}
	c.rows = append(c.rows, row)
	return true, c.e.hold(len(row.Key) + len(row.Value) + 3*valueSize)
}

// targets collects the rows that a condition selects.
func (w *writing) targets(a *access) ([]Row, error) {
	c := rowCollector{e: w.e, clone: a.points == nil}
	err := a.rows(w.e, w.txn, &c)
	return c.rows, err
}

func (p *updatePlan) run(w *writing) error {
	w.keeps = true
	if p.from != nil {
		return p.runJoined(w)
	}
	rows, err := w.targets(&p.access)
	if err != nil {
		return err
	}
	for i := range rows {
		if err := p.change(w.e, &rows[i]); err != nil {
			return err
		}
		if p.nested { // nothing is written before all is read
			continue
		}
		if err := p.put(w, rows[i]); err != nil {
			return err
		}
	}
	if !p.nested {
		return nil
	}
	for _, row := range rows {
		if err := p.put(w, row); err != nil {
			return err
		}
	}
	return nil
}

// runJoined runs UPDATE … FROM.
func (p *updatePlan) runJoined(w *writing) error {
	rows, err := w.joinedTargets(p.from, func(row *Row) error { return p.change(w.e, row) })
	if err != nil {
		return err
	}
	for i := range rows {
		row := &rows[i]
		if row.tuple != nil {
			row.tuple[valueColumn], row.tuple[lsnColumn] = rowValue(&row.Row, valueColumn), Null
		}
		w.e.tuple = row.tuple
		if err := p.put(w, row.Row); err != nil {
			return err
		}
	}
	return nil
}

// change makes row what it is to be.
func (p *updatePlan) change(e *env, row *Row) error {
	if err := e.step(rowCost); err != nil {
		return err
	}
	e.row = *row
	if p.key != nil {
		key, err := p.key.eval(e)
		if err != nil {
			return err
		}
		if key.IsNull() || key.s != row.Key {
			return errKeyUpdate()
		}
	}
	var err error
	if row.Value, err = assigned(p.value, e); err != nil || !p.nested {
		return err
	}
	return e.hold(len(row.Value))
}

func (p *updatePlan) put(w *writing, row Row) error {
	w.e.session.counts.updated++
	return w.put(row)
}

func (p *deletePlan) run(w *writing) error {
	if p.from != nil {
		return p.runJoined(w)
	}
	rows, err := w.targets(&p.access)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := w.delete(row); err != nil {
			return err
		}
	}
	return nil
}

// runJoined runs DELETE … USING.
func (p *deletePlan) runJoined(w *writing) error {
	rows, err := w.joinedTargets(p.from, withoutValue)
	if err != nil {
		return err
	}
	for _, row := range rows {
		w.e.tuple = row.tuple
		if err := w.delete(row.Row); err != nil {
			return err
		}
	}
	return nil
}

// withoutValue makes a row what is kept of one that is to be deleted: nobody needs its value, which would stay in memory,
// uncounted.
func withoutValue(row *Row) error {
	row.Value = nil
	return nil
}

func (w *writing) delete(row Row) error {
	if err := w.e.session.holdWrite(len(row.Key)); err != nil {
		return err
	}
	if err := w.txn.Delete(row.Key); err != nil {
		return err
	}
	w.e.session.counts.deleted++
	w.e.row = row
	return w.done()
}

// A joinedRow is a row of kv that is to be changed or deleted, and the row of the join that it is part of.
type joinedRow struct {
	Row
	tuple []Value // nil without RETURNING
}

// joinedTargets collects the rows of kv that a join selects, before any is written: those that it finds several times by the
// first time. change makes each what it is to be.
func (w *writing) joinedTargets(from *fromPlan, change func(row *Row) error) (rows []joinedRow, err error) {
	seen := map[string]bool{}
	err = from.scan(w.e, func() (bool, error) {
		key, value := w.e.tuple[keyColumn].s, w.e.tuple[valueColumn]
		if seen[key] {
			return true, nil
		}
		row := joinedRow{Row: Row{Key: strings.Clone(key)}}
		if !value.IsNull() {
			row.Value = bytesOf(value.s)
		}
		if err := change(&row.Row); err != nil {
			return false, err
		}
		if len(w.outs) > 0 {
			row.tuple = cloneRow(w.e.tuple)
		}
		seen[row.Key] = true
		rows = append(rows, row)
		return true, w.e.hold(2*rowSize + len(key) + valuesSize(row.tuple))
	})
	return rows, err
}
