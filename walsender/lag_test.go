package walsender

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/internal/wallclock"
	"github.com/longship-db/longship/wal"
)

// The script drives a lag tracker and what a session shows of it. Times are seconds since the start,
// positions decimal.
//
//	wal at=seconds lsn=position: the sender saw the log reach a position
//	reply at=seconds write= flush= apply= sent=: prints the lags shown from now on
func TestLag(t *testing.T) {
	datadriven.Walk(t, "testdata/lag", func(t *testing.T, path string) {
		epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		var tracker lagTracker
		var shown progress
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var at, lsn, sent int
			d.ScanArgs(t, "at", &at)
			now := epoch.Add(time.Duration(at) * time.Second)
			if d.Cmd == "wal" {
				d.ScanArgs(t, "lsn", &lsn)
				tracker.note(wal.LSN(lsn), now)
				return ""
			}
			var write, flush, apply int
			d.ScanArgs(t, "write", &write)
			d.ScanArgs(t, "flush", &flush)
			d.ScanArgs(t, "apply", &apply)
			d.ScanArgs(t, "sent", &sent)
			shown.report(&tracker, report{
				write: wal.LSN(write), flush: wal.LSN(flush), apply: wal.LSN(apply), sent: wal.LSN(sent),
			}, now)
			s := shown.stat()
			return fmt.Sprintf("%s %s %s\n", lagText(s.WriteLag), lagText(s.FlushLag), lagText(s.ReplayLag))
		})
	})
}

func lagText(d time.Duration) string {
	if d < 0 {
		return "NULL"
	}
	return d.String()
}

// A client that is stuck while very much WAL is written costs no more memory, and its lag still counts
// from what it is stuck at.
func TestLagOverflow(t *testing.T) {
	var tracker lagTracker
	begin := time.Now()
	for i := range 3 * lagSamples {
		tracker.note(wal.LSN(i+1), begin.Add(time.Duration(i)*time.Second))
	}
	now := begin.Add(4 * lagSamples * time.Second)
	if lag, ok := tracker.reached(lagApply, 1, now); !ok || lag != now.Sub(begin) {
		t.Errorf("lag of the oldest position is %v, %v", lag, ok)
	}
	if lag, ok := tracker.reached(lagFlush, 3*lagSamples, now); !ok || lag != (lagSamples+1)*time.Second {
		t.Errorf("lag of the newest position is %v, %v", lag, ok)
	}
}

// A lag is not what the machine's clock says: set ahead it makes none, set back it hides none.
func TestLagWhenClockIsSet(t *testing.T) {
	set := wallclock.Rerun(t)
	if set == nil {
		return
	}
	for _, hour := range []int64{3600, -3600} {
		var tracker lagTracker
		begin := time.Now()
		tracker.note(1, begin)
		set(hour)
		now := time.Now()
		if lag, ok := tracker.reached(lagFlush, 1, now); !ok || lag != now.Sub(begin) {
			t.Errorf("the clock is set by %d s: the lag is %s, %v, want %s", hour, lag, ok, now.Sub(begin))
		}
		set(0)
	}
}
