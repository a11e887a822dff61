package wal

import "math"

// A Retention says how much of the log is kept and how often it is checkpointed. Names and meaning
// are PostgreSQL's (15 manual, "WAL Configuration"); sizes are in bytes and are rounded down to
// whole segments.
type Retention struct {
	SegmentSize          SegmentSize
	MinWALSize           int64   // min_wal_size: below this, old segments are recycled, not removed
	MaxWALSize           int64   // max_wal_size: how far the log may grow between checkpoints; soft
	KeepSize             int64   // wal_keep_size: kept for standbys in any case
	MaxSlotKeepSize      int64   // max_slot_wal_keep_size: slots may pin no more; -1: no limit
	CheckpointCompletion float64 // checkpoint_completion_target
}

func (r Retention) segments(bytes int64) uint64 { return uint64(bytes) / uint64(r.SegmentSize) }

// CheckpointDue reports whether so much has been written since the last checkpoint's redo position
// that the next is due, for max_wal_size to hold when it has finished.
func (r Retention) CheckpointDue(redo, now LSN) bool {
	distance := max(1, uint64(float64(r.segments(r.MaxWALSize))/(1+r.CheckpointCompletion)))
	return r.SegmentSize.Segno(now) >= r.SegmentSize.Segno(redo)+distance
}

// KeepFrom is the number of the oldest segment that must stay: what redo needs, what wal_keep_size
// asks for, and what the slots need, the oldest of which restarts at slots (0: none), within
// max_slot_wal_keep_size. now is where the log ends.
func (r Retention) KeepFrom(redo, now, slots LSN) uint64 {
	keep := r.SegmentSize.Segno(redo)
	current := r.SegmentSize.Segno(now)
	if slots != 0 {
		pinned := r.SegmentSize.Segno(slots)
		if r.MaxSlotKeepSize >= 0 {
			pinned = max(pinned, r.SlotLimit(now))
		}
		keep = min(keep, pinned)
	}
	return max(1, min(keep, back(current, r.segments(r.KeepSize))))
}

// SlotLimit is the number of the oldest segment that a slot may pin when the log ends at now. It is
// 0 without max_slot_wal_keep_size.
func (r Retention) SlotLimit(now LSN) uint64 {
	if r.MaxSlotKeepSize < 0 {
		return 0
	}
	return back(r.SegmentSize.Segno(now), r.segments(r.MaxSlotKeepSize))
}

// RecycleTo is the number up to which old segments become future ones after a checkpoint, given the
// number of bytes that are estimated to pass until the next one.
func (r Retention) RecycleTo(redo LSN, estimate float64) uint64 {
	first := r.SegmentSize.Segno(redo)
	distance := 1.1 * (1 + r.CheckpointCompletion) * estimate
	to := uint64(math.Ceil((float64(redo) + distance) / float64(r.SegmentSize)))
	low := back(first+r.segments(r.MinWALSize), 1)
	high := back(first+r.segments(r.MaxWALSize), 1)
	return min(max(to, low), high)
}

// back is a-b, but not below zero.
func back(a, b uint64) uint64 { return a - min(a, b) }
