package drill

import (
	"context"
	"fmt"
	"time"

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
	if !c.probes {
		c.endedLocked(r.outcome, r.lsn, c.on, c.id)
	} else if r.outcome != history.Aborted { // a standby refuses all
		c.endedLocked(r.outcome, r.lsn, c.on, 0)
	}
	return err
}

// probePause is between two rows that a client inserts, or would, on a node.
const probePause = 20 * time.Millisecond

// probe inserts rows on one node until the work ends. On a standby it fails; but where the others, who follow the
// primary, are on the wrong side of a partition, and wait, it is there when another node begins to acknowledge.
func (w *work) probe(node, address string) {
	c := w.client()
	c.probes, c.on = true, node
	w.clients.Go(func() {
		for c.ctx.Err() == nil {
			c.insertOn(address)
			sleep(c.ctx, probePause)
		}
	})
}

// insertOn inserts rows in one session, until that fails.
func (c *client) insertOn(address string) {
	cfg, err := c.login.connConfig("any", address)
	if err != nil {
		return
	}
	cfg.RuntimeParams["longship.report_commit_lsn"] = "on"
	conn, err := pgx.ConnectConfig(c.ctx, cfg)
	if err != nil {
		return // it may be down
	}
	defer hangUp(conn)
	for (err == nil || sqlState(err) == "25006") && c.ctx.Err() == nil {
		err = c.insertOnce(conn)
		sleep(c.ctx, probePause)
	}
}

// insertOnce inserts a row, and is not interrupted but by its timeout.
func (c *client) insertOnce(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), statementTimeout)
	defer cancel()
	c.mu.Lock()
	era := c.era
	c.mu.Unlock()
	return c.insert(ctx, conn, era)
}
