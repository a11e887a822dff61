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

// ParseSyncMethod reads the value of wal_sync_method.
func ParseSyncMethod(s string) (SyncMethod, error) {
	switch m := SyncMethod(s); m {
	case SyncFdatasync, SyncFsync, SyncOpenDatasync, SyncOpenSync:
		return m, nil
	}
	return "", fmt.Errorf("invalid wal_sync_method %q: want fdatasync, fsync, open_datasync or open_sync", s)
}

// A sink writes bytes of the log to their places in segment files and syncs them. Only one goroutine
// writes and only one syncs, but they may be two.
type sink struct {
	dir    *Dir
	tli    TimelineID
	method SyncMethod

	// Owned by the writing goroutine.
	current *segmentHandle
	zeroed  LSN // the page before this position has been filled with zeros to its end

	mu    sync.Mutex
	dirty []*segmentHandle // written since their last sync, oldest first
}

// A segmentHandle is an open segment file. A complete one is closed by the sync that makes it
// durable.
type segmentHandle struct {
	segno    uint64
	file     syncFile
	dirty    bool
	complete bool
}

type syncFile interface {
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
	SyncData() error
	Close() error
}

// An osFile is a segment opened for synchronous writes, which vfs.FS has no way to ask for.
type osFile struct{ *os.File }

func (f osFile) SyncData() error { return f.Sync() }

func (s *sink) openSegment(segno uint64) (*segmentHandle, error) {
	path := s.dir.file(s.dir.Format.SegmentSize.FileName(s.tli, segno))
	flags := map[SyncMethod]int{SyncOpenDatasync: unix.O_DSYNC, SyncOpenSync: unix.O_SYNC}[s.method]
	if flags != 0 && s.dir.FS == vfs.Default {
		f, err := os.OpenFile(path, os.O_RDWR|flags, 0)
		if err != nil {
			return nil, fmt.Errorf("open segment: %w", err)
		}
		return &segmentHandle{segno: segno, file: osFile{f}}, nil
	}
	f, err := s.dir.FS.OpenReadWrite(path, diskCategory)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return &segmentHandle{segno: segno, file: f}, nil
}

// write puts p at position at. The segments it touches exist. Bytes after the end of p on its last
// page become zero: a recycled file holds old records there, which must not look like ours.
func (s *sink) write(p []byte, at LSN) error {
	size := s.dir.Format.SegmentSize
	for len(p) > 0 {
		n := min(len(p), int(int64(size)-size.Offset(at)))
		if err := s.writeSegment(p[:n], at); err != nil {
			return err
		}
		p, at = p[n:], at+LSN(n)
	}
	return nil
}

func (s *sink) writeSegment(p []byte, at LSN) error {
	size := s.dir.Format.SegmentSize
	h, err := s.handle(size.Segno(at))
	if err != nil {
		return err
	}
	if _, err := h.file.WriteAt(p, size.Offset(at)); err != nil {
		return fmt.Errorf("write segment %s at %s: %w", size.FileName(s.tli, h.segno), at, err)
	}
	end := at + LSN(len(p))
	if pageEnd := (end + PageSize - 1) &^ (PageSize - 1); end < pageEnd && s.zeroed < pageEnd {
		if _, err := h.file.WriteAt(zeroPage[:pageEnd-end], size.Offset(end)); err != nil {
			return fmt.Errorf("write segment %s at %s: %w", size.FileName(s.tli, h.segno), end, err)
		}
		s.zeroed = pageEnd
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if size.Offset(end) == 0 {
		h.complete = true
		s.current = nil
	}
	if !h.dirty {
		h.dirty = true
		s.dirty = append(s.dirty, h)
	}
	return nil
}

var zeroPage [PageSize]byte

// handle returns the open file of segment segno, opening it when the log has moved on to it.
func (s *sink) handle(segno uint64) (*segmentHandle, error) {
	if s.current != nil && s.current.segno == segno {
		return s.current, nil
	}
	h, err := s.openSegment(segno)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil { // the stream jumped: the file left behind is closed by the next sync
		s.current.complete = true
		if !s.current.dirty {
			s.current.dirty = true
			s.dirty = append(s.dirty, s.current)
		}
	}
	s.current = h
	return h, nil
}

// sync makes durable all that had been written when it was called.
func (s *sink) sync() error {
	s.mu.Lock()
	files := s.dirty
	s.dirty = nil
	complete := make([]bool, len(files))
	for i, h := range files {
		// Cleared before the sync: a write that comes during it needs another.
		h.dirty = false
		complete[i] = h.complete
	}
	s.mu.Unlock()
	for i, h := range files {
		if err := s.syncHandle(h, complete[i]); err != nil {
			return fmt.Errorf("sync segment %s: %w", s.dir.Format.SegmentSize.FileName(s.tli, h.segno), err)
		}
	}
	return nil
}

func (s *sink) syncHandle(h *segmentHandle, complete bool) error {
	var err error
	switch s.method {
	case SyncFsync:
		err = h.file.Sync()
	case SyncOpenDatasync, SyncOpenSync:
		if _, ok := h.file.(osFile); !ok {
			err = h.file.SyncData()
		}
	default:
		err = h.file.SyncData()
	}
	if complete {
		err = errors.Join(err, h.file.Close())
	}
	return err
}

// close closes the open file without syncing it.
func (s *sink) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, h := range s.dirty {
		if h != s.current {
			err = errors.Join(err, h.file.Close())
		}
	}
	if s.current != nil {
		err = errors.Join(err, s.current.file.Close())
	}
	s.current, s.dirty = nil, nil
	return err
}
