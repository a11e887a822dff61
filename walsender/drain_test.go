package walsender

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
)

// "walsenders go to stopping, shutdown checkpoint is streamed, server waits until the client confirms
// flush = sent, then sends C COPY 0 without CopyDone and closes. Unconfirmed receivers get k with
// replyRequested=1."
func TestDrain(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		idle := p.connect(nil)
		c.stream(startCommand)
		checkpoint := p.insert(100)
		p.flush()
		c.wal(segmentStart, checkpoint)
		c.status(pgwire.StatusUpdate{Write: checkpoint - 8})

		drained := make(chan error, 1)
		go func() { drained <- p.sender.Drain(t.Context()) }()
		if m := c.next(); m.Kind != pgwire.StreamKeepalive || !m.Keepalive.ReplyRequested {
			t.Errorf("got %+v, want a request for a report", m)
		}
		synctest.Wait()
		if got := p.sender.Stats()[0].State; got != syncrep.Stopping {
			t.Errorf("the state is %v", got)
		}
		want := []string{"E ERROR 55000 cannot execute new commands while WAL sender is in stopping mode"}
		if got := idle.do("IDENTIFY_SYSTEM"); !slices.Equal(got, want) {
			t.Errorf("a new command is answered by %q", got)
		}
		c.status(pgwire.StatusUpdate{Write: checkpoint}) // flush 0: what is written counts
		if got := []string{c.receive(), c.receive()}; !slices.Equal(got, []string{"C COPY 0", "closed"}) {
			t.Errorf("the stream ends with %q", got)
		}
		if err := <-drained; err != nil {
			t.Errorf("Drain() = %v", err)
		}
	})
}

// A drain waits for a client that has not everything, but not beyond its context.
func TestDrainGivesUp(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		c.stream(startCommand)
		p.insert(100)
		c.wal(segmentStart, p.flush())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := p.sender.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain() = %v", err)
		}
		if _, err := p.sender.Connect(t.Context(), &pgwire.Conn{}); err == nil {
			t.Error("a new connection was taken")
		}
	})
}

// A receiver is not told of a regular end while the rule keeps the last WAL from it.
func TestDrainWaitsForHorizon(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		p.setRule("ANY 1 (n2)")
		c := p.connect(nil)
		c.stream(startCommand)
		synctest.Wait() // a stream that has not begun is not waited for
		end := p.insert(100)
		p.flush()
		drained := make(chan error, 1)
		go func() { drained <- p.sender.Drain(t.Context()) }()
		c.next()
		c.status(pgwire.StatusUpdate{Write: segmentStart})
		synctest.Wait()
		if len(drained) > 0 {
			t.Fatal("drained before the receiver had everything")
		}
		p.setRule("")
		c.wal(segmentStart, end)
		c.status(pgwire.StatusUpdate{Write: end})
		c.until("C COPY 0")
		<-drained
	})
}

// A base backup is not waited for.
func TestDrainEndsBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newBackupPrimary(t, vfs.NewMem(), "data")
		c := p.connect(nil)
		c.query("BASE_BACKUP (MAX_RATE 32)")
		c.until("H")
		synctest.Wait()
		if got := p.sender.Stats()[0]; got.State != syncrep.Backup || got.Backup.Phase != PhaseStreaming || got.Backup.Total != -1 {
			t.Errorf("shown as %v, %+v", got.State, got.Backup)
		}
		drained := make(chan error, 1)
		go func() { drained <- p.sender.Drain(t.Context()) }()
		lines := c.until("E")
		if got := lines[len(lines)-1]; !strings.HasPrefix(got, "E FATAL 57P01") {
			t.Errorf("the backup ends with %q", got)
		}
		if err := <-drained; err != nil || !b.closed.Load() {
			t.Errorf("Drain() = %v, backup closed: %v", err, b.closed.Load())
		}
	})
}
