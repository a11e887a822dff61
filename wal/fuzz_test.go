package wal

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzDecoder: whatever the bytes and the portions, the decoder does not panic, holds no more than it
// was fed, and says the same in one portion as in many.
func FuzzDecoder(f *testing.F) {
	_, content := sample(f)
	f.Add(content[:3*PageSize], uint16(100), uint32(0))
	f.Add(content[PageSize:3*PageSize], uint16(8192), uint32(PageSize))
	f.Add(content[:200], uint16(1), uint32(0))
	f.Add(content[40:200], uint16(7), uint32(40))
	f.Fuzz(func(t *testing.T, b []byte, portion uint16, off uint32) {
		at := emptyLog.LSN + LSN(align8(off&0xFFFFF))
		whole := NewDecoder(testFormat, at, 0)
		want, wantErr := decode(whole, b, max(1, len(b)))
		d := NewDecoder(testFormat, at, 0)
		got, err := decode(d, b, 1+int(portion))
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(err, wantErr) {
			t.Errorf("in portions of %d: %v, %v; in one: %v, %v", 1+int(portion), got, err, want, wantErr)
		}
		if held := len(d.rec) + len(d.own); held > 2*len(b)+PageSize {
			t.Errorf("holds %d bytes of %d", held, len(b))
		}
		for i, e := range got {
			if e.LSN < at || e.End > at+LSN(len(b))+LSN(MinSegmentSize) || i > 0 && e.LSN < got[i-1].End {
				t.Errorf("record %v out of place", e)
			}
		}
	})
}

// FuzzParseHistory: what is accepted is written and read back the same.
func FuzzParseHistory(f *testing.F) {
	f.Add(uint32(2), []byte("1\t0/11001E48\tno recovery target specified\n"))
	f.Add(uint32(3), []byte("1\t0/5000000\tbefore 2026-01-01 00:00:00+00\n\n\n2\t0/6000000\tx\n# note\n"))
	f.Add(uint32(9), []byte("1 0/0\n2\v0/0 \r\n"))
	f.Fuzz(func(t *testing.T, tli uint32, text []byte) {
		h, err := ParseHistory(TimelineID(tli), text)
		if err != nil {
			return
		}
		again, err := ParseHistory(h.Timeline, h.Format())
		if err != nil || !reflect.DeepEqual(h, again) {
			t.Errorf("%+v became %+v, %v", h, again, err)
		}
		for _, tli := range append(h.timelines(), h.Timeline) {
			if end, ok := h.End(tli); !ok || end < h.Begin(tli) {
				t.Errorf("timeline %d: [%s, %s), %v", tli, h.Begin(tli), end, ok)
			}
		}
	})
}

// FuzzParseLSN: what is accepted prints as the same number, in the canonical form.
func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "ffffffff/ffffffff", "/", "1/", " 0/0", "0/000000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLSN(s)
		if err != nil {
			return
		}
		if again, err := ParseLSN(l.String()); err != nil || again != l {
			t.Errorf("%q is %s is %s, %v", s, l, again, err)
		}
		if len(s) > 17 || len(l.String()) > len(s) {
			t.Errorf("%q prints as %s", s, l)
		}
	})
}

// FuzzPayloads: the decoders of record payloads and segment headers accept their own output only.
func FuzzPayloads(f *testing.F) {
	c := Checkpoint{Redo: 0x100028, Timeline: 1, PrevTimeline: 1, NextXID: 3}
	f.Add(c.Prepare(XLOGCheckpointOnline).bytes[recordHeaderSize+2:])
	f.Add((&EndOfRecovery{Timeline: 2, PrevTimeline: 1}).Prepare().bytes[recordHeaderSize+2:])
	f.Add(pattern(60))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseCheckpoint(b)
		_, _ = SegmentHeader(b, PG15)
		_, _ = mainData(b)
		if e, err := ParseEndOfRecovery(b); err == nil && !bytes.Equal(e.Prepare().bytes[recordHeaderSize+2:], b) {
			t.Errorf("%x is %+v", b, e)
		}
	})
}
