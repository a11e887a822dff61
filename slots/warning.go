package slots

import (
	"fmt"
	"time"
)

// Pinned is how much of the log the slot keeps, in bytes.
func Pinned(slot Slot, log Log) int64 {
	if slot.Restart == 0 || slot.Restart > log.Current {
		return 0
	}
	return int64(log.Current - slot.Restart)
}

// Warning says what an operator should know of a slot before it is too late, or "": that it keeps more of
// the log than max_wal_size and nothing limits that, that half of what it may keep is used up, that half of
// the time is over for which it may be idle, or that it is lost. It names the slot, the bytes and the age.
func Warning(slot Slot, log Log, limits Limits) string {
	status, safe, limited := WALStatus(slot, log, limits)
	about := fmt.Sprintf("replication slot \"%s\" keeps %s of WAL, %s", slot.Name, sizeText(Pinned(slot, log)), useText(slot))
	may := int64(limits.keptSegments()+1) * int64(limits.SegmentSize)
	switch {
	case status == Lost && slot.PID == 0:
		return fmt.Sprintf("replication slot \"%s\" is lost (%s): its consumer needs a new copy; drop the slot or make it anew", slot.Name, orRemoved(slot.Reason))
	case status == None || status == Lost:
		return ""
	case limited && safe <= may/2 && Pinned(slot, log) > int64(limits.SegmentSize): // not while all is as it can be
		return fmt.Sprintf("%s: after another %s it is invalidated", about, sizeText(max(safe, 0)))
	case limits.IdleTimeout > 0 && slot.PID == 0 && slot.Idle >= limits.IdleTimeout/2:
		return fmt.Sprintf("%s: it is invalidated when that is %s", about, limits.IdleTimeout)
	case !limited && status == Extended:
		return about + ": without max_slot_wal_keep_size it may fill the disk"
	}
	return ""
}

func orRemoved(r Reason) Reason {
	if r == "" {
		return WALRemoved
	}
	return r
}

func useText(slot Slot) string {
	switch {
	case slot.PID != 0:
		return fmt.Sprintf("in use by PID %d", slot.PID)
	case slot.InactiveSince.IsZero():
		return "not in use here"
	}
	return "not in use for " + slot.Idle.Truncate(time.Second).String()
}

// sizeText prints bytes as pg_size_pretty does.
func sizeText(n int64) string {
	units := []string{"bytes", "kB", "MB", "GB", "TB"}
	i := 0
	for ; n >= 10*1024 && i < len(units)-1; i++ {
		n = (n + 512) / 1024
	}
	return fmt.Sprintf("%d %s", n, units[i])
}
