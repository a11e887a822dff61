package history

// A level is a class of anomalies: a cycle that has an edge of kind must, if there is one, and otherwise those
// of edges.
type level struct {
	name        string
	edges, must edgeKind
}

// levels, the worst first: a cycle of one is also one of those that follow.
var levels = []level{
	{name: "G0", edges: ww},
	{name: "G1c", edges: ww | wr},
	{name: "G-single", edges: ww | wr, must: rw}, // and no other rw
	{name: "G2-item", edges: ww | wr | rw, must: rw},
	{name: "phantom", edges: ww | wr | rw | rwAbsent, must: rwAbsent},
}

// cycles finds cycles, one for each knot and each level at which no worse was found in it.
func (c *checker) cycles(g *graph) []Anomaly {
	told := make([]bool, len(g.edges)) // part of a knot that has been reported
	for _, realTime := range []bool{false, true} {
		for _, l := range levels {
			if realTime {
				l.edges |= rt
				l.name += "-realtime"
			}
			for _, knot := range g.knots(l.edges|l.must, told) {
				cycle := g.cycleIn(knot, l)
				if cycle == nil {
					continue
				}
				c.found = append(c.found, c.describe(l.name, cycle))
				for _, n := range knot {
					told[n] = true
				}
			}
		}
	}
	return c.found
}

// enough is how many ways of closing a cycle are tried for a shorter one than the first.
const enough = 100

// cycleIn finds a cycle of a level among the nodes of a knot, nil if there is none.
func (g *graph) cycleIn(knot []int, l level) []step {
	inside := make(map[int]bool, len(knot))
	for _, n := range knot {
		inside[n] = true
	}
	first := l.must
	if first == 0 {
		first = l.edges
	}
	var shortest []step
	tries := 0
	for _, from := range knot {
		for _, e := range g.edges[from] {
			if e.kind&first == 0 || !inside[e.to] {
				continue
			}
			back := g.path(e.to, from, l.edges, inside)
			if back != nil && (shortest == nil || len(back)+1 < len(shortest)) {
				shortest = append([]step{{from, e}}, back...)
			}
			if shortest != nil {
				tries++
			}
			if len(shortest) == 2 || tries > enough {
				return shortest
			}
		}
	}
	return shortest
}

// path is a shortest way from one node to another, over edges of some kinds.
func (g *graph) path(from, to int, kinds edgeKind, inside map[int]bool) []step {
	came := map[int]step{}
	queue := []int{from}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if n == to {
			var way []step
			for n != from {
				s := came[n]
				way = append([]step{s}, way...)
				n = s.from
			}
			return way
		}
		for _, e := range g.edges[n] {
			if _, been := came[e.to]; e.kind&kinds != 0 && inside[e.to] && !been && e.to != from {
				came[e.to] = step{n, e}
				queue = append(queue, e.to)
			}
		}
	}
	return nil
}

// knots returns the strongly connected components of two nodes or more, without those that are in leave (Tarjan,
// "Depth-First Search and Linear Graph Algorithms", 1972; with a stack of its own, since paths are as long as
// histories).
func (g *graph) knots(kinds edgeKind, leave []bool) (knots [][]int) {
	const unseen = 0
	index, low := make([]int, len(g.edges)), make([]int, len(g.edges))
	onStack := make([]bool, len(g.edges))
	var stack []int
	next := 1
	type frame struct{ node, edge int }
	for root := range g.edges {
		if index[root] != unseen || leave[root] {
			continue
		}
		calls := []frame{{root, 0}}
		for len(calls) > 0 {
			f := &calls[len(calls)-1]
			n := f.node
			if f.edge == 0 {
				index[n], low[n] = next, next
				next++
				stack, onStack[n] = append(stack, n), true
			}
			if f.edge < len(g.edges[n]) {
				e := g.edges[n][f.edge]
				f.edge++
				switch {
				case e.kind&kinds == 0 || leave[e.to]:
				case index[e.to] == unseen:
					calls = append(calls, frame{e.to, 0})
				case onStack[e.to]:
					low[n] = min(low[n], index[e.to])
				}
				continue
			}
			calls = calls[:len(calls)-1]
			if len(calls) > 0 {
				up := calls[len(calls)-1].node
				low[up] = min(low[up], low[n])
			}
			if low[n] == index[n] {
				at := len(stack) - 1
				for stack[at] != n {
					at--
				}
				knot := append([]int(nil), stack[at:]...)
				for _, m := range knot {
					onStack[m] = false
				}
				if stack = stack[:at]; len(knot) > 1 {
					knots = append(knots, knot)
				}
			}
		}
	}
	return knots
}
