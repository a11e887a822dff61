package wal

import (
	"encoding/binary"
	"time"
)

// heartbeatSize is the length of a heartbeat's payload: a TimestampTz.
const heartbeatSize = 8

// Heartbeat makes the record that says when it was written, by the primary's clock: a NOOP of the XLOG
// resource manager, which PostgreSQL's tools carry and its recovery passes over, with the time as its
// data. It is 34 bytes long and takes 40 of the log.
func Heartbeat(now time.Time) *Prepared {
	b := binary.LittleEndian.AppendUint64(nil, uint64(TimestampOf(now)))
	return Prepare(RmgrXLOG, XLOGNoop, b)
}

// Heartbeat returns when a heartbeat was written; ok is false if the record is none.
func (r *Record) Heartbeat() (at Timestamp, ok bool) {
	if !r.IsXLOG(XLOGNoop) || len(r.Data) != heartbeatSize {
		return 0, false
	}
	return Timestamp(binary.LittleEndian.Uint64(r.Data)), true
}
