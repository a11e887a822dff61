package walsender

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// bubble runs a test on a primary in memory, in fake time.
func bubble(t *testing.T, change func(*Config), f func(t *testing.T, p *testPrimary)) {
	synctest.Test(t, func(t *testing.T) { f(t, newPrimary(t, vfs.NewMem(), "data", change)) })
}

const segmentStart wal.LSN = 0x100000

// A receiver gets the log, byte for byte, as it is flushed.
func TestStreamsToReceiver(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		p.insert(300_000)
		end := p.flush()
		c.stream("START_REPLICATION 0/100000 TIMELINE 1")
		if got := c.wal(segmentStart, end); !bytes.Equal(got, p.bytes(segmentStart, end)) {
			t.Error("the first part differs")
		}
		p.insert(100)
		more := p.flush()
		if got := c.wal(end, more); !bytes.Equal(got, p.bytes(end, more)) {
			t.Error("the second part differs")
		}
	})
}
