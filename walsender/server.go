package walsender

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A System identifies the log that a node holds.
type System struct {
	SystemID uint64
	Epoch    uint64
	Timeline wal.TimelineID // the current one
	History  wal.History    // of Timeline
	Format   wal.Format
}

// A Log is what a node's role offers to senders. It lasts as long as the role.
type Log struct {
	System
	Dir    *wal.Dir
	Buffer wal.Buffered // the newest part in memory; nil if nobody writes

	// How far the log is being made durable here, is durable here, and is durable under the rule. On a
	// standby Flushing is Flushed.
	Flushing, Flushed, Horizon *wal.Position
}

// Config is what a Server needs to know.
type Config struct {
	Log     *Log
	Primary bool // of Log; else a standby that passes on what it has

	Slots *slots.Slots
	Sync  *syncrep.Group // where clients' reports count; nil on a standby

	// CreateSlot and DropSlot make a permanent slot, and remove any, where the whole cluster has to
	// agree. Errors of package slots get their SQLSTATE. nil: Slots is asked alone.
	CreateSlot func(ctx context.Context, name string, reserveWAL bool) error
	DropSlot   func(ctx context.Context, name string, pid int32, wait bool) error

	// ReserveSlot is asked before a client's stream begins at start with a permanent slot: once it returns
	// without error the slot keeps WAL from there on, or before, wherever it has to. nil: not needed.
	ReserveSlot func(ctx context.Context, h *slots.Handle, name string, start wal.LSN) error

	// Redo is the redo position of the last checkpoint: where a slot created with RESERVE_WAL begins.
	Redo func() wal.LSN

	// Timeout is wal_sender_timeout: a streaming client that is silent for so long is dropped. 0: never.
	// The channel is closed when it may have changed. nil: never.
	Timeout func() (time.Duration, <-chan struct{})

	// CatchupRate is wal_catchup_rate, in bytes a second: how fast WAL is sent to one who catches up while commits
	// are released. 0, or nil: as fast as can be.
	CatchupRate func() int64

	// Show answers SHOW: the value of a setting, if there is such a setting. Clients ask for
	// wal_segment_size and data_directory_mode.
	Show func(name string) (string, bool)

	Backup Backuper // makes base backups; nil: BASE_BACKUP is refused

	// CaughtUp is called when others may count under a rule than before: a member has been sent everything
	// there was, for the first time on its stream, or a receiver has, and has reported what it has flushed;
	// or such a stream has ended. It must not block. May be nil.
	CaughtUp func()

	// Refused is told of the record that a member could not make sense of, and ended its stream for. It must not
	// block. May be nil.
	Refused func(at wal.LSN)

	// Sealed reports whether this node has promised to acknowledge nothing any more of the epoch of
	// its log, and neither writes nor follows. Its log then stands still, and a member may fetch what
	// it holds beyond the horizon. nil: never.
	Sealed func() bool

	// Fatal ends the process: after a failed sync of a slot's file nobody knows what is on disk.
	Fatal func(error)

	Logger *slog.Logger // nil discards
}

// A Server answers the replication connections of a node, for as long as its role lasts.
type Server struct {
	cfg Config
	log *slog.Logger

	draining chan struct{} // closed by Drain

	mu       sync.Mutex
	drained  bool // Drain has begun
	sessions map[*Session]struct{}
}

// New returns a server without connections.
func New(cfg Config) *Server {
	if cfg.Timeout == nil {
		cfg.Timeout = func() (time.Duration, <-chan struct{}) { return 0, nil }
	}
	if cfg.CatchupRate == nil {
		cfg.CatchupRate = func() int64 { return 0 }
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg:      cfg,
		log:      log.With("component", "walsender"),
		draining: make(chan struct{}),
		sessions: make(map[*Session]struct{}),
	}
}

// Connect takes a replication connection. It ends with the Close of what is returned.
func (s *Server) Connect(ctx context.Context, c *pgwire.Conn) (pgwire.Replication, error) {
	session := &Session{
		server: s,
		conn:   c,
		name:   c.Params["application_name"],
		log:    s.log.With("pid", c.PID, "client", c.Params["application_name"]),
	}
	if c.Native > 0 {
		var err error
		if session.id, err = memberOf(c); err != nil {
			return nil, err
		}
		session.fetch = c.Params["longship.fetch"] == "on"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		return nil, pgwire.Errorf(pgwire.CodeCannotConnectNow, "the database system is shutting down").Fatal()
	}
	s.sessions[session] = struct{}{}
	return session, nil
}

// memberOf is who a member of the cluster says it is.
func memberOf(c *pgwire.Conn) (syncrep.ID, error) {
	var id syncrep.ID
	for name, v := range map[string]*uint64{
		"longship.node_id": &id.Node, "longship.incarnation": &id.Incarnation,
	} {
		n, err := strconv.ParseUint(c.Params[name], 16, 64)
		if err != nil || n == 0 {
			return id, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "invalid value for start-up parameter %q: %q", name, c.Params[name]).
				WithDetail("A member of the cluster gives a hexadecimal number, which is not 0.").Fatal()
		}
		*v = n
	}
	return id, nil
}

func (s *Server) remove(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session)
}

// begin registers a command that runs. While the server drains, no new one may.
func (s *Server) begin(session *Session, cancel context.CancelCauseFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "cannot execute new commands while WAL sender is in stopping mode")
	}
	session.cancel = cancel
	session.done = make(chan struct{})
	return nil
}

func (s *Server) end(session *Session) {
	s.mu.Lock()
	st := session.streaming
	close(session.done)
	session.cancel, session.done, session.streaming = nil, nil, nil
	s.mu.Unlock()
	if st != nil && st.counted.Load() {
		st.streamingChanged()
	}
}

// began makes the stream that a session runs known to Drain and RuleChanged.
func (s *Server) began(session *Session, st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session.streaming = st
}

// Streaming returns the members that are in state streaming now: their streams have caught up once,
// and go on.
func (s *Server) Streaming() []syncrep.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []syncrep.ID
	for session := range s.sessions {
		st := session.streaming
		if st != nil && st.native && st.streaming.Load() && !slices.Contains(ids, session.id) {
			ids = append(ids, session.id)
		}
	}
	return ids
}

// RuleChanged says that synchronous_standby_names means something else now. Receivers that it names,
// or names no more, are looked at again.
func (s *Server) RuleChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		if session.streaming != nil {
			session.streaming.ruleChanged.Store(true)
			session.streaming.poke()
		}
	}
}

// Drain is the last part of a shutdown: nothing is added to the log any more. No new command is
// accepted, commands other than streams are ended, and each stream ends once its client has
// confirmed all there is, in the way that tells it of a regular end. Drain returns when they have
// ended, or with the cause of ctx. The connections remain, for pgwire to close.
func (s *Server) Drain(ctx context.Context) error {
	for _, done := range s.beginDrain() {
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// beginDrain returns what closes when each of the running commands has ended.
func (s *Server) beginDrain() []<-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.drained {
		s.drained = true
		close(s.draining)
	}
	var running []<-chan struct{}
	for session := range s.sessions {
		if session.done == nil {
			continue
		}
		if session.streaming == nil {
			session.cancel(pgwire.Errorf(pgwire.CodeAdminShutdown, "terminating connection due to administrator command").Fatal())
		}
		running = append(running, session.done)
	}
	return running
}

// Sessions of the server, in the order of their PIDs.
func (s *Server) sorted() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.sessions), func(a, b *Session) int { return int(a.conn.PID - b.conn.PID) })
}
