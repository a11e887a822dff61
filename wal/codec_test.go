package wal

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	must(t, err)
	return b
}

// Section 6.1 of reference/postgres-wal.md: the long header of a real segment.
func TestRealSegmentHeader(t *testing.T) {
	b := unhex(t, `10d1 0600 0100 0000 0000 000a 0000 0000 0000 0000 0000 0000 baff 3e44 90f5 006b 0000 0001 0020 0000`)
	h, err := SegmentHeader(b, PG15)
	must(t, err)
	want := PageHeader{Info: 6, Timeline: 1, Addr: 0xA000000, SystemID: 7710432562027364282, SegmentSize: 16 << 20}
	if h != want {
		t.Errorf("got %+v, want %+v", h, want)
	}
	back := make([]byte, len(b))
	h.put(back, PG15)
	if !bytes.Equal(back, b) {
		t.Errorf("written back as %x", back)
	}
	for n := range b {
		if _, err := SegmentHeader(b[:n], PG15); err == nil {
			t.Errorf("%d bytes are accepted", n)
		}
	}
	b[34] = 3
	if _, err := SegmentHeader(b, PG15); err == nil {
		t.Error("a segment size that is no power of two is accepted")
	}
}

// Section 6.2: the first page and record of a log, byte for byte.
func TestFirstRecordVector(t *testing.T) {
	w := NewWriter(newDir(t, vfs.NewMem()), emptyLog, WriterConfig{})
	const custom128 = 128
	start, end, err := w.Insert(Prepare(custom128, 0x10, []byte("hello "), []byte("world")), 5)
	must(t, err)
	want := unhex(t, `
		10d1 0200 0100 0000 0000 1000 0000 0000 0000 0000 0000 0000 8877 6655 4433 2211 0000 1000 0020 0000
		25000000 05000000 0000000000000000 10 80 0000 c7526406 ff 0b 68656c6c6f20776f726c64 000000`)
	if got := readBuffer(t, w, emptyLog.LSN); !bytes.Equal(got, want) || start != 0x100028 || end != 0x100050 {
		t.Errorf("[%s, %s)\n got %x\nwant %x", start, end, got, want)
	}
}

// Section 6.3: a record whose header is split by a page boundary after eight bytes.
func TestSplitHeaderVector(t *testing.T) {
	w := NewWriter(newDir(t, vfs.NewMem()), End{LSN: 0x101FF8, Prev: 0x1001C8, Timeline: 1}, WriterConfig{})
	const custom129 = 129
	_, _, err := w.Insert(Prepare(custom129, 0x30, []byte("split header record")), 7)
	must(t, err)
	want := unhex(t, `2d000000 07000000
		10d1 0100 01000000 0020100000000000 25000000 00000000
		c801100000000000 30 81 0000 5edf7377 ff13`+hex.EncodeToString([]byte("split header record"))+"000000")
	if got := readBuffer(t, w, 0x101FF8); !bytes.Equal(got, want) {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
}

// Section 6.4: records of a real server decode, and the ones we write ourselves encode the same.
func TestRealRecordVectors(t *testing.T) {
	commit := unhex(t, `22000000 d5020000 2810001100000000 00 01 0000 3f421e24 ff08 06a24345be030300`)
	rec, err := parseRecord(commit, 0x11001000)
	must(t, err)
	if rec.Rmgr != RmgrXact || rec.XID != 725 || rec.Prev != 0x11001028 || len(rec.Data) != 8 {
		t.Errorf("commit: %+v", rec)
	}

	eor := unhex(t, `2a000000 00000000 101e001100000000 90 00 0000 81b3919e ff10 3e40e94fbe030300 02000000 01000000`)
	rec, err = parseRecord(eor, 0x11001E48)
	must(t, err)
	e, err := ParseEndOfRecovery(rec.Data)
	must(t, err)
	if !rec.IsXLOG(XLOGEndOfRecovery) || e.Timeline != 2 || e.PrevTimeline != 1 || e.Time.Format(time.DateOnly) != "2026-11-21" {
		t.Errorf("end of recovery: %+v, %+v", rec, e)
	}
	if got := e.Prepare().finish(rec.XID, rec.Prev); !bytes.Equal(got, eor) {
		t.Errorf("end of recovery\n got %x\nwant %x", got, eor)
	}

	sw := unhex(t, `18000000 00000000 2071011100000000 40 00 0000 381fc5a8`)
	if got := Prepare(RmgrXLOG, XLOGSwitch).finish(0, 0x11017120); !bytes.Equal(got, sw) {
		t.Errorf("switch\n got %x\nwant %x", got, sw)
	}
	if rec, err := parseRecord(sw, 0x11017148); err != nil || !rec.IsXLOG(XLOGSwitch) || len(rec.Data) != 0 {
		t.Errorf("switch: %+v, %v", rec, err)
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	want := Checkpoint{Redo: 0x100028, Timeline: 3, PrevTimeline: 2, NextXID: 5<<32 | 7, Time: time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)}
	p := want.Prepare(XLOGCheckpointShutdown)
	if p.Size() != 114 {
		t.Errorf("a checkpoint record has %d bytes, want 114", p.Size())
	}
	rec, err := parseRecord(p.finish(0, 0), 0x100028)
	must(t, err)
	got, err := ParseCheckpoint(rec.Data)
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := ParseCheckpoint(rec.Data[1:]); err == nil {
		t.Error("a short checkpoint is accepted")
	}
}

// The data header is short up to 255 bytes, long above, and absent for nothing.
func TestDataHeader(t *testing.T) {
	for n, size := range map[int]int{0: 24, 1: 27, 255: 281, 256: 285, 70_000: 70_029} {
		p := Prepare(RmgrLongship, 0, pattern(n))
		rec, err := parseRecord(p.finish(1, 2), 3)
		if err != nil || p.Size() != size || int(rec.TotLen) != size || !bytes.Equal(rec.Data, pattern(n)) {
			t.Errorf("%d bytes: size %d, want %d; %v", n, p.Size(), size, err)
		}
	}
}

// Records of a followed PostgreSQL have fragments that ours have not: the main data is found behind
// them, and lengths that do not add up are refused.
func TestForeignFragments(t *testing.T) {
	rel := slices.Repeat([]byte{1}, relLocatorSize)
	block := func(id, flags byte, length uint16, rest ...[]byte) []byte {
		return append([]byte{id, flags, byte(length), byte(length >> 8)}, slices.Concat(rest...)...)
	}
	num := []byte{9, 0, 0, 0}
	for _, c := range []struct {
		name string
		body []byte
		main string
		ok   bool
	}{
		{"origin, xid", slices.Concat([]byte{253, 1, 0, 252, 1, 0, 0, 0, 255, 2}, []byte("hi")), "hi", true},
		{"block data", slices.Concat(block(0, 0x20, 3, rel, num), []byte{255, 2}, []byte("abchi")), "hi", true},
		{"same rel", slices.Concat(block(0, 0x20, 1, rel, num), block(1, 0xA0, 1, num), []byte{255, 1}, []byte("abh")), "h", true},
		{"image", slices.Concat(block(0, 0x10, 0, []byte{4, 0, 0, 0, 2}, rel, num), []byte("pagehi")[:4]), "", true},
		{"compressed with a hole", slices.Concat(block(0, 0x10, 0, []byte{4, 0, 8, 0, 7, 1, 0}, rel, num), []byte{255, 1}, []byte("pageh")), "h", true},
		{"only a block", block(0, 0, 0, rel, num), "", true},
		{"data too long", slices.Concat([]byte{255, 3}, []byte("hi")), "", false},
		{"data too short", slices.Concat([]byte{255, 1}, []byte("hi")), "", false},
		{"long data too long", []byte{254, 255, 255, 255, 255}, "", false},
		{"bad id", []byte{33, 0}, "", false},
		{"flag without data", block(0, 0x20, 0, rel, num), "", false},
		{"cut block", block(0, 0, 0, rel), "", false},
		{"cut origin", []byte{253, 1}, "", false},
	} {
		got, err := mainData(c.body)
		if (err == nil) != c.ok || string(got) != c.main {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.main)
		}
	}
}
