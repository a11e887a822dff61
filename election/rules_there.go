package election

import (
	"slices"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A presence is who streams, at one moment.
type presence struct {
	standbys []syncrep.Standby
	caughtUp []syncrep.ID
}

func (k *Keeper) there() presence {
	p := presence{caughtUp: k.cfg.Streaming()}
	for _, s := range k.cfg.Group.Snapshot().Streams {
		p.standbys = append(p.standbys, s.Standby)
	}
	return p
}

// streams reports whether the member, or the receiver of that name if there is no ID, has caught up.
func (p presence) streams(m raftlog.Member) bool {
	if m.ID.IsZero() {
		return p.meet(syncrep.Resolved{K: 1, Listed: []syncrep.Listed{{Name: m.Name}}})
	}
	return slices.Contains(p.caughtUp, m.ID)
}

// flushed is how far a member that streams has the log, 0 if it does not.
func (p presence) flushed(id syncrep.ID) wal.LSN {
	i := slices.IndexFunc(p.standbys, func(s syncrep.Standby) bool { return s.ID == id && !s.Superseded })
	if i < 0 {
		return 0
	}
	return p.standbys[i].Flush
}

// meet reports whether as many stream as the rule asks for, however far they are.
func (p presence) meet(rule syncrep.Resolved) bool {
	_, released := syncrep.Evaluate(syncrep.Rule{}, []syncrep.Resolved{rule}, p.standbys)
	return released.OK
}

// hold is how far the log is held under the rule alone, without the primary's own flush.
func (p presence) hold(rule syncrep.Resolved) wal.LSN {
	_, released := syncrep.Evaluate(syncrep.Rule{}, []syncrep.Resolved{rule}, p.standbys)
	return released.Flush
}

// refuse says once why what is wanted is not proposed, and has it looked at again: not everything that
// matters kicks.
func (k *Keeper) refuse(now time.Time, why string, args ...any) step {
	if k.refused != why {
		k.refused = why
		k.cfg.Logger.Warn("rule stays as it is: "+why, args...)
	}
	return step{again: now.Add(lookAgain)}
}

// A stopwatch measures for how long something has been so.
type stopwatch struct{ since time.Time }

func (w *stopwatch) during(so bool, now time.Time) (bool, time.Time) {
	switch {
	case !so:
		w.since = time.Time{}
	case w.since.IsZero():
		w.since = now
	}
	return so, w.since
}
