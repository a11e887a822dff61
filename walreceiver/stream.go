package walreceiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// A Log is this node's log as it stands, and what a stream shares with the rest of the node.
type Log struct {
	Dir     *wal.Dir
	End     wal.End     // of the last whole record; everything before is durable
	History wal.History // of End.Timeline

	Applied *wal.Position // replay position, to be reported
	Horizon *wal.Position // moved forward to what the upstream says
	Wanted  *wal.Position // moved forward to what the upstream waits for to be applied

	// Cut takes everything from fork on out of the log and puts it aside. It is called by Run
	// before anything has been reported to the upstream, when the upstream's log left ours at fork.
	// Nothing is written any more by this stream afterwards.
	Cut func(ctx context.Context, fork wal.LSN) error
}

// A Stream follows an upstream on one timeline, over as many connections as it takes.
type Stream struct {
	cfg     Config
	dir     *wal.Dir
	history wal.History
	applied *wal.Position
	horizon *wal.Position
	wanted  *wal.Position
	cut     func(ctx context.Context, fork wal.LSN) error
	log     *slog.Logger
	raw     *wal.RawWriter

	at     mark   // end of what is written; owned by Run, and by the receiving goroutine while it lives
	epoch  uint64 // of the upstream, the latest promised: nothing older is followed; owned by Run
	failed int    // attempts in a row that brought nothing; owned by Run

	damaged time.Time     // since when all attempts end at the same WAL, damaged upstream; zero: none; owned by Run
	sound   atomic.Uint64 // what is here is acknowledged up to here: see Doubt
	wake    chan struct{} // says "look again" to the replier of a session

	clock Clock // the upstream's

	mu     sync.Mutex
	status Status
}

// New returns a stream that continues log. It does nothing before Run.
func New(cfg Config, log Log) *Stream {
	cfg = cfg.withDefaults()
	s := &Stream{
		cfg:     cfg,
		dir:     log.Dir,
		history: log.History,
		applied: log.Applied,
		horizon: log.Horizon,
		wanted:  log.Wanted,
		cut:     log.Cut,
		log:     cfg.Logger.With("component", "walreceiver", "primary", cfg.Primary),
		raw:     wal.NewRawWriter(log.Dir, log.History, log.End.LSN, cfg.SyncMethod),
		wake:    make(chan struct{}, 1),
		at:      mark{End: log.End},
	}
	s.sound.Store(uint64(noDoubt))
	s.status.State = StateStopped
	s.status.Slot = cfg.Slot
	return s
}

// Written is how far the log is verified and written here, Flushed how far it is durable. They stay
// what they are when a connection ends.
func (s *Stream) Written() *wal.Position { return s.raw.Written() }
func (s *Stream) Flushed() *wal.Position { return s.raw.Flushed() }

// noDoubt is where what is not acknowledged begins, if that is nothing.
const noDoubt = ^wal.LSN(0)

// Doubt has what is durable here be acknowledged up to from at most, until it is told otherwise: what has rotted behind
// that is not here any more. ^0: all of it is.
func (s *Stream) Doubt(from wal.LSN) {
	if s.sound.Swap(uint64(from)) == uint64(from) {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Acknowledged is how far the log may be acknowledged.
func (s *Stream) Acknowledged() wal.LSN { return min(s.Flushed().Load(), wal.LSN(s.sound.Load())) }

// ReadBuffered reads from the newest part of the log in memory.
func (s *Stream) ReadBuffered(p []byte, at wal.LSN) (n int, ok bool) {
	return s.raw.ReadBuffered(p, at)
}

// End is where the log ends, on which timeline, and its last record. It is not whole if some of the
// zeros that belong to a SWITCH have not come: the log must be recovered before it is continued. End
// is called once Run has returned, unless that failed with what it passed to Config.Fatal.
func (s *Stream) End() (end wal.End, whole bool) { return s.at.End, s.at.Pad <= s.at.LSN }

// Stalled is how long the oldest write or sync of the log has been under way, 0 if none is.
func (s *Stream) Stalled() time.Duration { return s.raw.Stalled() }

// A fatalError is a failure of our own disk: no other connection would help.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// errDiskFull says that there was no room for the next segment. Nothing has been lost: what came with
// it was not written, and will be asked for again.
var errDiskFull = errors.New("no space left on device for WAL")

// Run follows the upstream until ctx ends, reconnecting whenever that may help. It returns the cause
// of ctx, a *SwitchError, a *wal.RemovedError when the upstream does not have the WAL any more that
// comes next, a *wal.DamagedError when it has not been able to send it for a while, an *OtherSystemError, a
// *DivergedError, ErrUnbegun, or what it passed to Config.Fatal. Unless that was called, everything written is durable
// when Run returns. Run is called once.
func (s *Stream) Run(ctx context.Context) error {
	defer s.setState(StateStopped)
	defer s.raw.Close() // everything is flushed, or nothing counts any more
	var reported string
	for {
		begin, before := time.Now(), s.at.LSN
		err := s.attempt(ctx)
		s.noteDamage(err, s.at.LSN != before)
		if final := s.finish(ctx, err); final != nil {
			return final
		}
		if s.at.LSN != before || time.Since(begin) > s.cfg.RetryInterval() {
			s.failed, reported = 0, ""
		}
		if message := err.Error(); message != reported {
			s.log.Warn("replication stream interrupted", "error", err, "written", s.Written().Load(), "flushed", s.Flushed().Load())
			reported = message
		}
		s.setState(StateWaiting)
		s.pause(ctx, s.backoff(err))
	}
}

// damagePatience is how long an upstream is waited for that may have WAL repaired which it cannot send.
const damagePatience = time.Minute

// noteDamage notes what an attempt has ended with. One that got further has found another damaged place than the one
// before.
func (s *Stream) noteDamage(err error, further bool) {
	if _, damaged := errors.AsType[*wal.DamagedError](err); !damaged {
		s.damaged = time.Time{}
	} else if s.damaged.IsZero() || further {
		s.damaged = time.Now()
	}
}

// finish returns what Run ends with after an attempt that ended with err, or nil if another is made.
func (s *Stream) finish(ctx context.Context, err error) error {
	if _, ok := errors.AsType[fatalError](err); ok {
		s.cfg.Fatal(err)
		return err
	}
	// Before the end of ctx: the log may have been cut, and its owner must know.
	if switched, ok := errors.AsType[*SwitchError](err); ok {
		return switched
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, removed := errors.AsType[*wal.RemovedError](err)
	_, other := errors.AsType[*OtherSystemError](err)
	_, diverged := errors.AsType[*DivergedError](err)
	lost := !s.damaged.IsZero() && time.Since(s.damaged) >= damagePatience
	if removed || other || diverged || lost || errors.Is(err, ErrUnbegun) {
		return err
	}
	return nil
}

// backoff is the pause before the next attempt: short at first, doubling up to RetryInterval while
// nothing gets better, and never the same on two nodes that lost the same primary.
func (s *Stream) backoff(err error) time.Duration {
	longest := s.cfg.RetryInterval()
	if errors.Is(err, errDiskFull) {
		return longest
	}
	pause := min(longest, longest/64<<min(s.failed, 6))
	s.failed++
	return pause/2 + rand.N(pause/2+1)
}

func (s *Stream) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// attempt makes one connection and uses it as long as it lasts.
func (s *Stream) attempt(ctx context.Context) error {
	s.setState(StateStarting)
	c, err := connect(ctx, &s.cfg)
	if err != nil {
		return err
	}
	defer c.close()
	s.connected(c)
	for {
		before := s.at.LSN
		err := s.follow(ctx, c)
		if !errors.Is(err, errEndOfTimeline) || s.at.LSN == before {
			return err
		}
		s.setState(StateRestarting)
	}
}

// follow finds our place in the upstream's ancestry and streams from there.
func (s *Stream) follow(ctx context.Context, c *conn) error {
	sys, err := c.identifySystem(&s.cfg)
	if err != nil {
		return err
	}
	if err := s.promise(ctx, c); err != nil {
		return err
	}
	theirs, err := c.history(sys.Timeline)
	if err != nil {
		return err
	}
	r, err := plan(s.history, theirs, s.at.LSN)
	if err != nil {
		return err
	}
	if r.next.Timeline != 0 {
		return s.move(ctx, r)
	}
	if err := s.startReplication(c); err != nil {
		return err
	}
	return s.stream(ctx, c, r.fork)
}

// startReplication asks for the log from our end on.
func (s *Stream) startReplication(c *conn) error {
	slot := ""
	if s.cfg.Slot != "" && !s.cfg.Fetch {
		slot = `SLOT "` + strings.ReplaceAll(s.cfg.Slot, `"`, `""`) + `" `
	}
	err := c.startCopy(fmt.Sprintf("START_REPLICATION %s%s TIMELINE %d", slot, s.at.LSN, s.at.Timeline))
	if err != nil {
		return s.missing(err)
	}
	s.log.Info("started streaming WAL", "start", s.at.LSN, "timeline", s.at.Timeline)
	return nil
}

// missing recognises the upstream's answer that the WAL we need is gone there, or damaged.
func (s *Stream) missing(err error) error {
	e, ok := errors.AsType[*pgwire.Error](err)
	if !ok {
		return err
	}
	size := s.dir.Format.SegmentSize
	segment := size.FileName(s.at.Timeline, size.Segno(s.at.LSN))
	switch e.Code {
	case pgwire.CodeUndefinedFile:
		return &wal.RemovedError{Segment: segment}
	case pgwire.CodeDataCorrupted:
		return &wal.DamagedError{Segment: segment}
	}
	return err
}

// reserve makes sure that there is room for n bytes.
func (s *Stream) reserve(n int) error {
	if err := s.raw.Reserve(n); err != nil {
		return s.localFailure(err)
	}
	return nil
}

// write appends verified bytes to the log and notes where it ends now.
func (s *Stream) write(p []byte, end mark) error {
	if _, err := s.raw.Write(p); err != nil {
		return s.localFailure(err)
	}
	s.at = end
	return nil
}

// writeDurably is write and flush.
func (s *Stream) writeDurably(p []byte, end mark) error {
	if _, err := s.raw.WriteDurably(p); err != nil {
		return s.localFailure(err)
	}
	s.at = end
	return nil
}

// flush makes everything written durable. After a failure every later call fails too.
func (s *Stream) flush() error {
	if _, err := s.raw.Flush(); err != nil {
		return s.localFailure(err)
	}
	return nil
}

// localFailure sorts the failures of our own disk: a full one is waited for, any other ends the
// process.
func (s *Stream) localFailure(err error) error {
	noRoom := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	if noRoom && !wal.IsFatal(err) {
		return fmt.Errorf("%w: %w", errDiskFull, err)
	}
	return fatalError{err}
}
