package simulation

import (
	"cmp"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// A link is a connection as the network sees it, from the one who made it to the one who took it.
type link struct{ ends [2]*conn }

// A conn is one end of a link.
type conn struct {
	link   *link
	number int // in link.ends
	host   *Host
	local  netip.AddrPort
	in     *stream // what arrives here; the other end writes it
	silent bool    // its host has lost power; Network.mu guards it
}

func newLink(a, b *Host, from, to netip.AddrPort) [2]*conn {
	l := &link{}
	l.ends = [2]*conn{
		{link: l, number: 0, host: a, local: from, in: newStream(a.network, b.ip, a.ip)},
		{link: l, number: 1, host: b, local: to, in: newStream(a.network, a.ip, b.ip)},
	}
	return l.ends
}

func (c *conn) peer() *conn { return c.link.ends[1-c.number] }

// latency is how long a segment to the other end is under way now. The caller does not hold Network.mu.
func (c *conn) latency() time.Duration {
	n := c.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	return leastDelay + n.after(mostDelay-leastDelay) + n.route(c.host.ip, c.peer().host.ip).delay
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	if err != nil && err != io.EOF {
		err = opError("read", c.local, err)
	}
	return n, err
}

func (c *conn) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		n, err := c.peer().in.write(b[:min(len(b), mostSegment)], c.latency())
		written += n
		if err != nil {
			return written, opError("write", c.local, err)
		}
		b = b[n:]
	}
	return written, nil
}

// Close says so to the other end, behind all that was written.
func (c *conn) Close() error {
	delay := c.latency()
	if !c.in.close(syscall.ECONNRESET, delay) {
		return opError("close", c.local, net.ErrClosed)
	}
	c.peer().in.finish(delay)
	c.host.network.forget(c.link)
	return nil
}

// forget drops a link of which both ends are closed.
func (n *Network) forget(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.ends[0].in.isClosed() && l.ends[1].in.isClosed() {
		delete(n.links, l)
	}
}

// abandon is Close by the end of the host. The caller holds Network.mu.
func (c *conn) abandon(silently bool) {
	if silently {
		c.silent = true
		c.in.abandon()
		c.peer().in.orphan()
		return
	}
	if !c.in.close(syscall.ECONNRESET, mostDelay) {
		return
	}
	if c.host.network.rng.IntN(2) == 0 { // it had not read everything
		c.peer().in.end(syscall.ECONNRESET, mostDelay)
	}
	c.peer().in.finish(mostDelay)
}

// reset ends a connection that nobody has closed, as this end sees it, after a while.
func (c *conn) reset(after time.Duration) {
	c.in.end(syscall.ECONNRESET, after)
	c.peer().in.refuse(syscall.ECONNRESET, after)
}

// unless is the connection that has just been made, or the error that came before its end.
func (c *conn) unless(err error) (net.Conn, error) {
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.peer().local) }

func (c *conn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	c.peer().in.setWriteDeadline(t)
	return nil
}
func (c *conn) SetReadDeadline(t time.Time) error  { c.in.setReadDeadline(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.peer().in.setWriteDeadline(t); return nil }

// A stream is one direction of a connection: a queue of segments that arrive one after the other.
type stream struct {
	forth, back *route // that its segments take, and what is said of them

	mu     sync.Mutex
	moved  *sync.Cond // mu; on everything that a reader or a writer waits for
	queue  []segment
	queued int // bytes in queue
	limit  int
	last   time.Time // when the last segment arrives

	closed  bool    // by its reader
	refused refusal // what a writer gets
	ended   refusal // what a reader gets, behind the queue

	orphaned                    bool // its writer is no more, or has finished
	readDeadline, writeDeadline deadline
}

// A segment is what travels together.
type segment struct {
	at   time.Time // when it arrives
	data []byte
}

// A refusal is an error from a certain time on. The zero one is none.
type refusal struct {
	err error
	at  time.Time
}

func (r refusal) now() error {
	if r.err != nil && !r.at.After(time.Now()) {
		return r.err
	}
	return nil
}

// A deadline wakes whoever waits when it is over.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) over() bool { return !d.at.IsZero() && !d.at.After(time.Now()) }

// newStream is made with Network.mu held.
func newStream(n *Network, from, to string) *stream {
	s := &stream{forth: n.route(from, to), back: n.route(to, from)}
	s.limit = cmp.Or(s.forth.buffer, normalBuffer)
	s.moved = sync.NewCond(&s.mu)
	return s
}

// wakeAfter has everybody look again. The caller holds mu.
func (s *stream) wakeAfter(d time.Duration) { time.AfterFunc(max(d, 0), s.wake) }

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved.Broadcast()
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case s.readDeadline.over():
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		}
		cut := s.forth.cut.Load()
		if len(s.queue) > 0 && !cut && !s.queue[0].at.After(time.Now()) {
			return s.take(b), nil
		}
		if err := s.ended.now(); err != nil && (len(s.queue) == 0 || err != io.EOF) && !cut {
			return 0, err
		}
		s.moved.Wait()
	}
}

// take is called with something to be read. The caller holds mu.
func (s *stream) take(b []byte) int {
	head := &s.queue[0]
	n := copy(b, head.data)
	if head.data = head.data[n:]; len(head.data) == 0 {
		s.queue = s.queue[1:]
		if len(s.queue) > 0 {
			s.wakeAfter(time.Until(s.queue[0].at))
		}
	}
	s.queued -= n
	s.moved.Broadcast()
	return n
}

// write takes as much of b as there is room for, at least something.
func (s *stream) write(b []byte, latency time.Duration) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.orphaned {
			return 0, net.ErrClosed
		}
		if s.writeDeadline.over() {
			return 0, os.ErrDeadlineExceeded
		}
		if err := s.refused.now(); err != nil && !s.back.cut.Load() {
			return 0, err
		}
		if s.queued < s.limit {
			break
		}
		s.moved.Wait()
	}
	n := min(len(b), s.limit-s.queued)
	s.add(append([]byte(nil), b[:n]...), latency)
	return n, nil
}

// add queues a segment behind the others. The caller holds mu.
func (s *stream) add(data []byte, latency time.Duration) {
	at := time.Now().Add(latency)
	if at.Before(s.last) {
		at = s.last
	}
	s.last = at
	s.queue = append(s.queue, segment{at, data})
	s.queued += len(data)
	if len(s.queue) == 1 {
		s.wakeAfter(time.Until(at))
	}
}

// finish is the writer's last word.
func (s *stream) finish(latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orphaned = true
	if s.ended.err == nil {
		at := time.Now().Add(latency)
		if at.Before(s.last) {
			at = s.last
		}
		s.ended = refusal{io.EOF, at}
		s.wakeAfter(time.Until(at))
	}
	s.moved.Broadcast()
}

// close is the reader's: who writes is told, somewhat later. It reports false if that is so already.
func (s *stream) close(err error, latency time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed, s.queue = true, nil
	if s.refused.err == nil {
		s.refused = refusal{err, time.Now().Add(latency)}
		s.wakeAfter(latency)
	}
	s.moved.Broadcast()
	return true
}

func (s *stream) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// abandon is the reader's end of which nobody is told.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.moved.Broadcast()
}

// orphan ends the writer's part of which nobody is told.
func (s *stream) orphan() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orphaned = true
	s.moved.Broadcast()
}

// end gives the reader an error after a while, in place of what has not arrived then.
func (s *stream) end(err error, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().Add(after)
	if s.ended.err == nil || s.ended.at.After(at) {
		s.ended = refusal{err, at}
	}
	s.wakeAfter(after)
}

// refuse gives the writer an error after a while.
func (s *stream) refuse(err error, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused.err == nil {
		s.refused = refusal{err, time.Now().Add(after)}
	}
	s.wakeAfter(after)
}

// delay has what has not arrived yet arrive later.
func (s *stream) delay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().Add(d)
	for i := range s.queue {
		if s.queue[i].at.Before(at) {
			s.queue[i].at = at
		}
	}
	if s.last.Before(at) {
		s.last = at
	}
	for _, r := range []*refusal{&s.ended, &s.refused} {
		if r.err != nil && r.at.Before(at) {
			r.at = at
		}
	}
	s.wakeAfter(d)
}

func (s *stream) setReadDeadline(t time.Time)  { s.setDeadline(&s.readDeadline, t) }
func (s *stream) setWriteDeadline(t time.Time) { s.setDeadline(&s.writeDeadline, t) }

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, s.wake)
	}
	s.moved.Broadcast()
}
