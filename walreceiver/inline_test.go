package walreceiver

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/internal/wallclock"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// deaf takes whatever is written to it.
type deaf struct{ net.Conn }

func (deaf) Write(b []byte) (int, error)      { return len(b), nil }
func (deaf) SetReadDeadline(time.Time) error  { return nil }
func (deaf) SetWriteDeadline(time.Time) error { return nil }

// The receiver syncs and reports a small message itself on a quick disk, unless more has come with it, or the
// replier is at it. Otherwise it leaves that to the replier.
func TestReceiverSyncsItself(t *testing.T) {
	small := makeLog(t, 100, 100)
	large := makeLog(t, inlineBytes, 100)
	for _, c := range []struct {
		name       string
		log        *testLog
		messages   int
		slow, busy bool
		itself     bool
	}{
		{name: "small, quick and alone", log: small, messages: 1, itself: true},
		{name: "slow disk", log: small, messages: 1, slow: true},
		{name: "more has come", log: small, messages: 2},
		{name: "replier at it", log: small, messages: 1, busy: true},
		{name: "large", log: large, messages: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := quickSession(t, c.log, c.messages)
			r.quick = !c.slow
			if c.busy {
				r.replying <- struct{}{}
			}
			msg, err := r.c.receive()
			if err != nil {
				t.Fatal(err)
			}
			if err := r.message(msg.(*pgproto3.CopyData).Data); err != nil {
				t.Fatal(err)
			}
			if itself := r.s.Flushed().Load() == c.log.ends[0]; itself != c.itself || itself != (r.sent.Flush == c.log.ends[0]) {
				t.Errorf("synced by the receiver: %v, want %v; reported %s", itself, c.itself, r.sent.Flush)
			}
			if left := len(r.wake) == 1; left == c.itself || len(r.replying) == 1 != c.busy {
				t.Errorf("left to the replier: %v; its lock is held: %v", left, len(r.replying) == 1)
			}
		})
	}
}

// While much more that is released is on its way, syncs are apart, by no more than syncEvery. Near the end of what comes,
// or of what is released, each message is synced.
func TestSyncsAreApart(t *testing.T) {
	t.Run("end of the log", func(t *testing.T) { syncsAreApart(t, 4<<20, 4<<20) })
	t.Run("horizon", func(t *testing.T) { syncsAreApart(t, 8<<20, 4<<20) })
}

// syncsAreApart has a log arrive of which so much is there, and so much is released.
func syncsAreApart(t *testing.T, there, released int) {
	const size = 100 << 10
	sizes := make([]int, there/size)
	for i := range sizes {
		sizes[i] = size
	}
	log := makeLog(t, sizes...)
	horizon := log.ends[released/size-1]
	r := quickSession(t, log, 0)
	far, near := 0, 0
	for at, i := logStart, 0; i < len(log.ends); i++ {
		m := pgwire.XLogData{Start: at, End: log.end(), Native: true, Horizon: horizon, Stream: pgwire.StreamID{Epoch: 1, Session: 42}, Data: log.slice(at, log.ends[i])}
		if err := r.message(m.Append(nil)); err != nil {
			t.Fatal(err)
		}
		at = log.ends[i]
		if len(r.wake) == 1 {
			<-r.wake
			if _, err := r.flushAndReport(); err != nil {
				t.Fatal(err)
			}
		}
		written := r.s.Written().Load()
		synced := r.s.Flushed().Load() == written
		switch {
		case written-r.s.Flushed().Load() >= syncEvery:
			t.Fatalf("%d bytes are not synced", written-r.s.Flushed().Load())
		case horizon <= written+syncAhead && !synced:
			t.Fatalf("%s is not synced, with the horizon at %s", written, horizon)
		case horizon <= written+syncAhead:
			near++
		case synced:
			far++
		}
	}
	if far < 2 || far > (released-syncAhead)/syncEvery || near < (there-released+syncAhead)/size {
		t.Errorf("%d syncs while much was on its way, and %d near the end", far, near)
	}
}

// quickSession is a session to which the first messages of a log, of one record each, come all at once.
func quickSession(t *testing.T, log *testLog, messages int) *session {
	come := &testLog{bytes: log.bytes, ends: log.ends[:messages]}
	s := New(testConfig(t), Log{Dir: newDir(t, vfs.NewMem()), End: emptyEnd, History: timeline1, Applied: new(wal.Position), Horizon: new(wal.Position), Wanted: new(wal.Position)})
	s.epoch = 1
	fe := pgproto3.NewFrontend(bytes.NewReader(encodeMessages(come)), deaf{})
	return &session{
		s: s, c: &conn{net: deaf{}, fe: fe, timeout: always(time.Minute)}, limit: ^wal.LSN(0), ver: newVerifier(testFormat, timeline1, s.at),
		begun: make(chan struct{}), wake: make(chan struct{}, 1), replying: make(chan struct{}, 1),
	}
}

// Nor does it allocate for that.
func TestReceiverSyncAllocations(t *testing.T) {
	log := makeLog(t, make([]int, 3000)...)
	r := quickSession(t, log, len(log.ends))
	r.quick = true
	i, at := 0, logStart
	allocs := testing.AllocsPerRun(1000, func() {
		r.quick = true // the machine may be busy
		if err := r.data(at, log.bytes[at-logStart:log.ends[i]-logStart]); err != nil {
			t.Fatal(err)
		}
		at = log.ends[i]
		i++
	})
	if allocs != 0 || r.sent.Flush != at {
		t.Errorf("%v allocations for a record, reported up to %s of %s", allocs, r.sent.Flush, at)
	}
}

// When an upstream is asked for a sign of life is not what the machine's clock says: set ahead it asks nothing
// too early, set back it does not hold it up.
func TestPingWhenClockIsSet(t *testing.T) {
	set := wallclock.Rerun(t)
	if set == nil {
		return
	}
	log := makeLog(t, 100)
	r := quickSession(t, log, 1)
	r.began = time.Now()
	msg, err := r.c.receive()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.message(msg.(*pgproto3.CopyData).Data); err != nil {
		t.Fatal(err)
	}
	r.s.cfg.Timeout = always(time.Hour)
	set(7200)
	if _, ping := r.due(time.Now()); ping {
		t.Error("the clock is set ahead, and the upstream is asked for a sign of life at once")
	}
	set(-7200)
	if next := r.next(); next.pause > time.Hour {
		t.Errorf("the clock is set back, and nothing is done for %s", next.pause)
	}
	r.s.cfg.Timeout = always(2)
	if _, ping := r.due(time.Now()); !ping {
		t.Error("the clock is set back, and the upstream is not asked for a sign of life when it is time")
	}
}
