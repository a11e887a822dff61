package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A CorruptError says that the log is damaged before its end: At cannot be read, and yet it is known
// to have been durable once. Such a log is never cut there.
type CorruptError struct {
	At      LSN
	Segment string
	Reason  string
	Proof   string // how we know that the log goes on behind it
	Fault   Fault
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("WAL is corrupt at %s in segment %s: %s; %s", e.At, e.Segment, e.Reason, e.Proof)
}

// A MissingError says that a segment is missing in the middle of the log.
type MissingError struct {
	Segment, Later string
	Fault          Fault
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("WAL segment %s is missing, but the later segment %s is there", e.Segment, e.Later)
}

// An Ending is where the log ends, and why it does not go on.
type Ending struct {
	End
	Reason string
}

// A Scan finds the end of a log after a stop of any kind.
type Scan struct {
	Dir     *Dir
	History History // of the newest timeline
	Start   LSN     // of the first record to read: a checkpoint's redo position
	Prev    LSN     // start of the record before, or 0 if not known

	// Durable is the end of a record that is known to have been flushed, such as a checkpoint's, or
	// 0. Before it, anything unreadable is corruption. A position inside a record will not do: the
	// record may be torn behind it.
	Durable LSN

	// Witness returns how far the log was durable on this node when the record was written, as the
	// record itself says (Writer.Flushed), or 0. It tells a torn tail from corruption: after a power
	// failure later pages may have reached the disk and earlier ones not, so a valid record behind an
	// invalid one proves nothing unless it knew of a flush past it. Nil if another node wrote the log.
	Witness func(Record) LSN

	// Each is called for every record that is read, if not nil.
	Each func(Record) error
}

// Find reads the log up to its end. The error is a *CorruptError or *MissingError if the log does
// not merely end; otherwise what is at the end, a torn record or the stale bytes of a recycled
// segment, is given as the reason.
func (s *Scan) Find() (Ending, error) {
	raw := NewRawReader(s.Dir, s.History, nil)
	defer raw.Close()
	r := NewReader(raw, s.Start, s.Prev)
	end := End{LSN: s.Start, Prev: s.Prev, Timeline: s.History.Timeline}
	for {
		rec, ok, err := r.Next(^LSN(0))
		switch {
		case err != nil:
			return s.ended(end, r, err)
		case !ok:
			return Ending{}, fmt.Errorf("read WAL at %s: no progress", r.Decoder().Pos())
		}
		end.LSN, end.Prev = rec.End, rec.LSN
		if s.Each != nil {
			if err := s.Each(rec); err != nil {
				return Ending{}, fmt.Errorf("WAL record at %s: %w", rec.LSN, err)
			}
		}
	}
}

// ended decides what the failure to read on means.
func (s *Scan) ended(end End, r *Reader, cause error) (Ending, error) {
	if invalid, ok := errors.AsType[*InvalidError](cause); ok {
		return s.judged(end, invalid)
	}
	if IsDamage(cause) {
		return Ending{}, &CorruptError{At: end.LSN, Segment: r.raw.name(), Reason: cause.Error(), Proof: "no crash leaves a segment so",
			Fault: s.unread(end, r.Decoder().Pos(), cause.Error())}
	}
	removed, ok := errors.AsType[*RemovedError](cause)
	if !ok {
		return Ending{}, cause
	}
	at := r.Decoder().Pos()
	if later, err := s.laterSegment(s.Dir.Format.SegmentSize.Segno(at)); err != nil {
		return Ending{}, err
	} else if later != "" {
		return Ending{}, &MissingError{Segment: removed.Segment, Later: later, Fault: s.unread(end, at, removed.Error())}
	}
	return s.judged(end, &InvalidError{At: end.LSN, To: at, Reason: fmt.Sprintf("segment %s does not exist", removed.Segment)})
}

// unread is what is wrong when the segment of at cannot be read at all.
func (s *Scan) unread(end End, at LSN, reason string) Fault {
	size := s.Dir.Format.SegmentSize
	return Fault{From: end.LSN, Prev: end.Prev, To: size.SegmentStart(at) + LSN(size), Reason: reason}
}

// judged is the end of a log behind which nothing can be read, unless there is proof that it went on.
func (s *Scan) judged(end End, bad *InvalidError) (Ending, error) {
	proof, err := s.proof(end.LSN, bad)
	if err != nil {
		return Ending{}, err
	}
	if proof != "" {
		size := s.Dir.Format.SegmentSize
		segno := size.Segno(bad.At)
		name := size.FileName(s.History.FileTimeline(segno, size), segno)
		fault := Fault{From: end.LSN, Prev: end.Prev, To: bad.To, Reason: bad.Reason}
		return Ending{}, &CorruptError{At: bad.At, Segment: name, Reason: bad.Reason, Proof: proof, Fault: fault}
	}
	return Ending{End: end, Reason: bad.Reason}, nil
}

// proof says how we know that the log once went on past its last readable record, which ends at
// end; empty if we do not. Three things prove it: that we are told, a segment behind the bad place
// (see sink: nothing is written there before what comes earlier is durable), or a witness.
func (s *Scan) proof(end LSN, bad *InvalidError) (string, error) {
	if end < s.Durable {
		return fmt.Sprintf("the log had been flushed to %s", s.Durable), nil
	}
	later, err := s.laterSegment(s.Dir.Format.SegmentSize.Segno(bad.To))
	if err != nil || later != "" {
		return fmt.Sprintf("segment %s behind it is in use", later), err
	}
	if s.Witness == nil {
		return "", nil
	}
	rec, flushed, err := s.witness(end, bad)
	if err != nil || flushed == 0 {
		return "", err
	}
	return fmt.Sprintf("the record at %s was written after a flush to %s", rec, flushed), nil
}

// witness looks behind the bad place for a whole, valid record that knew of a flush past end. It
// searches to the end of the next segment: further on, laterSegment has looked.
func (s *Scan) witness(end LSN, bad *InvalidError) (rec, flushed LSN, err error) {
	raw := NewRawReader(s.Dir, s.History, nil)
	defer raw.Close()
	f := s.Dir.Format
	limit := f.SegmentSize.Start(f.SegmentSize.Segno(bad.To) + 2)
	b := make([]byte, PageSize)
	for page := bad.At &^ (PageSize - 1); page < limit; page += PageSize {
		if ok, err := readFull(raw, b, page); !ok {
			return 0, 0, err
		}
		if _, err := parsePageHeader(b, page, f.SegmentSize, f.SystemID, f.Version); err != nil {
			continue
		}
		for at := page + LSN(pageHeaderSize(page, f.SegmentSize)); at < page+PageSize; at += 8 {
			if !couldFollow(b[at-page:], at, bad.At) {
				continue
			}
			r, ok, err := recordAt(raw, at)
			if err != nil {
				return 0, 0, err
			}
			if !ok {
				continue
			}
			if w := s.Witness(r); w > end && w <= at {
				return at, w, nil
			}
		}
	}
	return 0, 0, nil
}

// couldFollow reports whether b, at position at, looks like the header of a record behind the bad
// one. Such a record's predecessor is the bad one or comes after it, which no record that a client
// has stored inside a value can claim. b may end inside the header.
func couldFollow(b []byte, at, bad LSN) bool {
	if n := binary.LittleEndian.Uint32(b); at <= bad || n < recordHeaderSize || n > MaxRecordSize {
		return false
	}
	if len(b) < 16 {
		return true
	}
	prev := LSN(binary.LittleEndian.Uint64(b[8:]))
	return prev >= bad && prev < at
}

// recordAt decodes the record that starts at at, if one does.
func recordAt(raw *RawReader, at LSN) (rec Record, ok bool, err error) {
	d := NewDecoder(raw.dir.Format, at, 0)
	chunk := make([]byte, PageSize)
	for {
		rec, ok, err := d.Next()
		if ok || err != nil {
			return rec, ok, nil
		}
		b := chunk[:PageSize-d.Pos()%PageSize]
		if ok, err := readFull(raw, b, d.Pos()); !ok {
			return Record{}, false, err
		}
		d.Feed(b)
	}
}

// readFull fills b from the log at at, inside one segment. ok is false if the segment does not exist.
func readFull(raw *RawReader, b []byte, at LSN) (ok bool, err error) {
	n, err := raw.ReadAt(b, at)
	if _, removed := errors.AsType[*RemovedError](err); removed {
		return false, nil
	}
	return n == len(b), err
}

// laterSegment names a segment behind segno that has been in use: its first page carries its own
// address, which neither zeros nor a recycled file does.
func (s *Scan) laterSegment(segno uint64) (string, error) {
	files, err := s.Dir.Segments()
	if err != nil {
		return "", err
	}
	raw := NewRawReader(s.Dir, s.History, nil)
	defer raw.Close()
	format := s.Dir.Format
	b := make([]byte, longPageHeaderSize)
	for _, f := range files {
		if f.Segno <= segno || f.Timeline != s.History.FileTimeline(f.Segno, format.SegmentSize) {
			continue
		}
		start := format.SegmentSize.Start(f.Segno)
		if ok, err := readFull(raw, b, start); err != nil {
			return "", err
		} else if !ok {
			continue
		}
		if _, err := parsePageHeader(b, start, format.SegmentSize, format.SystemID, format.Version); err == nil {
			return f.Name, nil
		}
	}
	return "", nil
}
