package walreceiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

const (
	testSystemID                = 7000000000000000001
	testSegSize                 = wal.MinSegmentSize
	testNodeID, testIncarnation = 0x22, 0xabc
	logStart                    = wal.LSN(testSegSize) // segment 0 is never written
)

var testFormat = wal.Format{Version: wal.PG15, SegmentSize: testSegSize, SystemID: testSystemID}

// A testLog is a log as a primary wrote it.
type testLog struct {
	bytes []byte    // from logStart on
	ends  []wal.LSN // of its records
	prevs []wal.LSN // their starts
}

func (l *testLog) end() wal.LSN { return logStart + wal.LSN(len(l.bytes)) }

// slice is the log's bytes from from up to to.
func (l *testLog) slice(from, to wal.LSN) []byte {
	return append([]byte(nil), l.bytes[from-logStart:to-logStart]...)
}

// endOf is the End after record i.
func (l *testLog) endOf(i int) wal.End {
	return wal.End{LSN: l.ends[i], Prev: l.prevs[i], Timeline: 1}
}

// makeLog writes records with payloads of the given sizes; -1 is a SWITCH.
func makeLog(t testing.TB, sizes ...int) *testLog {
	t.Helper()
	return extendLog(t, &testLog{}, wal.End{LSN: logStart, Timeline: 1}, sizes...)
}

// extendLog continues a copy of parent at end, on end's timeline.
func extendLog(t testing.TB, parent *testLog, end wal.End, sizes ...int) *testLog {
	t.Helper()
	dir := newDir(t, vfs.NewMem())
	l := &testLog{bytes: append([]byte(nil), parent.bytes[:end.LSN-logStart]...)}
	for i := range parent.ends {
		if parent.ends[i] <= end.LSN {
			l.ends, l.prevs = append(l.ends, parent.ends[i]), append(l.prevs, parent.prevs[i])
		}
	}
	if err := dir.Allocate(end.Timeline, testSegSize.Segno(end.LSN)); err != nil {
		t.Fatal(err)
	}
	w := wal.NewWriter(dir, end, wal.WriterConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for i, n := range sizes {
		insert(t, w, l, i, n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	to := w.Inserted().Load()
	h := wal.History{Timeline: end.Timeline}
	r := wal.NewRawReader(dir, h, nil)
	defer r.Close()
	for at := end.LSN; at < to; {
		b := make([]byte, to-at)
		n, err := r.ReadAt(b, at)
		if err != nil {
			t.Fatal(err)
		}
		l.bytes, at = append(l.bytes, b[:n]...), at+wal.LSN(n)
	}
	return l
}

func insert(t testing.TB, w *wal.Writer, l *testLog, i, n int) {
	t.Helper()
	if n < 0 {
		if _, err := w.Switch(); err != nil {
			t.Fatal(err)
		}
		l.ends, l.prevs = append(l.ends, w.Inserted().Load()), append(l.prevs, w.Prev())
		return
	}
	payload := make([]byte, n)
	for j := range payload {
		payload[j] = byte(i*7 + j)
	}
	start, end, err := w.Insert(wal.Prepare(wal.RmgrLongship, 0, payload), uint32(i+3))
	if err != nil {
		t.Fatal(err)
	}
	l.ends, l.prevs = append(l.ends, end), append(l.prevs, start)
}

// randomSizes is a mix of small records, some of several pages, and a SWITCH now and then.
func randomSizes(rng *rand.Rand, n int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		switch rng.IntN(40) {
		case 0:
			sizes[i] = rng.IntN(60 << 10)
		case 1:
			sizes[i] = -1
		default:
			sizes[i] = rng.IntN(300)
		}
	}
	return sizes
}

func newDir(t testing.TB, fs vfs.FS) *wal.Dir {
	t.Helper()
	if err := fs.MkdirAll("pg_wal", 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := fs.OpenDir("")
	if err == nil {
		err = errors.Join(root.Sync(), root.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return wal.NewDir(fs, "pg_wal", testFormat)
}

// A standby is a stream under test, with what the node would give it.
type standby struct {
	*Stream
	t       testing.TB
	dir     *wal.Dir
	applied wal.Position
	horizon wal.Position
	wanted  wal.Position
	dials   chan net.Conn // what the next dials return; nil refuses
	cuts    []wal.LSN
	fatal   error
	cancel  context.CancelFunc
	done    chan error
}

func testConfig(t testing.TB) Config {
	return Config{
		Primary:        "10.0.0.1:5433",
		Name:           "n2",
		Address:        "10.0.0.2:5433",
		NodeID:         testNodeID,
		Incarnation:    testIncarnation,
		SystemID:       testSystemID,
		Timeout:        always(time.Minute),
		StatusInterval: always(10 * time.Second),
		Logger:         slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// always is a setting that does not change.
func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

var errRefused = errors.New("connection refused")

// newStandby makes a standby whose log ends at end on the timeline of h.
func newStandby(t testing.TB, fs vfs.FS, end wal.End, h wal.History, change func(*Config)) *standby {
	return newStandbyIn(t, newDir(t, fs), end, h, change)
}

func newStandbyIn(t testing.TB, dir *wal.Dir, end wal.End, h wal.History, change func(*Config)) *standby {
	s := &standby{t: t, dir: dir, dials: make(chan net.Conn, 100), done: make(chan error, 1)}
	cfg := testConfig(t)
	cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case c := <-s.dials:
			if c == nil {
				return nil, errRefused
			}
			return c, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	cfg.Fatal = func(err error) { s.fatal = err }
	if change != nil {
		change(&cfg)
	}
	s.Stream = New(cfg, Log{
		Dir: s.dir, End: end, History: h, Applied: &s.applied, Horizon: &s.horizon, Wanted: &s.wanted,
		Cut: func(_ context.Context, fork wal.LSN) error {
			s.cuts = append(s.cuts, fork)
			return nil
		},
	})
	return s
}

var (
	emptyEnd  = wal.End{LSN: logStart, Timeline: 1}
	timeline1 = wal.History{Timeline: 1}
)

// run starts the stream; it is stopped at the end of the test at the latest.
func (s *standby) run() {
	ctx, cancel := context.WithCancel(s.t.Context())
	s.cancel = cancel
	go func() { s.done <- s.Run(ctx) }()
}

// stop ends the stream and returns what Run returned.
func (s *standby) stop() error {
	s.cancel()
	return <-s.done
}

// accept is the primary's side of the stream's next connection.
func (s *standby) accept() *fakeConn {
	s.t.Helper()
	ours, theirs := net.Pipe()
	s.dials <- ours
	return newFakeConn(s.t, theirs)
}

// refuse lets the stream's next attempt fail.
func (s *standby) refuse() { s.dials <- nil }

// content is what the standby's files hold from logStart up to its written position.
func (s *standby) content(tli wal.TimelineID) []byte {
	s.t.Helper()
	return readLog(s.t, s.dir, wal.History{Timeline: tli}, s.Written().Load())
}

func readLog(t testing.TB, dir *wal.Dir, h wal.History, to wal.LSN) []byte {
	t.Helper()
	r := wal.NewRawReader(dir, h, nil)
	defer r.Close()
	var all []byte
	for at := logStart; at < to; {
		b := make([]byte, to-at)
		n, err := r.ReadAt(b, at)
		if err != nil {
			t.Fatal(err)
		}
		all, at = append(all, b[:n]...), at+wal.LSN(n)
	}
	return all
}

// A fakeConn is a scripted primary's side of one connection.
type fakeConn struct {
	t       testing.TB
	nc      net.Conn
	be      *pgproto3.Backend
	id      pgwire.StreamID
	horizon wal.LSN
	lease   pgwire.LeaseRequest // in each message
	startup map[string]string
	command string // START_REPLICATION as it came

	mu       sync.Mutex
	reports  []report
	refusal  string // what came with a CopyFail
	copyDone bool
	read     chan struct{} // closed when the reader has ended
}

// A report is a status update and when it came, since the bubble's beginning.
type report struct {
	pgwire.StatusUpdate
	at time.Time
}

func newFakeConn(t testing.TB, nc net.Conn) *fakeConn {
	t.Cleanup(func() { nc.Close() })
	return &fakeConn{t: t, nc: nc, be: pgproto3.NewBackend(nc, nc), id: pgwire.StreamID{Epoch: 1, Session: 42}}
}

func (c *fakeConn) send(msgs ...pgproto3.BackendMessage) {
	c.t.Helper()
	for _, m := range msgs {
		c.be.Send(m)
	}
	if err := c.be.Flush(); err != nil {
		c.t.Errorf("fake primary: send %T: %v", msgs[0], err)
	}
}

// handshake takes the start-up packet.
func (c *fakeConn) handshake() *fakeConn {
	c.t.Helper()
	msg, err := c.be.ReceiveStartupMessage()
	if err != nil {
		c.t.Fatalf("fake primary: start-up: %v", err)
	}
	c.startup = msg.(*pgproto3.StartupMessage).Parameters
	c.send(&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "server_version", Value: "15.18"},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}},
		&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return c
}

// expect takes a query that begins with prefix.
func (c *fakeConn) expect(prefix string) string {
	c.t.Helper()
	msg, err := c.be.Receive()
	if err != nil {
		c.t.Fatalf("fake primary: want query %q: %v", prefix, err)
	}
	q, ok := msg.(*pgproto3.Query)
	if !ok || !strings.HasPrefix(q.String, prefix) {
		c.t.Fatalf("fake primary: got %T %+v, want query %q", msg, msg, prefix)
	}
	return q.String
}

// rows answers a query. A nil value is NULL.
func (c *fakeConn) rows(tag string, rows ...[]any) {
	c.t.Helper()
	c.resultSet(tag, rows...)
	c.send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
}

func (c *fakeConn) resultSet(tag string, rows ...[]any) {
	c.t.Helper()
	c.send(&pgproto3.RowDescription{})
	for _, r := range rows {
		values := make([][]byte, len(r))
		for i, v := range r {
			if v != nil {
				values[i] = []byte(fmt.Sprint(v))
			}
		}
		c.send(&pgproto3.DataRow{Values: values})
	}
	c.send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
}

func (c *fakeConn) refuse(code, message string) {
	c.t.Helper()
	c.send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: code, Message: message}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// identify answers what a stream asks before it begins.
func (c *fakeConn) identify(h wal.History) {
	c.t.Helper()
	c.expect("IDENTIFY_SYSTEM")
	c.rows("IDENTIFY_SYSTEM", []any{uint64(testSystemID), h.Timeline, "0/0", nil})
	c.expect("SHOW longship.epoch")
	c.rows("SHOW", []any{c.id.Epoch})
	if c.startup["longship.fetch"] == "" {
		c.expect("SHOW in_hot_standby")
		c.rows("SHOW", []any{"off"})
	}
	if h.Timeline > 1 {
		c.expect(fmt.Sprintf("TIMELINE_HISTORY %d", h.Timeline))
		c.rows("TIMELINE_HISTORY", []any{wal.HistoryFileName(h.Timeline), string(h.Format())})
	}
}

// startCopy answers START_REPLICATION, greets, and reads reports from now on.
func (c *fakeConn) startCopy(at wal.LSN, tli wal.TimelineID) *fakeConn {
	c.t.Helper()
	q := c.expect("START_REPLICATION")
	c.command = q
	if want := fmt.Sprintf("%s TIMELINE %d", at, tli); !strings.HasSuffix(q, " "+want) {
		c.t.Fatalf("fake primary: got %q, want … %s", q, want)
	}
	c.send(&pgproto3.CopyBothResponse{})
	c.read = make(chan struct{})
	go c.readReports()
	c.keepalive(at, false)
	return c
}

// stream does everything up to the stream's first message.
func (c *fakeConn) stream(at wal.LSN) *fakeConn {
	c.t.Helper()
	c.handshake()
	c.identify(timeline1)
	return c.startCopy(at, 1)
}

func (c *fakeConn) readReports() {
	defer close(c.read)
	for {
		msg, err := c.be.Receive()
		if err != nil {
			return
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyFail:
			c.mu.Lock()
			c.refusal = msg.Message
			c.mu.Unlock()
		case *pgproto3.CopyData:
			var m pgwire.ClientMessage
			if err := m.Decode(msg.Data); err != nil {
				c.t.Errorf("fake primary: %v", err)
			}
			if m.Status.Stream != c.id || !m.Status.Native {
				c.t.Errorf("fake primary: report of stream %+v, want %+v", m.Status.Stream, c.id)
			}
			c.mu.Lock()
			c.reports = append(c.reports, report{m.Status, time.Now()})
			c.mu.Unlock()
		case *pgproto3.CopyDone:
			c.mu.Lock()
			c.copyDone = true
			c.mu.Unlock()
			return
		}
	}
}

// take returns the reports since the last call.
func (c *fakeConn) take() []report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.reports
	c.reports = nil
	return r
}

func (c *fakeConn) data(b []byte) { c.send(&pgproto3.CopyData{Data: b}) }

// xlog sends WAL.
func (c *fakeConn) xlog(start wal.LSN, b []byte) {
	c.t.Helper()
	m := pgwire.XLogData{Start: start, End: start + wal.LSN(len(b)), Time: wal.TimestampOf(time.Now()),
		Native: true, Horizon: c.horizon, Stream: c.id, Lease: c.lease, Data: b}
	c.data(m.Append(nil))
}

// sendLog sends a part of the log in one message.
func (c *fakeConn) sendLog(l *testLog, from, to wal.LSN) {
	c.t.Helper()
	c.xlog(from, l.slice(from, to))
}

func (c *fakeConn) keepalive(end wal.LSN, ask bool) {
	c.t.Helper()
	m := pgwire.Keepalive{End: end, Time: wal.TimestampOf(time.Now()), ReplyRequested: ask,
		Native: true, Horizon: c.horizon, Stream: c.id, Lease: c.lease}
	c.data(m.Append(nil))
}
