package sql

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// A Conn is what a Session needs of its connection; *pgwire.Conn has it.
type Conn interface {
	SetParameter(name, value string) // reports a changed setting
	Notice(e *pgwire.Error)
}

// A Deallocator is a Conn that can drop prepared statements, for DEALLOCATE and DISCARD.
type Deallocator interface {
	Deallocate(name string) bool // false if there is none
	DeallocateAll()
}

// A Waiter is a Conn that tells others what its session waits for, nil for nothing in particular; *pgwire.Conn is one.
type Waiter interface {
	Wait(e *pgwire.WaitEvent)
}

// An Identity is who a session belongs to, from the start-up packet.
type Identity struct {
	User, Database string
	PID            int32
	Params         map[string]string // settings, by name
}

// A Session runs the statements of one connection. It implements pgwire.Session and
// pgwire.Reporter. One goroutine uses it.
type Session struct {
	conn     Conn
	holder   Holder // conn, if it keeps account
	id       Identity
	backend  Backend
	catalog  *Catalog
	settings *sessionSettings

	// The transaction. Outside of a block txn is the implicit transaction of the statements since
	// the last Finish, if one of them needed it.
	txn    Txn
	block  blockState
	access accessMode // of the block
	clock  time.Time  // now() of the transaction; zero until asked for

	savepoints []savepoint // of the block, oldest first

	cursors     []*cursor // open ones
	cursorBytes int       // what they hold, see maxCursorBytes

	held                 int // bytes of rows that the running statement holds
	written, writtenHeld int // bytes of the transaction's writes, and how many of them are counted
	readHeld             int // bytes counted for remembering what it has read

	last lastCommit

	meter *meter // of EXPLAIN ANALYZE; nil else
	pace  pacer  // of the statement

	entered bool   // a transaction is under way, which is counted when it ends
	counts  counts // what it has done

	// Memory reused from one statement to the next.
	env       env
	params    []Value
	encoder   encoder
	selection selection
	writing   writing
	keys      []string
}

// A blockState says whether statements are inside BEGIN … COMMIT.
type blockState byte

const (
	noBlock     blockState = 'I'
	inBlock     blockState = 'T'
	failedBlock blockState = 'E' // everything up to ROLLBACK or COMMIT is refused
)

// An accessMode is what BEGIN or SET TRANSACTION said of writing.
type accessMode uint8

const (
	accessDefault accessMode = iota // default_transaction_read_only decides
	accessReadOnly
	accessReadWrite
)

var (
	_ pgwire.Session  = (*Session)(nil)
	_ pgwire.Reporter = (*Session)(nil)
	_ pgwire.Idler    = (*Session)(nil)
)

// NewSession returns the session of a new connection. The error is a FATAL *pgwire.Error for a
// start-up parameter that is unknown or has a bad value.
func NewSession(conn Conn, backend Backend, id Identity) (*Session, error) {
	s := &Session{
		conn: conn, id: id, backend: backend, catalog: backend.Catalog(),
		block: noBlock,
	}
	if s.holder, _ = conn.(Holder); s.holder == nil {
		s.holder = anything{}
	}
	s.settings = newSessionSettings(s.catalog.Settings, conn.SetParameter, s.holder.Hold)
	s.encoder = encoder{session: s, buf: make([]byte, 0, 64)}
	s.env.session = s
	s.selection.out = &s.encoder
	for name, value := range id.Params {
		if err := s.settings.connect(name, value); err != nil {
			if e, ok := errors.AsType[*pgwire.Error](err); ok {
				return nil, e.Fatal()
			}
			return nil, err
		}
	}
	return s, nil
}

// Parse implements pgwire.Session.
func (s *Session) Parse(ctx context.Context, text string, paramTypes []uint32) (pgwire.Statement, error) {
	s.pace = pacer{ctx: ctx}
	st, err := s.parseOne(text, paramTypes)
	if err != nil {
		return nil, err
	}
	if err := s.refuseInFailedBlock(st); err != nil {
		return nil, err
	}
	if err := st.analyze(); err != nil {
		return nil, err
	}
	return st, nil
}

// parseOne returns the one statement of a text, which may have parameters.
func (s *Session) parseOne(text string, paramTypes []uint32) (*statement, error) {
	if shared := s.catalog.shared.get(text, paramTypes, false); shared != nil {
		return &statement{parsed: shared, session: s}, nil
	}
	nodes, size, err := s.parse(text)
	if err != nil {
		return nil, err
	}
	if len(nodes) > 1 {
		return nil, pgwire.Errorf(pgwire.CodeSyntaxError, "cannot insert multiple commands into a prepared statement")
	}
	st := s.newStatement(parsed{text: text, size: size, declared: slices.Clone(paramTypes)})
	st.share = true
	if len(nodes) == 1 {
		st.node = nodes[0]
	}
	return st, nil
}

// parse reads a query string within the memory and the time there is. Who keeps the statements counts size again.
func (s *Session) parse(text string) (nodes []statementNode, size int, err error) {
	end := s.timed()
	nodes, size, err = parseAll(text, s.holder.Hold, &s.pace)
	_ = s.holder.Hold(-size)
	return nodes, size, end(err)
}

// timed bounds what is done until its result is called, with what has come of it, by statement_timeout.
func (s *Session) timed() (end func(err error) error) {
	s.settings.refresh()
	if s.settings.timeout == 0 {
		return func(err error) error { return err }
	}
	outer := s.pace
	ctx, cancel := s.withTimeout(outer.ctx)
	s.pace = pacer{ctx: ctx}
	return func(err error) error {
		err = timedOut(ctx, err)
		cancel()
		s.pace = outer
		return err
	}
}

func (s *Session) newStatement(p parsed) *statement { return &statement{parsed: &p, session: s} }

// ParseAll implements pgwire.Session.
func (s *Session) ParseAll(ctx context.Context, text string) ([]pgwire.Statement, error) {
	s.pace = pacer{ctx: ctx}
	if shared := s.catalog.shared.get(text, nil, true); shared != nil {
		return []pgwire.Statement{&statement{parsed: shared, session: s}}, nil
	}
	nodes, size, err := s.parse(text)
	if err != nil {
		return nil, err
	}
	list := make([]pgwire.Statement, len(nodes))
	for i, node := range nodes {
		st := s.newStatement(parsed{text: text, node: node, noParams: true, size: size / len(nodes)})
		st.together = len(nodes) > 1
		st.share = !st.together
		list[i] = st
	}
	return list, nil
}

// Execute implements pgwire.Session.
func (s *Session) Execute(ctx context.Context, st pgwire.Statement, args pgwire.Args, out pgwire.RowSink, final bool) (tag string, err error) {
	stmt, ok := st.(*statement)
	if !ok {
		return "", errForeignStatement
	}
	if stmt.Empty() {
		return "", s.finishIf(ctx, final)
	}
	if err := s.refuseInFailedBlock(stmt); err != nil {
		return "", err
	}
	s.enter()
	s.settings.refresh()
	runCtx, cancel := s.withTimeout(ctx)
	defer cancel()
	defer func() { err = timedOut(runCtx, err) }()
	// The next statement of the query string is described before it runs, when the time of this one is over.
	defer func(outer pacer) { s.pace = outer }(s.pace)
	s.pace = pacer{ctx: runCtx}
	defer s.forget()
	if err := stmt.analyze(); err != nil {
		return "", err
	}
	if err := s.bind(stmt, args); err != nil {
		return "", err
	}
	if n, ok := stmt.node.(*executeStmt); ok {
		if stmt, err = s.executed(runCtx, stmt, n); err != nil {
			return "", err
		}
	}
	s.encoder.sink, s.encoder.formats = out, args.ResultFormats
	if stmt.plan != nil {
		return s.runPlan(ctx, runCtx, stmt, final)
	}
	if _, ends := stmt.node.(*transactionStmt); ends {
		runCtx = ctx // waiting for a commit is not subject to statement_timeout
	}
	if tag, err = s.runCommand(runCtx, stmt); err != nil {
		return "", err
	}
	return tag, s.finishIf(ctx, final)
}

// forget lets go of what the statement held: a session may be idle for long, and values are large.
func (s *Session) forget() {
	s.encoder.forget()
	s.selection, s.writing = selection{out: &s.encoder}, writing{}
	s.letGo()
	s.env = env{session: s}
	s.params, s.keys = emptied(s.params), emptied(s.keys)
}

// maxIdle is for how many keys, parameters or columns a session keeps room.
const maxIdle = 32

// emptied returns a slice's memory for the next statement, or nil if it is large.
func emptied[T any](s []T) []T {
	if clear(s); cap(s) > maxIdle {
		return nil
	}
	return s[:0]
}

// Bind implements pgwire.Session. Parameters are looked at, and decoded when the portal runs: until then only
// their bytes are kept. Large ones are looked at then, too, when that can be cancelled.
func (s *Session) Bind(st pgwire.Statement, args pgwire.Args) error {
	stmt, ok := st.(*statement)
	if !ok {
		return errForeignStatement
	}
	if s.block == failedBlock && (stmt.Empty() || len(stmt.params) > 0) {
		return errFailedBlock()
	}
	if err := s.refuseInFailedBlock(stmt); err != nil {
		return err
	}
	s.pace = pacer{ctx: context.Background()}
	for i, b := range args.Values {
		if b == nil || i >= len(stmt.params) || len(b) >= largeParam {
			continue
		}
		if err := s.checkParam(b, stmt.params[i], pgwire.Format(args.Formats, i), i+1); err != nil {
			return err
		}
	}
	return nil
}

// largeParam is from how many bytes on a parameter is not looked at before the portal runs.
const largeParam = 64 << 10

// checkParam is decode for what becomes of its errors alone.
func (s *Session) checkParam(b []byte, t Type, format int16, number int) error {
	var err error
	text := false
	switch size := int(typeInfos[t].size); {
	case format != binaryFormat && !validText(stringOf(b)), t == Text, t == Varchar:
		err = checkText(stringOf(b))
	case format != binaryFormat && t.isReg():
		text = true
		_, err = s.resolveName(stringOf(b), t)
	case format != binaryFormat:
		text = true
		_, err = s.read(b, t, format)
	case size > 0 && len(b) < size && t != Name:
		err = pgwire.Errorf(pgwire.CodeProtocolViolation, "insufficient data left in message")
	case size > 0 && len(b) > size && t != Name:
		err = pgwire.Errorf(pgwire.CodeInvalidBinaryRepresentation, "incorrect binary data format in bind parameter %d", number)
	case t.isReg():
	default:
		_, err = s.read(b, t, format)
	}
	e, ok := errors.AsType[*pgwire.Error](err)
	switch {
	case !ok:
		return err
	case text && len(b) > 0: // PostgreSQL's log_parameter_max_length_on_error is 0
		return e.WithContext("parameter $%d = '...'", number)
	case text:
		return e.WithContext("parameter $%d = ''", number)
	}
	return e.WithContext("parameter $%d", number)
}

// bind decodes the parameters.
func (s *Session) bind(stmt *statement, args pgwire.Args) error {
	if len(args.Values) != len(stmt.params) {
		return pgwire.Errorf(pgwire.CodeProtocolViolation, "bind message supplies %d parameters, but prepared statement requires %d",
			len(args.Values), len(stmt.params))
	}
	if n := len(args.Formats); n > 1 && n != len(args.Values) {
		return pgwire.Errorf(pgwire.CodeProtocolViolation, "bind message has %d parameter formats but %d parameters", n, len(args.Values))
	}
	if n := len(args.ResultFormats); n > 1 && n != len(stmt.Columns()) {
		return pgwire.Errorf(pgwire.CodeProtocolViolation, "bind message has %d result formats but query has %d columns", n, len(stmt.Columns()))
	}
	s.params = s.params[:0]
	for i, b := range args.Values {
		v := Null
		if b != nil {
			var err error
			if v, err = s.param(b, stmt.params[i], pgwire.Format(args.Formats, i), i+1); err != nil {
				return err
			}
		}
		s.params = append(s.params, v)
	}
	return nil
}

// param decodes a parameter, which has been looked at unless it is large.
func (s *Session) param(b []byte, t Type, format int16, number int) (Value, error) {
	if len(b) >= largeParam {
		if err := s.checkParam(b, t, format, number); err != nil {
			return Null, err
		}
	}
	return s.decode(b, t, format)
}

func (s *Session) decode(b []byte, t Type, format int16) (Value, error) {
	if t.isReg() {
		if format != binaryFormat {
			return s.resolveName(string(b), t)
		}
		v, err := parseBinary(b, OID, nil)
		if err != nil {
			return Null, err
		}
		return s.named(v, t)
	}
	if format != binaryFormat {
		b = bytes.Clone(b)
	}
	return s.read(b, t, format)
}

// read reads a parameter, and counts what takes more memory than it does itself. A text shares b.
func (s *Session) read(b []byte, t Type, format int16) (Value, error) {
	size := readingSize(stringOf(b), t)
	if format == binaryFormat && t.elem() != 0 {
		size = arraySize(int64(len(b) / 4))
	}
	return holding(s.holder.Hold, size, func() (Value, error) {
		if format == binaryFormat {
			return parseBinary(b, t, &s.pace)
		}
		return parseValue(stringOf(b), t, s.settings.location(), &s.pace)
	})
}

// refuseInFailedBlock lets only the end of the block through once a statement in it has failed.
func (s *Session) refuseInFailedBlock(stmt *statement) error {
	if s.block != failedBlock || stmt.Empty() {
		return nil
	}
	if verb := stmt.node.tag(); verb == "COMMIT" || verb == "ROLLBACK" {
		return nil
	}
	return errFailedBlock()
}

func errFailedBlock() error {
	return pgwire.Errorf(pgwire.CodeInFailedSQLTransaction, "current transaction is aborted, commands ignored until end of transaction block")
}

// IdleLimit implements pgwire.Idler: idle_session_timeout and idle_in_transaction_session_timeout.
func (s *Session) IdleLimit() (time.Duration, *pgwire.Error) {
	s.settings.refresh()
	if s.block != noBlock {
		return s.settings.idleInBlock, errIdleInBlock
	}
	return s.settings.idle, errIdle
}

var (
	errIdle        = pgwire.Errorf(pgwire.CodeIdleSessionTimeout, "terminating connection due to idle-session timeout").Fatal()
	errIdleInBlock = pgwire.Errorf(pgwire.CodeIdleInTransactionTimeout, "terminating connection due to idle-in-transaction timeout").Fatal()
)

// TxStatus implements pgwire.Session.
func (s *Session) TxStatus() byte { return byte(s.block) }

// Close implements pgwire.Session: an open transaction is rolled back.
func (s *Session) Close() {
	s.rollback()
	s.closeCursors(outlived)
}

// now is the time of the transaction: its first question for it, which is as good as its start.
func (s *Session) now() time.Time {
	if s.clock.IsZero() {
		s.clock = time.Now()
	}
	return s.clock
}
