package faults

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// A DialFunc opens a connection; net.Dialer.DialContext is one.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialPatience is how long an attempt to connect goes on at most, as Linux gives up after six
// retransmissions (tcp_syn_retries).
const dialPatience = 127 * time.Second

// lingering is how long the rest of what was written may take to go out, once a connection is closed and
// nothing holds it back.
const lingering = 5 * time.Second

// Dialer returns a dialer of connections of one kind, through the table.
func (t *Table) Dialer(kind Kind, dial DialFunc) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		l := link{address, kind}
		if err := t.passable(ctx, l); err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: err}
		}
		nc, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return t.wrap(nc, l)
	}
}

// passable waits until a connection can be made: both ways must be open, and each takes its delay.
func (t *Table) passable(ctx context.Context, l link) error {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var held *entry
	for {
		to, from := t.weather(l, To), t.weather(l, From)
		cut := to.cut
		if cut == nil {
			cut = from.cut
		}
		if cut == nil {
			return sleep(ctx, to.delay+from.delay)
		}
		if cut != held {
			held = cut
			cut.hits.Add(1)
		}
		select {
		case <-to.changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.closed:
			return net.ErrClosed
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A conn is a connection that this node has made. Between it and the real one there is a lane each way,
// with a goroutine of the table's each.
type conn struct {
	net.Conn
	table    *Table
	out, in  *lane
	readBy   *deadline
	writeBy  *deadline
	closing  sync.Once
	isClosed chan struct{}
}

func (t *Table) wrap(nc net.Conn, l link) (net.Conn, error) {
	c := &conn{
		Conn: nc, table: t,
		out: newLane(t, l, To), in: newLane(t, l, From),
		readBy: newDeadline(), writeBy: newDeadline(),
		isClosed: make(chan struct{}),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		nc.Close()
		return nil, net.ErrClosed
	}
	t.conns[c] = struct{}{}
	t.pumps.Go(c.send)
	t.pumps.Go(c.receive)
	return c, nil
}

// Read returns what has arrived.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	return c.in.take(b, patience{c.readBy, c.isClosed})
}

// Write sends b on its way. It waits only while too much is.
func (c *conn) Write(b []byte) (int, error) {
	return c.out.put(b, patience{c.writeBy, c.isClosed})
}

// Close ends the connection for this side at once. The peer learns of it after all that was written.
func (c *conn) Close() error {
	c.shut()
	return nil
}

func (c *conn) shut() {
	c.closing.Do(func() {
		close(c.isClosed)
		c.out.end(io.EOF)
		c.Conn.SetWriteDeadline(time.Now().Add(lingering))
	})
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(at time.Time) error {
	c.readBy.set(at)
	c.writeBy.set(at)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(at time.Time) error { c.readBy.set(at); return nil }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(at time.Time) error { c.writeBy.set(at); return nil }

// send moves what was written to the real connection, which it closes after the last of it.
func (c *conn) send() {
	defer c.forget()
	defer c.Conn.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := c.out.take(b, patience{shut: c.table.closed})
		if err != nil {
			return
		}
		select {
		case <-c.isClosed: // maybe long ago, if a cut was healed
			c.Conn.SetWriteDeadline(time.Now().Add(lingering))
		default:
		}
		if _, err := c.Conn.Write(b[:n]); err != nil {
			c.out.end(err)
			return
		}
	}
}

// receive takes what comes from the real connection.
func (c *conn) receive() {
	b := make([]byte, 64<<10)
	for {
		n, err := c.Conn.Read(b)
		if _, full := c.in.put(b[:n], patience{shut: c.isClosed}); full != nil {
			return
		}
		if err != nil {
			c.in.end(err)
			return
		}
	}
}

func (c *conn) forget() {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	delete(c.table.conns, c)
}
