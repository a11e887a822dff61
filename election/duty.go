package election

import (
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// A Duty is what the cluster wants of a node. It is worked out from what Raft holds, as far as the node knows. The
// zero Duty is that of a standby with nobody to follow.
type Duty struct {
	Epoch    uint64
	Primary  bool
	Founding bool           // of a primary: its log is the first epoch's, and goes on as it is
	Office   raftlog.Office // of a primary: what it was named with
	Upstream raftlog.Member // the primary that a standby follows; zero: nobody
}

// A Process is what of a node decides on its duty.
type Process struct {
	ID       syncrep.ID
	RunID    uint64
	Promised uint64 // nothing before this epoch is followed
	Log      uint64 // epoch of the log
	Reigned  uint64 // the last epoch in which this process was the primary
}

// DutyOf says what the cluster wants of a process. One that was named takes office once. One that was started
// since, or has promised a later epoch, does not: a new epoch is needed, and until then it follows nobody.
func DutyOf(s *raftlog.State, me Process) Duty {
	if s.SystemID == 0 || s.Epoch < me.Promised {
		return Duty{}
	}
	if s.Primary.ID != me.ID {
		upstream, _ := s.Member(s.Primary.ID)
		return Duty{Epoch: s.Epoch, Upstream: upstream}
	}
	sealing := s.Phase == raftlog.Sealing
	if s.Primary.RunID != me.RunID || s.Epoch <= me.Reigned || sealing {
		return Duty{}
	}
	founding := s.Epoch == me.Log
	return Duty{Epoch: s.Epoch, Primary: true, Founding: founding, Office: s.Primary}
}

// Fits reports whether a log that ends at a position is the one that a primary was named with (invariant I5).
func (d Duty) Fits(log raftlog.Position) bool { return d.Founding || log == d.Office.Position }

// Same reports whether a role goes on if its duty becomes o: a standby's does while it follows the same
// primary at the same address.
func (d Duty) Same(o Duty) bool {
	return d.Epoch == o.Epoch && d.Primary == o.Primary &&
		d.Upstream.ID == o.Upstream.ID && d.Upstream.Address == o.Upstream.Address
}
