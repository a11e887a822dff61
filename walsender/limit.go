package walsender

import (
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A limit is how much of the log a client may see: as far as all of its positions have come. Each of
// them stands at a record's end or a page boundary, so what is sent up to the limit may end there.
type limit []*wal.Position

func (l limit) load() wal.LSN {
	least := l[0].Load()
	for _, p := range l[1:] {
		least = min(least, p.Load())
	}
	return least
}

// changed returns a channel that is closed when it is worth while to load again, for a client that
// has all up to at.
func (l limit) changed(at wal.LSN) <-chan struct{} {
	for _, p := range l[1:] {
		if p.Load() <= at {
			return p.Changed(at)
		}
	}
	return l[0].Changed(at)
}

// visible is how much of the log the session's client may see now.
func (s *Session) visible() limit {
	log := s.server.cfg.Log
	switch {
	case !s.server.cfg.Primary:
		return limit{log.Flushed, log.Horizon}
	case s.member != nil:
		return limit{log.Inserted}
	case s.named():
		return limit{log.Flushed}
	default:
		return limit{log.Horizon}
	}
}

// named reports whether the rule lists a receiver by name. The horizon then waits for its report, so
// it must get the log before.
func (s *Session) named() bool {
	if s.server.cfg.Sync == nil {
		return false
	}
	snapshot := s.server.cfg.Sync.Snapshot()
	candidate := syncrep.Standby{Name: s.name, State: syncrep.Streaming, Flush: 1}
	statuses, _ := syncrep.Evaluate(snapshot.Rule, snapshot.Members, []syncrep.Standby{candidate})
	return statuses[0].Priority > 0
}
