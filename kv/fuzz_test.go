package kv

import (
	"bytes"
	"testing"
)

// FuzzStored: what the store holds under a key is refused, or is what would be stored again.
func FuzzStored(f *testing.F) {
	v := memVersion{lsn: 0x1000, kind: Put, value: []byte("value")}
	row := make([]byte, storedSize(&v))
	putRow(row, &v)
	f.Add(row)
	f.Add(appendApplied(nil, 0x2000))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stored []byte) {
		if lsn, err := parseApplied(stored); err == nil && !bytes.Equal(appendApplied(nil, lsn), stored) {
			t.Errorf("% x is the applied LSN %s", stored, lsn)
		}
		row, err := parseRow("a", stored)
		if err != nil || row.Value == nil {
			return
		}
		v := memVersion{lsn: row.LSN, kind: Put, value: row.Value}
		again := make([]byte, storedSize(&v))
		if putRow(again, &v); !bytes.Equal(again, stored) {
			t.Errorf("% x is the row %+v, which is stored as % x", stored, row, again)
		}
	})
}
