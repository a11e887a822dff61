package drill

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/wal"
)

// An inserted is what is known of a row that somebody inserted, once.
type inserted struct {
	outcome history.Outcome
	lsn     wal.LSN // where the client was told that the commit ends; 0: it was not told
}

// rowValue is what a row holds.
func rowValue(key string) string { return "value of " + key }

func (w *work) rowKey(era, client, number int) string {
	return fmt.Sprintf("%s%03d/%07d", w.key("row", era), client, number)
}

// insert adds the client's next row. No two statements ever insert the same one.
func (c *client) insert(ctx context.Context, conn *pgx.Conn, era int) error {
	r := &inserted{outcome: history.Unknown}
	c.row++
	key := c.rowKey(era, c.id, c.row)
	c.mu.Lock()
	c.newest[c.id] = c.row
	c.rows[key] = r
	c.mu.Unlock()
	_, err := conn.Exec(ctx, "INSERT INTO kv VALUES ($1, $2)", key, rowValue(key))
	c.mu.Lock()
	defer c.mu.Unlock()
	r.outcome = OutcomeOf(err)
	if r.outcome == history.Committed {
		r.lsn = reported(conn)
	}
	c.endedLocked(r.outcome, r.lsn)
	return err
}
