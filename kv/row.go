package kv

import (
	"encoding/binary"
	"fmt"

	"github.com/longship-db/longship/wal"
)

// What the store keeps in Pebble. Keys are one byte that says what it is, then the row's key:
//
//	| key            | value                                                |
//	|----------------|------------------------------------------------------|
//	| 00 "applied"   | version, 1 byte; applied LSN, 8 bytes                |
//	| 01 key of row  | LSN 8 bytes; flag 1 byte, 0 NULL or 1 value; value   |
//
// Numbers are little endian. The LSN of a row is the end of the record that last wrote it.
const (
	metaPrefix = 0x00
	rowPrefix  = 0x01

	storeVersion = 1
	appliedSize  = 1 + 8

	rowHeaderSize = 8 + 1
	flagNull      = 0
	flagValue     = 1
)

var appliedKey = []byte{metaPrefix, 'a', 'p', 'p', 'l', 'i', 'e', 'd'}

// A Row is one row of the table. It is shared: nobody may change Value.
type Row struct {
	Key   string
	Value []byte  // nil is SQL's NULL
	LSN   wal.LSN // end of the record that last wrote it; 0: written by this transaction, not yet committed
}

func appendRowKey(dst []byte, key string) []byte {
	return append(append(dst, rowPrefix), key...)
}

// putRow writes the stored form of a row to dst, which has the length storedSize returns.
func putRow(dst []byte, v *memVersion) {
	binary.LittleEndian.PutUint64(dst, uint64(v.lsn))
	dst[8] = flagNull
	if v.kind == Put {
		dst[8] = flagValue
		copy(dst[rowHeaderSize:], v.value)
	}
}

// storedSize is the size of the stored form of the row that v writes.
func storedSize(v *memVersion) int { return rowHeaderSize + len(v.value) }

// parseRow reads the stored form of a row. The value is a copy.
func parseRow(key string, stored []byte) (Row, error) {
	if len(stored) < rowHeaderSize || stored[8] > flagValue {
		return Row{}, fmt.Errorf("row %q: invalid stored form % x", key, stored[:min(len(stored), rowHeaderSize)])
	}
	row := Row{Key: key, LSN: wal.LSN(binary.LittleEndian.Uint64(stored))}
	if stored[8] == flagValue {
		row.Value = append([]byte{}, stored[rowHeaderSize:]...)
	}
	return row, nil
}

func appendApplied(dst []byte, lsn wal.LSN) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, storeVersion), uint64(lsn))
}

func parseApplied(stored []byte) (wal.LSN, error) {
	if len(stored) != appliedSize {
		return 0, fmt.Errorf("applied LSN has %d bytes, want %d", len(stored), appliedSize)
	}
	if stored[0] != storeVersion {
		return 0, fmt.Errorf("store has format version %d, want %d", stored[0], storeVersion)
	}
	return wal.LSN(binary.LittleEndian.Uint64(stored[1:])), nil
}
