package sql

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// A scope is what column names are looked up in: the relations of FROM, EXCLUDED, and the scopes of the
// queries around.
type scope struct {
	relations []relation
	kv        bool // the relation is kv
	excluded  bool // EXCLUDED may be referred to
	tree      int  // the first relation that is joined with the one that is added
	visible   int  // the first that may be referred to here
	outer     *scope
	refs      relations // that were referred to since this was emptied
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
	merged  []string // columns that USING has made one with those of the relation before
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
	if found == nil && sc.kv && n.table == "" && n.name == sc.relations[0].table {
		sc.refs |= 1
		return &wholeRow{depth}
	}
	if at >= 0 {
		sc.refs |= 1 << at
	}
	return found
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
	step := joinStep{table: rel.table, left: item.left, offset: p.width}
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
	if item.using != nil {
		on = a.using(item, &rel)
	}
	added := a.addStep(rel, step, p)
	if on != nil {
		a.noAggregate = "JOIN conditions"
		visible := a.scope.visible
		a.scope.visible = a.scope.tree
		added.conds = a.conditionsOf(on, "JOIN/ON")
		a.scope.visible = visible
	}
	a.noAggregate = ""
}

// joinKV makes a relation kv.
func (a *analyzer) joinKV(rel *relation, step *joinStep, p *fromPlan) {
	step.kv = &access{table: rel.table, joined: true, offset: p.width}
	step.source, rel.columns, rel.kv = keptRows{step.kv}, kvColumns, true
	a.nested, p.readsKV = true, true
}

// addStep adds a relation, whose columns are visible from then on.
func (a *analyzer) addStep(rel relation, step joinStep, p *fromPlan) *joinStep {
	step.width = len(rel.columns)
	p.width += step.width
	a.scope.relations = append(a.scope.relations, rel)
	p.steps = append(p.steps, step)
	return &p.steps[len(p.steps)-1]
}

// using makes the condition of JOIN … USING, and merges the columns it names.
func (a *analyzer) using(item *fromItem, rel *relation) node {
	all, joined := logicNode{pos: item.pos, and: true}, a.scope.relations[a.scope.tree:]
	for _, c := range item.using {
		left := slices.IndexFunc(joined, func(r relation) bool { return r.column(c.name, false, 0) != nil && !slices.Contains(r.merged, c.name) })
		side := "left"
		if left >= 0 {
			side = "right"
		}
		if left < 0 || rel.column(c.name, false, 0) == nil {
			panic(pgwire.Errorf(pgwire.CodeUndefinedColumn, `column "%s" specified in USING clause does not exist in %s table`, c.name, side))
		}
		rel.merged = append(rel.merged, c.name)
		all.args = append(all.args, binaryNode{
			pos: c.pos, op: "=",
			l: columnNode{pos: c.pos, table: joined[left].table, name: c.name},
			r: columnNode{pos: c.pos, table: rel.table, name: c.name},
		})
	}
	return all
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
		step := &p.steps[max(bits.Len64(uint64(cond.refs))-1, 0)]
		step.after = append(step.after, cond)
	}
	a.noAggregate = ""
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
