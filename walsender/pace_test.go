package walsender

import (
	"testing"
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

// Who rests answers what is asked meanwhile.
func TestAnswersWhileResting(t *testing.T) {
	change := func(cfg *Config) { cfg.CatchupRate = func() int64 { return 1 << 10 } } // a quarter of an hour for a slice
	bubble(t, change, func(t *testing.T, p *testPrimary) {
		for range 4 {
			p.insert(1 << 20)
			p.flush()
		}
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		stream := c.next().XLogData.Stream
		end := p.insert(100)
		p.flush()
		at := segmentStart
		for at < segmentStart+paceSlice {
			m := c.next()
			at += wal.LSN(len(m.XLogData.Data))
		}
		begin := time.Now()
		for range 3 {
			c.status(pgwire.StatusUpdate{Write: segmentStart, Flush: segmentStart, Apply: segmentStart, ReplyRequested: true, Native: true, Stream: stream})
			for m := c.next(); m.Kind != pgwire.StreamKeepalive; m = c.next() {
			}
		}
		if d := time.Since(begin); d > time.Minute {
			t.Errorf("the answers took %v", d)
		}
		if sent := p.sender.Stats()[0].Sent; sent >= end {
			t.Error("it does not rest")
		}
	})
}
