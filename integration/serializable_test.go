package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/drill"
	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/wal"
)

// Transactions over the network, single statements and blocks, while the primary is killed: strictly
// serializable. Between them the clients read on whichever node they find, where they wait for the last
// commit that they made or saw: they see no less than before, and never half of a transaction.
func TestStrictSerializability(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	tokenCoversAbsence(t, c.primary())
	const clients, before, after = 6, 150, 450
	l := &listWork{cluster: c, began: time.Now(), gen: history.Generator{Keys: 4, MaxOps: 3, Rounds: 150}, moved: make(chan struct{}, 1)}
	ctx, cancel := testContext(t)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() { (&listClient{listWork: l, id: id, random: rand.New(rand.NewPCG(uint64(id), 8))}).run(running) })
	}
	l.await(ctx, before)
	c.primary().kill9()
	l.await(ctx, after)
	stop()
	wg.Wait()
	stale, committed, unknown := 0, 0, 0
	for _, x := range l.recorder.Txns() {
		switch {
		case x.Stale:
			stale++
		case x.Outcome == history.Committed:
			committed++
		case x.Outcome == history.Unknown:
			unknown++
		}
	}
	t.Logf("%d transactions committed, %d unknown, %d reads elsewhere", committed, unknown, stale)
	if stale < 20 {
		t.Errorf("%d reads on nodes that may be behind: too few to show anything", stale)
	}
	for i, anomaly := range history.Check(l.recorder.Txns()) {
		if t.Errorf("%v", anomaly); i == 3 {
			break
		}
	}
}

// tokenCoversAbsence verifies what a client waits for elsewhere that has read on the primary, after another
// one's commit, a row that is not there: it has no LSN, and yet the client has seen the state after that commit.
func tokenCoversAbsence(t *testing.T, primary *node) {
	t.Helper()
	primary.exec("INSERT INTO kv VALUES ('somebody', 'else')")
	written, err := wal.ParseLSN(primary.value("SELECT lsn FROM kv WHERE key = 'somebody'"))
	if err != nil {
		t.Fatal(err)
	}
	conn := primary.connect()
	var token wal.LSN
	read := history.Op{Kind: history.Read, Key: "absent"}
	if err := drill.DoListOp(t.Context(), conn, &read, &token); err != nil || token != 0 {
		t.Errorf("a row that is not there raises the token to %s, %v", token, err)
	}
	if err := drill.NoteHorizon(t.Context(), conn, &token); err != nil || token < written {
		t.Errorf("the token is %s, %v, and the commit that was seen at %s", token, err, written)
	}
}

// listWork is what clients that append to lists share.
type listWork struct {
	cluster  *cluster
	began    time.Time
	gen      history.Generator
	recorder history.Recorder
	moved    chan struct{} // there is more in recorder
}

// await waits until so many transactions have ended.
func (l *listWork) await(ctx context.Context, txns int) {
	l.cluster.t.Helper()
	for len(l.recorder.Txns()) < txns {
		select {
		case <-l.moved:
		case <-ctx.Done():
			l.cluster.t.Fatalf("%d transactions ended, want %d", len(l.recorder.Txns()), txns)
		}
	}
}

func (l *listWork) add(x *history.Txn) {
	x.Return = int64(time.Since(l.began))
	l.recorder.Add(x)
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// A listClient is one client: with a session on the primary, and now and then one elsewhere.
type listClient struct {
	*listWork
	id     int
	random *rand.Rand
	token  wal.LSN      // the last commit that it has made, or may have seen
	last   []history.Op // of its last transaction

	sessions [3]*pgx.Conn // on each node, to read there what that has read or written
}

func (c *listClient) run(ctx context.Context) {
	cfg, err := c.cluster.connConfig(c.id, "read-write")
	if err != nil {
		c.cluster.t.Error(err)
		return
	}
	defer func() {
		for _, conn := range c.sessions {
			if conn != nil {
				hangUp(conn)
			}
		}
	}()
	cfg.RuntimeParams["longship.report_commit_lsn"] = "on"
	for ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		for err == nil && ctx.Err() == nil {
			if c.random.IntN(2) == 0 {
				c.readElsewhere(ctx)
			}
			err = c.transact(ctx, conn)
		}
		if conn != nil {
			hangUp(conn)
		}
		pause(ctx, reconnectPause)
	}
}

// transact runs a transaction, a single statement at times without a block, and notes what became of it. An
// error ends the session.
func (c *listClient) transact(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hasty)
	defer cancel()
	x := &history.Txn{Client: c.id, Ops: c.gen.Next(c.random), Outcome: history.Aborted, Call: int64(time.Since(c.began))}
	reads := !slices.ContainsFunc(x.Ops, func(o history.Op) bool { return o.Kind == history.Append })
	block := reads || len(x.Ops) > 1 || c.random.IntN(2) == 0
	var err error
	if block {
		_, err = conn.Exec(ctx, "BEGIN")
	}
	for i := range x.Ops {
		if err == nil {
			err = drill.DoListOp(ctx, conn, &x.Ops[i], &c.token)
		}
	}
	if reads && err == nil {
		err = drill.NoteHorizon(ctx, conn, &c.token)
	}
	ended := !block // whether the last thing that was sent could commit
	if block && err == nil {
		ended = true
		_, err = conn.Exec(ctx, "COMMIT")
	}
	c.last = x.Ops
	became := drill.OutcomeOf(err)
	switch {
	case became == history.Committed:
		x.Outcome = history.Committed
		if lsn, err := wal.ParseLSN(conn.PgConn().ParameterStatus("longship.last_commit_lsn")); err == nil {
			c.token = max(c.token, lsn)
		}
	case became == history.Unknown && ended:
		x.Outcome = history.Unknown
	}
	c.add(x)
	if err != nil && sqlState(err) == "40001" {
		if block && !ended {
			_, err = conn.Exec(ctx, "ROLLBACK")
			return err
		}
		return nil
	}
	return err
}

// readElsewhere reads on one of the nodes, which may be a standby, and behind. Nothing is known if it fails.
func (c *listClient) readElsewhere(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hasty)
	defer cancel()
	n := c.random.IntN(len(c.cluster.nodes))
	conn, err := c.sessions[n], error(nil)
	if conn == nil { // they are kept: it is at once after a commit that a standby lacks it
		if conn, err = pgx.Connect(ctx, c.cluster.nodes[n].dsn("default_query_exec_mode=exec")); err != nil {
			return
		}
		c.sessions[n] = conn
	}
	x := &history.Txn{Client: c.id, Outcome: history.Committed, Stale: true, Call: int64(time.Since(c.began))}
	for _, o := range c.last {
		if o.Kind == history.Append {
			o.Kind = history.Read
		}
		x.Ops = append(x.Ops, history.Op{Kind: o.Kind, Key: o.Key, Hi: o.Hi})
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("WAIT FOR LSN '%s' TIMEOUT %d", c.token, hasty.Milliseconds()))
	if err == nil {
		_, err = conn.Exec(ctx, "BEGIN READ ONLY")
	}
	for i := range x.Ops {
		if err == nil {
			err = drill.DoListOp(ctx, conn, &x.Ops[i], &c.token)
		}
	}
	if err == nil {
		_, err = conn.Exec(ctx, "COMMIT")
	}
	if err != nil {
		hangUp(conn)
		c.sessions[n] = nil
		return
	}
	c.add(x)
}
