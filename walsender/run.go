package walsender

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
)

// lastWords is how long a client that reads slowly may hold up the end of its stream.
const lastWords = 5 * time.Second

// run is the copy-both phase. It returns nil when both sides have ended it.
func (st *stream) run(ctx context.Context) error {
	if err := st.open(); err != nil {
		return err
	}
	defer st.raw.Close()
	if group := st.session.server.cfg.Sync; group != nil {
		st.sync = group.Join(st.session.name, st.session.id)
		defer st.sync.Leave()
	}
	st.setState(syncrep.Catchup)
	st.session.server.began(st.session, st)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer st.unblock(ctx)()
	var wg sync.WaitGroup
	wg.Go(func() { cancel(st.receive()) })
	wg.Go(func() { cancel(st.watch(ctx)) })
	wg.Go(func() {
		if err := st.send(ctx); err != nil { // without one, the client is waited for
			cancel(err)
		}
	})
	wg.Wait()
	if err := context.Cause(ctx); err != errCopyDone {
		return err
	}
	return nil
}

// open begins copy-both, and only then looks whether the start is one we have got to, as PostgreSQL
// does.
func (st *stream) open() error {
	st.session.conn.Send(&pgproto3.CopyBothResponse{})
	if err := st.session.conn.Flush(); err != nil {
		return err
	}
	flushed := st.log.Flushed
	if st.native {
		flushed = st.log.Flushing
	}
	if at := flushed.Load(); st.start > at {
		return pgwire.Errorf(pgwire.CodeInternalError,
			"requested starting point %s is ahead of the WAL flush position of this server %s", st.start, at)
	}
	st.sent.Advance(st.start)
	return nil
}

// unblock arranges that nothing blocks on the socket once ctx has ended, and returns what undoes it.
// A stream that ends well, or with an error for the client to read, may take its time to write.
func (st *stream) unblock(ctx context.Context) (undo func()) {
	conn := st.session.conn.NetConn()
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(fired)
		conn.SetReadDeadline(time.Unix(1, 0))
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, pgwire.ErrHangup):
			conn.SetWriteDeadline(time.Unix(1, 0))
		case cause != errCopyDone:
			conn.SetWriteDeadline(time.Now().Add(lastWords))
		default:
			if timeout, _ := st.session.server.cfg.Timeout(); timeout > 0 {
				conn.SetWriteDeadline(time.Now().Add(timeout))
			}
		}
	})
	return func() {
		if !stop() {
			<-fired
		}
		conn.SetDeadline(time.Time{})
	}
}

// conclude sends what follows the copy-both phase: where to go on, if the timeline has ended, and the
// end of the command. There are two CommandCompletes, and clients rely on it.
func (st *stream) conclude() error {
	conn := st.session.conn
	if st.sent.Load() < st.end && st.start < st.end {
		conn.Send(&pgproto3.CopyDone{}) // the answer to the client's
	} else if st.end != noEnd {
		next := st.log.History.Next(st.timeline)
		columns := []pgwire.Column{int8("next_tli"), text("next_tli_startpos")}
		conn.SendRowDescription(columns)
		if err := conn.SendTextRow(strconv.AppendUint(nil, uint64(next), 10), lsnText(st.end)); err != nil {
			return err
		}
	}
	conn.SendCommandComplete("START_STREAMING")
	conn.SendCommandComplete("START_REPLICATION")
	return nil
}

// watch looks after the client's silence. Half of wal_sender_timeout without a word, and it is asked;
// all of it, and it is given up, without a word.
func (st *stream) watch(ctx context.Context) error {
	for {
		timeout, changed := st.session.server.cfg.Timeout()
		var timer <-chan time.Time
		silence := st.silence()
		switch {
		case timeout <= 0:
		case silence >= timeout:
			return fmt.Errorf("wal_sender_timeout: no word from the client for %v: %w", silence, pgwire.ErrHangup)
		case silence >= timeout/2:
			st.ask.Store(true)
			st.poke()
			timer = time.After(timeout - silence)
		default:
			timer = time.After(timeout/2 - silence)
		}
		select {
		case <-timer:
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// silence is how long ago the client last said something.
func (st *stream) silence() time.Duration {
	return time.Since(st.began) - time.Duration(st.heard.Load())
}

// poke makes send look again.
func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *stream) setState(state syncrep.State) {
	st.session.progress.setState(state)
	if st.sync != nil {
		st.sync.SetState(state)
	}
}
