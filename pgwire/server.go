package pgwire

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"time"
)

// Times that nobody needs to set.
const (
	lastWords     = 5 * time.Second // what a client gets to read the message that ends its connection
	watchInterval = time.Second     // how often the clients of long statements are looked at
	acceptRetry   = 50 * time.Millisecond
)

// Config is what a Server needs to know. Zero values mean the defaults.
type Config struct {
	// Handler answers the connections. Mandatory.
	Handler Handler

	// ServerVersion is reported as server_version: "15.18 (Longship 0.1)". Clients read the number
	// at its start and choose their dialect by it.
	ServerVersion string

	// MaxConnections bounds SQL connections (100), MaxWALSenders replication connections (10). As
	// many again may be in start-up; beyond that connections are closed unheard.
	MaxConnections int
	MaxWALSenders  int

	// AuthenticationTimeout is how long start-up may take, Handler.Connect included. It may change, for
	// connections that are made later. nil: 60 s.
	AuthenticationTimeout func() time.Duration

	// Authenticate decides about a client after its start-up packet was read; nil trusts everyone.
	// Its error is sent as FATAL.
	Authenticate func(ctx context.Context, c *Conn) error

	// MaxMessageLen bounds one message, in bytes (64 MiB). A longer one is an ERROR 54000.
	MaxMessageLen int

	// MaxSessionMemory bounds what a connection makes the server keep between messages, in bytes:
	// the texts of prepared statements, parameters of portals, rows that a portal's row limit held
	// back (128 MiB). More is an ERROR 53200.
	MaxSessionMemory int

	// Logger; nil discards.
	Logger *slog.Logger
}

// A Server accepts connections and keeps account of them.
type Server struct {
	cfg Config

	mu      sync.Mutex
	conns   map[int32]*Conn        // by PID, past the start-up packet
	sockets map[io.Closer]struct{} // connections in any phase, and listeners
	cut     bool
	lastPID int32
}

// NewServer makes a server. It listens to nothing until Serve.
func NewServer(cfg Config) *Server {
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 100)
	cfg.MaxWALSenders = cmp.Or(cfg.MaxWALSenders, 10)
	if cfg.AuthenticationTimeout == nil {
		cfg.AuthenticationTimeout = func() time.Duration { return time.Minute }
	}
	cfg.MaxMessageLen = cmp.Or(cfg.MaxMessageLen, 64<<20)
	cfg.MaxSessionMemory = cmp.Or(cfg.MaxSessionMemory, 128<<20)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Server{cfg: cfg, conns: make(map[int32]*Conn), sockets: make(map[io.Closer]struct{})}
}

// Serve accepts connections from ln until ctx ends, and closes ln. Then it ends the connections
// with ctx's cause, if that is an *Error, or 57P01, and returns nil when the last one is gone. If ln
// fails it does the same and returns the error. Several listeners may be served at once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	if !s.addSocket(ln) {
		ln.Close()
	}
	defer s.removeSocket(ln)

	var wg sync.WaitGroup
	wg.Go(func() { s.watchClients(ctx) })
	err := s.accept(ctx, ln, &wg)
	cancel(err)
	ln.Close()
	wg.Wait()
	return err
}

func (s *Server) accept(ctx context.Context, ln net.Listener, wg *sync.WaitGroup) error {
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			wg.Go(func() { s.ServeConn(ctx, nc) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of file descriptors, most likely: connections that end will free some
			s.cfg.Logger.Warn("cannot accept connection", "err", err)
			select {
			case <-time.After(acceptRetry):
			case <-ctx.Done():
			}
		}
	}
}

// ServeConn serves one connection that was accepted elsewhere, and returns when it has ended. It
// owns nc.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	if !s.addSocket(nc) {
		nc.Close()
		s.cfg.Logger.Warn("too many open connections", "remote", nc.RemoteAddr())
		return
	}
	defer s.removeSocket(nc)
	newConn(s, ctx, nc).serve()
}

func (s *Server) addSocket(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut || len(s.sockets) >= 2*(s.cfg.MaxConnections+s.cfg.MaxWALSenders) {
		return false
	}
	s.sockets[c] = struct{}{}
	return true
}

func (s *Server) removeSocket(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, c)
}

// Cut closes every connection and listener as they are, and takes no new ones. It does not wait: it is
// for a process that cannot go on, and may be unable to end while its disk hangs.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	// Listeners last: once theirs is closed, connections are told why they end.
	for _, listeners := range []bool{false, true} {
		for c := range s.sockets {
			if _, listens := c.(net.Listener); listens == listeners {
				c.Close()
			}
		}
	}
}

// register gives c its PID and key and makes it visible, or refuses it with 53300.
func (s *Server) register(c *Conn) *Error {
	rand.Read(c.secret[:])

	s.mu.Lock()
	defer s.mu.Unlock()
	same := 0
	for _, other := range s.conns {
		if other.Kind.Replication() == c.Kind.Replication() && other.Native == 0 {
			same++
		}
	}
	switch {
	case c.Native > 0 && c.Kind.Replication(): // a member: the cluster does not depend on how many clients there are
	case !c.Kind.Replication() && same >= s.cfg.MaxConnections:
		return Errorf(CodeTooManyConnections, "sorry, too many clients already").Fatal()
	case c.Kind.Replication() && same >= s.cfg.MaxWALSenders:
		return Errorf(CodeTooManyConnections, "number of requested standby connections exceeds max_wal_senders (currently %d)",
			s.cfg.MaxWALSenders).Fatal()
	}
	for taken := true; taken; _, taken = s.conns[s.lastPID] {
		s.lastPID = s.lastPID%math.MaxInt32 + 1
	}
	c.PID = s.lastPID
	s.conns[c.PID] = c
	return nil
}

func (s *Server) unregister(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.PID)
}

// Conns returns the connections there are, by PID; those still in start-up are not among them.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*Conn, 0, len(s.conns))
	for _, c := range s.conns {
		conns = append(conns, c)
	}
	slices.SortFunc(conns, func(a, b *Conn) int { return cmp.Compare(a.PID, b.PID) })
	return conns
}

func (s *Server) conn(pid int32) *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[pid]
}

// TerminateSessions ends all SQL connections there are with e as FATAL and waits until they are
// gone. Connections that come later, or that have not reached the Handler yet, are the Handler's to
// refuse.
func (s *Server) TerminateSessions(ctx context.Context, e *Error) error {
	return s.terminate(ctx, e, func(c *Conn) bool { return !c.Kind.Replication() })
}

// TerminateReplication ends the contexts of those replication connections for which of returns true,
// with e as the cause, and waits until they are gone. Commands end as they see fit; idle connections
// are sent e as FATAL.
func (s *Server) TerminateReplication(ctx context.Context, e *Error, of func(*Conn) bool) error {
	return s.terminate(ctx, e, func(c *Conn) bool { return c.Kind.Replication() && of(c) })
}

func (s *Server) terminate(ctx context.Context, e *Error, of func(*Conn) bool) error {
	conns := slices.DeleteFunc(s.Conns(), func(c *Conn) bool { return !of(c) })
	for _, c := range conns {
		c.cancel(e)
	}
	for _, c := range conns {
		select {
		case <-c.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// CancelBackend cancels what the connection with this PID is doing, if anything, as
// pg_cancel_backend does. It reports whether there is such a connection.
func (s *Server) CancelBackend(pid int32) bool {
	c := s.conn(pid)
	if c != nil {
		c.interrupt(ErrCanceled)
	}
	return c != nil
}

// TerminateBackend ends the connection with this PID with 57P01, as pg_terminate_backend does. It
// reports whether there is such a connection.
func (s *Server) TerminateBackend(pid int32) bool {
	c := s.conn(pid)
	if c != nil {
		c.cancel(adminShutdown())
	}
	return c != nil
}

// watchClients looks, once in a while, whether the clients of statements that take long are still
// there. Nobody reads their sockets meanwhile, and a short statement pays nothing.
func (s *Server) watchClients(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := make(map[*Conn]uint64)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		seen := make(map[*Conn]uint64)
		for _, c := range s.Conns() {
			work, ok := c.busy()
			if !ok || c.Kind.Replication() {
				continue
			}
			seen[c] = work
			if before, ok := last[c]; ok && before == work && peerClosed(c.nc) {
				c.cancel(ErrClientGone)
			}
		}
		last = seen
	}
}
