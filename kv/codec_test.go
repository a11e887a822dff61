package kv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/longship-db/longship/wal"
)

func drawOp(t *rapid.T, key *rapid.Generator[string]) Op {
	op := Op{Kind: rapid.SampledFrom([]Kind{Put, PutNull, Delete}).Draw(t, "kind"), Key: key.Draw(t, "key")}
	if op.Kind == Put {
		op.Value = append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "value")...)
	}
	return op
}

func TestCommitRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Commit{
			Time:    wal.Timestamp(rapid.Int64().Draw(t, "time")),
			Horizon: wal.LSN(rapid.Uint64().Draw(t, "horizon")),
			Flushed: wal.LSN(rapid.Uint64().Draw(t, "flushed")),
			Ops:     []Op{},
		}
		for range rapid.IntRange(0, 20).Draw(t, "ops") {
			want.Ops = append(want.Ops, drawOp(t, rapid.StringN(1, 50, MaxKeySize)))
		}
		b := AppendCommit([]byte("before"), &want)[len("before"):]
		if len(b) != want.Size() {
			t.Errorf("AppendCommit appended %d bytes, Size() = %d", len(b), want.Size())
		}
		got := Commit{Ops: []Op{}}
		if err := got.Decode(b); err != nil {
			t.Fatalf("Decode: %v", err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Decode() = %+v, want %+v", got, want)
		}
	})
}

// The layout is for good: these bytes are in somebody's log.
func TestCommitLayout(t *testing.T) {
	got := AppendCommit(nil, &Commit{
		Time:    0x0102030405060708,
		Horizon: 0x1112131415161718,
		Flushed: 0x2122232425262728,
		Ops: []Op{
			{Kind: Put, Key: "ab", Value: []byte("xyz")},
			{Kind: PutNull, Key: "c"},
			{Kind: Delete, Key: "d"},
			{Kind: Put, Key: "e", Value: []byte{}},
		},
	})
	want := "" +
		"\x01\x00\x00\x00" + "\x04\x00\x00\x00" + // version, reserved, operations
		"\x08\x07\x06\x05\x04\x03\x02\x01" + // time
		"\x18\x17\x16\x15\x14\x13\x12\x11" + // horizon
		"\x28\x27\x26\x25\x24\x23\x22\x21" + // flushed
		"\x01\x02\x00ab\x03\x00\x00\x00xyz" +
		"\x02\x01\x00c" +
		"\x03\x01\x00d" +
		"\x01\x01\x00e\x00\x00\x00\x00"
	if string(got) != want {
		t.Errorf("AppendCommit() =\n% x, want\n% x", got, want)
	}
}

func TestDecodeCommitRefuses(t *testing.T) {
	header := func(count uint32) []byte {
		b := AppendCommit(nil, &Commit{})
		binary.LittleEndian.PutUint32(b[4:], count)
		return b
	}
	tests := []struct {
		name   string
		bytes  []byte
		offset int
		what   string
	}{
		{"nothing", nil, 0, "shorter than the header"},
		{"half a header", header(0)[:31], 0, "shorter than the header"},
		{"other version", append([]byte{2}, header(0)[1:]...), 0, "version 2"},
		{"reserved bits", append([]byte{1, 0, 1}, header(0)[3:]...), 1, "reserved"},
		{"too many bytes", make([]byte, MaxCommitSize+1), 0, "exceed the limit"},
		{"too many operations", header(1 << 31), 4, "cannot fit"},
		{"one operation too many", append(header(2), "\x03\x01\x00k"...), 4, "cannot fit"},
		{"trailing bytes", append(header(0), 0), 32, "after the last operation"},
		{"unknown kind", append(header(1), "\x04\x01\x00k"...), 32, "unknown kind 4"},
		{"kind zero", append(header(1), "\x00\x01\x00k"...), 32, "unknown kind 0"},
		{"empty key", append(header(1), "\x03\x00\x00k"...), 33, "key length 0"},
		{"long key", append(header(1), "\x03\x01\x08"+strings.Repeat("k", 2049)...), 33, "key length 2049"},
		{"key cut off", append(header(1), "\x03\x02\x00k"...), 35, "key is cut off"},
		{"no value length", append(header(1), "\x01\x01\x00k\x00\x00\x00"...), 36, "value length is cut off"},
		{"long value", append(header(1), "\x01\x01\x00k\x01\x00\x00\x01"...), 36, "exceeds"},
		{"value cut off", append(header(1), "\x01\x01\x00k\x02\x00\x00\x00v"...), 40, "value is cut off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeCommit(tt.bytes)
			format, ok := errors.AsType[*FormatError](err)
			if !ok || format.Offset != tt.offset || !strings.Contains(format.What, tt.what) {
				t.Errorf("DecodeCommit() = %v, want a FormatError at %d: %s", err, tt.offset, tt.what)
			}
		})
	}
}

func TestDecodeReusesOps(t *testing.T) {
	b := AppendCommit(nil, &Commit{Ops: []Op{{Kind: Put, Key: "k", Value: []byte("v")}, {Kind: Delete, Key: "d"}}})
	var c Commit
	allocs := testing.AllocsPerRun(100, func() {
		if err := c.Decode(b); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("Decode allocated %v times, want 0", allocs)
	}
}

func FuzzDecodeCommit(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendCommit(nil, &Commit{}))
	f.Add(AppendCommit(nil, &Commit{Time: 1, Horizon: 2, Flushed: 3, Ops: []Op{
		{Kind: Put, Key: "key", Value: []byte("value")},
		{Kind: PutNull, Key: "null"},
		{Kind: Delete, Key: "gone"},
		{Kind: Put, Key: strings.Repeat("k", MaxKeySize), Value: bytes.Repeat([]byte("v"), 300)},
	}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommit(b)
		if err != nil {
			if _, ok := errors.AsType[*FormatError](err); !ok {
				t.Fatalf("DecodeCommit: %v, want a FormatError", err)
			}
			return
		}
		for _, op := range c.Ops {
			if err := op.check(); err != nil {
				t.Errorf("accepted %v", err)
			}
		}
		if again := AppendCommit(nil, &c); !bytes.Equal(again, b) {
			t.Errorf("encoded again:\n% x, want\n% x", again, b)
		}
	})
}
