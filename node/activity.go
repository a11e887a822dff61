package node

import (
	"context"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
)

// databaseOID is the only database's.
const databaseOID = 5

// What sessions wait for, by PostgreSQL's names where it has one.
var (
	waitSyncRep    = &pgwire.WaitEvent{Type: "IPC", Name: "SyncRep"}        // the rule to be met for a commit
	waitReadLease  = &pgwire.WaitEvent{Type: "IPC", Name: "ReadLease"}      // certainty that no other node is the primary
	waitReplay     = &pgwire.WaitEvent{Type: "IPC", Name: "WalReplay"}      // WAIT FOR LSN
	waitCheckpoint = &pgwire.WaitEvent{Type: "IPC", Name: "CheckpointDone"} // CHECKPOINT
)

// viewStatActivity is pg_stat_activity: a row for each connection. Times are to a second.
func (n *Node) viewStatActivity(context.Context) ([][]sql.Value, error) {
	var rows [][]sql.Value
	for _, c := range n.server.Conns() {
		a := c.Activity()
		addr, port := peer(c)
		database, kind := sql.OIDValue(databaseOID), "client backend"
		name := sql.NameValue(c.Database)
		if c.Kind.Replication() {
			database, name, kind = sql.Null, sql.Null, "walsender"
		}
		started, waits, event := sql.Null, sql.Null, sql.Null
		if a.Working {
			started = sql.TimeValue(a.Since.Round(time.Microsecond))
		}
		if a.Waits != nil {
			waits, event = sql.TextValue(a.Waits.Type), sql.TextValue(a.Waits.Name)
		}
		rows = append(rows, []sql.Value{
			database, name, sql.Int4Value(c.PID), sql.Null, sql.OIDValue(superuserOID), sql.NameValue(c.User), sql.TextValue(a.Application),
			addr, sql.Null, port,
			sql.TimeValue(c.BackendStart), sql.Null, started, sql.TimeValue(a.Since.Round(time.Microsecond)),
			waits, event, sql.TextValue(stateOf(a)),
			sql.Null, sql.Null, sql.Null, sql.TextValue(a.Query), sql.TextValue(kind),
		})
	}
	return rows, nil
}

// stateOf is pg_stat_activity.state.
func stateOf(a pgwire.Activity) string {
	switch {
	case a.Working:
		return "active"
	case a.TxStatus == 'T':
		return "idle in transaction"
	case a.TxStatus == 'E':
		return "idle in transaction (aborted)"
	}
	return "idle"
}
