package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/wal"
)

// newBeating returns a reign that is open and has all that heartbeats need: a log which takes them and
// settings. It ends with the bubble.
func newBeating(t *testing.T) *reign {
	t.Helper()
	disk := vfs.NewMem()
	if err := disk.MkdirAll("pg_wal", 0o700); err != nil {
		t.Fatal(err)
	}
	dir := wal.NewDir(disk, "pg_wal", wal.Format{Version: wal.PG15, SystemID: 1, SegmentSize: wal.MinSegmentSize})
	start := wal.LSN(wal.MinSegmentSize)
	r := &reign{
		node: &Node{settings: sql.NewSettings()}, horizon: &wal.Position{}, opened: make(chan struct{}),
		primary: &primary{writer: wal.NewWriter(dir, wal.End{LSN: start, Timeline: 1}, wal.WriterConfig{})},
	}
	r.horizon.Advance(start)
	if err := r.primary.writer.Preallocate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.beat(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("beat() = %v", err)
		}
	})
	return r
}

// beats waits some intervals and returns how many heartbeats there were meanwhile. The horizon follows
// them if it is to.
func (r *reign) beats(intervals int, confirmed bool) (count int) {
	before := r.primary.writer.Inserted().Load()
	for range intervals {
		time.Sleep(r.node.settings.Duration("heartbeat_interval")) // of the bubble
		synctest.Wait()
		now := r.primary.writer.Inserted().Load()
		if now != before {
			count++
		}
		if before = now; confirmed {
			r.horizon.Advance(now)
		}
	}
	return count
}

// There is a heartbeat in each interval, from when the reign is open, but none is added to one that is
// not acknowledged: a primary that is cut off does not go on writing what will be cut off its log.
func TestHeartbeatsAreNotPiledUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBeating(t)
		if got := r.beats(5, true); got != 0 {
			t.Errorf("%d heartbeats before the reign was open", got)
		}
		close(r.opened)
		synctest.Wait()
		r.horizon.Advance(r.primary.writer.Inserted().Load())
		if got := r.beats(5, true); got != 5 {
			t.Errorf("%d heartbeats in 5 intervals", got)
		}
		if got := r.beats(10, false); got != 1 {
			t.Errorf("%d heartbeats while none was acknowledged, want 1", got)
		}
		r.horizon.Advance(r.primary.writer.Inserted().Load())
		if got := r.beats(5, true); got != 5 {
			t.Errorf("%d heartbeats in 5 intervals afterwards", got)
		}
	})
}

// While commits are held for a switchover there are no heartbeats either: the log has to stand still for
// the next primary to have all of it.
func TestNoHeartbeatsDuringSwitchover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBeating(t)
		close(r.opened)
		synctest.Wait()
		r.horizon.Advance(r.primary.writer.Inserted().Load())
		mustClose(t, &r.primary.gate)
		if got := r.beats(5, true); got != 0 {
			t.Errorf("%d heartbeats while commits were held", got)
		}
		r.primary.gate.open()
		if got := r.beats(5, true); got != 5 {
			t.Errorf("%d heartbeats in 5 intervals afterwards", got)
		}
	})
}

// The interval may change while it passes, and 0 ends heartbeats until it changes again.
func TestHeartbeatIntervalChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBeating(t)
		close(r.opened)
		set := func(value string) {
			if err := r.node.settings.Set("heartbeat_interval", value, "test"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			r.horizon.Advance(r.primary.writer.Inserted().Load())
		}
		set("0")
		before := r.primary.writer.Inserted().Load()
		time.Sleep(time.Hour) // of the bubble
		if got := r.primary.writer.Inserted().Load(); got != before {
			t.Errorf("the log grew from %s to %s without heartbeats", before, got)
		}
		set("20s")
		if got := r.beats(3, true); got != 3 {
			t.Errorf("%d heartbeats in 3 intervals", got)
		}
	})
}

// A commit is news for Raft's slots; the heartbeats before and after it are none.
func TestCommitIsWorthTelling(t *testing.T) {
	n := newTestNode(t, "n1")
	n.cfg.Settings = map[string]string{"heartbeat_interval": "20ms"}
	n.start()
	r, _ := n.node.present.load()
	newsAt := func(at wal.LSN) bool {
		s := &raftlog.State{Slots: []raftlog.Slot{{Name: "s", Restart: at}}}
		return r.worthTelling(s, []raftlog.Slot{{Name: "s", Restart: r.applied.Load()}})
	}
	awaitBeat := func() (end wal.LSN) {
		end = r.written().Load() + 1
		if err := r.applied.Wait(t.Context(), end); err != nil {
			t.Fatal(err)
		}
		return r.applied.Load()
	}
	before := awaitBeat()
	awaitBeat()
	if newsAt(before) {
		t.Error("a heartbeat is worth telling")
	}
	c, err := pgx.Connect(t.Context(), "postgres://test@"+n.cfg.Listen+"/test?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.Exec(t.Context(), "INSERT INTO kv VALUES ('a', '1')"); err != nil {
		t.Fatal(err)
	}
	after := awaitBeat()
	awaitBeat()
	if !newsAt(before) {
		t.Error("a commit is not worth telling")
	}
	if newsAt(after) {
		t.Error("the heartbeats after a commit are worth telling")
	}
}
