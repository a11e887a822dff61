package pgwire

import (
	"encoding/binary"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	outputBuffer     = 32 << 10 // written to the socket when this much has gathered
	outputBufferKeep = 64 << 10 // a buffer larger than this is given back after it was written
	writeThrough     = 8 << 10  // a piece of CopyData of this size is not copied
)

// errRowTooWide and its like end a connection: half a result cannot be taken back.
var errRowTooWide = errors.New("result row exceeds the protocol's limits")

// An output gathers messages and writes them to the socket. The first error stays: later messages
// go nowhere, and who flushes, or sends a row, learns of it.
type output struct {
	dst net.Conn
	buf []byte
	err error

	parts [2][]byte // scratch of copyData
	vec   net.Buffers
}

// message queues any message.
func (o *output) message(msg pgproto3.BackendMessage) {
	if o.err != nil {
		return
	}
	buf, err := msg.Encode(o.buf)
	o.queued(buf, err)
}

// queued takes the buffer with a message appended, and writes it out when it is full.
func (o *output) queued(buf []byte, err error) {
	if err != nil {
		o.err = err
		return
	}
	o.buf = buf
	if len(buf) >= outputBuffer {
		o.flush()
	}
}

// flush writes what has gathered.
func (o *output) flush() error {
	if o.err != nil || len(o.buf) == 0 {
		return o.err
	}
	_, o.err = o.dst.Write(o.buf)
	o.reset()
	return o.err
}

func (o *output) reset() {
	o.buf = o.buf[:0]
	if cap(o.buf) > outputBufferKeep {
		o.buf = nil
	}
}

// row queues a DataRow.
func (o *output) row(values [][]byte) error {
	if o.err == nil {
		o.queued(appendDataRow(o.buf, values))
	}
	return o.err
}

// appendDataRow appends a DataRow message: int16 count, then int32 length (-1 NULL) and bytes each.
func appendDataRow(buf []byte, values [][]byte) ([]byte, error) {
	row := pgproto3.DataRow{Values: values}
	return row.Encode(buf)
}

// raw queues whole messages; what is large is written from where it is.
func (o *output) raw(messages []byte) {
	if len(messages) < outputBuffer {
		if o.err == nil {
			o.queued(append(o.buf, messages...), nil)
		}
		return
	}
	if o.flush() == nil {
		_, o.err = o.dst.Write(messages)
	}
}

// commandComplete queues a CommandComplete.
func (o *output) commandComplete(tag string) {
	if o.err != nil {
		return
	}
	buf := append(o.buf, 'C')
	buf = binary.BigEndian.AppendUint32(buf, uint32(4+len(tag)+1))
	buf = append(buf, tag...)
	o.queued(append(buf, 0), nil)
}

// rowDescription queues a RowDescription. It is written by hand, not with pgproto3's struct,
// because clients ask for it with each execution.
func (o *output) rowDescription(columns []Column, formats []int16) {
	if o.err != nil {
		return
	}
	buf := append(o.buf, 'T', 0, 0, 0, 0)
	start := len(o.buf) + 1
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(columns)))
	for i, col := range columns {
		buf = append(buf, col.Name...)
		buf = append(buf, 0) // end of name
		buf = binary.BigEndian.AppendUint32(buf, col.Table)
		buf = binary.BigEndian.AppendUint16(buf, uint16(col.Number))
		buf = binary.BigEndian.AppendUint32(buf, col.Type)
		buf = binary.BigEndian.AppendUint16(buf, uint16(col.Size))
		buf = binary.BigEndian.AppendUint32(buf, uint32(col.Mod))
		buf = binary.BigEndian.AppendUint16(buf, uint16(Format(formats, i)))
	}
	binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start))
	o.queued(buf, nil)
}

// copyData sends one CopyData made of parts. A large part goes from the caller's memory to the
// socket, along with everything gathered before it.
func (o *output) copyData(parts [][]byte) error {
	if o.err != nil {
		return o.err
	}
	n := 4
	for _, p := range parts {
		n += len(p)
	}
	if n > hugeMessageLen {
		o.err = errRowTooWide
		return o.err
	}
	o.buf = append(o.buf, 'd')
	o.buf = binary.BigEndian.AppendUint32(o.buf, uint32(n))
	for _, p := range parts {
		if len(p) < writeThrough {
			o.queued(append(o.buf, p...), nil)
			continue
		}
		o.parts = [2][]byte{o.buf, p}
		o.vec = o.parts[:]
		_, o.err = o.vec.WriteTo(o.dst)
		o.reset()
	}
	return o.err
}

// Send queues a message for the next Flush, or before if the buffer is full.
func (c *Conn) Send(msg pgproto3.BackendMessage) { c.out.message(msg) }

// Flush writes what is queued. It blocks while the client does not read; its error ends the
// connection.
func (c *Conn) Flush() error { return c.out.flush() }

// Notice queues a NoticeResponse. Without a severity of its own it is a NOTICE.
func (c *Conn) Notice(e *Error) {
	n := pgproto3.NoticeResponse(e.response())
	if e.Severity == "" {
		n.Severity, n.SeverityUnlocalized = SeverityNotice, SeverityNotice
	}
	c.out.message(&n)
}

// SendRowDescription queues the description of a result in text format.
func (c *Conn) SendRowDescription(columns []Column) { c.out.rowDescription(columns, nil) }

// SendTextRow queues one row; nil = NULL. The values are copied.
func (c *Conn) SendTextRow(values ...[]byte) error { return c.out.row(values) }

// SendCommandComplete queues the end of a command's results.
func (c *Conn) SendCommandComplete(tag string) { c.out.commandComplete(tag) }

// SendCopyData queues one CopyData message whose data is the parts, in order. Parts of 8 KiB and
// more are not copied but written at once, with all that was queued: call Flush for the rest.
func (c *Conn) SendCopyData(parts ...[]byte) error { return c.out.copyData(parts) }

// sendError queues an ErrorResponse.
func (c *Conn) sendError(e *Error) {
	r := e.response()
	c.out.message(&r)
}

// ready reports changed settings, queues ReadyForQuery and flushes.
func (c *Conn) ready(txStatus byte) error {
	c.reportParameters(txStatus)
	if c.out.err == nil {
		c.out.queued(append(c.out.buf, 'Z', 0, 0, 0, 5, txStatus), nil)
	}
	return c.Flush()
}
