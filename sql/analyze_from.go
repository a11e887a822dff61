package sql

import (
	"slices"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// A scope is what column names are looked up in: the relations of FROM, EXCLUDED, and the scopes of the
// queries around.
type scope struct {
	relations []relation
	kv        bool           // the relation is kv
	excluded  bool           // EXCLUDED may be referred to
	merged    []mergedColumn // by USING
	tree      int            // the first relation that is joined with the one that is added
	visible   int            // the first that may be referred to here
	outer     *scope
	refs      relations // that were referred to since this was emptied
}

// A mergedColumn is a column of several relations that USING has made one.
type mergedColumn struct {
	name string
	tree int   // the first of the relations that are joined
	of   []int // the relations: the first of these that is not NULL
}

// relations is a set of those of FROM: bit i stands for the one that is number i there.
type relations uint64

// maxRelations bounds what FROM may name.
const maxRelations = 64

// A relation is one of FROM, or the target of a write.
type relation struct {
	table   string // name that columns may be qualified with
	name    string // the relation's own name, hidden by an alias
	columns []Column
	offset  int // of its first column in a row of all relations
	oid     uint32
	kv      bool     // it is kv, joined with others
	merged  []string // columns that USING has made one with others
}

func kvScope(table string) scope {
	return scope{relations: []relation{{table: table, name: "kv", columns: kvColumns}}, kv: true}
}

// column resolves a name, in the innermost query that knows it.
func (a *analyzer) column(n columnNode) expr {
	if n.name == "" {
		a.fail(n.at(), pgwire.CodeSyntaxError, "row expansion via \"*\" is not supported here")
	}
	if n.table == "excluded" && a.scope.excluded {
		a.columnRef++
		a.scope.refs |= 1
		return &kvColumn{index: a.kvIndex(n), excluded: true, table: n.table}
	}
	if a.scope.excluded && n.table == "" && slices.ContainsFunc(kvColumns, func(c Column) bool { return c.Name == n.name }) {
		a.fail(n.at(), pgwire.CodeAmbiguousColumn, `column reference "%s" is ambiguous`, n.name)
	}
	depth := 0
	for sc := &a.scope; sc != nil; sc = sc.outer {
		if x := a.find(sc, n, depth); x != nil {
			if a.noGenerated && n.name == "lsn" {
				panic(pgwire.Errorf(pgwire.CodeInvalidColumnReference, "generated columns are not supported in COPY FROM WHERE conditions").
					WithDetail(`Column "lsn" is a generated column.`))
			}
			switch {
			case depth > 0: // the same for every row here
				a.outerRef = true
			case !a.inAggregate && a.bare == nil:
				a.bare = &n
				fallthrough
			default:
				a.columnRef++
			}
			return x
		}
		depth++
	}
	a.unknownColumn(n)
	return nil
}

func (a *analyzer) kvIndex(n columnNode) int {
	for i, c := range kvColumns {
		if c.Name == n.name {
			return i
		}
	}
	a.unknownColumn(n)
	return 0
}

// find looks a column up in one scope, and returns nil if it is not there.
func (a *analyzer) find(sc *scope, n columnNode, depth int) (found expr) {
	at := -1
	for i := sc.visible; i < len(sc.relations); i++ {
		rel := &sc.relations[i]
		if n.table != "" && n.table != rel.table {
			continue
		}
		x := rel.column(n.name, sc.kv, depth)
		if x == nil || n.table == "" && slices.Contains(rel.merged, n.name) {
			continue
		}
		if found != nil || rel.twice(n.name) {
			a.fail(n.at(), pgwire.CodeAmbiguousColumn, `column reference "%s" is ambiguous`, n.name)
		}
		found, at = x, i
	}
	if at >= 0 {
		sc.refs |= 1 << at
	}
	if n.table != "" {
		return found
	}
	for i := range sc.merged {
		if m := &sc.merged[i]; m.name == n.name && m.tree >= sc.visible {
			if found != nil {
				a.fail(n.at(), pgwire.CodeAmbiguousColumn, `column reference "%s" is ambiguous`, n.name)
			}
			found = a.mergedColumn(sc, m, n, depth)
		}
	}
	if found == nil {
		return a.wholeRow(sc, n.name, depth)
	}
	return found
}

// mergedColumn is a column that USING has made of several.
func (a *analyzer) mergedColumn(sc *scope, m *mergedColumn, n node, depth int) expr {
	args, nodes := make([]expr, len(m.of)), make([]node, len(m.of))
	for i, of := range m.of {
		args[i], nodes[i] = sc.relations[of].column(m.name, false, depth), n
		sc.refs |= 1 << of
	}
	if len(args) == 1 {
		return args[0]
	}
	return &choiceExpr{t: a.common("JOIN/USING", args, nodes), args: args}
}

// wholeRow is the row of the relation of that name, nil if there is none.
func (a *analyzer) wholeRow(sc *scope, table string, depth int) expr {
	for i := sc.visible; i < len(sc.relations); i++ {
		rel := &sc.relations[i]
		if rel.table != table {
			continue
		}
		sc.refs |= 1 << i
		a.count(len(rel.columns))
		row := &wholeRow{table: table}
		for _, c := range rel.columns {
			row.columns = append(row.columns, rel.column(c.Name, sc.kv, depth))
		}
		return row
	}
	return nil
}

// column is the expression for a column of the relation, nil if it has none of that name. Every catalog
// has a column tableoid.
func (r *relation) column(name string, kv bool, depth int) expr {
	i := slices.IndexFunc(r.columns, func(c Column) bool { return c.Name == name })
	switch {
	case i >= 0 && kv:
		return &kvColumn{index: i, depth: depth, table: r.table}
	case i >= 0:
		return &viewColumn{r.offset + i, depth, r.columns[i].Type, r.table, name}
	case name == "tableoid" && r.oid != 0:
		return &constExpr{OID, OIDValue(r.oid)}
	}
	return nil
}

// twice reports whether the relation has several columns of the name, as unnest(a, b) has.
func (r *relation) twice(name string) bool {
	named := func(c Column) bool { return c.Name == name }
	first := slices.IndexFunc(r.columns, named)
	return first >= 0 && slices.ContainsFunc(r.columns[first+1:], named)
}

func (a *analyzer) unknownColumn(n columnNode) {
	a.checkTable(n.table, n.at())
	if n.table != "" {
		a.fail(n.at(), pgwire.CodeUndefinedColumn, "column %s.%s does not exist", n.table, n.name)
	}
	err := errorAt(a.src, n.at(), pgwire.CodeUndefinedColumn, `column "%s" does not exist`, n.name)
	for sc := &a.scope; sc != nil; sc = sc.outer {
		for _, rel := range sc.relations[:sc.visible] {
			if rel.column(n.name, false, 0) != nil {
				err = err.WithHint(`There is a column named "%s" in table "%s", but it cannot be referenced from this part of the query.`, n.name, rel.table)
			}
		}
	}
	panic(err)
}

// checkTable refuses a qualification that is not the name of a relation in scope.
func (a *analyzer) checkTable(table string, at int) {
	if table == "" {
		return
	}
	hidden := ""
	for sc := &a.scope; sc != nil; sc = sc.outer {
		for i, rel := range sc.relations {
			switch {
			case table == rel.table && i < sc.visible:
				panic(errorAt(a.src, at, pgwire.CodeUndefinedTable, `invalid reference to FROM-clause entry for table "%s"`, table).
					WithHint(`There is an entry for table "%s", but it cannot be referenced from this part of the query.`, table))
			case table == rel.table:
				return
			case table == rel.name:
				hidden = rel.table
			}
		}
	}
	if hidden != "" {
		panic(errorAt(a.src, at, pgwire.CodeUndefinedTable, `invalid reference to FROM-clause entry for table "%s"`, table).
			WithHint("Perhaps you meant to reference the table alias \"%s\".", hidden))
	}
	a.fail(at, pgwire.CodeUndefinedTable, `missing FROM-clause entry for table "%s"`, table)
}

// from resolves the relations of FROM and makes their columns visible, one after the other: a function's
// arguments and a join's condition see those before it.
func (a *analyzer) from(items []fromItem, p *selectPlan) {
	if len(items) == 1 && items[0].name == "kv" && items[0].call == nil && a.withTable("kv") == nil {
		ref := &items[0]
		outer := a.scope.outer
		a.nested = a.nested || outer != nil
		a.scope = kvScope(tableName(&ref.tableRef))
		a.scope.outer = outer
		a.renameColumns(&ref.tableRef, &a.scope.relations[0])
		return
	}
	p.from = &fromPlan{}
	outer := a.scope.outer
	a.scope = scope{outer: outer}
	a.addRelations(items, p.from)
}

// joinedTarget makes the target of a write, and the relations that it is joined with, what names refer to: those do not see
// it themselves.
func (a *analyzer) joinedTarget(ref *tableRef, items []fromItem) *fromPlan {
	p := &fromPlan{}
	rel, step := relation{table: tableName(ref), name: ref.name}, joinStep{table: tableName(ref)}
	a.scope = scope{}
	a.joinKV(&rel, &step, p)
	a.addStep(rel, step, p)
	a.scope.tree, a.scope.visible = 1, 1
	a.addRelations(items, p)
	a.scope.visible = 0
	return p
}

func (a *analyzer) addRelations(items []fromItem, p *fromPlan) {
	for i := range items {
		if len(p.steps) == maxRelations {
			panic(errorAt(a.src, items[i].at(), pgwire.CodeProgramLimitExceeded, "more than %d relations in FROM", maxRelations))
		}
		a.addRelation(&items[i], p)
	}
}

// alone refuses what is known of kv by itself only.
func (a *analyzer) alone(at int, what string) {
	panic(errorAt(a.src, at, pgwire.CodeFeatureNotSupported, "%s is not supported", what).
		WithHint("Select from kv in a subquery of FROM, and group what that returns."))
}

func tableName(ref *tableRef) string {
	if ref.alias != "" {
		return ref.alias
	}
	return strings.TrimPrefix(ref.name, "information_schema.")
}

func (a *analyzer) addRelation(item *fromItem, p *fromPlan) {
	rel := relation{table: tableName(&item.tableRef), name: item.name, offset: p.width}
	for _, other := range a.scope.relations {
		if other.table == rel.table {
			a.fail(item.at(), pgwire.CodeDuplicateAlias, `table name "%s" specified more than once`, rel.table)
		}
	}
	if item.comma {
		a.scope.tree = len(a.scope.relations)
	}
	step := joinStep{table: rel.table, left: item.left, right: item.right, offset: p.width, tree: a.scope.tree}
	visible := a.scope.visible
	if item.right {
		a.scope.visible = len(a.scope.relations)
	}
	a.noAggregate = "functions in FROM"
	switch v, with := a.catalog.view(item.name), a.withTable(item.name); {
	case item.query != nil:
		step.source, rel.columns, step.lateral = a.derived(item.query)
	case item.call != nil:
		step.source, rel.columns, step.lateral = a.fromCall(item)
	case with != nil:
		step.source, rel.columns, step.lateral = withSource{with.source, a.depth() - with.depth, with.name}, with.columns, with.changes
		a.outerRef, a.nested, with.used = a.outerRef || with.changes, a.nested || with.nested, true
	case item.name == "kv":
		a.joinKV(&rel, &step, p)
	case v == nil:
		a.fail(item.at(), pgwire.CodeUndefinedTable, `relation "%s" does not exist`, item.name)
	default:
		step.source, rel.columns, rel.oid = v, v.columns, v.oid
	}
	a.renameColumns(&item.tableRef, &rel)
	on := item.on
	if item.natural {
		item.using = a.natural(item, &rel)
	}
	if item.using != nil {
		on = a.using(item, &rel)
	}
	step.lateral = step.lateral && !step.right // what it may refer to stays the same
	added := a.addStep(rel, step, p)
	if on != nil {
		a.noAggregate = "JOIN conditions"
		a.scope.visible = a.scope.tree
		added.conds = a.conditionsOf(on, "JOIN/ON")
	}
	a.noAggregate, a.scope.visible = "", visible
	if item.right && !item.left && added.tree == len(p.steps)-2 {
		p.mirror()
	}
}

// mirror makes a RIGHT JOIN of two relations a LEFT JOIN, which can look up the rows of the other one.
func (p *fromPlan) mirror() {
	last := len(p.steps) - 1
	l, r := p.steps[last-1], p.steps[last]
	l.left, l.conds = true, r.conds
	r.right, r.conds = false, nil
	p.steps[last-1], p.steps[last] = r, l
}

// joinKV makes a relation kv.
func (a *analyzer) joinKV(rel *relation, step *joinStep, p *fromPlan) {
	step.kv = &access{table: rel.table, joined: true, offset: p.width}
	step.source, rel.columns, rel.kv = keptRows{step.kv}, kvColumns, true
	a.nested, p.readsKV = true, true
}

// addStep adds a relation, whose columns are visible from then on.
func (a *analyzer) addStep(rel relation, step joinStep, p *fromPlan) *joinStep {
	step.number, step.width = len(p.steps), len(rel.columns)
	p.width += step.width
	a.scope.relations = append(a.scope.relations, rel)
	p.steps = append(p.steps, step)
	return &p.steps[len(p.steps)-1]
}

// natural lists the columns that NATURAL JOIN joins by.
func (a *analyzer) natural(item *fromItem, rel *relation) []columnName {
	list := []columnName{}
	add := func(name string) {
		same := func(c columnName) bool { return c.name == name }
		if rel.column(name, false, 0) != nil && !slices.ContainsFunc(list, same) {
			list = append(list, columnName{item.pos, name})
		}
	}
	for _, m := range a.scope.merged {
		if m.tree == a.scope.tree {
			add(m.name)
		}
	}
	for _, left := range a.scope.relations[a.scope.tree:] {
		for _, c := range left.columns {
			if !slices.Contains(left.merged, c.Name) {
				add(c.Name)
			}
		}
	}
	return list
}

// using makes the condition of JOIN … USING, and merges the columns it names. They come first in what is joined.
func (a *analyzer) using(item *fromItem, rel *relation) node {
	all := logicNode{pos: item.pos, and: true}
	var merged []mergedColumn
	for _, c := range item.using {
		of := a.leftColumn(c.name)
		side := "left"
		if of != nil {
			side = "right"
		}
		if of == nil || rel.column(c.name, false, 0) == nil {
			panic(pgwire.Errorf(pgwire.CodeUndefinedColumn, `column "%s" specified in USING clause does not exist in %s table`, c.name, side))
		}
		all.args = append(all.args, binaryNode{
			pos: c.pos, op: "=", l: a.mergedNode(c, of), r: columnNode{pos: c.pos, table: rel.table, name: c.name},
		})
		rel.merged = append(rel.merged, c.name)
		if item.right && !item.left {
			of = nil
		}
		if item.right {
			of = append(of, len(a.scope.relations))
		}
		merged = append(merged, mergedColumn{c.name, a.scope.tree, of})
	}
	a.scope.merged = append(merged, a.scope.merged...)
	if len(all.args) == 0 { // NATURAL JOIN without such columns
		return nil
	}
	return all
}

// leftColumn takes a column of what has been joined so far, to merge it with another: the relations that it is of.
func (a *analyzer) leftColumn(name string) (of []int) {
	count := 0
	for i, m := range a.scope.merged {
		if m.name == name && m.tree == a.scope.tree {
			of, count = m.of, count+1
			a.scope.merged = slices.Delete(slices.Clone(a.scope.merged), i, i+1)
			break
		}
	}
	for i := a.scope.tree; i < len(a.scope.relations); i++ {
		rel := &a.scope.relations[i]
		if rel.column(name, false, 0) != nil && !slices.Contains(rel.merged, name) {
			rel.merged = append(rel.merged, name)
			of, count = []int{i}, count+1
		}
	}
	if count > 1 {
		panic(pgwire.Errorf(pgwire.CodeAmbiguousColumn, `common column name "%s" appears more than once in left table`, name))
	}
	return of
}

// mergedNode is a column of several relations: the first that is not NULL.
func (a *analyzer) mergedNode(c columnName, of []int) node {
	columns := make([]node, len(of))
	for i, k := range of {
		columns[i] = columnNode{pos: c.pos, table: a.scope.relations[k].table, name: c.name}
	}
	if len(columns) == 1 {
		return columns[0]
	}
	return callNode{pos: c.pos, name: "coalesce", args: columns}
}

// renameColumns gives columns their aliases: FROM x AS t(a, b).
func (a *analyzer) renameColumns(ref *tableRef, rel *relation) {
	if len(ref.columns) > len(rel.columns) {
		a.fail(ref.at(), pgwire.CodeInvalidColumnReference, `table "%s" has %d columns available but %d columns specified`,
			rel.table, len(rel.columns), len(ref.columns))
	}
	rel.columns = slices.Clone(rel.columns)
	for i, name := range ref.columns {
		rel.columns[i].Name = name
	}
}

// fromCall makes a function's result a relation: one row, or those of a set.
func (a *analyzer) fromCall(item *fromItem) (source, []Column, bool) {
	before := a.columnRef
	var calls []*callExpr
	var columns []Column
	nodes := sideBySide(*item.call)
	for _, n := range nodes {
		a.allowed = true
		call, ok := a.call(n).(*callExpr)
		a.allowed, a.sets = false, nil
		if !ok {
			a.fail(item.at(), pgwire.CodeSyntaxError, `syntax error at or near "("`)
		}
		calls = append(calls, call)
		switch {
		case call.fn.Columns != nil:
			columns = append(columns, call.fn.Columns...)
		case len(nodes) == 1:
			columns = append(columns, Column{tableName(&item.tableRef), call.typ()})
		default:
			columns = append(columns, Column{n.name, call.typ()})
		}
	}
	lateral := a.columnRef > before
	if item.ordinal {
		columns = append(columns, Column{"ordinality", Int8})
	}
	if len(calls) == 1 && !item.ordinal {
		return calls[0], columns, lateral
	}
	return &callsSource{calls, item.ordinal, len(columns)}, columns, lateral
}

// sideBySide are the calls that FROM unnest(a, b) stands for: unnest(a) and unnest(b).
func sideBySide(n callNode) []callNode {
	if n.name != "unnest" || len(n.args) < 2 || n.distinct || n.order != nil || n.filter != nil {
		return []callNode{n}
	}
	calls := make([]callNode, len(n.args))
	for i, arg := range n.args {
		calls[i] = callNode{pos: n.pos, name: n.name, args: []node{arg}}
	}
	return calls
}

// whereOf analyzes WHERE over the relations of FROM. Each of its conditions is decided as soon as the
// relations that it refers to are there.
func (a *analyzer) whereOf(n node, p *fromPlan) {
	if n == nil {
		return
	}
	a.noAggregate = "WHERE"
	for _, cond := range a.conditionsOf(n, "WHERE") {
		step := &p.steps[p.decidedAt(cond.refs)]
		step.after = append(step.after, cond)
	}
	a.noAggregate = ""
}

// decidedAt is the step after which it can be decided what of WHERE refers to refs: of those that RIGHT JOIN joins, all are
// needed.
func (p *fromPlan) decidedAt(refs relations) (at int) {
	for i := range p.steps {
		if step := &p.steps[i]; refs&step.itself() != 0 || step.right && step.tree <= at {
			at = i
		}
	}
	return at
}

// conditionsOf analyzes what must all hold, and finds what each refers to.
func (a *analyzer) conditionsOf(n node, clause string) (list []condition) {
	conds := conditions(n)
	if len(conds) > 1 {
		clause = "AND"
	}
	for _, cond := range conds {
		var x expr
		refs := a.referred(func() { x = a.boolean(cond, clause) })
		list = append(list, condition{x, refs})
	}
	return list
}

// conditions lists what must all hold.
func conditions(n node) []node {
	if n == nil {
		return nil
	}
	chain, ok := n.(logicNode)
	if !ok || !chain.and {
		return []node{n}
	}
	var list []node
	for _, arg := range chain.args {
		list = append(list, conditions(arg)...)
	}
	return list
}
