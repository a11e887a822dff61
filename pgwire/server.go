package pgwire

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// Times that nobody needs to set.
const (
	lastWords     = 5 * time.Second // what a client gets to read the message that ends its connection
	watchInterval = time.Second     // how often the clients of long statements are looked at
	logInterval   = 5 * time.Second // how often connections that were turned away are logged
	acceptRetry   = 50 * time.Millisecond
)

// Config is what a Server needs to know. Zero values mean the defaults.
type Config struct {
	// Handler answers the connections. Mandatory.
	Handler Handler

	// ServerVersion is reported as server_version: "15.18 (Longship 0.1)". Clients read the number
	// at its start and choose their dialect by it.
	ServerVersion string

	// MaxConnections bounds SQL connections (100), MaxWALSenders replication connections (10). Those of
	// members count for neither.
	MaxConnections int
	MaxWALSenders  int

	// ReservedConnections of MaxConnections are for those that Privileged is true of.
	ReservedConnections int
	Privileged          func(*Conn) bool

	// MaxStarting bounds the connections in start-up (MaxConnections + MaxWALSenders). Beyond that the
	// oldest of them is closed unheard for each that comes.
	MaxStarting int

	// AuthenticationTimeout is how long start-up may take, Handler.Connect included. It may change, for
	// connections that are made later. nil: 60 s.
	AuthenticationTimeout func() time.Duration

	// UserTimeout is how long what a client was sent may lie unread, or unacknowledged by its host, before its
	// connection is given up; 0 is for ever. It is TCP's (RFC 5482), so it costs nothing, and Linux's alone. It
	// may change, for connections that are made later. nil: for ever.
	UserTimeout func() time.Duration

	// Authenticate decides about a client after its start-up packet was read; nil trusts everyone.
	// Its error is sent as FATAL.
	Authenticate func(ctx context.Context, c *Conn) error

	// MaxMessageLen bounds one message, in bytes (64 MiB). A longer one is an ERROR 54000.
	MaxMessageLen int

	// MaxSessionMemory bounds what a connection makes the server keep between messages, in bytes:
	// the texts of prepared statements, parameters of portals, rows that a portal's row limit held
	// back of what writes (128 MiB). More is an ERROR 53200.
	MaxSessionMemory int

	// Memory is the account of what all connections make the server hold. nil: one without a limit.
	Memory *Memory

	// Logger; nil discards.
	Logger *slog.Logger
}

// A Server accepts connections and keeps account of them.
type Server struct {
	cfg Config

	mu sync.Mutex
	admission
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
	if cfg.Memory == nil {
		cfg.Memory = NewMemory(func() int64 { return 0 })
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	cfg.ReservedConnections = min(cfg.ReservedConnections, cfg.MaxConnections-1)
	cfg.MaxStarting = cmp.Or(cfg.MaxStarting, cfg.MaxConnections+cfg.MaxWALSenders)
	return &Server{cfg: cfg, admission: admission{conns: make(map[int32]*Conn), sockets: make(map[io.Closer]struct{})}}
}

// Memory is the account of what all connections hold.
func (s *Server) Memory() *Memory { return s.cfg.Memory }

// Serve accepts connections from ln until ctx ends, and closes ln. Then it ends the connections
// with ctx's cause, if that is an *Error, or 57P01, and returns nil when the last one is gone. If ln
// fails it does the same and returns the error. Several listeners may be served at once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	if !s.addListener(ln) {
		ln.Close()
	}
	defer s.removeListener(ln)

	var wg sync.WaitGroup
	wg.Go(func() { s.watchClients(ctx) })
	wg.Go(func() { s.logTurnedAway(ctx) })
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
			// Taken here: goroutines begin in any order, and the eldest in start-up is the first to go.
			if c := s.take(ctx, nc); c != nil {
				wg.Go(func() { s.serve(c) })
			}
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
	if c := s.take(ctx, nc); c != nil {
		s.serve(c)
	}
}

// take makes a connection one of the server's, or closes it and returns nil.
func (s *Server) take(ctx context.Context, nc net.Conn) *Conn {
	c := newConn(s, ctx, nc)
	if !s.begin(c) {
		c.cancel(nil)
		nc.Close()
		return nil
	}
	return c
}

func (s *Server) serve(c *Conn) {
	defer s.end(c)
	c.serve()
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
			work, ok := c.look()
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
