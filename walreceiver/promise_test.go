package walreceiver

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// promises is a node's durable promise, and what it refuses.
type promises struct{ epoch uint64 }

func (p *promises) promise(_ context.Context, epoch uint64) error {
	if epoch < p.epoch {
		return fmt.Errorf("epoch %d is promised", p.epoch)
	}
	p.epoch = epoch
	return nil
}

// introduce answers what a stream asks up to the promise; without standby, up to the epoch.
func (c *fakeConn) introduce(tli wal.TimelineID, standby string) {
	c.t.Helper()
	c.handshake()
	c.expect("IDENTIFY_SYSTEM")
	c.rows("IDENTIFY_SYSTEM", []any{uint64(testSystemID), tli, "0/0", nil})
	c.expect("SHOW longship.epoch")
	c.rows("SHOW", []any{c.id.Epoch})
	if standby != "" {
		c.expect("SHOW in_hot_standby")
		c.rows("SHOW", []any{standby})
	}
}

// hungUp fails unless the stream asks for nothing more.
func (c *fakeConn) hungUp() {
	c.t.Helper()
	if msg, err := c.be.Receive(); err == nil {
		c.t.Errorf("the stream goes on with %+v", msg)
	}
}

// I3: connecting to a primary of epoch E first promises E. A node that has promised more neither cuts
// its log nor moves to another timeline for an upstream that time has left behind: what it would cut
// may be all that is left of an acknowledged commit.
func TestPromiseBeforeCut(t *testing.T) {
	for _, fork := range []int{0, 1} { // before our end, and at it
		synctest.Test(t, func(t *testing.T) {
			log := makeLog(t, 100, 100)
			h := history(2, 1, log.ends[fork])
			p := promises{epoch: 5}
			s := newStandby(t, vfs.NewMem(), log.endOf(1), timeline1, func(c *Config) { c.Promise = p.promise })
			if err := s.dir.Allocate(1, 1); err != nil {
				t.Fatal(err)
			}
			s.run()
			old := s.accept()
			old.id.Epoch = 4
			old.introduce(h.Timeline, "off")
			old.hungUp()
			if _, err := s.dir.ReadHistory(2); err == nil || len(s.cuts) != 0 {
				t.Errorf("for an epoch that was refused: cut at %v, history of timeline 2 written: %v", s.cuts, err == nil)
			}
			current := s.accept()
			current.id.Epoch = 6
			current.handshake().identify(h)
			if _, ok := errors.AsType[*SwitchError](<-s.done); !ok || p.epoch != 6 || len(s.cuts) != 1-fork {
				t.Errorf("promised %d, cuts %v", p.epoch, s.cuts)
			}
		})
	}
}

// The promise is given before the cut, not after it, even if the node stops in between.
func TestPromiseThenCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100)
		var p promises
		s := newStandby(t, vfs.NewMem(), log.endOf(1), timeline1, func(c *Config) { c.Promise = p.promise })
		s.cut = func(context.Context, wal.LSN) error {
			if p.epoch != 6 {
				t.Errorf("cut for epoch 6 with epoch %d promised", p.epoch)
			}
			return s.dir.Allocate(1, 1)
		}
		s.run()
		c := s.accept()
		c.id.Epoch = 6
		c.handshake().identify(history(2, 1, log.ends[0]))
		<-s.done
	})
}

// An upstream of an epoch that is refused gets no report, and none of its horizon counts; a stream never
// goes back to an older epoch, even if the promise were forgotten.
func TestRefusedEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := promises{epoch: 5}
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Promise = p.promise })
		s.run()
		for _, step := range []struct {
			epoch   uint64
			follows bool
			standby string
		}{{4, false, "off"}, {6, true, ""}, {5, false, ""}, {6, true, ""}} {
			c := s.accept()
			c.id.Epoch = step.epoch
			if !step.follows {
				c.introduce(1, step.standby)
				c.hungUp()
				continue
			}
			c.stream(logStart)
			lastReport(t, c, logStart, logStart, 0)
			if st := s.Status(); p.epoch != 6 || st.Epoch != 6 || st.State != StateStreaming || st.LastMsgReceipt.IsZero() {
				t.Errorf("promised %d, status %+v", p.epoch, st)
			}
			c.nc.Close()
			p.epoch = 0
		}
		s.stop()
	})
}

// The epoch of the stream is the one that was promised: another one counts for nothing.
func TestStreamOfAnotherEpoch(t *testing.T) {
	for _, epoch := range []uint64{5, 7} {
		synctest.Test(t, func(t *testing.T) {
			var p promises
			s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Promise = p.promise })
			s.run()
			c := s.accept()
			c.id.Epoch = 6
			c.handshake().identify(timeline1)
			c.id.Epoch, c.horizon = epoch, logStart+8
			c.startCopy(logStart, 1)
			<-c.read
			if n := len(c.take()); n > 0 || s.horizon.Load() != 0 || p.epoch != 6 {
				t.Errorf("a stream of epoch %d where 6 was shown: %d reports, horizon %s, promised %d", epoch, n, s.horizon.Load(), p.epoch)
			}
			s.stop()
		})
	}
}

// A node that is not a primary, or not any more, is not followed, nor taken for a sign that there is
// one; its epoch is not promised. It is looked at again, as it may be about to take office.
func TestUpstreamIsNoPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p promises
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Promise = p.promise })
		s.run()
		c := s.accept()
		c.introduce(1, "on")
		c.hungUp()
		if st := s.Status(); p.epoch != 0 || !st.LastMsgReceipt.IsZero() {
			t.Errorf("promised epoch %d, status %+v", p.epoch, st)
		}
		s.accept().stream(logStart)
		synctest.Wait()
		if p.epoch != 1 {
			t.Errorf("promised epoch %d to a primary of epoch 1", p.epoch)
		}
		s.stop()
	})
}

// A fetch takes what a sealed node of an older epoch holds. Nothing is promised to it.
func TestFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100)
		p := promises{epoch: 5}
		leases := NewLeases()
		time.Sleep(time.Second)
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) {
			c.Promise, c.Fetch, c.Leases, c.Slot = p.promise, true, leases, "n2"
		})
		s.run()
		c := s.accept()
		c.id.Epoch = 4
		c.handshake().identify(timeline1)
		if c.startup["longship.fetch"] != "on" {
			t.Errorf("start-up packet %v", c.startup)
		}
		c.lease = 9
		c.startCopy(logStart, 1)
		if want := "START_REPLICATION 0/100000 TIMELINE 1"; c.command != want {
			t.Errorf("got %q, want %q", c.command, want)
		}
		c.sendLog(log, logStart, log.end())
		lastReport(t, c, log.end(), log.end(), 0)
		if p.epoch != 5 || leases.Left() != 0 || s.Flushed().Load() != log.end() {
			t.Errorf("promised %d, lease left %v, flushed %s", p.epoch, leases.Left(), s.Flushed().Load())
		}
		s.stop()
	})
}

// The secret is shown by a member, and only if there is one.
func TestSecret(t *testing.T) {
	cfg := testConfig(t)
	if _, shown := cfg.parameters()["longship.secret"]; shown {
		t.Error("shown without a secret")
	}
	cfg.Secret = "s3"
	if got := cfg.parameters()["longship.secret"]; got != "s3" {
		t.Errorf("shown as %q", got)
	}
	cfg.NodeID = 0
	if _, shown := cfg.parameters()["longship.secret"]; shown {
		t.Error("shown by a node that is nobody yet")
	}
}
