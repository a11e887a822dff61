package pgwire

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// pipeConn is a connection whose client has sent everything and gone, and that takes all answers.
type pipeConn struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (p *pipeConn) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *pipeConn) Write(b []byte) (int, error) { return p.out.Write(b) }

// FuzzConversation sends any bytes behind a proper start-up, all at once and byte by byte. The
// server must not fail in itself, must say the same both times and speak the protocol throughout.
func FuzzConversation(f *testing.F) {
	for _, seed := range [][]string{
		{"Q write; rows 2"}, {"Q panik"}, {"F", "S"}, {"long Q 9000", "Q rows 1"}, {"long d 70000"}, {"c", "f", "H", "S"},
		{"P |echo|25", "B ||hello", "D P", "E", "S"},
		{"P r|rows 5", "B |r", "E  2", "E  2", "E", "C P", "S"},
		{"P |begin", "B |", "E", "S", "B p|r", "D S r", "E p 1", "S", "C S r", "X"},
		{"raw 42 00 00 00 05 41", "S"}, {"raw 51 ff ff ff ff"}, {"raw 79 00 00 00 04"}, {"raw 50 00 01"},
	} {
		var b []byte
		for _, line := range seed {
			b = append(b, encodeLine(f, line)...)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, input []byte, replication bool) {
		if bytes.Contains(input, []byte("wait")) || bytes.Contains(input, []byte("big")) || bytes.Contains(input, []byte("panic")) {
			t.Skip("verbs that do not end, or fail on purpose")
		}
		whole := converse(t, input, replication, func(r io.Reader) io.Reader { return r })
		bytewise := converse(t, input, replication, iotest.OneByteReader)
		if !bytes.Equal(whole, bytewise) {
			t.Errorf("the answers depend on how the bytes arrive:\n%q\n%q", whole, bytewise)
		}
		fe := pgproto3.NewFrontend(bytes.NewReader(whole), io.Discard)
		for {
			m, err := fe.Receive()
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			}
			if err != nil {
				t.Fatalf("not the protocol: %v in %q", err, whole)
			}
			if e, ok := m.(*pgproto3.ErrorResponse); ok && e.Code == CodeInternalError {
				t.Errorf("internal error: %+v", e)
			}
		}
	})
}

// converse runs the message loop over input and returns what it answers.
func converse(t *testing.T, input []byte, replication bool, chop func(io.Reader) io.Reader) []byte {
	near, far := net.Pipe() // for deadlines and addresses
	defer near.Close()
	nc := &pipeConn{Conn: far, in: chop(bytes.NewReader(input))}
	s := newTestServer(Config{MaxMessageLen: 8000, MaxSessionMemory: 100_000})
	c := newConn(s, t.Context(), nc)
	c.server.register(c)
	c.secret = [4]byte{}
	err := c.guard(func() error {
		if replication {
			return c.serveReplication(&fakeReplication{c, func(_ context.Context, c *Conn, text string) error {
				c.SendCommandComplete(text)
				return nil
			}})
		}
		return c.serveSQL(&fakeSession{conn: c, tx: 'I'})
	})
	c.Flush()
	c.farewell(err)
	c.cancel(nil)
	return nc.out.Bytes()
}

// FuzzPort sends any bytes to a connection that has just been accepted. How much is answered does not depend on
// how they arrive, and what it begins with is the protocol.
func FuzzPort(f *testing.F) {
	start := packet(protocol30, "user\x00u\x00\x00")
	for _, seed := range [][]byte{
		start, packet(codeSSLRequest, ""), append(packet(codeGSSENCRequest, ""), start...), packet(codeCancelRequest, "\x00\x00\x00\x01abcd"),
		packet(2<<16, "user\x00u\x00\x00"), packet(3<<16|1, "user\x00u\x00_pq_.x\x001\x00\x00"), packet(4<<16, ""),
		append(packet(protocol30, "user\x00u\x00replication\x00true\x00_pq_.longship\x001\x00\x00"), encodeLine(f, "Q rows 2")...),
		append(start, encodeLine(f, "Q rows 2")...), []byte("\x16\x03\x01\x02\x00"), []byte("GET / HTTP/1.1\r\n"), {0x7f, 0xff, 0xff, 0xff},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if bytes.Contains(input, []byte("wait")) || bytes.Contains(input, []byte("big")) || bytes.Contains(input, []byte("panic")) {
			t.Skip("verbs that do not end, or fail on purpose")
		}
		whole := accept(t, bytes.NewReader(input))
		if bytewise := accept(t, iotest.OneByteReader(bytes.NewReader(input))); len(whole) != len(bytewise) {
			t.Errorf("the answers depend on how the bytes arrive:\n%q\n%q", whole, bytewise)
		}
		if rest := bytes.TrimLeft(whole, "N"); len(rest) > 0 && !bytes.ContainsRune([]byte("ERv"), rune(rest[0])) || len(whole)-len(rest) > 2 {
			t.Errorf("the answer begins with %.20q", whole)
		}
	})
}

// accept serves a connection from its first byte and returns what it answers.
func accept(t *testing.T, in io.Reader) []byte {
	near, far := net.Pipe() // for deadlines and addresses
	defer near.Close()
	nc := &pipeConn{Conn: far, in: in}
	s := newTestServer(Config{MaxMessageLen: 8000, MaxSessionMemory: 100_000, Handler: &fakeHandler{
		replication: func(_ context.Context, c *Conn, text string) error {
			c.SendCommandComplete(text)
			return nil
		}}})
	s.ServeConn(t.Context(), nc)
	if len(s.conns) != 0 || len(s.sockets) != 0 || s.starting.Len() != 0 {
		t.Errorf("left %d connections, %d sockets, %d in start-up", len(s.conns), len(s.sockets), s.starting.Len())
	}
	return nc.out.Bytes()
}

// FuzzReader cuts any bytes into messages, whole and byte by byte, without holding more than
// twice what arrived.
func FuzzReader(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x05\x00"), 100)
	f.Add([]byte("S\x00\x00\x00\x04Q\x00\x00\x01\x00"), 100)
	f.Add([]byte("Q\x3f\xff\xff\xffabc"), 1<<30)
	f.Fuzz(func(t *testing.T, input []byte, limit int) {
		whole := reader{src: bytes.NewReader(input)}
		bytewise := reader{src: iotest.OneByteReader(bytes.NewReader(input))}
		for {
			typ, body, err := whole.next(limit)
			typ2, body2, err2 := bytewise.next(limit)
			if typ != typ2 || !bytes.Equal(body, body2) || (err == nil) != (err2 == nil) {
				t.Fatalf("%c %q %v and %c %q %v", typ, body, err, typ2, body2, err2)
			}
			if len(whole.buf) > max(inputBuffer, 2*len(input)) {
				t.Fatalf("a buffer of %d bytes for %d", len(whole.buf), len(input))
			}
			if _, again := survivable(err); err != nil && !again {
				return
			}
		}
	})
}
