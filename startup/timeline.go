package startup

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// ErrLogBehind says that a node's log lacks what is known to be durable under the rule: somebody was
// told that it is committed.
var ErrLogBehind = errors.New("the log ends before what is known to be committed")

// BeginTimeline opens a new timeline at the end of the log, for a node that takes office: bytes once
// streamed are never written again on the same timeline. The new one is higher than any that has
// left a trace here, and the epoch gets the same number. What lay behind the end on the old timeline
// stays in its file and is not part of the new one.
//
// The caller writes the END_OF_RECOVERY record and makes it durable. The error is ErrLogBehind,
// wrapped, if this node must not take office.
func BeginTimeline(d DataDir, r *Recovered, reason string) error {
	if err := mayLead(r); err != nil {
		return err
	}
	tli, err := nextTimeline(r)
	if err != nil {
		return err
	}
	size := r.Dir.Format.SegmentSize
	parent := r.History.FileTimeline(size.Segno(r.End.LSN), size)
	if err := r.Dir.CopyHead(parent, tli, r.End.LSN); err != nil {
		return err
	}
	// A crash here leaves a segment that no history names: the next attempt takes a higher number.
	history := r.History.Child(tli, r.End.LSN, reason)
	if err := r.Dir.WriteHistory(history); err != nil {
		return err
	}
	// A crash here leaves a timeline that others may have seen: the next attempt takes a higher one.
	control := r.Control
	control.Timeline, control.Epoch = tli, uint64(tli)
	control.PromisedEpoch = control.Epoch
	control.ReignStart = r.End.LSN
	control.Time = time.Now().UTC()
	if err := control.Write(d.FS, d.Global()); err != nil {
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

// nextTimeline is a timeline that neither a history file nor a segment here belongs to, and which is
// past every epoch that this node has heard of and promised to follow.
func nextTimeline(r *Recovered) (wal.TimelineID, error) {
	last := max(uint64(r.History.Timeline), r.Control.Epoch, r.Control.PromisedEpoch)
	known, err := r.Dir.Histories()
	if err != nil {
		return 0, err
	}
	for _, k := range known {
		last = max(last, uint64(k))
	}
	files, err := r.Dir.Segments()
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		last = max(last, uint64(f.Timeline))
	}
	if last >= math.MaxUint32 {
		return 0, fmt.Errorf("there is no timeline after %d", last)
	}
	return wal.TimelineID(last + 1), nil
}

// ErrStoreAhead says that the table has taken in records that the log it must follow does not have.
// It cannot happen while every commit waits for the rule.
var ErrStoreAhead = errors.New("the store is past the point where the logs part")

// Cut leaves behind what this node's log has beyond the position at, its last common point with the
// log it is to follow. The tail is kept, as segments that waldump reads, in a folder below orphans
// named after epoch and position; then it is removed from the log. applied is how far the store has
// come.
//
// A crash on the way leaves a log with all of the tail, or some of it, to be cut again. What was kept
// of it before the crash stays.
func Cut(d DataDir, r *Recovered, at, applied wal.LSN) error {
	if applied > at {
		return fmt.Errorf("cannot cut the log at %s: %w (%s): remove the data directory and join again", at, ErrStoreAhead, applied)
	}
	if at >= r.End.LSN || at == r.cut {
		return nil
	}
	if err := saveOrphan(d, r, at); err != nil {
		return fmt.Errorf("save the tail behind %s: %w", at, err)
	}
	// A crash here leaves a copy that the next Cut finds.
	control := r.Control
	control.endAt(at)
	control.Time = time.Now().UTC()
	if err := control.Write(d.FS, d.Global()); err != nil {
		return err
	}
	r.Control = control
	// The commit point: from here on nothing says that the log was ever longer, and a crash that
	// leaves half of the tail is no corruption.
	if err := wal.ProveTail(r.Dir, r.History, at, at); err != nil {
		return err
	}
	r.End.LSN, r.End.Prev = at, 0
	r.Horizon = min(r.Horizon, at)
	r.cut = at
	return nil
}

// saveOrphan copies the segments that hold the tail behind at, unless a crash has interrupted the
// Cut that did: then what is left of the tail must not replace all of it.
func saveOrphan(d DataDir, r *Recovered, at wal.LSN) error {
	name := fmt.Sprintf("%d-%s", r.Control.Epoch, lsnFileName(at))
	for n := 2; ; n++ {
		folder := d.FS.PathJoin(d.Orphans(), name)
		exists, err := wal.Exists(d.FS, folder)
		if err != nil {
			return err
		}
		if !exists {
			return r.copyTail(d, folder, at)
		}
		if same, err := r.tailIn(folder, at); same || err != nil {
			return err
		}
		name = fmt.Sprintf("%d-%s-%d", r.Control.Epoch, lsnFileName(at), n)
	}
}

// copyTail makes folder hold the segments of the tail behind at.
func (r *Recovered) copyTail(d DataDir, folder string, at wal.LSN) error {
	tmp := folder + ".tmp"
	if err := d.FS.RemoveAll(tmp); err != nil {
		return err
	}
	if err := d.FS.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	for _, file := range r.tail(at) {
		if err := vfs.Copy(d.FS, d.FS.PathJoin(r.Dir.Path, file), d.FS.PathJoin(tmp, file)); err != nil {
			return err
		}
	}
	if err := wal.SyncDir(d.FS, tmp); err != nil {
		return err
	}
	// A crash here leaves a folder of no meaning, which the next Cut at this place replaces.
	if err := d.FS.Rename(tmp, folder); err != nil {
		return err
	}
	return errors.Join(wal.SyncDir(d.FS, d.Orphans()), wal.SyncDir(d.FS, d.Path))
}

// tail names the segments that hold the log from at to its end.
func (r *Recovered) tail(at wal.LSN) (files []string) {
	size := r.Dir.Format.SegmentSize
	for segno := size.Segno(at); segno <= size.PrevSegno(r.End.LSN); segno++ {
		files = append(files, size.FileName(r.History.FileTimeline(segno, size), segno))
	}
	return files
}

// tailIn reports whether the segments in folder hold the log from at to its end.
func (r *Recovered) tailIn(folder string, at wal.LSN) (bool, error) {
	log := wal.NewRawReader(r.Dir, r.History, nil)
	defer log.Close()
	kept := wal.NewRawReader(wal.NewDir(r.Dir.FS, folder, r.Dir.Format), r.History, nil)
	defer kept.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at < r.End.LSN {
		n, err := log.ReadAt(a[:min(wal.LSN(len(a)), r.End.LSN-at)], at)
		if err != nil {
			return false, err
		}
		m, err := kept.ReadAt(b[:n], at)
		if _, removed := errors.AsType[*wal.RemovedError](err); removed {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if n != m || !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		at += wal.LSN(n)
	}
	return true, nil
}

// lsnFileName prints an LSN without the slash.
func lsnFileName(l wal.LSN) string { return fmt.Sprintf("%X-%X", uint64(l)>>32, uint32(l)) }

// SwitchTimeline records that the log goes on at end, on the timeline of h, whose history and first
// segment are in place. It is the commit point of following another node to a new timeline.
func SwitchTimeline(d DataDir, r *Recovered, h wal.History, end wal.End) error {
	control := r.Control
	control.Timeline, control.Epoch = h.Timeline, uint64(h.Timeline)
	control.PromisedEpoch = max(control.PromisedEpoch, control.Epoch)
	control.endAt(end.LSN)
	control.Durable = end.LSN
	control.Clean = false
	control.Time = time.Now().UTC()
	if err := control.Write(d.FS, d.Global()); err != nil {
		return err
	}
	r.History, r.Control, r.End = h, control, end
	return nil
}
