package election

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// maxMessage bounds every message from a peer: an answer and its frame.
const maxMessage = MaxText + 1<<10

// A conn is a native replication connection to a peer. One call uses it at a time. It is not a
// pgconn.PgConn: that one, when a call's context ends, opens another connection to cancel the query, in
// a goroutine of its own, and so makes two connections to a peer that hangs out of each probe.
type conn struct {
	net     net.Conn
	fe      *pgproto3.Frontend
	address string
	as      identity // who the peer was told we are
	fatal   bool     // the peer ends the connection
}

// An identity is who this node is: both change when it gets another disk.
type identity struct {
	id       syncrep.ID
	systemID uint64
}

func newConn(nc net.Conn, address string, as identity) *conn {
	c := &conn{net: nc, fe: pgproto3.NewFrontend(nc, nc), address: address, as: as}
	c.fe.SetMaxBodyLen(maxMessage)
	return c
}

// close may be called more than once, and while a call uses the connection: it ends that.
func (c *conn) close() { c.net.Close() }

// bound makes reads and writes end with ctx. The caller calls release before it uses the connection
// under another context.
func (c *conn) bound(ctx context.Context) (release func(), err error) {
	deadline, _ := ctx.Deadline() // none is the zero time, which is no deadline here either
	if err := c.net.SetDeadline(deadline); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		c.net.SetDeadline(time.Unix(1, 0)) // long past: whoever reads or writes stops
	})
	return func() {
		if !stop() {
			<-done
		}
	}, nil
}

// start begins the session.
func (c *conn) start(ctx context.Context, params map[string]string) error {
	release, err := c.bound(ctx)
	if err != nil {
		return endOf(ctx, err)
	}
	defer release()
	c.fe.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: params})
	err = c.fe.Flush()
	for err == nil {
		var msg pgproto3.BackendMessage
		if msg, err = c.fe.Receive(); err != nil {
			break
		}
		switch msg := msg.(type) {
		case *pgproto3.ReadyForQuery:
			return nil
		case *pgproto3.NegotiateProtocolVersion:
			if slices.Contains(msg.UnrecognizedOptions, "_pq_.longship") {
				err = errors.New("the peer is not a Longship node")
			}
		case *pgproto3.ErrorResponse:
			return c.refusal(msg)
		case *pgproto3.AuthenticationOk, *pgproto3.ParameterStatus, *pgproto3.BackendKeyData, *pgproto3.NoticeResponse:
		default:
			err = unexpected(msg)
		}
	}
	return endOf(ctx, err)
}

// query sends a command and returns the one value of its answer. If the error is a *pgwire.Error and
// fatal is not set, the connection can be used on.
func (c *conn) query(ctx context.Context, text string) ([]byte, error) {
	release, err := c.bound(ctx)
	if err != nil {
		return nil, endOf(ctx, err)
	}
	defer release()
	c.fe.Send(&pgproto3.Query{String: text})
	if err := c.fe.Flush(); err != nil {
		return nil, endOf(ctx, err)
	}
	return c.answer(ctx)
}

// answer reads up to ReadyForQuery, or to an error that ends the connection.
func (c *conn) answer(ctx context.Context) (value []byte, err error) {
	var refused error
	for {
		msg, err := c.fe.Receive()
		if err != nil {
			return nil, endOf(ctx, err)
		}
		switch msg := msg.(type) {
		case *pgproto3.DataRow:
			if value != nil || len(msg.Values) != 1 || msg.Values[0] == nil {
				return nil, errors.New("protocol violation: want one row with one value")
			}
			value = append([]byte{}, msg.Values[0]...)
		case *pgproto3.ErrorResponse:
			if refused = c.refusal(msg); c.fatal {
				return nil, refused
			}
		case *pgproto3.ReadyForQuery:
			if refused == nil && value == nil {
				return nil, errors.New("protocol violation: no row")
			}
			return value, refused
		case *pgproto3.RowDescription, *pgproto3.CommandComplete, *pgproto3.ParameterStatus, *pgproto3.NoticeResponse:
		default:
			return nil, unexpected(msg)
		}
	}
}

// refusal is the error that the peer sent.
func (c *conn) refusal(msg *pgproto3.ErrorResponse) error {
	c.fatal = c.fatal || msg.Severity != pgwire.SeverityError
	err := &pgwire.Error{Severity: msg.Severity, Code: msg.Code, Message: msg.Message, Detail: msg.Detail, Hint: msg.Hint}
	if msg.Code == codeNotLeader {
		err.Err = raftlog.ErrNotLeader
	}
	return err
}

// endOf is the end of ctx if that is why the network failed, and err otherwise.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Errorf("%w (%w)", context.DeadlineExceeded, err) // the deadline of ctx, a moment before its timer
	}
	return err
}

func unexpected(msg pgproto3.BackendMessage) error {
	return fmt.Errorf("protocol violation: unexpected %T", msg)
}
