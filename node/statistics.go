package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/wal"
)

// What tools for PostgreSQL ask a node about itself. Every value is counted, or looked up when it is asked for; what
// Longship does not have is shown as PostgreSQL shows that there is none. See docs/operations.md.

func (n *Node) addStatistics(c *sql.Catalog) {
	c.NextXID = n.nextXID
	c.AddStatistics("pg_stat_database", n.viewStatDatabase)
	c.AddStatistics("pg_stat_database_conflicts", func(_ context.Context, database string) ([]sql.Fields, error) {
		return []sql.Fields{{"datid": sql.OIDValue(databaseOID), "datname": sql.NameValue(database)}}, nil
	})
	c.AddStatistics("pg_stat_bgwriter", n.viewStatBgwriter)
	n.addSizeFunctions(c)
	n.addControlFunctions(c)
	n.addRecoveryFunctions(c)
}

// nextXID is the transaction id that the next commit gets; 0 while the node has no role.
func (n *Node) nextXID() uint32 {
	r, _ := n.present.load()
	if r == nil {
		return 0
	}
	if r.primary != nil {
		return r.table.NextXID()
	}
	return r.redo.NextXID(r.found.Control.NextXID)
}

// viewStatDatabase is pg_stat_database. There are no blocks, temporary files or locks to count, and it would cost each
// statement to take its time.
func (n *Node) viewStatDatabase(_ context.Context, database string) ([]sql.Fields, error) {
	s, now := &n.catalog.Statistics, int32(0)
	for _, c := range n.server.Conns() {
		if !c.Kind.Replication() {
			now++
		}
	}
	indexed := s.IndexRows.Load()
	return []sql.Fields{{
		"datid": sql.OIDValue(databaseOID), "datname": sql.NameValue(database), "numbackends": sql.Int4Value(now),
		"xact_commit": sql.Int8Value(s.Commits.Load()), "xact_rollback": sql.Int8Value(s.Rollbacks.Load()),
		"tup_returned": sql.Int8Value(s.SeqRows.Load() + indexed), "tup_fetched": sql.Int8Value(indexed),
		"tup_inserted": sql.Int8Value(s.Inserted.Load()), "tup_updated": sql.Int8Value(s.Updated.Load()), "tup_deleted": sql.Int8Value(s.Deleted.Load()),
		"checksum_failures": sql.Null, // longship_wal_scrub tells of them
		"sessions":          sql.Int8Value(n.server.Sessions()), "sessions_abandoned": sql.Null, "sessions_fatal": sql.Null, "sessions_killed": sql.Null,
		"stats_reset": sql.TimeValue(n.started),
	}}, nil
}

// viewStatBgwriter is pg_stat_bgwriter: the checkpoints in the present role.
func (n *Node) viewStatBgwriter(ctx context.Context, _ string) ([]sql.Fields, error) {
	r, err := n.present.await(ctx)
	if err != nil {
		return nil, err
	}
	s := r.checkpointer.Stats()
	return []sql.Fields{{
		"checkpoints_timed": sql.Int8Value(s.Timed.Load()), "checkpoints_req": sql.Int8Value(s.Requested.Load()),
		"checkpoint_write_time": sql.Float8Value(float64(s.Time.Load()) / 1e6), "stats_reset": sql.TimeValue(n.started),
	}}, nil
}

// kvOID is the OID of the only table in pg_class.
const kvOID = 16384

// addSizeFunctions adds those that tell how large something is: kv, which is all that there is.
func (n *Node) addSizeFunctions(c *sql.Catalog) {
	size := func(name string, arg sql.Type, of func(sql.Value) bool) {
		n.addFunc(c, name, []sql.Type{arg}, sql.Int8, func(_ *reign, args []sql.Value) (sql.Value, error) {
			if of(args[0]) {
				return sql.Int8Value(n.store.Size()), nil
			}
			return sql.Int8Value(0), nil
		})
	}
	all := func(sql.Value) bool { return true }
	table := func(v sql.Value) bool { return v.Int() == kvOID }
	size("pg_database_size", sql.Name, all)
	size("pg_database_size", sql.OID, all)
	size("pg_relation_size", sql.Regclass, table)
	size("pg_table_size", sql.Regclass, table)
	size("pg_total_relation_size", sql.Regclass, table)
	size("pg_indexes_size", sql.Regclass, func(sql.Value) bool { return false }) // kv is kept in the order of its keys
	size("pg_tablespace_size", sql.Name, func(v sql.Value) bool { return v.Text() == "pg_default" })
	size("pg_tablespace_size", sql.OID, func(v sql.Value) bool { return v.Int() == defaultTablespaceOID })
	n.addFunc(c, "pg_relation_size", []sql.Type{sql.Regclass, sql.Text}, sql.Int8, func(_ *reign, args []sql.Value) (sql.Value, error) {
		if table(args[0]) && args[1].Text() == "main" {
			return sql.Int8Value(n.store.Size()), nil
		}
		return sql.Int8Value(0), nil
	})
	c.AddFunc(sql.Func{
		Name: "pg_ls_waldir", Columns: []sql.Column{{Name: "name", Type: sql.Text}, {Name: "size", Type: sql.Int8}, {Name: "modification", Type: sql.Timestamptz}},
		Rows: func(ctx context.Context, _ []sql.Value) ([][]sql.Value, error) {
			r, err := n.present.await(ctx)
			if err != nil {
				return nil, err
			}
			return walFiles(r.found.Dir)
		},
	})
}

// defaultTablespaceOID is that of pg_default, where kv is.
const defaultTablespaceOID = 1663

// walFiles are the files in pg_wal. One that is removed meanwhile is not among them.
func walFiles(dir *wal.Dir) (rows [][]sql.Value, err error) {
	names, err := dir.FS.List(dir.Path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir.Path, err)
	}
	for _, name := range names {
		info, err := dir.FS.Stat(dir.FS.PathJoin(dir.Path, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case !info.IsDir():
			rows = append(rows, []sql.Value{sql.TextValue(name), sql.Int8Value(info.Size()), sql.TimeValue(info.ModTime().Truncate(time.Second))})
		}
	}
	return rows, nil
}

// pgControlVersion is that of PostgreSQL 15's control file.
const pgControlVersion = 1300

func (n *Node) addControlFunctions(c *sql.Catalog) {
	row := func(name string, columns []sql.Column, row func(*reign) []sql.Value) {
		c.AddFunc(sql.Func{Name: name, Columns: columns, Row: func(ctx context.Context, _ sql.Backend, _ []sql.Value) ([]sql.Value, error) {
			r, err := n.present.await(ctx)
			if err != nil {
				return nil, err
			}
			return row(r), nil
		}})
	}
	row("pg_control_system", []sql.Column{
		{Name: "pg_control_version", Type: sql.Int4}, {Name: "catalog_version_no", Type: sql.Int4},
		{Name: "system_identifier", Type: sql.Int8}, {Name: "pg_control_last_modified", Type: sql.Timestamptz},
	}, func(r *reign) []sql.Value {
		return []sql.Value{
			sql.Int4Value(pgControlVersion), sql.Int4Value(int32(wal.PG15.CatalogVersion)),
			sql.Int8Value(int64(n.identity().SystemID)), timeOrNull(r.checkpointer.Control().Time),
		}
	})
	row("pg_control_checkpoint", controlCheckpointColumns, (*reign).controlCheckpoint)
	row("pg_control_recovery", []sql.Column{
		{Name: "min_recovery_end_lsn", Type: sql.PgLSN}, {Name: "min_recovery_end_timeline", Type: sql.Int4},
		{Name: "backup_start_lsn", Type: sql.PgLSN}, {Name: "backup_end_lsn", Type: sql.PgLSN},
		{Name: "end_of_backup_record_required", Type: sql.Bool},
	}, func(*reign) []sql.Value { // the store is a consistent table at every position
		return []sql.Value{sql.LSNValue(0), sql.Int4Value(0), sql.LSNValue(0), sql.LSNValue(0), sql.BoolValue(false)}
	})
}

var controlCheckpointColumns = []sql.Column{
	{Name: "checkpoint_lsn", Type: sql.PgLSN}, {Name: "redo_lsn", Type: sql.PgLSN}, {Name: "redo_wal_file", Type: sql.Text},
	{Name: "timeline_id", Type: sql.Int4}, {Name: "prev_timeline_id", Type: sql.Int4}, {Name: "full_page_writes", Type: sql.Bool},
	{Name: "next_xid", Type: sql.Text}, {Name: "next_oid", Type: sql.OID}, {Name: "next_multixact_id", Type: sql.XID},
	{Name: "next_multi_offset", Type: sql.XID}, {Name: "oldest_xid", Type: sql.XID}, {Name: "oldest_xid_dbid", Type: sql.OID},
	{Name: "oldest_active_xid", Type: sql.XID}, {Name: "oldest_multi_xid", Type: sql.XID}, {Name: "oldest_multi_dbid", Type: sql.OID},
	{Name: "oldest_commit_ts_xid", Type: sql.XID}, {Name: "newest_commit_ts_xid", Type: sql.XID}, {Name: "checkpoint_time", Type: sql.Timestamptz},
}

// controlCheckpoint is pg_control_checkpoint(): what the control file says, and a checkpoint's record of what only
// PostgreSQL has. No transaction id is old: rows do not depend on them.
func (r *reign) controlCheckpoint() []sql.Value {
	control, size := r.checkpointer.Control(), r.node.identity().SegmentSize
	row := make([]sql.Value, len(controlCheckpointColumns))
	row[0], row[1] = sql.LSNOrNull(control.Checkpoint), sql.LSNValue(control.Redo)
	row[2] = sql.TextValue(size.FileName(control.Timeline, size.Segno(control.Redo)))
	row[3], row[4] = sql.Int4Value(int32(control.Timeline)), sql.Int4Value(int32(control.Timeline))
	row[5] = sql.BoolValue(true) // the store's files are never overwritten
	row[6] = sql.TextValue(fmt.Sprintf("0:%d", control.NextXID))
	row[7], row[8], row[9] = sql.OIDValue(12000), sql.XIDValue(1), sql.XIDValue(0)
	row[10], row[11], row[12] = sql.XIDValue(control.NextXID), sql.OIDValue(1), sql.XIDValue(0)
	row[13], row[14], row[15], row[16] = sql.XIDValue(1), sql.OIDValue(1), sql.XIDValue(0), sql.XIDValue(0)
	row[len(row)-1] = timeOrNull(control.Time)
	return row
}

func (n *Node) addRecoveryFunctions(c *sql.Catalog) {
	onStandby := func(name string, result sql.Type, v sql.Value) {
		n.addFunc(c, name, nil, result, func(r *reign, _ []sql.Value) (sql.Value, error) {
			if r.primary != nil {
				return sql.Null, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "recovery is not in progress").
					WithHint("Recovery control functions can only be executed during recovery.")
			}
			return v, nil
		})
	}
	onStandby("pg_is_wal_replay_paused", sql.Bool, sql.BoolValue(false))
	onStandby("pg_get_wal_replay_pause_state", sql.Text, sql.TextValue("not paused"))
	c.AddFunc(sql.Func{Name: "pg_conf_load_time", Result: sql.Timestamptz, Call: func(context.Context, []sql.Value) (sql.Value, error) {
		return sql.TimeValue(n.configured.loaded()), nil
	}})
	const state = 9 // where the columns of pg_stat_replication begin that come from this function
	c.AddFunc(sql.Func{
		Name: "pg_stat_get_wal_senders", Columns: append([]sql.Column{sql.PgStatReplicationColumns[0]}, sql.PgStatReplicationColumns[state:]...),
		Rows: func(ctx context.Context, _ []sql.Value) (rows [][]sql.Value, err error) {
			r, err := n.present.await(ctx)
			if err != nil {
				return nil, err
			}
			all, err := r.viewStatReplication(ctx)
			for _, row := range all {
				rows = append(rows, append([]sql.Value{row[0]}, row[state:]...))
			}
			return rows, err
		},
	})
}
