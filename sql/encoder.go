package sql

import "github.com/longship-db/longship/pgwire"

// An encoder turns values into the bytes of one row after the other, reusing its memory.
type encoder struct {
	sink    pgwire.RowSink
	session *Session
	formats []int16
	values  [][]byte
	buf     []byte
	spans   []span
}

// A span is where a value lies in buf, or the value itself if it needed no encoding.
type span struct {
	start, end int
	direct     []byte
	null       bool
}

// encoderKeep is the largest buffer that is kept for the next statement, in bytes.
const encoderKeep = 4 << 10

func (c *encoder) forget() {
	c.sink = nil
	c.values, c.spans = emptied(c.values), emptied(c.spans)
	if cap(c.buf) > encoderKeep {
		c.buf = nil
	}
}

func (c *encoder) begin() {
	c.buf, c.spans = c.buf[:0], c.spans[:0]
}

// add encodes the next value of the row.
func (c *encoder) add(v Value) {
	if v.IsNull() {
		c.spans = append(c.spans, span{null: true})
		return
	}
	switch v.typ {
	case Text, Name, Varchar, Char:
		c.spans = append(c.spans, span{direct: bytesOf(v.s)})
		return
	}
	start := len(c.buf)
	if pgwire.Format(c.formats, len(c.spans)) == binaryFormat {
		c.buf = appendBinary(c.buf, v, &c.session.pace)
	} else {
		c.buf = appendText(c.buf, v, c.session.settings.location())
	}
	c.spans = append(c.spans, span{start: start, end: len(c.buf)})
}

// sendRow encodes a row and hands it to the client.
func (c *encoder) sendRow(row []Value) error {
	c.begin()
	for _, v := range row {
		c.add(v)
	}
	return c.send()
}

// send hands the row to the client.
func (c *encoder) send() error {
	c.values = c.values[:0]
	size := len(c.buf)
	for _, s := range c.spans {
		switch {
		case s.null:
			c.values = append(c.values, nil)
		case s.direct != nil:
			c.values = append(c.values, s.direct)
			size += len(s.direct)
		default:
			c.values = append(c.values, c.buf[s.start:s.end:s.end])
		}
	}
	if err := c.session.pace.step(rowCost + size/copyPerStep); err != nil { // or a value may not be whole
		return err
	}
	if size < largeRow {
		return c.sink.Row(c.values)
	}
	// The row is there twice until the client has taken it.
	if err := c.session.hold(2 * size); err != nil {
		return err
	}
	err := c.sink.Row(c.values)
	_ = c.session.hold(-2 * size) // less, which cannot fail
	return err
}

// rowCost is how many steps a row counts that is sent.
const rowCost = 64

// Format codes of the protocol.
const (
	textFormat   = 0
	binaryFormat = 1
)
