package walreceiver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// I11: a restarted node counts as having promised a full term at its restart. A promise never shortens.
func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		l := NewLeases()
		left := func(want time.Duration) {
			t.Helper()
			if got := l.Left(); got != want {
				t.Errorf("%v left, want %v", got, want)
			}
		}
		left(pgwire.LeaseTerm)
		time.Sleep(300 * ms)
		left(100 * ms)
		if !l.Grant(3) {
			t.Error("not granted")
		}
		left(400 * ms)
		time.Sleep(100 * ms)
		l.Stop(4)
		if l.Grant(3) {
			t.Error("granted to epoch 3 after the node has stopped everything before 4")
		}
		left(300 * ms)
		l.Stop(2) // nothing is taken back
		if l.Grant(3) {
			t.Error("granted to epoch 3 after all")
		}
		left(300 * ms)
		time.Sleep(time.Second)
		left(0)
		if !l.Grant(4) {
			t.Error("not granted to epoch 4")
		}
		left(400 * ms)
	})
}

// A request is answered at once, whatever message it came on, and the term begins when it comes.
func TestLeaseRequestAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100, 100)
		leases := NewLeases()
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Leases = leases })
		s.run()
		c := s.accept().stream(logStart)
		if r := lastReport(t, c, logStart, logStart, 0); r.Lease != 0 {
			t.Errorf("promise %d without a request", r.Lease)
		}
		time.Sleep(time.Second)
		if leases.Left() != 0 {
			t.Fatalf("%v left", leases.Left())
		}
		half := log.ends[0] - 20
		for i, send := range []func(){
			func() { c.keepalive(logStart, false) },
			func() { c.sendLog(log, logStart, half) },    // no whole record: nothing to flush
			func() { c.sendLog(log, half, log.ends[0]) }, // one report for both
		} {
			c.lease = pgwire.LeaseRequest(1000 + i)
			send()
			synctest.Wait()
			reports := c.take()
			if n := len(reports); n == 0 || reports[n-1].Lease != c.lease && reports[0].Lease != c.lease || time.Since(reports[0].at) != 0 {
				t.Fatalf("request %d is answered by %+v", c.lease, reports)
			}
			if leases.Left() != pgwire.LeaseTerm {
				t.Errorf("%v left after request %d", leases.Left(), c.lease)
			}
			time.Sleep(50 * time.Millisecond)
		}
		// A request is answered once; a message without one asks for nothing.
		c.lease = 0
		c.keepalive(log.ends[0], true)
		if r := lastReport(t, c, log.ends[0], log.ends[0], 0); r.Lease != 0 || leases.Left() != 350*time.Millisecond {
			t.Errorf("got %+v, %v left", r, leases.Left())
		}
		s.stop()
	})
}

// Whoever has promised a later epoch promises nothing to this one's primary any more.
func TestLeaseRefusedOnceSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases := NewLeases()
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Leases = leases })
		s.run()
		c := s.accept().stream(logStart)
		lastReport(t, c, logStart, logStart, 0)
		time.Sleep(time.Second)
		leases.Stop(2)
		c.lease = 7
		c.keepalive(logStart, true)
		if r := lastReport(t, c, logStart, logStart, 0); r.Lease != 0 || leases.Left() != 0 {
			t.Errorf("got %+v, %v left", r, leases.Left())
		}
		s.stop()
	})
}

// To follow an epoch stops the promises to those before it.
func TestLeasesFollowTheEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases := NewLeases()
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Leases = leases })
		s.run()
		c := s.accept()
		c.id.Epoch = 6
		c.stream(logStart)
		lastReport(t, c, logStart, logStart, 0)
		if leases.Grant(5) || !leases.Grant(6) {
			t.Error("want promises to epoch 6 and none to epoch 5")
		}
		s.stop()
	})
}

// A request on a message of another stream is not this stream's.
func TestLeaseRequestOfAnotherStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases := NewLeases()
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Leases = leases })
		s.run()
		c := s.accept().stream(logStart)
		synctest.Wait()
		time.Sleep(time.Second)
		id := c.id
		id.Session++
		go c.data((&pgwire.Keepalive{Time: wal.Timestamp(0), Native: true, Stream: id, Lease: 5}).Append(nil))
		<-c.read
		if leases.Left() != 0 {
			t.Errorf("%v left", leases.Left())
		}
		s.stop()
	})
}
