package sql

import (
	"slices"

	"github.com/longship-db/longship/pgwire"
)

// codeGeneratedAlways is SQLSTATE generated_always: kv.lsn is written by the commit alone.
const codeGeneratedAlways = "428C9"

// An insertPlan is an analyzed INSERT.
type insertPlan struct {
	table    string // what kv is called
	rows     []insertRow
	query    *subplan // instead of rows
	columns  []int    // of kv, that the columns of the query go to
	nested   bool     // the rows depend on others of kv
	conflict conflictAction
	value    expr // DO UPDATE SET value = …; nil: keep the old value
	where    expr // of DO UPDATE
	// blind: DO UPDATE SET value = EXCLUDED.value has one outcome whether the key exists or not,
	// so nothing is read and nothing can conflict.
	blind bool
	outs  []output
	with  []*withTable
}

// An insertRow holds a row's key and value; nil stands for NULL.
type insertRow struct{ key, value expr }

// A conflictAction is what INSERT does about a key that exists.
type conflictAction uint8

const (
	conflictError conflictAction = iota
	conflictNothing
	conflictUpdate
)

// A writeTarget is how the rows are found that a statement changes or deletes.
type writeTarget struct {
	table  string // what kv is called
	access access
	from   *fromPlan // kv, which comes first, joined with others, instead of access
}

type updatePlan struct {
	writeTarget
	value  expr // nil: nothing is assigned
	key    expr // nil: nothing is assigned; else it must be what it is
	nested bool // the values depend on other rows of kv
	outs   []output
	with   []*withTable
}

type deletePlan struct {
	writeTarget
	outs []output
	with []*withTable
}

func (p *insertPlan) outputs() []output { return p.outs }
func (p *updatePlan) outputs() []output { return p.outs }
func (p *deletePlan) outputs() []output { return p.outs }

// target makes kv, joined with what is in FROM, what names refer to, or refuses another target; verb says what cannot be done
// to a view.
func (a *analyzer) target(ref *tableRef, verb string, from []fromItem) (t writeTarget) {
	if ref.name != "kv" {
		if a.catalog.view(ref.name) != nil {
			panic(pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, `cannot %s view "%s"`, verb, ref.name).
				WithDetail("Views that do not select from a single table or view are not automatically updatable."))
		}
		a.fail(ref.at(), pgwire.CodeUndefinedTable, `relation "%s" does not exist`, ref.name)
	}
	t.table = tableName(ref)
	if from != nil {
		t.from = a.joinedTarget(ref, from)
	} else {
		a.scope = kvScope(t.table)
	}
	return t
}

// selected analyzes the condition for the rows of a target.
func (a *analyzer) selected(where node, t *writeTarget) {
	if t.from == nil {
		t.access = planAccess(a.where(where), t.table)
		return
	}
	a.whereOf(where, t.from)
	t.from.arrange()
}

// tableColumn finds a column of kv by name for INSERT and SET.
func (a *analyzer) tableColumn(name string, at int) int {
	for i, c := range kvColumns {
		if c.Name == name {
			return i
		}
	}
	a.fail(at, pgwire.CodeUndefinedColumn, `column "%s" of relation "kv" does not exist`, name)
	return 0
}

func (a *analyzer) insertPlan(n *insertStmt) planNode {
	a.withTables(n.with)
	p := &insertPlan{table: a.target(&n.table, "insert into", nil).table, with: a.with}
	table := a.scope
	a.scope, a.noAggregate = scope{}, "VALUES"
	if n.query != nil {
		a.insertQuery(n, p)
	} else {
		p.columns = a.insertColumns(n, n.rows[0])
	}
	for _, row := range n.rows {
		p.rows = append(p.rows, a.insertRow(p.columns, row))
	}
	p.nested = a.nested
	a.scope = table
	if n.conflict != nil {
		a.noSubquery("ON CONFLICT", func() { a.conflict(n.conflict, p) })
	}
	p.outs = a.returning(n.returning)
	return p
}

// insertQuery analyzes INSERT … SELECT: its columns become text, as values do.
func (a *analyzer) insertQuery(n *insertStmt, p *insertPlan) {
	a.noAggregate = ""
	p.query = a.subplan(n.query)
	outs := p.query.plan.outs
	at := make([]node, len(outs))
	star := node(nil)
	for i := range at {
		switch {
		case star == nil && i < len(n.query.targets) && n.query.targets[i].expr != nil:
			at[i] = n.query.targets[i].expr
		case star == nil && i < len(n.query.targets):
			star = n.query.targets[i].pos
			fallthrough
		default:
			at[i] = star
		}
	}
	p.columns = a.insertColumns(n, at)
	for i := range outs {
		if p.columns[i] == lsnColumn {
			panic(a.placed(errInsertLSN(), at[i].at()))
		}
		outs[i].x = a.asText(outs[i].x, kvColumns[p.columns[i]].Name, at[i].at())
	}
}

func errInsertLSN() error {
	return pgwire.Errorf(codeGeneratedAlways, `cannot insert a non-DEFAULT value into column "lsn"`).
		WithDetail(`Column "lsn" is the commit that last wrote the row.`)
}

// noSubquery analyzes a clause that is computed while rows are written, when none can be read as it was before.
func (a *analyzer) noSubquery(clause string, analyze func()) {
	before := a.nested
	a.nested = false
	analyze()
	if a.nested {
		panic(pgwire.Errorf(pgwire.CodeFeatureNotSupported, "a subquery that reads kv in %s is not supported", clause))
	}
	a.nested = before
}

// insertColumns are the columns that the values of a row go to, in order.
func (a *analyzer) insertColumns(n *insertStmt, row []node) []int {
	width := len(row)
	if n.columns == nil {
		columns := []int{keyColumn, valueColumn, lsnColumn}
		if width > len(columns) {
			a.fail(row[len(columns)].at(), pgwire.CodeSyntaxError, "INSERT has more expressions than target columns")
		}
		return columns[:width]
	}
	var columns []int
	var seen [3]bool
	for _, c := range n.columns {
		i := a.tableColumn(c.name, c.at())
		if seen[i] {
			a.fail(c.at(), pgwire.CodeDuplicateColumn, `column "%s" specified more than once`, c.name)
		}
		seen[i] = true
		columns = append(columns, i)
	}
	switch {
	case width > len(columns):
		a.fail(row[len(columns)].at(), pgwire.CodeSyntaxError, "INSERT has more expressions than target columns")
	case width < len(columns):
		a.fail(n.columns[width].at(), pgwire.CodeSyntaxError, "INSERT has more target columns than expressions")
	}
	return columns
}

func (a *analyzer) insertRow(columns []int, row []node) insertRow {
	var out insertRow
	for i, n := range row {
		if _, ok := n.(defaultNode); ok {
			continue
		}
		switch columns[i] {
		case keyColumn:
			out.key = a.assign(n, "key")
		case valueColumn:
			out.value = a.assign(n, "value")
		default:
			panic(a.placed(errInsertLSN(), n.at()))
		}
	}
	return out
}

// assign analyzes a value for a text column. Everything converts to text when it is assigned, as
// in PostgreSQL.
func (a *analyzer) assign(n node, column string) expr {
	return a.asText(a.expr(n), column, n.at())
}

func (a *analyzer) asText(x expr, column string, at int) expr {
	if !castable(x.typ(), Text) || x.typ() == Void {
		a.fail(at, pgwire.CodeDatatypeMismatch, `column "%s" is of type text but expression is of type %s`, column, x.typ())
	}
	return a.coerce(x, Text, at)
}

// conflict analyzes ON CONFLICT.
func (a *analyzer) conflict(n *conflictClause, p *insertPlan) {
	for _, c := range n.target {
		if !slices.ContainsFunc(kvColumns, func(k Column) bool { return k.Name == c.name }) {
			a.fail(n.targetAt, pgwire.CodeUndefinedColumn, `column "%s" does not exist`, c.name)
		}
	}
	if len(n.target) > 1 || len(n.target) == 1 && n.target[0].name != "key" {
		panic(pgwire.Errorf(pgwire.CodeInvalidColumnReference,
			"there is no unique or exclusion constraint matching the ON CONFLICT specification"))
	}
	p.conflict = conflictNothing
	if n.set == nil {
		return
	}
	p.conflict = conflictUpdate
	a.scope.excluded = true
	a.noAggregate = "UPDATE"
	var key expr
	if p.value, key = a.assignments(n.set); key != nil && !isKeyOf(key, true) {
		panic(errKeyUpdate())
	}
	p.where = a.where(n.where)
	a.scope.excluded = false
	p.blind = p.where == nil && isExcludedValue(p.value)
}

func isExcludedValue(x expr) bool {
	c, ok := x.(*kvColumn)
	return ok && c.excluded && c.index == valueColumn
}

// isKeyOf reports whether x is the key of the row that is updated, or of the one that was proposed.
func isKeyOf(x expr, excluded bool) bool {
	c, ok := x.(*kvColumn)
	return ok && c.index == keyColumn && (excluded || !c.excluded)
}

func errKeyUpdate() *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeFeatureNotSupported, `column "key" cannot be updated`).
		WithHint("Delete the row and insert another, in one transaction.")
}

// assignments analyzes SET, which may assign to value, and to key what it is already: so write those who list all
// columns.
func (a *analyzer) assignments(set []assignment) (value, key expr) {
	for _, s := range set {
		switch a.tableColumn(s.column, s.at()) {
		case keyColumn:
			if _, ok := s.value.(defaultNode); ok {
				panic(a.placed(errKeyUpdate(), s.at()))
			}
			if key != nil {
				panic(pgwire.Errorf(pgwire.CodeSyntaxError, `multiple assignments to same column "key"`))
			}
			key = a.assign(s.value, "key")
			continue
		case lsnColumn:
			panic(errorAt(a.src, s.at(), codeGeneratedAlways, `column "lsn" can only be updated to DEFAULT`).
				WithDetail(`Column "lsn" is the commit that last wrote the row.`))
		}
		if value != nil {
			panic(pgwire.Errorf(pgwire.CodeSyntaxError, `multiple assignments to same column "value"`))
		}
		if _, ok := s.value.(defaultNode); ok {
			value = &constExpr{t: Text}
		} else {
			value = a.assign(s.value, "value")
		}
	}
	return value, key
}

func (a *analyzer) returning(list []target) []output {
	a.noAggregate = "RETURNING"
	var outs []output
	a.noSubquery("RETURNING", func() { outs = a.targets(list) })
	return outs
}

func (a *analyzer) updatePlan(n *updateStmt) planNode {
	a.withTables(n.with)
	p := &updatePlan{writeTarget: a.target(&n.table, "update", n.from), with: a.with}
	a.noAggregate = "UPDATE"
	p.value, p.key = a.assignments(n.set)
	a.selected(n.where, &p.writeTarget)
	p.nested = a.nested
	p.outs = a.returning(n.returning)
	return p
}

func (a *analyzer) deletePlan(n *deleteStmt) planNode {
	a.withTables(n.with)
	p := &deletePlan{writeTarget: a.target(&n.table, "delete from", n.using), with: a.with}
	a.selected(n.where, &p.writeTarget)
	p.outs = a.returning(n.returning)
	return p
}
