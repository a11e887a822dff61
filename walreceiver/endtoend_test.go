package walreceiver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walsender"
)

// A primary is a writer with a real walsender in front of it, on a loopback port.
type primary struct {
	t       *testing.T
	writer  *wal.Writer
	dir     *wal.Dir
	history wal.History
	group   *syncrep.Group
	slots   *slots.Slots
	sender  *walsender.Server
	address string
	stop    func()
}

// newPrimary serves the log in dir, which ends at end on the timeline of h, under ANY 1 (*).
func newPrimary(t *testing.T, dir *wal.Dir, end wal.End, h wal.History) *primary {
	t.Helper()
	p := &primary{t: t, dir: dir, history: h, group: syncrep.NewGroup()}
	p.writer = wal.NewWriter(dir, end, wal.WriterConfig{OnFlush: p.group.LocalFlush})
	rule, err := syncrep.ParseRule("ANY 1 (*)")
	if err != nil {
		t.Fatal(err)
	}
	id := syncrep.ID{Node: testNodeID, Incarnation: testIncarnation}
	p.group.SetRules(rule, syncrep.Resolved{K: 1, Listed: []syncrep.Listed{{ID: id, Name: "n2"}}})
	own := syncrep.ID{Node: 1, Incarnation: 1}
	p.group.SetMembers([]syncrep.ID{own, id}, own)
	p.group.LocalFlush(end.LSN)
	held, err := slots.Open(dir.FS, "pg_replslot", 10)
	if err != nil {
		t.Fatal(err)
	}
	p.slots = held
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	p.sender = walsender.New(walsender.Config{
		Log: &walsender.Log{
			System: walsender.System{SystemID: testSystemID, Epoch: uint64(h.Timeline), Timeline: h.Timeline, History: h, Format: testFormat},
			Dir:    dir, Buffer: p.writer,
			Flushing: p.writer.Flushing(), Flushed: p.writer.Flushed(), Horizon: p.group.Horizon(),
		},
		Primary: true, Slots: held, Sync: p.group, Timeout: func() (time.Duration, <-chan struct{}) { return time.Minute, nil }, Backup: p, Logger: logger,
		Redo: func() wal.LSN { return logStart },
		Show: func(name string) (string, bool) { return "1MB", name == "wal_segment_size" },
	})
	p.serve(logger)
	return p
}

func (p *primary) serve(logger *slog.Logger) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.address = listener.Addr().String()
	wire := pgwire.NewServer(pgwire.Config{Handler: p, ServerVersion: "15.18 (Longship)", Logger: logger})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { wire.Serve(ctx, listener) })
	if p.writer != nil {
		wg.Go(func() { p.writer.Run(ctx) })
	}
	p.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	p.t.Cleanup(p.stop)
}

func (p *primary) Connect(context.Context, *pgwire.Conn) (pgwire.Session, error) {
	return nil, errors.New("no SQL here")
}

func (p *primary) ConnectReplication(ctx context.Context, c *pgwire.Conn) (pgwire.Replication, error) {
	return p.sender.Connect(ctx, c)
}

// commit inserts a record and waits until it is released.
func (p *primary) commit(n int, level syncrep.Level) wal.LSN {
	_, end, err := p.writer.Insert(wal.Prepare(wal.RmgrLongship, 0, bytes.Repeat([]byte{byte(n)}, n)), 3)
	if err == nil {
		p.writer.RequestFlush(end)
		err = p.group.Wait(p.t.Context(), end, level)
	}
	if err != nil {
		p.t.Errorf("commit: %v", err)
	}
	return end
}

// primary is its own backup: one file that stands for a store.
func (p *primary) BeginBackup(context.Context, walsender.BackupOptions) (walsender.Backup, error) {
	return p, nil
}

func (p *primary) Start() walsender.BackupPoint {
	return walsender.BackupPoint{LSN: logStart + 40, Timeline: 1, Time: time.Now()}
}

func (p *primary) Files() []walsender.BackupFile {
	content := func(path, s string) walsender.BackupFile {
		return walsender.BackupFile{Path: path, Size: int64(len(s)), ModTime: time.Now(),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }}
	}
	return []walsender.BackupFile{
		{Path: "pg_wal/"}, {Path: "global/"}, {Path: "store/"},
		content("store/000001.sst", strings.Repeat("sorted", 50000)), content("global/control", "{}"),
	}
}

func (p *primary) End(context.Context) (wal.LSN, wal.TimelineID, error) {
	return p.writer.Flushed().Load(), p.history.Timeline, nil
}

func (p *primary) Close() error { return nil }

// A flaky dialer connects to a primary and can cut what it has connected.
type flaky struct {
	address string
	mu      sync.Mutex
	conn    net.Conn
}

func (f *flaky) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, f.address)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn = c
	return c, err
}

func (f *flaky) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		f.conn.Close()
	}
}

// follow starts a stream that applies what it may, as a node would.
func (f *flaky) follow(t *testing.T, dir *wal.Dir, end wal.End, h wal.History) *standby {
	s := newStandbyIn(t, dir, end, h, func(c *Config) {
		c.Dial = f.dial
		c.RetryInterval = always(50 * time.Millisecond)
	})
	s.run()
	go func() {
		for at := wal.LSN(0); ; {
			select {
			case <-s.horizon.Changed(at):
			case <-t.Context().Done():
				return
			}
			at = s.horizon.Load()
			if s.Flushed().Wait(t.Context(), at) != nil {
				return
			}
			s.applied.Advance(at)
		}
	}()
	return s
}

// Over real sockets, a walsender and a stream: commits at every level are released while connections
// break, and the standby ends with the primary's bytes.
func TestEndToEnd(t *testing.T) {
	p := newPrimary(t, allocated(t), emptyEnd, timeline1)
	f := &flaky{address: p.address}
	s := f.follow(t, newDir(t, vfs.NewMem()), emptyEnd, timeline1)
	var wg sync.WaitGroup
	for i, level := range []syncrep.Level{syncrep.On, syncrep.On, syncrep.RemoteWrite, syncrep.RemoteApply} {
		wg.Go(func() {
			for n := range 100 {
				p.commit(50*i+n*n/3, level)
				if i == 0 && n%20 == 19 {
					f.cut()
				}
			}
		})
	}
	wg.Wait()
	if _, err := p.writer.Switch(); err != nil {
		t.Fatal(err)
	}
	last := p.commit(10, syncrep.RemoteApply)
	if st := s.Status(); s.Flushed().Load() != last || st.Epoch != 1 || st.SenderPort == 0 {
		t.Errorf("flushed %s, want %s; status %+v", s.Flushed().Load(), last, st)
	}
	if !bytes.Equal(s.content(1), readLog(t, p.dir, timeline1, last)) {
		t.Error("the standby's log differs from the primary's")
	}
	s.stop()
}

// A strong read at the primary asks the standby for its promise, and the standby's lasts longer than the
// primary counts on.
func TestEndToEndLease(t *testing.T) {
	p := newPrimary(t, allocated(t), emptyEnd, timeline1)
	leases := NewLeases()
	cfg := func(c *Config) { c.Dial, c.Leases = (&flaky{address: p.address}).dial, leases }
	s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, cfg)
	s.run()
	p.commit(100, syncrep.On)
	for range 3 {
		if err := p.group.WaitLease(t.Context()); err != nil {
			t.Fatal(err)
		}
		ours := p.group.Lease() // before the other: promises are on record before the primary hears of them
		leases.mu.Lock()
		theirs := leases.until
		leases.mu.Unlock()
		if theirs.Before(ours) || time.Until(ours) > pgwire.LeaseTerm {
			t.Errorf("the primary counts on %v, the standby's promise lasts %v longer", time.Until(ours), theirs.Sub(ours))
		}
	}
	s.stop()
}

// A sealed standby's log is fetched whole, beyond what its horizon shows.
func TestEndToEndFetch(t *testing.T) {
	p := newPrimary(t, allocated(t), emptyEnd, timeline1)
	f := &flaky{address: p.address}
	source := f.follow(t, newDir(t, vfs.NewMem()), emptyEnd, timeline1)
	last := p.commit(5000, syncrep.On)
	source.stop()
	p.stop()

	sealed := &primary{t: t}
	sealed.sender = walsender.New(walsender.Config{
		Log: &walsender.Log{
			System: walsender.System{SystemID: testSystemID, Epoch: 1, Timeline: 1, History: timeline1, Format: testFormat},
			Dir:    source.dir, Flushing: source.Flushed(), Flushed: source.Flushed(), Horizon: new(wal.Position),
		},
		Sealed: func() bool { return true },
		Slots:  p.slots, Show: func(string) (string, bool) { return "", false },
	})
	sealed.serve(slog.New(slog.NewTextHandler(t.Output(), nil)))
	f.address = sealed.address
	s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, func(c *Config) { c.Dial, c.Fetch = f.dial, true })
	s.run()
	if err := s.Flushed().Wait(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if !bytes.Equal(s.content(1), readLog(t, source.dir, timeline1, last)) {
		t.Error("what was fetched differs")
	}
}

// allocated is a log folder with its first segment.
func allocated(t *testing.T) *wal.Dir {
	dir := newDir(t, vfs.NewMem())
	if err := dir.Allocate(1, 1); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A base copy from a real walsender, and a stream that brings the log, from the segment on in which
// recovery of the copy begins.
func TestEndToEndBaseCopy(t *testing.T) {
	p := newPrimary(t, allocated(t), emptyEnd, timeline1)
	for n := range 50 {
		p.commit(n*n, syncrep.Local)
	}
	f := &flaky{address: p.address}
	cfg := testConfig(t)
	cfg.Dial = f.dial
	sys, err := Identify(t.Context(), cfg)
	if err != nil || sys.SystemID != testSystemID || sys.Epoch != 1 || sys.SegmentSize != testSegSize {
		t.Fatalf("Identify() = %+v, %v", sys, err)
	}
	fs := vfs.NewMem()
	start, tli, err := BaseCopy(t.Context(), cfg, fs, "copy", func(int64, int64) {})
	if err != nil || start != logStart+40 || tli != 1 {
		t.Fatalf("BaseCopy() = %s, %d, %v", start, tli, err)
	}
	dir := wal.NewDir(fs, "copy/pg_wal", testFormat)
	begin := wal.End{LSN: testFormat.SegmentSize.SegmentStart(start), Timeline: tli}
	s := f.follow(t, dir, begin, timeline1)
	last := p.commit(100, syncrep.On)
	if !bytes.Equal(s.content(1), readLog(t, p.dir, timeline1, last)) {
		t.Error("the standby's log differs from the primary's")
	}
	s.stop()
}

// The primary comes back on a new timeline, without the end of its log: the standby that has more cuts
// it, one that has less catches up on the old timeline first, and both go on on the new one.
func TestEndToEndNewTimeline(t *testing.T) {
	p := newPrimary(t, allocated(t), emptyEnd, timeline1)
	f := &flaky{address: p.address}
	ahead := f.follow(t, newDir(t, vfs.NewMem()), emptyEnd, timeline1)
	behindAt := wal.End{LSN: p.commit(100, syncrep.On), Timeline: 1}
	behind := newDir(t, vfs.NewMem())
	copySegment(t, p.dir, behind)
	fork := wal.End{LSN: p.commit(5000, syncrep.On), Timeline: 2}
	p.commit(300, syncrep.On)
	ahead.stop()
	p.stop()

	h2 := timeline1.Child(2, fork.LSN, "test")
	if err := errors.Join(p.dir.CopyHead(1, 2, fork.LSN), p.dir.WriteHistory(h2)); err != nil {
		t.Fatal(err)
	}
	fork.Prev = behindAt.LSN
	p2 := newPrimary(t, p.dir, fork, h2)
	f.address = p2.address
	// One after the other: of two streams of one disk only the later one counts.
	for name, log := range map[string]struct {
		dir *wal.Dir
		end wal.End
	}{
		"ahead":  {ahead.dir, wal.End{LSN: ahead.Written().Load(), Timeline: 1}},
		"behind": {behind, behindAt},
	} {
		s := f.follow(t, log.dir, log.end, timeline1)
		switched, ok := errors.AsType[*SwitchError](<-s.done)
		if !ok || switched.End.LSN != fork.LSN || switched.Cut != (name == "ahead") {
			t.Fatalf("%s: got %+v", name, switched)
		}
		s = f.follow(t, s.dir, switched.End, switched.History)
		last := p2.commit(700, syncrep.On)
		if got := readLog(t, s.dir, h2, last); !bytes.Equal(got, readLog(t, p2.dir, h2, last)) {
			t.Errorf("%s: the log differs from the primary's", name)
		}
		s.stop()
	}
}

func copySegment(t *testing.T, from, to *wal.Dir) {
	name := testSegSize.FileName(1, 1)
	b, err := wal.ReadFile(from.FS, from.FS.PathJoin(from.Path, name), int64(testSegSize))
	if err == nil {
		err = wal.WriteFileDurably(to.FS, to.Path, name, b)
	}
	if err != nil {
		t.Fatal(err)
	}
}
