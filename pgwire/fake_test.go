package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// fakeHandler gives out fake sessions.
type fakeHandler struct {
	refuse      *Error // instead of a connection
	replication func(ctx context.Context, c *Conn, text string) error
	params      map[string]string
	idle        time.Duration // limit of its sessions
	stall       bool          // Connect waits for the end of its context
}

func (h *fakeHandler) Connect(ctx context.Context, c *Conn) (Session, error) {
	if h.stall {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if h.refuse != nil {
		return nil, h.refuse
	}
	return &fakeSession{conn: c, params: h.params, idle: h.idle, tx: 'I'}, nil
}

func (h *fakeHandler) ConnectReplication(ctx context.Context, c *Conn) (Replication, error) {
	if h.refuse != nil {
		return nil, h.refuse
	}
	return &fakeReplication{c, h.replication}, nil
}

type fakeReplication struct {
	conn    *Conn
	command func(ctx context.Context, c *Conn, text string) error
}

func (r *fakeReplication) Close() {}
func (r *fakeReplication) Command(ctx context.Context, text string) error {
	return r.command(ctx, r.conn, text)
}

// fakeSession understands statements of one word and an argument, separated by semicolons:
//
//	rows N           N rows of one int4 column
//	cursor N         the same, and stops between them under a row limit
//	declare NAME     makes a cursor of that name
//	undo             closes all cursors, and the transaction goes on
//	echo             the parameter $1, text
//	write            no rows; an implicit transaction commits it
//	begin, commit    of a transaction block
//	fail SQLSTATE    an error
//	wait             until the context ends
//	set NAME=VALUE   reports a setting
//	log              what was asked of the session since the last log, as rows
//	badcommit        runs, and cannot be committed
//	prepare TEXT     prepares a statement of that text
//	sized N          no rows; the statement takes N bytes
//	grown N          the same, once it has been described
//	copyin           says how many bytes the client has sent
//	copyout N        N CopyData messages
//	panic            what it says
type fakeSession struct {
	conn   *Conn
	params map[string]string
	idle   time.Duration

	log     []string
	cursors []*fakeCursor

	tx    byte
	dirty bool // something to commit
	bad   bool // …that cannot be
}

type fakeStatement struct {
	verb, arg string
	described *bool
}

var (
	int4   = []Column{{Name: "n", Type: 23, Size: 4, Mod: -1}}
	echoed = []Column{{Name: "echo", Type: 25, Size: -1, Mod: -1}}
)

func (s fakeStatement) ParamTypes() []uint32 {
	if s.verb == "echo" {
		return []uint32{25}
	}
	return nil
}

func (s fakeStatement) Columns() []Column {
	*s.described = true
	switch s.verb {
	case "rows", "cursor":
		return int4
	case "echo":
		return echoed
	case "log":
		return []Column{{Name: s.verb, Type: 25, Size: -1, Mod: -1}}
	}
	return nil
}

func (s fakeStatement) Size() int {
	if s.verb == "sized" || s.verb == "grown" && *s.described {
		n, _ := strconv.Atoi(s.arg)
		return n
	}
	return 0
}

func (s fakeStatement) CopiesIn() bool { return s.verb == "copyin" }

func (s fakeStatement) Empty() bool { return s.verb == "" }

func (s *fakeSession) note(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *fakeSession) Parse(ctx context.Context, text string, types []uint32) (Statement, error) {
	verb, arg, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(text), ";"), " ")
	known := []string{"", "rows", "cursor", "declare", "undo", "echo", "write", "begin", "commit", "fail", "wait", "set", "log", "badcommit", "panic", "big", "prepare", "copyin", "copyout", "sized", "grown"}
	if !slices.Contains(known, verb) {
		return nil, Errorf(CodeSyntaxError, "syntax error at or near %q", verb).WithPosition(1)
	}
	return fakeStatement{verb, arg, new(bool)}, nil
}

func (s *fakeSession) ParseAll(ctx context.Context, text string) ([]Statement, error) {
	var all []Statement
	for part := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		st, err := s.Parse(ctx, part, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

func (s *fakeSession) Bind(st Statement, args Args) error {
	if f := st.(fakeStatement); s.tx == 'E' && f.verb != "commit" {
		return Errorf(CodeInFailedSQLTransaction, "current transaction is aborted, commands ignored until end of transaction block")
	}
	for i, value := range args.Values {
		if string(value) == "bad" {
			return Errorf(CodeInvalidTextRepresentation, "bad value").WithContext("parameter $%d", i+1)
		}
	}
	return nil
}

func (s *fakeSession) Execute(ctx context.Context, st Statement, args Args, out RowSink, final bool) (string, error) {
	f := st.(fakeStatement)
	if f.verb != "log" {
		note := f.verb
		if f.arg != "" {
			note += " " + f.arg
		}
		if final {
			note += " final"
		}
		s.note("%s", note)
	}
	if s.tx == 'E' && f.verb != "commit" {
		return "", Errorf(CodeInFailedSQLTransaction, "current transaction is aborted, commands ignored until end of transaction block")
	}
	return s.execute(ctx, f, args, out)
}

func (s *fakeSession) execute(ctx context.Context, f fakeStatement, args Args, out RowSink) (string, error) {
	switch f.verb {
	case "rows", "cursor":
		n, _ := strconv.Atoi(f.arg)
		n = min(n, 100_000) // a fuzzer may ask for more
		for i := range n {
			if err := out.Row([][]byte{strconv.AppendInt(nil, int64(i), 10)}); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("SELECT %d", n), nil
	case "big": // rows of a mebibyte, for ever: the sink must end it
		for row := make([]byte, 1<<20); ; {
			if err := out.Row([][]byte{row}); err != nil {
				return "", err
			}
		}
	case "copyin":
		n, err := s.copyIn(ctx)
		return fmt.Sprintf("COPY %d", n), err
	case "copyout":
		n, _ := strconv.Atoi(f.arg)
		s.conn.CopyOut(1, 0)
		for i := range min(n, 1000) {
			if err := s.conn.SendCopyData(strconv.AppendInt(nil, int64(i), 10)); err != nil {
				return "", err
			}
		}
		s.conn.CopyDone()
		return fmt.Sprintf("COPY %d", n), nil
	case "declare":
		return "DECLARE CURSOR", s.declare(f.arg)
	case "undo":
		s.closeCursors()
		return "ROLLBACK", nil
	case "echo":
		return "SELECT 1", out.Row(args.Values)
	case "log":
		log := s.log
		s.log = nil
		for _, line := range log {
			if err := out.Row([][]byte{[]byte(line)}); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("SELECT %d", len(log)), nil
	case "write":
		s.dirty = true
		return "INSERT 0 1", nil
	case "sized", "grown":
		return "SIZED", nil
	case "prepare":
		return "PREPARE", s.conn.Prepare("prepared", f.arg, f)
	case "badcommit":
		s.dirty, s.bad = true, true
		return "INSERT 0 1", nil
	case "begin":
		s.tx = 'T'
		return "BEGIN", nil
	case "commit":
		s.closeCursors()
		s.tx = 'I'
		return "COMMIT", nil
	case "fail":
		return "", Errorf(strings.ToUpper(f.arg), "failed as asked").WithDetail("d").WithHint("h")
	case "wait":
		<-ctx.Done()
		return "", fmt.Errorf("wait: %w", ctx.Err())
	case "set":
		name, value, _ := strings.Cut(f.arg, "=")
		s.conn.SetParameter(name, value)
		return "SET", nil
	case "panic":
		panic("as asked")
	}
	return "", errors.New("no such verb")
}

func (s *fakeSession) copyIn(ctx context.Context) (n int, err error) {
	r, err := s.conn.CopyIn(ctx, 2, 0)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for {
		data, err := r.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += len(data)
	}
}

func (s *fakeSession) Finish(ctx context.Context) error {
	s.note("finish")
	bad := s.bad
	if s.tx == 'I' {
		s.closeCursors()
		s.dirty, s.bad = false, false
	}
	if bad {
		return Errorf(CodeSerializationFailure, "could not serialize access")
	}
	return nil
}

func (s *fakeSession) Fail() {
	s.note("fail")
	s.closeCursors()
	s.dirty, s.bad = false, false
	if s.tx == 'T' {
		s.tx = 'E'
	}
}

func (s *fakeSession) IdleLimit() (time.Duration, *Error) {
	return s.idle, Errorf(CodeIdleSessionTimeout, "idle").Fatal()
}

func (s *fakeSession) TxStatus() byte                { return s.tx }
func (s *fakeSession) Close()                        {}
func (s *fakeSession) Parameters() map[string]string { return s.params }

// client is the other end of a connection, in a test.
type client struct {
	t  testing.TB
	nc net.Conn
	fe *pgproto3.Frontend
}

// newClient connects to s over a pipe and has the connection end with the test.
func newClient(t testing.TB, s *Server) *client {
	t.Helper()
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.ServeConn(ctx, far)
	}()
	t.Cleanup(func() {
		near.Close()
		cancel()
		<-served
	})
	return &client{t: t, nc: near, fe: pgproto3.NewFrontend(near, near)}
}

// connect starts up as user u and returns what the server said up to the first ReadyForQuery.
func (c *client) connect(params ...string) []string {
	c.t.Helper()
	m := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "u"}}
	for i := 0; i < len(params); i += 2 {
		m.Parameters[params[i]] = params[i+1]
	}
	c.send(m)
	return c.untilReady()
}

// send writes messages without waiting for anyone to read them.
func (c *client) send(msgs ...pgproto3.FrontendMessage) {
	c.t.Helper()
	var buf []byte
	for _, m := range msgs {
		var err error
		if buf, err = m.Encode(buf); err != nil {
			c.t.Fatal(err)
		}
	}
	go c.nc.Write(buf)
}

func (c *client) sendBytes(b []byte) { go c.nc.Write(b) }

// receive returns the next message as a line, "EOF" at the end.
func (c *client) receive() string {
	c.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	m, err := c.fe.Receive()
	if err != nil {
		if isSocketError(err) && !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			return "EOF"
		}
		return err.Error()
	}
	return describe(m)
}

// logLines is where a server under test logs.
type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// untilReady receives up to the next ReadyForQuery, or the end.
func (c *client) untilReady() []string {
	var lines []string
	for {
		line := c.receive()
		lines = append(lines, line)
		if strings.HasPrefix(line, "Z ") || line == "EOF" || strings.HasSuffix(line, "i/o timeout") {
			return lines
		}
	}
}

func (c *client) query(text string) []string {
	c.send(&pgproto3.Query{String: text})
	return c.untilReady()
}

// describe prints a server message on a line: its type byte and what it says.
func describe(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.AuthenticationOk:
		return "R ok"
	case *pgproto3.ParameterStatus:
		return fmt.Sprintf("S %s=%s", m.Name, m.Value)
	case *pgproto3.BackendKeyData:
		return "K"
	case *pgproto3.NegotiateProtocolVersion:
		return fmt.Sprintf("v %d %v", m.NewestMinorProtocol, m.UnrecognizedOptions)
	case *pgproto3.ReadyForQuery:
		return "Z " + string(m.TxStatus)
	case *pgproto3.RowDescription:
		line := "T"
		for _, f := range m.Fields {
			line += fmt.Sprintf(" %s:%d:%d", f.Name, f.DataTypeOID, f.Format)
		}
		return line
	case *pgproto3.DataRow:
		line := "D"
		for _, v := range m.Values {
			if v == nil {
				line += " NULL"
			} else {
				line += fmt.Sprintf(" %q", v)
			}
		}
		return line
	case *pgproto3.CommandComplete:
		return "C " + string(m.CommandTag)
	case *pgproto3.ErrorResponse:
		return describeError("E", m)
	case *pgproto3.NoticeResponse:
		return describeError("N", (*pgproto3.ErrorResponse)(m))
	case *pgproto3.ParameterDescription:
		return fmt.Sprintf("t %v", m.ParameterOIDs)
	case *pgproto3.CopyBothResponse:
		return "W"
	case *pgproto3.CopyData:
		return fmt.Sprintf("d %d %.40q", len(m.Data), m.Data)
	}
	return fmt.Sprintf("%T", m)[len("*pgproto3."):]
}

func describeError(typ string, m *pgproto3.ErrorResponse) string {
	line := fmt.Sprintf("%s %s %s %s", typ, m.Severity, m.Code, m.Message)
	if m.Detail != "" {
		line += " | detail: " + m.Detail
	}
	if m.Hint != "" {
		line += " | hint: " + m.Hint
	}
	if m.Where != "" {
		line += " | where: " + m.Where
	}
	if m.Position != 0 {
		line += fmt.Sprintf(" | position: %d", m.Position)
	}
	return line
}

func newTestServer(cfg Config) *Server {
	if cfg.Handler == nil {
		cfg.Handler = &fakeHandler{}
	}
	if cfg.ServerVersion == "" {
		cfg.ServerVersion = "15.18 (Longship test)"
	}
	return NewServer(cfg)
}
