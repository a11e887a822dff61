package node

import (
	"testing"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/syncrep"
)

// Two streams in one zone are as many as the rule asks for, and not in as many zones. A rule that is done
// without is not met; and a standby cannot say.
func TestRuleMet(t *testing.T) {
	id := func(n uint64) syncrep.ID { return syncrep.ID{Node: n, Incarnation: 1} }
	group := syncrep.NewGroup()
	r, state := &reign{primary: &primary{group: group}}, &raftlog.State{}
	want := func(when string, want sql.Value) {
		t.Helper()
		if got := r.ruleMet(state); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	join := func(n uint64) *syncrep.Handle {
		h := group.Join("", id(n))
		h.SetState(syncrep.Streaming)
		h.Report(9, 9, 9)
		return h
	}
	group.SetRules(syncrep.Rule{}, syncrep.Resolved{K: 2, Zones: 2, Listed: []syncrep.Listed{
		{ID: id(2), Zone: "a"}, {ID: id(3), Zone: "a"}, {ID: id(4), Zone: "b"},
	}})
	join(2)
	join(3)
	want("two in one zone", sql.BoolValue(false))
	h := join(4)
	want("and one in another", sql.BoolValue(true))
	state.Rule.Degraded = &raftlog.Degraded{}
	want("done without", sql.BoolValue(false))
	state.Rule.Degraded = nil
	h.Leave()
	want("lost again", sql.BoolValue(false))
	r.primary = nil
	want("on a standby", sql.Value{})
}
