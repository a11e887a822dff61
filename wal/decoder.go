package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// An InvalidError says where the log stops making sense and why. At is the position of the record
// or page that is not what it should be: everything before it has been checked. What is wrong lies
// before To, in a record that has been read as far as To or a page header that ends there.
type InvalidError struct {
	At, To LSN
	Reason string
}

func (e *InvalidError) Error() string { return e.Reason }

// A Format is what a reader must know of a log before the first byte.
type Format struct {
	Version     Version
	SegmentSize SegmentSize
	SystemID    uint64 // 0: any
}

// A Decoder turns the bytes of a log, fed in any portions, into records. It checks page headers,
// record headers, the chain of previous positions and CRCs, and holds at most one record's bytes.
// The same decoder verifies what a standby receives, replays it, finds the end of the log and
// prints it.
//
// Use: Feed some bytes, call Next until it reports that it needs more, Feed again.
type Decoder struct {
	format  Format
	history *History // nil: page headers may carry any timelines that do not go back
	strict  bool     // see Strict
	pos     LSN      // of the first byte of in
	in      []byte   // fed and not yet consumed; belongs to the feeder unless it is in own
	own     []byte   // what was left over from an earlier Feed, with the new bytes after it

	prev     LSN // start of the last record; 0: not known, or none
	last     Record
	timeline TimelineID // of the last page header
	started  bool       // a record has been found: from here on each must follow the one before

	rec     []byte // the first bytes of a record that crosses pages
	recAt   LSN
	recLen  uint32 // 0: no record is being put together
	skip    uint32 // bytes of a continued record to pass over, at the start
	skipTo  LSN    // pass over everything before: the rest of the segment after a SWITCH
	padded  Record // if strict: decoded, and not returned before all up to skipTo is there; its LSN is 0 if there is none
	failure error
}

// NewDecoder returns a decoder for a log from start on. If start is the first byte of a page, what
// continues there from an earlier page is passed over. prev is the start of the record before, or 0
// if it is not known.
func NewDecoder(f Format, start, prev LSN) *Decoder {
	return &Decoder{format: f, pos: start, prev: prev, started: prev != 0, last: Record{End: start}}
}

// Follow has page headers carry the timelines that h says. It is called before the first Feed.
func (d *Decoder) Follow(h History) { d.history = &h }

// Strict has it demand zeros where no checksum covers the bytes: between two records, and behind a SWITCH. Who only
// reads the log can do without, but a standby takes nothing else. It is called before the first Feed.
func (d *Decoder) Strict() { d.strict = true }

// Pos is the position of the next byte to feed.
func (d *Decoder) Pos() LSN { return d.pos + LSN(len(d.in)) }

// End is the end of the last whole record, where the log could be continued; the start position
// before the first. Prev is that record's start.
func (d *Decoder) End() LSN  { return d.last.End }
func (d *Decoder) Prev() LSN { return d.prev }

// Timeline is that of the last page header seen, or 0.
func (d *Decoder) Timeline() TimelineID { return d.timeline }

// Partial reports whether the decoder has been fed a part of a record, which starts at at.
func (d *Decoder) Partial() (at LSN, ok bool) {
	if d.recLen != 0 {
		return d.recAt, true
	}
	return d.pos, len(d.in) > 0 && d.pos >= d.skipTo && d.skip == 0 && d.pos%PageSize != 0
}

// Feed adds the bytes at Pos. They must not change before Next has reported that it needs more.
func (d *Decoder) Feed(p []byte) {
	if len(d.in) == 0 {
		d.in = p
		return
	}
	d.own = append(append(d.own[:0], d.in...), p...)
	d.in = d.own
}

// Next returns the next record. ok is false when more bytes are needed. An error is an
// *InvalidError and final. The record's Data is valid until the next call of Feed or Next.
func (d *Decoder) Next() (rec Record, ok bool, err error) {
	if d.failure != nil {
		return Record{}, false, d.failure
	}
	for {
		progress, rec, err := d.step()
		if err != nil {
			d.failure = err
			return Record{}, false, err
		}
		if rec != nil {
			return *rec, true, nil
		}
		if !progress {
			d.keepRest()
			return Record{}, false, nil
		}
	}
}

// keepRest copies what was not consumed, since the feeder may reuse its buffer.
func (d *Decoder) keepRest() {
	d.own = append(d.own[:0], d.in...)
	d.in = d.own
}

func (d *Decoder) consume(n int) []byte {
	b := d.in[:n]
	d.in = d.in[n:]
	d.pos += LSN(n)
	return b
}

func invalidRecord(at, to LSN, format string, args ...any) error {
	return &InvalidError{At: at, To: to, Reason: fmt.Sprintf(format, args...)}
}

// step does one thing: skip, read a page header, go on with a record, or begin one.
func (d *Decoder) step() (progress bool, rec *Record, err error) {
	switch {
	case d.pos < d.skipTo:
		return d.pass()
	case d.pos%PageSize == 0:
		return d.pageHeader()
	case d.skip > 0:
		n := min(len(d.in), int(d.skip), d.pageRest())
		d.consume(n)
		d.skip -= uint32(n)
		return n > 0, nil, nil
	case d.recLen != 0:
		return d.continueRecord()
	default:
		return d.beginRecord()
	}
}

// pass passes over bytes before skipTo.
func (d *Decoder) pass() (progress bool, rec *Record, err error) {
	at := d.pos
	b := d.consume(min(len(d.in), int(d.skipTo-d.pos)))
	if d.padded.LSN == 0 {
		return len(b) > 0, nil, nil
	}
	if err := d.zero(d.padded.LSN, at, b); err != nil {
		return false, nil, err
	}
	if d.pos < d.skipTo {
		return len(b) > 0, nil, nil
	}
	rec = d.found(d.padded)
	d.padded = Record{}
	return true, rec, nil
}

// zero demands that the bytes at at, which belong to the record at rec, are zero.
func (d *Decoder) zero(rec, at LSN, b []byte) error {
	if i := NonZero(b); d.strict && i >= 0 {
		at += LSN(i)
		return invalidRecord(rec, at+1, "a byte between records is not zero at %s", at)
	}
	return nil
}

// pageRest is how many bytes are left on the current page.
func (d *Decoder) pageRest() int { return int(PageSize - d.pos%PageSize) }

func (d *Decoder) pageHeader() (progress bool, rec *Record, err error) {
	size := pageHeaderSize(d.pos, d.format.SegmentSize)
	if len(d.in) < size {
		return false, nil, nil
	}
	at := d.pos
	h, err := parsePageHeader(d.in, at, d.format.SegmentSize, d.format.SystemID, d.format.Version)
	if err != nil {
		return false, nil, d.invalidPage(at, err.Error())
	}
	if h.Timeline < d.timeline {
		return false, nil, d.invalidPage(at, fmt.Sprintf("out-of-sequence timeline ID %d (after %d)", h.Timeline, d.timeline))
	}
	if d.history != nil && h.Timeline != d.history.At(at) {
		return false, nil, d.invalidPage(at, fmt.Sprintf("unexpected timeline ID %d, want %d,", h.Timeline, d.history.At(at)))
	}
	continued := h.Info&pageFirstIsContrecord != 0
	switch {
	case d.recLen != 0 && h.Info&pageFirstIsOverwriteContrecord != 0:
		d.recLen, d.rec = 0, d.rec[:0] // its writer abandoned the record: nothing of it counts
	case d.recLen != 0 && !continued:
		return false, nil, d.invalidPage(at, "there is no contrecord flag")
	case d.recLen != 0 && h.RemLen != d.recLen-uint32(len(d.rec)):
		return false, nil, d.invalidPage(at, fmt.Sprintf("invalid contrecord length %d (expected %d)", h.RemLen, d.recLen-uint32(len(d.rec))))
	case d.recLen == 0 && continued && d.skip == 0:
		if d.started {
			return false, nil, d.invalidPage(at, "unexpected contrecord flag")
		}
		d.skip = align8(h.RemLen)
	case d.skip > 0 && !continued:
		d.skip = 0 // the record we were passing over was abandoned
	case d.skip > 0:
		d.skip = align8(h.RemLen) // PostgreSQL, too, believes each page
	}
	d.timeline = h.Timeline
	d.consume(size)
	return true, nil, nil
}

// invalidPage blames the record being put together, if there is one: the log can be good up to its
// start only.
func (d *Decoder) invalidPage(at LSN, reason string) error {
	segno := d.format.SegmentSize.Segno(at)
	reason = fmt.Sprintf("%s in log segment %d, offset %d", reason, segno, d.format.SegmentSize.Offset(at))
	to := at + LSN(pageHeaderSize(at, d.format.SegmentSize))
	if d.recLen != 0 {
		at = d.recAt
	}
	return &InvalidError{At: at, To: to, Reason: reason}
}

func (d *Decoder) beginRecord() (progress bool, rec *Record, err error) {
	if len(d.in) < 8 {
		return false, nil, nil
	}
	at, n := d.pos, binary.LittleEndian.Uint32(d.in)
	if n < recordHeaderSize || n > MaxRecordSize {
		return false, nil, invalidRecord(at, at+8, "invalid record length at %s: wanted %d, got %d", at, recordHeaderSize, n)
	}
	if int(align8(n)) <= d.pageRest() {
		if len(d.in) < int(align8(n)) {
			return false, nil, nil
		}
		b, padding := d.in[:n], d.in[n:align8(n)]
		if err := d.checkHeader(b, at); err != nil {
			return false, nil, err
		}
		if err := d.zero(at, at+LSN(n), padding); err != nil {
			return false, nil, err
		}
		d.consume(int(align8(n)))
		rec, err = d.complete(b, at)
		return true, rec, err
	}
	d.recAt, d.recLen, d.rec = at, n, d.rec[:0]
	return d.continueRecord()
}

// continueRecord collects a record that crosses pages. Its header is checked as soon as it is
// there: until then the length is only a claim, so nothing is allocated ahead of the bytes.
func (d *Decoder) continueRecord() (progress bool, rec *Record, err error) {
	had := len(d.rec)
	want := int(d.recLen) - had
	n := min(len(d.in), want, d.pageRest())
	if n == 0 {
		return false, nil, nil
	}
	d.rec = append(d.rec, d.consume(n)...)
	if had < recordHeaderSize && len(d.rec) >= recordHeaderSize {
		if err := d.checkHeader(d.rec, d.recAt); err != nil {
			return false, nil, err
		}
	}
	if n < want {
		return true, nil, nil
	}
	d.recLen = 0
	// The padding never reaches into the next page: both are multiples of eight.
	d.skipTo = align8(d.pos)
	rec, err = d.complete(d.rec, d.recAt)
	if err != nil {
		d.recLen = uint32(len(d.rec)) // still inside it, for Partial
	}
	return true, rec, err
}

func (d *Decoder) checkHeader(h []byte, at LSN) error {
	to := at + recordHeaderSize
	if rest := PageSize - at%PageSize; rest < recordHeaderSize {
		to += LSN(pageHeaderSize(at+rest, d.format.SegmentSize))
	}
	if err := checkRecordHeader(h, at); err != nil {
		return invalidRecord(at, to, "%v", err)
	}
	prev := LSN(binary.LittleEndian.Uint64(h[8:]))
	if d.started && prev != d.prev || !d.started && prev >= at {
		return invalidRecord(at, to, "record with incorrect prev-link %s at %s", prev, at)
	}
	return nil
}

func (d *Decoder) complete(b []byte, at LSN) (*Record, error) {
	rec, err := parseRecord(b, at)
	if err != nil {
		return nil, invalidRecord(at, align8(d.pos), "%v", err)
	}
	rec.End = align8(d.pos)
	if rec.IsXLOG(XLOGSwitch) {
		// The rest of the segment is zero, page headers included.
		size := d.format.SegmentSize
		if size.Offset(rec.End) != 0 {
			rec.End = size.SegmentStart(rec.End) + LSN(size)
		}
		d.skipTo = rec.End
	}
	if d.strict && d.pos < d.skipTo {
		d.padded = rec
		return nil, nil
	}
	return d.found(rec), nil
}

// found is the next record.
func (d *Decoder) found(rec Record) *Record {
	d.prev, d.started = rec.LSN, true
	d.last = rec
	return &d.last
}

// NonZero is the index of the first byte that is not zero, or -1.
func NonZero(p []byte) int {
	for i := 0; i < len(p); i += len(zeroPage) {
		part := p[i:min(i+len(zeroPage), len(p))]
		if bytes.Equal(part, zeroPage[:len(part)]) {
			continue
		}
		for j, b := range part {
			if b != 0 {
				return i + j
			}
		}
	}
	return -1
}
