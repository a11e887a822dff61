package sql

// Columns of PostgreSQL 15's views, names and types exact (reference/postgres-replication.md,
// section 9).
var (
	PgStatActivityColumns = []Column{
		{"datid", OID}, {"datname", Name}, {"pid", Int4}, {"leader_pid", Int4}, {"usesysid", OID}, {"usename", Name}, {"application_name", Text},
		{"client_addr", Inet}, {"client_hostname", Text}, {"client_port", Int4}, {"backend_start", Timestamptz}, {"xact_start", Timestamptz},
		{"query_start", Timestamptz}, {"state_change", Timestamptz}, {"wait_event_type", Text}, {"wait_event", Text}, {"state", Text},
		{"backend_xid", XID}, {"backend_xmin", XID}, {"query_id", Int8}, {"query", Text}, {"backend_type", Text},
	}
	PgStatReplicationColumns = []Column{
		{"pid", Int4}, {"usesysid", OID}, {"usename", Name}, {"application_name", Text},
		{"client_addr", Inet}, {"client_hostname", Text}, {"client_port", Int4},
		{"backend_start", Timestamptz}, {"backend_xmin", XID}, {"state", Text},
		{"sent_lsn", PgLSN}, {"write_lsn", PgLSN}, {"flush_lsn", PgLSN}, {"replay_lsn", PgLSN},
		{"write_lag", Interval}, {"flush_lag", Interval}, {"replay_lag", Interval},
		{"sync_priority", Int4}, {"sync_state", Text}, {"reply_time", Timestamptz},
	}
	PgStatWalReceiverColumns = []Column{
		{"pid", Int4}, {"status", Text}, {"receive_start_lsn", PgLSN}, {"receive_start_tli", Int4},
		{"written_lsn", PgLSN}, {"flushed_lsn", PgLSN}, {"received_tli", Int4},
		{"last_msg_send_time", Timestamptz}, {"last_msg_receipt_time", Timestamptz},
		{"latest_end_lsn", PgLSN}, {"latest_end_time", Timestamptz}, {"slot_name", Text},
		{"sender_host", Text}, {"sender_port", Int4}, {"conninfo", Text},
	}
	PgStatWalColumns = []Column{
		{"wal_records", Int8}, {"wal_fpi", Int8}, {"wal_bytes", Numeric}, {"wal_buffers_full", Int8},
		{"wal_write", Int8}, {"wal_sync", Int8}, {"wal_write_time", Float8}, {"wal_sync_time", Float8},
		{"stats_reset", Timestamptz},
	}
	PgReplicationSlotsColumns = []Column{
		{"slot_name", Name}, {"plugin", Name}, {"slot_type", Text}, {"datoid", OID}, {"database", Name},
		{"temporary", Bool}, {"active", Bool}, {"active_pid", Int4}, {"xmin", XID}, {"catalog_xmin", XID},
		{"restart_lsn", PgLSN}, {"confirmed_flush_lsn", PgLSN}, {"wal_status", Text},
		{"safe_wal_size", Int8}, {"two_phase", Bool},
	}
	PgStatArchiverColumns = []Column{
		{"archived_count", Int8}, {"last_archived_wal", Text}, {"last_archived_time", Timestamptz},
		{"failed_count", Int8}, {"last_failed_wal", Text}, {"last_failed_time", Timestamptz},
		{"stats_reset", Timestamptz},
	}
	PgSettingsColumns = []Column{
		{"name", Text}, {"setting", Text}, {"unit", Text}, {"category", Text}, {"short_desc", Text},
		{"extra_desc", Text}, {"context", Text}, {"vartype", Text}, {"source", Text}, {"min_val", Text},
		{"max_val", Text}, {"enumvals", TextArray}, {"boot_val", Text}, {"reset_val", Text},
		{"sourcefile", Text}, {"sourceline", Int4}, {"pending_restart", Bool},
	}
)
