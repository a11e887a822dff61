package slots

import (
	"time"

	"github.com/longship-db/longship/wal"
)

// A Reason is why a slot was invalidated, as PostgreSQL 18 shows it in
// pg_replication_slots.invalidation_reason.
type Reason string

// The reasons.
const (
	WALRemoved  Reason = "wal_removed"  // it needed more than max_slot_wal_keep_size, or its WAL is not here
	IdleTimeout Reason = "idle_timeout" // nobody used it for idle_replication_slot_timeout
)

// A Cutoff says which slots are invalidated.
type Cutoff struct {
	Before    wal.LSN   // those that need WAL before it
	IdleSince time.Time // and those that nobody has used since, by the monotonic clock, unless it is zero
}

// takes returns why a slot is to be invalidated, or "". One that reserves nothing has nothing to lose.
func (c Cutoff) takes(sl *slot) Reason {
	switch {
	case sl.state.restart == 0:
		return ""
	case sl.state.restart < c.Before:
		return WALRemoved
	case !c.IdleSince.IsZero() && sl.pid == 0 && !sl.idle.IsZero() && sl.unused.Before(c.IdleSince):
		return IdleTimeout
	}
	return ""
}

// An Invalidated is a slot that lost its WAL.
type Invalidated struct {
	Name    string
	Restart wal.LSN // what it needed
	PID     int32   // who uses it, to be terminated; 0 = nobody
	Reason  Reason
	Idle    time.Duration // for how long nobody has used it
}

// Invalidate takes their claim from the slots beyond a cutoff. They reserve nothing and are lost; a
// handle on them advances nothing any more, but whoever acquires the slot anew and finds its WAL still
// there brings it back to life, as in PostgreSQL 15. When Invalidate has returned without error this is
// on disk, and the WAL may go:
//
//	crash before the files are saved: the slots are as they were, and so is their WAL
//	crash after that, before the WAL is gone: the slots are lost, some WAL stays a checkpoint longer
func (s *Slots) Invalidate(c Cutoff) ([]Invalidated, error) {
	s.disk.Lock()
	defer s.disk.Unlock()
	lost, changed := s.invalidate(c)
	if !changed {
		return nil, nil
	}
	return lost, s.saveDirty()
}

func (s *Slots) invalidate(c Cutoff) (lost []Invalidated, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		if reason := c.takes(sl); reason != "" {
			lost = append(lost, Invalidated{Name: sl.name, Restart: sl.state.restart, PID: sl.pid, Reason: reason, Idle: sl.idleFor()})
			sl.state = state{invalidatedAt: sl.state.restart, number: sl.state.number}
			sl.reason, sl.decided = reason, true
			sl.agreed = 0
			sl.revoked, sl.dirty, changed = true, true, true
		}
		if sl.agreed != 0 && sl.agreed < c.Before {
			// The consumer has moved on, which the cluster does not know yet.
			sl.agreed = 0
			sl.dirty, changed = true, true
		}
	}
	return lost, changed
}
