package walsender

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// bubble runs a test on a primary in memory, in fake time.
func bubble(t *testing.T, change func(*Config), f func(t *testing.T, p *testPrimary)) {
	synctest.Test(t, func(t *testing.T) { f(t, newPrimary(t, vfs.NewMem(), "data", change)) })
}

// withoutBuffer has all of the log read from files.
func withoutBuffer(cfg *Config) { cfg.Log.Buffer = nil }

// segmentStart is where the log of a test begins.
const segmentStart wal.LSN = 0x100000

const startCommand = "START_REPLICATION 0/100000 TIMELINE 1"

// A receiver gets the log, byte for byte, as it becomes durable.
func TestStreamsToReceiver(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		p.insert(300_000)
		end := p.flush()
		c.stream(startCommand)
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

// "at most 131072 WAL bytes per w. If more is pending the chunk end is rounded down to a page boundary;
// the last chunk ends exactly at the flush LSN."
func TestChunksEndAtPages(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		p.insert(300_000)
		end := p.flush()
		c.stream("START_REPLICATION 0/100028") // inside a page
		var ends []string
		for at := segmentStart + 0x28; at < end; {
			m := c.next()
			at += wal.LSN(len(m.XLogData.Data))
			ends = append(ends, at.String())
			if m.XLogData.End != end {
				t.Errorf("the end of WAL is said to be %s, want %s", m.XLogData.End, end)
			}
		}
		if want := []string{"0/120000", "0/140000", end.String()}; !slices.Equal(ends, want) {
			t.Errorf("chunks end at %q, want %q", ends, want)
		}
	})
}

// What a failover could take back is not shown to a receiver, unless the rule names it and so waits
// for it. When the rule changes, that is looked at again.
func TestReceiverStaysBelowHorizon(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		p.setRule("ANY 1 (other)")
		p.insert(100)
		end := p.flush()
		c := p.connect(map[string]string{"application_name": "archive"})
		c.stream(startCommand)
		synctest.Wait()
		if got := p.sender.Stats()[0].Sent; got != segmentStart {
			t.Fatalf("%s was sent above the horizon", got)
		}
		p.setRule("ANY 1 (archive)")
		p.sender.RuleChanged()
		c.wal(segmentStart, end)
		p.insert(100)
		c.wal(end, p.flush())
	})
}

// A receiver that a rule names gets nothing that is not durable here: a primary that loses its power comes back
// without it.
func TestNamedReceiverGetsWhatIsFlushed(t *testing.T) {
	var flushed wal.Position
	flushed.Advance(segmentStart)
	bubble(t, func(cfg *Config) { cfg.Log.Flushed = &flushed }, func(t *testing.T, p *testPrimary) {
		p.setRule("ANY 1 (archive)")
		c := p.connect(map[string]string{"application_name": "archive"})
		c.stream(startCommand)
		end := p.insert(100)
		p.flush()
		synctest.Wait()
		if got := p.sender.Stats()[0].Sent; got != segmentStart {
			t.Fatalf("%s was sent, and is not durable", got)
		}
		flushed.Advance(end)
		c.wal(segmentStart, end)
	})
}

// A member gets WAL that is not durable here yet, and hears of the horizon, even if no WAL follows. Each
// message says which stream it belongs to.
func TestMemberStreamsAheadOfFlush(t *testing.T) {
	slow := func(cfg *Config) { cfg.Log.Flushed = new(wal.Position) }
	bubble(t, slow, func(t *testing.T, p *testPrimary) {
		p.setRule("ANY 1 (n2)")
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		hello := c.next()
		if k := hello.Keepalive; hello.Kind != pgwire.StreamKeepalive || !k.Native || k.Stream.Epoch != 3 || k.End != segmentStart {
			t.Fatalf("the stream begins with %+v", hello)
		}
		end := p.insert(100)
		m := c.next()
		if x := m.XLogData; m.Kind != pgwire.StreamXLogData || x.Stream != hello.Keepalive.Stream || x.Horizon > segmentStart {
			t.Fatalf("got %+v", m)
		}
		if !bytes.Equal(m.XLogData.Data, p.bytes(segmentStart, end)) {
			t.Error("WAL differs")
		}
		sent := time.Now()
		p.flush()
		c.status(pgwire.StatusUpdate{Write: end, Flush: end, Native: true, Stream: hello.Keepalive.Stream})
		if m := c.next(); m.Kind != pgwire.StreamKeepalive || m.Keepalive.Horizon != end || m.Keepalive.ReplyRequested {
			t.Errorf("the horizon %s is told by %+v", end, m)
		}
		if d := time.Since(sent); d != horizonLinger {
			t.Errorf("and that %v after the WAL, want %v", d, horizonLinger)
		}
	})
}

// A commit that waits for standbys to apply it does not wait for other WAL to bring the horizon along.
func TestHorizonIsToldAtOnceForRemoteApply(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		p.setRule("ANY 1 (n2)")
		c := p.connect(memberParams("n2"))
		c.stream(startCommand)
		id := c.next().Keepalive.Stream
		end := p.insert(100)
		released := make(chan error, 1)
		go func() { released <- p.group.Wait(t.Context(), end, syncrep.RemoteApply) }()
		synctest.Wait()
		p.writer.RequestFlush(end)
		c.next()
		sent := time.Now()
		c.status(pgwire.StatusUpdate{Write: end, Flush: end, Native: true, Stream: id})
		m := c.next()
		if m.Kind != pgwire.StreamKeepalive || m.Keepalive.Horizon != end || !m.Keepalive.ReplyRequested {
			t.Errorf("the horizon %s is told by %+v", end, m)
		}
		if d := time.Since(sent); d != 0 {
			t.Errorf("the horizon is told after %v", d)
		}
		c.status(pgwire.StatusUpdate{Write: end, Flush: end, Apply: end, Native: true, Stream: id})
		if err := <-released; err != nil {
			t.Error(err)
		}
	})
}

// An acknowledgement counts on the stream it belongs to and no other.
func TestMemberOfAnotherStream(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		for _, bad := range []func(*pgwire.StatusUpdate){
			func(m *pgwire.StatusUpdate) { m.Stream.Session++ },
			func(m *pgwire.StatusUpdate) { m.Stream.Epoch-- },
			func(m *pgwire.StatusUpdate) { m.Native, m.Stream = false, pgwire.StreamID{} },
		} {
			c := p.connect(memberParams("n2"))
			c.stream(startCommand)
			m := pgwire.StatusUpdate{Flush: segmentStart, Native: true, Stream: c.next().Keepalive.Stream}
			bad(&m)
			c.status(m)
			if got := c.receive(); got[:len("E FATAL 08P01")] != "E FATAL 08P01" {
				t.Errorf("%+v is answered by %q", m, got)
			}
		}
	})
}

// "half of it without any client message: k with replyRequested=1; full time: connection closed, no
// error message to the client."
func TestSilentClientIsDropped(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		c.stream(startCommand)
		begin := time.Now()
		if m := c.next(); !m.Keepalive.ReplyRequested || time.Since(begin) != 30*time.Second {
			t.Errorf("after %v came %+v", time.Since(begin), m)
		}
		time.Sleep(10 * time.Second)
		c.status(pgwire.StatusUpdate{Write: segmentStart})
		begin = time.Now()
		if m := c.next(); !m.Keepalive.ReplyRequested || time.Since(begin) != 30*time.Second {
			t.Errorf("after %v came %+v", time.Since(begin), m)
		}
		if got := c.receive(); got != "closed" || time.Since(begin) != time.Minute {
			t.Errorf("after %v came %q", time.Since(begin), got)
		}
	})
}

// Another wal_sender_timeout holds for a stream at once, however long that has been silent and however long it
// could have been under the one before.
func TestTimeoutChangesUnderSilentClient(t *testing.T) {
	var mu sync.Mutex
	var timeout time.Duration
	var changed chan struct{}
	set := func(to time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if changed != nil {
			close(changed)
		}
		timeout, changed = to, make(chan struct{})
	}
	bubble(t, func(c *Config) {
		set(time.Hour)
		c.Timeout = func() (time.Duration, <-chan struct{}) {
			mu.Lock()
			defer mu.Unlock()
			return timeout, changed
		}
	}, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		c.stream(startCommand)
		begin := time.Now()
		time.Sleep(10 * time.Second)
		set(30 * time.Second)
		if m := c.next(); !m.Keepalive.ReplyRequested || time.Since(begin) != 15*time.Second {
			t.Errorf("after %v came %+v, want to be asked after 15 s", time.Since(begin), m)
		}
		set(0)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := p.sender.Stats(); len(got) != 1 {
			t.Fatalf("without a timeout: %+v", got)
		}
		set(time.Minute) // long over
		if got := c.receive(); got != "closed" || time.Since(begin) != time.Hour+15*time.Second {
			t.Errorf("after %v came %q, want the end after an hour", time.Since(begin), got)
		}
	})
}

// A client that does not even read is dropped, too.
func TestDeafClientIsDropped(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		c.stream(startCommand)
		p.insert(1000)
		p.flush()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if got := p.sender.Stats(); len(got) != 0 {
			t.Errorf("still connected: %+v", got)
		}
	})
}

// A status update that asks for it is answered at once, and what it says is shown.
func TestStatusUpdate(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(map[string]string{"application_name": "w"})
		c.do("CREATE_REPLICATION_SLOT s1 PHYSICAL")
		p.insert(100)
		end := p.flush()
		c.stream("START_REPLICATION SLOT s1 0/100000")
		c.wal(segmentStart, end)
		time.Sleep(3 * time.Second)
		replied := time.Now()
		c.status(pgwire.StatusUpdate{Write: end, Flush: end - 8, Apply: 0, Time: wal.TimestampOf(replied), ReplyRequested: true})
		if m := c.next(); m.Kind != pgwire.StreamKeepalive || m.Keepalive.ReplyRequested || m.Keepalive.End != end {
			t.Errorf("got %+v, want a keepalive", m)
		}
		got := p.sender.Stats()[0]
		if got.Name != "w" || got.State != syncrep.Streaming || got.Sent != end || got.Write != end || got.Flush != end-8 || got.Replay != 0 {
			t.Errorf("shown as %+v", got)
		}
		if got.WriteLag != 3*time.Second || !got.ReplyTime.Equal(replied) {
			t.Errorf("write lag %v, reply time %v; want 3s, %v", got.WriteLag, got.ReplyTime, replied)
		}
		if slot, _ := p.slots.Get("s1"); slot.Restart != end-8 || slot.PID == 0 {
			t.Errorf("the slot is %+v, want it at %s", slot, end-8)
		}
		c.tell(&pgproto3.CopyData{Data: (&pgwire.HotStandbyFeedback{XMin: 1}).Append(nil)}, &pgproto3.CopyDone{})
		c.until("Z")
		if slot, _ := p.slots.Get("s1"); slot.Restart != end-8 || slot.PID != 0 {
			t.Errorf("the slot is %+v after the stream", slot)
		}
	})
}

// A member may flush WAL before this node does. Its slot stays at what is durable here: after a crash
// this node's log may end there, and the member needs it from there on.
func TestSlotStaysBelowOwnFlush(t *testing.T) {
	var flushed wal.Position // this node's disk is slow
	flushed.Advance(segmentStart)
	slow := func(cfg *Config) { cfg.Log.Flushed = &flushed }
	bubble(t, slow, func(t *testing.T, p *testPrimary) {
		c := p.connect(memberParams("n2"))
		c.do("CREATE_REPLICATION_SLOT n2 PHYSICAL")
		c.stream("START_REPLICATION SLOT n2 0/100000")
		hello := c.next()
		end := p.insert(100)
		c.next()
		c.status(pgwire.StatusUpdate{Write: end, Flush: end, Native: true, Stream: hello.Keepalive.Stream})
		synctest.Wait()
		if slot, _ := p.slots.Get("n2"); slot.Restart != flushed.Load() {
			t.Errorf("the slot is at %s, this node has flushed to %s", slot.Restart, flushed.Load())
		}
	})
}

// A report counts as far as this stream has sent, so that no client acknowledges what it cannot have.
func TestReportAheadOfStream(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		p.setRule("ANY 1 (liar)")
		c := p.connect(map[string]string{"application_name": "liar"})
		p.insert(100)
		end := p.flush()
		c.stream(startCommand)
		c.wal(segmentStart, end)
		c.status(pgwire.StatusUpdate{Write: ^wal.LSN(0), Flush: ^wal.LSN(0), Apply: ^wal.LSN(0)})
		synctest.Wait()
		p.insert(100)
		p.flush()
		if got := p.log.Horizon.Load(); got != end {
			t.Errorf("the horizon is %s, want %s", got, end)
		}
	})
}

// "Client c: server replies c, then C START_STREAMING, C START_REPLICATION, Z I; the connection is
// reusable."
func TestClientEndsStream(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		for range 2 {
			c.stream(startCommand)
			c.tell(&pgproto3.CopyDone{})
			want := []string{"c", "C START_STREAMING", "C START_REPLICATION", "Z I"}
			if got := c.until("Z"); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// "Allowed from client during CopyBoth: d, c, X only. Anything else: FATAL 08P01; unknown d sub-type:
// drop without message."
func TestProtocolViolations(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		for _, tt := range []struct {
			msg  pgproto3.FrontendMessage
			want string
		}{
			{&pgproto3.CopyFail{Message: "no"}, "E FATAL 08P01"},
			{&pgproto3.Query{String: "IDENTIFY_SYSTEM"}, "E FATAL 08P01"},
			{&pgproto3.CopyData{Data: []byte("z")}, "closed"},
			{&pgproto3.CopyData{}, "closed"},
			{&pgproto3.CopyData{Data: []byte("r123")}, "closed"},
			{&pgproto3.Terminate{}, "closed"},
		} {
			c := p.connect(nil)
			c.stream(startCommand)
			c.tell(tt.msg)
			if got := c.receive(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%T %+v is answered by %q, want %q", tt.msg, tt.msg, got, tt.want)
			}
		}
	})
}

// Late errors come after W, and leave the connection usable.
func TestStartErrors(t *testing.T) {
	bubble(t, withoutBuffer, func(t *testing.T, p *testPrimary) {
		p.fill()
		last := p.log.Format.SegmentSize.Segno(p.log.Flushed.Load())
		if _, _, err := p.log.Dir.RemoveBefore(2, nothingNeeded, 1, last, 0); err != nil {
			t.Fatal(err)
		}
		ahead := p.log.Flushed.Load() + 0x1000
		c := p.connect(nil)
		for _, tt := range []struct{ command, want string }{
			{"START_REPLICATION " + ahead.String(),
				fmt.Sprintf("E ERROR XX000 requested starting point %s is ahead of the WAL flush position of this server %s", ahead, p.log.Flushed.Load())},
			{startCommand, "E ERROR 58P01 requested WAL segment 000000010000000000000001 has already been removed"},
		} {
			want := []string{"W", tt.want}
			if got := c.do(tt.command); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", tt.command, got, want)
			}
		}
		c.stream("START_REPLICATION 0/200000")
	})
}

// A client that has stopped reading loses its WAL to a checkpoint, hears of it, and may go on.
func TestSegmentRemovedUnderStream(t *testing.T) {
	bubble(t, withoutBuffer, func(t *testing.T, p *testPrimary) {
		p.fill()
		c := p.connect(nil)
		c.stream(startCommand)
		c.next()
		synctest.Wait() // the next message is on its way
		last := p.log.Format.SegmentSize.Segno(p.log.Flushed.Load())
		if _, _, err := p.log.Dir.RemoveBefore(last, nothingNeeded, 1, last, 0); err != nil {
			t.Fatal(err)
		}
		got := c.until("Z")
		if want := "E ERROR 58P01 requested WAL segment 000000010000000000000001 has already been removed"; got[len(got)-2] != want {
			t.Errorf("the stream ends with %q, want %q", got, want)
		}
		c.do("IDENTIFY_SYSTEM")
	})
}

// On a standby everybody, members too, gets what is flushed and below the horizon.
func TestStandbyPassesOn(t *testing.T) {
	var flushed, horizon wal.Position
	standby := func(cfg *Config) {
		flushed.Advance(segmentStart)
		horizon.Advance(segmentStart)
		cfg.Primary, cfg.Sync, cfg.Log.Buffer = false, nil, nil
		cfg.Log.Flushing, cfg.Log.Flushed, cfg.Log.Horizon = &flushed, &flushed, &horizon
	}
	synctest.Test(t, func(t *testing.T) {
		flushed, horizon = wal.Position{}, wal.Position{}
		p := newPrimary(t, vfs.NewMem(), "data", standby)
		first := p.insert(100)
		second := p.insert(100)
		p.flush()
		c := p.connect(memberParams("n3"))
		c.stream(startCommand)
		horizon.Advance(second)
		synctest.Wait()
		flushed.Advance(first)
		c.wal(segmentStart, first)
		flushed.Advance(second)
		c.wal(first, second)
	})
}

// A connection that is terminated ends, whatever its client does.
func TestTerminate(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		c := p.connect(nil)
		deaf := p.connect(nil)
		c.stream(startCommand)
		deaf.stream(startCommand)
		go io.Copy(io.Discard, c.conn)
		p.insert(1000)
		p.flush()
		synctest.Wait()
		err := p.wire.TerminateReplication(t.Context(), pgwire.Errorf(pgwire.CodeAdminShutdown, "bye"), func(*pgwire.Conn) bool { return true })
		if err != nil || len(p.sender.Stats()) != 0 {
			t.Errorf("after termination: %v, %+v", err, p.sender.Stats())
		}
	})
}
