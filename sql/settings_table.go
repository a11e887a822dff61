package sql

import (
	"errors"
	"math"
	"strings"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
)

// Categories of pg_settings.
const (
	catClient     = "Client Connection Defaults / Statement Behavior"
	catLocale     = "Client Connection Defaults / Locale and Formatting"
	catCompat     = "Version and Platform Compatibility / Previous PostgreSQL Versions"
	catMemory     = "Resource Usage / Memory"
	catConnection = "Connections and Authentication / Connection Settings"
	catFiles      = "File Locations"
	catPreset     = "Preset Options"
	catPrimary    = "Replication / Primary Server"
	catSending    = "Replication / Sending Servers"
	catStandby    = "Replication / Standby Servers"
	catWAL        = "Write-Ahead Log / Settings"
	catCheckpoint = "Write-Ahead Log / Checkpoints"
	catArchive    = "Write-Ahead Log / Archiving"
	catVacuum     = "Autovacuum"
	catFailover   = "Replication / Failover"
	catReporting  = "Reporting and Logging / What to Log"
	catDeveloper  = "Developer Options"
	customized    = "Customized Options"
)

const maxInt = math.MaxInt32

// Settings by which a session hears of its commits.
const (
	lastCommitLSN   = "longship.last_commit_lsn"
	lastCommitLevel = "longship.last_commit_level"
	reportCommitLSN = "longship.report_commit_lsn"
)

// builtinSettings lists the settings of PostgreSQL 15 that mean something here, with its defaults
// unless DESIGN says otherwise, those of failover, which are Longship's own, and those that are only accepted.
func builtinSettings() []Setting {
	var list []Setting
	for _, group := range [][]Setting{clientSettings(), presetSettings(), replicationSettings(), failoverSettings(), walSettings(), acceptedSettings()} {
		list = append(list, group...)
	}
	return list
}

var isolationLevels = []string{"serializable", "repeatable read", "read committed", "read uncommitted"}

func clientSettings() []Setting {
	const user, s, e = ContextUser, KindString, KindEnum
	messages := strings.Split("debug5,debug4,debug3,debug2,debug1,log,notice,warning,error", ",")
	return []Setting{
		{Name: "application_name", Kind: s, Context: user, Category: catReporting, Report: true, Short: "Name of the application, shown in statistics and matched by synchronous_standby_names."},
		{Name: "client_encoding", Kind: s, Boot: "UTF8", Context: user, Category: catLocale, Report: true, Check: onlyUTF8, Short: "Character set of the client: UTF8."},
		{Name: "client_min_messages", Kind: e, Boot: "notice", Enum: messages, Context: user, Category: catClient, Short: "Least severity of messages sent to the client."},
		{Name: "DateStyle", Kind: s, Boot: "ISO, MDY", Context: user, Category: catLocale, Report: true, Check: onlyISO, Short: "Display format of dates: ISO."},
		{Name: "IntervalStyle", Kind: e, Boot: "postgres", Enum: []string{"postgres"}, Context: user, Category: catLocale, Report: true, Short: "Display format of intervals."},
		{Name: "TimeZone", Kind: s, Boot: "GMT", Context: user, Category: catLocale, Report: true, Short: "Time zone for displaying and reading time stamps."},
		{Name: "bytea_output", Kind: e, Boot: "hex", Enum: []string{"escape", "hex"}, Context: user, Category: catClient, Short: "Accepted for clients that set it."},
		{Name: "default_transaction_isolation", Kind: e, Boot: "serializable", Enum: isolationLevels, Context: user, Category: catClient, Short: "Isolation asked for; every transaction is serializable."},
		{Name: "default_transaction_read_only", Kind: KindBool, Boot: "off", Context: user, Category: catClient, Report: true, Short: "Whether new transactions are read-only."},
		{Name: "extra_float_digits", Kind: KindInt, Boot: "1", Min: -15, Max: 3, Context: user, Category: catLocale, Short: "Accepted for clients that set it; floats print exactly."},
		{Name: "idle_in_transaction_session_timeout", Kind: KindInt, Unit: "ms", Boot: "0", Max: maxInt, Context: user, Category: catClient, Short: "Longest time a client may be idle in a transaction block, half a message sent or none; 0 for no limit."},
		{Name: "idle_session_timeout", Kind: KindInt, Unit: "ms", Boot: "0", Max: maxInt, Context: user, Category: catClient, Short: "Longest time a client may be idle otherwise; 0 for no limit."},
		{Name: "lock_timeout", Kind: KindInt, Unit: "ms", Boot: "0", Max: maxInt, Context: user, Category: catClient, Short: "Accepted for clients that set it; there are no locks to wait for."},
		{Name: "role", Kind: s, Boot: "none", Context: user, Category: catClient, NotInFile: true, Short: "Accepted for clients that set it to what it is; there is one role."},
		{Name: "search_path", Kind: s, Boot: `"$user", public`, Context: user, Category: catClient, Short: "Accepted for clients that set it; there is one schema."},
		{Name: "standard_conforming_strings", Kind: e, Boot: "on", Enum: []string{"on"}, Context: user, Category: catCompat, Report: true, Short: "Backslashes in '…' strings are ordinary characters."},
		{Name: "statement_timeout", Kind: KindInt, Unit: "ms", Boot: "0", Max: maxInt, Context: user, Category: catClient, Short: "Longest time a statement may run, waiting for its commit excepted; 0 for no limit."},
		{Name: "synchronous_commit", Kind: e, Boot: "on", Enum: []string{"local", "remote_write", "remote_apply", "on", "off"}, Context: user, Category: catWAL, Short: "What a commit waits for before it is acknowledged."},
		{Name: lastCommitLSN, Kind: s, Boot: "0/0", Context: ContextInternal, Category: catWAL, Short: "End of the session's last commit that wrote something; 0/0 for none."},
		{Name: lastCommitLevel, Kind: s, Boot: "none", Context: ContextInternal, Category: catWAL, Short: "What that commit had reached when it was acknowledged, as a value of synchronous_commit; none, or unknown if it was not."},
		{Name: reportCommitLSN, Kind: KindBool, Boot: "off", Context: user, Category: catWAL, Short: "Whether the client is told both after each commit (ParameterStatus)."},
		{Name: "transaction_isolation", Kind: e, Boot: "serializable", Enum: isolationLevels, Context: user, Category: catClient, NotInFile: true, Short: "The current transaction's isolation, serializable or as asked for."},
		{Name: "transaction_read_only", Kind: KindBool, Boot: "off", Context: user, Category: catClient, NotInFile: true, Short: "Whether the current transaction is read-only."},
	}
}

func onlyUTF8(value string) (string, error) {
	if isUTF8(value) {
		return "UTF8", nil
	}
	return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, `invalid value for parameter "client_encoding": "%s"`, value).
		WithHint("The only encoding is UTF8.")
}

// isUTF8 reports whether that is a name of the one encoding there is. As in PostgreSQL only letters and digits count:
// asyncpg sends 'utf-8' with its quotes.
func isUTF8(name string) bool {
	switch strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return -1
	}, name) {
	case "UTF8", "UNICODE", "SQLASCII":
		return true
	}
	return false
}

// dateOrders are the words for what comes first in a date, and how SHOW names it.
var dateOrders = map[string]string{
	"mdy": "MDY", "us": "MDY", "noneuropean": "MDY", "noneuro": "MDY",
	"dmy": "DMY", "european": "DMY", "euro": "DMY", "ymd": "YMD",
}

// onlyISO takes ISO and an order, in which nothing is read here: dates are read with the year first.
func onlyISO(value string) (string, error) {
	order := "MDY"
	for word := range strings.SplitSeq(value, ",") {
		word = strings.ToLower(strings.TrimSpace(word))
		if name := dateOrders[word]; name != "" {
			order = name
		} else if word != "iso" {
			return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, `invalid value for parameter "DateStyle": "%s"`, value).
				WithHint("The only style is ISO.")
		}
	}
	return "ISO, " + order, nil
}

func presetSettings() []Setting {
	const internal, s, b = ContextInternal, KindString, KindBool
	return []Setting{
		{Name: "block_size", Kind: KindInt, Boot: "8192", Min: 8192, Max: 8192, Context: internal, Category: catPreset, Short: "Size of a page."},
		{Name: "data_checksums", Kind: b, Boot: "on", Context: internal, Category: catPreset, Short: "Stored data is checksummed."},
		{Name: "data_directory", Kind: s, Context: ContextPostmaster, Category: catFiles, NotInFile: true, Short: "The node's data directory."},
		{Name: "data_directory_mode", Kind: KindInt, Boot: "448", Max: 511, Context: internal, Category: catPreset, Short: "Mode of the data directory."},
		{Name: "in_hot_standby", Kind: b, Boot: "off", Context: internal, Category: catPreset, Report: true, Short: "Whether the node is a standby."},
		{Name: "max_identifier_length", Kind: KindInt, Boot: "63", Min: 63, Max: 63, Context: internal, Category: catPreset, Short: "Longest name, in bytes."},
		{Name: "max_index_keys", Kind: KindInt, Boot: "32", Min: 32, Max: 32, Context: internal, Category: catPreset, Short: "Most columns of an index, as PostgreSQL has it: drivers ask."},
		{Name: "integer_datetimes", Kind: b, Boot: "on", Context: internal, Category: catPreset, Report: true, Short: "Time stamps are integers."},
		{Name: "is_superuser", Kind: b, Boot: "on", Context: internal, Category: catPreset, Report: true, Short: "There is one role."},
		{Name: "lc_collate", Kind: s, Boot: "C", Context: internal, Category: catPreset, Short: "Text compares byte by byte."},
		{Name: "lc_ctype", Kind: s, Boot: "C", Context: internal, Category: catPreset, Short: "Classes of characters are those of Unicode."},
		{Name: "max_prepared_transactions", Kind: KindInt, Boot: "0", Context: internal, Category: catPreset, Short: "There are no prepared transactions."},
		{Name: "server_encoding", Kind: s, Boot: "UTF8", Context: internal, Category: catPreset, Report: true, Short: "Encoding of the table."},
		{Name: "server_version", Kind: s, Boot: "15.18", Context: internal, Category: catPreset, Report: true, Short: "The PostgreSQL version whose behaviour the node follows."},
		{Name: "server_version_num", Kind: KindInt, Boot: "150018", Min: 150000, Max: 190000, Context: internal, Category: catPreset, Short: "The same as a number."},
		{Name: "session_authorization", Kind: s, Context: internal, Category: catPreset, Report: true, Short: "The session's user."},
		{Name: "wal_block_size", Kind: KindInt, Boot: "8192", Min: 8192, Max: 8192, Context: internal, Category: catPreset, Short: "Size of a WAL page."},
		{Name: "wal_segment_size", Kind: KindInt, Unit: "B", Boot: "16777216", Min: 1 << 20, Max: 1 << 30, Context: internal, Category: catPreset, Short: "Size of a WAL segment."},

		{Name: "authentication_timeout", Kind: KindInt, Unit: "s", Boot: "60", Min: 1, Max: 600, Context: ContextSighup, Category: catConnection, Short: "Longest time a client may take to log in."},
		{Name: "cluster_name", Kind: s, Context: ContextPostmaster, Category: catReporting, NotInFile: true, Short: "Name of the cluster."},
		{Name: "listen_addresses", Kind: s, Boot: "localhost", Context: ContextPostmaster, Category: catConnection, NotInFile: true, Short: "Addresses the node listens on."},
		{Name: "max_connections", Kind: KindInt, Boot: "100", Min: 1, Max: 262143, Context: ContextPostmaster, Category: catConnection, Short: "Most concurrent connections."},
		{Name: "max_total_backend_memory", Kind: KindInt, Unit: "MB", Boot: "1024", Max: maxInt, Context: ContextSighup, Category: catMemory, Short: "Most memory that all sessions together may use for large messages, rows held back and uncommitted transactions; 0 for no limit."},
		{Name: "superuser_reserved_connections", Kind: KindInt, Boot: "3", Max: 262143, Context: ContextPostmaster, Category: catConnection, Short: "Connections out of max_connections that only sessions of database longship_admin get."},
		{Name: "tcp_user_timeout", Kind: KindInt, Unit: "ms", Boot: "300000", Max: maxInt, Context: ContextSighup, Category: catConnection, Short: "Time after which a client that reads nothing of what it is sent is given up; 0 for never."},
		{Name: "port", Kind: KindInt, Boot: "5432", Min: 1, Max: 65535, Context: ContextPostmaster, Category: catConnection, NotInFile: true, Short: "TCP port for clients, receivers and members."},
	}
}

func replicationSettings() []Setting {
	const i, s, b, sighup, start, internal = KindInt, KindString, KindBool, ContextSighup, ContextPostmaster, ContextInternal
	return []Setting{
		{Name: "hot_standby", Kind: b, Boot: "on", Context: internal, Category: catStandby, Short: "A standby answers queries, always."},
		{Name: "idle_replication_slot_timeout", Kind: i, Unit: "s", Boot: "0", Max: maxInt, Context: sighup, Category: catSending, Short: "Time without use after which a checkpoint invalidates a replication slot; 0 for never."},
		{Name: "max_replication_slots", Kind: i, Boot: "10", Max: 262143, Context: start, Category: catSending, Short: "Most replication slots."},
		{Name: "max_slot_wal_keep_size", Kind: i, Unit: "MB", Boot: "-1", Min: -1, Max: maxInt, Context: sighup, Category: catSending, Short: "Most WAL that slots may retain; -1 for no limit."},
		{Name: "max_logical_replication_workers", Kind: i, Boot: "0", Context: internal, Category: catStandby, Short: "There is no logical replication."},
		{Name: "max_wal_senders", Kind: i, Boot: "10", Max: 262143, Context: start, Category: catSending, Short: "Most concurrent WAL senders."},
		{Name: "degrade_after", Kind: i, Unit: "ms", Boot: "30000", Max: maxInt, Context: sighup, Category: catPrimary, Short: "Time for which commits must have waited before the rule is done without, if synchronous_mode allows it."},
		{Name: "max_degraded_wal_size", Kind: i, Unit: "MB", Boot: "64", Min: 1, Max: maxInt, Context: sighup, Category: catPrimary, Short: "Most WAL that the primary may acknowledge alone, if synchronous_mode is bounded."},
		{Name: "synchronous_mode", Kind: KindEnum, Boot: "required", Enum: []string{"required", "degrade", "bounded"}, Context: sighup, Category: catPrimary, Short: "What becomes of commits when synchronous_standby_names cannot be met."},
		{Name: "synchronous_standby_names", Kind: s, Boot: "ANY MAJORITY (*)", Context: sighup, Category: catPrimary, Check: checkRule, Short: "Who must have a commit before it is acknowledged."},
		{Name: "wal_catchup_rate", Kind: i, Unit: "kB", Boot: "65536", Max: maxInt, Context: sighup, Category: catSending, Short: "WAL per second that is sent to a receiver that is behind while commits come; 0 for no limit."},
		{Name: "wal_keep_size", Kind: i, Unit: "MB", Boot: "0", Max: maxInt, Context: sighup, Category: catSending, Short: "WAL kept for standbys without a slot."},
		{Name: "wal_receiver_status_interval", Kind: i, Unit: "s", Boot: "10", Max: maxInt / 1000, Context: sighup, Category: catStandby, Short: "Longest time between a standby's reports."},
		{Name: "wal_receiver_timeout", Kind: i, Unit: "ms", Boot: "60000", Max: maxInt, Context: sighup, Category: catStandby, Short: "Silence after which a standby gives its upstream up."},
		{Name: "wal_retrieve_retry_interval", Kind: i, Unit: "ms", Boot: "5000", Min: 1, Max: maxInt, Context: sighup, Category: catStandby, Short: "Longest pause between a standby's attempts to connect."},
		{Name: "wal_scrub_rate", Kind: i, Unit: "kB", Boot: "1024", Max: maxInt, Context: sighup, Category: catFailover, Short: "WAL per second that is read again to find what has rotted, on each node; 0 for none."},
		{Name: "wal_sender_timeout", Kind: i, Unit: "ms", Boot: "60000", Max: maxInt, Context: ContextUser, Category: catSending, Short: "Silence after which a receiver is given up."},
	}
}

func failoverSettings() []Setting {
	const i, sighup = KindInt, ContextSighup
	return []Setting{
		{Name: "disk_watchdog_timeout", Kind: i, Unit: "ms", Boot: "10000", Max: maxInt, Context: sighup, Category: catFailover, Short: "Longest time a write to disk may take before the node leaves the cluster and ends; 0 for no limit."},
		{Name: "failover_timeout", Kind: i, Unit: "ms", Boot: "2000", Min: 10, Max: maxInt, Context: sighup, Category: catFailover, Short: "Time for which the primary must be out of reach before another one is promoted."},
		{Name: "heartbeat_interval", Kind: i, Unit: "ms", Boot: "1000", Max: maxInt, Context: sighup, Category: catFailover, Short: "Time between two records that the primary writes for lag to be measured by; 0 for none."},
		{Name: "switchover_timeout", Kind: i, Unit: "ms", Boot: "10000", Min: 10, Max: maxInt, Context: sighup, Category: catFailover, Short: "Longest time a switchover may wait for its target before it is called off."},
	}
}

// checkRule refuses a rule that syncrep cannot read.
func checkRule(value string) (string, error) {
	_, err := syncrep.ParseRule(value)
	if syntax, ok := errors.AsType[*syncrep.SyntaxError](err); ok {
		return "", pgwire.Errorf(pgwire.CodeSyntaxError, `invalid value for parameter "synchronous_standby_names": "%s"`, value).
			WithDetail("%s", syntax.Detail)
	}
	if err != nil {
		return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, "%w", err)
	}
	return value, nil
}

// checkDirect takes debug_io_direct as PostgreSQL 16 does, but of the lists only those that mean something here.
func checkDirect(value string) (string, error) {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "":
		return "", nil
	case "wal":
		return "wal", nil
	}
	return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, `invalid value for parameter "debug_io_direct": "%s"`, value).
		WithHint("Only wal can be written past the page cache.")
}

func walSettings() []Setting {
	const i, b, e, sighup, start, internal = KindInt, KindBool, KindEnum, ContextSighup, ContextPostmaster, ContextInternal
	return []Setting{
		{Name: "archive_mode", Kind: e, Boot: "off", Enum: []string{"off"}, Context: internal, Category: catArchive, Short: "Completed segments are not archived by the node: use pg_receivewal."},
		{Name: "archive_timeout", Kind: i, Unit: "s", Boot: "0", Context: internal, Category: catArchive, Short: "Segments are not switched by time."},
		{Name: "autovacuum", Kind: b, Boot: "off", Context: internal, Category: catVacuum, Short: "There is nothing to vacuum."},
		{Name: "autovacuum_max_workers", Kind: i, Boot: "0", Context: internal, Category: catVacuum, Short: "There is nothing to vacuum."},
		{Name: "checkpoint_timeout", Kind: i, Unit: "s", Boot: "300", Min: 30, Max: 86400, Context: sighup, Category: catCheckpoint, Short: "Longest time between checkpoints."},
		{Name: "commit_delay", Kind: i, Boot: "0", Max: 100000, Context: sighup, Category: catWAL, Short: "Microseconds between a commit and its flush."},
		{Name: "commit_siblings", Kind: i, Boot: "5", Max: 1000, Context: sighup, Category: catWAL, Short: "Least open transactions for commit_delay to apply."},
		{Name: "debug_io_direct", Kind: KindString, Boot: "wal", Context: start, Category: catDeveloper, Check: checkDirect, Short: "What is written past the page cache if it is small and synced at once: wal or nothing."},
		{Name: "fsync", Kind: b, Boot: "on", Context: internal, Category: catWAL, Short: "WAL is forced to disk, always."},
		{Name: "full_page_writes", Kind: b, Boot: "off", Context: internal, Category: catWAL, Short: "Not needed: stored files are immutable."},
		{Name: "max_wal_size", Kind: i, Unit: "MB", Boot: "1024", Min: 2, Max: maxInt, Context: sighup, Category: catCheckpoint, Short: "WAL after which a checkpoint begins."},
		{Name: "min_wal_size", Kind: i, Unit: "MB", Boot: "80", Min: 2, Max: maxInt, Context: sighup, Category: catCheckpoint, Short: "WAL below which segments are recycled, not removed."},
		{Name: "wal_buffers", Kind: i, Unit: "8kB", Boot: "2048", Min: 4, Max: 262143, Context: start, Category: catWAL, Short: "Size of the WAL buffer."},
		{Name: "wal_compression", Kind: e, Boot: "off", Enum: []string{"off"}, Context: internal, Category: catWAL, Short: "There are no full-page writes to compress."},
		{Name: "wal_init_zero", Kind: b, Boot: "on", Context: internal, Category: catWAL, Short: "New segments are filled with zeros, always."},
		{Name: "wal_level", Kind: e, Boot: "replica", Enum: []string{"minimal", "replica", "logical"}, Context: internal, Category: catWAL, Short: "The WAL is good for physical replication."},
		{Name: "wal_recycle", Kind: b, Boot: "on", Context: internal, Category: catWAL, Short: "Old segments are reused by renaming, up to min_wal_size and what is expected."},
		{Name: "wal_sync_method", Kind: e, Boot: "fdatasync", Enum: []string{"fsync", "fdatasync", "open_sync", "open_datasync"}, Context: start, Category: catWAL, Short: "How WAL is forced to disk."},
		{Name: "checkpoint_completion_target", Kind: KindReal, Boot: "0.9", Min: 0, Max: 1, Context: sighup, Category: catCheckpoint, Short: "Share of the distance between checkpoints that one may take: how many segments are kept for reuse."},
		{Name: "wal_writer_delay", Kind: i, Unit: "ms", Boot: "200", Min: 1, Max: 10000, Context: sighup, Category: catWAL, Short: "Longest time between flushes of asynchronous commits."},
	}
}
