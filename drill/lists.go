package drill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/wal"
)

// A listClient runs transactions on the primary, which append to lists and read them. Between them it reads
// on any node what it has just read or written, where it waits for the last commit that it knows of.
type listClient struct {
	*client
	token    wal.LSN              // the last commit that it has made, or may have seen
	last     []history.Op         // of its last transaction
	sessions map[string]*pgx.Conn // to read elsewhere, by address
}

func (c *listClient) run() {
	defer func() {
		for _, conn := range c.sessions {
			hangUp(conn)
		}
	}()
	c.sessionsOf(func(conn *pgx.Conn) error {
		if c.random.IntN(2) == 0 {
			c.readElsewhere()
		}
		return c.transact(conn)
	})
}

// transact runs a transaction, a single statement at times without a block, and notes what became of it. An
// error ends the session.
func (c *listClient) transact(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), statementTimeout)
	defer cancel()
	x := &history.Txn{Client: c.id, Ops: c.gen.Next(c.random), Outcome: history.Aborted, Call: int64(c.now())}
	reads := !slices.ContainsFunc(x.Ops, func(o history.Op) bool { return o.Kind == history.Append })
	block := reads || len(x.Ops) > 1 || c.random.IntN(2) == 0
	var err error
	if block {
		_, err = conn.Exec(ctx, "BEGIN")
	}
	for i := range x.Ops {
		if err == nil {
			err = DoListOp(ctx, conn, &x.Ops[i], &c.token)
		}
	}
	if reads && err == nil {
		err = NoteHorizon(ctx, conn, &c.token)
	}
	ended := !block // whether the last thing that was sent could commit
	if block && err == nil {
		ended = true
		_, err = conn.Exec(ctx, "COMMIT")
	}
	c.last = x.Ops
	switch became := OutcomeOf(err); {
	case became == history.Committed:
		x.Outcome = history.Committed
		c.token = max(c.token, reported(conn))
	case became == history.Unknown && ended:
		x.Outcome = history.Unknown
	}
	c.finished(x)
	if sqlState(err) == "40001" {
		if block && !ended {
			_, err = conn.Exec(ctx, "ROLLBACK")
			return err
		}
		return nil
	}
	return err
}

// finished notes a transaction on the primary.
func (c *listClient) finished(x *history.Txn) {
	x.Return = int64(c.now())
	c.txns.Add(x)
	for _, o := range x.Ops {
		if o.Kind == history.Append {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.endedLocked(x.Outcome, c.token, c.on, 0) // between two it waits for other nodes, too
			return
		}
	}
}

// DoListOp runs one operation of a transaction on lists, notes in it what it finds, and raises token to the newest
// commit that it has seen.
func DoListOp(ctx context.Context, conn *pgx.Conn, o *history.Op, token *wal.LSN) error {
	query, args := "SELECT key, value, lsn::text FROM kv WHERE key = $1", []any{o.Key}
	switch o.Kind {
	case history.Append:
		_, err := conn.Exec(ctx, "INSERT INTO kv VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = kv.value || EXCLUDED.value",
			o.Key, o.Item())
		return err
	case history.Range:
		query, args = "SELECT key, value, lsn::text FROM kv WHERE key >= $1 AND key < $2", []any{o.Key, o.Hi}
	}
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	found := map[string][]int{}
	var key, value string
	var lsn *string // NULL: the transaction's own
	_, err = pgx.ForEachRow(rows, []any{&key, &value, &lsn}, func() error {
		if lsn != nil {
			at, err := wal.ParseLSN(*lsn)
			if err != nil {
				return err
			}
			*token = max(*token, at)
		}
		var err error
		found[key], err = history.ParseList(value)
		return err
	})
	o.List, o.Lists = found[o.Key], found
	return err
}

// NoteHorizon raises token to what a transaction on the primary may have seen. It may be more than the rows that
// it has read tell: that a row is not there, or is as it was, is news, too. The commit of one that writes comes
// after all of it.
func NoteHorizon(ctx context.Context, conn *pgx.Conn, token *wal.LSN) error {
	var text string
	if err := conn.QueryRow(ctx, "SELECT horizon::text FROM longship_cluster").Scan(&text); err != nil {
		return err
	}
	horizon, err := wal.ParseLSN(text)
	*token = max(*token, horizon)
	return err
}

// readElsewhere reads on one of the nodes, which may be a standby, and behind. Nothing is known if it fails.
func (c *listClient) readElsewhere() {
	ctx, cancel := context.WithTimeout(c.ctx, statementTimeout)
	defer cancel()
	address := c.hosts(c.random.IntN(1 << 20))[0]
	conn := c.sessions[address]
	if conn == nil { // they are kept: it is at once after a commit that a standby lacks it
		cfg, err := c.login.connConfig("any", address)
		if err != nil {
			return
		}
		if conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
			return
		}
		c.sessions[address] = conn
	}
	x := &history.Txn{Client: c.id, Outcome: history.Committed, Stale: true, Call: int64(c.now())}
	for _, o := range c.last {
		if o.Kind == history.Append {
			o.Kind = history.Read
		}
		x.Ops = append(x.Ops, history.Op{Kind: o.Kind, Key: o.Key, Hi: o.Hi})
	}
	if err := c.readAt(ctx, conn, x); err != nil {
		hangUp(conn)
		delete(c.sessions, address)
		return
	}
	x.Return = int64(c.now())
	c.txns.Add(x)
}

// readAt reads on another node once it has what the client knows of.
func (c *listClient) readAt(ctx context.Context, conn *pgx.Conn, x *history.Txn) error {
	if err := waitFor(ctx, conn, c.token); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "BEGIN READ ONLY"); err != nil {
		return err
	}
	for i := range x.Ops {
		if err := DoListOp(ctx, conn, &x.Ops[i], &c.token); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, "COMMIT")
	return err
}

// waitFor waits until the node shows everything up to lsn.
func waitFor(ctx context.Context, conn *pgx.Conn, lsn wal.LSN) error {
	if lsn == 0 {
		return nil
	}
	timeout := statementTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Millisecond)
	}
	_, err := conn.Exec(ctx, fmt.Sprintf("WAIT FOR LSN '%s' TIMEOUT %d", lsn, timeout.Milliseconds()))
	return err
}
