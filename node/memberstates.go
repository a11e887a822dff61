package node

import (
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walsender"
)

// unknown is an age of which nothing is known.
const unknown time.Duration = -1

// A memberState is what a node knows of how another is.
type memberState struct {
	state                        string
	write, flush, apply          wal.LSN       // 0: not known
	writeAge, flushAge, applyAge time.Duration // of the newest it has
	diskFree, diskSize           uint64        // 0: not known
	damaged                      wal.LSN       // where the last damage to its log ends; 0: none, or not known
}

// memberStates is what each member answers, which is certain, and its stream to this node, which is newer.
func (r *reign) memberStates() map[string]memberState {
	health := r.node.health()
	streams := r.memberStreams()
	known := map[string]memberState{}
	for _, m := range r.node.raft.State().Members {
		s := memberState{state: "down"}
		h, answered := health[m.Name]
		if answered {
			s.state, s.write, s.flush, s.apply = "running", h.Write, h.Position.LSN, h.Replay
			if h.Role == election.RoleJoining {
				s.state = "starting"
			}
		}
		s.writeAge, s.flushAge, s.applyAge = unknown, unknown, unknown
		switch {
		case m.ID == r.node.memberID():
			s = r.ownState()
		case r.primary != nil:
			s = r.streamState(m, s, streams[m.Name])
		}
		s.diskFree, s.diskSize, s.damaged = h.DiskFree, h.DiskSize, h.Damaged
		known[m.Name] = s
	}
	return known
}

// memberStreams are the members' connections, of each the one that has got furthest.
func (r *reign) memberStreams() map[string]*walsender.Stat {
	streams := map[string]*walsender.Stat{}
	for _, s := range r.sender.Stats() {
		if before := streams[s.Name]; s.Member && (before == nil || s.State > before.State) {
			streams[s.Name] = &s
		}
	}
	return streams
}

// ownState is how this node is.
func (r *reign) ownState() memberState {
	s := memberState{
		state: "running", write: r.written().Load(), flush: r.flushed().Load(), apply: r.replayed(),
		writeAge: unknown, flushAge: unknown, applyAge: r.replayAge(),
	}
	if r.primary != nil {
		r.setAges(&s)
	}
	return s
}

// setAges says how old what a member has is, by its positions.
func (r *reign) setAges(s *memberState) {
	now, a := time.Now(), &r.primary.ages
	s.writeAge, s.flushAge, s.applyAge = a.of(s.write, now), a.of(s.flush, now), a.of(s.apply, now)
}

// streamState is how a standby is, as its primary sees it. One that does not stream is behind by what
// its slot keeps.
func (r *reign) streamState(m raftlog.Member, s memberState, stream *walsender.Stat) memberState {
	if stream == nil {
		if s.state == "running" {
			s.state = "not streaming"
		}
		if slot, ok := r.slots.Get(slots.MemberName(m.Name)); ok && slot.Restart != 0 {
			s.flushAge = r.primary.ages.of(slot.Restart, time.Now())
		}
		return s
	}
	s.state, s.write, s.flush, s.apply = stream.State.String(), stream.Write, stream.Flush, stream.Replay
	r.setAges(&s)
	if m.Witness {
		s.applyAge = unknown
	}
	return s
}

// replayAge is how old the newest is that a standby shows its readers, by the primary's clock.
func (r *reign) replayAge() time.Duration {
	if r.stream == nil || r.node.cfg.Witness {
		return unknown
	}
	now, heard := r.stream.Clock().Now()
	last, replayed := r.redo.LastTime()
	if !heard || !replayed {
		return unknown
	}
	return max(0, now.Sub(last))
}
