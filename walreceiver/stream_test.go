package walreceiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// lastReport fails unless the last report since the last call says what is wanted.
func lastReport(t *testing.T, c *fakeConn, write, flush, apply wal.LSN) report {
	t.Helper()
	synctest.Wait()
	reports := c.take()
	if len(reports) == 0 {
		t.Fatalf("no report, want write %s flush %s apply %s", write, flush, apply)
	}
	r := reports[len(reports)-1]
	if r.Write != write || r.Flush != flush || r.Apply != apply {
		t.Fatalf("report write %s flush %s apply %s, want %s %s %s", r.Write, r.Flush, r.Apply, write, flush, apply)
	}
	return r
}

// A primary that is not up yet is waited for, with growing pauses; then everything it has is taken in,
// written, flushed and reported.
func TestStreamWaitsForPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 10, 200, 20000, 3, -1, 50)
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		begin := time.Now()
		for range 8 {
			s.refuse()
		}
		s.run()
		c := s.accept().stream(logStart)
		if waited := time.Since(begin); waited < 2*time.Second || waited > 15*time.Second {
			t.Errorf("eight refusals took %v", waited)
		}
		want := map[string]string{
			"user": "longship", "database": "replication", "replication": "true", "application_name": "n2",
			"_pq_.longship": "1", "longship.node_id": "22", "longship.incarnation": "abc",
			"longship.address": "10.0.0.2:5433", "longship.system_id": "7000000000000000001",
		}
		if !maps.Equal(c.startup, want) {
			t.Errorf("start-up packet %v, want %v", c.startup, want)
		}
		lastReport(t, c, logStart, logStart, 0)
		c.sendLog(log, logStart, log.ends[3])
		lastReport(t, c, log.ends[3], log.ends[3], 0)
		c.sendLog(log, log.ends[3], log.end())
		lastReport(t, c, log.end(), log.end(), 0)
		if !bytes.Equal(s.content(1), log.bytes) {
			t.Error("the standby's log differs from the primary's")
		}
		if err := s.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v", err)
		}
	})
}

// Any way the stream is cut into messages gives the same log; positions stay on ends of records.
func TestStreamAnyPortions(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		log := makeLog(t, randomSizes(rng, 150)...)
		ends := map[wal.LSN]bool{logStart: true}
		for _, e := range log.ends {
			ends[e] = true
		}
		v := newVerifier(testFormat, timeline1, mark{End: emptyEnd})
		var got []byte
		for at := 0; at < len(log.bytes); {
			n := min(1+rng.IntN(1<<rng.IntN(17)), len(log.bytes)-at)
			ready, err := v.add(log.slice(logStart+wal.LSN(at), logStart+wal.LSN(at+n)))
			if err != nil {
				t.Fatalf("seed %d at %d: %v", seed, at, err)
			}
			got = append(got, ready...)
			at += n
			if end := logStart + wal.LSN(len(got)); end != v.end.LSN || !ends[end] && v.end.Pad == 0 {
				t.Fatalf("seed %d: handed out up to %s, end %+v", seed, end, v.end)
			}
			if rng.IntN(10) == 0 { // the connection breaks: what was held is fetched again
				v = newVerifier(testFormat, timeline1, v.end)
				at = len(got)
			}
		}
		if !bytes.Equal(got, log.bytes) {
			t.Fatalf("seed %d: the log differs", seed)
		}
	}
}

// A byte changed anywhere in the stream is noticed before anything from its record on is handed out.
// Excepted are fields of a page header that PostgreSQL does not check either.
func TestStreamCorruptByte(t *testing.T) {
	slow.Test(t)
	log := makeLog(t, 5, 100, 9000, 1, 33, -1, 77, 300, 30000)
	for i := range int(log.ends[7] - logStart) {
		if i > 12000 && i < int(testSegSize)-64 && i%4099 != 0 {
			continue // inside the SWITCH's zeros
		}
		if at := i % wal.PageSize; at == 2 || at == 3 || at >= 16 && at < 24 {
			continue
		}
		part := log.bytes[:min(i+3*wal.PageSize, len(log.bytes))]
		part[i] ^= 0x10
		ready, err := newVerifier(testFormat, timeline1, mark{End: emptyEnd}).add(part)
		part[i] ^= 0x10
		if err == nil || len(ready) > i {
			t.Fatalf("byte %d changed: handed out %d bytes, error %v", i, len(ready), err)
		}
	}
}

// What does not verify is neither written nor acknowledged; the connection is dropped and the bytes
// are fetched again from the last whole record on.
func TestStreamRefetchesCorruptBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100, 100, 100)
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		s.run()
		c := s.accept().stream(logStart)
		bad := log.slice(logStart, log.end())
		bad[log.ends[1]-logStart+50] ^= 1
		c.xlog(logStart, bad)
		<-c.read
		for _, r := range c.take() {
			if r.Write > log.ends[1] {
				t.Errorf("reported write %s of a log that is bad from %s on", r.Write, log.ends[1])
			}
		}
		if want := fmt.Sprintf("invalid WAL at %s: ", log.ends[1]); !strings.HasPrefix(c.refusal, want) {
			t.Errorf("the upstream was told %q, want %q", c.refusal, want)
		}
		c = s.accept().stream(log.ends[1])
		lastReport(t, c, log.ends[1], log.ends[1], 0)
		if !bytes.Equal(s.content(1), log.bytes[:log.ends[1]-logStart]) {
			t.Error("something else than the good prefix was written")
		}
		c.sendLog(log, log.ends[1], log.end())
		lastReport(t, c, log.end(), log.end(), 0)
		if !bytes.Equal(s.content(1), log.bytes) {
			t.Error("the standby's log differs from the primary's")
		}
		s.stop()
	})
}

// Half of wal_receiver_timeout without a word: the upstream is asked for a sign of life. The whole of
// it: the connection is given up, and made anew.
func TestStreamTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.StatusInterval = always(0) })
		s.run()
		c := s.accept().stream(logStart)
		begin := time.Now()
		synctest.Wait()
		c.take()
		<-c.read
		if d := time.Since(begin); d != time.Minute {
			t.Errorf("given up after %v, want 1m", d)
		}
		reports := c.take()
		if len(reports) != 1 || !reports[0].ReplyRequested || reports[0].at.Sub(begin) != 30*time.Second {
			t.Errorf("reports %+v, want one after 30s that asks for an answer", reports)
		}
		c = s.accept().stream(logStart)
		time.Sleep(50 * time.Second) // an answer to the question at 30 s: the clock starts again
		c.keepalive(logStart, false)
		time.Sleep(50 * time.Second)
		select {
		case <-c.read:
			t.Error("given up although the upstream had spoken")
		default:
		}
		s.stop()
	})
}

// Each silence is asked about in time, also the one after an answer, whatever that was: nothing else wakes
// the standby without wal_receiver_status_interval.
func TestStreamTimeoutAfterAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100)
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.StatusInterval = always(0) })
		s.run()
		c := s.accept().stream(logStart)
		c.sendLog(log, logStart, log.ends[0])
		for _, answer := range []func(){
			func() { c.keepalive(log.ends[0], false) },
			func() { c.sendLog(log, log.ends[0], log.end()) },
		} {
			time.Sleep(30*time.Second + 5*time.Millisecond) // asked at 30 s, over a slow line
			answer()
			synctest.Wait()
			c.take()
			begin := time.Now()
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if r := c.take(); len(r) != 1 || !r[0].ReplyRequested {
				t.Errorf("%v after the answer: %+v, want a question", time.Since(begin), r)
			}
			c.keepalive(s.Written().Load(), false)
			synctest.Wait()
		}
		s.stop()
	})
}

// A primary that accepts the connection and then says nothing is given up too.
func TestStreamTimeoutBeforeStreaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		s.run()
		begin := time.Now()
		c := s.accept()
		go io.Copy(io.Discard, c.nc)
		s.accept().stream(logStart)
		if d := time.Since(begin); d < time.Minute || d > 61*time.Second {
			t.Errorf("given up after %v, want 1m and a short pause", d)
		}
		s.stop()
	})
}

// Reports come at once when asked for, when replay moves, and every wal_receiver_status_interval.
func TestStreamReplyTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100)
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Timeout = always(0) })
		s.run()
		c := s.accept().stream(logStart)
		lastReport(t, c, logStart, logStart, 0)
		begin := time.Now()

		c.keepalive(logStart, true)
		if r := lastReport(t, c, logStart, logStart, 0); r.at != begin {
			t.Errorf("answered after %v", r.at.Sub(begin))
		}
		c.sendLog(log, logStart, log.end())
		if r := lastReport(t, c, log.end(), log.end(), 0); r.at != begin {
			t.Errorf("flush reported after %v", r.at.Sub(begin))
		}

		// Replay moves many times within a millisecond: one report.
		for l := logStart + 8; l <= log.end(); l += 8 {
			s.applied.Advance(l)
			synctest.Wait()
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		reports := c.take()
		if len(reports) != 1 || reports[0].Apply != log.end() || reports[0].at.Sub(begin) != time.Millisecond {
			t.Errorf("reports of replay %+v, want one of %s after 1ms", reports, log.end())
		}

		// Replay moves after a quiet time: at once.
		time.Sleep(time.Second)
		begin = time.Now()
		s.applied.Advance(log.end() + 8)
		if r := lastReport(t, c, log.end(), log.end(), log.end()+8); r.at != begin {
			t.Errorf("replay reported after %v", r.at.Sub(begin))
		}

		// The upstream waits for what the horizon allows: it hears when it is there, and not of each step.
		begin = time.Now()
		c.horizon = log.end() + 24
		c.keepalive(log.end(), true)
		lastReport(t, c, log.end(), log.end(), log.end()+8)
		s.applied.Advance(log.end() + 16)
		synctest.Wait()
		if reports := c.take(); len(reports) != 0 {
			t.Errorf("reports of replay on its way: %+v", reports)
		}
		s.applied.Advance(log.end() + 24)
		if r := lastReport(t, c, log.end(), log.end(), log.end()+24); r.at != begin {
			t.Errorf("what is waited for is reported after %v", r.at.Sub(begin))
		}

		time.Sleep(35 * time.Second)
		synctest.Wait()
		if reports := c.take(); len(reports) != 3 || reports[0].at.Sub(begin) != 10*time.Second {
			t.Errorf("%d reports in 35s: %+v, want one each 10s", len(reports), reports)
		}
		s.stop()
	})
}

// The horizon moves with data and with keepalives, and never backwards.
func TestStreamHorizon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100)
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		s.run()
		c := s.accept().stream(logStart)
		for _, step := range []struct{ horizon, want wal.LSN }{
			{log.ends[0], log.ends[0]}, {logStart, log.ends[0]}, {log.ends[1], log.ends[1]},
		} {
			c.horizon = step.horizon
			if step.horizon == log.ends[0] {
				c.sendLog(log, logStart, log.ends[0])
			} else {
				c.keepalive(log.ends[0], false)
			}
			synctest.Wait()
			if got := s.horizon.Load(); got != step.want {
				t.Errorf("horizon %s after %s was told, want %s", got, step.horizon, step.want)
			}
		}
		s.stop()
	})
}

// Messages that do not belong on the stream end it.
func TestStreamProtocolViolations(t *testing.T) {
	tests := map[string]func(c *fakeConn, log *testLog){
		"gap":            func(c *fakeConn, log *testLog) { c.sendLog(log, log.ends[0], log.ends[1]) },
		"overlap":        func(c *fakeConn, log *testLog) { c.xlog(logStart-8, log.slice(logStart, log.ends[0])) },
		"other session":  func(c *fakeConn, log *testLog) { c.id.Session++; c.keepalive(0, false) },
		"other epoch":    func(c *fakeConn, log *testLog) { c.id.Epoch++; c.sendLog(log, logStart, log.ends[0]) },
		"not native":     func(c *fakeConn, log *testLog) { c.data((&pgwire.Keepalive{}).Append(nil)) },
		"garbage":        func(c *fakeConn, log *testLog) { c.data([]byte("?")) },
		"empty":          func(c *fakeConn, log *testLog) { c.data(nil) },
		"query result":   func(c *fakeConn, log *testLog) { c.send(&pgproto3.DataRow{}) },
		"error":          func(c *fakeConn, log *testLog) { c.refuse("XX000", "no") },
		"shutdown":       func(c *fakeConn, log *testLog) { c.send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")}) },
		"huge message":   func(c *fakeConn, log *testLog) { c.nc.Write([]byte{'d', 0x7f, 0xff, 0xff, 0xff}) },
		"hang up":        func(c *fakeConn, log *testLog) { c.nc.Close() },
		"other timeline": func(c *fakeConn, log *testLog) { c.xlog(logStart, makeOnTimeline(c.t, 2)) },
	}
	for name, misbehave := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := makeLog(t, 100, 100)
				s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
				s.run()
				c := s.accept().stream(logStart)
				synctest.Wait()
				c.id.Epoch, c.id.Session = 1, 42
				go misbehave(c, log)
				<-c.read
				if got := s.Written().Load(); got != logStart {
					t.Errorf("written up to %s", got)
				}
				c = s.accept().stream(logStart)
				c.sendLog(log, logStart, log.end())
				lastReport(t, c, log.end(), log.end(), 0)
				s.stop()
			})
		})
	}
}

func makeOnTimeline(t testing.TB, tli wal.TimelineID) []byte {
	l := extendLog(t, &testLog{}, wal.End{LSN: logStart, Timeline: tli}, 100)
	return l.bytes
}

// Run ends when no other connection would help.
func TestStreamEnds(t *testing.T) {
	t.Run("other cluster", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			promised := false
			s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) {
				c.SystemID++
				c.Promise = func(context.Context, uint64) error { promised = true; return nil }
			})
			s.run()
			c := s.accept().handshake()
			c.expect("IDENTIFY_SYSTEM")
			c.rows("IDENTIFY_SYSTEM", []any{uint64(testSystemID), 1, "0/0", nil})
			if _, ok := errors.AsType[*OtherSystemError](<-s.done); !ok || promised {
				t.Errorf("want an OtherSystemError, and nothing promised to that cluster; promised: %t", promised)
			}
		})
	})
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("WAL removed, late %t", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Slot = "n2" })
				s.run()
				c := s.accept().handshake()
				c.identify(timeline1)
				if q := c.expect("START_REPLICATION"); q != `START_REPLICATION SLOT "n2" 0/100000 TIMELINE 1` {
					t.Errorf("got %q", q)
				}
				if late {
					c.send(&pgproto3.CopyBothResponse{})
				}
				go c.refuse(pgwire.CodeUndefinedFile, "requested WAL segment 000000010000000000000001 has already been removed")
				err := <-s.done
				if e, ok := errors.AsType[*wal.RemovedError](err); !ok || e.Segment != "000000010000000000000001" {
					t.Errorf("Run() = %v", err)
				}
			})
		})
	}
}

// An upstream that cannot send what is damaged is waited for, a minute long, as it may be repaired. Then
// somebody has to know.
func TestDamagedUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		s.run()
		begin := time.Now()
		for n := 0; ; n++ {
			if n == 6 { // another failure says nothing of that
				begin = time.Now()
				s.refuse()
			} else {
				c := s.accept().handshake()
				c.identify(timeline1)
				c.expect("START_REPLICATION")
				go c.refuse(pgwire.CodeDataCorrupted, "WAL segment 000000010000000000000001 is damaged on this node")
			}
			time.Sleep(6 * time.Second)
			select {
			case err := <-s.done:
				_, damaged := errors.AsType[*wal.DamagedError](err)
				if took := time.Since(begin); !damaged || took < damagePatience || took > damagePatience+20*time.Second {
					t.Errorf("Run() = %v after %v", err, took)
				}
				return
			default:
			}
			if time.Since(begin) > time.Hour {
				t.Fatal("it waits")
			}
		}
	})
}

// The minute begins when the upstream says so, not with the stream that ends by that, and anew at each damaged place.
func TestDamagedUpstreamIsWaitedForAtEachPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100)
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		s.run()
		var at time.Time // when the place was first met
		damaged := func(c *fakeConn) {
			go c.refuse(pgwire.CodeDataCorrupted, "WAL segment 000000010000000000000001 is damaged on this node")
			synctest.Wait()
			select {
			case err := <-s.done:
				t.Fatalf("Run() = %v after %v", err, time.Since(at))
			default:
			}
		}
		next := logStart
		for i := range log.ends {
			c := s.accept().stream(next)
			for range 4 { // it takes long to get there
				time.Sleep(damagePatience / 2)
				c.keepalive(next, true)
			}
			c.sendLog(log, next, log.endOf(i).LSN)
			next = log.endOf(i).LSN
			lastReport(t, c, next, next, 0)
			at = time.Now()
			damaged(c)
			for range 8 {
				c := s.accept().handshake()
				c.identify(timeline1)
				c.expect("START_REPLICATION")
				damaged(c)
				time.Sleep(damagePatience / 10)
			}
		}
		s.stop()
	})
}

// What is in doubt is not acknowledged, whatever comes behind it, and all of it at once when it is no more.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100, 5000)
		first, second := log.endOf(0).LSN, log.endOf(1).LSN
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		s.run()
		c := s.accept().stream(logStart)
		c.sendLog(log, logStart, second)
		lastReport(t, c, second, second, 0)
		s.Doubt(first)
		lastReport(t, c, second, first, 0)
		c.sendLog(log, second, log.end())
		c.keepalive(log.end(), true)
		lastReport(t, c, log.end(), first, 0)
		s.Doubt(^wal.LSN(0))
		lastReport(t, c, log.end(), log.end(), 0)
		s.stop()
	})
}

// Identify says what the upstream is.
func TestIdentify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, epochKnown := range []bool{true, false} {
			ours, theirs := net.Pipe()
			cfg := testConfig(t)
			cfg.SystemID = 0
			cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return ours, nil }
			go func() {
				c := newFakeConn(t, theirs).handshake()
				c.expect("IDENTIFY_SYSTEM")
				c.rows("IDENTIFY_SYSTEM", []any{uint64(testSystemID), 2, "0/3000000", nil})
				c.expect("SHOW wal_segment_size")
				c.rows("SHOW", []any{"1MB"})
				c.expect("SHOW longship.epoch")
				if epochKnown {
					c.rows("SHOW", []any{7})
				} else {
					c.refuse(pgwire.CodeUndefinedObject, "unrecognized configuration parameter")
				}
				c.expect("TIMELINE_HISTORY 2")
				c.rows("TIMELINE_HISTORY", []any{"00000002.history", "1\t0/2000000\tno reason\n"})
			}()
			sys, err := Identify(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			wantEpoch := uint64(0)
			if epochKnown {
				wantEpoch = 7
			}
			if sys.SystemID != testSystemID || sys.Timeline != 2 || sys.Flush != 0x3000000 || sys.SegmentSize != 1<<20 ||
				sys.Epoch != wantEpoch || len(sys.History.Switches) != 1 || sys.History.Switches[0].At != 0x2000000 {
				t.Errorf("got %+v", sys)
			}
		}
	})
}
