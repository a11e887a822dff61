package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/internal/slow"
)

// sample is a log of one segment and a bit, with records of all kinds, and its bytes.
func sample(t testing.TB) (log []entry, content []byte) {
	t.Helper()
	d := newDir(t, vfs.NewMem())
	w := start(t, d, emptyLog, WriterConfig{})
	for i := range 60 {
		log = append(log, w.insert(t, pattern(i*i*11%3000), false))
	}
	log = append(log, w.insert(t, pattern(20_000), false))
	_, err := w.Switch()
	must(t, err)
	log = append(log, entry{w.Prev(), w.Inserted().Load(), ""})
	log = append(log, w.insert(t, pattern(9000), false), w.insert(t, pattern(3), true))
	must(t, w.stop())
	return log, peek(t, d, emptyLog.LSN, log[len(log)-1].End)
}

// Records come out the same in whatever portions the log is fed.
func TestDecoderPortions(t *testing.T) {
	slow.Test(t)
	log, content := sample(t)
	sizes := []int{1, 2, 3, 5, 7, 8, 9, 23, 24, 25, 39, 40, 41, 63, 100, 1000, 4096, 8191, 8192, 8193, 100_000, len(content)}
	for n := 10; n < 300; n += 13 {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		d := NewDecoder(testFormat, emptyLog.LSN, 0)
		got, err := decode(d, content, n)
		if err != nil || !slices.Equal(got, log) {
			t.Fatalf("in portions of %d: %d records, %v", n, len(got), err)
		}
		if last := log[len(log)-1]; d.End() != last.End || d.Prev() != last.LSN || d.Pos() != last.End || d.Timeline() != 1 {
			t.Errorf("in portions of %d: end %s, prev %s, pos %s", n, d.End(), d.Prev(), d.Pos())
		}
		if at, ok := d.Partial(); ok {
			t.Errorf("in portions of %d: partial record at %s", n, at)
		}
	}
}

// Cut anywhere, the decoder waits for more and knows which record it is in.
func TestDecoderPartial(t *testing.T) {
	slow.Test(t)
	log, content := sample(t)
	for cut := 0; cut < 60_000; cut += 11 {
		d := NewDecoder(testFormat, emptyLog.LSN, 0)
		got, err := decode(d, content[:cut], 50_000)
		must(t, err)
		at, inside := d.Partial()
		if next := log[len(got)]; inside && at != next.LSN {
			t.Fatalf("cut at %d: partial record at %s, want %s", cut, at, next.LSN)
		} else if pos := emptyLog.LSN + LSN(cut); !inside && pos > next.LSN && pos%PageSize > longPageHeaderSize {
			t.Fatalf("cut at %d: inside %v, but the decoder does not say so", cut, next)
		}
	}
}

// From the first byte of any page the decoder finds the next record by itself.
func TestDecoderFromEveryPage(t *testing.T) {
	log, content := sample(t)
	for page := 0; page < 64<<10; page += PageSize {
		at := emptyLog.LSN + LSN(page)
		got, err := decode(NewDecoder(testFormat, at, 0), content[page:], 10_000)
		must(t, err)
		i := slices.IndexFunc(log, func(e entry) bool { return e.LSN >= at })
		if !slices.Equal(got, log[i:]) {
			t.Errorf("from %s: %d records, want %d", at, len(got), len(log)-i)
		}
	}
}

// Damage is reported once and for ever, with the place and PostgreSQL's words.
func TestDecoderErrors(t *testing.T) {
	le := binary.LittleEndian
	log, content := sample(t)
	second := log[1].LSN
	for _, c := range []struct {
		name string
		off  LSN // of the damage
		do   func(b []byte)
		at   LSN
		want string
	}{
		{"magic", 0x102000, func(b []byte) { le.PutUint16(b, 0xD113) }, 0, "invalid magic number D113"},
		{"zero page", 0x102000, func(b []byte) { clear(b[:PageSize]) }, 0, "invalid magic number 0000 in log segment 1, offset 8192"},
		{"flags", 0x102002, func(b []byte) { b[0] |= 0x10 }, 0, "invalid info bits"},
		{"address", 0x102008, func(b []byte) { le.PutUint64(b, 0x2000) }, 0, "unexpected pageaddr 0/2000"},
		{"timeline", 0x100004, func(b []byte) { le.PutUint32(b, 3) }, 0, "out-of-sequence timeline ID 1 (after 3)"},
		{"sysid", 0x100018, func(b []byte) { b[0]++ }, 0x100000, "WAL file is from different database system"},
		{"segment size", 0x100020, func(b []byte) { le.PutUint32(b, 16<<20) }, 0x100000, "incorrect segment size"},
		{"page size", 0x100024, func(b []byte) { le.PutUint32(b, 4096) }, 0x100000, "incorrect XLOG_BLCKSZ"},
		{"length", second, func(b []byte) { le.PutUint32(b, 23) }, second, "invalid record length"},
		{"zero", second, func(b []byte) { clear(b[:100]) }, second, "wanted 24, got 0"},
		{"huge", second, func(b []byte) { le.PutUint32(b, 1<<31) }, second, "invalid record length"},
		{"prev", second + 8, func(b []byte) { b[0]++ }, second, "record with incorrect prev-link"},
		{"rmgr", second + 17, func(b []byte) { b[0] = 22 }, second, "invalid resource manager ID 22"},
		{"crc", second + 30, func(b []byte) { b[0]++ }, second, "incorrect resource manager data checksum"},
		{"no contrecord", 0x102002, func(b []byte) { b[0] &^= 1 }, 0, "there is no contrecord flag"},
		{"rem_len", 0x102010, func(b []byte) { b[0]++ }, 0, "invalid contrecord length"},
	} {
		b := bytes.Clone(content)
		c.do(b[c.off-emptyLog.LSN:])
		d := NewDecoder(testFormat, emptyLog.LSN, 0)
		got, err := decode(d, b, 1000)
		invalid, ok := errors.AsType[*InvalidError](err)
		if !ok || !strings.Contains(invalid.Reason, c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			continue
		}
		at := c.at
		if at == 0 {
			at = log[len(got)].LSN // the record that cannot be completed
		}
		if invalid.At != at || invalid.To <= at {
			t.Errorf("%s: blamed [%s, %s), want %s", c.name, invalid.At, invalid.To, at)
		}
		if _, _, again := d.Next(); again != err {
			t.Errorf("%s: after the error: %v", c.name, again)
		}
	}
}

// A record whose writer died is abandoned where the next writer says so, on a page with the flag
// FIRST_IS_OVERWRITE_CONTRECORD; the log goes on there and points back to the last whole record.
func TestOverwriteContrecord(t *testing.T) {
	m := newModel(emptyLog.LSN, 0)
	m.insert(Prepare(RmgrLongship, 0x10, pattern(100)), 0)
	whole := m.prev
	broken, _ := m.insert(Prepare(RmgrLongship, 0x10, pattern(20_000)), 0)
	page := broken&^(PageSize-1) + PageSize // the first missing page
	b := bytes.Clone(m.bytes[:page-emptyLog.LSN])

	m = newModel(page, whole)
	rec := make([]byte, 16)
	binary.LittleEndian.PutUint64(rec, uint64(broken))
	overwrite, _ := m.insert(Prepare(RmgrXLOG, XLOGOverwriteContrecord, rec), 0)
	next, _ := m.insert(Prepare(RmgrLongship, 0x10, []byte("goes on")), 0)
	m.bytes[2] |= pageFirstIsOverwriteContrecord
	b = append(b, m.bytes...)
	for _, from := range []LSN{emptyLog.LSN, broken, page} {
		prev := map[LSN]LSN{broken: whole}[from]
		got, err := decode(NewDecoder(testFormat, from, prev), b[from-emptyLog.LSN:], 777)
		must(t, err)
		var lsns []LSN
		for _, e := range got {
			lsns = append(lsns, e.LSN)
		}
		want := []LSN{whole, overwrite, next}
		if from != emptyLog.LSN {
			want = want[1:]
		}
		if !slices.Equal(lsns, want) {
			t.Errorf("from %s: records at %v, want %v", from, lsns, want)
		}
	}
}
