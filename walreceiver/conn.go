package walreceiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
)

// maxMessage bounds every message that an upstream may send us. WAL comes in portions of at most
// 128 KiB; the largest legitimate message is a history file.
const maxMessage = 2 << 20

// ErrTimeout says that the upstream has been silent for longer than wal_receiver_timeout.
var ErrTimeout = errors.New("terminating walreceiver due to timeout")

// ErrNotNative says that the upstream does not speak the native extension of the protocol.
var ErrNotNative = errors.New("the upstream is not a Longship node")

// A conn is a replication connection to an upstream. One goroutine receives and one sends.
type conn struct {
	net     net.Conn
	fe      *pgproto3.Frontend
	timeout func() time.Duration // of one receive or send; 0: none
	stop    func() bool          // releases the context
}

// connect opens a connection and starts a replication session on it. It is closed when ctx ends.
func connect(ctx context.Context, cfg *Config) (*conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := cfg.Dial(dialCtx, "tcp", cfg.Primary)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Primary, err)
	}
	c := &conn{net: nc, fe: pgproto3.NewFrontend(nc, nc), timeout: cfg.Timeout}
	c.fe.SetMaxBodyLen(maxMessage)
	c.stop = context.AfterFunc(ctx, func() { nc.Close() })
	if err := c.start(cfg); err != nil {
		c.close()
		return nil, fmt.Errorf("start replication session with %s: %w", cfg.Primary, err)
	}
	return c, nil
}

// close ends the connection without ceremony: the upstream needs none.
func (c *conn) close() {
	c.stop()
	c.net.Close()
}

func (c *conn) start(cfg *Config) error {
	err := c.send(&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters:      cfg.parameters(),
	})
	for err == nil {
		var msg pgproto3.BackendMessage
		if msg, err = c.receive(); err != nil {
			break
		}
		switch msg := msg.(type) {
		case *pgproto3.ReadyForQuery:
			return nil
		case *pgproto3.NegotiateProtocolVersion:
			if slices.Contains(msg.UnrecognizedOptions, "_pq_.longship") {
				err = ErrNotNative
			}
		case *pgproto3.ErrorResponse:
			err = serverError(msg)
		case *pgproto3.AuthenticationOk, *pgproto3.ParameterStatus, *pgproto3.BackendKeyData:
		default:
			err = unexpected(msg)
		}
	}
	return err
}

// receive returns the next message that is not a notice. It is valid until the next call.
func (c *conn) receive() (pgproto3.BackendMessage, error) {
	for {
		if err := c.net.SetReadDeadline(c.deadline()); err != nil {
			return nil, err
		}
		msg, err := c.fe.Receive()
		if err != nil {
			return nil, networkError(err)
		}
		if _, notice := msg.(*pgproto3.NoticeResponse); !notice {
			return msg, nil
		}
	}
}

func (c *conn) send(msg pgproto3.FrontendMessage) error {
	if err := c.net.SetWriteDeadline(c.deadline()); err != nil {
		return err
	}
	c.fe.Send(msg)
	return networkError(c.fe.Flush())
}

// sendEncoded sends a message that is encoded as a whole.
func (c *conn) sendEncoded(b []byte) error {
	if err := c.net.SetWriteDeadline(c.deadline()); err != nil {
		return err
	}
	return networkError(c.fe.SendUnbufferedEncodedCopyData(b))
}

func (c *conn) deadline() time.Time {
	timeout := c.timeout()
	if timeout <= 0 {
		return time.Time{}
	}
	return time.Now().Add(timeout)
}

func networkError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the upstream closed the connection: %w", err)
	}
	return err
}

// maxRows bounds the answer to a command.
const maxRows = 64

// A row is one row of a result: a nil value is NULL.
type row []*string

// query runs a command with one result or none and returns its rows. The error is a *pgwire.Error
// if the server refused; the connection can be used on.
func (c *conn) query(text string) ([]row, error) {
	if err := c.send(&pgproto3.Query{String: text}); err != nil {
		return nil, err
	}
	rows, err := c.result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return rows, nil
}

// result reads up to ReadyForQuery.
func (c *conn) result() (rows []row, refused error) {
	for {
		msg, err := c.receive()
		if err != nil {
			return nil, errors.Join(refused, err)
		}
		switch msg := msg.(type) {
		case *pgproto3.DataRow:
			if len(rows) == maxRows {
				return nil, fmt.Errorf("the upstream sent more than %d rows", maxRows)
			}
			rows = append(rows, copyRow(msg))
		case *pgproto3.ErrorResponse:
			refused = serverError(msg)
		case *pgproto3.ReadyForQuery:
			return rows, refused
		case *pgproto3.RowDescription, *pgproto3.CommandComplete, *pgproto3.ParameterStatus:
		default:
			return nil, unexpected(msg)
		}
	}
}

func copyRow(msg *pgproto3.DataRow) row {
	r := make(row, len(msg.Values))
	for i, v := range msg.Values {
		if v != nil {
			r[i] = new(string(v))
		}
	}
	return r
}

// text is column i of a result's only row.
func text(rows []row, i int) (string, error) {
	if len(rows) != 1 || len(rows[0]) <= i || rows[0][i] == nil {
		return "", fmt.Errorf("unexpected result: want one row with a value in column %d", i+1)
	}
	return *rows[0][i], nil
}

// show is the value of a server setting.
func (c *conn) show(name string) (string, error) {
	rows, err := c.query("SHOW " + name)
	if err != nil {
		return "", err
	}
	return text(rows, 0)
}

func serverError(msg *pgproto3.ErrorResponse) error {
	return &pgwire.Error{
		Severity: msg.Severity,
		Code:     msg.Code,
		Message:  msg.Message,
		Detail:   msg.Detail,
		Hint:     msg.Hint,
	}
}

func unexpected(msg pgproto3.BackendMessage) error {
	return fmt.Errorf("protocol violation: unexpected %T", msg)
}

// parseSize reads a size as SHOW wal_segment_size prints it: 1MB to 1GB.
func parseSize(s string) (uint64, error) {
	for _, unit := range []struct {
		suffix string
		bytes  uint64
	}{{"kB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}} {
		if digits, ok := strings.CutSuffix(s, unit.suffix); ok {
			n, err := strconv.ParseUint(digits, 10, 32)
			return n * unit.bytes, err
		}
	}
	return 0, fmt.Errorf("invalid size %q", s)
}
