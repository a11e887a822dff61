package sql

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/longship-db/longship/pgwire"
)

// A CursorKeeper is a Conn that has cursors by name, for DECLARE, FETCH, MOVE and CLOSE; *pgwire.Conn is one.
type CursorKeeper interface {
	DeclareCursor(name string, columns []pgwire.Column, c pgwire.Cursor) error
	Cursor(ctx context.Context, name string) (pgwire.Cursor, error)
	CursorColumns(name string) []pgwire.Column // nil if there is none of that name
	CloseCursor(name string) error
	CloseCursors()
}

// A cursor is a SELECT that stops between two rows. It is a coroutine: the query runs while a row is wanted, and
// stands still while other statements of the transaction run. It sees the table as it was for its transaction
// when it was opened, as in PostgreSQL, where cursors are insensitive: what the transaction writes later, it does
// not see. What it has gone through counts as read when the transaction commits.
//
// Rows are held in memory only if they are sorted, or looked up by key, or if the cursor is declared with SCROLL or WITH HOLD.
type cursor struct {
	session *Session
	plan    *selectPlan
	depth   int // how many savepoints there were when it was made
	place   int // in session.cursors

	// The query. next and stop are iter.Pull2's, yield is the coroutine's end of it.
	ctx       fetchContext
	env       env
	selection selection
	yield     func(row []Value, err error) bool
	next      func() ([]Value, error, bool)
	stop      func()
	reading   bool // its view of the table is settled
	held      int  // bytes of rows, see maxCursorBytes
	text      int  // bytes of the statement that has declared it

	// What a cursor that scrolls or is held has of the rows: all of them.
	kept    bool
	rows    [][]Value
	scrolls bool
	holds   bool // past the end of its transaction

	at     int  // the row that it stands on, from 1; before the first 0, after the last one more
	began  bool // a row was asked for
	atEnd  bool // there are no more
	failed bool
	closed bool
}

// A fetchContext is the context of whatever statement is fetching.
type fetchContext struct{ context.Context }

// maxCursorBytes bounds what the open cursors of a session hold together of rows that are sorted or looked up.
const maxCursorBytes = 64 << 20

// errCursorClosed ends a query whose cursor is closed.
var errCursorClosed = errors.New("cursor is closed")

// Open implements pgwire.Session.
func (s *Session) Open(ctx context.Context, st pgwire.Statement, args pgwire.Args) (pgwire.Cursor, error) {
	stmt, ok := st.(*statement)
	if !ok {
		return nil, errForeignStatement
	}
	if stmt.Empty() {
		return nil, nil
	}
	if err := s.refuseInFailedBlock(stmt); err != nil {
		return nil, err
	}
	s.settings.refresh()
	ctx, cancel := s.withTimeout(ctx)
	defer cancel()
	s.pace = pacer{ctx: ctx}
	if err := stmt.analyze(); err != nil {
		return nil, err
	}
	plan, ok := stmt.plan.(*selectPlan)
	if !ok {
		return nil, nil
	}
	if err := s.bind(stmt, args); err != nil {
		return nil, timedOut(ctx, err)
	}
	defer func() { s.params = emptied(s.params) }() // and leave the rest to the FETCH that may be running
	c, err := s.openCursor(ctx, plan)
	if err != nil {
		return nil, timedOut(ctx, err)
	}
	return c, nil
}

// withTimeout bounds ctx by statement_timeout.
func (s *Session) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := s.settings.timeout; d > 0 {
		return context.WithTimeoutCause(ctx, d, errStatementTimeout)
	}
	return ctx, func() {}
}

// openCursor opens a cursor with the parameters in s.params. The table is read from here on, though nothing is
// computed before a row is fetched.
func (s *Session) openCursor(ctx context.Context, plan *selectPlan) (*cursor, error) {
	c := &cursor{session: s, plan: plan, depth: len(s.savepoints), place: len(s.cursors), reading: !plan.readsTable()}
	c.ctx.Context = ctx
	c.env = env{ctx: &c.ctx, session: s, params: slices.Clone(s.params), cursor: c}
	c.next, c.stop = iter.Pull2(c.query)
	s.cursors = append(s.cursors, c)
	if c.reading {
		return c, nil
	}
	err := s.begin(ctx)
	if err == nil {
		_, err, _ = c.next() // up to where it has begun to read
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// openKept opens a cursor of which all rows are read at once, and kept.
func (s *Session) openKept(ctx context.Context, plan *selectPlan) (*cursor, error) {
	c := &cursor{session: s, plan: plan, depth: len(s.savepoints), place: len(s.cursors), reading: true, kept: true, stop: func() {}}
	c.ctx.Context = ctx
	c.env = env{ctx: &c.ctx, session: s, params: slices.Clone(s.params), cursor: c}
	s.cursors = append(s.cursors, c)
	var err error
	if plan.readsTable() {
		err = s.begin(ctx)
	}
	if err == nil {
		c.rows, err = plan.collect(&c.env)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	c.next = c.nextKept
	return c, nil
}

// nextKept goes on to the next row that is kept.
func (c *cursor) nextKept() ([]Value, error, bool) {
	if c.at = min(c.at+1, len(c.rows)+1); c.at > len(c.rows) {
		return nil, nil, false
	}
	return c.rows[c.at-1], nil, true
}

// query is the query, as a coroutine.
func (c *cursor) query(yield func([]Value, error) bool) {
	c.yield = yield
	var txn Txn
	if c.plan.readsTable() {
		txn = c.session.txn
	}
	run := c.stream
	if c.plan.nested {
		run = c.gather
	}
	if err := run(txn); err != nil && err != errCursorClosed {
		yield(nil, err)
	}
}

// stream gives the rows as they are found.
func (c *cursor) stream(txn Txn) error {
	_, err := c.plan.run(&c.env, &c.selection, txn)
	return err
}

// gather finds all rows before it gives any: what subqueries read of kv is read when the cursor is opened, too.
func (c *cursor) gather(Txn) error {
	c.env.cursor.reading = true // until all is read nothing is given
	rows, err := c.plan.collect(&c.env)
	if err != nil {
		return err
	}
	if err := c.give(nil); err != nil {
		return err
	}
	for _, row := range rows {
		if err := c.give(row); err != nil {
			return err
		}
	}
	return nil
}

// begin stops the query once its view of the table is settled, before anything is computed. It is called when
// the first row has been read, or all those that are looked up by key, or when there are none.
func (c *cursor) begin() error {
	if c == nil || c.reading {
		return nil
	}
	c.reading = true
	return c.give(nil)
}

// give stops the query until the next row is wanted.
func (c *cursor) give(row []Value) error {
	if !c.yield(row, nil) {
		return errCursorClosed
	}
	return nil
}

// hold counts n more bytes of rows that are held, or less if n is negative. The error is a 53200.
func (c *cursor) hold(n int) error {
	if err := c.session.holder.Hold(n); err != nil {
		return err
	}
	c.held += n
	if c.session.cursorBytes += n; c.session.cursorBytes > maxCursorBytes {
		return pgwire.Errorf(pgwire.CodeOutOfMemory, "the open cursors of this session hold more than %d bytes", maxCursorBytes).
			WithHint("Sort by key, or not at all: such rows are read when they are fetched. Or select fewer rows with LIMIT.")
	}
	return nil
}

// Fetch implements pgwire.Cursor.
func (c *cursor) Fetch(ctx context.Context, limit int, formats []int16, out pgwire.RowSink) (int, error) {
	s := c.session
	s.settings.refresh()
	ctx, cancel := s.withTimeout(ctx)
	defer cancel()
	s.encoder.sink, s.encoder.formats = out, formats
	defer s.encoder.forget()
	if limit == 0 {
		limit = math.MaxInt
	}
	n, err := c.fetch(ctx, limit, &s.encoder)
	return n, timedOut(ctx, err)
}

// fetch sends rows, up to the limit, to out; nil only skips them.
func (c *cursor) fetch(ctx context.Context, limit int, out *encoder) (n int, err error) {
	if c.failed || c.closed {
		return 0, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "portal cannot be run")
	}
	c.began, c.session.pace = true, pacer{ctx: ctx}
	for c.ctx.Context = ctx; n < limit && !c.atEnd; n++ {
		row, err, ok := c.next()
		switch {
		case err != nil:
			c.failed = true
			return n, err
		case !ok:
			c.atEnd = true
			c.passed()
			return n, nil
		}
		if c.passed(); out == nil {
			continue
		}
		if err := out.sendRow(row); err != nil {
			c.failed = true
			return n, err
		}
	}
	return n, nil
}

// Close implements pgwire.Cursor.
func (c *cursor) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.stop()
	c.rows = nil
	c.session.cursorBytes -= c.held
	_ = c.session.holder.Hold(-c.held - c.text) // less, which cannot fail
	c.session.forgetCursor(c)
	c.selection, c.env, c.ctx = selection{}, env{}, fetchContext{} // they hold rows
}

// forgetCursor puts the last of the open cursors where c is.
func (s *Session) forgetCursor(c *cursor) {
	end := len(s.cursors) - 1
	last := s.cursors[end]
	s.cursors[c.place], last.place = last, c.place
	s.cursors[end] = nil
	s.cursors = s.cursors[:end]
}

// Closed implements pgwire.Cursor.
func (c *cursor) Closed() bool { return c.closed }

// Held implements pgwire.Cursor.
func (c *cursor) Held() bool { return c.depth == outlived && !c.closed }

// outlived is the depth of a cursor WITH HOLD whose transaction has committed.
const outlived = -1

// onRow reports whether the cursor stands on a row.
func (c *cursor) onRow() bool {
	if c.kept {
		return c.at > 0 && c.at <= len(c.rows)
	}
	return c.began && !c.atEnd
}

// move is FETCH and, without out, MOVE. It returns how many rows were passed.
func (c *cursor) move(ctx context.Context, n *fetchStmt, out *encoder) (int, error) {
	if n.motion == moveAbsolute {
		return c.moveTo(ctx, n.count, out)
	}
	count, back := n.count, n.motion == moveBackward
	switch {
	case count == 0:
		return c.again(out)
	case n.motion == moveRelative:
		back = count < 0
		if err := c.skip(ctx, max(count, -count)-1, back); err != nil {
			return 0, err
		}
		count = 1
	}
	if back {
		return c.back(count, out)
	}
	c.atEnd = c.atEnd && !c.kept
	return c.fetch(ctx, count, out)
}

// skip passes rows that nobody wants to see.
func (c *cursor) skip(ctx context.Context, count int, back bool) (err error) {
	switch {
	case count == 0:
	case back:
		_, err = c.back(count, nil)
	default:
		_, err = c.fetch(ctx, count, nil)
	}
	return err
}

// passed counts a row of those that are not kept, or the end, that the cursor has come to.
func (c *cursor) passed() {
	if !c.kept {
		c.at++
	}
}

// forwardTo is FETCH ABSOLUTE of a cursor that does not scroll: a row that it has not come to.
func (c *cursor) forwardTo(ctx context.Context, n int, out *encoder) (int, error) {
	switch {
	case n == 0 && c.at == 0:
		return 0, nil
	case n <= c.at:
		return 0, errOnlyForward()
	}
	if err := c.skip(ctx, n-c.at-1, false); err != nil {
		return 0, err
	}
	return c.fetch(ctx, 1, out)
}

// moveTo is FETCH ABSOLUTE: row number n, from the last on if n is negative.
func (c *cursor) moveTo(ctx context.Context, n int, out *encoder) (int, error) {
	if !c.scrolls {
		return c.forwardTo(ctx, n, out)
	}
	if n < 0 {
		n = max(len(c.rows)+1+n, 0)
	}
	if c.at, c.atEnd, c.began = max(min(n, len(c.rows)+1)-1, 0), false, true; n == 0 {
		return 0, nil
	}
	return c.fetch(ctx, 1, out)
}

// again is FETCH 0, the row that the cursor stands on; MOVE 0 tells whether it stands on one.
func (c *cursor) again(out *encoder) (int, error) {
	switch {
	case !c.onRow():
		return 0, nil
	case out == nil:
		return 1, nil
	case !c.scrolls:
		return 0, errOnlyForward()
	}
	return 1, out.sendRow(c.rows[c.at-1])
}

// back fetches rows backward, and nothing but skips them without out.
func (c *cursor) back(count int, out *encoder) (n int, err error) {
	if !c.scrolls {
		return 0, errOnlyForward()
	}
	c.atEnd, c.began = false, true
	for ; n < count && c.at > 0; n++ {
		if c.at--; c.at == 0 {
			return n, nil
		}
		if out != nil {
			if err := out.sendRow(c.rows[c.at-1]); err != nil {
				c.failed = true
				return n, err
			}
		}
	}
	return n, nil
}

func errOnlyForward() error {
	return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "cursor can only scan forward").
		WithHint("Declare it with SCROLL option to enable backward scan.")
}

// stopCursors closes the cursors that read the table, before their transaction ends: what they have gone through is known
// only then.
func (s *Session) stopCursors() {
	for i := len(s.cursors) - 1; i >= 0; i-- {
		if !s.cursors[i].holds {
			s.cursors[i].Close()
		}
	}
}

// keepCursors lets those WITH HOLD outlive their transaction, which has committed.
func (s *Session) keepCursors() {
	for _, c := range s.cursors {
		if c.holds {
			c.depth = outlived
		}
	}
}

// closeCursors closes the cursors made when there were at least so many savepoints. That comes before the end
// of their transaction: what they have gone through is known only now.
func (s *Session) closeCursors(depth int) {
	for i := len(s.cursors) - 1; i >= 0; i-- { // the last one, which takes the place of what is closed, is one that stays
		if s.cursors[i].depth >= depth {
			s.cursors[i].Close()
		}
	}
}
