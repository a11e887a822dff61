package pgwire

import "context"

// A Cursor is a SELECT of a Session that stops between two rows and goes on when more are fetched: a portal that
// is run under a row limit, or what DECLARE made. The end of its transaction closes it, but for what was declared WITH HOLD.
// One goroutine uses it, the session's.
type Cursor interface {
	// Fetch feeds the next rows to out, limit of them at most and all for 0, in the formats of an Args'
	// ResultFormats, and returns how many there were. After an error the cursor cannot be fetched from any more.
	Fetch(ctx context.Context, limit int, formats []int16, out RowSink) (int, error)
	// Close lets go of what the cursor holds. It may be called again.
	Close()
	// Closed reports whether it was closed, by Close or by its transaction: its name is free then.
	Closed() bool
	// Held reports whether it has outlived its transaction, which committed.
	Held() bool
}

// cursorCost is what a cursor that stops between rows is taken to cost, in bytes: a query with the stack it runs on,
// and an iterator of the table.
const cursorCost = 32 << 10

// runCursor acts on an Execute of a portal that stops between rows. Like PostgreSQL it calls the portal suspended
// when the limit was met, even if nothing is left, and counts rows anew each time.
func (v *conversation) runCursor(ctx context.Context, p *portal, maxRows int) error {
	v.sink = rowSink{v: v}
	n, err := p.cursor.Fetch(ctx, maxRows, p.args.ResultFormats, &v.sink)
	if err != nil {
		return err
	}
	if maxRows > 0 && n == maxRows {
		v.Send(portalSuspended)
	} else {
		v.out.commandComplete(recount("SELECT 0", n))
	}
	return nil
}

// lookUp finds a portal. One whose cursor went with its transaction is gone, too.
func (v *conversation) lookUp(name string) *portal {
	p := v.portals[name]
	if p != nil && v.isGone(p) {
		v.dropPortal(name)
		return nil
	}
	return p
}

// isGone reports whether the portal's cursor was closed by its transaction, of which more than a failure is left.
func (v *conversation) isGone(p *portal) bool {
	return p.cursor != nil && p.cursor.Closed() && v.session.TxStatus() != 'E'
}

// dropGone drops the portals whose cursors are gone.
func (v *conversation) dropGone() {
	for name, p := range v.portals {
		if v.isGone(p) {
			v.dropPortal(name)
		}
	}
}

// openCursor makes the portal a cursor, if it is a SELECT that has not been run.
func (v *conversation) openCursor(ctx context.Context, p *portal) error {
	if p.cursor != nil || p.ran || p.columns == nil {
		return nil
	}
	if err := checkFormats(p.args.ResultFormats); err != nil {
		return err
	}
	c, err := v.session.Open(ctx, p.ps.st, p.args)
	if c == nil || err != nil {
		return err
	}
	if err := v.hold(cursorCost); err != nil {
		c.Close()
		return err
	}
	p.cursor = c
	p.cost += cursorCost
	return nil
}

// Cursors and portals have their names in common, as in PostgreSQL: what DECLARE makes can be described, run and
// closed by messages, and FETCH, MOVE and CLOSE work on a portal that Bind has made. The methods below are for the
// session that runs such a statement, and only its own Execute may call them.

// DeclareCursor gives c a name. An error is 42P03, if there is a portal of that name, or 53200.
func (c *Conn) DeclareCursor(name string, columns []Column, cursor Cursor) error {
	v := c.sql
	if v.lookUp(name) != nil {
		return Errorf(CodeDuplicateCursor, `cursor "%s" already exists`, name)
	}
	p := &portal{name: name, columns: columns, cursor: cursor, cost: objectCost + cursorCost + len(name)}
	if err := v.hold(p.cost); err != nil {
		return err
	}
	v.portals[name] = p
	return nil
}

// CursorColumns describes the rows of a cursor, nil if there is no cursor of that name.
func (c *Conn) CursorColumns(name string) []Column {
	if p := c.sql.lookUp(name); p != nil {
		return p.columns
	}
	return nil
}

// Cursor returns the cursor of that name. An error is 34000 if there is none, or 55000 if it is a portal that does
// not stop between rows.
func (c *Conn) Cursor(ctx context.Context, name string) (Cursor, error) {
	p := c.sql.lookUp(name)
	if p == nil {
		return nil, noCursor(name)
	}
	if err := c.sql.openCursor(ctx, p); err != nil {
		return nil, err
	}
	if p.cursor == nil {
		return nil, Errorf(CodeObjectNotInPrerequisiteState, `portal "%s" is not a SELECT that can be fetched from`, name)
	}
	return p.cursor, nil
}

// CloseCursor closes the cursor of that name. The error is 34000 if there is none.
func (c *Conn) CloseCursor(name string) error {
	if c.sql.lookUp(name) == nil {
		return noCursor(name)
	}
	c.sql.dropPortal(name)
	return nil
}

// CloseCursors closes all that have a name; the unnamed portal may be the one that is running.
func (c *Conn) CloseCursors() {
	for name := range c.sql.portals {
		if name != "" {
			c.sql.dropPortal(name)
		}
	}
}

func noCursor(name string) *Error {
	return Errorf(CodeInvalidCursorName, `cursor "%s" does not exist`, name)
}
