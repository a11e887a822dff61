package wal

import (
	"fmt"
	"strconv"
)

// A SegmentSize is the size in bytes of each log file of a cluster: a power of two from 1 MiB to
// 1 GiB, chosen when the cluster is created.
type SegmentSize uint32

// The segment sizes that initdb allows, and its default.
const (
	MinSegmentSize     SegmentSize = 1 << 20
	MaxSegmentSize     SegmentSize = 1 << 30
	DefaultSegmentSize SegmentSize = 16 << 20
)

// Valid reports whether initdb would accept the size.
func (s SegmentSize) Valid() bool {
	return s >= MinSegmentSize && s <= MaxSegmentSize && s&(s-1) == 0
}

// Segno is the number of the segment that holds the byte at l.
func (s SegmentSize) Segno(l LSN) uint64 { return uint64(l) / uint64(s) }

// PrevSegno is the number of the segment that holds the byte before l: the file to look at when l
// is an end of data.
func (s SegmentSize) PrevSegno(l LSN) uint64 { return (uint64(l) - 1) / uint64(s) }

// Start is the position of the first byte of segment segno.
func (s SegmentSize) Start(segno uint64) LSN { return LSN(segno * uint64(s)) }

// SegmentStart is the position of the first byte of the segment that holds l.
func (s SegmentSize) SegmentStart(l LSN) LSN { return l &^ LSN(s-1) }

// Offset is the offset of l in its segment.
func (s SegmentSize) Offset(l LSN) int64 { return int64(l & LSN(s-1)) }

// perID is how many segments one 4 GiB log id holds: the modulus of the last file name part.
func (s SegmentSize) perID() uint64 { return (1 << 32) / uint64(s) }

// FileName is the 24-digit name of segment segno on timeline tli.
func (s SegmentSize) FileName(tli TimelineID, segno uint64) string {
	return fmt.Sprintf("%08X%08X%08X", uint32(tli), segno/s.perID(), segno%s.perID())
}

// ParseFileName undoes FileName. ok is false for anything that is not the name of a whole segment.
func (s SegmentSize) ParseFileName(name string) (tli TimelineID, segno uint64, ok bool) {
	if !IsSegmentName(name) {
		return 0, 0, false
	}
	t, _ := strconv.ParseUint(name[0:8], 16, 32)
	id, _ := strconv.ParseUint(name[8:16], 16, 32)
	seg, _ := strconv.ParseUint(name[16:24], 16, 32)
	if t == 0 || seg >= s.perID() {
		return 0, 0, false
	}
	return TimelineID(t), id*s.perID() + seg, true
}

// IsSegmentName reports whether name has the form of a segment's file name, of any segment size.
func IsSegmentName(name string) bool {
	return len(name) == 24 && isUpperHex(name)
}

func isUpperHex(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}
