package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/longship-db/longship/syncrep"
)

// A WhatIf says what the loss of nodes would mean.
type WhatIf struct {
	Lose      []string `json:"lose"`
	Then      string   `json:"then"`
	Primary   *string  `json:"primary"`    // afterwards; null: there would be none
	LostBytes int64    `json:"lost_bytes"` // of acknowledged commits
}

// A Node is a member of the cluster, as far as its loss matters.
type Node struct {
	Name    string
	Primary bool
	Up      bool
	Joining bool // ANY MAJORITY does not count it yet
}

// Foresee says, for each node that is up, what its loss would mean while roles are fixed: a primary
// comes back as it was, and nobody takes its place meanwhile. streams are those of the primary,
// receivers included.
func Foresee(rule syncrep.Rule, nodes []Node, streams []syncrep.Standby) []WhatIf {
	list := []WhatIf{}
	without := func(lost string) []syncrep.Standby {
		return slices.DeleteFunc(slices.Clone(streams), func(s syncrep.Standby) bool { return s.Name == lost })
	}
	primary := slices.IndexFunc(nodes, func(n Node) bool { return n.Primary })
	for _, n := range nodes {
		w := WhatIf{Lose: []string{n.Name}}
		switch {
		case !n.Up:
			continue
		case n.Primary:
			w.Then = fmt.Sprintf("writes stop until %s returns%s", n.Name, readers(nodes))
		case met(rule, nodes, without(n.Name)):
			w.Then = "writes go on"
		case met(rule, nodes, streams):
			w.Then = "writes wait until it returns: the rule needs it"
		default:
			w.Then = "writes wait, as they do now: the rule is not met"
		}
		if !n.Primary && primary >= 0 {
			w.Primary = &nodes[primary].Name
		}
		list = append(list, w)
	}
	return list
}

// met reports whether enough standbys stream for commits to be acknowledged.
func met(rule syncrep.Rule, nodes []Node, streams []syncrep.Standby) bool {
	counted := 0
	for _, n := range nodes {
		if !n.Joining {
			counted++
		}
	}
	_, released := syncrep.Evaluate(rule, counted, streams)
	return released.OK
}

// readers says where reads go on without the primary.
func readers(nodes []Node) string {
	var names []string
	for _, n := range nodes {
		if n.Up && !n.Primary {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; reads go on at " + strings.Join(names, ", ")
}
