package sql

import (
	"context"
	"errors"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// maxRetries is how often a single statement is run again after a conflict; the last attempt is
// exclusive.
const maxRetries = 8

// begin opens the transaction that the current statement and those after it share, unless it is
// open. Rows may have gone to the client before its end, so it cannot be run again: it reads at a
// snapshot, whether it began with BEGIN or not.
func (s *Session) begin(ctx context.Context) error {
	if s.txn != nil {
		return nil
	}
	s.settleAccess()
	txn, err := s.backend.Begin(ctx, TxnMode{ReadOnly: s.readOnly(), Explicit: true})
	s.txn = txn
	return err
}

// settleAccess has the transaction go by default_transaction_read_only as it is now, if nothing was said of it: what
// only reads remembers nothing of it, so it must not come to write later.
func (s *Session) settleAccess() {
	if s.access != accessDefault {
		return
	}
	s.settings.refresh()
	if s.access = accessReadWrite; s.settings.readOnly {
		s.access = accessReadOnly
	}
}

// readOnly reports whether the current transaction may not write.
func (s *Session) readOnly() bool {
	s.settings.refresh()
	switch {
	case s.settings.standby || s.access == accessReadOnly:
		return true
	case s.access == accessReadWrite:
		return false
	}
	return s.settings.readOnly
}

// checkWritable refuses a write that the transaction, or the node, does not allow.
func (s *Session) checkWritable(command string) error {
	if !s.readOnly() {
		return nil
	}
	err := pgwire.Errorf(pgwire.CodeReadOnlySQLTransaction, "cannot execute %s in a read-only transaction", command)
	if s.settings.standby && s.catalog.ReadOnlyHint != nil {
		err.Hint = s.catalog.ReadOnlyHint()
	}
	return err
}

// commit ends the transaction, if there is one. What its settings say now counts, SET LOCAL included.
func (s *Session) commit(ctx context.Context) error {
	if s.txn == nil {
		s.endTransaction(true)
		return nil
	}
	_, err := s.commitTxn(ctx)
	s.endTransaction(err == nil)
	return serializationFailure(err)
}

// commitTxn commits the open txn and remembers what came of it, for SHOW longship.last_commit_lsn and
// last_commit_level.
func (s *Session) commitTxn(ctx context.Context) (wal.LSN, error) {
	s.stopCursors()
	txn := s.txn
	s.txn = nil
	done, err := txn.Commit(ctx, s.settings.syncLevel())
	if done.LSN != 0 {
		s.last = lastCommit{Committed: done, unknown: err != nil}
		if s.settings.reportCommit {
			s.conn.SetParameter(lastCommitLSN, s.last.lsn())
			s.conn.SetParameter(lastCommitLevel, s.last.level())
		}
	}
	if err == nil && done.AtRisk {
		s.conn.Notice(pgwire.Errorf(pgwire.CodeWarning, "the commit at %s is on the primary alone", done.LSN).
			WithSeverity(pgwire.SeverityWarning).
			WithDetail("synchronous_standby_names cannot be met, and synchronous_mode allows to do without it.").
			WithHint("It is lost if the primary's disk is. longship status shows the durability debt."))
	}
	return done.LSN, err
}

// A lastCommit is the last commit of a session that wrote something.
type lastCommit struct {
	Committed
	unknown bool // the wait for its acknowledgement ended early
}

// lsn is what longship.last_commit_lsn shows: 0/0 before the first commit.
func (c lastCommit) lsn() string { return c.LSN.String() }

// level is what longship.last_commit_level shows: a value of synchronous_commit, none or unknown.
func (c lastCommit) level() string {
	switch {
	case c.LSN == 0:
		return "none"
	case c.unknown:
		return "unknown"
	}
	return c.Level.String()
}

// serializationFailure is what the client is told of a conflict.
func serializationFailure(err error) error {
	if !errors.Is(err, ErrConflict) {
		return err
	}
	return pgwire.Errorf(pgwire.CodeSerializationFailure, "could not serialize access due to concurrent update").
		WithHint("The transaction might succeed if retried.")
}

func (s *Session) rollback() {
	s.closeCursors(0)
	if s.txn != nil {
		s.txn.Rollback()
		s.txn = nil
	}
	s.endTransaction(false)
}

// endTransaction leaves the block and makes settings last, or not.
func (s *Session) endTransaction(committed bool) {
	if committed {
		s.keepCursors()
	}
	s.closeCursors(0)
	s.letGoWrites(0)
	s.letGoReads()
	s.count(committed)
	if committed {
		s.settings.commit()
	} else {
		s.settings.rollback()
	}
	s.block, s.access, s.savepoints = noBlock, accessDefault, nil
	s.clock = time.Time{}
}

// Finish implements pgwire.Session.
func (s *Session) Finish(ctx context.Context) error {
	if s.block != noBlock {
		return nil
	}
	return s.commit(ctx)
}

func (s *Session) finishIf(ctx context.Context, final bool) error {
	if !final {
		return nil
	}
	return s.Finish(ctx)
}

// Fail implements pgwire.Session. A block with savepoints is kept as it is: one may be gone back to.
func (s *Session) Fail() {
	s.enter()
	switch {
	case s.block == noBlock:
		s.rollback()
	case len(s.savepoints) == 0:
		s.rollback()
		s.block = failedBlock
	default:
		s.block = failedBlock
	}
}

// transaction runs BEGIN, COMMIT, ROLLBACK and SET TRANSACTION.
func (s *Session) transaction(ctx context.Context, n *transactionStmt) (tag string, err error) {
	switch n.verb {
	case "COMMIT", "ROLLBACK":
		return s.endBlock(ctx, n)
	case "SET":
		if s.block == noBlock {
			s.warn(pgwire.CodeNoActiveSQLTransaction, "SET TRANSACTION can only be used in transaction blocks")
			return n.verb, nil
		}
		return n.verb, s.setAccess(n)
	}
	if s.block != noBlock {
		s.warn(pgwire.CodeActiveSQLTransaction, "there is already a transaction in progress")
	}
	if err := s.setAccess(n); err != nil {
		return "", err
	}
	s.settleAccess()
	s.block = inBlock
	return n.verb, nil
}

// setAccess applies READ ONLY and READ WRITE, which must precede the first read if they widen it.
func (s *Session) setAccess(n *transactionStmt) error {
	switch {
	case n.readOnly == nil:
	case *n.readOnly:
		s.access = accessReadOnly
	case s.txn != nil && s.readOnly():
		return pgwire.Errorf(pgwire.CodeActiveSQLTransaction, "transaction read-write mode must be set before any query")
	case s.settings.standby:
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot set transaction read-write mode during recovery")
	default:
		s.access = accessReadWrite
	}
	return nil
}

// endBlock runs COMMIT and ROLLBACK. COMMIT of a failed block rolls back and says so in its tag.
func (s *Session) endBlock(ctx context.Context, n *transactionStmt) (tag string, err error) {
	if s.block == noBlock {
		if n.chain {
			return "", pgwire.Errorf(pgwire.CodeNoActiveSQLTransaction, "%s AND CHAIN can only be used in transaction blocks", n.verb)
		}
		s.warn(pgwire.CodeNoActiveSQLTransaction, "there is no transaction in progress")
	}
	tag, access := n.verb, s.access
	if s.block == failedBlock {
		tag = "ROLLBACK"
	}
	if tag == "ROLLBACK" {
		s.rollback()
	} else if err := s.commit(ctx); err != nil {
		return "", err
	}
	if n.chain {
		s.block, s.access = inBlock, access
	}
	return tag, nil
}

func (s *Session) warn(code, message string) {
	s.conn.Notice(pgwire.Errorf(code, "%s", message).WithSeverity(pgwire.SeverityWarning))
}
