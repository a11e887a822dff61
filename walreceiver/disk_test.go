package walreceiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/wal"
)

// When the power fails, at any point and with any part of what was not synced, everything that was
// reported flushed is there.
func TestCrashKeepsWhatWasReported(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			log := makeLog(t, randomSizes(rng, 80)...)
			fs := vfs.NewCrashableMem()
			s := newStandby(t, fs, emptyEnd, timeline1, nil)
			s.run()
			c := s.accept().stream(logStart)
			crash := rng.IntN(len(log.bytes))
			var flushed wal.LSN
			var after *vfs.MemFS
			for at := logStart; at < log.end(); {
				to := min(at+wal.LSN(1+rng.IntN(1<<rng.IntN(17))), log.end())
				c.sendLog(log, at, to)
				at = to
				if rng.IntN(3) > 0 {
					synctest.Wait()
				}
				if int(at-logStart) >= crash {
					// The report is read first: what comes after it may or may not survive.
					for _, r := range c.take() {
						flushed = max(flushed, r.Flush)
					}
					after = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
					break
				}
				for _, r := range c.take() {
					flushed = max(flushed, r.Flush)
				}
			}
			s.stop()
			dir := wal.NewDir(after, "pg_wal", testFormat)
			if got := readLog(t, dir, timeline1, flushed); !bytes.Equal(got, log.bytes[:len(got)]) {
				t.Fatalf("seed %d: the log up to %s, reported flushed, is not there", seed, flushed)
			}
		})
	}
}

// faults makes the operations fail that its rule chooses.
type faults struct {
	mu   sync.Mutex
	rule func(op errorfs.Op) error
}

func (f *faults) MaybeError(op errorfs.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rule == nil {
		return nil
	}
	return f.rule(op)
}

func (f *faults) String() string { return "faults" }

func (f *faults) set(rule func(op errorfs.Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

func isSegment(op errorfs.Op) bool { return wal.IsSegmentName(strings.TrimPrefix(op.Path, "pg_wal/")) }

// A failed write or sync ends everything at once: it is passed on, never tried again, and nothing that
// it concerns is reported.
func TestFailedWriteAndSyncAreFatal(t *testing.T) {
	for name, kinds := range map[string][]errorfs.OpKind{
		"write": {errorfs.OpFileWriteAt},
		"sync":  {errorfs.OpFileSync, errorfs.OpFileSyncData},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := makeLog(t, 100, 100)
				var f faults
				s := newStandby(t, errorfs.Wrap(vfs.NewMem(), &f), emptyEnd, timeline1, nil)
				s.run()
				c := s.accept().stream(logStart)
				c.sendLog(log, logStart, log.ends[0])
				lastReport(t, c, log.ends[0], log.ends[0], 0)
				failures := 0
				f.set(func(op errorfs.Op) error {
					for _, k := range kinds {
						if op.Kind == k && isSegment(op) && failures == 0 {
							failures++ // once: a second try would succeed, and lie
							return syscall.EIO
						}
					}
					return nil
				})
				c.sendLog(log, log.ends[0], log.ends[1])
				err := <-s.done
				if !errors.Is(err, syscall.EIO) || s.fatal == nil || failures != 1 {
					t.Errorf("Run() = %v, Fatal(%v), %d failures", err, s.fatal, failures)
				}
				<-c.read
				if r := c.take(); len(r) != 0 || s.Flushed().Load() != log.ends[0] {
					t.Errorf("reports %+v, flushed %s after a failed %s", r, s.Flushed().Load(), name)
				}
			})
		})
	}
}

// On a full disk the stream drops the connection and tries again, without claiming a flush; when there
// is room it goes on.
func TestFullDiskIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, -1, 100)
		var f faults
		s := newStandby(t, errorfs.Wrap(vfs.NewMem(), &f), emptyEnd, timeline1, nil)
		s.run()
		c := s.accept().stream(logStart)
		c.sendLog(log, logStart, log.ends[1])
		lastReport(t, c, log.ends[1], log.ends[1], 0)
		f.set(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, "xlogtemp") {
				return syscall.ENOSPC
			}
			return nil
		})
		for range 3 {
			begin := time.Now()
			c.sendLog(log, log.ends[1], log.end())
			<-c.read
			for _, r := range c.take() {
				if r.Write > log.ends[1] || r.Flush > log.ends[1] {
					t.Errorf("reported write %s, flush %s with a full disk", r.Write, r.Flush)
				}
			}
			c = s.accept().stream(log.ends[1])
			if d := time.Since(begin); d < defaultRetryInterval/2 || d > defaultRetryInterval {
				t.Errorf("tried again after %v", d)
			}
		}
		f.set(nil)
		c.sendLog(log, log.ends[1], log.end())
		lastReport(t, c, log.end(), log.end(), 0)
		if err := s.stop(); s.fatal != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v, Fatal(%v)", err, s.fatal)
		}
		if !bytes.Equal(s.content(1), log.bytes) {
			t.Error("the standby's log differs from the primary's")
		}
	})
}

// On a slow disk the log goes on arriving while a sync is under way, and one more sync then covers all of it.
func TestFlushIsGrouped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, make([]int, 50)...)
		syncs := 0
		var f faults
		s := newStandby(t, errorfs.Wrap(vfs.NewMem(), &f), emptyEnd, timeline1, nil)
		s.run()
		c := s.accept().stream(logStart)
		lastReport(t, c, logStart, logStart, 0)
		f.set(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileSyncData && isSegment(op) {
				syncs++
				f.mu.Unlock()
				time.Sleep(100 * time.Millisecond) // a slow disk
				f.mu.Lock()
			}
			return nil
		})
		c.sendLog(log, logStart, log.ends[0])
		time.Sleep(101 * time.Millisecond)
		lastReport(t, c, log.ends[0], log.ends[0], 0) // now it is known to be slow
		at := log.ends[0]
		for _, end := range log.ends[1:] {
			c.sendLog(log, at, end)
			at = end
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if got := s.Written().Load(); got != log.end() {
			t.Errorf("written up to %s during the sync, want %s", got, log.end())
		}
		time.Sleep(60 * time.Millisecond)
		lastReport(t, c, log.end(), log.ends[1], 0) // the first sync did not cover what came during it
		time.Sleep(time.Second)
		lastReport(t, c, log.end(), log.end(), 0)
		if syncs != 3 {
			t.Errorf("%d syncs for 50 messages, want 3", syncs)
		}
		s.stop()
	})
}

// What was written is durable when Run has returned (invariant I3).
func TestStopFlushes(t *testing.T) {
	for i := range 20 {
		synctest.Test(t, func(t *testing.T) {
			log := makeLog(t, make([]int, 20)...)
			fs := vfs.NewCrashableMem()
			s := newStandby(t, fs, emptyEnd, timeline1, nil)
			s.run()
			c := s.accept().stream(logStart)
			c.sendLog(log, logStart, log.ends[i])
			s.stop()
			if s.Written().Load() != s.Flushed().Load() {
				t.Errorf("written %s, flushed %s", s.Written().Load(), s.Flushed().Load())
			}
			dir := wal.NewDir(fs.CrashClone(vfs.CrashCloneCfg{}), "pg_wal", testFormat)
			if s.Written().Load() == logStart {
				return
			}
			if got := readLog(t, dir, timeline1, s.Written().Load()); !bytes.Equal(got, log.bytes[:len(got)]) {
				t.Error(fmt.Sprint("the log up to ", s.Written().Load(), " is not durable"))
			}
		})
	}
}
