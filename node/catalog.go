package node

import (
	"context"
	"fmt"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/wal"
)

// newCatalog is what statements of a reign can refer to besides kv.
func (r *reign) newCatalog() *sql.Catalog {
	c := sql.NewCatalog(r.node.settings)
	c.ReadOnlyHint = r.readOnlyHint
	c.AddView("pg_stat_replication", sql.PgStatReplicationColumns, r.viewStatReplication)
	c.AddView("pg_stat_wal_receiver", sql.PgStatWalReceiverColumns, r.viewStatWalReceiver)
	c.AddView("pg_stat_wal", sql.PgStatWalColumns, r.viewStatWal)
	c.AddView("pg_replication_slots", sql.PgReplicationSlotsColumns, r.viewReplicationSlots)
	c.AddView("pg_stat_progress_basebackup", progressBasebackupColumns, r.viewProgressBasebackup)
	c.AddView("longship_cluster", clusterColumns, r.viewCluster)
	c.AddView("longship_members", memberColumns, r.viewMembers)
	r.addLSNFunctions(c)
	r.addSlotFunctions(c)
	r.addAdminFunctions(c)
	return c
}

// readOnlyHint says where writes are taken.
func (r *reign) readOnlyHint() string {
	return fmt.Sprintf("This node is a standby; the primary is at %s.", r.upstream)
}

// errInRecovery is what functions of a primary answer on a standby.
func errInRecovery() error {
	return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "recovery is in progress").
		WithHint("WAL control functions cannot be executed during recovery.")
}

func (r *reign) addLSNFunctions(c *sql.Catalog) {
	onPrimary := func(name string, lsn func() wal.LSN) {
		c.AddFunc(sql.Func{Name: name, Result: sql.PgLSN, Call: func(context.Context, []sql.Value) (sql.Value, error) {
			if r.primary == nil {
				return sql.Null, errInRecovery()
			}
			return sql.LSNValue(lsn()), nil
		}})
	}
	onPrimary("pg_current_wal_lsn", func() wal.LSN { return r.primary.writer.Written().Load() })
	onPrimary("pg_current_wal_insert_lsn", func() wal.LSN { return r.primary.writer.Inserted().Load() })
	onPrimary("pg_current_wal_flush_lsn", func() wal.LSN { return r.primary.writer.Flushed().Load() })

	onStandby := func(name string, lsn func() wal.LSN) {
		c.AddFunc(sql.Func{Name: name, Result: sql.PgLSN, Call: func(context.Context, []sql.Value) (sql.Value, error) {
			if r.primary != nil {
				return sql.Null, nil
			}
			return sql.LSNOrNull(lsn()), nil
		}})
	}
	onStandby("pg_last_wal_receive_lsn", func() wal.LSN { return r.stream.Flushed().Load() })
	onStandby("pg_last_wal_replay_lsn", r.applied.Load)

	c.AddFunc(sql.Func{Name: "pg_last_xact_replay_timestamp", Result: sql.Timestamptz, Call: func(context.Context, []sql.Value) (sql.Value, error) {
		at, ok := r.redo.LastCommit()
		if !ok || r.primary != nil {
			return sql.Null, nil
		}
		return sql.TimeValue(at), nil
	}})
	c.AddFunc(sql.Func{Name: "pg_walfile_name", Args: []sql.Type{sql.PgLSN}, Result: sql.Text, Call: func(_ context.Context, args []sql.Value) (sql.Value, error) {
		if r.primary == nil {
			return sql.Null, errInRecovery()
		}
		size := r.node.id.SegmentSize
		return sql.TextValue(size.FileName(r.log.End.Timeline, size.PrevSegno(args[0].LSN()))), nil
	}})
}

func (r *reign) addAdminFunctions(c *sql.Catalog) {
	c.AddFunc(sql.Func{Name: "pg_is_in_recovery", Result: sql.Bool, Call: func(context.Context, []sql.Value) (sql.Value, error) {
		return sql.BoolValue(r.primary == nil), nil
	}})
	c.AddFunc(sql.Func{Name: "pg_switch_wal", Result: sql.PgLSN, Call: func(context.Context, []sql.Value) (sql.Value, error) {
		if r.primary == nil {
			return sql.Null, errInRecovery()
		}
		end, err := r.primary.writer.Switch()
		return sql.LSNValue(end), clientError(err)
	}})
	byPID := func(name string, do func(pid int32) bool) {
		c.AddFunc(sql.Func{Name: name, Args: []sql.Type{sql.Int4}, Result: sql.Bool, Call: func(_ context.Context, args []sql.Value) (sql.Value, error) {
			return sql.BoolValue(do(int32(args[0].Int()))), nil
		}})
	}
	byPID("pg_cancel_backend", r.node.server.CancelBackend)
	byPID("pg_terminate_backend", r.node.server.TerminateBackend)
	c.AddFunc(sql.Func{Name: "pg_postmaster_start_time", Result: sql.Timestamptz, Call: func(context.Context, []sql.Value) (sql.Value, error) {
		return sql.TimeValue(r.node.started), nil
	}})
}

// slotFunctionColumns is what pg_create_physical_replication_slot returns.
var slotFunctionColumns = []sql.Column{{Name: "slot_name", Type: sql.Name}, {Name: "lsn", Type: sql.PgLSN}}

func (r *reign) addSlotFunctions(c *sql.Catalog) {
	c.AddFunc(sql.Func{
		Name:     "pg_create_physical_replication_slot",
		Args:     []sql.Type{sql.Name, sql.Bool, sql.Bool},
		Defaults: []sql.Value{sql.BoolValue(false), sql.BoolValue(false)},
		Columns:  slotFunctionColumns,
		Row: func(ctx context.Context, args []sql.Value) ([]sql.Value, error) {
			if args[2].Bool() {
				return nil, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "temporary slots are made on a replication connection").
					WithHint("Use CREATE_REPLICATION_SLOT name TEMPORARY PHYSICAL.")
			}
			var restart wal.LSN
			if args[1].Bool() {
				restart = r.checkpointer.Control().Redo
			}
			name := args[0].Text()
			if err := r.slots.Create(name, false, restart, admitter); err != nil {
				return nil, clientError(err)
			}
			return []sql.Value{sql.NameValue(name), sql.LSNOrNull(restart)}, nil
		},
	})
	c.AddFunc(sql.Func{
		Name: "pg_drop_replication_slot", Args: []sql.Type{sql.Name}, Result: sql.Void,
		Call: func(ctx context.Context, args []sql.Value) (sql.Value, error) {
			return sql.VoidValue(), clientError(r.slots.Drop(ctx, args[0].Text(), admitter, false))
		},
	})
}
