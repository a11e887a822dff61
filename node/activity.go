package node

import (
	"context"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
)

// databaseOID is the only database's.
const databaseOID = 5

// viewStatActivity is pg_stat_activity: a row for each connection. Times are to a second, and what a statement
// waits for is not told, since that would cost each of them.
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
		} else {
			waits, event = sql.TextValue("Client"), sql.TextValue("ClientRead")
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
