package walreceiver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// errEndOfTimeline says that the upstream has sent all there is on our timeline.
var errEndOfTimeline = errors.New("the timeline has ended")

// startCopy sends START_REPLICATION and waits for the stream to begin. It returns errEndOfTimeline if
// there is nothing to stream.
func (c *conn) startCopy(command string) error {
	if err := c.send(&pgproto3.Query{String: command}); err != nil {
		return err
	}
	msg, err := c.receive()
	if err != nil {
		return err
	}
	switch msg := msg.(type) {
	case *pgproto3.CopyBothResponse:
		return nil
	case *pgproto3.RowDescription:
		if _, err := c.result(); err != nil {
			return err
		}
		return errEndOfTimeline
	case *pgproto3.ErrorResponse:
		return serverError(msg)
	default:
		return unexpected(msg)
	}
}

// endCopy answers the upstream's CopyDone and reads what follows it: the next timeline, which we find
// out from its history, and two command tags.
func (c *conn) endCopy() error {
	if err := c.send(&pgproto3.CopyDone{}); err != nil {
		return err
	}
	_, err := c.result()
	return err
}

// A session is a stream on one connection. Two goroutines share it.
type session struct {
	s     *Stream
	c     *conn
	limit wal.LSN // of our timeline in the upstream's history

	// Owned by the receiving goroutine.
	ver    *verifier
	msg    pgwire.ServerMessage
	coming wal.LSN // the end of the upstream's log, when it sent the last message

	begun     chan struct{}   // closed by the receiver when id is known
	id        pgwire.StreamID // of the upstream's stream
	wake      chan struct{}   // says "look again" to the replier
	requested atomic.Bool     // a reply has been asked for
	lease     atomic.Int64    // the lease request that was granted last and is not answered yet; 0: none
	began     time.Time       // a nanosecond earlier
	heard     atomic.Int64    // when the last message came, nanoseconds after began, by the monotonic clock

	replying chan struct{}       // a lock, in the hand of whoever syncs and replies; guards the rest
	sent     pgwire.StatusUpdate // the last report
	sentAt   time.Time
	pinged   int64 // the value of heard for which a sign of life has been asked
	quick    bool  // the last sync was
	replies  []byte
}

// stream receives until the connection or the timeline ends.
func (s *Stream) stream(ctx context.Context, c *conn, limit wal.LSN) error {
	r := &session{
		s:     s,
		c:     c,
		limit: limit,
		ver:   newVerifier(s.dir.Format, s.history, s.at),
		began: time.Now().Add(-1),
		begun: make(chan struct{}),
		wake:  s.wake,

		replying: make(chan struct{}, 1),
	}
	r.heard.Store(1)
	s.startedAt(s.at.LSN, s.at.Timeline)
	err := r.run(ctx)
	if flushErr := s.flush(); flushErr != nil {
		return flushErr
	}
	if errors.Is(err, errEndOfTimeline) {
		if err := c.endCopy(); err != nil {
			return err
		}
	}
	return s.missing(err)
}

// run returns when both goroutines have ended, with what ended the first.
func (r *session) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := func(err error) {
		if !errors.Is(err, errEndOfTimeline) {
			r.c.net.Close() // unblocks the other goroutine
		}
		cancel(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { end(r.receive()) })
	wg.Go(func() {
		if err := r.reply(ctx); err != nil {
			end(err)
		}
	})
	wg.Wait()
	return context.Cause(ctx)
}

// receive is the first stage: it reads, verifies and writes.
func (r *session) receive() error {
	for {
		msg, err := r.c.receive()
		if err != nil {
			return err
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			if err := r.message(msg.Data); err != nil {
				return err
			}
		case *pgproto3.CopyDone:
			return errEndOfTimeline
		case *pgproto3.CommandComplete:
			return fmt.Errorf("the upstream has ended the stream: it is shutting down")
		case *pgproto3.ErrorResponse:
			return serverError(msg)
		case *pgproto3.ParameterStatus:
		default:
			return unexpected(msg)
		}
	}
}

// message acts on one message of the stream.
func (r *session) message(b []byte) error {
	m := &r.msg
	if err := m.Decode(b); err != nil {
		return err
	}
	now := time.Now()
	r.heard.Store(int64(now.Sub(r.began)))
	if m.Kind == pgwire.StreamKeepalive {
		k := &m.Keepalive
		if err := r.belongs(k.Native, k.Stream); err != nil {
			return err
		}
		r.grant(k.Lease)
		r.s.horizon.Advance(k.Horizon)
		r.s.noted(k.End, k.Time, now)
		if k.ReplyRequested {
			r.s.wanted.Advance(k.Horizon)
			r.requested.Store(true)
			r.wakeReplier()
		}
		return nil
	}
	x := &m.XLogData
	if err := r.belongs(x.Native, x.Stream); err != nil {
		return err
	}
	r.grant(x.Lease)
	r.coming = x.End
	r.s.raw.Expect(x.End)
	err := r.data(x.Start, x.Data)
	if err == nil {
		// Only now: replay has nothing to do before the bytes are there.
		r.s.horizon.Advance(x.Horizon)
		r.s.noted(x.End, x.Time, now)
	}
	return err
}

// belongs checks that a message is of this stream. The first one says which stream that is; its epoch
// is the one that was promised.
func (r *session) belongs(native bool, id pgwire.StreamID) error {
	switch {
	case !native:
		return ErrNotNative
	case r.begins():
		if id.Epoch != r.s.epoch {
			return fmt.Errorf("protocol violation: a stream of epoch %d from an upstream of epoch %d", id.Epoch, r.s.epoch)
		}
		r.id = id
		close(r.begun)
		r.s.begun(id.Epoch)
		return nil
	case id != r.id:
		return fmt.Errorf("protocol violation: a message of epoch %d, session %016x on a stream of epoch %d, session %016x", id.Epoch, id.Session, r.id.Epoch, r.id.Session)
	}
	return nil
}

// grant promises the primary what it asks for. The promise is on record here before the primary can
// hear of it.
func (r *session) grant(request pgwire.LeaseRequest) {
	leases := r.s.cfg.Leases
	if request == 0 || leases == nil || r.s.cfg.Fetch || !leases.Grant(r.id.Epoch) {
		return
	}
	r.lease.Store(int64(request))
	r.wakeReplier()
}

func (r *session) begins() bool {
	select {
	case <-r.begun:
		return false
	default:
		return true
	}
}

// data takes in WAL that starts at start.
func (r *session) data(start wal.LSN, p []byte) error {
	if start != r.ver.next {
		return fmt.Errorf("protocol violation: WAL at %s where %s comes next", start, r.ver.next)
	}
	if end := start + wal.LSN(len(p)); end > r.limit {
		p = p[:r.limit-start] // the upstream's history says that this was never part of the log
	}
	ready, invalid := r.ver.add(p)
	if len(ready) > 0 {
		if err := r.take(ready); err != nil {
			return err
		}
	}
	if invalid != nil {
		r.refuse(invalid)
		return fmt.Errorf("invalid WAL received: %w", invalid)
	}
	return nil
}

// refuseTime bounds how long the upstream is waited for that is told that its WAL is refused.
const refuseTime = time.Second

// refuse tells the upstream where what it has sent makes no sense, so that it looks at its disk. The stream is over
// in any case: if that cannot be said now, it will be the next time.
func (r *session) refuse(cause error) {
	invalid, ok := errors.AsType[*wal.InvalidError](cause)
	if !ok {
		return
	}
	// A report may be on its way to somebody who does not read.
	defer time.AfterFunc(refuseTime, func() { r.c.net.Close() }).Stop()
	r.replying <- struct{}{}
	defer r.unlock()
	if err := r.c.send(pgwire.RefuseWAL(invalid.At, invalid.Reason)); err != nil {
		r.s.log.Warn("cannot tell the upstream that its WAL is invalid", "at", invalid.At, "err", err)
	}
}

// The receiver syncs up to inlineBytes itself on a disk whose last sync took no longer than inlineTime.
const (
	inlineBytes = 64 << 10
	inlineTime  = time.Millisecond
)

// take writes verified bytes and sees to it that they are synced and reported. If there is nothing to read
// meanwhile, and the disk is quick, the receiver does that itself: to wake another goroutine for it costs
// more than to let what may come wait in the socket.
func (r *session) take(p []byte) error {
	if err := r.s.reserve(len(p)); err != nil { // before replying is held: it may take its time
		return err
	}
	if !r.alone(len(p)) {
		if err := r.s.write(p, r.ver.end); err != nil {
			return err
		}
		if r.syncDue() {
			r.wakeReplier()
		}
		return nil
	}
	defer r.unlock()
	begin := time.Now()
	if err := r.s.writeDurably(p, r.ver.end); err != nil {
		return err
	}
	_, err := r.report(begin)
	return err
}

// While more than syncAhead that is released is on its way here, syncs may be syncEvery apart.
const (
	syncAhead = 1 << 20
	syncEvery = 1 << 20
)

// syncDue reports whether what is written is to be synced. Nobody waits for it while much more is on its way that was
// released without it: each sync takes the disk and the file system from others, who may be committing. For what lies
// beyond the horizon a commit may wait, however much has been written behind it.
func (r *session) syncDue() bool {
	written, released := r.s.Written().Load(), min(r.coming, r.s.horizon.Load())
	return released <= written+syncAhead || written >= r.s.Flushed().Load()+syncEvery
}

// alone reports whether the receiver syncs n bytes itself. Then it holds replying.
func (r *session) alone(n int) bool {
	if n > inlineBytes || r.c.fe.ReadBufferLen() > 0 {
		return false
	}
	select {
	case r.replying <- struct{}{}:
	default: // the replier is at it, and will look again
		return false
	}
	if !r.quick {
		r.unlock()
		return false
	}
	return true
}

func (r *session) unlock() { <-r.replying }

// flushAndReport syncs what is written and reports it, and whatever else is due. It says whether there was
// anything to report. The caller holds replying.
func (r *session) flushAndReport() (reported bool, err error) {
	begin, flushed := time.Now(), r.s.Flushed().Load()
	if err := r.s.flush(); err != nil {
		return false, err
	}
	if r.s.Flushed().Load() == flushed {
		begin = time.Time{}
	}
	return r.report(begin)
}

// report reports what is due to be. If something has been synced, since begin, it notes how quick that was.
func (r *session) report(begin time.Time) (reported bool, err error) {
	now := time.Now()
	if !begin.IsZero() {
		r.quick = now.Sub(begin) <= inlineTime
	}
	due, ping := r.due(now)
	if !due && !ping {
		return false, nil
	}
	return true, r.send(ping)
}

func (r *session) wakeReplier() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// reply is the second and third stage: it syncs whatever is written, for as long as there is
// something, and reports each time. When there is nothing to sync it reports what else has changed.
func (r *session) reply(ctx context.Context) error {
	select {
	case <-r.begun:
	case <-ctx.Done():
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	r.requested.Store(true) // the upstream wants to know where we begin
	for ctx.Err() == nil {
		reported, next, err := r.replyOnce()
		if err != nil {
			return err
		}
		if !reported {
			r.wait(ctx, timer, next)
		}
	}
	return nil
}

// replyOnce does what is to be done now. If that is nothing, next says when there may be something.
func (r *session) replyOnce() (reported bool, next occasion, err error) {
	r.replying <- struct{}{}
	defer r.unlock()
	if reported, err = r.flushAndReport(); err == nil && !reported {
		next = r.next()
	}
	return reported, next, err
}

// due says whether a report is to be sent now, and whether it asks for an answer.
func (r *session) due(now time.Time) (due, ping bool) {
	cfg := &r.s.cfg
	since := now.Sub(r.sentAt)
	switch {
	case r.requested.Swap(false), r.lease.Load() != 0, r.s.Acknowledged() != r.sent.Flush:
		due = true
	case r.applyDue(since):
		due = true
	default:
		every := cfg.StatusInterval()
		due = every > 0 && since >= every
	}
	heard := r.heard.Load()
	if half := cfg.Timeout() / 2; half > 0 && heard != r.pinged && now.Sub(r.began)-time.Duration(heard) >= half {
		r.pinged, ping = heard, true
	}
	return due, ping
}

// applyDue reports whether the upstream is to hear how far replay is, since the last report: at once of what
// it has asked for.
func (r *session) applyDue(since time.Duration) bool {
	applied, wanted := r.s.applied.Load(), r.s.wanted.Load()
	return applied != r.sent.Apply && (since >= r.s.cfg.ApplyInterval || r.sent.Apply < wanted && applied >= wanted)
}

// An occasion is when a report may be due, beside those that somebody wakes the replier for.
type occasion struct {
	pause   time.Duration
	applied <-chan struct{} // nil: of no interest
}

// next says when a report may be due. The caller holds replying.
func (r *session) next() occasion {
	cfg := &r.s.cfg
	next := occasion{pause: time.Hour}
	if every := cfg.StatusInterval(); every > 0 {
		next.pause = time.Until(r.sentAt.Add(every))
	}
	if half := cfg.Timeout() / 2; half > 0 {
		again := half // asked and not answered yet: the silence after the answer will not be as long before that
		if heard := r.heard.Load(); heard != r.pinged {
			again = time.Until(r.began.Add(time.Duration(heard) + half))
		}
		next.pause = min(next.pause, again)
	}
	quiet := time.Until(r.sentAt.Add(cfg.ApplyInterval))
	if quiet <= 0 {
		next.applied = r.s.applied.Changed(r.sent.Apply)
		return next
	}
	next.pause = min(next.pause, quiet)
	if wanted := r.s.wanted.Load(); wanted > r.sent.Apply {
		next.applied = r.s.applied.Changed(wanted - 1)
	}
	return next
}

// wait returns when something may be due.
func (r *session) wait(ctx context.Context, timer *time.Timer, next occasion) {
	timer.Reset(max(next.pause, 0))
	select {
	case <-r.wake:
	case <-next.applied:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// send reports where we are. The caller holds replying.
func (r *session) send(ping bool) error {
	now := time.Now()
	r.sent = pgwire.StatusUpdate{
		Write:          r.s.Written().Load(),
		Flush:          r.s.Acknowledged(),
		Apply:          r.s.applied.Load(),
		Time:           wal.TimestampOf(now),
		ReplyRequested: ping,
		Native:         true,
		Stream:         r.id,
		Lease:          pgwire.LeaseRequest(r.lease.Swap(0)),
	}
	r.sentAt = now
	b := append(r.replies[:0], 'd', 0, 0, 0, 0)
	b = r.sent.Append(b)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	r.replies = b
	return r.c.sendEncoded(b)
}
