package wal

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
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

// FuzzFileNames: what is taken for the name of a segment or a history is what such a one is called, of every
// segment size.
func FuzzFileNames(f *testing.F) {
	for _, name := range []string{"000000010000000000000001", "00000002.history", "FFFFFFFFFFFFFFFF000000FF", "0000000100000000000001FF", "xlogtemp.1"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for size := MinSegmentSize; size <= MaxSegmentSize; size *= 2 {
			if tli, segno, ok := size.ParseFileName(name); ok && (size.FileName(tli, segno) != name || !IsSegmentName(name)) {
				t.Errorf("%q is %d, %d, which is called %q", name, tli, segno, size.FileName(tli, segno))
			}
		}
		if tli, ok := ParseHistoryFileName(name); ok && HistoryFileName(tli) != name {
			t.Errorf("%q is of timeline %d, whose is called %q", name, tli, HistoryFileName(tli))
		}
	})
}

// FuzzSegmentHeader: a header that is accepted says of itself that it is the first of a segment.
func FuzzSegmentHeader(f *testing.F) {
	_, content := sample(f)
	f.Add(content[:longPageHeaderSize])
	f.Add(content[:10])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := SegmentHeader(b, PG15)
		if err == nil && (!h.SegmentSize.Valid() || h.SegmentSize.Offset(h.Addr) != 0 || h.Info&pageLongHeader == 0) {
			t.Errorf("accepted %+v", h)
		}
	})
}

// FuzzScan: whatever stands anywhere in a log, what is read of it are records that were written, as far as
// there is no other; its end is told, or where it is damaged.
func FuzzScan(f *testing.F) {
	s := newSpecimen(f)
	f.Add(uint16(100), []byte{1, 2, 3})
	f.Add(uint16(PageSize), make([]byte, 512))
	f.Add(uint16(2*PageSize-8), s.bytes[:64])
	f.Add(uint16(40000), s.bytes[30000:31000])
	f.Fuzz(func(t *testing.T, off uint16, b []byte) {
		p := s.patient(t)
		p.write(tinyStart.LSN+LSN(off), bytes.Clone(b[:min(len(b), specimenSize-int(off))]))
		read := 0
		_, err := (&Scan{Dir: p.dir, History: p.history, Start: tinyStart.LSN, Witness: witness, Each: func(r Record) error {
			if r.LSN < tinyStart.LSN+LSN(off) && r.End <= tinyStart.LSN+LSN(off) && (r.LSN != p.log[read].LSN || string(r.Data) != p.log[read].Data) {
				t.Errorf("%s: not the record that was written", r.LSN)
			}
			read++
			return nil
		}}).Find()
		if _, corrupt := errors.AsType[*CorruptError](err); err != nil && !corrupt {
			t.Error(err)
		}
	})
}

// FuzzMend: whatever another member says that it has, what could be read of the log can be read afterwards,
// and no temporary file is left.
func FuzzMend(f *testing.F) {
	s := newSpecimen(f)
	f.Add(uint16(100), uint16(0), s.bytes[:2*PageSize])
	f.Add(uint16(5000), uint16(4096), s.bytes[4096:12000])
	f.Add(uint16(20000), uint16(100), []byte("nonsense"))
	f.Fuzz(func(t *testing.T, rot, off uint16, theirs []byte) {
		p := s.patient(t)
		at := tinyStart.LSN + LSN(rot)
		p.write(at, []byte{s.bytes[rot] ^ 1})
		faults := p.scrub()
		if len(faults) == 0 {
			return
		}
		_, _, err := p.dir.Mend(t.Context(), p.history, faults[0], ^LSN(0), func(_ context.Context, b []byte, at LSN) (int, error) {
			n := copy(b, s.bytes[at-tinyStart.LSN:])
			if from := max(at, tinyStart.LSN+LSN(off)); from < at+LSN(n) && from-tinyStart.LSN-LSN(off) < LSN(len(theirs)) {
				copy(b[from-at:n], theirs[from-tinyStart.LSN-LSN(off):])
			}
			return n, nil
		})
		after := p.scrub()
		if len(after) > 0 && (after[0].From < faults[0].From || err == nil && after[0].From == faults[0].From && after[0].To <= faults[0].To) {
			t.Errorf("mended (%v) %+v, and found %+v", err, faults[0], after[0])
		}
		names, _ := p.dir.FS.List(p.dir.Path)
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, tempPrefix) }) {
			t.Errorf("left %v", names)
		}
	})
}
