package wal

import (
	"encoding/binary"
	"fmt"
)

// PageSize is the size of a log page (XLOG_BLCKSZ). Every page begins with a header; the first page
// of a segment has the long form.
const (
	PageSize            = 8192
	shortPageHeaderSize = 24
	longPageHeaderSize  = 40
)

// Flags of a page header (xlp_info).
const (
	pageFirstIsContrecord          = 0x0001 // the page begins with the rest of an earlier record
	pageLongHeader                 = 0x0002
	pageBackupRemovable            = 0x0004 // advisory: readers ignore it
	pageFirstIsOverwriteContrecord = 0x0008 // the record that should go on here was abandoned
	pageAllFlags                   = 0x000F
)

// A PageHeader is the header of a log page. On disk, little endian:
//
//	| magic 2B | info 2B | tli 4B | pageaddr 8B | rem_len 4B | zero 4B |
//
// and, on the first page of a segment,
//
//	| sysid 8B | segment size 4B | page size 4B |
type PageHeader struct {
	Info     uint16
	Timeline TimelineID // being written when the page was begun
	Addr     LSN        // of the page's first byte
	RemLen   uint32     // bytes of the continued record from here on, headers not counted

	// In the long form only.
	SystemID    uint64
	SegmentSize SegmentSize
}

// pageHeaderSize is the size of the header of the page that starts at page.
func pageHeaderSize(page LSN, size SegmentSize) int {
	if size.Offset(page) == 0 {
		return longPageHeaderSize
	}
	return shortPageHeaderSize
}

// RecordStart is where the next record starts when the log ends at l: behind the page header, if l is
// the first byte of a page.
func (f Format) RecordStart(l LSN) LSN {
	if l%PageSize == 0 {
		l += LSN(pageHeaderSize(l, f.SegmentSize))
	}
	return l
}

// put writes the header to the start of b, whose first bytes are overwritten whole.
func (h *PageHeader) put(b []byte, v Version) {
	binary.LittleEndian.PutUint16(b[0:], v.PageMagic)
	binary.LittleEndian.PutUint16(b[2:], h.Info)
	binary.LittleEndian.PutUint32(b[4:], uint32(h.Timeline))
	binary.LittleEndian.PutUint64(b[8:], uint64(h.Addr))
	binary.LittleEndian.PutUint32(b[16:], h.RemLen)
	binary.LittleEndian.PutUint32(b[20:], 0)
	if h.Info&pageLongHeader != 0 {
		binary.LittleEndian.PutUint64(b[24:], h.SystemID)
		binary.LittleEndian.PutUint32(b[32:], uint32(h.SegmentSize))
		binary.LittleEndian.PutUint32(b[36:], PageSize)
	}
}

// parsePageHeader reads the header of the page at addr and checks all that can be checked without
// its neighbours. b holds at least pageHeaderSize(addr) bytes. A zero sysid is not compared.
func parsePageHeader(b []byte, addr LSN, size SegmentSize, sysid uint64, v Version) (PageHeader, error) {
	h := PageHeader{
		Info:     binary.LittleEndian.Uint16(b[2:]),
		Timeline: TimelineID(binary.LittleEndian.Uint32(b[4:])),
		Addr:     LSN(binary.LittleEndian.Uint64(b[8:])),
		RemLen:   binary.LittleEndian.Uint32(b[16:]),
	}
	if magic := binary.LittleEndian.Uint16(b); magic != v.PageMagic {
		return h, fmt.Errorf("invalid magic number %04X", magic)
	}
	if h.Info&^pageAllFlags != 0 {
		return h, fmt.Errorf("invalid info bits %04X", h.Info)
	}
	long := h.Info&pageLongHeader != 0
	if long != (size.Offset(addr) == 0) {
		return h, fmt.Errorf("invalid info bits %04X: the long header belongs on a segment's first page only", h.Info)
	}
	if long {
		if err := h.parseLong(b, size, sysid); err != nil {
			return h, err
		}
	}
	if h.Addr != addr {
		return h, fmt.Errorf("unexpected pageaddr %s", h.Addr)
	}
	if h.Info&pageFirstIsContrecord != 0 && h.RemLen == 0 {
		return h, fmt.Errorf("invalid contrecord length 0")
	}
	return h, nil
}

func (h *PageHeader) parseLong(b []byte, size SegmentSize, sysid uint64) error {
	h.SystemID = binary.LittleEndian.Uint64(b[24:])
	h.SegmentSize = SegmentSize(binary.LittleEndian.Uint32(b[32:]))
	if sysid != 0 && h.SystemID != sysid {
		return fmt.Errorf("WAL file is from different database system: WAL file database system identifier is %d, ours is %d", h.SystemID, sysid)
	}
	if h.SegmentSize != size {
		return fmt.Errorf("WAL file is from different database system: incorrect segment size %d in page header", h.SegmentSize)
	}
	if blcksz := binary.LittleEndian.Uint32(b[36:]); blcksz != PageSize {
		return fmt.Errorf("WAL file is from different database system: incorrect XLOG_BLCKSZ %d in page header", blcksz)
	}
	return nil
}

// SegmentHeader reads the long header at the start of a segment file, without knowing yet which
// cluster or segment size it belongs to. b holds the file's first 40 bytes or more.
func SegmentHeader(b []byte, v Version) (PageHeader, error) {
	if len(b) < longPageHeaderSize {
		return PageHeader{}, fmt.Errorf("segment header: %d bytes, want %d", len(b), longPageHeaderSize)
	}
	size := SegmentSize(binary.LittleEndian.Uint32(b[32:]))
	if !size.Valid() {
		return PageHeader{}, fmt.Errorf("WAL segment size must be a power of two between 1 MB and 1 GB, but the header says %d bytes", size)
	}
	addr := LSN(binary.LittleEndian.Uint64(b[8:]))
	if size.Offset(addr) != 0 {
		return PageHeader{}, fmt.Errorf("segment header: the page at %s is not the first of a segment", addr)
	}
	return parsePageHeader(b, addr, size, 0, v)
}
