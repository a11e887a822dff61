package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Anomaly is something that cannot have happened. Its name is one of these, where -realtime says that the
// order of calls and returns is part of the contradiction:
//
//	internal            a transaction did not see its own appends, or saw a list change
//	unwritten           a number that nobody appended
//	duplicate           a number that is twice in a list
//	incompatible-order  two reads of a list of which neither goes on where the other ends
//	G1a                 a read of what was aborted
//	G1b                 a read between two appends of one transaction
//	G0                  a cycle of ww
//	G1c                 a cycle of ww and wr
//	G-single            a cycle with one rw, such as a lost update, or a read of two states
//	G2-item             a cycle with more rw, such as write skew
//	phantom             a cycle with rw, one of them by a row that a range did not have yet
type Anomaly struct {
	Name string
	Txns []*Txn // of a cycle in its order
	Why  string
}

func (a Anomaly) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", a.Name, a.Why)
	for i, t := range a.Txns {
		fmt.Fprintf(&b, "\n  T%d: %s", i+1, t)
	}
	return b.String()
}

// Check returns the anomalies of a history. None: there is an order that explains it all. Of cycles it
// returns one of the worst kind for each knot of transactions, and not all there are.
func Check(txns []*Txn) []Anomaly {
	c := newChecker(txns)
	c.collect()
	c.checkReads()
	if len(c.found) > 0 {
		return c.found // the order of appends is not to be relied on
	}
	return c.cycles(c.build())
}

// A checker looks at one history.
type checker struct {
	all   []*Txn
	txns  []*Txn         // those that have, or may have, committed: the nodes
	node  map[*Txn]int   // their numbers
	added map[int]*write // by number
	keys  []string       // that anybody has appended to, in order
	lists map[string][]int
	found []Anomaly
}

// A write is an append.
type write struct {
	txn  *Txn
	key  string
	last bool // of its transaction to that key
}

func newChecker(txns []*Txn) *checker {
	return &checker{all: txns, node: map[*Txn]int{}, added: map[int]*write{}, lists: map[string][]int{}}
}

func (c *checker) complain(name string, txns []*Txn, format string, args ...any) {
	c.found = append(c.found, Anomaly{Name: name, Txns: txns, Why: fmt.Sprintf(format, args...)})
}

// collect finds out who appended what, and which transactions of unknown outcome have committed: those of
// which somebody else has read an append.
func (c *checker) collect() {
	for _, t := range c.all {
		last := map[string]*write{}
		for _, o := range t.Ops {
			if o.Kind == Append {
				w := &write{txn: t, key: o.Key}
				last[o.Key], c.added[o.Value] = w, w
			}
		}
		for key, w := range last {
			w.last = true
			c.keys = append(c.keys, key)
		}
	}
	slices.Sort(c.keys)
	c.keys = slices.Compact(c.keys)
	seen := map[*Txn]bool{}
	for _, t := range c.all {
		c.eachRead(t, func(r read) {
			for _, v := range r.list {
				if w := c.added[v]; w != nil && w.txn != t && t.Outcome != Aborted {
					seen[w.txn] = true
				}
			}
		})
	}
	for _, t := range c.all {
		if t.Outcome == Committed || t.Outcome == Unknown && seen[t] {
			c.node[t] = len(c.txns)
			c.txns = append(c.txns, t)
		}
	}
}

// A read is what a transaction found under a key, before its own appends.
type read struct {
	key    string
	list   []int
	absent bool // from a range, which did not have the key
}

// eachRead calls f for each key that a transaction has read, with what others had appended: a range reads all
// keys in it that there ever are.
func (c *checker) eachRead(t *Txn, f func(read)) {
	own := map[string][]int{}
	other := func(key string, list []int) []int { return list[:max(0, len(list)-len(own[key]))] }
	for _, o := range t.Ops {
		switch o.Kind {
		case Append:
			own[o.Key] = append(own[o.Key], o.Value)
		case Read:
			f(read{key: o.Key, list: other(o.Key, o.List)})
		case Range:
			keys := c.keysIn(o.Key, o.Hi)
			for _, key := range keys {
				list, there := o.Lists[key]
				f(read{key: key, list: other(key, list), absent: !there})
			}
			for _, key := range sortedKeys(o.Lists) {
				if _, ours := slices.BinarySearch(keys, key); !ours {
					f(read{key: key, list: o.Lists[key]})
				}
			}
		}
	}
}

// keysIn are the keys in [lo, hi).
func (c *checker) keysIn(lo, hi string) []string {
	from, _ := slices.BinarySearch(c.keys, lo)
	to, _ := slices.BinarySearch(c.keys, hi)
	return c.keys[from:max(from, to)]
}

// checkReads looks at each read by itself, and finds the order of the appends to each key: that of its
// longest list, which all others must be beginnings of.
func (c *checker) checkReads() {
	for _, t := range c.all {
		if t.Outcome == Aborted {
			continue // what it read was not confirmed
		}
		c.checkInternal(t)
		c.eachRead(t, func(r read) { c.checkRead(t, r) })
	}
	if len(c.found) > 0 {
		return
	}
	for _, t := range c.txns {
		c.eachRead(t, func(r read) {
			order := c.lists[r.key]
			if !slices.Equal(order[:min(len(r.list), len(order))], r.list) {
				c.complain("incompatible-order", []*Txn{t}, "%s was %v, and %v", r.key, r.list, order)
			}
		})
	}
}

// checkInternal verifies that a transaction sees one state, and its own appends on top.
func (c *checker) checkInternal(t *Txn) {
	known, own := map[string][]int{}, map[string][]int{}
	found := func(key string, list []int) {
		before, ok := known[key]
		if ok && !slices.Equal(list, before) || !endsWith(list, own[key]) {
			c.complain("internal", []*Txn{t}, "%s was %v, after its own %v and a read of %v", key, list, own[key], before)
		}
		known[key] = slices.Clip(list)
	}
	for _, o := range t.Ops {
		switch o.Kind {
		case Append:
			own[o.Key] = append(own[o.Key], o.Value)
			if list, ok := known[o.Key]; ok {
				known[o.Key] = append(list, o.Value)
			}
		case Read:
			found(o.Key, o.List)
		case Range:
			for _, key := range c.keysIn(o.Key, o.Hi) {
				found(key, o.Lists[key])
			}
		}
	}
}

func endsWith(list, end []int) bool {
	return len(list) >= len(end) && slices.Equal(list[len(list)-len(end):], end)
}

// checkRead looks at what a transaction read of others.
func (c *checker) checkRead(t *Txn, r read) {
	twice := map[int]bool{}
	for i, v := range r.list {
		w := c.added[v]
		switch {
		case w == nil || w.key != r.key:
			c.complain("unwritten", []*Txn{t}, "%s has %d", r.key, v)
			return
		case twice[v]:
			c.complain("duplicate", []*Txn{t}, "%s has %d twice", r.key, v)
			return
		case w.txn.Outcome == Aborted:
			c.complain("G1a", []*Txn{t, w.txn}, "T1 read %d in %s, which T2 appended and aborted", v, r.key)
		case !w.last && i == len(r.list)-1 && w.txn != t:
			c.complain("G1b", []*Txn{t, w.txn}, "T1 read %s up to %d, to which T2 appended more", r.key, v)
		}
		twice[v] = true
	}
	if len(r.list) > len(c.lists[r.key]) {
		c.lists[r.key] = r.list
	}
}

// sortedKeys makes reports the same each time.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
