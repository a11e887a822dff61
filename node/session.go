package node

import (
	"context"
	"errors"
	"iter"
	"syscall"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walsender"
)

// A session is one client's view of the node: a sql.Backend. It outlives the node's roles, except that
// of a primary.
type session struct {
	node  *Node
	conn  *pgwire.Conn
	pid   int32
	admin bool    // connected to AdminDatabase
	own   wal.LSN // end of the last commit acknowledged to this client

	temporary *slots.Slots // where this client has made temporary slots; nil if nowhere
}

// A client is a SQL session on this node, with what goes with it.
type client struct {
	*sql.Session
	backend *session
}

func newClient(c *pgwire.Conn, backend *session) (*client, error) {
	s, err := sql.NewSession(c, backend, sql.Identity{User: c.User, Database: c.Database, PID: c.PID, Params: c.Params})
	if err != nil {
		return nil, err
	}
	return &client{s, backend}, nil
}

// Fail implements pgwire.Session. After an error the temporary slots are gone, as in PostgreSQL.
func (c *client) Fail() {
	c.Session.Fail()
	c.backend.releaseSlots()
}

// Close implements pgwire.Session.
func (c *client) Close() {
	c.Session.Close()
	c.backend.releaseSlots()
}

// Catalog implements sql.Backend.
func (s *session) Catalog() *sql.Catalog { return s.node.catalog }

// Begin implements sql.Backend. On a new primary it waits until the first record of its epoch is
// acknowledged: before that nobody knows all that has been shown to somebody. On any primary it waits
// for the read lease: without one, a successor may have acknowledged what is not seen here (I11). A
// statement that writes on its own does without: what it has read is proved by its commit's
// acknowledgement, and if it comes to nothing else, it waits then.
func (s *session) Begin(ctx context.Context, m sql.TxnMode) (sql.Txn, error) {
	if s.node.cfg.Witness {
		return nil, s.node.errNoTable("nothing can be read or written here")
	}
	for {
		r, err := s.node.present.await(ctx)
		if err != nil {
			return nil, err
		}
		writes := !m.ReadOnly && !m.Explicit
		s.conn.Wait(waitReadLease)
		err = r.mayRead(ctx, writes)
		s.conn.Wait(nil)
		if err != nil {
			return nil, err
		}
		var tx *kv.Txn
		begun := s.node.present.enter(r, func() {
			tx = r.table.Begin(kv.TxnOptions{
				Own:       s.own,
				Latest:    writes,
				Exclusive: m.Exclusive,
				ReadOnly:  m.ReadOnly,
				Long:      m.Explicit,
			})
		})
		if begun {
			return &txn{Txn: tx, session: s, reign: r, unproved: writes}, nil
		}
	}
}

// mayRead waits until what this reign shows is all there is; not for the lease if a commit will prove
// that.
func (r *reign) mayRead(ctx context.Context, writes bool) error {
	select {
	case <-r.opened:
	default:
		select {
		case <-r.opened:
		case <-r.over:
			return nil // whoever called finds out that there is another
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if r.primary == nil || writes {
		return nil
	}
	return r.primary.group.WaitLease(ctx)
}

// Checkpoint implements sql.Checkpointer.
func (s *session) Checkpoint(ctx context.Context) error {
	r, err := s.node.present.await(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // nobody makes this reign's checkpoints once it is over
		select {
		case <-r.over:
			cancel(errRoleChanged())
		case <-ctx.Done():
		}
	}()
	s.conn.Wait(waitCheckpoint)
	defer s.conn.Wait(nil)
	return clientError(r.checkpointer.Request(ctx))
}

func errRoleChanged() error {
	return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "this node's role has changed meanwhile").WithHint("Try again.")
}

// WaitLSN implements sql.LSNWaiter: everything up to lsn can be seen by every session of this node.
func (s *session) WaitLSN(ctx context.Context, lsn wal.LSN) error {
	if s.node.cfg.Witness {
		return s.node.errNoTable("it shows nothing, at any LSN")
	}
	s.conn.Wait(waitReplay)
	defer s.conn.Wait(nil)
	for {
		r, err := s.node.present.await(ctx)
		if err != nil {
			return err
		}
		shown := &r.applied
		if r.primary != nil {
			shown = r.horizon
		}
		if shown.Load() >= lsn {
			return nil
		}
		horizon := r.horizon.Load()
		r.wanted.Advance(min(lsn, horizon))
		next := shown
		if horizon < lsn { // it comes first
			next = r.horizon
		}
		select {
		case <-next.Changed(lsn - 1):
		case <-r.over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A txn is a kv transaction in the shape that package sql asks for.
type txn struct {
	*kv.Txn
	session  *session
	reign    *reign
	unproved bool // begun without the lease: an answer other than a commit's must wait for it
}

// Get implements sql.Txn.
func (t *txn) Get(ctx context.Context, key string) (sql.Row, bool, error) {
	row, ok, err := t.Txn.Get(ctx, key)
	return sql.Row(row), ok, clientError(err)
}

// Scan implements sql.Txn.
func (t *txn) Scan(ctx context.Context, r sql.Range) iter.Seq2[sql.Row, error] {
	return func(yield func(sql.Row, error) bool) {
		for row, err := range t.Txn.Scan(ctx, kv.Range(r)) {
			if !yield(sql.Row(row), clientError(err)) {
				return
			}
		}
	}
}

// Put implements sql.Txn.
func (t *txn) Put(key string, value []byte) error { return clientError(t.Txn.Put(key, value)) }

// Delete implements sql.Txn.
func (t *txn) Delete(key string) error { return clientError(t.Txn.Delete(key)) }

// Commit implements sql.Txn: the record goes into the log, and the client hears of it when it is as
// safe as the level asks. A wait that ends early is an unknown outcome, never a success: the record
// is in the log, and whether it stays there is decided without us.
func (t *txn) Commit(ctx context.Context, level sql.SyncLevel) (sql.Committed, error) {
	p := t.reign.primary
	if p == nil { // a standby has nothing to commit
		_, err := t.Txn.Commit(ctx)
		return sql.Committed{}, clientError(err)
	}
	began := t.session.node.latencies.beginCommit()
	p.active.Add(1)
	defer p.active.Add(-1)
	if err := p.gate.enter(ctx); err != nil {
		t.Rollback()
		return sql.Committed{}, err
	}
	lsn, err := t.Txn.Commit(ctx)
	p.gate.leave()
	if err == nil && lsn == wal.InvalidLSN {
		err = t.prove(ctx)
	}
	if err != nil || lsn == wal.InvalidLSN {
		return sql.Committed{}, clientError(err)
	}
	if level > syncrep.Off {
		p.writer.RequestFlush(lsn)
	}
	t.session.conn.Wait(waitSyncRep)
	err = p.group.Wait(ctx, lsn, level)
	t.session.conn.Wait(nil)
	if err != nil {
		return sql.Committed{LSN: lsn}, clientError(err)
	}
	if level > syncrep.Off {
		t.session.node.latencies.endCommit(began)
	}
	t.session.own = lsn
	return sql.Committed{LSN: lsn, Level: p.group.Achieved(lsn, level), AtRisk: p.group.AtRisk(lsn, level)}, nil
}

// WaitSeen waits until what an error tells of what was read is acknowledged, and current.
func (t *txn) WaitSeen(ctx context.Context) error {
	if err := t.Txn.WaitSeen(ctx); err != nil {
		return err
	}
	return t.prove(ctx)
}

// prove waits for the lease, if the transaction began without.
func (t *txn) prove(ctx context.Context) error {
	if !t.unproved || t.reign.primary == nil {
		return nil
	}
	t.session.conn.Wait(waitReadLease)
	defer t.session.conn.Wait(nil)
	return t.reign.primary.group.WaitLease(ctx)
}

// clientError gives an error of the table, the log or the rule the SQLSTATE that clients know.
func clientError(err error) error {
	if err == nil {
		return nil
	}
	// First: its cause may be a *pgwire.Error, the one that ends the connection.
	if e, ok := errors.AsType[*syncrep.UnknownError](err); ok {
		return pgwire.Errorf(pgwire.CodeTransactionResolutionUnknown, "the commit at %s was not confirmed: %w", e.LSN, e.Cause).
			WithDetail("The transaction is in the log of this node, but the wait for its replication ended early: it may or may not survive a failover.").
			WithHint("Read the data back, or wait for LSN %s, to find out.", e.LSN)
	}
	if _, ok := errors.AsType[*pgwire.Error](err); ok {
		return err
	}
	if e, ok := errors.AsType[*kv.LimitError](err); ok {
		return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "%s", e.Error())
	}
	switch {
	case errors.Is(err, kv.ErrConflict):
		return sql.ErrConflict
	case errors.Is(err, wal.ErrWriterStopped):
		return errLogFailed()
	case errors.Is(err, wal.ErrDiskFull):
		return pgwire.Errorf(pgwire.CodeDiskFull, "could not write to the log: %w", err).
			WithHint("Reads go on. Free space in the data directory, or drop replication slots that pin WAL; writes resume by themselves.")
	case errors.Is(err, syscall.ENOSPC):
		return pgwire.Errorf(pgwire.CodeDiskFull, "%w", err).
			WithHint("Free space in the data directory; the node tries again by itself.")
	case errors.Is(err, startup.ErrSealed):
		return pgwire.Errorf(pgwire.CodeCannotConnectNow, "%w", err).WithHint("A failover is under way: try again.")
	case errors.Is(err, kv.ErrClosed):
		return errRoleChanged()
	case errors.Is(err, kv.ErrReadOnly):
		return pgwire.Errorf(pgwire.CodeReadOnlySQLTransaction, "%w", err)
	}
	return walsender.SlotError(err)
}
