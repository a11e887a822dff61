package sql

import (
	"context"

	"github.com/longship-db/longship/pgwire"
)

// A savepoint is what ROLLBACK TO goes back to (PostgreSQL 15 manual, "SAVEPOINT"). It is a mark in what
// the transaction has written, which is in memory until the commit; the same goes for settings.
type savepoint struct {
	name    string
	mark    int // of the transaction's writes
	written int // bytes of them, with the savepoint
	access  accessMode
	setting int // mark of the changes of settings
}

// savepoint runs SAVEPOINT, RELEASE and ROLLBACK TO.
func (s *Session) savepoint(ctx context.Context, n *savepointStmt) error {
	if s.block == noBlock {
		name := map[string]string{"SAVEPOINT": "SAVEPOINT", "RELEASE": "RELEASE SAVEPOINT", "ROLLBACK": "ROLLBACK TO SAVEPOINT"}[n.verb]
		return pgwire.Errorf(pgwire.CodeNoActiveSQLTransaction, "%s can only be used in transaction blocks", name)
	}
	if n.verb == "SAVEPOINT" {
		return s.addSavepoint(ctx, n.name)
	}
	i := len(s.savepoints) - 1
	for i >= 0 && s.savepoints[i].name != n.name { // the latest of that name hides others
		i--
	}
	if i < 0 {
		return pgwire.Errorf(pgwire.CodeInvalidSavepointSpecification, `savepoint "%s" does not exist`, n.name)
	}
	if n.verb == "ROLLBACK" {
		s.closeCursors(i + 1)
		s.rollbackTo(&s.savepoints[i])
		s.savepoints = s.savepoints[:i+1]
		return nil
	}
	for _, c := range s.cursors {
		c.depth = min(c.depth, i) // what was made since belongs to what is around
	}
	s.letGoWrites(s.written - (len(s.savepoints)-i)*writeSize) // the savepoints, and none of the writes since
	if s.savepoints = s.savepoints[:i]; i == 0 {
		s.txn.ReleaseSavepoints()
	}
	return nil
}

// maxSavepoints bounds those of one block. A savepoint costs little, but a client may forget to release.
const maxSavepoints = 100_000

func (s *Session) addSavepoint(ctx context.Context, name string) error {
	if len(s.savepoints) == maxSavepoints {
		return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "a transaction cannot have more than %d savepoints", maxSavepoints).
			WithHint("Release those no longer needed.")
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.holdWrite(0); err != nil {
		return err
	}
	s.savepoints = append(s.savepoints, savepoint{
		name: name, mark: s.txn.Savepoint(), written: s.written, access: s.access, setting: s.settings.savepoint(),
	})
	return nil
}

// rollbackTo makes everything as it was at p. What was read since still counts when the transaction commits.
func (s *Session) rollbackTo(p *savepoint) {
	s.txn.RollbackTo(p.mark)
	s.letGoWrites(p.written)
	s.access = p.access
	s.settings.rollbackTo(p.setting)
	s.block = inBlock
}
