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

// A Resolved is a rule as the cluster has agreed on it: K of the listed disks. It was worked out when
// it was recorded, and means the same whoever is connected when it is used. The primary is not
// listed: it never counts itself. K 0 is the empty rule.
type Resolved struct {
	K      int      `json:"k"`
	Listed []Listed `json:"listed,omitempty"`
}

// A Listed is one of those that a Resolved rule counts: a member, or, with a zero ID, a receiver of that
// name, which acknowledges but cannot be sealed.
type Listed struct {
	ID   ID     `json:"id"`
	Name string `json:"name"`
}

// Lists reports whether the rule counts the disk.
func (r Resolved) Lists(id ID) bool { return !id.IsZero() && r.entry("", id) >= 0 }

// entry is the place in the list of a member, by its disk, or of a receiver, by its name; or -1.
func (r Resolved) entry(name string, id ID) int {
	return slices.IndexFunc(r.Listed, func(l Listed) bool {
		return l.ID == id && (!id.IsZero() || equalFold(l.Name, name))
	})
}
