package election

import (
	"testing"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// What Raft holds, what this node has promised and which process it is decide on its duty.
func TestDutyOf(t *testing.T) {
	one, two := syncrep.ID{Node: 1, Incarnation: 1}, syncrep.ID{Node: 2, Incarnation: 1}
	other := raftlog.Member{ID: two, Name: "n2", Address: "n2:5433"}
	state := func(phase raftlog.Phase, epoch uint64, primary syncrep.ID, run uint64) *raftlog.State {
		return &raftlog.State{
			SystemID: 7, Epoch: epoch, Phase: phase,
			Primary: raftlog.Office{ID: primary, RunID: run},
			Members: []raftlog.Member{{ID: one, Name: "n1"}, other},
		}
	}
	me := func(promised, log, reigned uint64) Process {
		return Process{ID: one, RunID: 10, Promised: promised, Log: log, Reigned: reigned}
	}
	follow := func(epoch uint64) Duty { return Duty{Epoch: epoch, Upstream: other} }

	for _, tt := range []struct {
		what  string
		state *raftlog.State
		me    Process
		want  Duty
	}{
		{"no cluster yet", &raftlog.State{}, me(0, 1, 0), Duty{}},
		{"founder", state(raftlog.Steady, 1, one, 10), me(0, 1, 0), Duty{Epoch: 1, Primary: true, Founding: true}},
		{"named", state(raftlog.Opening, 3, one, 10), me(3, 2, 0), Duty{Epoch: 3, Primary: true}},
		{"named, and promised no later epoch", state(raftlog.Opening, 3, one, 10), me(2, 2, 0), Duty{Epoch: 3, Primary: true}},
		{"another process of this node was named (H5)", state(raftlog.Opening, 3, one, 9), me(3, 2, 0), Duty{}},
		{"it was named before it started again", state(raftlog.Steady, 1, one, 9), me(0, 1, 0), Duty{}},
		{"this node with another disk was named", state(raftlog.Opening, 3, syncrep.ID{Node: 1, Incarnation: 2}, 10), me(3, 2, 0), Duty{Epoch: 3}},
		{"its time is over", state(raftlog.Steady, 3, one, 10), me(3, 3, 3), Duty{}},
		{"named, and promised a later epoch since", state(raftlog.Opening, 3, one, 10), me(4, 2, 0), Duty{}},
		{"named, and the next is being sealed", state(raftlog.Sealing, 3, one, 10), me(3, 2, 0), Duty{}},
		{"standby", state(raftlog.Steady, 3, two, 20), me(3, 3, 0), follow(3)},
		{"standby of one that is not open yet", state(raftlog.Opening, 3, two, 20), me(3, 2, 0), follow(3)},
		{"standby that nobody has asked to seal yet", state(raftlog.Sealing, 3, two, 20), me(3, 3, 0), follow(3)},
		{"sealed (I3)", state(raftlog.Sealing, 3, two, 20), me(4, 3, 0), Duty{}},
		{"sealed, with old news from Raft (I3)", state(raftlog.Steady, 3, two, 20), me(4, 3, 0), Duty{}},
		{"deposed", state(raftlog.Opening, 4, two, 20), me(4, 3, 3), follow(4)},
		{"the primary has left the list", state(raftlog.Steady, 3, syncrep.ID{Node: 5}, 20), me(3, 3, 0), Duty{Epoch: 3}},
	} {
		tt.want.Office = raftlog.Office{}
		if tt.want.Primary {
			tt.want.Office = tt.state.Primary
		}
		if got := DutyOf(tt.state, tt.me); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.what, got, tt.want)
		}
	}
}
