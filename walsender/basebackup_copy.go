package walsender

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// copyChunk is how many bytes of an archive or manifest go into one message.
const copyChunk = 32 << 10

// progressInterval is how often the client hears how far the backup is.
const progressInterval = time.Second

// Types of the messages inside a base backup's CopyData (PostgreSQL 15 manual, BASE_BACKUP).
const (
	copyArchive  = 'n' // cstr archive name, cstr path of the tablespace; its bytes follow
	copyManifest = 'm' // the manifest's bytes follow
	copyContent  = 'd' // bytes of the archive or manifest
	copyProgress = 'p' // int64 bytes of archives done
)

// A copyStream is the copy-out phase of a base backup: an io.Writer of the archive or manifest that
// has been begun.
type copyStream struct {
	ctx      context.Context // of the command: a Writer is given none
	conn     *pgwire.Conn
	throttle throttle
	buf      []byte // a message of type copyContent being filled
	done     int64  // bytes of archives, before compression
	told     time.Time
}

func newCopyStream(ctx context.Context, conn *pgwire.Conn, rate int64) *copyStream {
	now := time.Now()
	return &copyStream{
		ctx: ctx, conn: conn, told: now,
		throttle: throttle{rate: rate, since: now},
		buf:      append(make([]byte, 0, 1+copyChunk), copyContent),
	}
}

// begin starts an archive of the data directory.
func (c *copyStream) begin(name string) error {
	msg := append([]byte{copyArchive}, name...)
	return c.conn.SendCopyData(append(msg, 0, 0))
}

func (c *copyStream) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), cap(c.buf)-len(c.buf))
		c.buf, p = append(c.buf, p[:n]...), p[n:]
		if len(c.buf) < cap(c.buf) {
			break
		}
		if err := c.send(); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// send sends what has gathered.
func (c *copyStream) send() error {
	if len(c.buf) == 1 {
		return c.ctx.Err()
	}
	if err := c.throttle.wait(c.ctx, len(c.buf)-1); err != nil {
		return err
	}
	if err := c.conn.SendCopyData(c.buf); err != nil {
		return err
	}
	c.buf = c.buf[:1]
	if now := time.Now(); now.Sub(c.told) >= progressInterval {
		c.told = now
		return c.progress()
	}
	return nil
}

func (c *copyStream) progress() error {
	return c.conn.SendCopyData(binary.BigEndian.AppendUint64([]byte{copyProgress}, uint64(c.done)))
}

// end ends the archive.
func (c *copyStream) end() error {
	if err := c.send(); err != nil {
		return err
	}
	return c.progress()
}

// manifest sends the manifest.
func (c *copyStream) manifest(text []byte) error {
	if err := c.conn.SendCopyData([]byte{copyManifest}); err != nil {
		return err
	}
	if _, err := c.Write(text); err != nil {
		return err
	}
	return c.send()
}

// A throttle keeps a transfer below a rate, MAX_RATE.
type throttle struct {
	rate  int64 // bytes/s; 0: no limit
	since time.Time
	sent  int64 // since then
}

// wait returns when n more bytes may go. Time that the client did not use is not saved up.
func (t *throttle) wait(ctx context.Context, n int) error {
	if t.rate == 0 {
		return ctx.Err()
	}
	due := t.since.Add(time.Duration(float64(t.sent) / float64(t.rate) * float64(time.Second)))
	pause := time.Until(due)
	if pause < -time.Second {
		t.since, t.sent = time.Now(), 0
	}
	t.sent += int64(n)
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
