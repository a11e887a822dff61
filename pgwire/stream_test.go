package pgwire

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

var testStream = StreamID{Epoch: 7, Session: 0x1122334455667788}

// The layouts of postgres-replication.md, section 4, and docs/formats.md, field by field.
func TestStreamMessageLayout(t *testing.T) {
	const native = " 0000000000000007 1122334455667788 0102030405060708"
	const lease LeaseRequest = 0x0102030405060708
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"w", (&XLogData{Start: 1, End: 2, Time: 3, Data: []byte{0xaa}}).Append(nil),
			"77 0000000000000001 0000000000000002 0000000000000003 aa"},
		{"W", (&XLogData{Start: 1, End: 2, Time: 3, Native: true, Horizon: 4, Stream: testStream, Lease: lease, Data: []byte{0xaa}}).Append(nil),
			"57 0000000000000001 0000000000000002 0000000000000003 0000000000000004" + native + "aa"},
		{"k", (&Keepalive{End: 1, Time: 2, ReplyRequested: true}).Append(nil),
			"6b 0000000000000001 0000000000000002 01"},
		{"K", (&Keepalive{End: 1, Time: 2, Native: true, Horizon: 4, Stream: testStream, Lease: lease}).Append(nil),
			"4b 0000000000000001 0000000000000002 00 0000000000000004" + native},
		{"r", (&StatusUpdate{Write: 3, Flush: 2, Apply: 1, Time: -1, ReplyRequested: true}).Append(nil),
			"72 0000000000000003 0000000000000002 0000000000000001 ffffffffffffffff 01"},
		{"R", (&StatusUpdate{Write: 3, Flush: 2, Apply: 1, Native: true, Stream: testStream, Lease: lease}).Append(nil),
			"52 0000000000000003 0000000000000002 0000000000000001 0000000000000000 00" + native},
		{"h", (&HotStandbyFeedback{Time: 1, XMin: 2, XMinEpoch: 3, CatalogXMin: 4, CatalogXMinEpoch: 5}).Append(nil),
			"68 0000000000000001 00000002 00000003 00000004 00000005"},
	}
	for _, tt := range tests {
		want, err := hex.DecodeString(strings.ReplaceAll(tt.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tt.got, want) {
			t.Errorf("%s = %x, want %x", tt.name, tt.got, want)
		}
	}
}

func TestStreamMessageHeaderSizes(t *testing.T) {
	if got := len((&XLogData{}).AppendHeader(nil)); got != XLogDataHeaderSize {
		t.Errorf("plain header is %d bytes, want %d", got, XLogDataHeaderSize)
	}
	if got := len((&XLogData{Native: true}).AppendHeader(nil)); got != NativeXLogDataHeaderSize {
		t.Errorf("native header is %d bytes, want %d", got, NativeXLogDataHeaderSize)
	}
}

func TestStreamMessageRefused(t *testing.T) {
	for _, b := range []string{"", "x", "k1234", "r", "h", "w1", "K" + strings.Repeat("0", 17),
		"W" + strings.Repeat("0", 48), "K" + strings.Repeat("0", 41), "R" + strings.Repeat("0", 49), "k" + strings.Repeat("0", 18)} {
		var s ServerMessage
		var c ClientMessage
		if err := s.Decode([]byte(b)); err == nil {
			t.Errorf("server message %q was accepted: %+v", b, s)
		}
		if err := c.Decode([]byte(b)); err == nil {
			t.Errorf("client message %q was accepted: %+v", b, c)
		}
	}
}

// What a decoder accepts, it reads as what was sent; and it allocates nothing.
func TestStreamMessageAllocations(t *testing.T) {
	wal := (&XLogData{Native: true, Data: make([]byte, 1000)}).Append(nil)
	status := (&StatusUpdate{Native: true}).Append(nil)
	var s ServerMessage
	var c ClientMessage
	buf := make([]byte, 0, 2000)
	allocs := testing.AllocsPerRun(100, func() {
		if s.Decode(wal) != nil || c.Decode(status) != nil {
			t.Fatal("refused")
		}
		buf = s.XLogData.Append(buf[:0])
		buf = c.Status.Append(buf[:0])
	})
	if allocs != 0 {
		t.Errorf("%v allocations per message, want none", allocs)
	}
}

func FuzzServerMessage(f *testing.F) {
	f.Add((&XLogData{Start: 1, End: 2, Data: []byte("wal")}).Append(nil))
	f.Add((&XLogData{Native: true, Horizon: 9, Stream: testStream, Lease: 10}).Append(nil))
	f.Add((&Keepalive{End: 1, ReplyRequested: true}).Append(nil))
	f.Add((&Keepalive{Native: true, Horizon: 9, Stream: testStream, Lease: -1}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again ServerMessage
		if m.Decode(b) != nil {
			return
		}
		out := m.XLogData.Append(nil)
		if m.Kind == StreamKeepalive {
			out = m.Keepalive.Append(nil)
		}
		if err := again.Decode(out); err != nil || len(out) != len(b) || !reflect.DeepEqual(again, m) {
			t.Errorf("%x reads as %+v, and that as %+v, %v", b, m, again, err)
		}
	})
}

func FuzzClientMessage(f *testing.F) {
	f.Add((&StatusUpdate{Write: 3, Flush: 2, Apply: 1}).Append(nil))
	f.Add((&StatusUpdate{Native: true, Stream: testStream, Lease: 11}).Append(nil))
	f.Add((&HotStandbyFeedback{XMin: 1}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again ClientMessage
		if m.Decode(b) != nil {
			return
		}
		out := m.Status.Append(nil)
		if m.Kind == StreamFeedback {
			out = m.Feedback.Append(nil)
		}
		if err := again.Decode(out); err != nil || len(out) != len(b) || !reflect.DeepEqual(again, m) {
			t.Errorf("%x reads as %+v, and that as %+v, %v", b, m, again, err)
		}
	})
}

// A primary whose clock is slower by one in a hundred than those of the members still gives a promise up first.
func TestLeaseHeld(t *testing.T) {
	if held := LeaseHeld * 101 / 100; held > LeaseTerm {
		t.Errorf("by a clock that is slow by 1 in 100 a promise is gone by for %v, and lasts %v", held, LeaseTerm)
	}
}
