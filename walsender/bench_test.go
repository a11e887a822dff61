package walsender

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// benchPrimary is a primary with a connection over the loopback, on which nothing has been said.
func benchPrimary(b *testing.B, params map[string]string) (*testPrimary, *client) {
	p := newPrimary(b, vfs.NewMem(), "data", nil)
	conn, err := net.Dial("tcp", "127.0.0.1:"+p.listen())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	c := &client{t: b, conn: conn, fe: pgproto3.NewFrontend(conn, conn)}
	c.startUp(params)
	return p, c
}

// BenchmarkMessage is one small record's way: inserted, sent, received. Nothing of its allocations is
// the sender's but the channel it waits on.
func BenchmarkMessage(b *testing.B) {
	p, c := benchPrimary(b, memberParams("n2"))
	c.query(startCommand)
	rec := make([]byte, 100)
	r := walReader{b: b, conn: c.conn, buf: make([]byte, 1<<20), at: segmentStart}
	b.ReportAllocs()
	for b.Loop() {
		_, end, err := p.writer.Insert(wal.Prepare(wal.RmgrLongship, 0, rec), 1)
		if err != nil {
			b.Fatal(err)
		}
		r.readTo(end)
	}
}

// BenchmarkSend is the way of many small records, of which up to 64 are under way, as at full load: what is
// counted is for each record, and its encoding is not.
func BenchmarkSend(b *testing.B) {
	p, c := benchPrimary(b, memberParams("n2"))
	c.query(startCommand)
	records := make([]*wal.Prepared, b.N)
	for i := range records {
		records[i] = wal.Prepare(wal.RmgrLongship, 0, make([]byte, 100))
	}
	r := walReader{b: b, conn: c.conn, buf: make([]byte, 1<<20), at: segmentStart}
	b.ReportAllocs()
	b.ResetTimer()
	for i, rec := range records {
		_, end, err := p.writer.Insert(rec, 1)
		if err != nil {
			b.Fatal(err)
		}
		if i%64 == 63 || i == len(records)-1 {
			r.readTo(end)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkCatchup sends WAL that is there already: 8 MB from the buffer, or from files.
func BenchmarkCatchup(b *testing.B) {
	for _, from := range []string{"buffer", "files"} {
		b.Run(from, func(b *testing.B) {
			p, c := benchPrimary(b, memberParams("n2"))
			if from == "files" {
				p.log.Buffer = nil
			}
			for range 80 {
				p.insert(100_000)
			}
			end := p.flush()
			b.SetBytes(int64(end - segmentStart))
			b.ReportAllocs()
			r := walReader{b: b, conn: c.conn, buf: make([]byte, 1<<20)}
			for b.Loop() {
				r.at = segmentStart
				c.query(startCommand)
				r.readTo(end)
				c.tell(&pgproto3.CopyDone{})
				for r.message() != 'Z' {
				}
			}
		})
	}
}

// A walReader reads messages without allocating.
type walReader struct {
	b    *testing.B
	conn net.Conn
	buf  []byte
	body []byte // of the last message
	at   wal.LSN
}

func (r *walReader) message() byte {
	if _, err := io.ReadFull(r.conn, r.buf[:5]); err != nil {
		r.b.Fatal(err)
	}
	typ := r.buf[0]
	r.body = r.buf[:binary.BigEndian.Uint32(r.buf[1:])-4]
	if _, err := io.ReadFull(r.conn, r.body); err != nil {
		r.b.Fatal(err)
	}
	return typ
}

func (r *walReader) readTo(end wal.LSN) {
	for r.at < end {
		if r.message() == 'd' && r.body[0] == 'W' {
			r.at += wal.LSN(len(r.body) - pgwire.NativeXLogDataHeaderSize)
		}
	}
}
