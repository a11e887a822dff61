package slots

import (
	"time"

	"github.com/longship-db/longship/wal"
)

// A Status is how a slot's WAL fares: pg_replication_slots.wal_status.
type Status string

// The statuses. A slot goes down the list as its consumer falls behind, and may come back up from
// all but the last.
const (
	None       Status = ""           // reserves nothing, and never lost anything: NULL
	Reserved   Status = "reserved"   // within max_wal_size
	Extended   Status = "extended"   // beyond it, and kept by the slot or wal_keep_size
	Unreserved Status = "unreserved" // beyond max_slot_wal_keep_size; the next checkpoint takes it
	Lost       Status = "lost"       // removed
)

// Limits are the settings that decide how much WAL is kept, in bytes.
type Limits struct {
	SegmentSize        wal.SegmentSize
	MaxWALSize         int64
	MaxSlotWALKeepSize int64 // negative = no limit
	WALKeepSize        int64
	IdleTimeout        time.Duration // idle_replication_slot_timeout; 0 = none
}

// Log is where the log is now.
type Log struct {
	Current     wal.LSN // end of what is written
	LastRemoved uint64  // highest segment number ever removed, 0 = none
}

// WALStatus returns the slot's status and its safe_wal_size: the bytes that can be written before the
// slot is in danger of losing its segment, which may be negative; ok is false for NULL. Source:
// GetWALAvailability and pg_get_replication_slots of PostgreSQL 15, including that a slot which never
// reserved anything has a safe_wal_size when there is a limit.
func WALStatus(slot Slot, log Log, limits Limits) (status Status, safe int64, ok bool) {
	status = availability(slot, log, limits)
	if status == Lost || limits.MaxSlotWALKeepSize < 0 {
		return status, 0, false
	}
	kept := max(limits.segments(limits.MaxSlotWALKeepSize), limits.segments(limits.WALKeepSize))
	lossSegment := limits.SegmentSize.Segno(slot.Restart) + kept + 1
	return status, int64(limits.SegmentSize.Start(lossSegment)) - int64(log.Current), true
}

// availability compares the segment of the slot with three borders, newest first:
//
//	lost | unreserved | extended | reserved
//	     oldest there   kept       max_wal_size     current
func availability(slot Slot, log Log, limits Limits) Status {
	if slot.Restart == 0 {
		if slot.InvalidatedAt != 0 {
			return Lost
		}
		return None
	}
	segment, current := limits.SegmentSize.Segno(slot.Restart), limits.SegmentSize.Segno(log.Current)
	switch {
	case segment >= back(current, limits.keptSegments()) || limits.MaxSlotWALKeepSize < 0:
		if segment >= back(current, limits.segments(limits.MaxWALSize)+1) {
			return Reserved
		}
		return Extended
	case segment > log.LastRemoved || slot.PID != 0:
		// Of a slot in use the position was read a while ago: its consumer may have moved on.
		return Unreserved
	default:
		return Lost
	}
}

// keptSegments is how far back segments stay for a slot, when there is a limit.
func (l Limits) keptSegments() uint64 {
	return max(l.segments(l.MaxSlotWALKeepSize), l.segments(l.WALKeepSize))
}

func (l Limits) segments(size int64) uint64 {
	return uint64(max(size, 0)) / uint64(l.SegmentSize)
}

// back is n segments before segno. There is no segment 0.
func back(segno, n uint64) uint64 {
	if segno <= n {
		return 1
	}
	return segno - n
}
