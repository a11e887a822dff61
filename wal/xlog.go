package wal

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Opcodes of the XLOG resource manager, in the high nibble of a record's Info. We write PostgreSQL's
// record wherever it has one with our meaning.
const (
	XLOGCheckpointShutdown  uint8 = 0x00
	XLOGCheckpointOnline    uint8 = 0x10
	XLOGNoop                uint8 = 0x20
	XLOGSwitch              uint8 = 0x40
	XLOGEndOfRecovery       uint8 = 0x90
	XLOGOverwriteContrecord uint8 = 0xD0

	opcodeMask uint8 = 0xF0
)

// IsXLOG reports whether the record is the XLOG resource manager's with the given opcode.
func (r *Record) IsXLOG(opcode uint8) bool {
	return r.Rmgr == RmgrXLOG && r.Info&opcodeMask == opcode
}

// epoch2000 is where PostgreSQL's timestamps begin.
var epoch2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// A Timestamp is a PostgreSQL TimestampTz: microseconds since 2000-01-01 00:00 UTC.
type Timestamp int64

// TimestampOf converts t, losing what is finer than a microsecond.
func TimestampOf(t time.Time) Timestamp {
	return Timestamp(t.UnixMicro() - epoch2000.UnixMicro())
}

// Time converts back, in UTC.
func (t Timestamp) Time() time.Time {
	return time.UnixMicro(int64(t) + epoch2000.UnixMicro()).UTC()
}

// A Checkpoint is the payload of a checkpoint record: where redo begins after a crash, and the
// counters PostgreSQL keeps beside it. On disk it is PostgreSQL 15's CheckPoint struct, 88 bytes;
// fields that mean nothing to us hold what a freshly made PostgreSQL cluster has.
type Checkpoint struct {
	Redo         LSN
	Timeline     TimelineID
	PrevTimeline TimelineID // differs from Timeline only in the first record of a timeline
	NextXID      uint64     // epoch in the upper half
	Time         time.Time  // to the second
}

const checkpointSize = 88

// Prepare encodes the checkpoint record.
func (c *Checkpoint) Prepare(opcode uint8) *Prepared {
	b := make([]byte, checkpointSize)
	le := binary.LittleEndian
	le.PutUint64(b[0:], uint64(c.Redo))
	le.PutUint32(b[8:], uint32(c.Timeline))
	le.PutUint32(b[12:], uint32(c.PrevTimeline))
	b[16] = 1 // fullPageWrites: our store's files are never overwritten
	le.PutUint64(b[24:], c.NextXID)
	le.PutUint32(b[32:], 12000) // nextOid
	le.PutUint32(b[36:], 1)     // nextMulti
	le.PutUint32(b[44:], 3)     // oldestXid: the first normal one
	le.PutUint32(b[48:], 1)     // oldestXidDB: template1
	le.PutUint32(b[52:], 1)     // oldestMulti
	le.PutUint32(b[56:], 1)     // oldestMultiDB
	le.PutUint64(b[64:], uint64(c.Time.Unix()))
	return Prepare(RmgrXLOG, opcode, b)
}

// ParseCheckpoint decodes the main data of a checkpoint record.
func ParseCheckpoint(data []byte) (Checkpoint, error) {
	if len(data) != checkpointSize {
		return Checkpoint{}, fmt.Errorf("checkpoint record: %d bytes, want %d", len(data), checkpointSize)
	}
	le := binary.LittleEndian
	return Checkpoint{
		Redo:         LSN(le.Uint64(data[0:])),
		Timeline:     TimelineID(le.Uint32(data[8:])),
		PrevTimeline: TimelineID(le.Uint32(data[12:])),
		NextXID:      le.Uint64(data[24:]),
		Time:         time.Unix(int64(le.Uint64(data[64:])), 0).UTC(),
	}, nil
}

// An EndOfRecovery is the payload of the first record of a timeline begun by a promotion.
type EndOfRecovery struct {
	Time         time.Time
	Timeline     TimelineID
	PrevTimeline TimelineID
}

const endOfRecoverySize = 16

// Prepare encodes the end-of-recovery record.
func (e *EndOfRecovery) Prepare() *Prepared {
	b := make([]byte, endOfRecoverySize)
	binary.LittleEndian.PutUint64(b[0:], uint64(TimestampOf(e.Time)))
	binary.LittleEndian.PutUint32(b[8:], uint32(e.Timeline))
	binary.LittleEndian.PutUint32(b[12:], uint32(e.PrevTimeline))
	return Prepare(RmgrXLOG, XLOGEndOfRecovery, b)
}

// ParseEndOfRecovery decodes the main data of an end-of-recovery record.
func ParseEndOfRecovery(data []byte) (EndOfRecovery, error) {
	if len(data) != endOfRecoverySize {
		return EndOfRecovery{}, fmt.Errorf("end-of-recovery record: %d bytes, want %d", len(data), endOfRecoverySize)
	}
	return EndOfRecovery{
		Time:         Timestamp(binary.LittleEndian.Uint64(data[0:])).Time(),
		Timeline:     TimelineID(binary.LittleEndian.Uint32(data[8:])),
		PrevTimeline: TimelineID(binary.LittleEndian.Uint32(data[12:])),
	}, nil
}
