package walreceiver

import (
	"context"
	"errors"
	"fmt"

	"github.com/longship-db/longship/wal"
)

// A SwitchError says that the log goes on on another timeline, as the upstream's does: the stream has
// ended and the log has to be reopened. The history files and the first segment of the timeline are
// on disk; the node commits the change by recording the timeline in its control file. A crash before
// that leaves the old timeline, and the next stream does the same again.
type SwitchError struct {
	History wal.History // of the timeline to continue on
	End     wal.End     // where it continues; Prev is 0 if the tail was cut
	Cut     bool        // our log reached beyond End and was cut
}

func (e *SwitchError) Error() string {
	return fmt.Sprintf("the log goes on on timeline %d at %s", e.History.Timeline, e.End.LSN)
}

// A DivergedError says that two logs cannot be brought together by following or cutting.
type DivergedError struct{ Reason string }

func (e *DivergedError) Error() string { return "the upstream's log is not ours: " + e.Reason }

// ErrUnbegun says that our log ends before its own timeline begins, and that the upstream's log is of another one: a
// base copy was made of a primary whose epoch came to nothing. There is no log that could be followed to its end, nor
// one that could be cut.
var ErrUnbegun = errors.New("this node's copy is of a timeline that came to nothing")

// A route is the way from our log to the upstream's.
type route struct {
	// fork is the last position both logs share, at most; ^0 if they are on the same timeline.
	// Our timeline is followed up to there.
	fork wal.LSN

	// next is the timeline to go on with once our log ends at fork. Its Timeline is 0 while there is
	// still something to follow on ours.
	next wal.History

	cut bool // our log reaches beyond fork
}

// plan decides how our log, which ends at end on the timeline of ours, comes to follow theirs. It goes
// by ancestry alone (invariant I6): positions of different timelines are never compared.
//
//	end < fork   follow our timeline up to fork
//	end = fork   go on on the timeline that theirs took there
//	end > fork   cut, then the same
func plan(ours, theirs wal.History, end wal.LSN) (route, error) {
	if theirs.Timeline < ours.Timeline {
		return route{}, fmt.Errorf("timeline %d of the upstream is behind timeline %d of this node", theirs.Timeline, ours.Timeline)
	}
	fork := wal.Fork(ours, theirs)
	switch {
	case fork == 0:
		return route{}, &DivergedError{Reason: fmt.Sprintf("timelines %d and %d have no common ancestor", ours.Timeline, theirs.Timeline)}
	case end >= fork:
		return route{fork: fork, next: historyAt(theirs, fork), cut: end > fork}, nil
	case end < ours.Begin(ours.Timeline) && fork <= ours.Begin(ours.Timeline):
		return route{}, fmt.Errorf("%w: our log ends at %s, before timeline %d begins", ErrUnbegun, end, ours.Timeline)
	}
	return route{fork: fork}, nil
}

// historyAt is the history of the timeline that h was on at position at: the byte at at is its.
func historyAt(h wal.History, at wal.LSN) wal.History {
	for i, s := range h.Switches {
		if at < s.At {
			return wal.History{Timeline: s.Parent, Switches: h.Switches[:i:i]}
		}
	}
	return h
}

// move takes the log to the timeline of r.next at r.fork, and returns a *SwitchError when that is
// done. Each step can be repeated after a crash.
func (s *Stream) move(ctx context.Context, r route) error {
	next := r.next.Timeline
	s.log.Info("following the upstream to another timeline", "from", s.at.Timeline, "to", next, "fork", r.fork, "end", s.at.LSN, "cut", r.cut)
	if err := s.writeHistories(r.next); err != nil {
		return s.localFailure(err)
	}
	// A crash here leaves history files that nothing refers to yet.
	end := wal.End{LSN: r.fork, Prev: s.at.Prev, Timeline: next}
	if r.cut {
		end.Prev = 0
		if err := s.cut(ctx, r.fork); err != nil {
			return fmt.Errorf("cut the log at %s: %w", r.fork, err)
		}
	}
	// A crash here leaves a shorter log on the old timeline.
	size := s.dir.Format.SegmentSize
	parent := s.history.FileTimeline(size.Segno(r.fork), size)
	if err := s.dir.CopyHead(parent, next, r.fork); err != nil {
		return s.localFailure(err)
	}
	return &SwitchError{History: r.next, End: end, Cut: r.cut}
}

// writeHistories writes the history file of a timeline and of those ancestors that have none here.
func (s *Stream) writeHistories(h wal.History) error {
	for i, sw := range h.Switches {
		ancestor := wal.History{Timeline: sw.Parent, Switches: h.Switches[:i]}
		if _, err := s.dir.ReadHistory(sw.Parent); err == nil {
			continue
		}
		if err := s.dir.WriteHistory(ancestor); err != nil {
			return err
		}
	}
	if h.Timeline == 1 {
		return nil
	}
	return s.dir.WriteHistory(h)
}
