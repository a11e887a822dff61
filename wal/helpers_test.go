package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const testSystemID = 0x1122334455667788

var testFormat = Format{Version: PG15, SegmentSize: MinSegmentSize, SystemID: testSystemID}

// emptyLog is where the first record of a log with 1 MiB segments goes.
var emptyLog = End{LSN: LSN(MinSegmentSize), Timeline: 1}

// first is the history of timeline 1.
var first = History{Timeline: 1}

// newDir makes the folder of an empty log, durably, with its first segment.
func newDir(t testing.TB, fsys vfs.FS) *Dir {
	t.Helper()
	path := "/pg_wal"
	if fsys == vfs.Default {
		path = t.TempDir()
	} else {
		must(t, fsys.MkdirAll(path, 0o755))
		must(t, SyncDir(fsys, "/"))
	}
	d := NewDir(fsys, path, testFormat)
	must(t, d.Allocate(1, 1))
	return d
}

// nothingNeeded lets every segment go.
func nothingNeeded() uint64 { return math.MaxUint64 }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A running is a Writer whose flusher runs.
type running struct {
	*Writer
	cancel context.CancelFunc
	done   chan error
}

func start(t testing.TB, d *Dir, at End, cfg WriterConfig) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Writer: NewWriter(d, at, cfg), cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

// stop ends the flusher and returns what Run returned.
func (r *running) stop() error {
	r.cancel()
	return <-r.done
}

// insert inserts a record with the given main data and flushes it if asked to.
func (r *running) insert(t testing.TB, data []byte, flush bool) entry {
	t.Helper()
	start, end, err := r.Insert(Prepare(RmgrLongship, 0x10, data), 7)
	must(t, err)
	if flush {
		must(t, r.Flush(context.Background(), end))
	}
	return entry{LSN: start, End: end, Data: string(data)}
}

// An entry is what the tests compare of a record.
type entry struct {
	LSN, End LSN
	Data     string
}

func (e entry) String() string { return fmt.Sprintf("[%s, %s) %d bytes", e.LSN, e.End, len(e.Data)) }

// prepareSize prepares a record of exactly n bytes, header included; nil if there is none of that size.
func prepareSize(n int) *Prepared {
	for _, header := range []int{0, 2, 5} {
		data := n - recordHeaderSize - header
		if data < 0 {
			continue
		}
		p := Prepare(RmgrLongship, 0x10, pattern(data))
		if p.Size() == n {
			return p
		}
	}
	return nil
}

// pattern is n bytes, none of them zero, that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += copy(b[i:], patternBytes) {
	}
	return b
}

var patternBytes = func() []byte {
	b := make([]byte, 251*32)
	for i := range b {
		b[i] = byte(i%251) + 1
	}
	return b
}()

// randomData is a payload of a size that is usually small and now and then crosses pages.
func randomData(rng *rand.Rand) []byte {
	n := rng.IntN(200)
	switch rng.IntN(20) {
	case 0:
		n = rng.IntN(3 * PageSize)
	case 1:
		n = 0
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// withWitness puts a flush position in front of a payload, as a commit record carries it.
func withWitness(flushed LSN, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(flushed)), data...)
}

func witness(r Record) LSN {
	if r.Rmgr != RmgrLongship || len(r.Data) < 8 {
		return 0
	}
	return LSN(binary.LittleEndian.Uint64(r.Data))
}

// find scans a log from its first byte.
func find(d *Dir, s Scan) (records []entry, end Ending, err error) {
	s.Dir = d
	if s.History.Timeline == 0 {
		s.History = first
	}
	if s.Start == 0 {
		s.Start = emptyLog.LSN
	}
	s.Each = func(r Record) error {
		records = append(records, entry{LSN: r.LSN, End: r.End, Data: string(r.Data)})
		return nil
	}
	end, err = s.Find()
	return records, end, err
}

// wantLog checks that the log holds exactly the records given and ends behind the last.
func wantLog(t testing.TB, d *Dir, want []entry) Ending {
	t.Helper()
	got, end, err := find(d, Scan{})
	must(t, err)
	if !slices.Equal(got, want) {
		t.Fatalf("log holds %d records, want %d\n got %v\nwant %v", len(got), len(want), got, want)
	}
	if n := len(want); n > 0 && (end.LSN != want[n-1].End || end.Prev != want[n-1].LSN) {
		t.Fatalf("log ends at %s, prev %s, want %v", end.LSN, end.Prev, want[n-1])
	}
	return end
}

// decode feeds b to a decoder in portions of n bytes and returns what comes out.
func decode(d *Decoder, b []byte, n int) ([]entry, error) {
	var got []entry
	portion := make([]byte, n) // reused, as a reader's buffer is
	for len(b) > 0 {
		k := copy(portion, b)
		b = b[k:]
		d.Feed(portion[:k])
		for {
			rec, ok, err := d.Next()
			if err != nil {
				return got, err
			}
			if !ok {
				break
			}
			got = append(got, entry{LSN: rec.LSN, End: rec.End, Data: string(rec.Data)})
		}
	}
	return got, nil
}

// model writes a log byte by byte, as section 4 of reference/postgres-wal.md says it, sharing no
// code with the Writer but the record's own encoding.
type model struct {
	start, at, prev LSN
	bytes           []byte
}

func newModel(at, prev LSN) *model { return &model{start: at, at: at, prev: prev} }

func (m *model) push(b byte) {
	m.bytes = append(m.bytes, b)
	m.at++
}

// header writes a page header if one is due; rest is what is still to come of a record, 0 at its start.
func (m *model) header(rest int) {
	if m.at%PageSize != 0 {
		return
	}
	info, long := uint16(0), m.at%LSN(MinSegmentSize) == 0
	if rest > 0 {
		info |= 1
	}
	if long {
		info |= 2
	}
	h := binary.LittleEndian.AppendUint16(nil, 0xD110)
	h = binary.LittleEndian.AppendUint16(h, info)
	h = binary.LittleEndian.AppendUint32(h, 1)
	h = binary.LittleEndian.AppendUint64(h, uint64(m.at))
	h = binary.LittleEndian.AppendUint32(h, uint32(rest))
	h = append(h, 0, 0, 0, 0)
	if long {
		h = binary.LittleEndian.AppendUint64(h, testSystemID)
		h = binary.LittleEndian.AppendUint32(h, uint32(MinSegmentSize))
		h = binary.LittleEndian.AppendUint32(h, PageSize)
	}
	for _, b := range h {
		m.push(b)
	}
}

func (m *model) insert(p *Prepared, xid uint32) (start, end LSN) {
	m.header(0)
	start = m.at
	rec := bytes.Clone(p.finish(xid, m.prev))
	for i, b := range rec {
		m.header(len(rec) - i)
		m.push(b)
	}
	for m.at%8 != 0 {
		m.push(0)
	}
	m.prev = start
	return start, m.at
}
