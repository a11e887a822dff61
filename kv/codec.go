package kv

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/longship-db/longship/wal"
)

// Limits, in bytes (DESIGN, section 9). The writer keeps to them and the decoder insists on them.
const (
	MaxKeySize    = 2 << 10
	MaxValueSize  = 16 << 20
	MaxCommitSize = 64 << 20 // of the encoded commit, header included
)

// InfoCommit is the info byte of a commit's record under wal.RmgrLongship. The low four bits of an
// info byte belong to PostgreSQL's record layer.
const InfoCommit uint8 = 0x10

const (
	commitVersion    = 1
	commitHeaderSize = 32
	opHeaderSize     = 3 // kind and key length
	valueHeaderSize  = 4 // value length
)

// A Kind says what an operation does to its key. The values are part of the format.
type Kind uint8

// The kinds of operations.
const (
	Put     Kind = 1 // the key has this value
	PutNull Kind = 2 // the key is there, its value is SQL's NULL
	Delete  Kind = 3 // the key is gone; it need not have been there
)

func (k Kind) String() string {
	switch k {
	case Put:
		return "put"
	case PutNull:
		return "put null"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// An Op is one operation on one key. Only a Put has a value, and its Value is not nil.
type Op struct {
	Kind  Kind
	Key   string
	Value []byte
}

// A Commit is one transaction as it stands in the log: the payload of one record. In bytes, little
// endian, it is a header
//
//	| offset | size | field                                                             |
//	|--------|------|-------------------------------------------------------------------|
//	|      0 |    1 | version, 1                                                        |
//	|      1 |    3 | reserved, 0                                                       |
//	|      4 |    4 | number of operations                                              |
//	|      8 |    8 | commit time, signed, microseconds since 2000-01-01 00:00:00 UTC   |
//	|     16 |    8 | horizon: highest LSN the writer knew to be durable under the rule |
//	|     24 |    8 | flushed: highest LSN the writer knew to be flushed locally        |
//
// and then the operations, one after the other, without padding:
//
//	| size | field                                            |
//	|------|--------------------------------------------------|
//	|    1 | kind: 1 put, 2 put null, 3 delete                |
//	|    2 | key length, 1 to 2048                            |
//	|    n | key                                              |
//	|    4 | value length, 0 to 16777216; only if kind is put |
//	|    m | value; only if kind is put                       |
//
// Nothing follows the last operation. The operations take effect in order; a commit without any is
// valid and changes nothing. The record around it carries length, xid and checksum.
type Commit struct {
	Time wal.Timestamp // when the transaction committed, by the writer's clock

	// What the writer knew when it built the record. Recovery may apply up to the largest Horizon
	// it reads; and a valid record whose Flushed lies past a bad one proves that the bad one is
	// corruption and not a torn tail.
	Horizon wal.LSN
	Flushed wal.LSN

	Ops []Op
}

// Size is the number of bytes AppendCommit appends.
func (c *Commit) Size() int {
	n := commitHeaderSize
	for i := range c.Ops {
		n += c.Ops[i].size()
	}
	return n
}

func (o *Op) size() int {
	n := opHeaderSize + len(o.Key)
	if o.Kind == Put {
		n += valueHeaderSize + len(o.Value)
	}
	return n
}

// check reports the limit that the operation breaks.
func (o *Op) check() error {
	if n := len(o.Key); n == 0 || n > MaxKeySize {
		return &LimitError{What: "key", Size: n, Max: MaxKeySize}
	}
	if n := len(o.Value); n > MaxValueSize {
		return &LimitError{What: "value", Size: n, Max: MaxValueSize}
	}
	return nil
}

// AppendCommit appends the bytes of c to dst. Keys, values and the whole must be within the limits,
// as a Txn makes sure: what is not, DecodeCommit refuses.
func AppendCommit(dst []byte, c *Commit) []byte {
	dst = append(dst, commitVersion, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(c.Ops)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Time))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Horizon))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Flushed))
	for i := range c.Ops {
		o := &c.Ops[i]
		dst = append(dst, byte(o.Kind))
		dst = binary.LittleEndian.AppendUint16(dst, uint16(len(o.Key)))
		dst = append(dst, o.Key...)
		if o.Kind == Put {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(len(o.Value)))
			dst = append(dst, o.Value...)
		}
	}
	return dst
}

// DecodeCommit reads what AppendCommit wrote. Keys and values alias b: they are valid, and the keys
// constant, only as long as b is. The error is a *FormatError.
func DecodeCommit(b []byte) (Commit, error) {
	var c Commit
	err := c.Decode(b)
	return c, err
}

// Decode is DecodeCommit into c. It reuses c.Ops, so that reading one commit after another
// allocates nothing. After an error the contents of c are undefined.
func (c *Commit) Decode(b []byte) error {
	if len(b) > MaxCommitSize {
		return &FormatError{0, fmt.Sprintf("%d bytes exceed the limit of %d", len(b), MaxCommitSize)}
	}
	if len(b) < commitHeaderSize {
		return &FormatError{0, fmt.Sprintf("%d bytes are shorter than the header", len(b))}
	}
	if b[0] != commitVersion {
		return &FormatError{0, fmt.Sprintf("version %d, want %d", b[0], commitVersion)}
	}
	if b[1]|b[2]|b[3] != 0 {
		return &FormatError{1, "reserved bytes are not zero"}
	}
	count := int64(binary.LittleEndian.Uint32(b[4:]))
	if limit := int64(len(b)-commitHeaderSize) / (opHeaderSize + 1); count > limit {
		return &FormatError{4, fmt.Sprintf("%d operations cannot fit in %d bytes", count, len(b))}
	}
	c.Time = wal.Timestamp(binary.LittleEndian.Uint64(b[8:]))
	c.Horizon = wal.LSN(binary.LittleEndian.Uint64(b[16:]))
	c.Flushed = wal.LSN(binary.LittleEndian.Uint64(b[24:]))

	if int64(cap(c.Ops)) < count {
		c.Ops = make([]Op, 0, count)
	}
	c.Ops = c.Ops[:0]
	at := commitHeaderSize
	for range count {
		op, next, err := decodeOp(b, at)
		if err != nil {
			return err
		}
		c.Ops = append(c.Ops, op)
		at = next
	}
	if at != len(b) {
		return &FormatError{at, "bytes after the last operation"}
	}
	return nil
}

// decodeOp reads the operation at offset at of b and returns the offset of the next one.
func decodeOp(b []byte, at int) (op Op, next int, err error) {
	if len(b)-at < opHeaderSize {
		return Op{}, 0, &FormatError{at, "operation is cut off"}
	}
	op.Kind = Kind(b[at])
	if op.Kind < Put || op.Kind > Delete {
		return Op{}, 0, &FormatError{at, fmt.Sprintf("unknown %s", op.Kind)}
	}
	n := int(binary.LittleEndian.Uint16(b[at+1:]))
	if n == 0 || n > MaxKeySize {
		return Op{}, 0, &FormatError{at + 1, fmt.Sprintf("key length %d, want 1 to %d", n, MaxKeySize)}
	}
	at += opHeaderSize
	if len(b)-at < n {
		return Op{}, 0, &FormatError{at, "key is cut off"}
	}
	op.Key = unsafe.String(&b[at], n) // aliases b, see DecodeCommit
	at += n
	if op.Kind != Put {
		return op, at, nil
	}

	if len(b)-at < valueHeaderSize {
		return Op{}, 0, &FormatError{at, "value length is cut off"}
	}
	m := binary.LittleEndian.Uint32(b[at:])
	if m > MaxValueSize {
		return Op{}, 0, &FormatError{at, fmt.Sprintf("value length %d exceeds %d", m, MaxValueSize)}
	}
	at += valueHeaderSize
	if uint64(len(b)-at) < uint64(m) {
		return Op{}, 0, &FormatError{at, "value is cut off"}
	}
	end := at + int(m)
	op.Value = b[at:end:end]
	return op, end, nil
}
