package node

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/sql"
)

// superuserOID is the only role's.
const superuserOID = 10

func (r *reign) viewStatReplication(context.Context) ([][]sql.Value, error) {
	var rows [][]sql.Value
	for _, s := range r.receivers() {
		addr, port := peer(s.Conn)
		rows = append(rows, []sql.Value{
			sql.Int4Value(s.Conn.PID), sql.OIDValue(superuserOID), sql.NameValue(s.Conn.User), sql.TextValue(s.Name),
			addr, sql.Null, port,
			sql.TimeValue(s.Conn.BackendStart), sql.Null, sql.TextValue(s.State.String()),
			sql.LSNOrNull(s.Sent), sql.LSNOrNull(s.Write), sql.LSNOrNull(s.Flush), sql.LSNOrNull(s.Replay),
			lagValue(s.WriteLag), lagValue(s.FlushLag), lagValue(s.ReplayLag),
			sql.Int4Value(int32(s.Sync.Priority)), sql.TextValue(s.Sync.State.String()), timeOrNull(s.ReplyTime),
		})
	}
	return rows, nil
}

// peer is a connection's client_addr and client_port.
func peer(c *pgwire.Conn) (addr, port sql.Value) {
	ap, err := netip.ParseAddrPort(c.RemoteAddr.String())
	if err != nil {
		return sql.Null, sql.Int4Value(-1)
	}
	return sql.InetValue(ap.Addr()), sql.Int4Value(int32(ap.Port()))
}

func lagValue(d time.Duration) sql.Value {
	if d < 0 {
		return sql.Null
	}
	return sql.IntervalValue(d)
}

func timeOrNull(t time.Time) sql.Value {
	if t.IsZero() {
		return sql.Null
	}
	return sql.TimeValue(t)
}

func (r *reign) viewStatWalReceiver(context.Context) ([][]sql.Value, error) {
	if r.stream == nil {
		return nil, nil
	}
	s := r.stream.Status()
	conninfo := fmt.Sprintf("host=%s port=%d application_name=%s", s.SenderHost, s.SenderPort, r.node.cfg.Name)
	return [][]sql.Value{{
		sql.Int4Value(int32(os.Getpid())), sql.TextValue(string(s.State)),
		sql.LSNOrNull(s.ReceiveStartLSN), sql.Int4Value(int32(s.ReceiveStartTLI)),
		sql.LSNOrNull(s.WrittenLSN), sql.LSNOrNull(s.FlushedLSN), sql.Int4Value(int32(s.ReceivedTLI)),
		timeOrNull(s.LastMsgSend), timeOrNull(s.LastMsgReceipt),
		sql.LSNOrNull(s.LatestEndLSN), timeOrNull(s.LatestEndTime), sql.TextValue(s.Slot),
		sql.TextValue(s.SenderHost), sql.Int4Value(int32(s.SenderPort)), sql.TextValue(conninfo),
	}}, nil
}

func (r *reign) viewStatWal(context.Context) ([][]sql.Value, error) {
	if r.primary == nil {
		zero, none := sql.Int8Value(0), sql.Float8Value(0)
		return [][]sql.Value{{zero, zero, sql.NumericValue(0), zero, zero, zero, none, none, sql.TimeValue(r.node.started)}}, nil
	}
	s := r.primary.writer.Stats()
	ms := func(ns int64) sql.Value { return sql.Float8Value(float64(ns) / 1e6) }
	return [][]sql.Value{{
		sql.Int8Value(s.Records.Load()), sql.Int8Value(0), sql.NumericValue(uint64(s.Bytes.Load())), sql.Int8Value(s.BuffersFull.Load()),
		sql.Int8Value(s.Writes.Load()), sql.Int8Value(s.Syncs.Load()), ms(s.WriteTime.Load()), ms(s.SyncTime.Load()),
		sql.TimeValue(r.node.started),
	}}, nil
}

// viewStatArchiver is a row of zeros: nothing is archived by the node itself.
func (r *reign) viewStatArchiver(context.Context) ([][]sql.Value, error) {
	zero := sql.Int8Value(0)
	return [][]sql.Value{{zero, sql.Null, sql.Null, zero, sql.Null, sql.Null, sql.TimeValue(r.node.started)}}, nil
}

// slotLog is the log as it matters to slots.
func (r *reign) slotLog() slots.Log {
	untouched := r.found.Dir.RemovedBelow()
	return slots.Log{Current: r.inserted().Load(), LastRemoved: untouched - min(1, untouched)}
}

// slotColumns are those of longship_slots: PostgreSQL 15's of pg_replication_slots, two of its releases 17
// and 18, and ours.
var slotColumns = slices.Concat(sql.PgReplicationSlotsColumns, []sql.Column{
	{Name: "inactive_since", Type: sql.Timestamptz}, {Name: "invalidation_reason", Type: sql.Text},
	{Name: "pinned_bytes", Type: sql.Int8}, {Name: "warning", Type: sql.Text},
})

// viewReplicationSlots is longship_slots with what PostgreSQL 15 shows.
func (r *reign) viewReplicationSlots(ctx context.Context) ([][]sql.Value, error) {
	rows, err := r.viewSlots(ctx)
	for i := range rows {
		rows[i] = rows[i][:len(sql.PgReplicationSlotsColumns)]
	}
	return rows, err
}

func (r *reign) viewSlots(context.Context) ([][]sql.Value, error) {
	log, limits := r.slotLog(), r.node.slotLimits()
	var rows [][]sql.Value
	for _, s := range r.slots.List() {
		status, safe, hasSafe := slots.WALStatus(s, log, limits)
		warning := slots.Warning(s, log, limits)
		rows = append(rows, []sql.Value{
			sql.NameValue(s.Name), sql.Null, sql.TextValue("physical"), sql.Null, sql.Null,
			sql.BoolValue(s.Temporary), sql.BoolValue(s.PID != 0), orNull(s.PID != 0, sql.Int4Value(s.PID)), sql.Null, sql.Null,
			sql.LSNOrNull(s.Restart), sql.Null, orNull(status != slots.None, sql.TextValue(string(status))),
			orNull(hasSafe, sql.Int8Value(safe)), sql.BoolValue(false),
			timeOrNull(s.InactiveSince), orNull(s.Reason != "", sql.TextValue(string(s.Reason))),
			orNull(s.Restart != 0, sql.Int8Value(slots.Pinned(s, log))), orNull(warning != "", sql.TextValue(warning)),
		})
	}
	return rows, nil
}

func orNull(ok bool, v sql.Value) sql.Value {
	if !ok {
		return sql.Null
	}
	return v
}

// progressBasebackupColumns are those of pg_stat_progress_basebackup.
var progressBasebackupColumns = []sql.Column{
	{Name: "pid", Type: sql.Int4}, {Name: "phase", Type: sql.Text},
	{Name: "backup_total", Type: sql.Int8}, {Name: "backup_streamed", Type: sql.Int8},
	{Name: "tablespaces_total", Type: sql.Int8}, {Name: "tablespaces_streamed", Type: sql.Int8},
}

func (r *reign) viewProgressBasebackup(context.Context) ([][]sql.Value, error) {
	var rows [][]sql.Value
	for _, s := range r.sender.Stats() {
		if b := s.Backup; b != nil {
			rows = append(rows, []sql.Value{
				sql.Int4Value(s.Conn.PID), sql.TextValue(string(b.Phase)),
				orNull(b.Total >= 0, sql.Int8Value(b.Total)), sql.Int8Value(b.Streamed),
				sql.Int8Value(b.TablespacesTotal), sql.Int8Value(b.TablespacesStreamed),
			})
		}
	}
	return rows, nil
}
