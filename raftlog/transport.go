package raftlog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// errCut is what connections fail with once the node is cut off.
var errCut = errors.New("connections of raft are cut off")

// errConnect is why a connection could not be made.
var errConnect = errors.New("cannot connect to Raft")

// DialFunc makes connections, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// A stream makes and accepts Raft's connections, and knows all of them, so that one call ends them.
type stream struct {
	listener      net.Listener
	closeListener func() error // once: who comes second waits, too, until the port is free
	dial          DialFunc
	advertise     address

	ended chan struct{} // 1 slot: a connection that another member made has ended

	mu    sync.Mutex
	conns map[*trackedConn]struct{} // nil once cut
}

func newStream(l net.Listener, advertise string, dial DialFunc) *stream {
	return &stream{
		listener: l, closeListener: sync.OnceValue(l.Close), dial: dial, advertise: address(advertise),
		ended: make(chan struct{}, 1), conns: make(map[*trackedConn]struct{}),
	}
}

// An address is where others reach this node's Raft.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// Accept waits for a connection of another member.
func (s *stream) Accept() (net.Conn, error) {
	c, err := s.listener.Accept()
	if err != nil {
		return nil, err
	}
	t, err := s.track(c)
	if err != nil {
		return nil, err
	}
	return acceptedConn{t}, nil
}

// Dial connects to another member.
func (s *stream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if s.isCut() {
		return nil, errCut
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := s.dial(ctx, "tcp", string(addr))
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", errConnect, addr, err)
	}
	t, err := s.track(c)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Addr is the address that others use.
func (s *stream) Addr() net.Addr { return s.advertise }

// Close ends the listener.
func (s *stream) Close() error { return s.closeListener() }

// cut closes the listener and every connection, and refuses new ones. It does not wait for anybody:
// each connection goes to a goroutine of its own, since closing one may block on its peer.
func (s *stream) cut() {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	go s.closeListener()
	for c := range conns {
		go c.Conn.Close()
	}
}

func (s *stream) isCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns == nil
}

func (s *stream) track(c net.Conn) (*trackedConn, error) {
	t := &trackedConn{Conn: c, stream: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		c.Close()
		return nil, errCut
	}
	s.conns[t] = struct{}{}
	return t, nil
}

// A trackedConn is known to its stream until it is closed.
type trackedConn struct {
	net.Conn
	stream *stream
}

func (c *trackedConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}

// An acceptedConn says when it has ended.
type acceptedConn struct{ *trackedConn }

// Close is called when the other side has closed the connection, or when it fails.
func (c acceptedConn) Close() error {
	select {
	case c.stream.ended <- struct{}{}:
	default:
	}
	return c.trackedConn.Close()
}
