package walsender

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
)

// receive reads what the client has to say until it ends the stream (errCopyDone) or breaks it.
func (st *stream) receive() error {
	for {
		msg, err := st.session.conn.Receive()
		if e, ok := errors.AsType[*pgwire.Error](err); ok {
			return e.Fatal()
		}
		if err != nil {
			return err
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			if err := st.message(msg.Data); err != nil {
				return err
			}
		case *pgproto3.CopyDone:
			return errCopyDone
		case *pgproto3.CopyFail:
			return st.refused(msg)
		case *pgproto3.Terminate:
			return pgwire.ErrHangup
		default:
			return unexpected(msg)
		}
	}
}

func unexpected(msg any) error {
	return pgwire.Errorf(pgwire.CodeProtocolViolation, "unexpected message %T from a client that streams", msg).Fatal()
}

// refused ends the stream of a member that says that what it got makes no sense, and has that looked into.
func (st *stream) refused(msg *pgproto3.CopyFail) error {
	at, ok := pgwire.RefusedWAL(msg)
	if !st.native || !ok {
		return unexpected(msg)
	}
	st.session.log.Warn("a member refuses the WAL that it got", "why", msg.Message)
	if told := st.session.server.cfg.Refused; told != nil {
		told(at)
	}
	return pgwire.ErrHangup
}

// message acts on the content of one CopyData. A message of a kind we do not know breaks the stream
// without a word, as in PostgreSQL.
func (st *stream) message(data []byte) error {
	var m pgwire.ClientMessage
	if err := m.Decode(data); err != nil {
		st.session.log.Warn("unexpected message in the stream", "err", err)
		return pgwire.ErrHangup
	}
	now := time.Now()
	st.heard.Store(int64(now.Sub(st.began)))
	if m.Kind != pgwire.StreamStatus {
		return nil // hot standby feedback: we keep no old row versions
	}
	if m.Status.Native != st.native || m.Status.Stream != st.id {
		return pgwire.Errorf(pgwire.CodeProtocolViolation, "status update belongs to another stream").
			WithDetail("Got epoch %d, session %x; this is epoch %d, session %x.",
				m.Status.Stream.Epoch, m.Status.Stream.Session, st.id.Epoch, st.id.Session).Fatal()
	}
	if err := st.promised(m.Status.Lease); err != nil {
		return err
	}
	st.report(&m.Status, now)
	if m.Status.ReplyRequested {
		st.answer.Store(true)
		st.poke()
	}
	return nil
}

// report takes the client's positions. Nobody can have got on this stream what was not sent on it: a
// client that already has more, because it began at a segment's start, is believed as the stream gets
// there. So an acknowledgement never runs ahead of the log.
func (st *stream) report(m *pgwire.StatusUpdate, now time.Time) {
	sent := st.sent.Load()
	write, flush, apply := min(m.Write, sent), min(m.Flush, sent), min(m.Apply, sent)
	if st.slot != nil {
		// A member may have flushed what this node has not, and after a crash never will: it then needs
		// the log from before that.
		st.slot.Advance(min(flush, st.log.Flushed.Load()))
	}
	st.session.progress.report(&st.lag, report{write: write, flush: flush, apply: apply, sent: sent, time: m.Time}, now)
	if st.sync != nil {
		st.sync.Report(write, flush, apply)
	}
	if flush != 0 && !st.flushes.Load() {
		st.flushes.Store(true)
		st.maybeCounts()
	}
	select {
	case <-st.session.server.draining:
		st.poke()
	default:
	}
}
