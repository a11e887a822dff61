package sql

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// errStatementTimeout is the cause of a context that statement_timeout ended.
var errStatementTimeout = pgwire.Errorf(pgwire.CodeQueryCanceled, "canceling statement due to statement timeout")

// runPlan runs a SELECT, INSERT, UPDATE or DELETE. final: it is the last of its implicit
// transaction and commits with it. runCtx is within statement_timeout; waiting for the commit is not subject to that, as
// in PostgreSQL.
func (s *Session) runPlan(ctx, runCtx context.Context, stmt *statement, final bool) (tag string, err error) {
	s.env = env{ctx: runCtx, session: s, params: s.params}
	commits := final && s.block == noBlock
	if explain, ok := stmt.plan.(*explainPlan); ok {
		return s.runExplain(ctx, stmt, *explain, commits)
	}
	return s.runPlanned(ctx, stmt.plan, stmt.node.tag(), commits)
}

func (s *Session) runPlanned(ctx context.Context, plan planNode, command string, commits bool) (tag string, err error) {
	switch plan := plan.(type) {
	case *selectPlan:
		return s.runSelect(ctx, plan, commits)
	case writePlan:
		return s.runWrite(ctx, plan, command, commits)
	}
	return "", errForeignStatement
}

// timedOut replaces the echo of a statement timeout by the error it means.
func timedOut(ctx context.Context, err error) error {
	if _, told := errors.AsType[*pgwire.Error](err); err == nil || told {
		return err
	}
	if context.Cause(ctx) == error(errStatementTimeout) {
		return errStatementTimeout
	}
	return err
}

// runSelect sends rows as they are found. Alone in its transaction a SELECT reads at a snapshot of
// its own.
func (s *Session) runSelect(ctx context.Context, plan *selectPlan, commits bool) (string, error) {
	if !plan.readsTable() {
		n, err := s.selectRows(plan, nil)
		if err == nil && commits {
			err = s.Finish(ctx)
		}
		return countTag("SELECT", n), err
	}
	if commits && s.txn == nil {
		txn, err := s.backend.Begin(s.env.ctx, TxnMode{ReadOnly: true})
		if err != nil {
			return "", err
		}
		s.txn = txn
	} else if err := s.begin(s.env.ctx); err != nil {
		return "", err
	}
	n, err := s.selectRows(plan, s.txn)
	if err != nil {
		return "", s.statementError(err)
	}
	if commits {
		err = s.commit(ctx)
	}
	return countTag("SELECT", n), err
}

func (s *Session) selectRows(plan *selectPlan, txn Txn) (int64, error) {
	s.meter.start()
	defer s.meter.stop()
	return plan.run(&s.env, &s.selection, txn)
}

// statementError waits until what the open transaction has read is acknowledged: an error tells
// the client about it as much as rows do.
func (s *Session) statementError(err error) error {
	w, ok := s.txn.(seenWaiter)
	if !ok || s.env.ctx.Err() != nil {
		return err
	}
	if waitErr := w.WaitSeen(s.env.ctx); waitErr != nil {
		return waitErr
	}
	return err
}

// runWrite runs a statement that writes. Alone in its transaction it is run again when it meets a
// conflict: nothing of it has reached the client yet.
func (s *Session) runWrite(ctx context.Context, plan writePlan, command string, commits bool) (string, error) {
	if err := s.checkWritable(command); err != nil {
		return "", err
	}
	alone := commits && s.txn == nil
	for attempt := 0; ; attempt++ {
		lsn, err := s.tryWrite(ctx, plan, alone, attempt == maxRetries, commits)
		if alone && attempt < maxRetries && errors.Is(err, ErrConflict) {
			s.counts = counts{} // of an attempt that nobody hears of
			s.letGo()
			s.letGoWrites(0)
			s.letGoReads()
			continue
		}
		if err != nil {
			return "", serializationFailure(err)
		}
		w := &s.writing
		tag := countTag(command, w.affected)
		err = w.send(&s.encoder, lsn)
		*w = writing{}
		return tag, err
	}
}

// tryWrite is one attempt: begin if needed, run, commit if asked to.
func (s *Session) tryWrite(ctx context.Context, plan writePlan, alone, exclusive, commits bool) (wal.LSN, error) {
	if alone {
		txn, err := s.backend.Begin(s.env.ctx, TxnMode{Exclusive: exclusive})
		if err != nil {
			return 0, err
		}
		s.txn = txn
	} else if err := s.begin(s.env.ctx); err != nil {
		return 0, err
	}
	s.env.subqueries, s.env.regexes = nil, nil // what an attempt before has read, or held, counts for nothing
	s.writing = writing{e: &s.env, txn: s.txn, outs: plan.outputs()}
	if err := s.writeRows(plan); err != nil {
		err = s.statementError(err)
		if alone {
			s.txn.Rollback()
			s.txn = nil
		}
		return 0, err
	}
	if !commits {
		return 0, nil
	}
	lsn, err := s.commitTxn(ctx)
	if err == nil || !alone {
		s.endTransaction(err == nil)
	}
	return lsn, err
}

func (s *Session) writeRows(plan writePlan) error {
	s.meter.restart()
	s.meter.start()
	defer s.meter.stop()
	part, before := s.meter.begin(plan)
	err := plan.run(&s.writing)
	s.meter.count(part, int64(len(s.writing.returned)))
	s.meter.end(part, before)
	return err
}

// countTag is the command tag with a row count; the common ones cost nothing.
func countTag(command string, n int64) string {
	if command == "INSERT" {
		if n == 1 {
			return "INSERT 0 1"
		}
		command = "INSERT 0"
	}
	if n == 1 && command == "SELECT" {
		return "SELECT 1"
	}
	return command + " " + strconv.FormatInt(n, 10)
}

// runCommand runs everything that is not planned.
func (s *Session) runCommand(ctx context.Context, stmt *statement) (tag string, err error) {
	switch n := stmt.node.(type) {
	case *transactionStmt:
		return s.transaction(ctx, n)
	case *savepointStmt:
		return n.verb, s.savepoint(ctx, n)
	case *setStmt:
		return n.verb, s.set(n, stmt.together)
	case *lockStmt:
		return n.tag(), s.lock(n, stmt.together)
	case *constraintsStmt:
		return n.tag(), s.setConstraints(n, stmt.together)
	case *alterSystemStmt:
		return n.tag(), s.alterSystem(ctx, n, stmt.together)
	case *showStmt:
		return "SHOW", s.runShow(n)
	case *discardStmt:
		return n.tag(), s.discard(n, stmt.together)
	case *deallocateStmt:
		if n.name == "" {
			return "DEALLOCATE ALL", s.deallocate(n)
		}
		return "DEALLOCATE", s.deallocate(n)
	case *prepareStmt:
		return n.tag(), s.prepare(stmt, n)
	case *declareStmt:
		return n.tag(), s.declare(ctx, stmt, n)
	case *fetchStmt:
		return s.fetch(ctx, n)
	case *closeStmt:
		return n.tag(), s.closeCursor(n)
	case *copyStmt:
		rows, err := s.copy(ctx, stmt, n)
		return countTag("COPY", rows), err
	case *checkpointStmt:
		c, ok := s.backend.(Checkpointer)
		if !ok {
			return "", pgwire.Errorf(pgwire.CodeFeatureNotSupported, "CHECKPOINT is not supported")
		}
		return "CHECKPOINT", c.Checkpoint(ctx)
	case *explainStmt:
		return n.tag(), s.explain(ctx, n)
	case *waitStmt:
		return "WAIT", s.waitForLSN(ctx, n)
	}
	return "", errForeignStatement
}

// set runs SET and RESET. SET LOCAL lasts until the transaction ends, which on its own it does at once;
// together with other statements of a query string it is part of their implicit transaction, as in
// PostgreSQL.
func (s *Session) set(n *setStmt, together bool) error {
	if n.name == "all" && n.isReset {
		return s.settings.resetAll()
	}
	if n.local && s.block == noBlock && !together {
		s.warn(pgwire.CodeNoActiveSQLTransaction, "SET LOCAL can only be used in transaction blocks")
	}
	def, err := s.settings.server.lookup(n.name)
	if err != nil {
		return err
	}
	switch {
	case n.isReset && def.Name == "session_authorization":
		return nil
	case n.isReset:
		return s.settings.reset(n.name, n.local)
	}
	value, err := setValues(def, n.values)
	if err != nil {
		return err
	}
	return s.setOne(def, value, n.local)
}

// setOne changes one setting. Some are not: transaction_read_only belongs to the transaction, and the role cannot
// become another one.
func (s *Session) setOne(def *Setting, value string, local bool) error {
	switch {
	case def.Name == "role" && value != "none" || def.Name == "session_authorization":
		if value != s.id.User {
			return pgwire.Errorf(pgwire.CodeInvalidParameterValue, `role "%s" does not exist`, value).WithHint(oneRole)
		}
		if def.Name == "session_authorization" {
			return nil
		}
	}
	if def.Name != "transaction_read_only" {
		return s.settings.set(def.Name, value, local)
	}
	text, err := def.canonical(value)
	if err != nil || s.block == noBlock {
		return err
	}
	return s.setAccess(&transactionStmt{readOnly: new(text == "on")})
}

// lock runs LOCK TABLE: who else may come is the same afterwards.
func (s *Session) lock(n *lockStmt, together bool) error {
	if s.block == noBlock && !together {
		return pgwire.Errorf(pgwire.CodeNoActiveSQLTransaction, "LOCK TABLE can only be used in transaction blocks")
	}
	for _, name := range n.tables {
		if s.catalog.described().relation(name) == nil {
			return pgwire.Errorf(pgwire.CodeUndefinedTable, `relation "%s" does not exist`, name)
		}
	}
	return nil
}

// setConstraints runs SET CONSTRAINTS, which changes nothing: no constraint can be deferred.
func (s *Session) setConstraints(n *constraintsStmt, together bool) error {
	if s.block == noBlock && !together {
		s.warn(pgwire.CodeNoActiveSQLTransaction, "SET CONSTRAINTS can only be used in transaction blocks")
	}
	switch {
	case len(n.names) == 0:
		return nil
	case n.names[0] == "kv_pkey":
		return pgwire.Errorf(pgwire.CodeWrongObjectType, `constraint "%s" is not deferrable`, n.names[0])
	}
	return pgwire.Errorf(pgwire.CodeUndefinedObject, `constraint "%s" does not exist`, n.names[0])
}

func (s *Session) runShow(n *showStmt) error {
	out := &s.encoder
	if n.name == "all" {
		_, err := s.showAll(out)
		return err
	}
	value, err := s.show(n.name)
	if err != nil {
		return err
	}
	out.begin()
	out.add(TextValue(value))
	return out.send()
}

// discard runs DISCARD and its like. There are no temporary tables, sequences, plans or channels to speak of.
func (s *Session) discard(n *discardStmt, together bool) error {
	if n.verb != "DISCARD ALL" {
		return nil
	}
	if s.block != noBlock || together {
		return pgwire.Errorf(pgwire.CodeActiveSQLTransaction, "DISCARD ALL cannot run inside a transaction block")
	}
	if err := s.settings.resetAll(); err != nil {
		return err
	}
	if c, ok := s.conn.(CursorKeeper); ok {
		c.CloseCursors()
	}
	if d, ok := s.conn.(Deallocator); ok {
		d.DeallocateAll()
	}
	return nil
}

func (s *Session) deallocate(n *deallocateStmt) error {
	d, ok := s.conn.(Deallocator)
	if !ok {
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "DEALLOCATE is not supported").
			WithHint("Close the statement with the protocol's Close message.")
	}
	if n.name == "" {
		d.DeallocateAll()
	} else if !d.Deallocate(n.name) {
		return pgwire.Errorf(pgwire.CodeInvalidSQLStatementName, `prepared statement "%s" does not exist`, n.name)
	}
	return nil
}

// explain runs EXPLAIN. Its result is a line per row, as PostgreSQL's EXPLAIN prints.
func (s *Session) explain(ctx context.Context, n *explainStmt) error {
	x, ok := s.backend.(Explainer)
	if !ok {
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "EXPLAIN is not supported")
	}
	lines, err := explained(ctx, x, n)
	if err != nil {
		return err
	}
	for _, line := range lines {
		s.encoder.begin()
		s.encoder.add(TextValue(line))
		if err := s.encoder.send(); err != nil {
			return err
		}
	}
	return nil
}

func explained(ctx context.Context, x Explainer, n *explainStmt) ([]string, error) {
	if n.lsn == nil {
		return x.ExplainFailover(ctx)
	}
	lsn, err := wal.ParseLSN(*n.lsn)
	if err != nil {
		return nil, invalidInput(PgLSN, *n.lsn)
	}
	return x.ExplainCommit(ctx, lsn)
}

// waitForLSN runs WAIT FOR LSN. Its result is one row that says success.
func (s *Session) waitForLSN(ctx context.Context, n *waitStmt) error {
	w, ok := s.backend.(LSNWaiter)
	if !ok {
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "WAIT FOR LSN is not supported")
	}
	lsn, err := wal.ParseLSN(n.lsn)
	if err != nil {
		return invalidInput(PgLSN, n.lsn)
	}
	if s.txn != nil {
		return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "WAIT FOR must be only called without an active or registered snapshot").
			WithDetail("The transaction reads the table as it was at its first read or write, however long it waits.").
			WithHint("Wait before BEGIN, or as the first statement after it.")
	}
	timeout := pgwire.Errorf(pgwire.CodeQueryCanceled, "timed out while waiting for target LSN %s to be replayed", lsn)
	if n.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(n.timeout)*time.Millisecond, timeout)
		defer cancel()
	}
	if err := w.WaitLSN(ctx, lsn); err != nil {
		if context.Cause(ctx) == error(timeout) {
			return timeout
		}
		return err
	}
	s.encoder.begin()
	s.encoder.add(TextValue("success"))
	return s.encoder.send()
}
