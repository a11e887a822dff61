package wal

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A SWITCH record ends where its segment does. While the limit stands in the zeros behind it, as it
// does on a standby that is receiving them, the record is not there yet.
func TestReaderHoldsSwitchBack(t *testing.T) {
	dir := NewDir(vfs.NewMem(), "", Format{Version: PG15, SegmentSize: MinSegmentSize, SystemID: 7})
	start := MinSegmentSize.Start(1)
	if err := dir.Allocate(1, 1); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(dir, End{LSN: start, Timeline: 1}, WriterConfig{})
	if _, _, err := w.Insert(Prepare(RmgrLongship, 0x10, []byte("before")), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Switch(); err != nil {
		t.Fatal(err)
	}
	r := NewReader(NewRawReader(dir, History{Timeline: 1}, w), start, 0)
	defer r.Close()
	inside, end := start+MinSegmentSize.Start(1)/2, MinSegmentSize.Start(2)
	if rec, ok, err := r.Next(inside); !ok || err != nil || rec.Rmgr != RmgrLongship {
		t.Fatalf("Next(%s) = %+v, %v, %v, want the record before the switch", inside, rec, ok, err)
	}
	if rec, ok, err := r.Next(inside); ok || err != nil {
		t.Fatalf("Next(%s) = %+v, %v, %v, want nothing yet", inside, rec, ok, err)
	}
	if rec, ok, err := r.Next(end); !ok || err != nil || !rec.IsXLOG(XLOGSwitch) || rec.End != end {
		t.Fatalf("Next(%s) = %+v, %v, %v, want the switch, ending at %[1]s", end, rec, ok, err)
	}
}
