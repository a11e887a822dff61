package walsender

import (
	"github.com/longship-db/longship/pgwire"
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
	case s.fetch: // of a log that stands still: see mayFetch
		return limit{log.Flushed}
	case !s.server.cfg.Primary:
		return limit{log.Flushed, log.Horizon}
	case !s.id.IsZero():
		return limit{log.Flushing}
	case s.named():
		return limit{log.Flushed}
	default:
		return limit{log.Horizon}
	}
}

// named reports whether the rule lists a receiver by name. The horizon then waits for its report, so
// it must get the log before.
func (s *Session) named() bool {
	return s.server.cfg.Sync != nil && s.server.cfg.Sync.Names(s.name)
}

// mayFetch refuses a member that wants what lies beyond the horizon, unless the log stands still for
// good: all of it is then a candidate for what the next epoch begins with (invariant I5).
func (s *Session) mayFetch() error {
	if !s.fetch || s.server.cfg.Sealed != nil && s.server.cfg.Sealed() {
		return nil
	}
	return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "this node is not sealed").
		WithDetail("WAL beyond the horizon can be fetched from a node that has promised a later epoch, and no primary yet.")
}
