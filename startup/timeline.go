package startup

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/longship-db/longship/wal"
)

// ErrLogBehind says that a node's log lacks what is known to be durable under the rule: somebody was
// told that it is committed.
var ErrLogBehind = errors.New("the log ends before what is known to be committed")

// ErrEpochUsed says that an epoch cannot be opened here: its number, or a later one, has left a trace
// in the log, so that others may have seen bytes of it.
var ErrEpochUsed = errors.New("the epoch has been used")

// BeginTimeline opens the timeline of an epoch at the end of the log, for a node that takes office:
// bytes once streamed are never written again on the same timeline. Raft has given the epoch to this
// node, which opens it once: after any failure it takes another epoch. What lay behind the end on the
// old timeline stays in its file and is not part of the new one.
//
// The caller writes the END_OF_RECOVERY record and makes it durable. The error is ErrLogBehind or
// ErrEpochUsed, wrapped, or an *EpochError, if this node must not take this office.
func BeginTimeline(d DataDir, r *Recovered, epoch uint64, reason string) error {
	if err := mayLead(r); err != nil {
		return err
	}
	if err := mayOpen(d, r, epoch); err != nil {
		return fmt.Errorf("open epoch %d: %w", epoch, err)
	}
	tli, size := wal.TimelineID(epoch), r.Dir.Format.SegmentSize
	parent := r.History.FileTimeline(size.Segno(r.End.LSN), size)
	if err := r.Dir.CopyHead(parent, tli, r.End.LSN); err != nil {
		return err
	}
	// A crash here leaves a segment that no history names.
	history := r.History.Child(tli, r.End.LSN, reason)
	if err := r.Dir.WriteHistory(history); err != nil {
		return err
	}
	// A crash here leaves a timeline that nothing was written on, and that nobody opens again.
	control, err := d.changeControl(func(c *Control) error {
		c.Timeline, c.Epoch, c.ReignStart = tli, epoch, r.End.LSN
		return c.Promise(epoch)
	})
	if err != nil {
		return err
	}
	r.History, r.Control, r.End.Timeline = history, control, tli
	return nil
}

// mayLead refuses to continue a log that lacks something: what is known to be committed, or the
// record before its end, to which the next one must point back.
func mayLead(r *Recovered) error {
	if r.Horizon > r.End.LSN {
		return fmt.Errorf("%w: it ends at %s, and everything up to %s is", ErrLogBehind, r.End.LSN, r.Horizon)
	}
	if size := r.Dir.Format.SegmentSize; r.End.Prev == 0 && r.End.LSN != size.Start(1) {
		return fmt.Errorf("%w: the record before %s is not here", ErrLogBehind, r.End.LSN)
	}
	return nil
}

// mayOpen refuses an epoch that is over, or whose number is that of a timeline which a history file or
// a segment here belongs to, or of an earlier one.
func mayOpen(d DataDir, r *Recovered, epoch uint64) error {
	control, err := ReadControl(d.FS, d.Global())
	if err != nil {
		return err
	}
	if err := control.Promise(epoch); err != nil {
		return err
	}
	last := max(uint64(r.History.Timeline), control.Epoch)
	known, err := r.Dir.Histories()
	if err != nil {
		return err
	}
	for _, k := range known {
		last = max(last, uint64(k))
	}
	files, err := r.Dir.Segments()
	if err != nil {
		return err
	}
	for _, f := range files {
		last = max(last, uint64(f.Timeline))
	}
	if epoch <= last {
		return fmt.Errorf("%w: there is WAL of timeline %d here", ErrEpochUsed, last)
	}
	return nil
}

// ErrStoreAhead says that the table has taken in records that the log it must follow does not have.
var ErrStoreAhead = errors.New("the store is past the point where the logs part; " +
	"this never happens in a cluster with a rule, only where commits were acknowledged or shown under less than a rule")

// Cut leaves behind what this node's log has beyond the position at, its last common point with the
// log it is to follow. The tail is kept, as segments that waldump reads and with a summary, in a folder
// below orphans named after epoch and position; then it is removed from the log. applied is how far
// the store has come. If that is past at, the tail is kept and not removed, and the error is
// ErrStoreAhead, wrapped: the store, and with it the whole directory, has to be made anew.
//
// A crash on the way leaves a log with all of the tail, or some of it, to be cut again. What was kept
// of it before the crash stays.
func Cut(d DataDir, r *Recovered, at, applied wal.LSN) error {
	if applied > at {
		if err := saveOrphan(d, r, at); err != nil {
			return fmt.Errorf("save the tail behind %s: %w", at, err)
		}
		return fmt.Errorf("cannot cut the log at %s, the store has applied it up to %s: %w", at, applied, ErrStoreAhead)
	}
	cut, err := r.isCut(at)
	if err != nil {
		return err
	}
	if cut {
		r.endAt(at)
		return nil
	}
	if err := saveOrphan(d, r, at); err != nil {
		return fmt.Errorf("save the tail behind %s: %w", at, err)
	}
	// A crash here leaves a copy that the next Cut finds.
	control, err := d.changeControl(func(c *Control) error { c.endAt(at); return nil })
	if err != nil {
		return err
	}
	r.Control = control
	// The commit point: from here on nothing says that the log was ever longer, and a crash that
	// leaves half of the tail is no corruption.
	if err := wal.ProveTail(r.Dir, r.History, at, at); err != nil {
		return err
	}
	r.endAt(at)
	return nil
}

// endAt makes at the end of the log, unless it ends before.
func (r *Recovered) endAt(at wal.LSN) {
	if at < r.End.LSN {
		r.End.LSN, r.End.Prev = at, 0
		r.Horizon = min(r.Horizon, at)
	}
}

// isCut reports whether there is nothing behind at: the log ends there, or an earlier Cut, of which the
// caller knows nothing because something failed after it, has cleared what was there. A record, or
// the header of its page, does not begin with zeros.
func (r *Recovered) isCut(at wal.LSN) (bool, error) {
	if at >= r.End.LSN {
		return true, nil
	}
	log := wal.NewRawReader(r.Dir, r.History, nil)
	defer log.Close()
	b := make([]byte, 8) // the alignment of records
	n, err := log.ReadAt(b, at)
	if _, removed := errors.AsType[*wal.RemovedError](err); removed {
		return true, nil
	}
	if wal.IsDamage(err) {
		return false, nil // what lies behind is cleared all the same
	}
	return bytes.Equal(b[:n], make([]byte, n)), err
}

// SwitchTimeline records that the log goes on at end, on the timeline of h, whose history and first
// segment are in place. It is the commit point of following another node to a new timeline.
func SwitchTimeline(d DataDir, r *Recovered, h wal.History, end wal.End) error {
	control, err := d.changeControl(func(c *Control) error {
		c.Timeline, c.Epoch = h.Timeline, uint64(h.Timeline)
		c.PromisedEpoch = max(c.PromisedEpoch, c.Epoch)
		c.endAt(end.LSN)
		c.Durable = end.LSN
		c.Clean = false
		return nil
	})
	if err != nil {
		return err
	}
	r.History, r.Control, r.End = h, control, end
	r.Horizon = min(r.Horizon, end.LSN)
	return nil
}
