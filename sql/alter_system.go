package sql

import (
	"context"

	"github.com/longship-db/longship/pgwire"
)

// alterSystem runs ALTER SYSTEM (PostgreSQL 15 manual, "ALTER SYSTEM"). Unlike PostgreSQL's it is for all
// nodes, and any of them takes it.
//
// Together with other statements of a query string it would be part of their implicit transaction, which
// it cannot be.
func (s *Session) alterSystem(ctx context.Context, n *alterSystemStmt, together bool) error {
	if s.block != noBlock || together {
		return pgwire.Errorf(pgwire.CodeActiveSQLTransaction, "ALTER SYSTEM cannot run inside a transaction block")
	}
	backend, ok := s.backend.(SystemAlterer)
	if !ok {
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "ALTER SYSTEM is not supported")
	}
	server := s.settings.server
	if n.name == "" {
		return backend.ResetSetting(ctx, "")
	}
	folded := foldName(n.name)
	def, err := server.alterable(n.name)
	if err != nil && n.values == nil && backend.SettingWritten(folded) {
		return backend.ResetSetting(ctx, folded)
	}
	if err != nil {
		return err
	}
	if n.values == nil {
		return backend.ResetSetting(ctx, folded)
	}
	value, err := def.written(n.values)
	if judge, ok := s.backend.(SettingJudge); ok && err == nil {
		var warnings []string
		warnings, err = judge.JudgeSetting(folded, value)
		for _, w := range warnings {
			s.warn(pgwire.CodeWarning, w)
		}
	}
	if err == nil {
		err = backend.WriteSetting(ctx, folded, value)
	}
	if err == nil && server.Own(def.Name) {
		s.conn.Notice(pgwire.Errorf(pgwire.CodeSuccessfulCompletion,
			`parameter "%s" is set on the command line of this node, which comes before the cluster's value`, def.Name).
			WithSeverity(pgwire.SeverityNotice).
			WithHint("Start the node without the flag for the cluster's value to apply to it."))
	}
	return err
}
