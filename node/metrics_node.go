package node

import (
	"math"
	"strconv"
	"time"

	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// What a node says of itself.
var (
	mInfo    = gauge("longship_info", "Always 1; the labels say which node this is, and of which version.", "node", "version", "system_identifier")
	mStarted = gauge("pg_postmaster_start_time_seconds", "When the process was started.")
	mHealthy = gauge("longship_healthy", "Whether /healthz answers 200.")
	mReady   = gauge("longship_ready", "Whether this node serves clients in this role: /readyz without the proof that a primary gives there.", "role")
	mReplica = gauge("pg_replication_is_replica", "Whether this node is a standby.")
	mWaiting = gauge("longship_waiting", "Whether this node cannot do its work now; waiting in longship_cluster says why.")
	mStalled = gauge("longship_disk_stalled_seconds", "For how long the oldest write of WAL or of Raft's store has been under way.")

	mConnections = gauge("longship_connections", "Connections, by what they are.", "kind")
	mMaxConns    = gauge("pg_settings_max_connections", "Most connections of clients.")
	mMaxSenders  = gauge("pg_settings_max_wal_senders", "Most connections of receivers.")

	mMemory        = gauge("longship_session_memory_bytes", "Memory that sessions hold for large messages, rows and uncommitted transactions, out of max_total_backend_memory.")
	mMemoryRefused = counter("longship_session_memory_refused_total", "How often max_total_backend_memory refused a session more.")
)

// Kinds of connections.
const (
	kindClient   = "client"
	kindReceiver = "receiver"
	kindMember   = "member"
)

func (s *scrape) process() {
	n := s.node
	var system string
	if id := n.identity().SystemID; id != 0 {
		system = strconv.FormatUint(id, 10)
	}
	s.put(mInfo, 1, n.cfg.Name, Version, system)
	s.time(mStarted, n.started)
	s.flag(mHealthy, n.healthy().ok)
	role := ""
	if r, v := n.servingReign(s.life); v.ok {
		role = r.role()
	}
	s.oneOf(mReady, []string{rolePrimary, roleStandby}, role)

	count := map[string]int{}
	for _, c := range n.server.Conns() {
		kind := kindClient
		switch {
		case c.Native > 0 && c.Kind.Replication():
			kind = kindMember
		case c.Kind.Replication():
			kind = kindReceiver
		}
		count[kind]++
	}
	for _, kind := range []string{kindClient, kindReceiver, kindMember} {
		s.put(mConnections, float64(count[kind]), kind)
	}
	s.put(mMaxConns, float64(n.settings.Int("max_connections")))
	s.put(mMaxSenders, float64(n.settings.Int("max_wal_senders")))
	s.put(mMemory, float64(n.server.Memory().Used()))
	s.put(mMemoryRefused, float64(n.server.Memory().Refused()))
}

// The log and the table.
var (
	mInserted = gauge("longship_wal_insert_lsn_bytes", "End of the log.")
	mWritten  = gauge("longship_wal_write_lsn_bytes", "How far the log is written.")
	mFlushed  = gauge("longship_wal_flush_lsn_bytes", "How far the log is durable here.")
	mHorizon  = gauge("longship_horizon_lsn_bytes", "How far the log is durable under the rule, as this node knows.")
	mApplied  = gauge("longship_applied_lsn_bytes", "How far the log is applied to the table.")
	mPending  = gauge("longship_pending_bytes", "Memory held by commits that are not applied yet, on the primary.")
	mTable    = gauge("longship_table_memory_bytes", "Memory held by the newest part of the table, which is applied and not written to files, or that old transactions read.")
	mReplayed = gauge("pg_last_xact_replay_timestamp_seconds", "Commit time of the last transaction applied, on a standby.")
	mTimeline = gauge("longship_timeline", "Timeline of this node's log.")

	mRedo           = gauge("longship_checkpoint_redo_lsn_bytes", "Where recovery would begin.")
	mCheckpoint     = gauge("longship_checkpoint_lsn_bytes", "Where the last checkpoint record is.")
	mTimed          = counter("pg_stat_bgwriter_checkpoints_timed_total", "Checkpoints that were due, in the present role.")
	mRequested      = counter("pg_stat_bgwriter_checkpoints_req_total", "Checkpoints that were asked for, in the present role.")
	mCheckpointTime = counter("longship_checkpoint_time_seconds_total", "Time that checkpoints took, in the present role.")

	mScrubbed     = counter("longship_wal_scrub_bytes_total", "WAL that was read again to find what has rotted.")
	mScrubPasses  = counter("longship_wal_scrub_passes_total", "How often all of the log was.")
	mScrubFound   = counter("longship_wal_scrub_found_total", "Damaged places that were found.")
	mScrubMended  = counter("longship_wal_scrub_repaired_total", "Damaged places that were repaired from another member, or are not needed any more.")
	mScrubDamaged = gauge("longship_wal_scrub_damaged", "Damaged places that are known and not repaired.")

	mWALRecords   = counter("pg_stat_wal_records_total", "Records that the primary has added to the log, in this epoch.")
	mWALFPI       = counter("pg_stat_wal_fpi_total", "Full page images: there are none.")
	mWALBytes     = counter("pg_stat_wal_bytes_total", "Bytes that the primary has added to the log, in this epoch.")
	mBuffersFull  = counter("pg_stat_wal_buffers_full_total", "How often wal_buffers was full.")
	mWALWrites    = counter("pg_stat_wal_write_total", "Writes of the log.")
	mWALSyncs     = counter("pg_stat_wal_sync_total", "Syncs of the log.")
	mWALWriteTime = counter("pg_stat_wal_write_time_seconds_total", "Time that writes of the log took.")
	mWALSyncTime  = counter("pg_stat_wal_sync_time_seconds_total", "Time that syncs of the log took.")

	mCommitsActive  = gauge("longship_commits_active", "Commits under way on the primary.")
	mCommitsWaiting = gauge("longship_commits_waiting", "Commits on the primary that wait for a flush, here or on standbys.")
	mRuleMet        = gauge("longship_rule_met", "Whether those who stream satisfy the rule that binds, in number and zones, on the primary: otherwise commits wait. One that is done without binds nobody.")
	mLease          = gauge("longship_lease_seconds", "How long the primary's read lease lasts. It is asked for when somebody reads: 0 without readers is no fault. +Inf on a node that is alone.")
)

// log is what the node's role does with its log.
func (s *scrape) log(r *reign) {
	s.flag(mReplica, r.primary == nil)
	s.flag(mWaiting, s.node.waitingFor(r) != "")
	s.lsn(mApplied, r.replayed())
	s.lsn(mHorizon, r.horizon.Load())
	s.lsn(mFlushed, r.flushed().Load())
	s.lsn(mWritten, r.written().Load())
	s.lsn(mInserted, r.inserted().Load())
	s.put(mTimeline, float64(r.found.End.Timeline))

	s.put(mTable, float64(r.table.MemoryBytes()))

	control := r.checkpointer.Control()
	s.lsn(mRedo, control.Redo)
	s.lsn(mCheckpoint, control.Checkpoint)
	checkpoints := r.checkpointer.Stats()
	s.put(mTimed, float64(checkpoints.Timed.Load()))
	s.put(mRequested, float64(checkpoints.Requested.Load()))
	s.put(mCheckpointTime, float64(checkpoints.Time.Load())/1e9)

	s.scrubbing(&s.node.scrubbing)

	if r.primary != nil {
		s.put(mPending, float64(r.table.PendingBytes()))
		s.commits(r.primary)
		s.wal(r.primary.writer.Stats())
		return
	}
	if at, ok := r.redo.LastCommit(); ok {
		s.time(mReplayed, at)
	}
	s.receiver(r)
	s.wal(new(wal.Stats))
}

func (s *scrape) scrubbing(b *scrubbing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.put(mScrubbed, float64(b.checked))
	s.put(mScrubPasses, float64(b.passes))
	s.put(mScrubFound, float64(b.found))
	s.put(mScrubMended, float64(b.repaired))
	s.put(mScrubDamaged, float64(len(b.faults)))
}

func (s *scrape) commits(p *primary) {
	s.put(mCommitsActive, float64(p.active.Load()))
	s.put(mCommitsWaiting, float64(p.group.Waiting()))
	s.flag(mRuleMet, p.group.Snapshot().Released.OK)
	debt, _ := p.group.Debt()
	s.put(mDebtBytes, float64(debt.Bytes))
	s.put(mDebtCommits, float64(debt.Commits))
	lease := max(0, time.Until(p.group.Lease())).Seconds()
	if lease > time.Hour.Seconds() {
		lease = math.Inf(1) // nobody else can take office
	}
	s.put(mLease, lease)
}

// wal is pg_stat_wal; a standby's is all zeros, as there.
func (s *scrape) wal(w *wal.Stats) {
	s.put(mWALRecords, float64(w.Records.Load()))
	s.put(mWALFPI, 0)
	s.put(mWALBytes, float64(w.Bytes.Load()))
	s.put(mBuffersFull, float64(w.BuffersFull.Load()))
	s.put(mWALWrites, float64(w.Writes.Load()))
	s.put(mWALSyncs, float64(w.Syncs.Load()))
	s.put(mWALWriteTime, float64(w.WriteTime.Load())/1e9)
	s.put(mWALSyncTime, float64(w.SyncTime.Load())/1e9)
}

// A standby's stream: pg_stat_wal_receiver.
var (
	mReceiverStatus = gauge("pg_stat_wal_receiver_status", "What the stream from the primary does: 1 for the present status.", "status")
	mReceiveStart   = gauge("pg_stat_wal_receiver_receive_start_lsn_bytes", "Where the stream began.")
	mReceiveTLI     = gauge("pg_stat_wal_receiver_receive_start_tli", "Timeline on which the stream began.")
	mReceiverWrite  = gauge("pg_stat_wal_receiver_written_lsn_bytes", "How far the log is received and written.")
	mReceiverFlush  = gauge("pg_stat_wal_receiver_flushed_lsn_bytes", "How far the log is received and durable.")
	mReceivedTLI    = gauge("pg_stat_wal_receiver_received_tli", "Timeline of what was received last.")
	mMsgSend        = gauge("pg_stat_wal_receiver_last_msg_send_time_seconds", "When the last message was sent, by the primary's clock.")
	mMsgReceipt     = gauge("pg_stat_wal_receiver_last_msg_receipt_time_seconds", "When the last message arrived.")
	mLatestEnd      = gauge("pg_stat_wal_receiver_latest_end_lsn_bytes", "End of the primary's log, as it last said.")
	mLatestEndTime  = gauge("pg_stat_wal_receiver_latest_end_time_seconds", "When that moved last.")
	mBehind         = gauge("pg_stat_wal_receiver_behind_bytes", "From what is applied to the end of the primary's log, while this node streams.")
)

var receiverStates = []string{
	string(walreceiver.StateStopped), string(walreceiver.StateStarting), string(walreceiver.StateStreaming),
	string(walreceiver.StateWaiting), string(walreceiver.StateRestarting),
}

func (s *scrape) receiver(r *reign) {
	if r.stream == nil {
		return
	}
	st := r.stream.Status()
	s.oneOf(mReceiverStatus, receiverStates, string(st.State))
	s.lsn(mReceiveStart, st.ReceiveStartLSN)
	s.put(mReceiveTLI, float64(st.ReceiveStartTLI))
	s.lsn(mReceiverWrite, st.WrittenLSN)
	s.lsn(mReceiverFlush, st.FlushedLSN)
	s.put(mReceivedTLI, float64(st.ReceivedTLI))
	s.time(mMsgSend, st.LastMsgSend)
	s.time(mMsgReceipt, st.LastMsgReceipt)
	s.lsn(mLatestEnd, st.LatestEndLSN)
	s.time(mLatestEndTime, st.LatestEndTime)
	if behind, ok := r.behind(); ok {
		s.put(mBehind, float64(behind))
	}
}

// What is on disk.
var (
	mSegments  = gauge("pg_wal_segments", "Segment files in pg_wal, those that wait to be used included.")
	mWALSize   = gauge("pg_wal_size_bytes", "What they take.")
	mDiskFree  = gauge("longship_disk_available_bytes", "What is free for this node, where its data directory is.")
	mDiskSize  = gauge("longship_disk_size_bytes", "Size of that file system.")
	mOrphans   = gauge("longship_orphans", "Tails that were cut off this node's log, and are kept in orphans/.")
	mOrphanTxn = gauge("longship_orphans_transactions", "Transactions in them.")
)

// disk reads the data directory. What cannot be read is left out. r may be nil.
func (s *scrape) disk(r *reign) {
	dir := s.node.dir
	if usage, err := dir.FS.GetDiskUsage(dir.Path); err == nil {
		s.put(mDiskFree, float64(usage.AvailBytes))
		s.put(mDiskSize, float64(usage.TotalBytes))
	}
	if orphans, err := dir.Orphans(); err == nil {
		transactions := 0
		for _, o := range orphans {
			transactions += o.Transactions
		}
		s.put(mOrphans, float64(len(orphans)))
		s.put(mOrphanTxn, float64(transactions))
	}
	if r == nil {
		return
	}
	if segments, err := r.found.Dir.Segments(); err == nil {
		s.put(mSegments, float64(len(segments)))
		s.put(mWALSize, float64(len(segments))*float64(s.node.identity().SegmentSize))
	}
}
