package startup

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// tmpSuffix marks what is not complete yet.
const tmpSuffix = ".tmp"

// saveOrphan copies the segments that hold the tail behind at, unless a crash has interrupted the
// Cut that did: then what is left of the tail must not replace all of it.
func saveOrphan(d DataDir, r *Recovered, at wal.LSN) error {
	if at >= r.End.LSN {
		return nil
	}
	name := orphanName(r.Control.Epoch, at)
	for n := 2; ; n++ {
		folder := d.FS.PathJoin(d.orphans(), name)
		exists, err := wal.Exists(d.FS, folder)
		if err != nil {
			return err
		}
		if !exists {
			return r.copyTail(d, folder, at)
		}
		if same, err := r.tailIn(folder, at); same || err != nil {
			return err
		}
		name = fmt.Sprintf("%s-%d", orphanName(r.Control.Epoch, at), n)
	}
}

// copyTail makes folder hold the segments of the tail behind at, and its summary.
func (r *Recovered) copyTail(d DataDir, folder string, at wal.LSN) error {
	tmp := folder + tmpSuffix
	if err := d.FS.RemoveAll(tmp); err != nil {
		return err
	}
	if err := d.FS.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	files, err := r.tail(at)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := vfs.Copy(d.FS, d.FS.PathJoin(r.Dir.Path, file), d.FS.PathJoin(tmp, file)); err != nil {
			return err
		}
	}
	summary, err := r.summarise(at).encode()
	if err != nil {
		return err
	}
	if err := wal.WriteFileDurably(d.FS, tmp, summaryFile, summary); err != nil {
		return err
	}
	// A crash here leaves a folder of no meaning, which the next Cut at this place replaces.
	if err := d.FS.Rename(tmp, folder); err != nil {
		return err
	}
	return errors.Join(wal.SyncDir(d.FS, d.orphans()), wal.SyncDir(d.FS, d.Path))
}

// tail names the segments that hold the log from at to its end. Some may be gone if the store is past
// at: redo does not need them.
func (r *Recovered) tail(at wal.LSN) (files []string, err error) {
	size := r.Dir.Format.SegmentSize
	for segno := size.Segno(at); segno <= size.PrevSegno(r.End.LSN); segno++ {
		name := size.FileName(r.History.FileTimeline(segno, size), segno)
		exists, err := wal.Exists(r.Dir.FS, r.Dir.FS.PathJoin(r.Dir.Path, name))
		if err != nil {
			return nil, err
		}
		if exists {
			files = append(files, name)
		}
	}
	return files, nil
}

// tailIn reports whether the segments in folder hold the log from at to its end.
func (r *Recovered) tailIn(folder string, at wal.LSN) (bool, error) {
	log := wal.NewRawReader(r.Dir, r.History, nil)
	defer log.Close()
	kept := wal.NewRawReader(wal.NewDir(r.Dir.FS, folder, r.Dir.Format), r.History, nil)
	defer kept.Close()
	size := r.Dir.Format.SegmentSize
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at < r.End.LSN {
		n, err := log.ReadAt(a[:min(wal.LSN(len(a)), r.End.LSN-at)], at)
		if _, removed := errors.AsType[*wal.RemovedError](err); removed || wal.IsDamage(err) {
			at = size.Start(size.Segno(at) + 1) // neither has it
			continue
		}
		if err != nil {
			return false, err
		}
		m, err := kept.ReadAt(b[:n], at)
		if _, removed := errors.AsType[*wal.RemovedError](err); removed {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if n != m || !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		at += wal.LSN(n)
	}
	return true, nil
}
