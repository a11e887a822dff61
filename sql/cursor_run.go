package sql

import (
	"context"

	"github.com/longship-db/longship/pgwire"
)

// declare runs DECLARE.
func (s *Session) declare(ctx context.Context, stmt *statement, n *declareStmt) error {
	if s.block == noBlock && !stmt.together && !n.hold {
		return pgwire.Errorf(pgwire.CodeNoActiveSQLTransaction, "DECLARE CURSOR can only be used in transaction blocks")
	}
	conn, err := s.cursorKeeper()
	if err != nil {
		return err
	}
	open := s.openCursor
	if n.scroll || n.hold {
		open = s.openKept
	}
	c, err := open(ctx, stmt.query)
	if err != nil {
		return err
	}
	size := len(stmt.text) + stmt.size
	if err := s.holder.Hold(size); err != nil {
		c.Close()
		return err
	}
	c.text = size
	if err := conn.DeclareCursor(n.name, stmt.queryColumns, c); err != nil {
		c.Close()
		return err
	}
	c.scrolls, c.holds = n.scroll, n.hold
	return nil
}

// fetch runs FETCH and MOVE.
func (s *Session) fetch(ctx context.Context, n *fetchStmt) (tag string, err error) {
	conn, err := s.cursorKeeper()
	if err != nil {
		return "", err
	}
	found, err := conn.Cursor(ctx, n.name)
	if err != nil {
		return "", err
	}
	c, ok := found.(*cursor)
	if !ok {
		return "", errForeignStatement
	}
	if c.failed {
		return "", pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, `portal "%s" cannot be run`, n.name)
	}
	out := &s.encoder
	if n.move {
		out = nil
	}
	rows, err := c.move(ctx, n, out)
	return countTag(n.tag(), int64(rows)), err
}

// closeCursor runs CLOSE.
func (s *Session) closeCursor(n *closeStmt) error {
	conn, err := s.cursorKeeper()
	switch {
	case err != nil:
		return err
	case n.name == "":
		conn.CloseCursors()
		return nil
	}
	return conn.CloseCursor(n.name)
}

func (s *Session) cursorKeeper() (CursorKeeper, error) {
	conn, ok := s.conn.(CursorKeeper)
	if !ok {
		return nil, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cursors are not supported")
	}
	return conn, nil
}
