package startup

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// BeginTimeline opens a new timeline at the end of the log, for a node that takes office: bytes once
// streamed are never written again on the same timeline. The new one is higher than any that has
// left a trace here, and the epoch gets the same number. What lay behind the end on the old timeline stays in its file
// and is not part of the new one.
//
// The caller writes the END_OF_RECOVERY record and makes it durable.
func BeginTimeline(d DataDir, r *Recovered, reason string) error {
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
	control.PromisedEpoch = max(control.PromisedEpoch, control.Epoch)
	control.ReignStart = r.End.LSN
	control.Time = time.Now().UTC()
	if err := control.Write(d.FS, d.Global()); err != nil {
		return err
	}
	r.History, r.Control, r.End.Timeline = history, control, tli
	return nil
}

// nextTimeline is a timeline that neither a history file nor a segment here belongs to.
func nextTimeline(r *Recovered) (wal.TimelineID, error) {
	tli := r.History.Timeline
	known, err := r.Dir.Histories()
	if err != nil {
		return 0, err
	}
	for _, k := range known {
		tli = max(tli, k)
	}
	files, err := r.Dir.Segments()
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		tli = max(tli, f.Timeline)
	}
	return tli + 1, nil
}

// ErrStoreAhead says that the table has taken in records that the log it must follow does not have.
// It cannot happen while every commit waits for the rule.
var ErrStoreAhead = errors.New("the store is past the point where the logs part")

// Cut leaves behind what this node's log has beyond the position at, its last common point with the
// log it is to follow. The tail is kept, as segments that waldump reads, in the folder
// orphans/<epoch>-<LSN>; then it is removed from the log. applied is how far the store has come.
//
// A crash before the removal leaves a copy that the next Cut replaces; a crash during it leaves a
// shorter tail to cut.
func Cut(d DataDir, r *Recovered, at, applied wal.LSN) error {
	if applied > at {
		return fmt.Errorf("cannot cut the log at %s: %w (%s): remove the data directory and join again", at, ErrStoreAhead, applied)
	}
	if at >= r.End.LSN {
		return nil
	}
	if err := saveOrphan(d, r, at); err != nil {
		return fmt.Errorf("save the tail behind %s: %w", at, err)
	}
	size := r.Dir.Format.SegmentSize
	files, err := r.Dir.Segments()
	if err != nil {
		return err
	}
	for _, f := range files {
		if size.Start(f.Segno) >= at {
			if err := d.FS.Remove(d.FS.PathJoin(r.Dir.Path, f.Name)); err != nil {
				return err
			}
		}
	}
	if err := wal.SyncDir(d.FS, r.Dir.Path); err != nil {
		return err
	}
	if size.Offset(at) != 0 {
		if err := wal.ProveTail(r.Dir, r.History, at, at); err != nil {
			return err
		}
	}
	r.End.LSN, r.End.Prev = at, 0
	r.Control.Durable = min(r.Control.Durable, at)
	return r.Control.Write(d.FS, d.Global())
}

// saveOrphan copies the segments that hold the tail.
func saveOrphan(d DataDir, r *Recovered, at wal.LSN) error {
	name := fmt.Sprintf("%d-%s", r.Control.Epoch, lsnFileName(at))
	folder := d.FS.PathJoin(d.Orphans(), name)
	if err := d.FS.RemoveAll(folder); err != nil {
		return err
	}
	if err := d.FS.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	size := r.Dir.Format.SegmentSize
	for segno := size.Segno(at); segno <= size.PrevSegno(r.End.LSN); segno++ {
		file := size.FileName(r.History.FileTimeline(segno, size), segno)
		err := vfs.Copy(d.FS, d.FS.PathJoin(r.Dir.Path, file), d.FS.PathJoin(folder, file))
		if err != nil {
			return err
		}
	}
	if err := wal.SyncDir(d.FS, folder); err != nil {
		return err
	}
	return wal.SyncDir(d.FS, d.Orphans())
}

// lsnFileName prints an LSN without the slash.
func lsnFileName(l wal.LSN) string { return fmt.Sprintf("%X-%X", uint64(l)>>32, uint32(l)) }

// SwitchTimeline records that the log goes on at end, on the timeline of h, whose history and first
// segment are in place. It is the commit point of following another node to a new timeline.
func SwitchTimeline(d DataDir, r *Recovered, h wal.History, end wal.End) error {
	control := r.Control
	control.Timeline, control.Epoch = h.Timeline, uint64(h.Timeline)
	control.PromisedEpoch = max(control.PromisedEpoch, control.Epoch)
	control.Durable = end.LSN
	control.ReignStart = 0 // another node writes the log from here on
	control.Clean = false
	control.Time = time.Now().UTC()
	if err := control.Write(d.FS, d.Global()); err != nil {
		return err
	}
	r.History, r.Control, r.End = h, control, end
	return nil
}
