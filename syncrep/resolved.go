package syncrep

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An ID is the identity of a member: a node, and the disk it has now. An empty or restored disk has
// another incarnation, and is another member (invariant I9). The zero ID is nobody's.
type ID struct {
	Node        uint64
	Incarnation uint64
}

// IsZero reports whether it is nobody's.
func (id ID) IsZero() bool { return id == ID{} }

func (id ID) compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Node, o.Node), cmp.Compare(id.Incarnation, o.Incarnation))
}

// String prints two times 16 hexadecimal digits: node/incarnation.
func (id ID) String() string { return fmt.Sprintf("%016x/%016x", id.Node, id.Incarnation) }

// MarshalText prints what String prints.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText prints.
func (id *ID) UnmarshalText(b []byte) error {
	node, incarnation, ok := strings.Cut(string(b), "/")
	n, errNode := strconv.ParseUint(node, 16, 64)
	i, errIncarnation := strconv.ParseUint(incarnation, 16, 64)
	if !ok || errNode != nil || errIncarnation != nil {
		return fmt.Errorf("member identity %q: want node/incarnation, in hexadecimal", b)
	}
	id.Node, id.Incarnation = n, i
	return nil
}

// A Resolved is a rule as the cluster has agreed on it. It was worked out when it was recorded, and
// means the same whoever is connected when it is used. The primary is not listed: it never counts
// itself, nor its zone. K 0 is the empty rule.
//
// It has one meaning, in three uses. A set of the listed *satisfies* it if it has K of them or more, in
// Zones distinct zones or more:
//
//   - A commit is released at the highest position that those who have it satisfy the rule (I1).
//   - A sealed set is sure to have every such commit if the listed that are not in it do not (I4). With
//     Zones 0 that is N-K+1 of N.
//   - A lease lasts as long as the promises of some that do (I11): nobody can be promoted without them.
//
// More never satisfy less, so any that satisfy it and any that are sure to have every commit have one
// in common.
type Resolved struct {
	K      int      `json:"k"`
	Zones  int      `json:"zones,omitempty"`
	Listed []Listed `json:"listed,omitempty"`
}

// A Listed is one of those that a Resolved rule counts: a member, or, with a zero ID, a receiver of that
// name, which acknowledges but cannot be sealed.
type Listed struct {
	ID   ID     `json:"id"`
	Name string `json:"name"`
	// Zone is where it was when the rule was recorded, if the rule asks for zones. Those without one, as
	// all receivers, are in the same: "".
	Zone    string `json:"zone,omitempty"`
	Witness bool   `json:"witness,omitempty"` // it keeps no table: it writes and flushes, and never applies
}

// Satisfied reports whether those of the listed that have something satisfy the rule.
func (r Resolved) Satisfied(has func(Listed) bool) bool {
	q := newQuorum[int](r)
	for i, l := range r.Listed {
		q.at[i] = 0
		if has(l) {
			q.at[i] = 1
		}
	}
	return r.K == 0 || q.reached() > 0
}

// A quorum works out how far enough of a rule's listed have come. It is used again and again, to spare
// the allocations.
type quorum[T cmp.Ordered] struct {
	need  int
	zones int
	at    []T   // by place in the list: how far each is; zero: nowhere
	zone  []int // by place: which of the zones it is in, counted from 0; nil if the rule asks for none
	best  []T   // by zone, scratch: how far the furthest in it is
}

func newQuorum[T cmp.Ordered](r Resolved) quorum[T] {
	q := quorum[T]{need: r.K, zones: r.Zones, at: make([]T, len(r.Listed))}
	if r.Zones <= 0 {
		return q
	}
	var names []string
	for _, l := range r.Listed {
		i := slices.Index(names, l.Zone)
		if i < 0 {
			i, names = len(names), append(names, l.Zone)
		}
		q.zone = append(q.zone, i)
	}
	q.best = make([]T, len(names))
	return q
}

// reached is the highest value such that those who are as far or further satisfy the rule: K of them
// are as far as the K-th furthest is, and in Z zones somebody is as far as the furthest of the Z-th
// zone. It is zero if not even all of them satisfy it. The rule is not empty. It sorts at.
func (q *quorum[T]) reached() (none T) {
	if q.need <= 0 || q.need > len(q.at) || q.zones > len(q.best) {
		return none
	}
	if q.zones == 0 {
		return furthest(q.at, q.need)
	}
	clear(q.best)
	for i, at := range q.at {
		q.best[q.zone[i]] = max(q.best[q.zone[i]], at)
	}
	return min(furthest(q.at, q.need), furthest(q.best, q.zones))
}

// furthest is the n-th largest value. It sorts them.
func furthest[T cmp.Ordered](values []T, n int) T {
	slices.Sort(values)
	return values[len(values)-n]
}

// Lists reports whether the rule counts the disk.
func (r Resolved) Lists(id ID) bool { return !id.IsZero() && r.entry("", id) >= 0 }

// applying is the rule for those of the listed that keep a table, and so apply the log: as many of them
// as of all, in as many zones, as far as there are so many. It returns their places in the list, too.
func (r Resolved) applying() (a Resolved, places []int) {
	zones := map[string]bool{}
	for i, l := range r.Listed {
		if !l.Witness {
			a.Listed, places, zones[l.Zone] = append(a.Listed, l), append(places, i), true
		}
	}
	a.K, a.Zones = min(r.K, len(places)), min(r.Zones, len(zones))
	return a, places
}

// entry is the place in the list of a member, by its disk, or of a receiver, by its name; or -1.
func (r Resolved) entry(name string, id ID) int {
	return slices.IndexFunc(r.Listed, func(l Listed) bool {
		return l.ID == id && (!id.IsZero() || equalFold(l.Name, name))
	})
}
