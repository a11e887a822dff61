package wal

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// A Fault is a place in a log that cannot be read.
type Fault struct {
	From   LSN    `json:"from"`   // end of the last record before it that can be read, or the first byte that was read
	Prev   LSN    `json:"prev"`   // start of that record; 0: there is none
	To     LSN    `json:"to"`     // what is wrong lies before
	Reason string `json:"reason"` // why nothing can be read there
}

// Segments are the first and the last segment that the fault may lie in.
func (f Fault) Segments(size SegmentSize) (first, last uint64) {
	return size.Segno(f.From), size.PrevSegno(max(f.To, f.From+1))
}

// FaultsBefore returns what is left of the faults of a log that is cut at end: none that begin there or behind.
func FaultsBefore(faults []Fault, end LSN) (left []Fault) {
	for _, f := range faults {
		if f.From < end {
			f.To = min(f.To, end)
			left = append(left, f)
		}
	}
	return left
}

// IsDamage reports whether err, with which reading the log failed, says that what is on the disk is not what was
// written there: it is garbled, cut, or the disk cannot read it. That a segment does not exist may mean more.
func IsDamage(err error) bool {
	_, invalid := errors.AsType[*InvalidError](err)
	_, short := errors.AsType[*ShortError](err)
	return invalid || short || errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG)
}

// A Scrubber reads segments again, one after the other, as a standby would that gets them: page headers, the chain of
// records, their CRCs, and the zeros between them. What is cached of them is dropped first, since it is the disk that is
// to be read, and dropped again, since nobody else asked for it. Nothing is read ahead. It is used by one
// goroutine, and holds the largest record in memory at most.
//
// Of a record that begins before the first segment there is, the rest is not checked: nobody could.
type Scrubber struct {
	raw *RawReader
	dec *Decoder
	buf []byte
}

// scrubChunk is how much is read at once.
const scrubChunk = 128 << 10

// NewScrubber reads the log of the timeline that h describes from segment segno on.
func NewScrubber(dir *Dir, h History, segno uint64) *Scrubber {
	s := &Scrubber{raw: NewRawReader(dir, h, nil), buf: make([]byte, scrubChunk)}
	s.place(End{LSN: dir.Format.SegmentSize.Start(segno)})
	return s
}

// place has reading go on behind a record, or at the first byte of a page.
func (s *Scrubber) place(at End) {
	s.dec = NewDecoder(s.raw.dir.Format, at.LSN, at.Prev)
	s.dec.Follow(s.raw.history)
	s.dec.Strict()
}

// Mended has reading go on where a fault was.
func (s *Scrubber) Mended(f Fault) { s.place(End{LSN: f.From, Prev: f.Prev}) }

// Skip has reading go on in the first segment behind a fault.
func (s *Scrubber) Skip(f Fault) {
	size := s.raw.dir.Format.SegmentSize
	_, last := f.Segments(size)
	s.place(End{LSN: size.Start(last + 1)})
}

// Close closes the file that is read.
func (s *Scrubber) Close() error { return s.raw.Close() }

// Segno is the segment that is read next.
func (s *Scrubber) Segno() uint64 { return s.raw.dir.Format.SegmentSize.Segno(s.dec.Pos()) }

// Step reads on, below limit, up to which the log is durable. It returns how much it has read: nothing when all is
// read. A fault is given as found: Mended or Skip must follow. The error is a *RemovedError when the segment has been
// removed meanwhile, and otherwise one of the machine.
func (s *Scrubber) Step(limit LSN) (n int, fault *Fault, err error) {
	at := s.dec.Pos()
	if at >= limit {
		return 0, nil, s.raw.Close()
	}
	n, err = s.read(s.buf[:min(LSN(len(s.buf)), limit-at)], at)
	if err != nil {
		fault, err = s.unread(at, err)
		return 0, fault, errors.Join(err, s.raw.Close())
	}
	s.dec.Feed(s.buf[:n])
	for {
		_, ok, err := s.dec.Next()
		if invalid, bad := errors.AsType[*InvalidError](err); bad {
			return n, s.fault(invalid.To, invalid.Reason), s.raw.Close()
		}
		if !ok {
			return n, nil, err
		}
	}
}

func (s *Scrubber) fault(to LSN, reason string) *Fault {
	return &Fault{From: s.dec.End(), Prev: s.dec.Prev(), To: to, Reason: reason}
}

// unread says what it means that a chunk cannot be read at all: the file is gone or cut, or the disk
// cannot read it.
func (s *Scrubber) unread(at LSN, cause error) (*Fault, error) {
	dir := s.raw.dir
	segno := dir.Format.SegmentSize.Segno(at)
	if segno < dir.RemovedBelow() {
		return nil, &RemovedError{Segment: s.raw.name()}
	}
	_, missing := errors.AsType[*RemovedError](cause)
	switch {
	case missing:
		return s.fault(dir.Format.SegmentSize.Start(segno+1), fmt.Sprintf("segment %s does not exist", s.raw.name())), nil
	case IsDamage(cause):
		return s.fault(dir.Format.SegmentSize.Start(segno+1), cause.Error()), nil
	}
	return nil, cause
}

// read reads a chunk of one segment, from the disk.
func (s *Scrubber) read(p []byte, at LSN) (int, error) {
	size := s.raw.dir.Format.SegmentSize
	before := s.raw.file
	if err := s.raw.open(size.Segno(at)); err != nil {
		return 0, err
	}
	if s.raw.file != before {
		advise(s.raw.file, 0, int64(size), unix.FADV_RANDOM)
	}
	if size.Segno(at) < s.raw.dir.RemovedBelow() { // the file may be a future segment's now, with bytes that are still to be written
		return 0, &RemovedError{Segment: s.raw.name()}
	}
	p = p[:min(int64(len(p)), int64(size)-size.Offset(at))]
	advise(s.raw.file, size.Offset(at), int64(len(p)), unix.FADV_DONTNEED)
	n, err := s.raw.ReadAt(p, at)
	if err == nil {
		advise(s.raw.file, size.Offset(at), int64(len(p)), unix.FADV_DONTNEED)
	}
	return n, err
}

// advise tells the kernel how a part of a file is used: FADV_DONTNEED drops what it has cached of it, FADV_RANDOM
// keeps it from reading ahead, through this opening of the file, what would only be dropped again. A failure is
// no matter.
func advise(f vfs.File, off, n int64, how int) {
	if fd := f.Fd(); fd != vfs.InvalidFd {
		unix.Fadvise(int(fd), off, n, how)
	}
}

// Oldest is the number of the first segment of the log that h describes, from which on it can be read.
// ok is false if there is none.
func (d *Dir) Oldest(h History) (segno uint64, ok bool, err error) {
	files, err := d.Segments()
	for _, f := range files {
		if f.Segno >= d.RemovedBelow() && f.Timeline == h.FileTimeline(f.Segno, d.Format.SegmentSize) {
			return f.Segno, true, nil
		}
	}
	return 0, false, err
}
