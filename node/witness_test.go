package node

import (
	"strings"
	"testing"

	"github.com/longship-db/longship/syncrep"
)

// Commits are said to wait for those who would apply them if there is a witness in their place, they are not there,
// and a commit waits at remote_apply for nothing else; each of them is named once, though two rules be in force.
func TestWaitingCommits(t *testing.T) {
	listed := func(name string, node uint64) syncrep.Listed {
		return syncrep.Listed{ID: syncrep.ID{Node: node, Incarnation: 1}, Name: name}
	}
	n2, n3, w := listed("n2", 2), listed("n3", 3), listed("w", 4)
	w.Witness = true
	stream := func(l syncrep.Listed) syncrep.Stream {
		return syncrep.Stream{Standby: syncrep.Standby{Name: l.Name, ID: l.ID, State: syncrep.Streaming}}
	}
	catchup, superseded := stream(n2), stream(n2)
	catchup.Standby.State, superseded.Standby.Superseded = syncrep.Catchup, true
	rule := func(of ...syncrep.Listed) []syncrep.Resolved { return []syncrep.Resolved{{K: 1, Listed: of}} }
	for name, test := range map[string]struct {
		s    syncrep.Snapshot
		want string // who is waited for
	}{
		"nobody is there":       {syncrep.Snapshot{ApplyWaits: true, Resolved: rule(n2, w)}, "n2"},
		"the witness alone is":  {syncrep.Snapshot{ApplyWaits: true, Resolved: rule(n2, w), Streams: []syncrep.Stream{stream(w)}}, "n2"},
		"two are not":           {syncrep.Snapshot{ApplyWaits: true, Resolved: rule(n2, n3, w)}, "n2 or n3"},
		"one of two is":         {syncrep.Snapshot{ApplyWaits: true, Resolved: rule(n2, n3, w), Streams: []syncrep.Stream{stream(n3)}}, "n2"},
		"the standby is":        {syncrep.Snapshot{ApplyWaits: true, Resolved: rule(n2, w), Streams: []syncrep.Stream{stream(n2)}}, ""},
		"it is behind":          {syncrep.Snapshot{ApplyWaits: true, Resolved: rule(n2, w), Streams: []syncrep.Stream{catchup}}, "n2"},
		"its old stream is":     {syncrep.Snapshot{ApplyWaits: true, Resolved: rule(n2, w), Streams: []syncrep.Stream{superseded}}, "n2"},
		"no commit waits so":    {syncrep.Snapshot{Resolved: rule(n2, w)}, ""},
		"there is no witness":   {syncrep.Snapshot{ApplyWaits: true, Resolved: rule(n2, n3)}, ""},
		"the rule changes":      {syncrep.Snapshot{ApplyWaits: true, Resolved: append(rule(n2), rule(n2, w)...)}, "n2"},
		"nobody has to have it": {syncrep.Snapshot{ApplyWaits: true}, ""},
	} {
		got, ok := strings.CutPrefix(waitingCommits(test.s), "commits at synchronous_commit = remote_apply wait for ")
		if who, _, _ := strings.Cut(got, " to apply them"); who != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
