package pgwire

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// COPY moves rows outside of the row format, in CopyData messages (PostgreSQL 15 manual, "COPY
// Operations"). A session's Execute begins it with Conn.CopyIn or Conn.CopyOut; a statement for which
// Execute does the former is a CopyInStatement.

// A CopyInStatement is a Statement that may read what the client sends while it runs. It runs as soon as
// its Execute message is there, since what comes next may be its data.
type CopyInStatement interface {
	Statement
	CopiesIn() bool
}

func copiesIn(st Statement) bool {
	c, ok := st.(CopyInStatement)
	return ok && c.CopiesIn()
}

// A CopyReader reads what the client sends in a COPY FROM STDIN.
type CopyReader interface {
	// Next returns the next piece of data, valid until the next call, cut wherever the client has cut
	// it. io.EOF: the client is done. An *Error is to be the statement's, 57014 if the client gave up.
	Next() ([]byte, error)
	// Close must be called before Execute returns.
	Close()
}

// CopyIn asks the client for rows of a number of columns in a format, 0 for text or 1 for binary. The end of ctx ends
// a Next that waits for the client, which PostgreSQL's would not notice before the next row.
func (c *Conn) CopyIn(ctx context.Context, columns int, format int16) (CopyReader, error) {
	c.Send(&pgproto3.CopyInResponse{OverallFormat: byte(format), ColumnFormatCodes: copyFormats(columns, format)})
	if err := c.Flush(); err != nil {
		return nil, err
	}
	r := &copyIn{c: c, ctx: ctx, woken: make(chan struct{})}
	r.stop = context.AfterFunc(ctx, func() {
		defer close(r.woken)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.nc.SetReadDeadline(time.Unix(1, 0))
	})
	return r, nil
}

type copyIn struct {
	c     *Conn
	ctx   context.Context
	stop  func() bool
	woken chan struct{} // closed when the end of ctx has been acted on
}

// Next implements CopyReader.
func (r *copyIn) Next() ([]byte, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		r.c.Wait(&clientRead) // or nearly so: what has come is there at once
		typ, body, err := r.c.in.next(r.c.server.cfg.MaxMessageLen)
		r.c.Wait(nil)
		if err != nil {
			return nil, r.failed(err)
		}
		switch typ {
		case 'd':
			return body, nil
		case 'c':
			return nil, io.EOF
		case 'f':
			var m pgproto3.CopyFail
			if err := m.Decode(body); err != nil {
				return nil, malformed(err)
			}
			return nil, Errorf(CodeQueryCanceled, "COPY from stdin failed: %s", m.Message)
		case 'H', 'S': // from client libraries that have not noticed that their command was a COPY
		default:
			r.c.sql.lost = true
			return nil, protocolViolation("unexpected message type 0x%02X during COPY from stdin", typ)
		}
	}
}

// failed is what an error of the socket means to the statement.
func (r *copyIn) failed(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		<-r.ctx.Done() // nothing else sets one; the end of the connection may be on its way to this context
		return r.ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Errorf(CodeConnectionFailure, "unexpected EOF on client connection with an open transaction")
	}
	return err
}

// Close implements CopyReader. It takes back the deadline, unless the connection itself has ended.
func (r *copyIn) Close() {
	if r.stop() {
		return
	}
	<-r.woken
	r.c.setReadDeadline(time.Time{})
}

// CopyOut tells the client that rows of a number of columns follow in a format, as CopyIn has it: by SendCopyData,
// and CopyDone at their end, unless an error ends them.
func (c *Conn) CopyOut(columns int, format int16) {
	c.Send(&pgproto3.CopyOutResponse{OverallFormat: byte(format), ColumnFormatCodes: copyFormats(columns, format)})
}

// copyFormats says of each column in which format it is: the same for all.
func copyFormats(columns int, format int16) []uint16 {
	codes := make([]uint16, columns)
	for i := range codes {
		codes[i] = uint16(format)
	}
	return codes
}

// CopyDone queues the end of what CopyOut began.
func (c *Conn) CopyDone() { c.Send(&pgproto3.CopyDone{}) }
