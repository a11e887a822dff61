package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A RmgrID names the resource manager that a record belongs to.
type RmgrID uint8

// The resource managers we write. PostgreSQL reserves 128 to 255 for extensions; its own tools show
// ours as custom176 and carry it without looking inside.
const (
	RmgrXLOG     RmgrID = 0
	RmgrXact     RmgrID = 1
	RmgrLongship RmgrID = 176

	maxBuiltinRmgr RmgrID = 21
	minCustomRmgr  RmgrID = 128
)

// Limits of a record, header included. PostgreSQL 16 caps writers at MaxRecordSize and no reader of
// any version takes much more.
const (
	recordHeaderSize = 24
	MaxRecordSize    = 1020 << 20
)

// Fragment headers inside a record.
const (
	fragMaxBlock     = 32
	fragTopLevelXID  = 252
	fragOrigin       = 253
	fragDataLong     = 254
	fragDataShort    = 255
	blockHasImage    = 0x10
	blockHasData     = 0x20
	blockSameRel     = 0x80
	imageHasHole     = 0x01
	imageCompressed  = 0x1C
	relLocatorSize   = 12
	blockNumberSize  = 4
	specialInfoFlags = 0x03 // the low bits of xl_info that have a meaning
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Record is one entry of the log. On disk, little endian, it is
//
//	| tot_len 4B | xid 4B | prev 8B | info 1B | rmid 1B | zero 2B | crc 4B | fragment headers | data |
//
// The CRC-32C covers what follows the header first and then the header up to the CRC, so most of it
// can be computed before the place of the record is known. See PostgreSQL's access/xlogrecord.h.
type Record struct {
	LSN  LSN // of the first header byte
	End  LSN // of the next byte that can hold a record, page headers not skipped
	Prev LSN // of the first header byte of the record before; 0 for a cluster's first

	TotLen uint32 // header and fragment headers included
	XID    uint32 // 0 if none
	Info   uint8
	Rmgr   RmgrID
	Data   []byte // main data, valid until the next call of whoever handed out the record
}

// A Prepared is a record that lacks only its place in the log: xid, previous record, and the part
// of the CRC that covers the header.
type Prepared struct {
	bytes []byte    // header space included
	crc   uint32    // of bytes[recordHeaderSize:]
	small [216]byte // room for bytes of a small record, so that one allocation does; 256 bytes in all
}

// Prepare encodes a record whose main data is the concatenation of the parts, and computes the
// payload's CRC, so that nothing but 20 bytes remain to be hashed under the insert lock.
func Prepare(rmgr RmgrID, info uint8, data ...[]byte) *Prepared {
	n := 0
	for _, d := range data {
		n += len(d)
	}
	p := new(Prepared)
	b := p.small[:recordHeaderSize]
	if size := recordHeaderSize + 5 + n; size > len(p.small) {
		b = make([]byte, recordHeaderSize, size)
	}
	switch {
	case n > 255:
		b = append(b, fragDataLong)
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	case n > 0:
		b = append(b, fragDataShort, byte(n))
	}
	for _, d := range data {
		b = append(b, d...)
	}
	b[16], b[17] = info, byte(rmgr)
	p.bytes, p.crc = b, crc32.Update(0, castagnoli, b[recordHeaderSize:])
	return p
}

// Size is the length of the record in bytes (xl_tot_len).
func (p *Prepared) Size() int { return len(p.bytes) }

// finish completes the header for a record whose predecessor starts at prev.
func (p *Prepared) finish(xid uint32, prev LSN) []byte {
	b := p.bytes
	binary.LittleEndian.PutUint32(b[0:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], xid)
	binary.LittleEndian.PutUint64(b[8:], uint64(prev))
	binary.LittleEndian.PutUint32(b[20:], crc32.Update(p.crc, castagnoli, b[:20]))
	return b
}

// checkRecordHeader looks at what a 24-byte header says of itself, before anything in it is trusted.
func checkRecordHeader(h []byte, at LSN) error {
	if n := binary.LittleEndian.Uint32(h); n < recordHeaderSize || n > MaxRecordSize {
		return fmt.Errorf("invalid record length at %s: wanted %d, got %d", at, recordHeaderSize, n)
	}
	if id := RmgrID(h[17]); id > maxBuiltinRmgr && id < minCustomRmgr {
		return fmt.Errorf("invalid resource manager ID %d at %s", id, at)
	}
	return nil
}

// parseRecord checks the CRC of a whole record that starts at at and finds its main data.
func parseRecord(b []byte, at LSN) (Record, error) {
	crc := crc32.Update(crc32.Update(0, castagnoli, b[recordHeaderSize:]), castagnoli, b[:20])
	if crc != binary.LittleEndian.Uint32(b[20:]) {
		return Record{}, fmt.Errorf("incorrect resource manager data checksum in record at %s", at)
	}
	data, err := mainData(b[recordHeaderSize:])
	if err != nil {
		return Record{}, fmt.Errorf("%w at %s", err, at)
	}
	return Record{
		LSN:    at,
		Prev:   LSN(binary.LittleEndian.Uint64(b[8:])),
		TotLen: uint32(len(b)),
		XID:    binary.LittleEndian.Uint32(b[4:]),
		Info:   b[16],
		Rmgr:   RmgrID(b[17]),
		Data:   data,
	}, nil
}

var errRecordLength = errors.New("record with invalid length")

// mainData walks the fragment headers of a record body and returns its main data. Announced lengths
// must add up to the body exactly.
func mainData(b []byte) ([]byte, error) {
	rest, announced, main := b, 0, 0
	for len(rest) > announced {
		n, data, isMain, err := fragment(rest)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
		announced += data
		if isMain {
			main = data
			break // the main data's header is the last one
		}
	}
	if len(rest) != announced {
		return nil, errRecordLength
	}
	return rest[len(rest)-main:], nil
}

// fragment reads one fragment header: its size and the length of the data it announces.
func fragment(b []byte) (size, data int, isMain bool, err error) {
	switch id := b[0]; {
	case id == fragDataShort:
		if len(b) < 2 {
			return 0, 0, false, errRecordLength
		}
		return 2, int(b[1]), true, nil
	case id == fragDataLong:
		if len(b) < 5 {
			return 0, 0, false, errRecordLength
		}
		return 5, int(binary.LittleEndian.Uint32(b[1:])), true, nil
	case id == fragOrigin:
		size = 3
	case id == fragTopLevelXID:
		size = 5
	case id <= fragMaxBlock:
		size, data, err = blockReference(b)
	default:
		err = fmt.Errorf("invalid block_id %d", id)
	}
	if err == nil && len(b) < size {
		err = errRecordLength
	}
	return size, data, false, err
}

// blockReference measures a block reference. Ours have none; a followed PostgreSQL's do.
func blockReference(b []byte) (size, data int, err error) {
	if len(b) < 4 {
		return 0, 0, errRecordLength
	}
	flags := b[1]
	data = int(binary.LittleEndian.Uint16(b[2:]))
	size = 4
	if (flags&blockHasData != 0) != (data != 0) {
		return 0, 0, fmt.Errorf("BKPBLOCK_HAS_DATA does not match data length %d", data)
	}
	if flags&blockHasImage != 0 {
		if len(b) < size+5 {
			return 0, 0, errRecordLength
		}
		data += int(binary.LittleEndian.Uint16(b[size:]))
		info := b[size+4]
		size += 5
		if info&imageHasHole != 0 && info&imageCompressed != 0 {
			size += 2
		}
	}
	if flags&blockSameRel == 0 {
		size += relLocatorSize
	}
	return size + blockNumberSize, data, nil
}
