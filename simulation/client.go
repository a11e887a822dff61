package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/wal"
)

const (
	patience       = 5 * time.Second // of a client with a transaction, or with a connection
	reconnectPause = 200 * time.Millisecond
	fillSize       = 128 << 10 // bytes, at most
)

// A workload is what the clients share.
type workload struct {
	cluster  *cluster
	gen      history.Generator
	recorder history.Recorder
	clock    atomic.Int64 // counts what happens: the bubble's time stands still while anything does
	pause    time.Duration
}

// A client appends to lists and reads them, on the primary, and reads elsewhere what it has seen.
type client struct {
	*workload
	id     int
	random *rand.Rand
	host   *Host
	token  wal.LSN      // of what it has done and seen
	last   []history.Op // of its last transaction

	sessions  map[*machine]*pgconn.PgConn // to read elsewhere: it is at once after a commit that a standby lacks it
	committed atomic.Int64
}

func (w *workload) newClient(id int) *client {
	return &client{
		workload: w, id: id, sessions: map[*machine]*pgconn.PgConn{}, random: w.cluster.rng.fork(),
		host: w.cluster.network.Boot(fmt.Sprintf("127.0.1.%d", id+1)),
	}
}

// run is a client's life.
func (c *client) run(ctx context.Context) {
	defer func() {
		for _, conn := range c.sessions {
			hangUp(conn)
		}
	}()
	for ctx.Err() == nil {
		conn := c.connect(ctx)
		for conn != nil && ctx.Err() == nil {
			if err := c.transact(ctx, conn); err != nil {
				break
			}
			if c.random.IntN(4) == 0 && c.remember(ctx, conn) == nil {
				c.readElsewhere(ctx)
			}
			sleep(ctx, time.Duration(c.random.Int64N(int64(2*c.pause)+1)))
		}
		if conn != nil {
			hangUp(conn)
		}
		sleep(ctx, reconnectPause)
	}
}

// fill writes rows that are large, with a pause of at most so long between two, so that segments of the log come
// and go.
func (c *client) fill(ctx context.Context, pause time.Duration) {
	for ctx.Err() == nil {
		conn := c.connect(ctx)
		for conn != nil {
			sleep(ctx, time.Duration(c.random.Int64N(int64(pause))))
			if ctx.Err() != nil {
				break
			}
			text := strings.Repeat(string(rune('a'+c.random.IntN(26))), c.random.IntN(fillSize))
			if c.put(ctx, conn, fmt.Sprintf("fill/%d", c.random.IntN(10)), text) != nil {
				break
			}
		}
		if conn != nil {
			hangUp(conn)
		}
		sleep(ctx, reconnectPause)
	}
}

// put writes one row. When the run ends it waits for what has become of that: who reads the table next must not see
// it on one node and not on another.
func (c *client) put(ctx context.Context, conn *pgconn.PgConn, key, value string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return execute(ctx, conn, fmt.Sprintf("INSERT INTO kv VALUES ('%s', '%s') "+
		"ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value", key, value))
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// connect finds the primary. Nil: it has not.
func (c *client) connect(ctx context.Context) *pgconn.PgConn {
	for _, i := range c.random.Perm(len(c.cluster.machines)) {
		conn, err := dial(ctx, c.host, c.cluster.machines[i], "longship")
		if err != nil {
			continue
		}
		if conn.ParameterStatus("in_hot_standby") == "off" {
			return conn
		}
		hangUp(conn)
	}
	return nil
}

// dial connects to a node.
func dial(ctx context.Context, from *Host, to *machine, database string) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("postgres://sim@%s/%s?sslmode=disable", to.address(), database))
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["longship.report_commit_lsn"] = "on"
	cfg.DialFunc = from.Dial
	return pgconn.ConnectConfig(ctx, cfg)
}

func hangUp(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), reconnectPause)
	defer cancel()
	_ = conn.Close(ctx)
}

// query runs one statement, and returns its rows as text.
func query(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, r := range results {
		for _, values := range r.Rows {
			var row []string
			for _, v := range values {
				row = append(row, string(v))
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func execute(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	_, err := query(ctx, conn, sql)
	return err
}

// transact runs a transaction, a single statement at times without a block, and notes what became of it. An
// error ends the session.
func (c *client) transact(ctx context.Context, conn *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	x := &history.Txn{Client: c.id, Ops: c.gen.Next(c.random), Outcome: history.Aborted, Call: c.clock.Add(1)}
	block := len(x.Ops) > 1 || c.random.IntN(2) == 0
	var err error
	if block {
		err = execute(ctx, conn, "BEGIN")
	}
	for i := range x.Ops {
		if err == nil {
			err = c.do(ctx, conn, &x.Ops[i])
		}
	}
	ended := !block // whether the last thing that was sent could commit
	if block && err == nil {
		ended = true
		err = execute(ctx, conn, "COMMIT")
	}
	c.last = x.Ops
	switch {
	case err == nil:
		x.Outcome = history.Committed
		c.committed.Add(1)
		if lsn, err := wal.ParseLSN(conn.ParameterStatus("longship.last_commit_lsn")); err == nil {
			c.token = max(c.token, lsn)
		}
	case ended && !refused(err):
		x.Outcome = history.Unknown
		c.cluster.trace.add(fmt.Sprintf("c%d", c.id), fmt.Sprintf("unknown: %v: %v", err, x.Ops))
	}
	x.Return = c.clock.Add(1)
	c.recorder.Add(x)
	if sqlState(err) == "40001" && ctx.Err() == nil {
		if block && !ended {
			return execute(ctx, conn, "ROLLBACK")
		}
		return nil
	}
	return err
}

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// refused reports whether an error says that the statement has done nothing. 57P01 ends a session between two
// statements: what becomes of a commit under way is told with 08007.
func refused(err error) bool {
	switch sqlState(err) {
	case "57P01", "57P03", "25006", "40001", "53300", "53100":
		return true
	}
	// pgx says of a closed connection that it is safe to retry, although it has sent the statement, if it
	// finds the connection closed only before it reads the answer.
	return pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}

// do runs one operation and notes what it finds.
func (c *client) do(ctx context.Context, conn *pgconn.PgConn, o *history.Op) error {
	where := fmt.Sprintf("key = '%s'", o.Key)
	switch o.Kind {
	case history.Append:
		return execute(ctx, conn, fmt.Sprintf("INSERT INTO kv VALUES ('%s', '%s') "+
			"ON CONFLICT (key) DO UPDATE SET value = kv.value || EXCLUDED.value", o.Key, o.Item()))
	case history.Range:
		where = fmt.Sprintf("key >= '%s' AND key < '%s'", o.Key, o.Hi)
	}
	rows, err := query(ctx, conn, "SELECT key, value, lsn FROM kv WHERE "+where)
	if err != nil {
		return err
	}
	found := map[string][]int{}
	for _, row := range rows {
		if row[2] != "" { // else the transaction's own
			at, err := wal.ParseLSN(row[2])
			if err != nil {
				return err
			}
			c.token = max(c.token, at)
		}
		if found[row[0]], err = history.ParseList(row[1]); err != nil {
			c.cluster.trace.fail("list", fmt.Errorf("%s: %w", row[0], err))
		}
	}
	o.List, o.Lists = found[o.Key], found
	return nil
}

// remember asks how far the log is that the client has read: who reads where it is behind must wait for that to see
// no less, of rows that were not there, too.
func (c *client) remember(ctx context.Context, conn *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, err := query(ctx, conn, "SELECT horizon FROM longship_cluster")
	if err != nil {
		return err
	}
	at, err := wal.ParseLSN(rows[0][0])
	c.token = max(c.token, at)
	return err
}

// readElsewhere reads what the client has just used on one of the nodes, which may be a standby, and behind: it
// waits for what it has seen. Nothing is known if it fails.
func (c *client) readElsewhere(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m := c.cluster.machines[c.random.IntN(len(c.cluster.machines))]
	conn := c.sessions[m]
	if conn == nil {
		var err error
		if conn, err = dial(ctx, c.host, m, "longship"); err != nil {
			return
		}
		c.sessions[m] = conn
	}
	x := &history.Txn{Client: c.id, Outcome: history.Committed, Stale: true, Call: c.clock.Add(1)}
	for _, o := range c.last {
		kind := o.Kind
		if kind == history.Append {
			kind = history.Read
		}
		x.Ops = append(x.Ops, history.Op{Kind: kind, Key: o.Key, Hi: o.Hi})
	}
	err := execute(ctx, conn, fmt.Sprintf("WAIT FOR LSN '%s' TIMEOUT %d", c.token, patience.Milliseconds()))
	if err == nil {
		err = execute(ctx, conn, "BEGIN READ ONLY")
	}
	for i := range x.Ops {
		if err == nil {
			err = c.do(ctx, conn, &x.Ops[i])
		}
	}
	if err == nil {
		err = execute(ctx, conn, "COMMIT")
	}
	if err != nil {
		hangUp(conn)
		delete(c.sessions, m)
		return
	}
	x.Return = c.clock.Add(1)
	c.recorder.Add(x)
}
