package wal

import (
	"errors"
	"fmt"
	"slices"
)

// ProveTail makes durable, for certain, what is readable from position from up to end, the log's
// end, and clears what lies behind. After a crash the kernel may hold pages as clean that never
// reached the disk, so reading them back, or syncing them, proves nothing: the same bytes are written
// again, and files and folder synced. Behind end nothing may stay that could once be taken for the
// continuation of records yet to be written.
//
// A crash on the way leaves a log with the same end, which is found and proved again.
func ProveTail(dir *Dir, h History, from, end LSN) error {
	size := dir.Format.SegmentSize
	if err := removeBehind(dir, h, size.Segno(end)); err != nil {
		return err
	}
	for segno := size.Segno(from); segno <= size.Segno(end); segno++ {
		if err := proveSegment(dir, h, segno, from, end); err != nil {
			return err
		}
	}
	return SyncDir(dir.FS, dir.Path)
}

// removeBehind removes the segments behind segno, over which a torn record may run: the last first,
// each durably, so that a crash on the way leaves no hole.
func removeBehind(dir *Dir, h History, segno uint64) error {
	files, err := dir.Segments()
	if err != nil {
		return err
	}
	for _, f := range slices.Backward(files) {
		if f.Segno <= segno || f.Timeline != h.FileTimeline(f.Segno, dir.Format.SegmentSize) {
			continue
		}
		if err := dir.FS.Remove(dir.file(f.Name)); err != nil {
			return fmt.Errorf("remove segment %s behind the end of the log: %w", f.Name, err)
		}
		if err := SyncDir(dir.FS, dir.Path); err != nil {
			return err
		}
	}
	return nil
}

// proveSegment rewrites what a segment holds of the log from from to end, and zeros the rest. The
// segment that begins at end need not exist.
func proveSegment(dir *Dir, h History, segno uint64, from, end LSN) error {
	size := dir.Format.SegmentSize
	name := size.FileName(h.FileTimeline(segno, size), segno)
	if size.Start(segno) == end {
		if ok, err := Exists(dir.FS, dir.file(name)); !ok {
			return err
		}
	}
	f, err := dir.FS.OpenReadWrite(dir.file(name), diskCategory)
	if err != nil {
		return fmt.Errorf("prove segment %s: %w", name, err)
	}
	from = max(from, size.Start(segno))
	stop := min(end, size.Start(segno+1))
	err = copyAt(f, f, size.Offset(from), int64(stop-from))
	if rest := size.Start(segno+1) - stop; err == nil && rest > 0 {
		err = writeZerosAt(f, size.Offset(stop), int64(rest))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("prove segment %s: %w", name, err)
	}
	return nil
}
