package pgwire

import (
	"context"
	"strconv"
)

func (s *fakeSession) Open(_ context.Context, st Statement, _ Args) (Cursor, error) {
	f := st.(fakeStatement)
	if f.verb != "cursor" {
		return nil, nil
	}
	n, _ := strconv.Atoi(f.arg)
	s.note("open %s", f.arg)
	s.cursors = append(s.cursors, &fakeCursor{session: s, rows: n})
	return s.cursors[len(s.cursors)-1], nil
}

func (s *fakeSession) declare(name string) error {
	c := &fakeCursor{session: s, rows: 3}
	s.cursors = append(s.cursors, c)
	return s.conn.DeclareCursor(name, int4, c)
}

// A fakeCursor counts up to rows. Its transaction closes it.
type fakeCursor struct {
	session    *fakeSession
	next, rows int
	closed     bool
}

func (c *fakeCursor) Fetch(_ context.Context, limit int, _ []int16, out RowSink) (n int, err error) {
	for ; c.next < c.rows && (limit == 0 || n < limit) && err == nil; n++ {
		err = out.Row([][]byte{strconv.AppendInt(nil, int64(c.next), 10)})
		c.next++
	}
	return n, err
}

func (c *fakeCursor) Close() {
	if !c.closed {
		c.session.note("close %d", c.rows)
	}
	c.closed = true
}

func (c *fakeCursor) Closed() bool { return c.closed }

func (c *fakeCursor) Held() bool { return false }

func (s *fakeSession) closeCursors() {
	for _, c := range s.cursors {
		c.Close()
	}
	s.cursors = nil
}
