package pgwire

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A conversation is the SQL protocol's state on one connection. One goroutine owns it.
type conversation struct {
	*Conn
	session Session
	idler   Idler // session, or nil

	statements map[string]*prepared // the unnamed one under ""
	portals    map[string]*portal   // likewise
	held       int                  // bytes kept for the two, bounded by MaxSessionMemory

	pending  execution // an Execute that waits for the message behind it
	failed   bool      // an error was reported since the last Finish
	skipping bool      // …in extended query: nothing counts until Sync
	lost     bool      // a message came where it means nothing: the connection ends with the error
	sink     rowSink   // of the running Execute

	decoded message // that is acted on
	query   pgproto3.Query
}

// A message of extended query.
type message struct {
	parse    pgproto3.Parse
	bind     pgproto3.Bind
	describe pgproto3.Describe
	execute  pgproto3.Execute
	close    pgproto3.Close
}

// serveSQL is the message loop of an SQL connection.
func (c *Conn) serveSQL(session Session) error {
	v := &conversation{
		Conn:       c,
		session:    session,
		statements: make(map[string]*prepared),
		portals:    make(map[string]*portal),
	}
	v.idler, _ = session.(Idler)
	c.sql = v
	if c.in.socket != nil {
		c.in.socket.out = &c.out
	}
	if err := c.welcome(session, session.TxStatus()); err != nil {
		return err
	}
	for {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		typ, body, err := v.next()
		tooLong, ok := survivable(err)
		if err != nil && !ok {
			return err
		}
		if err := v.message(typ, body, tooLong); err != nil {
			return err
		}
		if c.out.err != nil {
			return c.out.err
		}
	}
}

// next reads the next message, within the session's limit if it has one.
func (v *conversation) next() (typ byte, body []byte, err error) {
	if v.idler != nil {
		if limit, late := v.idler.IdleLimit(); limit > 0 {
			return v.nextWithin(limit, late)
		}
	}
	if err := v.in.await(); err != nil {
		return 0, nil, err
	}
	return v.in.next(v.server.cfg.MaxMessageLen)
}

func (v *conversation) nextWithin(limit time.Duration, late *Error) (typ byte, body []byte, err error) {
	if !v.setReadDeadline(time.Now().Add(limit)) {
		return 0, nil, v.ctx.Err()
	}
	if err = v.in.await(); err == nil {
		typ, body, err = v.in.next(v.server.cfg.MaxMessageLen)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && v.ctx.Err() == nil {
		return 0, nil, late
	}
	v.setReadDeadline(time.Time{})
	return typ, body, err
}

// message acts on one message, after what it has kept waiting. tooLong is the error if its body was
// too long to be read. The error ends the connection.
func (v *conversation) message(typ byte, body []byte, tooLong *Error) error {
	if v.pending.portal != nil {
		if err := v.runPending(typ == 'S'); err != nil {
			return err
		}
	}
	if v.skipping && typ != 'S' && typ != 'X' {
		if typ == 'H' { // the error is for a client that waits for it before it sends Sync
			return v.Flush()
		}
		return nil
	}
	switch typ {
	case 'Q':
		return v.simpleQuery(body, tooLong)
	case 'P', 'B', 'D', 'E', 'C':
		return v.extendedMessage(typ, body, tooLong)
	case 'H':
		if len(body) > 0 {
			v.skipping = true
			return v.fail(v.ctx, malformed(nil))
		}
		return v.Flush()
	case 'S':
		return v.sync(body)
	case 'F':
		if err := v.fail(v.ctx, Errorf(CodeFeatureNotSupported, "function calls are not supported").
			WithHint("Call the function in a SELECT.")); err != nil {
			return err
		}
		return v.sync(nil)
	case 'X':
		return errDone
	}
	return nil // copy messages outside COPY, as they come after one that failed
}

// simpleQuery runs the statements of a query string, one implicit transaction, and ends in
// ReadyForQuery.
func (v *conversation) simpleQuery(body []byte, tooLong *Error) error {
	v.dropPortal("")
	v.dropStatement("")
	return v.lastWork(func(ctx context.Context) error { return v.runString(ctx, body, tooLong) })
}

// sync ends a round of extended query.
func (v *conversation) sync(body []byte) error {
	v.skipping = false
	if len(body) > 0 {
		return v.lastWork(func(context.Context) error { return malformed(nil) })
	}
	return v.lastWork(nil)
}

// lastWork does the last work of a round, if there is any, ends the implicit transaction and tells
// the client that it is its turn.
func (v *conversation) lastWork(work func(context.Context) error) error {
	ctx := v.beginWork("")
	var err error
	if work != nil {
		if err = work(ctx); err != nil {
			err = v.fail(ctx, err)
		}
	}
	if err == nil {
		err = v.finish(ctx)
	}
	v.endWork() // before the client knows: a cancel request that comes after its ReadyForQuery is void
	if err != nil {
		return err
	}
	return v.ready(v.session.TxStatus())
}

func (v *conversation) runString(ctx context.Context, body []byte, tooLong *Error) error {
	if tooLong != nil {
		return tooLong
	}
	held := 0
	hold := func(n int) error {
		err := v.share.hold(n)
		if err == nil {
			held += n
		}
		return err
	}
	defer func() { _ = v.share.hold(-held) }()
	if err := hold(len(body)); err != nil { // of the text, which is a copy
		return err
	}
	if err := v.query.Decode(body); err != nil {
		return malformed(err)
	}
	v.setQuery(briefly(v.query.String))
	statements, err := v.session.ParseAll(ctx, v.query.String)
	v.query.String = "" // or an idle connection would hold it
	if err != nil {
		return err
	}
	for _, st := range statements {
		if err := hold(sizeOf(st)); err != nil {
			return err
		}
	}
	if len(statements) == 0 {
		v.Send(emptyQueryResponse)
	}
	for i, st := range statements {
		if st.Empty() {
			v.Send(emptyQueryResponse)
			continue
		}
		size := sizeOf(st)
		v.sink = rowSink{v: v, describe: st.Columns()}
		if err := hold(sizeOf(st) - size); err != nil { // what its analysis has made
			return err
		}
		tag, err := v.session.Execute(ctx, st, Args{}, &v.sink, i == len(statements)-1)
		if err != nil {
			return err
		}
		v.sink.describeOnce()
		v.out.commandComplete(tag)
	}
	return nil
}

// fail reports an error and has the session undo what it began. The error it returns ends the
// connection: a FATAL one, or that of a client that cannot be reached.
func (v *conversation) fail(ctx context.Context, err error) error {
	if v.out.err != nil {
		return v.out.err
	}
	e := clientError(ctx, err)
	if e.Severity == SeverityFatal {
		return e
	}
	v.logInternal(e)
	v.failed = true
	v.session.Fail()
	v.failPortals()
	v.sendError(e)
	if v.lost {
		return protocolViolation("terminating connection because protocol synchronization was lost").Fatal()
	}
	return nil
}

// logInternal logs what should not happen: an error that nobody gave an SQLSTATE.
func (c *Conn) logInternal(e *Error) {
	if e.Code == CodeInternalError {
		c.logger().Error("internal error", "err", e.Message, "cause", e.Err)
	}
}

// finish ends the implicit transaction. Its error ends the connection.
func (v *conversation) finish(ctx context.Context) error {
	if err := v.session.Finish(ctx); err != nil {
		e := clientError(ctx, err)
		if e.Severity == SeverityFatal {
			return e
		}
		v.logInternal(e)
		if !v.failed { // one error per round: what failed first is what the client must know
			v.sendError(e)
		}
	}
	v.failed = false
	if v.session.TxStatus() == 'I' {
		v.dropPortals() // they live as long as their transaction
	}
	return nil
}

// Messages without content.
var (
	parseComplete      = new(pgproto3.ParseComplete)
	bindComplete       = new(pgproto3.BindComplete)
	closeComplete      = new(pgproto3.CloseComplete)
	noData             = new(pgproto3.NoData)
	portalSuspended    = new(pgproto3.PortalSuspended)
	emptyQueryResponse = new(pgproto3.EmptyQueryResponse)
)
