package walsender

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// ownID is the primary's own identity in these tests.
var ownID = syncrep.ID{Node: 0xa1, Incarnation: 0xb1}

// leaseBubble runs a test on a primary whose strong reads need the promise of n2.
func leaseBubble(t *testing.T, f func(t *testing.T, p *testPrimary)) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		p.setRule("ANY 1 (n2)")
		p.group.SetMembers([]syncrep.ID{ownID, memberIDs["n2"]}, ownID)
		f(t, p)
	})
}

// lease is the lease request in a message.
func lease(m pgwire.ServerMessage) pgwire.LeaseRequest {
	if m.Kind == pgwire.StreamXLogData {
		return m.XLogData.Lease
	}
	return m.Keepalive.Lease
}

// I11: a promise counts from the sending of the request on, however late the answer comes.
func TestLeaseCountsFromSending(t *testing.T) {
	leaseBubble(t, func(t *testing.T, p *testPrimary) {
		time.Sleep(time.Second) // so that the stream's clock and the group's begin apart
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		hello := c.next()
		sent := time.Now()
		if lease(hello) == 0 {
			t.Fatal("the first message asks for no promise")
		}
		time.Sleep(150 * time.Millisecond)
		c.status(pgwire.StatusUpdate{Native: true, Stream: hello.Keepalive.Stream, Lease: lease(hello)})
		synctest.Wait()
		if got := p.group.Lease().Sub(sent); got != pgwire.LeaseHeld {
			t.Errorf("the lease ends %v after the request was sent, want %v", got, pgwire.LeaseHeld)
		}
	})
}

// A promise that answers no request of this stream would make the lease longer than the member knows.
func TestLeasePromiseUnasked(t *testing.T) {
	leaseBubble(t, func(t *testing.T, p *testPrimary) {
		for _, wrong := range []pgwire.LeaseRequest{1, -1 << 63, -1} {
			c := p.connect(memberParams("n2"))
			c.stream(startCommand)
			hello := c.next()
			promise := lease(hello) + wrong
			if wrong < 0 {
				promise = wrong
			}
			time.Sleep(time.Millisecond)
			c.status(pgwire.StatusUpdate{Native: true, Stream: hello.Keepalive.Stream, Lease: promise})
			if got := c.receive(); !strings.HasPrefix(got, "E FATAL 08P01") {
				t.Errorf("promise %d is answered by %q", promise, got)
			}
			if p.group.Lease().After(time.Now()) {
				t.Error("there is a lease")
			}
		}
	})
}

// While the log moves, its messages ask, once each quarter of a term; a log that rests asks for nothing.
func TestLeaseRidesOnTheLog(t *testing.T) {
	leaseBubble(t, func(t *testing.T, p *testPrimary) {
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		c.next()
		at := segmentStart
		begin := time.Now()
		var asked []time.Duration
		for range 45 {
			time.Sleep(10 * time.Millisecond)
			end := p.insert(100)
			p.writer.RequestFlush(end)
			for at < end {
				m := c.next()
				at = m.XLogData.Start + wal.LSN(len(m.XLogData.Data))
				if lease(m) != 0 {
					asked = append(asked, time.Since(begin))
				}
			}
		}
		want := []time.Duration{100, 200, 300, 400}
		if len(asked) != len(want) {
			t.Fatalf("asked after %v, want one request each %v", asked, leaseEvery)
		}
		for i, after := range asked {
			if after != want[i]*time.Millisecond {
				t.Errorf("asked after %v, want one request each %v", asked, leaseEvery)
			}
		}
		quiet := make(chan string, 1)
		go func() { quiet <- c.receive() }()
		time.Sleep(20 * time.Second)
		if len(quiet) > 0 {
			t.Errorf("a log that rests sent %q", <-quiet)
		}
		c.close()
	})
}

// A strong read that finds the lease lapsed waits no longer than a message takes each way.
func TestLeaseAskedForAtOnce(t *testing.T) {
	leaseBubble(t, func(t *testing.T, p *testPrimary) {
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		hello := c.next()
		time.Sleep(time.Second)
		begin := time.Now()
		read := make(chan error, 1)
		go func() { read <- p.group.WaitLease(t.Context()) }()
		m := c.next()
		if m.Kind != pgwire.StreamKeepalive || lease(m) == 0 || m.Keepalive.ReplyRequested || time.Since(begin) != 0 {
			t.Fatalf("after %v came %+v, want a lease request at once", time.Since(begin), m)
		}
		c.status(pgwire.StatusUpdate{Native: true, Stream: hello.Keepalive.Stream, Lease: lease(m)})
		if err := <-read; err != nil || time.Since(begin) != 0 {
			t.Errorf("the read waited %v: %v", time.Since(begin), err)
		}
	})
}

// Receivers are not asked, nor is anybody by a standby, and their promises mean nothing.
func TestLeaseFromMembersOnly(t *testing.T) {
	leaseBubble(t, func(t *testing.T, p *testPrimary) {
		p.group.SetMembers([]syncrep.ID{ownID}, ownID)
		p.setRule("ANY 1 (archive)")
		c := p.connect(map[string]string{"application_name": "archive"})
		c.stream(startCommand)
		p.insert(100)
		p.flush()
		if m := c.next(); m.XLogData.Native {
			t.Errorf("got %+v", m)
		}
	})
	withoutGroup := func(cfg *Config) { cfg.Primary, cfg.Sync = false, nil }
	bubble(t, withoutGroup, func(t *testing.T, p *testPrimary) {
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		hello := c.next()
		if lease(hello) != 0 {
			t.Errorf("a standby asks for a promise: %+v", hello)
		}
		c.status(pgwire.StatusUpdate{Native: true, Stream: hello.Keepalive.Stream, Lease: 1})
		if got := c.receive(); !strings.HasPrefix(got, "E FATAL 08P01") {
			t.Errorf("a promise to a standby is answered by %q", got)
		}
	})
}
