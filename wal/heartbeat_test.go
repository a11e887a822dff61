package wal

import (
	"testing"
	"time"
)

func TestHeartbeat(t *testing.T) {
	at := time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC)
	p := Heartbeat(at)
	if p.Size() != 34 {
		t.Errorf("a heartbeat is %d bytes long, want 34", p.Size())
	}
	r := &Record{Rmgr: RmgrXLOG, Info: XLOGNoop, Data: p.bytes[p.Size()-8:]}
	if got, ok := r.Heartbeat(); !ok || !got.Time().Equal(at) {
		t.Errorf("Heartbeat() = %v, %v, want %v", got.Time(), ok, at)
	}
	for _, other := range []Record{
		{Rmgr: RmgrXLOG, Info: XLOGNoop},
		{Rmgr: RmgrXLOG, Info: XLOGNoop, Data: make([]byte, 9)},
		{Rmgr: RmgrXLOG, Info: XLOGSwitch, Data: make([]byte, 8)},
		{Rmgr: RmgrXact, Info: XLOGNoop, Data: make([]byte, 8)},
	} {
		if _, ok := other.Heartbeat(); ok {
			t.Errorf("%+v is taken for a heartbeat", other)
		}
	}
}
