package sql

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// A grouping is GROUP BY and HAVING: rows with equal values of what it lists are counted together, and each such group
// becomes one row.
type grouping struct {
	nodes  []node
	by     []expr
	having expr // nil: all groups

	distinct bool // made of SELECT DISTINCT
}

// distinctKV reports whether n is a SELECT DISTINCT from kv: other relations can be selected from twice.
func (a *analyzer) distinctKV(n *selectStmt) bool {
	return n.distinct && len(n.from) == 1 && n.from[0].name == "kv" && n.from[0].call == nil && a.withTable("kv") == nil &&
		n.groupBy == nil && n.having == nil && !slices.ContainsFunc(n.targets, func(t target) bool {
		call, ok := t.expr.(callNode)
		return ok && isAggregate[call.name]
	})
}

// groupedByAll makes SELECT DISTINCT a GROUP BY all that is selected.
func groupedByAll(n *selectStmt) *selectStmt {
	grouped := *n
	grouped.distinct, grouped.groupAll = false, true
	for _, t := range n.targets {
		if t.expr != nil {
			grouped.groupBy = append(grouped.groupBy, t.expr)
			continue
		}
		for i, c := range kvColumns {
			if aliases := n.from[0].columns; i < len(aliases) {
				c.Name = aliases[i]
			}
			grouped.groupBy = append(grouped.groupBy, columnNode{pos: t.pos, table: t.table, name: c.Name})
		}
	}
	return &grouped
}

// groupBy analyzes GROUP BY. From then on, outside of aggregates, only what it lists can be referred to.
func (a *analyzer) groupBy(n *selectStmt) {
	if n.groupBy == nil && n.having == nil {
		return
	}
	g := &grouping{distinct: n.groupAll}
	a.noAggregate = "GROUP BY"
	for _, item := range n.groupBy {
		if !n.groupAll {
			item = a.groupItem(item, n.targets)
		}
		g.nodes, g.by = append(g.nodes, item), append(g.by, a.typed(item))
	}
	if a.scope.kv && slices.ContainsFunc(g.by, isKey) { // a row is known by its key, and so are its columns
		for _, c := range a.scope.relations[0].columns {
			column := columnNode{name: c.Name}
			g.nodes, g.by = append(g.nodes, column), append(g.by, a.expr(column))
		}
	}
	for i := range a.scope.relations {
		a.groupByKey(g, &a.scope.relations[i])
	}
	a.noAggregate = ""
	a.grouping = g
}

// groupByKey adds the columns of kv, joined with others, where its key is listed.
func (a *analyzer) groupByKey(g *grouping, rel *relation) {
	of := access{joined: true, offset: rel.offset}
	if !rel.kv || !slices.ContainsFunc(g.by, of.isKey) {
		return
	}
	for _, c := range rel.columns {
		column := columnNode{table: rel.table, name: c.Name}
		g.nodes, g.by = append(g.nodes, column), append(g.by, a.expr(column))
	}
}

// groupItem is what an item of GROUP BY stands for: a number or a name may mean a column of the result.
func (a *analyzer) groupItem(n node, targets []target) node {
	switch n := n.(type) {
	case literalNode:
		i, err := parseInt(n.text, Int4)
		if err != nil || n.kind == tokString {
			a.fail(n.at(), pgwire.CodeSyntaxError, "non-integer constant in GROUP BY")
		}
		if i.n < 1 || i.n > int64(len(targets)) {
			a.fail(n.at(), pgwire.CodeInvalidColumnReference, "GROUP BY position %d is not in select list", i.n)
		}
		if slices.ContainsFunc(targets[:i.n], func(t target) bool { return t.expr == nil }) {
			a.fail(n.at(), pgwire.CodeFeatureNotSupported, "a position after * in GROUP BY is not supported")
		}
		return targets[i.n-1].expr
	case columnNode:
		if n.table != "" || a.find(&a.scope, n, 0) != nil {
			return n
		}
		for _, t := range targets {
			if t.alias == n.name && t.expr != nil {
				return t.expr
			}
		}
	}
	return n
}

// A groupExpr is something that GROUP BY lists.
type groupExpr struct {
	index int
	t     Type
}

func (x *groupExpr) typ() Type                  { return x.t }
func (x *groupExpr) eval(e *env) (Value, error) { return e.group[x.index], nil }

// groupColumn is n as something that GROUP BY lists, nil if it does not.
func (a *analyzer) groupColumn(n node) expr {
	g := a.grouping
	if !slices.ContainsFunc(g.nodes, func(other node) bool { return reflect.TypeOf(other) == reflect.TypeOf(n) }) {
		return nil
	}
	if call, ok := n.(callNode); ok && isAggregate[call.name] {
		return nil
	}
	level := a.queryLevel
	a.grouping, a.noAggregate = nil, "GROUP BY"
	x := a.plain(n)
	a.queryLevel = level
	for i, by := range g.by {
		if x != nil && reflect.DeepEqual(x, by) {
			a.columnRef++
			return &groupExpr{i, by.typ()}
		}
	}
	return nil
}

// plain analyzes n without regard to GROUP BY; nil if it holds an aggregate or is wrong, which its parts will tell.
func (a *analyzer) plain(n node) (x expr) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(*pgwire.Error); !ok {
				panic(r)
			}
			x = nil
		}
	}()
	return a.expr(n)
}

// groups are those of one run, in the order in which their first rows came.
type groups struct {
	byKey map[string]*group
	list  []*group
}

type group struct {
	values []Value // of what GROUP BY lists
	tuple  []Value // of the first row, for subqueries that refer to it
	sums   []tally
}

// takeGrouped counts the row in s.e into its group.
func (s *selection) takeGrouped() error {
	g, err := s.groupOf()
	if err != nil {
		return err
	}
	for i := range s.plan.aggregates {
		if err := s.plan.aggregates[i].add(&g.sums[i], s.e); err != nil {
			return err
		}
	}
	return nil
}

// groupOf is the group of the row in s.e.
func (s *selection) groupOf() (*group, error) {
	values, making := make([]Value, len(s.plan.group.by)), unfinished{e: s.e}
	for i, x := range s.plan.group.by {
		var err error
		if values[i], err = making.value(x); err != nil {
			return nil, err
		}
	}
	making.done()
	key := groupKey(values, s.e)
	if g := s.groups.byKey[key]; g != nil {
		return g, nil
	}
	for i := range values {
		values[i] = values[i].clone()
	}
	return s.newGroup(key, values)
}

func (s *selection) newGroup(key string, values []Value) (*group, error) {
	g := &group{values: values, tuple: s.keptTuple()}
	for i := range s.plan.aggregates {
		g.sums = append(g.sums, s.plan.aggregates[i].start())
	}
	if s.groups.byKey == nil {
		s.groups.byKey = map[string]*group{}
	}
	s.groups.byKey[key] = g
	s.groups.list = append(s.groups.list, g)
	return g, s.e.hold(4*rowSize + len(key) + valuesSize(values) + valuesSize(g.tuple) + len(g.sums)*2*valueSize)
}

// emitGroups emits a row for each group that HAVING lets through, or keeps it for the sort. more is false when no
// further row is wanted.
func (s *selection) emitGroups() (more bool, err error) {
	if len(s.plan.group.by) == 0 && len(s.groups.list) == 0 { // all rows are one group, even if there are none
		if _, err := s.newGroup("", nil); err != nil {
			return false, err
		}
	}
	for _, g := range s.groups.list {
		if err := s.e.step(rowCost); err != nil {
			return false, err
		}
		s.e.group, s.e.tuple, s.e.aggs = g.values, g.tuple, make([]Value, len(g.sums))
		for i := range g.sums {
			if s.e.aggs[i], err = s.plan.aggregates[i].result(&g.sums[i], s.e); err != nil {
				return false, err
			}
		}
		if wanted, err := passes(s.plan.group.having, s.e); err != nil {
			return false, err
		} else if !wanted || s.limit == 0 {
			continue
		}
		s.results++
		if s.plan.order != nil {
			err, more = s.collect(), true
		} else {
			more, err = s.emit()
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// groupKey is a text that is the same for values that are equal, and for no others. NULL is equal to itself.
func groupKey(values []Value, e *env) string {
	var key strings.Builder
	for _, v := range values {
		text := ""
		switch {
		case v.IsNull():
			key.WriteByte('-')
			continue
		case v.typ == Numeric && strings.Contains(v.s, "."):
			text = strings.TrimSuffix(strings.TrimRight(v.s, "0"), ".")
		case v.typ == Interval:
			days, us := intervalOrder(v)
			text = strconv.FormatInt(days, 10) + " " + strconv.FormatInt(us, 10)
		case isFloat(v.typ) && v.float() == 0:
			text = "0"
		default:
			text = textOf(v, e.loc())
		}
		key.WriteString(strconv.Itoa(len(text)) + ":" + text)
	}
	return key.String()
}
