package wal

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Buffered holds the newest part of the log in memory; a Writer does, and a RawWriter.
type Buffered interface {
	// ReadBuffered copies bytes from at on into p. ok is false if the byte at at is not in memory.
	// Then the files have it, and n-1 bytes after it: what follows may be in memory only. If n is 0
	// they have all of p.
	ReadBuffered(p []byte, at LSN) (n int, ok bool)
}

// A RawReader hands out the log's bytes as they are stored, page headers included: from the
// writer's buffer when they are still there, from the segment files when not. It is used by one
// goroutine.
type RawReader struct {
	dir     *Dir
	history History
	buf     Buffered // nil if nobody writes

	intact  bool              // refuses what is known to be damaged
	instead map[uint64]string // paths of files to read in place of some segments; may be nil

	file  vfs.File
	tli   TimelineID
	segno uint64
}

// A ShortError says that a segment's file ends before position At. No crash leaves it so: a segment is
// durable at its full size before it is used.
type ShortError struct {
	Segment string
	At      LSN
	Want    SegmentSize
}

func (e *ShortError) Error() string {
	return fmt.Sprintf("segment %s is shorter than %d bytes", e.Segment, e.Want)
}

// NewRawReader reads the log of the timeline that h describes, and of its ancestors below.
func NewRawReader(dir *Dir, h History, buf Buffered) *RawReader {
	return &RawReader{dir: dir, history: h, buf: buf}
}

// Intact has it refuse what is known to be damaged (Dir.SetDamaged), with a *DamagedError: for who hands bytes
// to others as they are. Who decodes them sees for himself.
func (r *RawReader) Intact() *RawReader {
	r.intact = true
	return r
}

// ReadAt reads bytes from position at on: as many as it can get at once, at least one. The caller
// knows that the log reaches at+len(p). A segment that is gone gives a *RemovedError.
func (r *RawReader) ReadAt(p []byte, at LSN) (int, error) {
	if r.buf != nil {
		n, ok := r.buf.ReadBuffered(p, at)
		if ok {
			return n, nil
		}
		if n > 0 {
			p = p[:n]
		}
	}
	size := r.dir.Format.SegmentSize
	if err := r.open(size.Segno(at)); err != nil {
		return 0, err
	}
	off := size.Offset(at)
	p = p[:min(int64(len(p)), int64(size)-off)]
	if r.intact {
		if err := r.dir.CheckIntact(r.tli, at, at+LSN(len(p))); err != nil {
			return 0, err
		}
	}
	n, err := r.file.ReadAt(p, off)
	if n < len(p) && (err == nil || errors.Is(err, io.EOF)) {
		return 0, &ShortError{Segment: r.name(), At: at, Want: size}
	}
	if err != nil && n < len(p) {
		return 0, fmt.Errorf("read segment %s at %s: %w", r.name(), at, err)
	}
	if r.segno < r.dir.RemovedBelow() {
		return 0, &RemovedError{Segment: r.name()} // it may have been recycled while we read
	}
	return n, nil
}

func (r *RawReader) name() string { return r.dir.Format.SegmentSize.FileName(r.tli, r.segno) }

func (r *RawReader) open(segno uint64) error {
	if r.file != nil && r.segno == segno {
		return nil
	}
	if err := r.Close(); err != nil {
		return err
	}
	r.tli, r.segno = r.history.FileTimeline(segno, r.dir.Format.SegmentSize), segno
	if segno < r.dir.RemovedBelow() {
		return &RemovedError{Segment: r.name()}
	}
	f, err := r.openFile(segno)
	if err != nil {
		return err
	}
	r.file = f
	return nil
}

func (r *RawReader) openFile(segno uint64) (vfs.File, error) {
	if path := r.instead[segno]; path != "" {
		return r.dir.FS.Open(path)
	}
	return r.dir.OpenSegment(r.tli, segno)
}

// Close closes the open file. The reader can be used again.
func (r *RawReader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}
