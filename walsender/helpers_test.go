package walsender

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

const testSystemID = 7_000_000_000_000_000_001

// A testPrimary is a log with a writer, and a walsender in front of it.
type testPrimary struct {
	t      testing.TB
	log    *Log
	writer *wal.Writer
	group  *syncrep.Group
	slots  *slots.Slots
	sender *Server
	wire   *pgwire.Server
	redo   wal.Position
	told   wal.Position // how far the group knows the log to be flushed
	hangUp func()       // set by listen: ends its sessions, and returns when they have given back what they had
}

// nothingNeeded lets every segment go.
func nothingNeeded() uint64 { return math.MaxUint64 }

// Connect and ConnectReplication make a testPrimary a pgwire.Handler.
func (p *testPrimary) Connect(context.Context, *pgwire.Conn) (pgwire.Session, error) {
	return nil, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "no SQL here")
}

func (p *testPrimary) ConnectReplication(ctx context.Context, c *pgwire.Conn) (pgwire.Replication, error) {
	return p.sender.Connect(ctx, c)
}

// newPrimary starts a primary of an empty log, with segments of 1 MiB, on fs. It ends with the test.
// What it does not care about is up to change.
func newPrimary(t testing.TB, fs vfs.FS, path string, change func(*Config)) *testPrimary {
	t.Helper()
	format := wal.Format{Version: wal.PG15, SystemID: testSystemID, SegmentSize: wal.MinSegmentSize}
	start := format.SegmentSize.Start(1)
	return newPrimaryAt(t, fs, path, wal.End{LSN: start, Timeline: 1}, wal.History{Timeline: 1}, format, change)
}

// newPrimaryAt is newPrimary for a log that exists up to end.
func newPrimaryAt(t testing.TB, fs vfs.FS, path string, end wal.End, history wal.History, format wal.Format, change func(*Config)) *testPrimary {
	t.Helper()
	walPath := fs.PathJoin(path, "pg_wal")
	if err := fs.MkdirAll(walPath, 0o700); err != nil {
		t.Fatal(err)
	}
	p := &testPrimary{t: t, group: syncrep.NewGroup()}
	p.redo.Advance(end.LSN)
	dir := wal.NewDir(fs, walPath, format)
	onFlush := func(l wal.LSN) { p.group.LocalFlush(l); p.told.Advance(l) }
	p.writer = wal.NewWriter(dir, end, wal.WriterConfig{WriterDelay: func() time.Duration { return time.Millisecond }, OnFlush: onFlush})
	p.group.SetRules(syncrep.Rule{}, syncrep.Resolved{})
	onFlush(end.LSN)
	var err error
	if p.slots, err = slots.Open(fs, fs.PathJoin(path, "pg_replslot"), 10); err != nil {
		t.Fatal(err)
	}
	p.log = &Log{
		System:   System{SystemID: testSystemID, Epoch: 3, Timeline: end.Timeline, History: history, Format: format},
		Dir:      dir,
		Buffer:   p.writer,
		Flushing: p.writer.Flushing(), Flushed: p.writer.Flushed(), Horizon: p.group.Horizon(),
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg := Config{
		Log: p.log, Primary: true, Slots: p.slots, Sync: p.group, Timeout: func() (time.Duration, <-chan struct{}) { return time.Minute, nil },
		Redo: p.redo.Load, Show: p.show, Logger: logger,
	}
	if change != nil {
		change(&cfg)
	}
	p.sender = New(cfg)
	p.wire = pgwire.NewServer(pgwire.Config{Handler: p, ServerVersion: "15.18 (Longship)", Logger: logger})

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.writer.Run(ctx); err != nil {
			t.Errorf("writer: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

func (p *testPrimary) show(name string) (string, bool) {
	v, ok := map[string]string{"data_directory_mode": "0700", "wal_segment_size": "1MB"}[name]
	return v, ok
}

// listen serves on a local port until the test ends, and returns the port.
func (p *testPrimary) listen() string {
	p.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.wire.Serve(ctx, ln) })
	p.hangUp = func() { cancel(); wg.Wait() }
	p.t.Cleanup(p.hangUp)
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// insert appends a record with n bytes of payload and returns its end.
func (p *testPrimary) insert(n int) wal.LSN {
	p.t.Helper()
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i)
	}
	_, end, err := p.writer.Insert(wal.Prepare(wal.RmgrLongship, 0, data), 1)
	if err != nil {
		p.t.Fatal(err)
	}
	return end
}

// setRule sets a rule of the names in text: those that are members' mean the members.
func (p *testPrimary) setRule(text string) {
	p.t.Helper()
	rule, err := syncrep.ParseRule(text)
	if err != nil {
		p.t.Fatal(err)
	}
	resolved := syncrep.Resolved{K: rule.Num}
	for _, name := range rule.Names {
		resolved.Listed = append(resolved.Listed, syncrep.Listed{ID: memberIDs[name], Name: name})
	}
	p.group.SetRules(rule, resolved)
}

// memberIDs are the members that a test may have. All other names are receivers'.
var memberIDs = map[string]syncrep.ID{
	"n2": {Node: 0xa2, Incarnation: 0xb2},
	"n3": {Node: 0xa3, Incarnation: 0xb3},
}

// flush makes everything inserted durable, and the rule count it.
func (p *testPrimary) flush() wal.LSN {
	p.t.Helper()
	end := p.writer.Inserted().Load()
	if err := p.writer.Flush(p.t.Context(), end); err != nil {
		p.t.Fatal(err)
	}
	if err := p.told.Wait(p.t.Context(), end); err != nil {
		p.t.Fatal(err)
	}
	return end
}

// bytes returns the log from one position to another.
func (p *testPrimary) bytes(from, to wal.LSN) []byte {
	p.t.Helper()
	r := wal.NewRawReader(p.log.Dir, p.log.History, p.log.Buffer)
	defer r.Close()
	b := make([]byte, 0, to-from)
	for from < to {
		n, err := r.ReadAt(b[len(b):cap(b)], from)
		if err != nil {
			p.t.Fatal(err)
		}
		b, from = b[:len(b)+n], from+wal.LSN(n)
	}
	return b
}

// A client speaks the protocol from the other end of a pipe.
type client struct {
	t    testing.TB
	conn net.Conn
	fe   *pgproto3.Frontend
	// close hangs up and waits until the server has noticed.
	close func()
}

// dial opens a connection on which nothing has been said.
func (p *testPrimary) dial() *client {
	p.t.Helper()
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.wire.ServeConn(ctx, theirs) })
	c := &client{t: p.t, conn: ours, fe: pgproto3.NewFrontend(ours, ours)}
	c.close = func() { ours.Close(); cancel(); wg.Wait() }
	p.t.Cleanup(c.close)
	return c
}

// connect opens a replication connection. params come in addition to what every client says.
func (p *testPrimary) connect(params map[string]string) *client {
	p.t.Helper()
	c := p.dial()
	c.startUp(params)
	return c
}

func (c *client) startUp(params map[string]string) {
	c.t.Helper()
	c.tell(startupMessage(params))
	c.until("Z")
}

func startupMessage(params map[string]string) *pgproto3.StartupMessage {
	m := &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersionNumber,
		Parameters:      map[string]string{"user": "u", "database": "replication", "replication": "true"},
	}
	maps.Copy(m.Parameters, params)
	return m
}

// memberParams make a client a member of the cluster.
func memberParams(name string) map[string]string {
	id := memberIDs[name]
	return map[string]string{
		"application_name": name, "_pq_.longship": "1",
		"longship.node_id":     strconv.FormatUint(id.Node, 16),
		"longship.incarnation": strconv.FormatUint(id.Incarnation, 16),
	}
}

func (c *client) flush() {
	c.t.Helper()
	if err := c.fe.Flush(); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// tell sends messages without waiting for an answer.
func (c *client) tell(msgs ...pgproto3.FrontendMessage) {
	c.t.Helper()
	for _, m := range msgs {
		c.fe.Send(m)
	}
	c.flush()
}

func (c *client) query(text string) { c.t.Helper(); c.tell(&pgproto3.Query{String: text}) }

func (c *client) status(m pgwire.StatusUpdate) {
	c.t.Helper()
	c.tell(&pgproto3.CopyData{Data: m.Append(nil)})
}

// receive returns the next message in one line, as transcripts show it.
func (c *client) receive() string {
	c.t.Helper()
	msg, err := c.fe.Receive()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return "closed"
	case err != nil:
		c.t.Fatalf("read: %v", err)
	}
	return describe(msg)
}

// until reads until a message that begins with prefix, and returns all lines.
func (c *client) until(prefix string) []string {
	c.t.Helper()
	var lines []string
	for {
		line := c.receive()
		lines = append(lines, line)
		if len(line) >= len(prefix) && line[:len(prefix)] == prefix {
			return lines
		}
		if line == "closed" {
			c.t.Fatalf("closed before %q, after %q", prefix, lines)
		}
	}
}

// do runs a command that does not stream and returns the transcript without ReadyForQuery.
func (c *client) do(text string) []string {
	c.t.Helper()
	c.query(text)
	lines := c.until("Z")
	return lines[:len(lines)-1]
}

// stream begins a stream and returns with it in copy-both.
func (c *client) stream(command string) {
	c.t.Helper()
	c.query(command)
	if got := c.receive(); got != "W" {
		c.t.Fatalf("%s answered %q, want W", command, got)
	}
}

// next returns the next message of the stream.
func (c *client) next() pgwire.ServerMessage {
	c.t.Helper()
	msg, err := c.fe.Receive()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	data, ok := msg.(*pgproto3.CopyData)
	if !ok {
		c.t.Fatalf("got %s in a stream", describe(msg))
	}
	var m pgwire.ServerMessage
	if err := m.Decode(data.Data); err != nil {
		c.t.Fatal(err)
	}
	m.XLogData.Data = append([]byte(nil), m.XLogData.Data...)
	return m
}

// wal collects WAL of the stream from start up to a position.
func (c *client) wal(start, end wal.LSN) []byte {
	c.t.Helper()
	var got []byte
	for at := start; at < end; {
		m := c.next()
		if m.Kind != pgwire.StreamXLogData {
			continue
		}
		if m.XLogData.Start != at {
			c.t.Fatalf("WAL at %s, want it at %s", m.XLogData.Start, at)
		}
		got = append(got, m.XLogData.Data...)
		at += wal.LSN(len(m.XLogData.Data))
	}
	return got
}
