package walsender

import (
	"context"

	"github.com/longship-db/longship/pgwire"
)

type Backuper interface{ x() }

func (s *Session) baseBackup(ctx context.Context, cmd baseBackup) error {
	return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "later")
}
