package pgwire

import (
	"errors"

	"github.com/jackc/pgx/v5/pgproto3"
)

// serveReplication is the command loop of a replication connection. Extended query is refused there,
// as in PostgreSQL, whatever the connection was opened for.
func (c *Conn) serveReplication(r Replication) error {
	if err := c.welcome(r, 'I'); err != nil {
		return err
	}
	skipping := false // an extended message was refused: nothing counts until Sync
	for {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		typ, body, err := c.in.next(c.server.cfg.MaxMessageLen)
		if e, ok := survivable(err); ok {
			err = c.refuse(typ, e, &skipping)
		} else if err == nil {
			err = c.replicationMessage(r, typ, body, &skipping)
		}
		if err != nil {
			return err
		}
	}
}

// refuse reports an error about a message that was not even looked at. After one of extended query
// nothing counts until Sync.
func (c *Conn) refuse(typ byte, e *Error, skipping *bool) error {
	if *skipping {
		return nil
	}
	c.sendError(e)
	if typ == 'Q' || typ == 'F' {
		return c.ready('I')
	}
	*skipping = true
	return c.Flush()
}

// replicationMessage acts on one message between commands.
func (c *Conn) replicationMessage(r Replication, typ byte, body []byte, skipping *bool) error {
	switch {
	case typ == 'X':
		return errDone
	case typ == 'S':
		*skipping = false
		return c.ready('I')
	case *skipping:
		return nil
	case typ == 'Q':
		return c.replicationCommand(r, body)
	case typ == 'F':
		return c.refuse(typ, protocolViolation("fastpath function calls not supported in a replication connection"), skipping)
	case typ == 'P', typ == 'B', typ == 'D', typ == 'E', typ == 'C':
		return c.refuse(typ, protocolViolation("extended query protocol not supported in a replication connection"), skipping)
	}
	return nil // Flush, or copy messages that come too late
}

// replicationCommand runs one command. The socket is the command's until it returns.
func (c *Conn) replicationCommand(r Replication, body []byte) error {
	var q pgproto3.Query
	if err := q.Decode(body); err != nil {
		c.sendError(malformed(err))
		return c.ready('I')
	}
	ctx := c.beginWork(briefly(q.String))
	c.lendDeadlines(true)
	err := r.Command(ctx, q.String)
	c.lendDeadlines(false)
	c.endWork()

	switch {
	case c.out.err != nil:
		return c.out.err
	case err == nil && c.ctx.Err() != nil:
		c.Flush()
		return errDone
	case err == nil:
		return c.ready('I')
	case errors.Is(err, ErrHangup), isSocketError(err):
		return err
	}
	e := clientError(ctx, err)
	if e.Severity == SeverityFatal {
		return e
	}
	c.logInternal(e)
	c.sendError(e)
	return c.ready('I')
}
