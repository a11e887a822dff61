package walreceiver

import (
	"fmt"

	"github.com/longship-db/longship/wal"
)

// A mark is a place at which the log ends and can be taken up again.
type mark struct {
	wal.End

	// Pad is the end of the segment if the last record is a SWITCH: the bytes from LSN up to it are
	// zero, page headers included. Elsewhere it is not past LSN.
	Pad wal.LSN
}

// A verifier checks the bytes of a stream as they come and hands out those that may be written: whole
// records with all that belongs to them. What is left over of a record stays in memory until the
// record is complete, so at most one record is held.
type verifier struct {
	format  wal.Format
	history wal.History // of the timeline that is streamed

	end  mark         // of what has been handed out or is about to be
	last mark         // of the last whole record; past end while its padding has not come
	next wal.LSN      // of the next byte expected
	dec  *wal.Decoder // stands at next, or at end.Pad if that is later

	held []byte // the bytes from the last end handed out up to next
	out  int    // how many bytes of held were handed out by the last add

	// During one add.
	from wal.LSN
	all  []byte // the bytes from from on
}

// newVerifier continues at from a log of the timeline that h describes. If the record before from is
// not known, what continues there from an earlier page cannot be checked and is taken as it is.
func newVerifier(f wal.Format, h wal.History, from mark) *verifier {
	return &verifier{
		format:  f,
		history: h,
		end:     from,
		last:    from,
		next:    from.LSN,
		dec:     wal.NewDecoder(f, max(from.LSN, from.Pad), from.Prev),
	}
}

// maxIdleHeld is how much memory is kept between records.
const maxIdleHeld = 1 << 20

// add checks the bytes at next and returns what may be written now, from the previous end on, valid
// until the next call. An error is final; it concerns what follows the bytes returned with it.
func (v *verifier) add(p []byte) (ready []byte, err error) {
	v.dropReady()
	v.from, v.all = v.end.LSN, p
	holding := len(v.held) > 0
	if holding {
		v.held = append(v.held, p...)
		v.all = v.held
	}
	err = v.check(p)
	n := int(v.end.LSN - v.from)
	if holding {
		v.out = n
	} else {
		v.held = append(v.held, p[n:]...)
	}
	ready, v.all = v.all[:n], nil
	return ready, err
}

// dropReady forgets what the last add handed out.
func (v *verifier) dropReady() {
	if v.out > 0 {
		v.held = v.held[:copy(v.held, v.held[v.out:])]
		v.out = 0
	}
	if len(v.held) == 0 && cap(v.held) > maxIdleHeld {
		v.held = nil
	}
}

// check verifies p, the bytes at next, and moves next and end.
func (v *verifier) check(p []byte) error {
	if v.next < v.last.LSN {
		n := min(wal.LSN(len(p)), v.last.LSN-v.next)
		if err := v.zero(v.next, p[:n]); err != nil {
			return err
		}
	}
	for len(p) > 0 {
		var n int
		var err error
		if v.next < v.last.Pad {
			n = int(min(wal.LSN(len(p)), v.last.Pad-v.next))
			err = v.zero(v.next, p[:n])
			v.last.LSN = v.next + wal.LSN(n)
		} else {
			n, err = v.records(p)
		}
		if err != nil {
			return err
		}
		v.next += wal.LSN(n)
		p = p[n:]
		if v.last.LSN <= v.next {
			v.end = v.last
		}
	}
	return nil
}

// records feeds the decoder and notes each whole record. It returns how many bytes of p it has dealt
// with: all, unless there is a SWITCH among them.
func (v *verifier) records(p []byte) (int, error) {
	v.dec.Feed(p)
	for {
		rec, ok, err := v.dec.Next()
		if err != nil {
			return 0, err
		}
		if err := v.timeline(v.dec.Timeline()); err != nil {
			return 0, err
		}
		if !ok {
			return len(p), nil
		}
		if rec.IsXLOG(wal.XLOGSwitch) {
			return v.switchRecord(rec)
		}
		if err := v.padding(rec); err != nil {
			return 0, err
		}
		v.last = mark{End: wal.End{LSN: rec.End, Prev: rec.LSN, Timeline: v.history.Timeline}}
		if rec.End <= v.from+wal.LSN(len(v.all)) {
			v.end = v.last
		}
	}
}

// timeline checks the timeline of the last page header, 0 if there was none yet. A stream may begin
// before its timeline does: up to there the pages are an ancestor's, and so is the page in which the
// timeline begins.
func (v *verifier) timeline(tli wal.TimelineID) error {
	_, related := v.history.End(tli)
	firstPage := (v.history.Begin(v.history.Timeline) + wal.PageSize - 1) &^ (wal.PageSize - 1)
	passed := v.next >= firstPage+longPageHeader // the header of a page of our own timeline
	if tli == 0 || tli == v.history.Timeline || related && !passed {
		return nil
	}
	return v.invalid(v.next, fmt.Sprintf("unexpected timeline ID %d in a stream of timeline %d", tli, v.history.Timeline))
}

// padding checks what has come of the up to seven bytes between a record and the next: no checksum
// covers them.
func (v *verifier) padding(rec wal.Record) error {
	begin := rec.End - wal.LSN(-rec.TotLen&7)
	end := min(rec.End, v.from+wal.LSN(len(v.all)))
	if begin >= end {
		return nil
	}
	return v.zero(begin, v.all[begin-v.from:end-v.from])
}

func (v *verifier) switchRecord(rec wal.Record) (int, error) {
	if rec.TotLen != switchLen {
		return 0, v.invalid(rec.LSN, fmt.Sprintf("SWITCH record of %d bytes", rec.TotLen))
	}
	after := switchEnd(rec.LSN, v.format.SegmentSize)
	v.last = mark{End: wal.End{LSN: after, Prev: rec.LSN, Timeline: v.history.Timeline}, Pad: rec.End}
	v.dec = wal.NewDecoder(v.format, rec.End, rec.LSN)
	return int(after - v.next), nil
}

func (v *verifier) zero(at wal.LSN, p []byte) error {
	if i := wal.NonZero(p); i >= 0 {
		return v.invalid(at+wal.LSN(i), "a byte between records is not zero")
	}
	return nil
}

func (v *verifier) invalid(at wal.LSN, reason string) error {
	return &wal.InvalidError{At: at, Reason: fmt.Sprintf("%s at %s", reason, at)}
}

// Sizes of headers (xlog_internal.h, xlogrecord.h). The first page of a segment has the long form. A
// SWITCH record is a bare record header.
const (
	shortPageHeader = 24
	longPageHeader  = 40
	switchLen       = 24
)

// switchEnd is the position behind a SWITCH record that starts at at: what the decoder says is its
// end includes the rest of the segment.
func switchEnd(at wal.LSN, size wal.SegmentSize) wal.LSN {
	room := wal.PageSize - at%wal.PageSize
	switch {
	case switchLen <= room:
		return at + switchLen
	case size.Offset(at+room) == 0:
		return at + switchLen + longPageHeader
	default:
		return at + switchLen + shortPageHeader
	}
}
