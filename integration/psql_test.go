package integration

import (
	"fmt"
	"strings"
	"testing"
)

// psql runs a script in one session and returns what psql printed, errors included.
func psql(t *testing.T, n *node, script string, flags ...string) string {
	t.Helper()
	args := append([]string{"-X", "-v", "VERBOSITY=verbose", "-d", n.dsn()}, flags...)
	out, err := runTool(t, script, tool(t, "psql"), args...)
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return out
}

// checkPsql compares what psql prints for a script, unaligned, with want.
func checkPsql(t *testing.T, n *node, script, want string) {
	t.Helper()
	got := psql(t, n, script, "-A")
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("script\n%s\nprinted\n%s\nwant\n%s", script, got, want)
	}
}

// psqlScripts are scripts for an empty primary of one node, and what psql prints for them.
var psqlScripts = map[string][2]string{
	"write": {`
INSERT INTO kv VALUES ('a/1', 'one'), ('a/2', 'two'), ('a/3', NULL) RETURNING key, value;
INSERT INTO kv (key, value) VALUES ('a/1', 'again') ON CONFLICT DO NOTHING;
INSERT INTO kv VALUES ('a/1', 'uno') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value RETURNING value;
UPDATE kv SET value = 'dos' WHERE key = 'a/2';
UPDATE kv SET value = value || '!' WHERE key >= 'a/' AND key < 'a0' RETURNING key, value;
DELETE FROM kv WHERE key = 'a/3' RETURNING key;
SELECT key, value, lsn IS NOT NULL AS has_lsn FROM kv WHERE key LIKE 'a/%' ORDER BY key DESC LIMIT 1 OFFSET 1;
SELECT count(*) FROM kv WHERE key BETWEEN 'a/' AND 'a0';
DELETE FROM kv WHERE key IN ('a/1', 'a/2', 'nope');
`, `
key|value
a/1|one
a/2|two
a/3|
(3 rows)
INSERT 0 3
INSERT 0 0
value
uno
(1 row)
INSERT 0 1
UPDATE 1
key|value
a/1|uno!
a/2|dos!
a/3|
(3 rows)
UPDATE 3
key
a/3
(1 row)
DELETE 1
key|value|has_lsn
a/1|uno!|t
(1 row)
count
2
(1 row)
DELETE 2
`},
	"transactions": {`
BEGIN;
INSERT INTO kv VALUES ('b', '1');
SELECT value FROM kv WHERE key = 'b';
ROLLBACK;
SELECT value FROM kv WHERE key = 'b';
BEGIN;
SELECT nope;
SELECT 1;
COMMIT;
START TRANSACTION READ ONLY;
INSERT INTO kv VALUES ('b', '1');
ROLLBACK;
SAVEPOINT s;
BEGIN;
INSERT INTO kv VALUES ('b2', '1');
SAVEPOINT s;
INSERT INTO kv VALUES ('b3', '1'), ('b2', '2');
ROLLBACK TO s;
SELECT count(*) FROM kv WHERE key IN ('b2', 'b3');
ROLLBACK;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO kv VALUES ('b2', '1');
INSERT INTO kv VALUES ('b2', '2');
COMMIT;
DELETE FROM kv WHERE key = 'b2' RETURNING value;
INSERT INTO kv VALUES ('b1', '1')\; INSERT INTO kv VALUES ('b1', '2');
SELECT count(*) FROM kv WHERE key = 'b1';
`, `
BEGIN
INSERT 0 1
value
1
(1 row)
ROLLBACK
value
(0 rows)
BEGIN
ERROR:  42703: column "nope" does not exist
LINE 1: SELECT nope;
               ^
ERROR:  25P02: current transaction is aborted, commands ignored until end of transaction block
ROLLBACK
START TRANSACTION
ERROR:  25006: cannot execute INSERT in a read-only transaction
ROLLBACK
ERROR:  25P01: SAVEPOINT can only be used in transaction blocks
BEGIN
INSERT 0 1
SAVEPOINT
ERROR:  23505: duplicate key value violates unique constraint "kv_pkey"
DETAIL:  Key (key)=(b2) already exists.
SCHEMA NAME:  public
TABLE NAME:  kv
CONSTRAINT NAME:  kv_pkey
ROLLBACK
count
1
(1 row)
ROLLBACK
BEGIN
INSERT 0 1
ERROR:  23505: duplicate key value violates unique constraint "kv_pkey"
DETAIL:  Key (key)=(b2) already exists.
SCHEMA NAME:  public
TABLE NAME:  kv
CONSTRAINT NAME:  kv_pkey
COMMIT
value
1
(1 row)
DELETE 1
INSERT 0 1
ERROR:  23505: duplicate key value violates unique constraint "kv_pkey"
DETAIL:  Key (key)=(b1) already exists.
SCHEMA NAME:  public
TABLE NAME:  kv
CONSTRAINT NAME:  kv_pkey
count
0
(1 row)
`},
	"settings": {`
SHOW synchronous_commit;
SET synchronous_commit = 'remote_apply';
SHOW synchronous_commit;
BEGIN;
SET LOCAL synchronous_commit = off;
SHOW synchronous_commit;
COMMIT;
RESET synchronous_commit;
SELECT current_setting('synchronous_commit'), current_setting('wal_segment_size');
SELECT name, setting, unit, context, vartype FROM pg_settings WHERE name = 'wal_segment_size';
SET no_such_setting = 1;
SET synchronous_commit = maybe;
SET wal_buffers = 1;
`, `
synchronous_commit
on
(1 row)
SET
synchronous_commit
remote_apply
(1 row)
BEGIN
SET
synchronous_commit
off
(1 row)
COMMIT
RESET
current_setting|current_setting
on|1MB
(1 row)
name|setting|unit|context|vartype
wal_segment_size|1048576|B|internal|integer
(1 row)
ERROR:  42704: unrecognized configuration parameter "no_such_setting"
ERROR:  22023: invalid value for parameter "synchronous_commit": "maybe"
HINT:  Available values: local, remote_write, remote_apply, on, off.
ERROR:  55P02: parameter "wal_buffers" cannot be changed without restarting the server
`},
	"errors": {`
SELEC 1;
SELECT * FROM other;
SELECT value FORM kv;
INSERT INTO kv VALUES ('c');
INSERT INTO kv VALUES (repeat('k', 3000), 'x');
INSERT INTO kv VALUES (NULL, 'x');
CREATE TABLE t (a int);
SELECT no_such_function(1);
`, `
ERROR:  42601: syntax error at or near "SELEC"
LINE 1: SELEC 1;
        ^
ERROR:  42P01: relation "other" does not exist
LINE 1: SELECT * FROM other;
                      ^
ERROR:  42601: syntax error at or near "kv"
LINE 1: SELECT value FORM kv;
                          ^
INSERT 0 1
ERROR:  54000: key of 3000 bytes exceeds the maximum of 2048
ERROR:  23502: null value in column "key" of relation "kv" violates not-null constraint
DETAIL:  Failing row contains (null, x, null).
SCHEMA NAME:  public
TABLE NAME:  kv
COLUMN NAME:  key
ERROR:  0A000: CREATE is not supported
LINE 1: CREATE TABLE t (a int);
        ^
HINT:  There is one table, kv(key text primary key, value text, lsn pg_lsn).
ERROR:  42883: function no_such_function(integer) does not exist
LINE 1: SELECT no_such_function(1);
               ^
HINT:  No function matches the given name and argument types. You might need to add explicit type casts.
`},
	"functions": {`
SELECT pg_is_in_recovery(), pg_wal_lsn_diff('0/300', '0/200'), version() LIKE 'PostgreSQL 15%' AS v;
SELECT pg_current_wal_lsn() >= pg_current_wal_flush_lsn() AS a, pg_current_wal_insert_lsn() >= pg_current_wal_lsn() AS b;
SELECT pg_last_wal_receive_lsn() IS NULL AS a, pg_last_wal_replay_lsn() IS NULL AS b, pg_last_xact_replay_timestamp() IS NULL AS c;
SELECT pg_walfile_name('0/100001'), pg_walfile_name('0/200000'), pg_walfile_name('1/00000001');
SELECT slot_name, lsn IS NOT NULL AS reserved FROM pg_create_physical_replication_slot('s1', true);
SELECT slot_name, slot_type, temporary, active, wal_status FROM pg_replication_slots;
SELECT * FROM pg_create_physical_replication_slot('s1');
SELECT pg_drop_replication_slot('s1');
SELECT count(*) FROM pg_replication_slots;
SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS before \gset
SELECT pg_switch_wal() IS NOT NULL AS switched;
SELECT pg_walfile_name(pg_current_wal_insert_lsn()) > :'before' AS next;
CHECKPOINT;
SELECT current_user, current_database(), now() > '2020-01-01'::timestamptz AS now;
`, `
pg_is_in_recovery|pg_wal_lsn_diff|v
f|256|t
(1 row)
a|b
t|t
(1 row)
a|b|c
t|t|t
(1 row)
pg_walfile_name|pg_walfile_name|pg_walfile_name
000000010000000000000001|000000010000000000000001|000000010000000100000000
(1 row)
slot_name|reserved
s1|t
(1 row)
slot_name|slot_type|temporary|active|wal_status
s1|physical|f|f|reserved
(1 row)
ERROR:  42710: replication slot "s1" already exists
pg_drop_replication_slot

(1 row)
count
0
(1 row)
switched
t
(1 row)
next
t
(1 row)
CHECKPOINT
current_user|current_database|now
test|test|t
(1 row)
`},
}

func TestPsqlStatements(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	for name, test := range psqlScripts {
		t.Run(name, func(t *testing.T) { checkPsql(t, c.primary(), test[0], test[1]) })
	}
}

// The columns of PostgreSQL 15's views, as its manual lists them.
var viewColumns = map[string]string{
	"pg_stat_replication":         "pid usesysid usename application_name client_addr client_hostname client_port backend_start backend_xmin state sent_lsn write_lsn flush_lsn replay_lsn write_lag flush_lag replay_lag sync_priority sync_state reply_time",
	"pg_stat_wal_receiver":        "pid status receive_start_lsn receive_start_tli written_lsn flushed_lsn received_tli last_msg_send_time last_msg_receipt_time latest_end_lsn latest_end_time slot_name sender_host sender_port conninfo",
	"pg_replication_slots":        "slot_name plugin slot_type datoid database temporary active active_pid xmin catalog_xmin restart_lsn confirmed_flush_lsn wal_status safe_wal_size two_phase",
	"pg_stat_wal":                 "wal_records wal_fpi wal_bytes wal_buffers_full wal_write wal_sync wal_write_time wal_sync_time stats_reset",
	"pg_settings":                 "name setting unit category short_desc extra_desc context vartype source min_val max_val enumvals boot_val reset_val sourcefile sourceline pending_restart",
	"pg_stat_progress_basebackup": "pid phase backup_total backup_streamed tablespaces_total tablespaces_streamed",
}

func TestPsqlViews(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	for _, n := range c.nodes {
		for view, columns := range viewColumns {
			got := psql(t, n, "SELECT * FROM "+view+" LIMIT 0", "-A", "-t", "-F", " ", "-P", "tuples_only=off", "-P", "footer=off")
			if strings.TrimSpace(got) != columns {
				t.Errorf("%s: %s has columns\n%s\nwant\n%s", n.name, view, got, columns)
			}
		}
	}
	n1, n2 := c.node(1), c.node(2)
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	end := c.awaitCaughtUp()
	checkPsql(t, n1, `
SELECT application_name, state, sync_state, sync_priority, client_addr, usename FROM pg_stat_replication;
SELECT slot_name, active, wal_status FROM pg_replication_slots;
SELECT wal_records > 0 AS records, wal_sync > 0 AS syncs FROM pg_stat_wal;
SELECT count(*) FROM pg_stat_wal_receiver;
SELECT node, role, epoch, timeline, phase, "primary", primary_address, rule FROM longship_cluster;
SELECT name, role, state, address FROM longship_members ORDER BY name;`, fmt.Sprintf(`
application_name|state|sync_state|sync_priority|client_addr|usename
n2|streaming|quorum|1|127.0.0.1|longship
(1 row)
slot_name|active|wal_status
n2|t|reserved
(1 row)
records|syncs
t|t
(1 row)
count
0
(1 row)
node|role|epoch|timeline|phase|primary|primary_address|rule
n1|primary|1|1|steady|n1|%[1]s|ANY MAJORITY (*)
(1 row)
name|role|state|address
n1|primary|running|%[1]s
n2|standby|streaming|%[2]s
(2 rows)`, n1.address(), n2.address()))
	checkPsql(t, n2, fmt.Sprintf(`
SELECT status, received_tli, slot_name, sender_host, sender_port FROM pg_stat_wal_receiver;
SELECT pg_is_in_recovery() AS r, pg_last_wal_receive_lsn() >= '%[1]s' AS a, pg_last_wal_replay_lsn() >= '%[1]s' AS b, pg_last_xact_replay_timestamp() IS NOT NULL AS c;
SELECT node, role, phase, primary_address FROM longship_cluster;
SHOW in_hot_standby;`, end), fmt.Sprintf(`
status|received_tli|slot_name|sender_host|sender_port
streaming|1|n2|127.0.0.1|%d
(1 row)
r|a|b|c
t|t|t|t
(1 row)
node|role|phase|primary_address
n2|standby|steady|%s
(1 row)
in_hot_standby
on
(1 row)`, n1.port, n1.address()))
}

// A standby reads, and says who takes writes.
func TestPsqlOnStandby(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n1, n2 := c.pair()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	c.awaitCaughtUp()
	hint := "HINT:  This node is a standby; the primary is at " + n1.address() + "."
	checkPsql(t, n2, `
SELECT key, value FROM kv;
INSERT INTO kv VALUES ('b', '2');
DELETE FROM kv;
BEGIN;
UPDATE kv SET value = 'x' WHERE key = 'a';
ROLLBACK;
SELECT pg_switch_wal();
SELECT pg_current_wal_lsn();
SHOW transaction_read_only;`, `
key|value
a|1
(1 row)
ERROR:  25006: cannot execute INSERT in a read-only transaction
`+hint+`
ERROR:  25006: cannot execute DELETE in a read-only transaction
`+hint+`
BEGIN
ERROR:  25006: cannot execute UPDATE in a read-only transaction
`+hint+`
ROLLBACK
ERROR:  55000: recovery is in progress
HINT:  WAL control functions cannot be executed during recovery.
ERROR:  55000: recovery is in progress
HINT:  WAL control functions cannot be executed during recovery.
transaction_read_only
on
(1 row)`)

	// libpq finds the primary among several hosts.
	dsn := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=test dbname=test target_session_attrs=read-write", n2.port, n1.port)
	got, err := runTool(t, "", tool(t, "psql"), "-XAt", "-d", dsn, "-c", "SELECT pg_is_in_recovery()")
	if err != nil || strings.TrimSpace(got) != "f" {
		t.Errorf("target_session_attrs=read-write leads to pg_is_in_recovery() = %q, %v", got, err)
	}
}
