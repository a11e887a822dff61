package walsender

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// commitEvery inserts a record of so many bytes again and again, and makes it durable, until its result is called.
func (p *testPrimary) commitEvery(d time.Duration, size int) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(d):
				p.insert(size)
				p.flush()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// behind makes the log so many megabytes longer, and returns its end.
func (p *testPrimary) behind(mb int) (end wal.LSN) {
	for range mb {
		p.insert(1 << 20)
		end = p.flush()
	}
	return end
}

// read reads the log up to end, for each megabyte of which it takes some time, and returns how long that was in all.
func (c *client) read(at, end wal.LSN, takes time.Duration) time.Duration {
	c.t.Helper()
	begin := time.Now()
	for at < end {
		at += wal.LSN(len(c.wal(at, min(end, at+1<<20))))
		time.Sleep(takes)
	}
	return time.Since(begin)
}

// lasts checks how long something took, by the clock of a bubble.
func lasts(t *testing.T, what string, took, want time.Duration) {
	t.Helper()
	if took < want || took > want+want/10 {
		t.Errorf("%s: that took %v, want %v", what, took, want)
	}
}

// While commits come, one who is behind is sent no more than is allowed, and otherwise as much as there is.
func TestCatchupRate(t *testing.T) {
	for _, test := range []struct {
		what  string
		rate  int64
		each  time.Duration // between two commits
		size  int           // of each
		until time.Duration // they come
		takes time.Duration // the client, for a megabyte
		want  time.Duration
	}{
		{"the log stands still", 8 << 20, time.Hour, 100, 0, 0, paceStill},
		{"no limit", 0, time.Millisecond, 100, time.Hour, 0, 0},
		{"commits come", 8 << 20, 10 * time.Millisecond, 100, time.Hour, 0, time.Second}, // it rests eight times
		{"commits come, at twice the rate", 16 << 20, 10 * time.Millisecond, 100, time.Hour, 0, 500 * time.Millisecond},
		{"they come for a while", 8 << 20, 10 * time.Millisecond, 100, 405 * time.Millisecond, 0, 400*time.Millisecond + paceStill},
		{"they come again", 1 << 20, 150 * time.Millisecond, 100, time.Hour, 20 * time.Millisecond, 230 * time.Millisecond}, // and without it 210
		{"it would never catch up", 1 << 20, 10 * time.Millisecond, 300 << 10, time.Hour, 20 * time.Millisecond, 160*time.Millisecond + paceStill},
	} {
		change := func(cfg *Config) { cfg.CatchupRate = func() int64 { return test.rate } }
		bubble(t, change, func(t *testing.T, p *testPrimary) {
			end := p.behind(8)
			stop := sync.OnceFunc(p.commitEvery(test.each, test.size))
			defer stop()
			defer time.AfterFunc(test.until, stop).Stop()
			c := p.connect(memberParams("n2"))
			c.stream(startCommand)
			lasts(t, test.what, c.read(segmentStart, end, test.takes), test.want)
		})
	}
}

// The pace holds for a timeline that others have gone on from, too.
func TestCatchupRateOfOldTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, fork := newPromoted(t, vfs.NewMem(), "data")
		p.sender.cfg.CatchupRate = func() int64 { return 1 << 20 }
		defer p.commitEvery(10*time.Millisecond, 100)()
		c := p.connect(nil)
		c.stream("START_REPLICATION 0/100000 TIMELINE 1")
		lasts(t, "2.5 MB", c.read(segmentStart, fork, 0), 2*time.Second)
	})
}

// A log that grows by itself, faster than the rate, is caught up with all the same.
func TestCatchesUpWithAFastLog(t *testing.T) {
	change := func(cfg *Config) { cfg.CatchupRate = func() int64 { return 1 << 20 } }
	bubble(t, change, func(t *testing.T, p *testPrimary) {
		p.behind(8)
		defer p.commitEvery(10*time.Millisecond, 300<<10)() // 30 MB a second
		c := p.connect(memberParams("n2"))
		begin := time.Now()
		c.stream(startCommand)
		for at := segmentStart; at < p.log.Flushed.Load(); {
			at += wal.LSN(len(c.wal(at, p.log.Flushed.Load())))
			if took := time.Since(begin); took > time.Second {
				t.Fatalf("after %v it has not caught up", took)
			}
		}
	})
}

// Who rests answers what is asked meanwhile, and goes on resting. A rate that changes is heeded soon.
func TestAnswersWhileResting(t *testing.T) {
	var rate atomic.Int64
	rate.Store(1 << 10) // a quarter of an hour for a slice
	change := func(cfg *Config) { cfg.CatchupRate = rate.Load }
	bubble(t, change, func(t *testing.T, p *testPrimary) {
		p.behind(4)
		defer p.commitEvery(10*time.Millisecond, 100)()
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		first := c.next().XLogData
		c.wal(first.Start+wal.LSN(len(first.Data)), segmentStart+paceSlice)
		begin := time.Now()
		for range 3 {
			c.status(pgwire.StatusUpdate{Write: segmentStart, Flush: segmentStart, Apply: segmentStart, ReplyRequested: true, Native: true, Stream: first.Stream})
			if m := c.next(); m.Kind != pgwire.StreamKeepalive {
				t.Errorf("an answer of kind %c", m.Kind)
			}
		}
		if d := time.Since(begin); d > 0 {
			t.Errorf("the answers took %v", d)
		}
		synctest.Wait() // it rests again
		rate.Store(0)
		if m := c.next(); m.Kind != pgwire.StreamXLogData {
			t.Errorf("after the change a message of kind %c", m.Kind)
		}
		if d := time.Since(begin); d > paceStill {
			t.Errorf("the change was heeded after %v", d)
		}
	})
}

// Who has caught up and falls far behind again catches up like who is behind at first, but only while commits are
// released without it: who they wait for is sent all there is.
func TestFallsBehindAgain(t *testing.T) {
	const far = paceBehind>>20 + 8
	for _, test := range []struct {
		what string
		rule string
		in   time.Duration // is the rule set
		mb   int
		want time.Duration
	}{
		{"commits come", "", 0, far, 875 * time.Millisecond}, // it rests seven times
		{"commits wait for it, and others' come that do not", "ANY 1 (n2)", 0, far, 0},
		{"commits begin to wait for it", "ANY 1 (n2)", 305 * time.Millisecond, far, 300*time.Millisecond + paceStill},
		{"it is not far behind", "", 0, far / 2, 0},
	} {
		change := func(cfg *Config) { cfg.CatchupRate = func() int64 { return 8 << 20 } }
		bubble(t, change, func(t *testing.T, p *testPrimary) {
			p.insert(100)
			at := p.flush()
			c := p.connect(memberParams("n2"))
			c.stream(startCommand)
			c.wal(segmentStart, at)
			synctest.Wait() // it has caught up, and reads no more
			if test.rule != "" && test.in == 0 {
				p.setRule(test.rule)
			}
			p.insert(100)
			p.flush()
			synctest.Wait() // it cannot send that, and does not look before all of the following is there
			end := p.behind(test.mb)
			defer p.commitEvery(10*time.Millisecond, 100)()
			if test.in > 0 {
				defer time.AfterFunc(test.in, func() { p.setRule(test.rule) }).Stop()
			}
			lasts(t, test.what, c.read(at, end, 0), test.want)
		})
	}
}
