package node

import (
	"fmt"
	"time"

	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/wal"
)

// walNeeds is what slots and base copies need of the log.
func (r *reign) walNeeds() wal.Needs {
	return wal.Needs{Slots: r.slots.MinRestart(), Copies: r.backups.oldest()}
}

// invalidateSlots takes their claim from the slots that need a segment before the one with this number,
// and ends the connections that use them. The primary does so too with those that nobody has used for
// idle_replication_slot_timeout; the others hear of it from Raft. Each node acts on its own limits, as its
// disk may be full while Raft has no majority.
func (r *reign) invalidateSlots(before uint64) (bool, error) {
	cutoff := slots.Cutoff{Before: r.node.identity().SegmentSize.Start(before)}
	timeout := r.node.settings.Duration(idleTimeoutSetting)
	if r.primary != nil && timeout > 0 {
		cutoff.IdleSince = time.Now().Add(-timeout)
	}
	invalidated, err := r.slots.Invalidate(cutoff)
	if err != nil {
		return false, err
	}
	for _, i := range invalidated {
		if i.PID != 0 {
			r.node.log.Warn(fmt.Sprintf("terminating process %d to release replication slot \"%s\"", i.PID, i.Name))
			r.node.server.TerminateBackend(i.PID)
		}
		r.node.log.Warn(invalidationMessage(i, timeout), "slot", i.Name, "restart_lsn", i.Restart, "reason", string(i.Reason))
	}
	r.warnOfSlots()
	return len(invalidated) > 0, nil
}

const idleTimeoutSetting = "idle_replication_slot_timeout"

// invalidationMessage is PostgreSQL 15's line of the log, by which monitoring finds it.
func invalidationMessage(i slots.Invalidated, timeout time.Duration) string {
	if i.Reason == slots.IdleTimeout {
		return fmt.Sprintf("invalidating slot \"%s\" because its idle time of %ds exceeds %s of %ds",
			i.Name, int(i.Idle.Seconds()), idleTimeoutSetting, int(timeout.Seconds()))
	}
	return fmt.Sprintf("invalidating slot \"%s\" because its restart_lsn %s exceeds max_slot_wal_keep_size", i.Name, i.Restart)
}

// warnOfSlots writes a line to the log for each slot that may fill the disk, or is about to be lost, at
// every checkpoint for as long as it is so: with each more is at stake. Of the loss itself there is a line
// already.
func (r *reign) warnOfSlots() {
	log, limits := r.slotLog(), r.node.slotLimits()
	for _, s := range r.slots.List() {
		if text := slots.Warning(s, log, limits); text != "" && s.Reason == "" {
			r.node.log.Warn(text, "slot", s.Name)
		}
	}
}
