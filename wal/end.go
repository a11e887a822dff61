package wal

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A CorruptError says that the log is damaged before its end: At cannot be read, and yet it is known
// to have been durable once. Such a log is never cut there.
type CorruptError struct {
	At      LSN
	Segment string
	Reason  string
	Proof   string // how we know that the log goes on behind it
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("WAL is corrupt at %s in segment %s: %s; %s", e.At, e.Segment, e.Reason, e.Proof)
}

// A MissingError says that a segment is missing in the middle of the log.
type MissingError struct{ Segment, Later string }

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

	// Durable is a position that the log is known to have been flushed to. Before it, anything
	// unreadable is corruption.
	Durable LSN

	// Witness returns how far the log was durable on this node when the record was written, as the
	// record itself says, or 0. It tells a torn tail from corruption: after a power failure later
	// pages may have reached the disk and earlier ones not, so a valid record behind an invalid one
	// proves nothing unless it knew of a flush past it. Nil if another node wrote the log.
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
	size := s.Dir.Format.SegmentSize
	if invalid, ok := errors.AsType[*InvalidError](cause); ok {
		at := max(invalid.At, end.LSN)
		proof, err := s.proof(end.LSN, at)
		if err != nil {
			return Ending{}, err
		}
		if proof != "" {
			segno := size.Segno(at)
			name := size.FileName(s.History.FileTimeline(segno, size), segno)
			return Ending{}, &CorruptError{At: at, Segment: name, Reason: invalid.Reason, Proof: proof}
		}
		return Ending{End: end, Reason: invalid.Reason}, nil
	}
	if removed, ok := errors.AsType[*RemovedError](cause); ok {
		if later, err := s.laterSegment(size.Segno(r.Decoder().Pos())); err != nil {
			return Ending{}, err
		} else if later != "" {
			return Ending{}, &MissingError{Segment: removed.Segment, Later: later}
		}
		if end.LSN < s.Durable {
			return Ending{}, &CorruptError{At: end.LSN, Segment: removed.Segment, Reason: "the segment is missing", Proof: fmt.Sprintf("the log had been flushed to %s", s.Durable)}
		}
		return Ending{End: end, Reason: fmt.Sprintf("segment %s does not exist", removed.Segment)}, nil
	}
	return Ending{}, cause
}

// proof says how we know that the log once went on past its last readable record, which ends at
// end; empty if we do not. at is where the unreadable part begins.
func (s *Scan) proof(end, at LSN) (string, error) {
	if end < s.Durable {
		return fmt.Sprintf("the log had been flushed to %s", s.Durable), nil
	}
	if s.Witness == nil {
		return "", nil
	}
	// Behind a bad record its own page and the next segment are searched closely, later segments at
	// their first page: a log that goes on has no larger holes.
	size := s.Dir.Format.SegmentSize
	last := size.Segno(at) + 1
	for at = align8(at + 1); size.Segno(at) <= last; {
		rec, next, err := s.search(at, size.Start(last+1))
		if err != nil || rec.End == 0 {
			return "", err
		}
		if w := s.Witness(rec); w > end {
			return fmt.Sprintf("the record at %s was written after a flush to %s", rec.LSN, w), nil
		}
		at = next
	}
	later, err := s.laterSegment(last)
	if err != nil || later == "" {
		return "", err
	}
	return fmt.Sprintf("segment %s behind it is in use", later), nil
}

// search finds the first whole, valid record from at on, whatever came before it, and where to look
// for the next.
func (s *Scan) search(at, limit LSN) (rec Record, next LSN, err error) {
	size := s.Dir.Format.SegmentSize
	for at < limit {
		page := at &^ (PageSize - 1)
		valid, err := s.validPage(page)
		if err != nil {
			return Record{}, 0, err
		}
		if !valid {
			at = page + PageSize
			continue
		}
		at = max(at, page+LSN(pageHeaderSize(page, size)))
		for ; at < page+PageSize; at += 8 {
			rec, err := s.recordAt(at)
			if err != nil {
				return Record{}, 0, err
			}
			if rec.End != 0 {
				return rec, rec.End, nil
			}
		}
	}
	return Record{}, limit, nil
}

func (s *Scan) validPage(page LSN) (bool, error) {
	b := make([]byte, longPageHeaderSize)
	if ok, err := s.read(b, page); !ok {
		return false, err
	}
	f := s.Dir.Format
	_, err := parsePageHeader(b, page, f.SegmentSize, f.SystemID, f.Version)
	return err == nil, nil
}

// recordAt decodes the record that starts at at; its End is 0 if none does.
func (s *Scan) recordAt(at LSN) (Record, error) {
	header := make([]byte, 8)
	if ok, err := s.read(header, at); !ok {
		return Record{}, err
	}
	n := uint32(header[0]) | uint32(header[1])<<8 | uint32(header[2])<<16 | uint32(header[3])<<24
	if n < recordHeaderSize || n > MaxRecordSize {
		return Record{}, nil
	}
	d := NewDecoder(s.Dir.Format, at, 0)
	chunk := make([]byte, PageSize)
	for {
		rec, ok, err := d.Next()
		if ok {
			rec.Data = append([]byte(nil), rec.Data...)
			return rec, nil
		}
		if err != nil {
			return Record{}, nil
		}
		n := PageSize - d.Pos()%PageSize
		if ok, err := s.read(chunk[:n], d.Pos()); !ok {
			return Record{}, err
		}
		d.Feed(chunk[:n])
	}
}

// read fills b from the log at at, inside one segment. ok is false if the segment does not exist.
func (s *Scan) read(b []byte, at LSN) (ok bool, err error) {
	raw := NewRawReader(s.Dir, s.History, nil)
	defer raw.Close()
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
	size := s.Dir.Format.SegmentSize
	for _, f := range files {
		if f.Segno <= segno || f.Timeline != s.History.FileTimeline(f.Segno, size) {
			continue
		}
		used, err := s.validPage(size.Start(f.Segno))
		if err != nil {
			return "", err
		}
		if used {
			return f.Name, nil
		}
	}
	return "", nil
}

// ProveTail makes durable, for certain, what is readable from position from up to end: it writes the
// same bytes again and syncs the files and the folder. After a crash the kernel may hold pages as
// clean that never reached the disk, so reading them back, or syncing them, proves nothing.
// Everything behind end on its page, and on the pages of its segment that follow, becomes zero.
func ProveTail(dir *Dir, h History, from, end LSN) error {
	size := dir.Format.SegmentSize
	for at := size.SegmentStart(from); at < end; at += LSN(size) {
		if err := proveSegment(dir, h, max(at, from), end); err != nil {
			return err
		}
	}
	return SyncDir(dir.FS, dir.Path)
}

func proveSegment(dir *Dir, h History, from, end LSN) error {
	size := dir.Format.SegmentSize
	segno := size.Segno(from)
	name := size.FileName(h.FileTimeline(segno, size), segno)
	f, err := dir.FS.OpenReadWrite(dir.file(name), diskCategory)
	if err != nil {
		return fmt.Errorf("prove segment %s: %w", name, err)
	}
	segEnd := size.Start(segno + 1)
	err = rewrite(f, size.Offset(from), int64(min(end, segEnd)-from))
	if err == nil && end < segEnd {
		err = writeZerosAt(f, size.Offset(end), int64(segEnd-end))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("prove segment %s: %w", name, err)
	}
	return nil
}

func rewrite(f vfs.File, off, n int64) error {
	b := make([]byte, min(n, 1<<20))
	for n > 0 {
		b = b[:min(int64(len(b)), n)]
		if _, err := f.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}

func writeZerosAt(f vfs.File, off, n int64) error {
	b := make([]byte, min(n, 1<<20))
	for n > 0 {
		b = b[:min(int64(len(b)), n)]
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}
