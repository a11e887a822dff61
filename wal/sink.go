package wal

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// A SyncMethod is how written WAL is forced to disk (wal_sync_method).
type SyncMethod string

// The methods of PostgreSQL on Linux. With the open ones each write is durable when it returns.
const (
	SyncFdatasync    SyncMethod = "fdatasync"
	SyncFsync        SyncMethod = "fsync"
	SyncOpenDatasync SyncMethod = "open_datasync"
	SyncOpenSync     SyncMethod = "open_sync"
)

// An IOError is a failed write or sync of an existing segment. What the file holds is unknown and
// will stay so: the process has to end and recover.
type IOError struct{ Err error }

func (e *IOError) Error() string { return fmt.Sprintf("WAL I/O failed: %v", e.Err) }
func (e *IOError) Unwrap() error { return e.Err }

// IsFatal reports whether err means that the process must not go on.
func IsFatal(err error) bool {
	_, ok := errors.AsType[*IOError](err)
	return ok
}

// A sink writes bytes of the log, in order, to their places in segment files and syncs them. One
// goroutine writes and one syncs; they may be two.
//
// A segment is synced when it is complete, before the first byte of the next is written. So a used
// page in one segment proves that all segments before it were durable: what cannot be read there
// has been damaged since, and is no torn tail.
//
// The first failure is the last word: whatever is asked later gets the same error. A later sync that
// succeeds would prove nothing of the bytes that failed.
type sink struct {
	dir      *Dir
	timeline func(segno uint64) TimelineID // whose file a segment is in
	method   SyncMethod

	// Owned by the writing goroutine.
	zeroed LSN    // the page before this position is zero behind the log's end
	block  []byte // for direct writes, of whichever segment; nil before the first is opened

	writing, synced stall // a write under way, and a sync

	syncing sync.Mutex // held during a sync, and while the file is closed; taken before mu

	mu    sync.Mutex
	file  syncFile // nil between segments; only the writing goroutine changes it
	segno uint64   // of file
	dirty bool     // written since the last sync began
	err   error    // the first failure
}

type syncFile interface {
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
	SyncData() error
	Close() error
}

// A durableFile is a segment opened for synchronous writes, which vfs.FS has no way to ask for.
type durableFile struct{ *os.File }

func (durableFile) Sync() error     { return nil }
func (durableFile) SyncData() error { return nil }

// write puts p at position at. The segments it touches exist. Bytes after the end of p on its last
// page become zero: a recycled file holds old records there, which must not look like ours.
func (s *sink) write(p []byte, at LSN) error {
	s.writing.begin()
	defer s.writing.end()
	size := s.dir.Format.SegmentSize
	for len(p) > 0 {
		n := min(len(p), int(int64(size)-size.Offset(at)))
		if err := s.writeSegment(p[:n], at); err != nil {
			return s.failWrite(at, err)
		}
		p, at = p[n:], at+LSN(n)
		if size.Offset(at) != 0 {
			continue
		}
		if err := s.endSegment(); err != nil {
			return err
		}
	}
	return nil
}

func (s *sink) writeSegment(p []byte, at LSN) error {
	size := s.dir.Format.SegmentSize
	f, err := s.open(size.Segno(at))
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(p, size.Offset(at)); err != nil {
		return err
	}
	end := at + LSN(len(p))
	if pageEnd := s.toZero(end); pageEnd > end {
		if _, err := f.WriteAt(zeroPage[:pageEnd-end], size.Offset(end)); err != nil {
			return err
		}
		s.zeroed = pageEnd
	}
	s.mu.Lock()
	s.dirty = true
	s.mu.Unlock()
	return nil
}

var zeroPage [PageSize]byte

// toZero is up to where zeros have to follow when the log's end is written.
func (s *sink) toZero(end LSN) LSN {
	if pageEnd := (end + PageSize - 1) &^ (PageSize - 1); s.zeroed < pageEnd {
		return pageEnd
	}
	return end
}

// writeThrough is write and sync for a small piece, past the page cache. It reports whether that could be done: not if
// the piece completes a segment, nor while there is something in the page cache that has not been synced.
func (s *sink) writeThrough(p []byte, at LSN) (done bool, err error) {
	size := s.dir.Format.SegmentSize
	off := size.Offset(at)
	if !s.dir.direct || len(p) > maxDirect || off+int64(len(p)) >= int64(size) {
		return false, nil
	}
	s.syncing.Lock() // a sync under way may fail yet
	defer s.syncing.Unlock()
	f, err := s.open(size.Segno(at))
	if err != nil {
		return false, s.failWrite(at, err)
	}
	d, ok := f.(*directFile)
	if !ok || s.isDirty() {
		return false, nil
	}
	s.writing.begin()
	defer s.writing.end()
	zeroed := s.toZero(at + LSN(len(p)))
	if err := d.writeThrough(p, off, off+int64(zeroed-at)); err != nil {
		return false, s.failWrite(at, err)
	}
	s.zeroed = max(s.zeroed, zeroed)
	return true, nil
}

func (s *sink) isDirty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty
}

// open returns the file of segment segno, opened when the log has moved on to it.
func (s *sink) open(segno uint64) (syncFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if s.file != nil && s.segno == segno {
		return s.file, nil
	}
	if s.file != nil {
		return nil, fmt.Errorf("the log jumped here from segment %s", s.name(s.segno))
	}
	f, err := s.openFile(s.dir.file(s.name(segno)))
	if err != nil {
		return nil, err
	}
	s.file, s.segno = f, segno
	return f, nil
}

// openFile opens a segment that exists at its full size: opening for writing would create it.
func (s *sink) openFile(path string) (syncFile, error) {
	info, err := s.dir.FS.Stat(path)
	if err != nil {
		return nil, err
	}
	if want := int64(s.dir.Format.SegmentSize); info.Size() != want {
		return nil, fmt.Errorf("the file has %d bytes, want %d", info.Size(), want)
	}
	flags := map[SyncMethod]int{SyncOpenDatasync: unix.O_DSYNC, SyncOpenSync: unix.O_SYNC}[s.method]
	if flags != 0 && s.dir.FS == vfs.Default {
		f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
		if err != nil {
			return nil, err
		}
		return durableFile{f}, nil
	}
	f, err := s.dir.FS.OpenReadWrite(path, diskCategory)
	if err != nil || !s.dir.direct || s.method != SyncFdatasync {
		return f, err
	}
	if s.block == nil {
		s.block = directBuffer()
	}
	return openDirect(f, path, s.block)
}

// sync makes durable all that had been written when it was called.
func (s *sink) sync() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	f, err, dirty := s.file, s.err, s.dirty
	s.dirty = false // before the sync: a write that comes during it needs another
	s.mu.Unlock()
	if err != nil || !dirty {
		return err
	}
	s.synced.begin()
	defer s.synced.end()
	if s.method == SyncFsync {
		err = f.Sync()
	} else {
		err = f.SyncData()
	}
	if err != nil {
		return s.fail(fmt.Errorf("sync segment %s: %w", s.name(s.segno), err))
	}
	return nil
}

// endSegment makes a complete segment durable and closes it.
func (s *sink) endSegment() error {
	if err := s.sync(); err != nil {
		return err
	}
	if err := s.close(); err != nil {
		return s.fail(err)
	}
	return nil
}

// close closes the open file without syncing it.
func (s *sink) close() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file, s.dirty = nil, false
	return err
}

func (s *sink) failWrite(at LSN, err error) error {
	return s.fail(fmt.Errorf("write segment %s at %s: %w", s.name(s.dir.Format.SegmentSize.Segno(at)), at, err))
}

// name is the name of a segment's file.
func (s *sink) name(segno uint64) string {
	return s.dir.Format.SegmentSize.FileName(s.timeline(segno), segno)
}

// fail keeps the first failure and returns it.
func (s *sink) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = &IOError{Err: err}
	}
	return s.err
}
