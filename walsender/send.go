package walsender

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// send looks at the positions, sends what there is, and waits for them to move. It returns nil at the
// end of a timeline that others have gone on from; the client ends the stream then.
func (st *stream) send(ctx context.Context) error {
	defer st.linger.Stop()
	st.limit = st.session.visible() // a rule that changes from now on finds the stream: see began
	for ctx.Err() == nil {
		if err := st.heed(); err != nil {
			return err
		}
		limit := min(st.limit.load(), st.end)
		if st.sent.Load() < limit {
			if rest := st.rest(); rest > 0 {
				st.linger.Reset(rest)
				if err := st.await(ctx, nil, nil, st.linger.C); err != nil {
					return err
				}
				continue
			}
			if err := st.sendChunk(limit); err != nil {
				return err
			}
			if st.sent.Load() == limit {
				st.caughtUp()
			}
			continue
		}
		if st.sent.Load() == st.end {
			st.session.conn.Send(&pgproto3.CopyDone{})
			return st.session.conn.Flush()
		}
		st.caughtUp()
		if err := st.idle(limit); err != nil {
			return err
		}
		if err := st.wait(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// heed does what others asked for, whether or not there is WAL to send.
func (st *stream) heed() error {
	if st.ruleChanged.Swap(false) {
		st.limit = st.session.visible()
	}
	if err := st.session.mayFetch(); err != nil {
		return err
	}
	ask, answer := st.ask.Swap(false), st.answer.Swap(false)
	if ask || answer || st.wantsLease() {
		return st.keepalive(ask)
	}
	return nil
}

// sendChunk sends one message of WAL below limit. What does not fit ends at a page boundary.
func (st *stream) sendChunk(limit wal.LSN) error {
	sent := st.sent.Load()
	end := limit
	if limit-sent > maxChunk {
		end = (sent + maxChunk) &^ (wal.PageSize - 1)
	}
	now := time.Now()
	header := pgwire.XLogData{Start: sent, End: limit, Time: wal.TimestampOf(now)}
	if st.native {
		st.told, st.greeted = st.log.Horizon.Load(), true
		header.Native, header.Horizon, header.Stream, header.Lease = true, st.told, st.id, st.leaseRequest(now)
	}
	msg := header.AppendHeader(st.buf[:0])
	head := len(msg)
	msg = msg[:head+int(end-sent)]
	if err := st.read(msg[head:], sent); err != nil {
		return err
	}
	st.lag.note(limit, now)
	st.sent.Advance(end)
	st.dataAt = now
	if err := st.session.conn.SendCopyData(msg); err != nil {
		return err
	}
	return st.session.conn.Flush()
}

// read fills p with the log from position at on.
func (st *stream) read(p []byte, at wal.LSN) error {
	for len(p) > 0 {
		n, err := st.raw.ReadAt(p, at)
		if err != nil {
			return walError(err)
		}
		p, at = p[n:], at+wal.LSN(n)
	}
	return nil
}

// walError gives an error of reading the log its SQLSTATE.
func walError(err error) error {
	if removed, ok := errors.AsType[*wal.RemovedError](err); ok {
		return pgwire.Errorf(pgwire.CodeUndefinedFile, "%w", removed)
	}
	if damaged, ok := errors.AsType[*wal.DamagedError](err); ok {
		return pgwire.Errorf(pgwire.CodeDataCorrupted, "%w", damaged)
	}
	return pgwire.Errorf(pgwire.CodeIOError, "%w", err)
}

func (st *stream) keepalive(ask bool) error {
	now := time.Now()
	m := pgwire.Keepalive{End: st.sent.Load(), Time: wal.TimestampOf(now), ReplyRequested: ask}
	if st.native {
		st.told, st.greeted = st.log.Horizon.Load(), true
		m.Native, m.Horizon, m.Stream, m.Lease = true, st.told, st.id, st.leaseRequest(now)
	}
	if err := st.session.conn.SendCopyData(m.Append(st.buf[:0])); err != nil {
		return err
	}
	return st.session.conn.Flush()
}

// caughtUp is called when the client has been sent all there was when send looked. From then on it
// counts under the rule, unless it follows a timeline of the past.
func (st *stream) caughtUp() {
	if st.streaming.Load() || st.end != noEnd {
		return
	}
	st.setState(syncrep.Streaming)
	st.streaming.Store(true)
	st.maybeCounts()
}

// maybeCounts tells once that the stream may count from now on: a member's as soon as it has caught up, whatever
// it has flushed, a receiver's not before it has said so.
func (st *stream) maybeCounts() {
	if st.streaming.Load() && (st.native || st.flushes.Load()) && st.counted.CompareAndSwap(false, true) {
		st.streamingChanged()
	}
}

// streamingChanged says that those who may count are others now.
func (st *stream) streamingChanged() {
	if changed := st.session.server.cfg.CaughtUp; changed != nil {
		changed()
	}
}

// idle does what is left to do when there is no WAL to send below limit.
func (st *stream) idle(limit wal.LSN) error {
	if st.drained {
		return st.finish(limit)
	}
	if st.native && (!st.greeted || st.horizonDue()) {
		return st.keepalive(st.applyAwaited())
	}
	return nil
}

// horizonDue reports whether a member is to hear of the horizon, WAL or not.
func (st *stream) horizonDue() bool {
	return st.log.Horizon.Load() > st.told && (st.applyAwaited() || time.Since(st.dataAt) >= horizonLinger)
}

// applyAwaited reports whether a commit waits for members to apply it. A member that is asked for a reply
// replies once more when it has applied what it may.
func (st *stream) applyAwaited() bool { return st.sync != nil && st.sync.ApplyAwaited() }

// horizonNews returns what tells when horizonDue may have changed: nothing for a client to whom the horizon
// means nothing.
func (st *stream) horizonNews() (moved <-chan struct{}, due <-chan time.Time) {
	if !st.native {
		return nil, nil
	}
	quiet := horizonLinger - time.Since(st.dataAt)
	if quiet <= 0 || st.applyAwaited() {
		return st.log.Horizon.Changed(st.told), nil
	}
	st.linger.Reset(quiet)
	return nil, st.linger.C
}

// finish ends the stream of a server that shuts down, once the client has everything: on a primary all
// that is flushed, the shutdown checkpoint included; on a standby what it may see. A client that does
// not report flushes is believed what it has written. See WalSndDone in walsender.c.
func (st *stream) finish(limit wal.LSN) error {
	st.setState(syncrep.Stopping)
	want := limit
	if st.session.server.cfg.Primary {
		want = max(want, st.log.Flushed.Load())
	}
	if st.session.progress.confirmed() >= want {
		st.session.conn.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
		return errors.Join(pgwire.ErrHangup, st.session.conn.Flush())
	}
	if st.asked {
		return nil
	}
	st.asked = true
	return st.keepalive(true)
}

// rest returns for how long one who catches up has to rest now, to keep its pace. What counts is the log that is
// released: who lacks much of that is not whom commits wait for, and if they begin to, no more is released (but for
// those that wait until it is applied here, too). One who has caught up goes on to count meanwhile, and its state stays
// streaming, as in PostgreSQL.
func (st *stream) rest() time.Duration {
	sent, released := st.sent.Load(), min(st.limit.load(), st.log.Horizon.Load())
	if st.drained || st.streaming.Load() && released < sent+paceBehind {
		st.pace = pace{}
		return 0
	}
	return st.pace.rest(time.Now(), sent, released, st.session.server.cfg.CatchupRate())
}

// wait returns when there may be something to do.
func (st *stream) wait(ctx context.Context) error {
	moved, due := st.horizonNews()
	return st.await(ctx, st.limit.changed(st.sent.Load()), moved, due)
}

// await returns when one of the three has something, or others ask for something.
func (st *stream) await(ctx context.Context, changed, moved <-chan struct{}, due <-chan time.Time) error {
	draining := st.session.server.draining
	if st.drained {
		draining = nil
	}
	select {
	case <-changed:
	case <-moved:
	case <-due:
	case <-st.wake:
	case <-st.leaseWantedC():
		st.leaseWanted = true
	case <-draining:
		st.drained = true
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
