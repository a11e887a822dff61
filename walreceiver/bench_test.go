package walreceiver

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// benchLog is a log of a few segments with records of 150 bytes.
func benchLog(b *testing.B) *testLog {
	sizes := make([]int, 20000)
	for i := range sizes {
		sizes[i] = 110
	}
	return makeLog(b, sizes...)
}

// Verification alone, in messages of one record and of 16 pages.
func BenchmarkVerify(b *testing.B) {
	log := benchLog(b)
	b.Run("records", func(b *testing.B) { benchVerify(b, log, log.ends) })
	b.Run("chunks", func(b *testing.B) {
		var ends []wal.LSN
		for at := logStart + 16*wal.PageSize; at < log.end(); at += 16 * wal.PageSize {
			ends = append(ends, at)
		}
		benchVerify(b, log, ends)
	})
}

func benchVerify(b *testing.B, log *testLog, ends []wal.LSN) {
	b.ReportAllocs()
	v, at := newVerifier(testFormat, timeline1, mark{End: emptyEnd}), logStart
	n := 0
	for i := 0; b.Loop(); i++ {
		if i%len(ends) == 0 {
			v, at = newVerifier(testFormat, timeline1, mark{End: emptyEnd}), logStart
		}
		end := ends[i%len(ends)]
		if _, err := v.add(log.bytes[at-logStart : end-logStart]); err != nil {
			b.Fatal(err)
		}
		n += int(end - at)
		at = end
	}
	b.SetBytes(int64(n / b.N))
}

// The receiving stage over loopback, one record a message: from the socket to the file.
func BenchmarkReceive(b *testing.B) {
	log := benchLog(b)
	b.ReportAllocs()
	ours, theirs := loopback(b)
	dir := newDir(b, vfs.NewMem())
	s := New(testConfig(b), Log{Dir: dir, End: emptyEnd, History: timeline1, Applied: new(wal.Position), Horizon: new(wal.Position), Wanted: new(wal.Position)})
	c := &conn{net: ours, fe: pgproto3.NewFrontend(ours, ours), timeout: always(time.Minute)}
	messages := encodeMessages(log)
	go func() {
		for {
			if _, err := theirs.Write(messages); err != nil {
				return
			}
		}
	}()
	var r *session
	restart := func() {
		s.at, s.epoch = mark{End: emptyEnd}, 1
		s.raw = wal.NewRawWriter(dir, wal.History{Timeline: 1}, logStart, wal.SyncFdatasync)
		r = &session{s: s, c: c, limit: ^wal.LSN(0), ver: newVerifier(testFormat, timeline1, s.at), begun: make(chan struct{}), wake: make(chan struct{}, 1), replying: make(chan struct{}, 1)}
		r.replying <- struct{}{} // the report is the replier's
	}
	for i := 0; b.Loop(); i++ {
		if i%len(log.ends) == 0 {
			restart()
		}
		msg, err := c.receive()
		if err != nil {
			b.Fatal(err)
		}
		if err := r.message(msg.(*pgproto3.CopyData).Data); err != nil {
			b.Fatal(err)
		}
	}
}

// encodeMessages is the whole log as CopyData messages of one record each.
func encodeMessages(log *testLog) []byte {
	var out []byte
	at := logStart
	for _, end := range log.ends {
		m := pgwire.XLogData{Start: at, End: end, Native: true, Stream: pgwire.StreamID{Epoch: 1, Session: 42}, Data: log.slice(at, end)}
		out, _ = (&pgproto3.CopyData{Data: m.Append(nil)}).Encode(out)
		at = end
	}
	return out
}

// loopback is a pair of connected sockets.
func loopback(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []io.Closer{a, b} {
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}

// Nothing is allocated for a message.
func TestReceiveAllocations(t *testing.T) {
	log := makeLog(t, make([]int, 3000)...)
	s := New(testConfig(t), Log{Dir: newDir(t, vfs.NewMem()), End: emptyEnd, History: timeline1, Applied: new(wal.Position), Horizon: new(wal.Position), Wanted: new(wal.Position)})
	s.epoch, s.cfg.Leases = 1, NewLeases()
	r := &session{s: s, c: &conn{fe: pgproto3.NewFrontend(nil, nil)}, limit: ^wal.LSN(0), ver: newVerifier(testFormat, timeline1, s.at), begun: make(chan struct{}), wake: make(chan struct{}, 1), replying: make(chan struct{}, 1)}
	r.replying <- struct{}{} // the report is the replier's
	id := pgwire.StreamID{Epoch: 1, Session: 42}
	keepalive := (&pgwire.Keepalive{Native: true, Stream: id, Lease: 1}).Append(nil)
	buf := make([]byte, 0, 1<<16)
	i, at := 0, logStart
	allocs := testing.AllocsPerRun(1000, func() {
		x := pgwire.XLogData{Start: at, End: log.ends[i], Native: true, Stream: id, Data: log.bytes[at-logStart : log.ends[i]-logStart]}
		if err := errors.Join(r.message(keepalive), r.message(x.Append(buf))); err != nil {
			t.Fatal(err)
		}
		at = log.ends[i]
		i++
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a keepalive and a record", allocs)
	}
}
