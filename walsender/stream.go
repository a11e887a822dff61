package walsender

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// maxChunk is the most WAL that one message carries: 16 pages, as in PostgreSQL (MAX_SEND_SIZE).
const maxChunk = 16 * wal.PageSize

// horizonLinger is how long after WAL a member waits for news of the horizon alone. While commits come, the
// next WAL brings them along, and half of all messages are saved.
const horizonLinger = time.Millisecond

// noEnd is the end of a timeline that has none yet.
const noEnd = ^wal.LSN(0)

// errCopyDone is how a stream ends that the client has no more need of.
var errCopyDone = errors.New("the client has ended the stream")

// A stream sends the log to one client, from START_REPLICATION until one of the two has enough.
//
//	send     looks at positions and sends what lies below them: the only writer of the connection
//	receive  reads the client's reports: the only reader of it
//	watch    asks for a report, and gives up, when the client has been silent for too long
type stream struct {
	session  *Session
	log      *Log
	timeline wal.TimelineID
	start    wal.LSN
	end      wal.LSN // of the timeline, where another has left it; noEnd if it is the current one
	native   bool
	id       pgwire.StreamID
	slot     *slots.Handle   // nil without one
	sync     *syncrep.Handle // nil on a standby
	began    time.Time

	sent  wal.Position // set before the bytes go out, so that no report is ahead of it
	heard atomic.Int64 // when the client last said something: nanoseconds since began
	lease atomic.Int64 // the latest lease request that was sent; 0: none

	streaming atomic.Bool // has caught up once
	flushes   atomic.Bool // the client has reported a flush position
	counted   atomic.Bool // it was told that the stream counts
	lag       lagTracker

	// What others ask of send, each followed by a poke.
	answer      atomic.Bool // the client wants a keepalive
	ask         atomic.Bool // the client has to be asked for a report
	ruleChanged atomic.Bool
	wake        chan struct{}

	// Of send alone.
	limit limit
	raw   *wal.RawReader
	buf   []byte // one message: header and maxChunk bytes of WAL
	pace  pace

	greeted     bool        // a native client has had a message, and so can answer
	told        wal.LSN     // the horizon that a native client knows
	dataAt      time.Time   // when WAL was sent last
	linger      *time.Timer // see horizonNews and rest
	leaseWanted bool        // the group waits for the member's promise
	drained     bool        // the server drains, and send has noticed
	asked       bool        // while draining: for a report
}

// startReplication answers START_REPLICATION.
func (s *Session) startReplication(ctx context.Context, cmd startReplication) error {
	if cmd.logical {
		return errLogical()
	}
	st := s.newStream()
	if cmd.slot != "" {
		var err error
		if st.slot, err = s.acquireSlot(cmd.slot); err != nil {
			return err
		}
		defer st.slot.Release()
	}
	if err := st.place(cmd); err != nil {
		return err
	}
	if err := s.mayFetch(); err != nil {
		return err
	}
	if st.start < st.end {
		if err := st.reserve(ctx, cmd.slot); err != nil {
			return err
		}
		if err := st.run(ctx); err != nil {
			return err
		}
	}
	return st.conclude()
}

func errLogical() error {
	return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "logical replication is not supported")
}

// reserve has the slot of a client keep what the stream begins with, before anything is sent. A member's does,
// since it was admitted.
func (st *stream) reserve(ctx context.Context, slot string) error {
	reserve := st.session.server.cfg.ReserveSlot
	if st.slot == nil || st.native || reserve == nil {
		return nil
	}
	return reserve(ctx, st.slot, slot, st.start)
}

// place finds the timeline that the client asks for in our history, and where it ends.
func (st *stream) place(cmd startReplication) error {
	st.timeline, st.start, st.end = st.log.Timeline, cmd.start, noEnd
	if cmd.timeline == 0 || cmd.timeline == st.log.Timeline {
		return nil
	}
	end, ok := st.log.History.End(cmd.timeline)
	if !ok {
		return pgwire.Errorf(pgwire.CodeInternalError, "requested timeline %d is not in this server's history", cmd.timeline)
	}
	if cmd.start > end {
		return pgwire.Errorf(pgwire.CodeInternalError, "requested starting point %s on timeline %d is not in this server's history", cmd.start, cmd.timeline).
			WithDetail("This server's history forked from timeline %d at %s.", cmd.timeline, end)
	}
	st.timeline, st.end = cmd.timeline, end
	return nil
}

func (s *Session) newStream() *stream {
	log := s.server.cfg.Log
	st := &stream{
		session: s,
		log:     log,
		native:  !s.id.IsZero(),
		began:   time.Now(),
		raw:     wal.NewRawReader(log.Dir, log.History, log.Buffer).Intact(),
		buf:     make([]byte, 0, pgwire.NativeXLogDataHeaderSize+maxChunk),
		wake:    make(chan struct{}, 1),
		linger:  time.NewTimer(horizonLinger),
	}
	if st.native {
		st.id = pgwire.StreamID{Epoch: log.Epoch, Session: rand.Uint64()}
	}
	return st
}
