package walreceiver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/wal"
)

// Whatever a stream is doing, it ends at once when its owner has something else to do.
func TestRunEndsWithContext(t *testing.T) {
	for name, arrange := range map[string]func(s *standby){
		"streaming":         func(s *standby) { s.accept().stream(logStart) },
		"connecting":        func(s *standby) {},
		"between attempts":  func(s *standby) { s.refuse() },
		"upstream is mute":  func(s *standby) { go io.Copy(io.Discard, s.accept().nc) },
		"upstream is deaf":  func(s *standby) { s.accept() },
		"waiting for a row": func(s *standby) { s.accept().handshake().expect("IDENTIFY_SYSTEM") },
		"waiting for copy": func(s *standby) {
			c := s.accept().handshake()
			c.identify(timeline1)
			c.expect("START_REPLICATION")
		},
		"timeline has ended": func(s *standby) {
			c := s.accept().stream(logStart)
			c.send(copyDone)
			<-c.read
		},
		"epoch is refused": func(s *standby) {
			c := s.accept()
			c.id.Epoch = 0
			c.introduce(1, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
				s.run()
				arrange(s)
				synctest.Wait()
				begin := time.Now()
				if err := s.stop(); !errors.Is(err, context.Canceled) || time.Since(begin) != 0 {
					t.Errorf("Run() = %v after %v", err, time.Since(begin))
				}
				if st := s.Status(); st.State != StateStopped {
					t.Errorf("state %s", st.State)
				}
			})
		})
	}
}

// Everything written is durable when Run returns, even what was written at the last moment: a node that
// is sealed then answers with it.
func TestRunFlushesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100)
		fs := vfs.NewCrashableMem()
		var f faults
		s := newStandby(t, errorfs.Wrap(fs, &f), emptyEnd, timeline1, nil)
		s.run()
		c := s.accept().stream(logStart)
		c.sendLog(log, logStart, log.ends[0])
		lastReport(t, c, log.ends[0], log.ends[0], 0)
		f.set(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileWriteAt && isSegment(op) {
				s.cancel()
			}
			return nil
		})
		c.sendLog(log, log.ends[0], log.ends[1])
		if err := <-s.done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v", err)
		}
		if s.Written().Load() != log.ends[1] || s.Flushed().Load() != log.ends[1] {
			t.Errorf("written %s, flushed %s, want %s", s.Written().Load(), s.Flushed().Load(), log.ends[1])
		}
		dir := wal.NewDir(fs.CrashClone(vfs.CrashCloneCfg{}), "pg_wal", testFormat)
		if got := readLog(t, dir, timeline1, log.ends[1]); !bytes.Equal(got, log.bytes) {
			t.Error("after a power cut the log is not what was written")
		}
	})
}
