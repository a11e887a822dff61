package node

import (
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walsender"
)

// Who streams from this node: pg_stat_replication. A series is a name, not a connection.
var (
	streamLabels = []string{"application_name", "kind"}

	mStreams      = gauge("pg_stat_replication_connections", "Connections under this name. What follows is of the one that is furthest.", streamLabels...)
	mStreamState  = gauge("pg_stat_replication_state", "1 for the state of the stream.", "application_name", "kind", "state")
	mSent         = gauge("pg_stat_replication_sent_lsn_bytes", "How far the log was sent.", streamLabels...)
	mWrite        = gauge("pg_stat_replication_write_lsn_bytes", "How far it is written there.", streamLabels...)
	mFlush        = gauge("pg_stat_replication_flush_lsn_bytes", "How far it is durable there.", streamLabels...)
	mReplay       = gauge("pg_stat_replication_replay_lsn_bytes", "How far it is applied there.", streamLabels...)
	mDiff         = gauge("pg_stat_replication_pg_wal_lsn_diff", "Bytes from what is applied there to the end of the log here.", streamLabels...)
	mWriteLag     = gauge("pg_stat_replication_write_lag_seconds", "Time until recent WAL was written there. Not there when nothing is on its way.", streamLabels...)
	mFlushLag     = gauge("pg_stat_replication_flush_lag_seconds", "Time until recent WAL was durable there.", streamLabels...)
	mReplayLag    = gauge("pg_stat_replication_replay_lag_seconds", "Time until recent WAL was applied there.", streamLabels...)
	mSyncPriority = gauge("pg_stat_replication_sync_priority", "Place in the rule's list; 0: not in it.", streamLabels...)
	mSyncState    = gauge("pg_stat_replication_sync_state", "1 for what the standby means to the rule.", "application_name", "kind", "sync_state")
	mReplyTime    = gauge("pg_stat_replication_reply_time_seconds", "When the last report was sent, by the standby's clock.", streamLabels...)

	mBackupTotal    = gauge("pg_stat_progress_basebackup_backup_total_bytes", "Estimated size of a base copy that is being sent.", streamLabels...)
	mBackupStreamed = gauge("pg_stat_progress_basebackup_backup_streamed_bytes", "How much of it was sent.", streamLabels...)
)

var streamStates = []string{
	syncrep.Startup.String(), syncrep.Catchup.String(), syncrep.Streaming.String(),
	syncrep.Backup.String(), syncrep.Stopping.String(),
}

var syncStates = []string{
	syncrep.Async.String(), syncrep.Potential.String(), syncrep.Sync.String(), syncrep.Quorum.String(),
}

// A streamKey is the labels of a stream. A receiver may call itself what a member is called.
type streamKey struct{ name, kind string }

func (s *scrape) streams(r *reign) {
	count, furthest := map[streamKey]int{}, map[streamKey]walsender.Stat{}
	for _, st := range r.receivers() {
		key := streamKey{st.Name, kindMember}
		if !st.Member {
			key = streamKey{s.receivers.label(st.Name), kindReceiver}
		}
		if count[key]++; count[key] == 1 || further(st, furthest[key]) {
			furthest[key] = st
		}
	}
	end := r.inserted().Load()
	for key, st := range furthest {
		s.put(mStreams, float64(count[key]), key.name, key.kind)
		s.stream(st, end, key.name, key.kind)
	}
}

// further reports whether of two streams of one name a is the one to be shown.
func further(a, b walsender.Stat) bool {
	if a.State != b.State {
		return a.State > b.State
	}
	return a.Flush > b.Flush
}

func (s *scrape) stream(st walsender.Stat, end wal.LSN, name, kind string) {
	s.oneOf(mStreamState, streamStates, st.State.String(), name, kind)
	s.lsn(mSent, st.Sent, name, kind)
	s.lsn(mWrite, st.Write, name, kind)
	s.lsn(mFlush, st.Flush, name, kind)
	s.lsn(mReplay, st.Replay, name, kind)
	if st.Replay != 0 {
		s.put(mDiff, float64(end-min(end, st.Replay)), name, kind)
	}
	s.seconds(mWriteLag, st.WriteLag, name, kind)
	s.seconds(mFlushLag, st.FlushLag, name, kind)
	s.seconds(mReplayLag, st.ReplayLag, name, kind)
	s.put(mSyncPriority, float64(st.Sync.Priority), name, kind)
	s.oneOf(mSyncState, syncStates, st.Sync.State.String(), name, kind)
	s.time(mReplyTime, st.ReplyTime, name, kind)
	if b := st.Backup; b != nil {
		if b.Total >= 0 {
			s.put(mBackupTotal, float64(b.Total), name, kind)
		}
		s.put(mBackupStreamed, float64(b.Streamed), name, kind)
	}
}

// The slots: pg_replication_slots.
var (
	mSlotActive     = gauge("pg_replication_slots_active", "Whether somebody uses the slot.", "slot_name")
	mSlotRestart    = gauge("pg_replication_slots_restart_lsn_bytes", "From where on the slot keeps the log.", "slot_name")
	mSlotPinned     = gauge("pg_replication_slots_pg_wal_lsn_diff", "Bytes from there to the end of the log: what the slot keeps.", "slot_name")
	mSlotStatus     = gauge("pg_replication_slots_wal_status", "1 for the status of the slot's WAL.", "slot_name", "wal_status")
	mSlotSafe       = gauge("pg_replication_slots_safe_wal_size_bytes", "How much more WAL may be written before the slot may lose its own; there only with max_slot_wal_keep_size.", "slot_name")
	mSlotInactive   = gauge("pg_replication_slots_inactive_since_seconds", "Since when nobody has used the slot; not there while somebody does.", "slot_name")
	mSlotReason     = gauge("pg_replication_slots_invalidation_reason", "1 for the reason why the slot was invalidated, if it was.", "slot_name", "invalidation_reason")
	mSlotsTemporary = gauge("longship_temporary_slots", "Temporary slots, which have names of their connections and are not listed.")
	mMaxSlots       = gauge("pg_settings_max_replication_slots", "Most slots that can be made on this node.")
)

var walStatuses = []string{
	string(slots.Reserved), string(slots.Extended), string(slots.Unreserved), string(slots.Lost),
}

var invalidationReasons = []string{string(slots.WALRemoved), string(slots.IdleTimeout)}

func (s *scrape) slots(r *reign) {
	log, limits := r.slotLog(), s.node.slotLimits()
	temporary := 0
	for _, slot := range r.slots.List() {
		if slot.Temporary {
			temporary++
			continue
		}
		status, safe, hasSafe := slots.WALStatus(slot, log, limits)
		s.flag(mSlotActive, slot.PID != 0, slot.Name)
		s.lsn(mSlotRestart, slot.Restart, slot.Name)
		if slot.Restart != 0 {
			s.put(mSlotPinned, float64(log.Current-min(log.Current, slot.Restart)), slot.Name)
		}
		s.oneOf(mSlotStatus, walStatuses, string(status), slot.Name)
		s.time(mSlotInactive, slot.InactiveSince, slot.Name)
		s.oneOf(mSlotReason, invalidationReasons, string(slot.Reason), slot.Name)
		if hasSafe {
			s.put(mSlotSafe, float64(safe), slot.Name)
		}
	}
	s.put(mSlotsTemporary, float64(temporary))
	s.put(mMaxSlots, float64(s.node.settings.Int("max_replication_slots")))
}
