package walsender

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// catchUp reads 8 MB of log that a client is behind, while the log grows by records of some size for each message, and
// returns how long that took.
func catchUp(t *testing.T, rate int64, record int) (took time.Duration) {
	t.Helper()
	change := func(cfg *Config) { cfg.CatchupRate = func() int64 { return rate } }
	bubble(t, change, func(t *testing.T, p *testPrimary) {
		for range 8 {
			p.insert(1 << 20)
			p.flush()
		}
		behind := p.log.Flushed.Load()
		c := p.connect(memberParams("n2"))
		begin := time.Now()
		c.stream(startCommand)
		for at := segmentStart; at < behind; {
			if m := c.next(); m.Kind == pgwire.StreamXLogData {
				at += wal.LSN(len(m.XLogData.Data))
			}
			if record > 0 {
				p.insert(record)
				p.flush()
			}
		}
		took = time.Since(begin)
	})
	return took
}

// While commits come, one who is behind is sent no more than is allowed, and otherwise as much as there is.
func TestCatchupRate(t *testing.T) {
	for _, test := range []struct {
		what   string
		rate   int64
		record int
		want   time.Duration
	}{
		{"the log stands still", 1 << 20, 0, 0},
		{"no limit", 0, 100, 0},
		{"commits come", 1 << 20, 100, 7 * time.Second}, // it rests between eight slices
		{"commits come, at twice the rate", 2 << 20, 100, 3500 * time.Millisecond},
		{"it would never catch up", 1 << 20, maxChunk * 2 / 3, 0},
	} {
		took := catchUp(t, test.rate, test.record)
		if took < test.want || took > test.want+test.want/7+time.Millisecond {
			t.Errorf("%s: that took %v, want %v", test.what, took, test.want)
		}
	}
}

// A log that grows by itself, faster than the rate, is caught up with all the same.
func TestCatchesUpWithAFastLog(t *testing.T) {
	change := func(cfg *Config) { cfg.CatchupRate = func() int64 { return 1 << 20 } }
	bubble(t, change, func(t *testing.T, p *testPrimary) {
		for range 8 {
			p.insert(1 << 20)
			p.flush()
		}
		c := p.connect(memberParams("n2"))
		begin, grown := time.Now(), 0
		c.stream(startCommand)
		for at := segmentStart; grown < 30; p.flush() {
			if m := c.next(); m.Kind == pgwire.StreamXLogData {
				at = m.XLogData.Start + wal.LSN(len(m.XLogData.Data))
			}
			if at == p.log.Flushed.Load() {
				return
			}
			p.insert(100)
			for ; grown < int(3*time.Since(begin)/time.Second); grown++ { // 3 MB a second
				p.insert(1 << 20)
			}
		}
		t.Errorf("after %v it has not caught up", time.Since(begin))
	})
}

// Who rests answers what is asked meanwhile, and goes on resting. A rate that changes is heeded soon.
func TestAnswersWhileResting(t *testing.T) {
	var rate atomic.Int64
	rate.Store(1 << 10) // a quarter of an hour for a slice
	change := func(cfg *Config) { cfg.CatchupRate = rate.Load }
	bubble(t, change, func(t *testing.T, p *testPrimary) {
		for range 4 {
			p.insert(1 << 20)
			p.flush()
		}
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		first := c.next().XLogData
		stream, at := first.Stream, segmentStart+wal.LSN(len(first.Data))
		p.insert(100)
		p.flush()
		for at < segmentStart+paceSlice {
			m := c.next()
			at += wal.LSN(len(m.XLogData.Data))
		}
		begin := time.Now()
		for range 3 {
			c.status(pgwire.StatusUpdate{Write: segmentStart, Flush: segmentStart, Apply: segmentStart, ReplyRequested: true, Native: true, Stream: stream})
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
		if d := time.Since(begin); d != longestRest {
			t.Errorf("the change was heeded after %v", d)
		}
	})
}

// Who has caught up and falls far behind again catches up like who is behind at first, but only while commits are
// released without it: who they wait for is sent all there is.
func TestFallsBehindAgain(t *testing.T) {
	const far = paceBehind + 8<<20
	for _, test := range []struct {
		what   string
		rule   string
		behind int
		want   time.Duration
	}{
		{"commits come", "", far, 7 * time.Second}, // it rests between eight slices
		{"commits wait for it, and others' come that do not", "ANY 1 (n2)", far, 0},
		{"it is not far behind", "", paceBehind / 2, 0},
	} {
		change := func(cfg *Config) { cfg.CatchupRate = func() int64 { return 1 << 20 } }
		bubble(t, change, func(t *testing.T, p *testPrimary) {
			p.insert(100)
			at := p.flush()
			c := p.connect(memberParams("n2"))
			c.stream(startCommand)
			c.wal(segmentStart, at)
			synctest.Wait() // it has caught up, and reads no more
			if test.rule != "" {
				p.setRule(test.rule)
			}
			for range test.behind >> 20 {
				p.insert(1 << 20)
				p.flush()
			}
			begin := time.Now()
			for behind := p.log.Flushed.Load(); at < behind; {
				if m := c.next(); m.Kind == pgwire.StreamXLogData {
					at += wal.LSN(len(m.XLogData.Data))
				}
				p.insert(100)
				p.flush()
			}
			if took := time.Since(begin); took < test.want || took > test.want+test.want/7+time.Millisecond {
				t.Errorf("%s: that took %v, want %v", test.what, took, test.want)
			}
		})
	}
}
