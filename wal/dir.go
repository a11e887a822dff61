package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// A Dir is the folder pg_wal: segment files and history files of one cluster. It is safe for
// concurrent use; one writer at a time appends.
type Dir struct {
	FS     vfs.FS
	Path   string
	Format Format

	direct bool // see UseDirect; set before there is a writer

	mu      sync.Mutex
	removed uint64 // every segment with a number below this may have been removed or recycled
	temp    int    // numbers the temporary files
	damaged []span

	// naming is held from looking whether a segment's name is free until it is taken, so that a
	// recycled file never replaces a segment just allocated.
	naming sync.Mutex

	preparing sync.Mutex
	spare     atomic.Pointer[string] // path of a file of zeros, see Prepare
}

// NewDir returns the folder path, which must exist.
func NewDir(fsys vfs.FS, path string, f Format) *Dir {
	return &Dir{FS: fsys, Path: path, Format: f}
}

// A RemovedError says that a segment asked for is not there any more. Its text is PostgreSQL's.
type RemovedError struct{ Segment string }

func (e *RemovedError) Error() string {
	return fmt.Sprintf("requested WAL segment %s has already been removed", e.Segment)
}

// A SegmentFile is a whole segment found in the folder.
type SegmentFile struct {
	Name     string
	Timeline TimelineID
	Segno    uint64
}

func (d *Dir) file(name string) string { return d.FS.PathJoin(d.Path, name) }

// Segments lists the segment files by number and then timeline.
func (d *Dir) Segments() ([]SegmentFile, error) {
	names, err := d.FS.List(d.Path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", d.Path, err)
	}
	var files []SegmentFile
	for _, name := range names {
		if tli, segno, ok := d.Format.SegmentSize.ParseFileName(name); ok {
			files = append(files, SegmentFile{Name: name, Timeline: tli, Segno: segno})
		}
	}
	slices.SortFunc(files, func(a, b SegmentFile) int {
		return cmp.Or(cmp.Compare(a.Segno, b.Segno), cmp.Compare(a.Timeline, b.Timeline))
	})
	return files, nil
}

// OpenSegment opens a segment for reading. The error is a *RemovedError if it does not exist.
func (d *Dir) OpenSegment(tli TimelineID, segno uint64) (vfs.File, error) {
	name := d.Format.SegmentSize.FileName(tli, segno)
	f, err := d.FS.Open(d.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &RemovedError{Segment: name}
	}
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", name, err)
	}
	return f, nil
}

// A DamagedError says that a segment is known to be damaged, and was asked for what is handed to nobody.
type DamagedError struct{ Segment string }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("WAL segment %s is damaged on this node, and has not been repaired yet", e.Segment)
}

// A span is a part of the log.
type span struct{ from, to LSN }

// SetDamaged says which faults are known. RawReader.Intact and CheckIntact go by it. Of a segment before limit,
// which is the start of the one that is being written, all is damaged then: nobody has read what lies behind the
// fault. What is written now, by who has read it, goes on to be handed out, but for what the fault spoils.
func (d *Dir) SetDamaged(faults []Fault, limit LSN) {
	size := d.Format.SegmentSize
	var damaged []span
	for _, f := range faults {
		first, last := f.Segments(size)
		bad := span{size.Start(first), size.Start(last + 1)}
		if bad.to > limit {
			bad.to = max(f.To, f.From+1)
		}
		if f.From >= limit {
			bad.from = f.From
		}
		damaged = append(damaged, bad)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.damaged = damaged
}

// CheckIntact returns a *DamagedError if what lies in a segment from from to to is known to be damaged.
func (d *Dir) CheckIntact(tli TimelineID, from, to LSN) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, bad := range d.damaged {
		if from < bad.to && bad.from < to {
			return &DamagedError{Segment: d.Format.SegmentSize.FileName(tli, d.Format.SegmentSize.Segno(from))}
		}
	}
	return nil
}

// RemovedBelow is the number of the oldest segment that is certainly untouched. A reader checks it
// after each read: a recycled file may have been overwritten under it.
func (d *Dir) RemovedBelow() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.removed
}

// ReadHistory reads the history of tli. The first timeline has none, and needs no file.
func (d *Dir) ReadHistory(tli TimelineID) (History, error) {
	if tli <= 1 {
		return History{Timeline: tli}, nil
	}
	text, err := ReadFile(d.FS, d.file(HistoryFileName(tli)), 1<<20)
	if err != nil {
		return History{}, fmt.Errorf("read history of timeline %d: %w", tli, err)
	}
	return ParseHistory(tli, text)
}

// WriteHistory writes the history file of a new timeline, durably.
func (d *Dir) WriteHistory(h History) error {
	return WriteFileDurably(d.FS, d.Path, HistoryFileName(h.Timeline), h.Format())
}

// Histories lists the timelines that have a history file, in order.
func (d *Dir) Histories() ([]TimelineID, error) {
	names, err := d.FS.List(d.Path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", d.Path, err)
	}
	var tlis []TimelineID
	for _, name := range names {
		if tli, ok := ParseHistoryFileName(name); ok {
			tlis = append(tlis, tli)
		}
	}
	slices.Sort(tlis)
	return tlis, nil
}

const tempPrefix = "xlogtemp."

// RemoveTemporary deletes what an interrupted Allocate left. It is called once, before any writer.
func (d *Dir) RemoveTemporary() error {
	names, err := d.FS.List(d.Path)
	if err != nil {
		return fmt.Errorf("list %s: %w", d.Path, err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix) || strings.HasSuffix(name, ".tmp") {
			if err := d.FS.Remove(d.file(name)); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	return nil
}

// Allocate makes sure that the segment exists at its full size, durably. A new file gets real zeros,
// not only reserved blocks, so that later writes neither fail for lack of room nor change the file's
// size, and fdatasync has no metadata to write. A crash leaves a temporary file or the whole segment.
func (d *Dir) Allocate(tli TimelineID, segno uint64) error {
	return d.allocate(tli, segno, d.writeZeros)
}

// AllocateBlocks is Allocate for a segment that is filled at once, in large pieces: a new file gets reserved blocks, which
// hold zeros for who reads them. A sync has the file system note which of them are written; that costs less than to
// write all of them twice.
func (d *Dir) AllocateBlocks(tli TimelineID, segno uint64) error {
	return d.allocate(tli, segno, d.reserveBlocks)
}

// allocate makes sure that the segment exists, by a temporary file that is made by fill.
func (d *Dir) allocate(tli TimelineID, segno uint64, fill func(path string) error) error {
	name := d.Format.SegmentSize.FileName(tli, segno)
	ok, err := Exists(d.FS, d.file(name))
	if err != nil {
		return err
	}
	if ok { // perhaps only just, by somebody who has not synced the directory yet
		return SyncDir(d.FS, d.Path)
	}
	tmp := d.tempName()
	if err := fill(tmp); err != nil {
		return errors.Join(fmt.Errorf("allocate segment %s: %w", name, err), d.FS.Remove(tmp))
	}
	return d.putInPlace(tmp, name)
}

// Prepare has a file of zeros ready for the next CopyHead, which then takes as long as copying does: a
// change of timelines holds up commits, and zeros for a segment may take longer than all the rest.
func (d *Dir) Prepare() error {
	d.preparing.Lock()
	defer d.preparing.Unlock()
	if d.spare.Load() != nil {
		return nil
	}
	tmp := d.tempName()
	if err := d.writeZeros(tmp); err != nil {
		return errors.Join(fmt.Errorf("prepare a segment: %w", err), d.FS.Remove(tmp))
	}
	d.spare.Store(&tmp)
	return nil
}

// zeroFile returns the path of a file of zeros: the prepared one, or one made now.
func (d *Dir) zeroFile() (path string, err error) {
	if spare := d.spare.Swap(nil); spare != nil {
		return *spare, nil
	}
	path = d.tempName()
	return path, d.writeZeros(path)
}

// CopyHead makes the first segment of timeline tli, which leaves parent at at: a copy of the parent's
// up to there, then zeros. A file of that name, left by an attempt that a crash cut short, is
// replaced, so nothing of tli may have been acknowledged yet. CopyHead comes before WriteHistory: a
// history says that the segment exists.
func (d *Dir) CopyHead(parent, tli TimelineID, at LSN) error {
	size := d.Format.SegmentSize
	segno := size.Segno(at)
	name := size.FileName(tli, segno)
	tmp, err := d.zeroFile()
	if n := size.Offset(at); err == nil && n > 0 {
		err = d.copyHead(tmp, parent, segno, n)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("allocate segment %s: %w", name, err), d.FS.Remove(tmp))
	}
	d.naming.Lock()
	defer d.naming.Unlock()
	if err := d.FS.Rename(tmp, d.file(name)); err != nil {
		return fmt.Errorf("rename segment to %s: %w", name, err)
	}
	return SyncDir(d.FS, d.Path)
}

// copyHead overwrites the first n bytes of the file at path with those of a segment.
func (d *Dir) copyHead(path string, tli TimelineID, segno uint64, n int64) (err error) {
	src, err := d.OpenSegment(tli, segno)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := d.FS.OpenReadWrite(path, diskCategory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := copyAt(dst, src, 0, n); err != nil {
		return err
	}
	return dst.Sync()
}

func (d *Dir) tempName() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.temp++
	return d.file(fmt.Sprintf("%s%d", tempPrefix, d.temp))
}

// writeZeros makes a file of zeros as large as a segment, durably.
func (d *Dir) writeZeros(path string) error {
	if d.direct {
		return writeZerosDirect(path, int64(d.Format.SegmentSize))
	}
	f, err := d.FS.Create(path, diskCategory)
	if err != nil {
		return err
	}
	zeros := make([]byte, min(1<<20, d.Format.SegmentSize))
	for n := SegmentSize(0); n < d.Format.SegmentSize && err == nil; n += SegmentSize(len(zeros)) {
		_, err = f.Write(zeros)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// reserveBlocks makes a file as large as a segment that has room on the disk, durably. Where that cannot be had
// without writing, it writes zeros.
func (d *Dir) reserveBlocks(path string) error {
	f, err := d.FS.Create(path, diskCategory)
	if err != nil {
		return err
	}
	size := int64(d.Format.SegmentSize)
	err = f.Preallocate(0, size)
	if notReserved(err) {
		return errors.Join(f.Close(), d.writeZeros(path))
	}
	if err == nil {
		_, err = f.WriteAt([]byte{0}, size-1) // the size is not part of what is reserved
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// notReserved reports whether err says that blocks are to be had by writing alone: some file systems cannot reserve any, and
// some, tmpfs among them, give up when a signal comes, as it does to Go's threads at any time.
func notReserved(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EINTR)
}

// putInPlace gives a finished temporary file its name, unless a recycled file got it meanwhile. Its
// content is durable already; the name is not used before the directory is synced.
func (d *Dir) putInPlace(tmp, name string) error {
	if taken, err := d.takeName(tmp, name); err != nil {
		return err
	} else if taken {
		if err := d.FS.Remove(tmp); err != nil {
			return fmt.Errorf("remove %s: %w", tmp, err)
		}
	}
	return SyncDir(d.FS, d.Path)
}

// takeName renames the file at path to the segment name, or reports that the name is taken.
func (d *Dir) takeName(path, name string) (taken bool, err error) {
	d.naming.Lock()
	defer d.naming.Unlock()
	taken, err = Exists(d.FS, d.file(name))
	if taken || err != nil {
		return taken, err
	}
	if err := d.FS.Rename(path, d.file(name)); err != nil {
		return false, fmt.Errorf("rename segment to %s: %w", name, err)
	}
	return false, nil
}

// A NeededError says that a segment was to be removed which is needed. Nothing was.
type NeededError struct{ Keep, Needed uint64 } // numbers of the oldest segments: to stay, and needed

func (e *NeededError) Error() string {
	return fmt.Sprintf("WAL segments before %d are not removed: segment %d is needed", e.Keep, e.Needed)
}

// RemoveBefore removes or recycles every segment with a number below keep, on any timeline. Up to
// the number spare, files are renamed to become future segments of timeline tli, after last, the
// newest segment that exists or is being written. It reports how many went each way.
//
// Before the first one goes, needed is asked for the oldest segment that is needed: if that is one of
// those that are to go, none does, and the error is a *NeededError. Who comes to need the log first
// says so, where needed looks, and then asks RemovedBelow whether it was in time: one of the two sees
// the other.
func (d *Dir) RemoveBefore(keep uint64, needed func() uint64, tli TimelineID, last, spare uint64) (removed, recycled int, err error) {
	d.mu.Lock()
	before := d.removed
	d.removed = max(before, keep)
	d.mu.Unlock()
	if oldest := needed(); oldest < keep {
		d.mu.Lock()
		d.removed = before
		d.mu.Unlock()
		return 0, 0, &NeededError{Keep: keep, Needed: oldest}
	}
	files, err := d.Segments()
	if err != nil {
		return 0, 0, err
	}
	next := last + 1
	for _, f := range files {
		if f.Segno >= keep {
			break
		}
		done, err := d.recycle(f.Name, tli, &next, spare)
		if err != nil {
			return removed, recycled, err
		}
		if done {
			recycled++
			continue
		}
		if err := d.FS.Remove(d.file(f.Name)); err != nil {
			return removed, recycled, fmt.Errorf("remove segment %s: %w", f.Name, err)
		}
		removed++
	}
	if removed+recycled == 0 {
		return 0, 0, nil
	}
	return removed, recycled, SyncDir(d.FS, d.Path)
}

// recycle renames the file to the first free number from *next to spare. Its old bytes stay: their
// page addresses tell them from new ones.
func (d *Dir) recycle(name string, tli TimelineID, next *uint64, spare uint64) (bool, error) {
	for ; *next <= spare; *next++ {
		taken, err := d.takeName(d.file(name), d.Format.SegmentSize.FileName(tli, *next))
		if err != nil {
			return false, fmt.Errorf("recycle segment %s: %w", name, err)
		}
		if !taken {
			*next++
			return true, nil
		}
	}
	return false, nil
}
