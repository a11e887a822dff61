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

// Needs are the positions from which on the log is needed, 0 for those that need nothing.
type Needs struct {
	Redo   LSN // where the next recovery begins
	Slots  LSN // the slot that is furthest behind
	Copies LSN // the base copy under way that began first
}

// KeepFrom is the number of the oldest segment that must stay when the log ends at now: what redo and base
// copies need, what wal_keep_size asks for, and what the slots need within max_slot_wal_keep_size. A slot
// that needs a segment before that has lost it (KeepLogSeg of PostgreSQL, and its caller).
func (r Retention) KeepFrom(n Needs, now LSN) uint64 {
	current := r.SegmentSize.Segno(now)
	keep := min(r.SegmentSize.Segno(n.Redo), back(current, r.segments(r.KeepSize)))
	if n.Slots != 0 {
		pinned := r.SegmentSize.Segno(n.Slots)
		if r.MaxSlotKeepSize >= 0 {
			pinned = max(pinned, back(current, r.segments(r.MaxSlotKeepSize)))
		}
		keep = min(keep, pinned)
	}
	if n.Copies != 0 {
		keep = min(keep, r.SegmentSize.Segno(n.Copies))
	}
	return max(1, keep)
}

// Oldest is the number of the oldest segment that anything needs, whatever the limits. It is what removal
// is checked against.
func (r Retention) Oldest(n Needs) uint64 {
	oldest := r.SegmentSize.Segno(n.Redo)
	for _, lsn := range []LSN{n.Slots, n.Copies} {
		if lsn != 0 {
			oldest = min(oldest, r.SegmentSize.Segno(lsn))
		}
	}
	return oldest
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
