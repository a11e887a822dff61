package pgwire

import (
	"encoding/binary"
	"time"

	"github.com/longship-db/longship/wal"
)

// The messages inside the CopyData of a replication stream (PostgreSQL 15 manual, "Streaming
// Replication Protocol"), each in two forms. Plain is PostgreSQL's. Native is spoken with a member
// that asked for it with the start-up parameter _pq_.longship: same fields first, then those that
// tie the message to a stream. Integers are big endian, times microseconds since 2000-01-01 UTC.
//
//	plain  native  direction   layout
//	'w'    'W'     server      start 8, end 8, time 8, [horizon 8, epoch 8, session 8, lease 8,] WAL
//	'k'    'K'     server      end 8, time 8, reply requested 1 [, horizon 8, epoch 8, session 8, lease 8]
//	'r'    'R'     client      write 8, flush 8, apply 8, time 8, reply requested 1 [, epoch 8, session 8, lease 8]
//	'h'            client      time 8, xmin 4, epoch 4, catalog xmin 4, epoch 4
//
// The server's lease field is a [LeaseRequest], the client's the one it promises.
const (
	plainXLogData, nativeXLogData         byte = 'w', 'W'
	plainKeepalive, nativeKeepalive       byte = 'k', 'K'
	plainStatusUpdate, nativeStatusUpdate byte = 'r', 'R'
	hotStandbyFeedback                    byte = 'h'
)

// Sizes of the messages, the type byte included.
const (
	XLogDataHeaderSize       = 25 // without the WAL
	NativeXLogDataHeaderSize = 57
	keepaliveSize            = 18
	nativeKeepaliveSize      = 50
	statusUpdateSize         = 34
	nativeStatusUpdateSize   = 58
	feedbackSize             = 25
)

// LeaseTerm is how long a member's promise lasts, on monotonic clocks: on the member's from the receipt
// of the request that it answers, on the primary's from the sending of that request (invariant I11). So
// the primary's end of it comes first, however long the messages take.
const LeaseTerm = 400 * time.Millisecond

// LeaseHeld is for how much of that a primary goes by a promise: the clocks of two machines may differ by one part in a
// hundred in how fast they run. They do by one in some thousand at most while one of them is being set right.
const LeaseHeld = LeaseTerm - LeaseTerm/100

// A LeaseRequest asks a member for a promise: that no node takes office in a later epoch, by a decision
// the member has a part in, before [LeaseTerm] has passed. Its value is the sender's monotonic time of
// sending in nanoseconds, from a zero that only the sender knows. The member answers with the value.
// 0 asks for nothing, and promises nothing.
type LeaseRequest int64

// A StreamID says which stream a native message belongs to. An acknowledgement counts on its own
// stream and no other.
type StreamID struct {
	Epoch   uint64 // of the primary's reign
	Session uint64 // random, drawn by the sender when the stream begins
}

// XLogData carries WAL from the server.
type XLogData struct {
	Start wal.LSN       // of the first byte of Data
	End   wal.LSN       // of the WAL on the server
	Time  wal.Timestamp // of sending

	Native  bool
	Horizon wal.LSN // native only, as the rest
	Stream  StreamID
	Lease   LeaseRequest

	Data []byte // shared with the message it was decoded from
}

// AppendHeader appends the message up to, and not including, Data, which a sender reads into its
// place behind it.
func (m *XLogData) AppendHeader(dst []byte) []byte {
	dst = append(dst, choose(m.Native, nativeXLogData, plainXLogData))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Start))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.End))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Time))
	if m.Native {
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.Horizon))
		dst = m.Stream.append(dst)
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.Lease))
	}
	return dst
}

// Append appends the whole message.
func (m *XLogData) Append(dst []byte) []byte { return append(m.AppendHeader(dst), m.Data...) }

// A Keepalive tells the client how far the server is, when there is no WAL to send.
type Keepalive struct {
	End            wal.LSN // how far the server has sent
	Time           wal.Timestamp
	ReplyRequested bool // the client answers at once, or is taken for dead

	Native  bool
	Horizon wal.LSN // native only, as the rest
	Stream  StreamID
	Lease   LeaseRequest
}

// Append appends the message.
func (m *Keepalive) Append(dst []byte) []byte {
	dst = append(dst, choose(m.Native, nativeKeepalive, plainKeepalive))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.End))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Time))
	dst = append(dst, choose[byte](m.ReplyRequested, 1, 0))
	if m.Native {
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.Horizon))
		dst = m.Stream.append(dst)
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.Lease))
	}
	return dst
}

// A StatusUpdate is the client's report. Positions are those of the next byte, 0 where the client
// does not say.
type StatusUpdate struct {
	Write, Flush, Apply wal.LSN
	Time                wal.Timestamp
	ReplyRequested      bool // the server sends a keepalive at once

	Native bool
	Stream StreamID     // native only, as the rest
	Lease  LeaseRequest // the one that is promised
}

// Append appends the message.
func (m *StatusUpdate) Append(dst []byte) []byte {
	dst = append(dst, choose(m.Native, nativeStatusUpdate, plainStatusUpdate))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Write))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Flush))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Apply))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Time))
	dst = append(dst, choose[byte](m.ReplyRequested, 1, 0))
	if m.Native {
		dst = m.Stream.append(dst)
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.Lease))
	}
	return dst
}

// HotStandbyFeedback is a PostgreSQL standby's plea to keep old row versions. It means nothing to
// us, but it is part of the conversation.
type HotStandbyFeedback struct {
	Time                          wal.Timestamp
	XMin, XMinEpoch               uint32
	CatalogXMin, CatalogXMinEpoch uint32
}

// Append appends the message.
func (m *HotStandbyFeedback) Append(dst []byte) []byte {
	dst = append(dst, hotStandbyFeedback)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Time))
	for _, v := range [...]uint32{m.XMin, m.XMinEpoch, m.CatalogXMin, m.CatalogXMinEpoch} {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	return dst
}

func (s StreamID) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, s.Epoch)
	return binary.BigEndian.AppendUint64(dst, s.Session)
}

// A ServerMessage is one of the server's messages in a stream. Kind says which field counts. It is
// decoded into place, so that receiving allocates nothing.
type ServerMessage struct {
	Kind      StreamMessage
	XLogData  XLogData
	Keepalive Keepalive
}

// A ClientMessage is one of the client's messages in a stream.
type ClientMessage struct {
	Kind     StreamMessage
	Status   StatusUpdate
	Feedback HotStandbyFeedback
}

// A StreamMessage tells the messages of a replication stream apart.
type StreamMessage uint8

// The kinds of messages.
const (
	StreamXLogData StreamMessage = iota + 1
	StreamKeepalive
	StreamStatus
	StreamFeedback
)

// Decode reads the payload of a CopyData message from the server. The WAL in m is shared with b.
// The error is an *Error with 08P01.
func (m *ServerMessage) Decode(b []byte) error {
	r := streamReader{b: b}
	switch typ := r.byte(); typ {
	case plainXLogData, nativeXLogData:
		m.Kind = StreamXLogData
		return r.xlogData(&m.XLogData, typ == nativeXLogData)
	case plainKeepalive, nativeKeepalive:
		m.Kind = StreamKeepalive
		return r.keepalive(&m.Keepalive, typ == nativeKeepalive)
	default:
		return r.unexpected(typ)
	}
}

// Decode reads the payload of a CopyData message from the client. The error is an *Error with 08P01.
func (m *ClientMessage) Decode(b []byte) error {
	r := streamReader{b: b}
	switch typ := r.byte(); typ {
	case plainStatusUpdate, nativeStatusUpdate:
		m.Kind = StreamStatus
		return r.statusUpdate(&m.Status, typ == nativeStatusUpdate)
	case hotStandbyFeedback:
		m.Kind = StreamFeedback
		return r.feedback(&m.Feedback)
	default:
		return r.unexpected(typ)
	}
}

// A streamReader takes the fields of a message off its front. The size of the message is checked
// before any field is taken.
type streamReader struct{ b []byte }

func (r *streamReader) xlogData(m *XLogData, native bool) error {
	if err := r.atLeast(choose(native, NativeXLogDataHeaderSize, XLogDataHeaderSize), "XLogData"); err != nil {
		return err
	}
	*m = XLogData{Start: r.lsn(), End: r.lsn(), Time: r.time(), Native: native}
	if native {
		m.Horizon, m.Stream, m.Lease = r.lsn(), r.streamID(), r.lease()
	}
	m.Data = r.b
	return nil
}

func (r *streamReader) keepalive(m *Keepalive, native bool) error {
	if err := r.exactly(choose(native, nativeKeepaliveSize, keepaliveSize), "keepalive"); err != nil {
		return err
	}
	*m = Keepalive{End: r.lsn(), Time: r.time(), ReplyRequested: r.byte() != 0, Native: native}
	if native {
		m.Horizon, m.Stream, m.Lease = r.lsn(), r.streamID(), r.lease()
	}
	return nil
}

func (r *streamReader) statusUpdate(m *StatusUpdate, native bool) error {
	if err := r.exactly(choose(native, nativeStatusUpdateSize, statusUpdateSize), "status update"); err != nil {
		return err
	}
	*m = StatusUpdate{
		Write: r.lsn(), Flush: r.lsn(), Apply: r.lsn(),
		Time: r.time(), ReplyRequested: r.byte() != 0, Native: native,
	}
	if native {
		m.Stream, m.Lease = r.streamID(), r.lease()
	}
	return nil
}

func (r *streamReader) feedback(m *HotStandbyFeedback) error {
	if err := r.exactly(feedbackSize, "hot standby feedback"); err != nil {
		return err
	}
	*m = HotStandbyFeedback{
		Time: r.time(),
		XMin: r.uint32(), XMinEpoch: r.uint32(),
		CatalogXMin: r.uint32(), CatalogXMinEpoch: r.uint32(),
	}
	return nil
}

// atLeast and exactly check the size of a message whose type byte has been taken.
func (r *streamReader) atLeast(size int, what string) error {
	if len(r.b)+1 < size {
		return protocolViolation("%s message of %d bytes, want at least %d", what, len(r.b)+1, size)
	}
	return nil
}

func (r *streamReader) exactly(size int, what string) error {
	if len(r.b)+1 != size {
		return protocolViolation("%s message of %d bytes, want %d", what, len(r.b)+1, size)
	}
	return nil
}

func (r *streamReader) unexpected(typ byte) error {
	if typ == 0 {
		return protocolViolation("empty message in a replication stream")
	}
	return protocolViolation("unexpected message type %q in a replication stream", typ)
}

// byte takes one byte; 0 if there is none.
func (r *streamReader) byte() byte {
	if len(r.b) == 0 {
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *streamReader) uint32() uint32 {
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

func (r *streamReader) uint64() uint64 {
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *streamReader) lsn() wal.LSN        { return wal.LSN(r.uint64()) }
func (r *streamReader) time() wal.Timestamp { return wal.Timestamp(r.uint64()) }
func (r *streamReader) lease() LeaseRequest { return LeaseRequest(r.uint64()) }
func (r *streamReader) streamID() StreamID {
	return StreamID{Epoch: r.uint64(), Session: r.uint64()}
}

func choose[T byte | int](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}
