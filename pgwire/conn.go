package pgwire

import (
	"container/list"
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A Kind says what a connection was opened for: the start-up parameter "replication".
type Kind uint8

const (
	KindSQL      Kind = iota
	KindPhysical      // replication=true: replication commands only
	KindDatabase      // replication=database: replication commands and SQL
)

func (k Kind) String() string {
	switch k {
	case KindPhysical:
		return "physical replication"
	case KindDatabase:
		return "database replication"
	}
	return "sql"
}

// Replication reports whether the connection belongs to a [Replication].
func (k Kind) Replication() bool { return k != KindSQL }

// A Conn is one client's connection. The exported fields are set during start-up and fixed from
// when the Handler sees the Conn. One goroutine may send (Send…, Notice, Flush) while another
// receives; SetParameter may be called by anyone.
type Conn struct {
	Kind           Kind
	User, Database string
	Params         map[string]string // settings from the start-up packet, options=-c … included
	Native         int               // value of the start-up parameter _pq_.longship, 0 if absent
	PID            int32             // identifies the connection to clients and views; no process
	RemoteAddr     net.Addr
	BackendStart   time.Time
	startBy        time.Time // the end of authentication_timeout; owned by serve

	server   *Server
	starting *list.Element // among those in start-up; nil: past it, or crowded out. Guarded by server.mu
	nc       net.Conn
	secret   [4]byte                 // proves that a cancel request is the client's
	ctx      context.Context         // ends with the connection; the cause says why
	cancel   context.CancelCauseFunc // ends ctx
	done     chan struct{}           // closed when nothing of the connection is left

	sql   *conversation             // of the connection's goroutine; nil on replication connections
	waits atomic.Pointer[WaitEvent] // what the work waits for; nil: for nothing in particular

	in       reader            // of the receiving goroutine
	share    share             // likewise, and of what it runs: what the connection holds in memory
	copyData pgproto3.CopyData // likewise: what Receive returned last
	out      output            // of the sending goroutine

	mu        sync.Mutex
	working   bool                    // the session is acting on a message
	work      uint64                  // counts changes of working: equal at two looks, the same work
	query     string                  // what is being worked on, or was last: the beginning of its text
	txStatus  byte                    // as the client was told last
	seen      uint64                  // work at the last look
	seenAt    time.Time               // and when that was first seen
	owned     bool                    // a replication command owns the socket's deadlines
	workCtx   context.Context         // of the work; shared by successive works until one is cancelled
	stopWork  context.CancelCauseFunc // ends workCtx
	params    map[string]string       // as the client knows them, but for those in unreported
	unsettled []string                // names in params the client has not been told yet
}

func newConn(s *Server, ctx context.Context, nc net.Conn) *Conn {
	c := &Conn{
		RemoteAddr:   nc.RemoteAddr(),
		BackendStart: time.Now(),
		server:       s,
		nc:           nc,
		done:         make(chan struct{}),
		in:           reader{src: nc},
		out:          output{dst: nc},
	}
	c.share.memory = s.cfg.Memory
	c.in.share = &c.share
	c.in.socket = newSocketReader(nc, &c.in)
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.workCtx, c.stopWork = context.WithCancelCause(c.ctx)
	return c
}

// Addresses are those of the two ends of the connection.
func (c *Conn) Addresses() (server, client net.Addr) { return c.nc.LocalAddr(), c.RemoteAddr }

// logger says whose connection it is. It is made when there is something to log, which is rare.
func (c *Conn) logger() *slog.Logger {
	return c.server.cfg.Logger.With("remote", c.RemoteAddr, "pid", c.PID)
}

// Context ends when the connection must end; its cause says why.
func (c *Conn) Context() context.Context { return c.ctx }

// NetConn is the socket, for deadlines and addresses. Only a replication command may set deadlines,
// and only while it runs.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Receive returns the next message, valid until the next call, for a replication command. After a
// deadline has passed it can be called again and loses nothing. io.EOF: the client hung up.
func (c *Conn) Receive() (pgproto3.FrontendMessage, error) {
	typ, body, err := c.in.next(c.server.cfg.MaxMessageLen)
	if err != nil {
		return nil, err
	}
	if typ == 'd' { // what a replication connection receives all day
		c.copyData.Data = body
		return &c.copyData, nil
	}
	msg := newFrontendMessage(typ)
	if err := msg.Decode(body); err != nil {
		return nil, malformed(err)
	}
	return msg, nil
}

// newFrontendMessage maps the message types that reader.next lets through, CopyData apart.
func newFrontendMessage(typ byte) pgproto3.FrontendMessage {
	switch typ {
	case 'B':
		return new(pgproto3.Bind)
	case 'C':
		return new(pgproto3.Close)
	case 'D':
		return new(pgproto3.Describe)
	case 'E':
		return new(pgproto3.Execute)
	case 'F':
		return new(pgproto3.FunctionCall)
	case 'H':
		return new(pgproto3.Flush)
	case 'P':
		return new(pgproto3.Parse)
	case 'Q':
		return new(pgproto3.Query)
	case 'S':
		return new(pgproto3.Sync)
	case 'c':
		return new(pgproto3.CopyDone)
	case 'f':
		return new(pgproto3.CopyFail)
	}
	return new(pgproto3.Terminate)
}

func malformed(err error) *Error {
	return &Error{Severity: SeverityError, Code: CodeProtocolViolation, Message: "invalid message format", Err: err}
}

// beginWork marks the start of work that a cancel request may end and returns its context. It makes
// no new one while the last was not cancelled: one statement must not cost an allocation. query is the text
// that is worked on, if it is known, as briefly has it.
func (c *Conn) beginWork(query string) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.working = true; query != "" {
		c.query = query
	}
	c.work++
	return c.workCtx
}

// endWork marks the end of the work: a cancel request that comes now is too late.
func (c *Conn) endWork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working = false
	c.work++
	if c.workCtx.Err() != nil && c.ctx.Err() == nil {
		c.workCtx, c.stopWork = context.WithCancelCause(c.ctx)
	}
}

// interrupt cancels the work in hand, if there is any. An idle connection does not notice.
func (c *Conn) interrupt(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.working {
		c.stopWork(cause)
	}
}

// busy reports whether the session is at work, and on what.
func (c *Conn) busy() (work uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.work, c.working
}

// unblock wakes whatever blocks on the socket, once ctx has ended: reads at once, writes after a
// grace, since a client that still reads shall hear why.
func (c *Conn) unblock() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.owned {
		c.nc.SetReadDeadline(time.Unix(1, 0))
		c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	}
}

// setReadDeadline sets one while the connection's time has not come; after that unblock's counts.
func (c *Conn) setReadDeadline(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return false
	}
	c.nc.SetReadDeadline(t)
	return true
}

// lendDeadlines gives the socket's deadlines to a replication command, and takes them back. Look at
// ctx after taking them back: the wake-up may have come meanwhile.
func (c *Conn) lendDeadlines(owned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owned = owned
	if !owned {
		c.nc.SetDeadline(time.Time{})
	}
}

// SetParameter has the client told a setting's value, if it is news, before the next ReadyForQuery.
// It is for the settings that PostgreSQL reports and for nothing else.
func (c *Conn) SetParameter(name, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.params[name]; ok && old == value {
		return
	}
	if c.params == nil {
		c.params = make(map[string]string)
	}
	c.params[name] = value
	if !slices.Contains(c.unsettled, name) {
		c.unsettled = append(c.unsettled, name)
	}
}

// reportParameters sends what SetParameter has queued. The client is about to be told txStatus.
func (c *Conn) reportParameters(txStatus byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.txStatus = txStatus
	for _, name := range c.unsettled {
		c.out.message(&pgproto3.ParameterStatus{Name: name, Value: c.params[name]})
	}
	if c.unsettled = c.unsettled[:0]; cap(c.unsettled) >= len(reportedAtStart) {
		c.unsettled = nil // as many as that are never told again
	}
}
