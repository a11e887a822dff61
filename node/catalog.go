package node

import (
	"context"
	"fmt"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/wal"
)

// newCatalog is what statements can refer to besides kv. Each answer is that of the reign at the time.
func (n *Node) newCatalog() *sql.Catalog {
	c := sql.NewCatalog(n.settings)
	c.ReadOnlyHint = n.readOnlyHint
	view := func(name string, columns []sql.Column, rows func(*reign, context.Context) ([][]sql.Value, error)) {
		c.AddView(name, columns, func(ctx context.Context) ([][]sql.Value, error) {
			r, err := n.present.await(ctx)
			if err != nil {
				return nil, err
			}
			return rows(r, ctx)
		})
	}
	view("pg_stat_replication", sql.PgStatReplicationColumns, (*reign).viewStatReplication)
	view("pg_stat_wal_receiver", sql.PgStatWalReceiverColumns, (*reign).viewStatWalReceiver)
	view("pg_stat_wal", sql.PgStatWalColumns, (*reign).viewStatWal)
	view("pg_stat_archiver", sql.PgStatArchiverColumns, (*reign).viewStatArchiver)
	view("pg_replication_slots", sql.PgReplicationSlotsColumns, (*reign).viewReplicationSlots)
	view("longship_slots", slotColumns, (*reign).viewSlots)
	view("pg_stat_progress_basebackup", progressBasebackupColumns, (*reign).viewProgressBasebackup)
	view("longship_cluster", clusterColumns, (*reign).viewCluster)
	view("longship_members", memberColumns, (*reign).viewMembers)
	view("longship_wal_scrub", scrubColumns, (*reign).viewScrub)
	c.AddView("pg_stat_activity", sql.PgStatActivityColumns, n.viewStatActivity)
	c.AddView("longship_history", historyColumns, n.viewHistory)
	c.AddView("longship_orphans", orphanColumns, n.viewOrphans)
	c.AddView("longship_what_if", whatIfColumns, n.viewWhatIf)
	n.addLSNFunctions(c)
	n.addSlotFunctions(c)
	n.addAdminFunctions(c)
	n.addStatistics(c)
	n.addClusterFunctions(c)
	n.addFaultFunctions(c)
	return c
}

// readOnlyHint says where writes are taken.
func (n *Node) readOnlyHint() string {
	role := n.standbyRole()
	if addr := n.primaryAddress(); addr != "" && addr != n.address {
		return fmt.Sprintf("This node is a %s; the primary is at %s.", role, addr)
	}
	return fmt.Sprintf("This node is a %s, and there is no primary now; see longship status.", role)
}

// errInRecovery is what functions of a primary answer on a standby.
func errInRecovery() error {
	return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "recovery is in progress").
		WithHint("WAL control functions cannot be executed during recovery.")
}

// addFunc adds a function of one value that the present reign answers.
func (n *Node) addFunc(c *sql.Catalog, name string, args []sql.Type, result sql.Type, call func(*reign, []sql.Value) (sql.Value, error)) {
	c.AddFunc(sql.Func{Name: name, Args: args, Result: result, Call: func(ctx context.Context, args []sql.Value) (sql.Value, error) {
		r, err := n.present.await(ctx)
		if err != nil {
			return sql.Null, err
		}
		return call(r, args)
	}})
}

// insertPosition is where the next record goes when the log ends at l. After a switch that is in the next segment, behind
// its header: barman sees by the name of its file that there was one.
func insertPosition(l wal.LSN, size wal.SegmentSize) wal.LSN {
	if size.Offset(l) != 0 {
		return l
	}
	return wal.Format{SegmentSize: size}.RecordStart(l)
}

func (n *Node) addLSNFunctions(c *sql.Catalog) {
	onPrimary := func(name string, args []sql.Type, result sql.Type, call func(*reign, []sql.Value) (sql.Value, error)) {
		n.addFunc(c, name, args, result, func(r *reign, args []sql.Value) (sql.Value, error) {
			if r.primary == nil {
				return sql.Null, errInRecovery()
			}
			return call(r, args)
		})
	}
	onPrimary("pg_current_wal_lsn", nil, sql.PgLSN, func(r *reign, _ []sql.Value) (sql.Value, error) {
		return sql.LSNValue(r.written().Load()), nil
	})
	onPrimary("pg_current_wal_insert_lsn", nil, sql.PgLSN, func(r *reign, _ []sql.Value) (sql.Value, error) {
		return sql.LSNValue(insertPosition(r.inserted().Load(), n.identity().SegmentSize)), nil
	})
	onPrimary("pg_current_wal_flush_lsn", nil, sql.PgLSN, func(r *reign, _ []sql.Value) (sql.Value, error) {
		return sql.LSNValue(r.flushed().Load()), nil
	})
	onPrimary("pg_walfile_name", []sql.Type{sql.PgLSN}, sql.Text, func(r *reign, args []sql.Value) (sql.Value, error) {
		size := n.identity().SegmentSize
		return sql.TextValue(size.FileName(r.found.End.Timeline, size.PrevSegno(args[0].LSN()))), nil
	})
	c.AddFunc(sql.Func{
		Name: "pg_walfile_name_offset", Args: []sql.Type{sql.PgLSN}, Columns: []sql.Column{{Name: "file_name", Type: sql.Text}, {Name: "file_offset", Type: sql.Int4}},
		Row: func(ctx context.Context, _ sql.Backend, args []sql.Value) ([]sql.Value, error) {
			r, err := n.present.await(ctx)
			if err != nil {
				return nil, err
			}
			if r.primary == nil {
				return nil, errInRecovery()
			}
			size, lsn := n.identity().SegmentSize, args[0].LSN()
			return []sql.Value{sql.TextValue(size.FileName(r.found.End.Timeline, size.PrevSegno(lsn))), sql.Int4Value(int32(size.Offset(lsn)))}, nil
		},
	})
	onPrimary("pg_switch_wal", nil, sql.PgLSN, func(r *reign, _ []sql.Value) (sql.Value, error) {
		end, err := r.primary.writer.Switch()
		return sql.LSNValue(end), clientError(err)
	})

	onStandby := func(name string, lsn func(*reign) wal.LSN) {
		n.addFunc(c, name, nil, sql.PgLSN, func(r *reign, _ []sql.Value) (sql.Value, error) {
			if r.primary != nil {
				return sql.Null, nil
			}
			return sql.LSNOrNull(lsn(r)), nil
		})
	}
	onStandby("pg_last_wal_receive_lsn", func(r *reign) wal.LSN { return r.flushed().Load() })
	onStandby("pg_last_wal_replay_lsn", (*reign).replayed)
	n.addFunc(c, "pg_last_xact_replay_timestamp", nil, sql.Timestamptz, func(r *reign, _ []sql.Value) (sql.Value, error) {
		at, ok := r.redo.LastCommit()
		if !ok || r.primary != nil || n.cfg.Witness {
			return sql.Null, nil
		}
		return sql.TimeValue(at), nil
	})
}

func (n *Node) addAdminFunctions(c *sql.Catalog) {
	n.addFunc(c, "pg_is_in_recovery", nil, sql.Bool, func(r *reign, _ []sql.Value) (sql.Value, error) {
		return sql.BoolValue(r.primary == nil), nil
	})
	byPID := func(name string, do func(pid int32) bool) {
		c.AddFunc(sql.Func{Name: name, Args: []sql.Type{sql.Int4}, Result: sql.Bool, Call: func(_ context.Context, args []sql.Value) (sql.Value, error) {
			return sql.BoolValue(do(int32(args[0].Int()))), nil
		}})
	}
	c.AddFunc(sql.Func{
		Name: "pg_promote", Args: []sql.Type{sql.Bool, sql.Int4}, Defaults: []sql.Value{sql.BoolValue(true), sql.Int4Value(60)}, Result: sql.Bool,
		Call: n.promote,
	})
	byPID("pg_cancel_backend", func(pid int32) bool { return n.server.CancelBackend(pid) })
	byPID("pg_terminate_backend", func(pid int32) bool { return n.server.TerminateBackend(pid) })
	c.AddFunc(sql.Func{Name: "pg_reload_conf", Result: sql.Bool, Call: func(ctx context.Context, _ []sql.Value) (sql.Value, error) {
		return sql.BoolValue(true), n.Reload(ctx)
	}})
	c.AddFunc(sql.Func{Name: "pg_postmaster_start_time", Result: sql.Timestamptz, Call: func(context.Context, []sql.Value) (sql.Value, error) {
		return sql.TimeValue(n.started), nil
	}})
}

// promote is pg_promote(wait, wait_seconds): it makes the node the primary, which the cluster agrees on, by a
// switchover. It goes on after wait_seconds, too, of which false tells.
func (n *Node) promote(ctx context.Context, args []sql.Value) (sql.Value, error) {
	r, err := n.present.await(ctx)
	if err != nil {
		return sql.Null, err
	}
	if r.primary != nil {
		return sql.Null, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "recovery is not in progress").
			WithHint("Recovery control functions can only be executed during recovery.")
	}
	seconds := args[1].Int()
	if seconds <= 0 {
		return sql.Null, pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, `"wait_seconds" must not be negative or zero`)
	}
	waiting, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	defer cancel()
	if !args[0].Bool() {
		cancel()
	}
	_, err = n.orders.do(waiting, func(ctx context.Context) (string, error) {
		reply, err := n.Switchover(ctx, election.SwitchoverRequest{To: n.cfg.Name})
		return reply.Primary, err
	})
	switch {
	case err == nil:
		return sql.BoolValue(true), nil
	case waiting.Err() != nil && ctx.Err() == nil:
		return sql.BoolValue(!args[0].Bool()), nil
	}
	return sql.Null, clientError(err)
}

// addClusterFunctions adds what longship switchover, failover and members remove call.
func (n *Node) addClusterFunctions(c *sql.Catalog) {
	c.AddFunc(sql.Func{
		Name: "longship_switchover", Args: []sql.Type{sql.Text}, Defaults: []sql.Value{sql.TextValue("")}, Result: sql.Text,
		Call: func(ctx context.Context, args []sql.Value) (sql.Value, error) {
			primary, err := n.orders.do(ctx, func(ctx context.Context) (string, error) {
				reply, err := n.Switchover(ctx, election.SwitchoverRequest{To: args[0].Text()})
				return reply.Primary, err
			})
			return sql.TextValue(primary), clientError(err)
		},
	})
	c.AddFunc(sql.Func{
		Name: "longship_failover", Args: []sql.Type{sql.Bool}, Defaults: []sql.Value{sql.BoolValue(false)}, Result: sql.Text,
		Call: func(ctx context.Context, args []sql.Value) (sql.Value, error) {
			primary, err := n.orders.do(ctx, func(ctx context.Context) (string, error) {
				reply, err := n.Failover(ctx, election.FailoverRequest{AcceptLoss: args[0].Bool()})
				return reply.Primary, err
			})
			return sql.TextValue(primary), clientError(err)
		},
	})
	c.AddFunc(sql.Func{
		Name: "longship_remove_member", Args: []sql.Type{sql.Text}, Result: sql.Text,
		Call: func(ctx context.Context, args []sql.Value) (sql.Value, error) {
			reply, err := n.Remove(ctx, election.RemoveRequest{Name: args[0].Text()})
			text := "leaves once no rule lists it"
			if reply.Gone {
				text = "removed"
			}
			return sql.TextValue(text), clientError(err)
		},
	})
}
