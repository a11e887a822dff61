package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// A Source fills p with the bytes of the log from at on, as another node has them. n is less than len(p)
// if that node's log ends there.
type Source func(ctx context.Context, p []byte, at LSN) (n int, err error)

// mendChunk is how much a Source is asked for at once.
const mendChunk = 512 << 10

// Mend replaces the segments that a fault lies in by copies that hold what the source has, from where the
// log cannot be read. The copies are believed as far as the log can be read over them: page headers and
// their timelines, the chain of records from the last good one on, CRCs, and how it goes on in the next
// segment. What lies before, or cannot be read of the source's either, stays as this node has it. Mend
// returns where the first record ends, from then on, behind which the log cannot be read, or the end of
// those segments if that is not before it; and how many bytes are not what they were. If no record more
// than before can be read nothing is changed, and that is an error; as far as what the source has in those
// segments tells, nothing is written for it either. After an *IOError it is not known what is on disk.
//
// Nothing from limit on is touched: the segment that begins there is being written, to a file that would not be the
// one with its name any more. A record that goes on there can be mended once that segment is full.
//
// The commit point is the rename of each copy. A crash leaves temporary files, which the next start
// removes, or some segments mended: the rest is found again. Who has the old file open goes on reading
// that. A segment that was removed meanwhile gives a *RemovedError.
func (d *Dir) Mend(ctx context.Context, h History, f Fault, limit LSN, source Source) (to LSN, changed int64, err error) {
	for {
		m := newMending(d, h, f)
		if m.end > limit {
			return 0, 0, fmt.Errorf("the damage goes on behind %s, where the log is still written", limit)
		}
		to, changed, err := m.run(ctx, source)
		if IsFatal(err) {
			return 0, 0, err // the next start removes the copies
		}
		invalid, ok := errors.AsType[*InvalidError](err)
		if err = m.clean(err); !ok || invalid.To <= m.end {
			return to, changed, err
		}
		f.To = invalid.To // the record goes on in the next segment, and is damaged there, too
	}
}

// Readable reports whether the log can be read where a fault was found: it may have been mended by hand, or
// not have been the disk's.
func (d *Dir) Readable(h History, f Fault) bool {
	to, _ := newMending(d, h, f).readable()
	return to > f.From
}

// A mending is one Mend under way.
type mending struct {
	dir     *Dir
	history History
	fault   Fault
	end     LSN               // of the last segment that is replaced
	copies  map[uint64]string // paths, by segment, until they are in their places
}

func newMending(d *Dir, h History, f Fault) *mending {
	_, last := f.Segments(d.Format.SegmentSize)
	return &mending{dir: d, history: h, fault: f, copies: map[uint64]string{}, end: d.Format.SegmentSize.Start(last + 1)}
}

func (m *mending) run(ctx context.Context, source Source) (to LSN, changed int64, err error) {
	if err := m.possible(); err != nil {
		return 0, 0, err
	}
	if err := m.taste(ctx, source); err != nil {
		return 0, 0, err
	}
	first, last := m.fault.Segments(m.dir.Format.SegmentSize)
	for segno := first; segno <= last; segno++ {
		if err := m.copySegment(ctx, segno, source); err != nil {
			return 0, 0, fmt.Errorf("copy segment %s: %w", m.name(segno), err)
		}
	}
	to, cause := m.readable()
	if to <= m.fault.From {
		return 0, 0, fmt.Errorf("what it has cannot be read either: %w", cause)
	}
	if err := m.restore(to); err != nil {
		return 0, 0, err
	}
	for segno := first; segno <= last; segno++ {
		n, err := m.replace(segno)
		if err != nil {
			return 0, 0, err
		}
		changed += n
	}
	if err := SyncDir(m.dir.FS, m.dir.Path); err != nil {
		return 0, 0, &IOError{Err: err}
	}
	return to, changed, nil
}

// possible looks whether copies can be made at all: what lies before the fault is this node's, so that must be there,
// and there must be room, with a segment left over for what is written meanwhile.
func (m *mending) possible() error {
	size := m.dir.Format.SegmentSize
	first, last := m.fault.Segments(size)
	if own, err := m.own(first); err != nil {
		return err
	} else if own == nil && m.fault.From > size.Start(first) {
		return &RemovedError{Segment: m.name(first)}
	} else if own != nil {
		if err := own.Close(); err != nil {
			return err
		}
	}
	usage, err := m.dir.FS.GetDiskUsage(m.dir.Path)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if need := (last - first + 2) * uint64(size); err == nil && usage.AvailBytes < need {
		err = fmt.Errorf("%d bytes are free, and a repair takes %d: %w", usage.AvailBytes, need, unix.ENOSPC)
	}
	return err
}

// taste reads the source's log from the fault on, up to the end of the first record. The error says that this
// is not the one that is missing here.
func (m *mending) taste(ctx context.Context, source Source) error {
	size := m.dir.Format.SegmentSize
	dec := NewDecoder(m.dir.Format, m.fault.From, m.fault.Prev)
	dec.Follow(m.history)
	dec.Strict()
	buf := make([]byte, min(mendChunk, size))
	for at := m.fault.From; at < m.end; at = dec.Pos() {
		b := buf[:min(LSN(len(buf)), LSN(size)-LSN(size.Offset(at)))]
		n, err := source(ctx, b, at)
		if err != nil {
			return err
		}
		dec.Feed(b[:n])
		if _, whole, err := dec.Next(); err != nil {
			return fmt.Errorf("what it has cannot be read either: %w", err)
		} else if whole {
			return nil
		}
		if n < len(b) {
			return fmt.Errorf("its log ends at %s, in the middle of the record at %s", at+LSN(n), m.fault.From)
		}
	}
	return nil // the record ends behind those segments
}

// synced makes a file durable. As after any failed sync, what the disk holds is not known: that is an *IOError, unless
// there is no room.
func synced(f vfs.File) error {
	err := f.Sync()
	if err == nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return &IOError{Err: fmt.Errorf("sync a copy of damaged WAL: %w", err)}
}

// clean removes the copies that are not in their places.
func (m *mending) clean(err error) error {
	for _, path := range m.copies {
		err = errors.Join(err, m.dir.FS.Remove(path))
	}
	return err
}

func (m *mending) name(segno uint64) string {
	size := m.dir.Format.SegmentSize
	return size.FileName(m.history.FileTimeline(segno, size), segno)
}

// own opens this node's segment. A file that is missing is nil, and holds nothing.
func (m *mending) own(segno uint64) (vfs.File, error) {
	path := m.dir.file(m.name(segno))
	if ok, err := Exists(m.dir.FS, path); !ok || err != nil {
		return nil, err
	}
	return m.dir.FS.Open(path)
}

// copySegment makes a durable copy of a segment with the source's bytes in it.
func (m *mending) copySegment(ctx context.Context, segno uint64, source Source) (err error) {
	own, err := m.own(segno)
	if err != nil {
		return err
	}
	if own != nil {
		defer func() { err = errors.Join(err, own.Close()) }()
	}
	path := m.dir.tempName()
	dst, err := m.dir.FS.Create(path, diskCategory)
	if err != nil {
		return err
	}
	m.copies[segno] = path
	if err = m.fill(ctx, dst, own, segno, source); err == nil {
		err = synced(dst)
	}
	return errors.Join(err, dst.Close())
}

// fill writes a whole segment: this node's bytes up to the fault, the source's from there on as far as its
// log goes, and this node's behind.
func (m *mending) fill(ctx context.Context, dst io.Writer, own vfs.File, segno uint64, source Source) error {
	size := m.dir.Format.SegmentSize
	buf := make([]byte, min(mendChunk, size))
	ended := false
	for at, end := size.Start(segno), size.Start(segno+1); at < end && ctx.Err() == nil; {
		b := buf[:min(LSN(len(buf)), end-at)]
		if at < m.fault.From {
			b = b[:min(LSN(len(b)), m.fault.From-at)]
		}
		if bad := readOwn(own, b, size.Offset(at)); bad != nil && at < m.fault.From {
			return fmt.Errorf("what lies before the damage cannot be read here: %w", bad)
		}
		if at >= m.fault.From && !ended {
			theirs := make([]byte, len(b))
			n, err := source(ctx, theirs, at)
			if err != nil {
				return err
			}
			if ended = n < len(b); ended && at+LSN(n) < m.fault.To {
				return fmt.Errorf("its log ends at %s, before %s", at+LSN(n), m.fault.To)
			}
			copy(b, theirs[:n])
		}
		at += LSN(len(b))
		if _, err := dst.Write(slices.Clone(b)); err != nil { // Write may scribble on its argument
			return err
		}
	}
	return ctx.Err()
}

// readOwn reads what can be read of this node's file, page by page: a bad sector spoils its page alone. The
// rest is zero. The error says why a page could not be read.
func readOwn(own vfs.File, b []byte, off int64) (bad error) {
	clear(b)
	for i := 0; own != nil && i < len(b); {
		end := min(len(b), i+int(PageSize-(off+int64(i))%PageSize))
		if n, err := own.ReadAt(b[i:end], off+int64(i)); n < end-i && !errors.Is(err, io.EOF) {
			clear(b[i:end])
			bad = err
		}
		i = end
	}
	return bad
}

// readable reads the log over the copies, from the last record before the fault on. It returns where the
// last record ends that can be read, at most the end of the copies, and why no other can. A record that goes
// on in the next segment and cannot be read there proves nothing of its beginning.
func (m *mending) readable() (to LSN, cause error) {
	raw := NewRawReader(m.dir, m.history, nil)
	raw.instead = m.copies
	r := NewReader(raw, m.fault.From, m.fault.Prev)
	r.dec.Strict()
	defer r.Close()
	for r.dec.End() < m.end {
		if _, _, err := r.Next(^LSN(0)); err != nil {
			return r.dec.End(), err
		}
	}
	return m.end, nil
}

// restore has the copies hold what this node has from at on.
func (m *mending) restore(at LSN) error {
	size := m.dir.Format.SegmentSize
	for ; at < m.end; at = size.SegmentStart(at) + LSN(size) {
		if err := m.restoreSegment(at); err != nil {
			return fmt.Errorf("restore segment %s: %w", m.name(size.Segno(at)), err)
		}
	}
	return nil
}

// restoreSegment does so for the rest of one segment.
func (m *mending) restoreSegment(at LSN) (err error) {
	size := m.dir.Format.SegmentSize
	own, err := m.own(size.Segno(at))
	if err != nil {
		return err
	}
	if own != nil {
		defer func() { err = errors.Join(err, own.Close()) }()
	}
	dst, err := m.dir.FS.OpenReadWrite(m.copies[size.Segno(at)], diskCategory)
	if err != nil {
		return err
	}
	buf := make([]byte, min(mendChunk, size))
	for off := size.Offset(at); off < int64(size) && err == nil; {
		b := buf[:min(int64(len(buf)), int64(size)-off)]
		readOwn(own, b, off)
		_, err = dst.WriteAt(b, off)
		off += int64(len(b))
	}
	if err == nil {
		err = synced(dst)
	}
	return errors.Join(err, dst.Close())
}

// replace puts a copy in the place of the segment, unless that has been removed. Should its removal begin
// just then, the next one finds the file again. It returns how many bytes are others than before.
func (m *mending) replace(segno uint64) (changed int64, err error) {
	changed, err = m.differences(segno)
	if err != nil {
		return 0, err
	}
	m.dir.naming.Lock()
	defer m.dir.naming.Unlock()
	if segno < m.dir.RemovedBelow() {
		return 0, &RemovedError{Segment: m.name(segno)}
	}
	if err := m.dir.FS.Rename(m.copies[segno], m.dir.file(m.name(segno))); err != nil {
		return 0, &IOError{Err: fmt.Errorf("replace segment %s: %w", m.name(segno), err)}
	}
	delete(m.copies, segno)
	return changed, nil
}

// differences counts the bytes of a copy that this node has not.
func (m *mending) differences(segno uint64) (n int64, err error) {
	own, err := m.own(segno)
	if err != nil {
		return 0, err
	}
	if own != nil {
		defer func() { err = errors.Join(err, own.Close()) }()
	}
	mended, err := m.dir.FS.Open(m.copies[segno])
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, mended.Close()) }()
	mine, copied := make([]byte, PageSize), make([]byte, PageSize)
	for off := int64(0); off < int64(m.dir.Format.SegmentSize); off += PageSize {
		readOwn(own, mine, off)
		if _, err := mended.ReadAt(copied, off); err != nil {
			return n, err
		}
		for i, b := range copied {
			if mine[i] != b {
				n++
			}
		}
	}
	return n, nil
}
