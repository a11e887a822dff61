package sql

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/longship-db/longship/pgwire"
)

// The binary format of COPY (PostgreSQL 15 manual, "COPY", "Binary Format"). Big endian, it is
//
//	header   "PGCOPY\n\xff\r\n\x00" | flags 4B = 0 | length of an extension 4B = 0
//	row      number of fields 2B, then of each field its length 4B, −1 for NULL, and its bytes in binary form
//	trailer  −1 2B
const (
	copySignature = "PGCOPY\n\xff\r\n\x00"

	copyWithOIDs = 1 << 16 // a flag: each row begins with an OID, before PostgreSQL 12
	copyCritical = ^0xffff // flags that must be understood

	copyTrailer = -1 // instead of a number of fields

	// maxCopyField bounds a field, in bytes: the columns of kv are texts.
	maxCopyField = max(MaxKeyLen, MaxValueLen)
)

// binaryRows are those of a COPY FROM in binary format (CopyReadBinaryHeader and NextCopyFrom of PostgreSQL 15).
type binaryRows struct {
	names  []string // of the columns that are copied
	data   binaryData
	fields []copyField
	bufs   [][]byte // of fields, each kept until the row has been used
	row    int64    // from 1; 0 in the header
	column string   // being read
}

// begin implements copySource. It reads the header.
func (r *binaryRows) begin() error {
	r.fields = make([]copyField, len(r.names))
	r.bufs = make([][]byte, len(r.names))
	signature, err := r.data.take(nil, len(copySignature))
	if err != nil {
		return err
	}
	if string(signature) != copySignature {
		return badCopy("COPY file signature not recognized")
	}
	flags, ok, err := r.data.int32()
	switch {
	case err != nil:
		return err
	case !ok:
		return badCopy("invalid COPY file header (missing flags)")
	case flags&copyWithOIDs != 0:
		return badCopy("invalid COPY file header (WITH OIDS)")
	case flags&copyCritical != 0:
		return badCopy("unrecognized critical flags in COPY file header")
	}
	extension, ok, err := r.data.int32()
	switch {
	case err != nil:
		return err
	case !ok || extension < 0:
		return badCopy("invalid COPY file header (missing length)")
	}
	skipped, err := r.data.skip(int(extension))
	if err == nil && !skipped {
		err = badCopy("invalid COPY file header (wrong length)")
	}
	return err
}

// next implements copySource. The data may end without its trailer.
func (r *binaryRows) next() (fields []copyField, done bool, err error) {
	r.row++
	n, ok, err := r.data.int16()
	switch {
	case err != nil || !ok:
		return nil, err == nil, err
	case n == copyTrailer:
		return nil, true, r.end()
	case int(n) != len(r.names):
		return nil, false, badCopy("row field count is %d, expected %d", n, len(r.names))
	}
	for i, name := range r.names {
		r.column = name
		if err := r.field(i); err != nil {
			return nil, false, err
		}
	}
	r.column = ""
	return r.fields, false, nil
}

// end reads the end of the data, which comes after its trailer.
func (r *binaryRows) end() error {
	more, err := r.data.skip(1)
	if err == nil && more {
		err = badCopy("received copy data after EOF marker")
	}
	return err
}

// field reads field i.
func (r *binaryRows) field(i int) error {
	n, ok, err := r.data.int32()
	switch {
	case err != nil:
		return err
	case !ok:
		return badCopy("unexpected EOF in COPY data")
	case n == -1:
		r.fields[i] = copyField{null: true}
		return nil
	case n < 0:
		return badCopy("invalid field size")
	case n > maxCopyField:
		return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "field of %d bytes of COPY data exceeds the maximum of %d bytes", n, maxCopyField)
	}
	text, err := r.data.take(r.bufs[i][:0], int(n))
	if err != nil {
		return err
	}
	if len(text) < int(n) {
		return badCopy("unexpected EOF in COPY data")
	}
	r.bufs[i], r.fields[i] = text, copyField{text: text}
	return checkText(stringOf(text))
}

// where implements copySource.
func (r *binaryRows) where(bool) string {
	switch {
	case r.row == 0:
		return ""
	case r.column != "":
		return fmt.Sprintf("COPY kv, line %d, column %s", r.row, r.column)
	}
	return fmt.Sprintf("COPY kv, line %d", r.row)
}

// binaryData takes bytes off the front of a COPY's data, however the client has cut it.
type binaryData struct {
	src      pgwire.CopyReader
	rest     []byte // of the last message
	number   [4]byte
	received int64
	counted  func(received int64)
	hold     func(n int) error // for what is taken
}

// more brings another message. ok is false at the end of the data.
func (d *binaryData) more() (ok bool, err error) {
	for len(d.rest) == 0 {
		if d.rest, err = d.src.Next(); err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		d.received += int64(len(d.rest))
		d.counted(d.received)
	}
	return true, nil
}

// take appends the next n bytes to b, or as many as are left. It takes no more memory than has arrived.
func (d *binaryData) take(b []byte, n int) ([]byte, error) {
	for n > 0 {
		if ok, err := d.more(); !ok {
			return b, err
		}
		m := min(n, len(d.rest))
		var err error
		if b, err = grown(b, m, d.hold); err != nil {
			return b, err
		}
		b = append(b, d.rest[:m]...)
		d.rest = d.rest[m:]
		n -= m
	}
	return b, nil
}

// skip passes over n bytes. ok is false if there are not that many.
func (d *binaryData) skip(n int) (ok bool, err error) {
	for n > 0 {
		if ok, err := d.more(); !ok {
			return false, err
		}
		m := min(n, len(d.rest))
		d.rest = d.rest[m:]
		n -= m
	}
	return true, nil
}

// int32 and int16 take a number. ok is false if the data ends before it does.
func (d *binaryData) int32() (n int32, ok bool, err error) {
	b, err := d.take(d.number[:0], 4)
	if len(b) < 4 {
		return 0, false, err
	}
	return int32(binary.BigEndian.Uint32(b)), true, nil
}

func (d *binaryData) int16() (n int16, ok bool, err error) {
	b, err := d.take(d.number[:0], 2)
	if len(b) < 2 {
		return 0, false, err
	}
	return int16(binary.BigEndian.Uint16(b)), true, nil
}

// appendBinaryRow appends a row, of values in binary form.
func appendBinaryRow(b []byte, values [][]byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, value := range values {
		if value == nil {
			b = binary.BigEndian.AppendUint32(b, 1<<32-1)
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
		b = append(b, value...)
	}
	return b
}
