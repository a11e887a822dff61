package history

import (
	"cmp"
	"fmt"
	"slices"
)

// An edge leads to a transaction that must come later.
type edge struct {
	to   int
	kind edgeKind
	key  string
}

type edgeKind uint8

const (
	ww edgeKind = 1 << iota
	wr
	rw
	rwAbsent // an rw by a row that a range did not have yet
	rt
)

func (k edgeKind) String() string {
	return map[edgeKind]string{ww: "ww", wr: "wr", rw: "rw", rwAbsent: "rw", rt: "rt"}[k]
}

// A graph has the transactions as its first nodes; those behind them are moments, see realTime.
type graph struct{ edges [][]edge }

func (g *graph) add(from, to int, kind edgeKind, key string) {
	if from != to {
		g.edges[from] = append(g.edges[from], edge{to, kind, key})
	}
}

// build makes the graph.
func (c *checker) build() *graph {
	g := &graph{edges: make([][]edge, len(c.txns))}
	order := c.order()
	for _, key := range sortedKeys(order) {
		list := order[key]
		for i := 1; i < len(list.observed); i++ {
			g.add(list.observed[i-1], list.observed[i], ww, key)
		}
		for _, later := range list.rest {
			if n := len(list.observed); n > 0 {
				g.add(list.observed[n-1], later, ww, key)
			}
		}
	}
	for n, t := range c.txns {
		c.eachRead(t, func(r read) {
			list := order[r.key]
			if len(r.list) > 0 {
				g.add(list.observed[len(r.list)-1], n, wr, r.key)
			}
			kind := rw
			if r.absent {
				kind = rwAbsent
			}
			if next := c.next(list, n, len(r.list)); next >= 0 {
				g.add(n, next, kind, r.key)
				return
			}
			for _, later := range list.rest {
				g.add(n, later, kind, r.key)
			}
		})
	}
	c.sessions(g)
	c.realTime(g)
	return g
}

// A keyOrder is who appended to a key: those whose appends somebody has read, in order, one entry for each
// append, and those that have certainly committed, too, and so come after all of them.
type keyOrder struct{ observed, rest []int }

func (c *checker) order() map[string]keyOrder {
	order := map[string]keyOrder{}
	read := map[int]bool{}
	for key, list := range c.lists {
		o := order[key]
		for _, v := range list {
			o.observed = append(o.observed, c.node[c.added[v].txn])
			read[v] = true
		}
		order[key] = o
	}
	for n, t := range c.txns {
		for _, op := range t.Ops {
			if o := order[op.Key]; op.Kind == Append && !read[op.Value] && !slices.Contains(o.observed, n) {
				o.rest = append(o.rest, n)
				order[op.Key] = o
			}
		}
	}
	return order
}

// next is who appended first of those behind the first seen, reader excepted; -1 if nobody has read that.
func (c *checker) next(o keyOrder, reader, seen int) int {
	for _, n := range o.observed[seen:] {
		if n != reader {
			return n
		}
	}
	return -1
}

// sessions has each client see what it has seen and done before, stale or not.
func (c *checker) sessions(g *graph) {
	last := map[int]int{}
	for _, n := range c.byCall() {
		t := c.txns[n]
		if before, ok := last[t.Client]; ok {
			g.add(before, n, rt, "")
		}
		if t.Outcome == Committed {
			last[t.Client] = n
		}
	}
}

func (c *checker) byCall() []int {
	nodes := make([]int, len(c.txns))
	for n := range nodes {
		nodes[n] = n
	}
	slices.SortStableFunc(nodes, func(a, b int) int { return cmp.Compare(c.txns[a].Call, c.txns[b].Call) })
	return nodes
}

// realTime has whoever was called after another had returned come after it. To spare an edge for each pair
// there is a node for each return, a moment, which is after the one before:
//
//	T1 returned    T2 returned    T3 called
//	      |              |             ^
//	      v              v             |
//	  moment 1  --->  moment 2  -------+
func (c *checker) realTime(g *graph) {
	var returned []int
	for n, t := range c.txns {
		if t.Outcome == Committed {
			returned = append(returned, n)
		}
	}
	slices.SortFunc(returned, func(a, b int) int { return cmp.Compare(c.txns[a].Return, c.txns[b].Return) })
	first := len(g.edges)
	g.edges = append(g.edges, make([][]edge, len(returned))...)
	for i, n := range returned {
		g.add(n, first+i, rt, "")
		if i > 0 {
			g.add(first+i-1, first+i, rt, "")
		}
	}
	passed := 0
	for _, n := range c.byCall() {
		for passed < len(returned) && c.txns[returned[passed]].Return < c.txns[n].Call {
			passed++
		}
		if passed > 0 && !c.txns[n].Stale {
			g.add(first+passed-1, n, rt, "")
		}
	}
}

// A step is an edge with where it begins.
type step struct {
	from int
	edge
}

// describe tells a cycle: moments are left out.
func (c *checker) describe(name string, cycle []step) Anomaly {
	a := Anomaly{Name: name}
	for _, s := range cycle {
		if s.from >= len(c.txns) {
			continue // reached by rt, and left by it
		}
		a.Txns = append(a.Txns, c.txns[s.from])
		if len(a.Txns) > 1 {
			a.Why += ", "
		}
		a.Why += fmt.Sprintf("T%d %s", len(a.Txns), s.kind)
		if s.key != "" {
			a.Why += " " + s.key
		}
	}
	a.Why = "each before the next, and the last before the first: " + a.Why
	return a
}
