package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskCategory labels our writes for Pebble's file system statistics.
const diskCategory vfs.DiskWriteCategory = "wal"

// WriteFileDurably replaces the small file name in dir by data: temporary file, sync, rename, sync of
// the directory. A crash leaves the old content or the new, and perhaps the temporary file, which
// the next write replaces.
func WriteFileDurably(fsys vfs.FS, dir, name string, data []byte) error {
	tmp := fsys.PathJoin(dir, name+".tmp")
	if err := writeAndSync(fsys, tmp, data); err != nil {
		err = fmt.Errorf("write %s: %w", tmp, err)
		if NoRoom(err) {
			_ = fsys.Remove(tmp) // what is there of it; the next write would replace it
			return &NoRoomError{Err: err}
		}
		return err
	}
	// A crash here leaves the old content.
	if err := fsys.Rename(tmp, fsys.PathJoin(dir, name)); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	return SyncDir(fsys, dir)
}

// A NoRoomError says that a file could not be replaced for lack of disk space, or of file descriptors. It is
// certain that the old one is there as it was, so that this can be tried again.
type NoRoomError struct{ Err error }

func (e *NoRoomError) Error() string { return e.Err.Error() }
func (e *NoRoomError) Unwrap() error { return e.Err }

// NoRoom reports whether err says that there is no room on the disk, or that no file can be opened: neither is
// an error of the disk.
func NoRoom(err error) bool {
	return slices.ContainsFunc([]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE}, func(lack error) bool { return errors.Is(err, lack) })
}

func writeAndSync(fsys vfs.FS, path string, data []byte) error {
	f, err := fsys.Create(path, diskCategory)
	if err != nil {
		return err
	}
	_, err = f.Write(append([]byte(nil), data...)) // Write may scribble on its argument
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes the entries of a directory durable: names created, renamed and removed in it.
func SyncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", dir, err)
	}
	err = d.Sync()
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// ReadFile reads a small file of at most limit bytes.
func ReadFile(fsys vfs.FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d expected", path, info.Size(), limit)
	}
	b := make([]byte, info.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// copyAt copies n bytes at offset off of src to the same place in dst, which may be the same file.
func copyAt(dst, src vfs.File, off, n int64) error {
	b := make([]byte, min(n, 1<<20))
	for n > 0 {
		b = b[:min(int64(len(b)), n)]
		if got, err := src.ReadAt(b, off); got < len(b) {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}
		if _, err := dst.WriteAt(b, off); err != nil {
			return err
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// writeZerosAt writes n zeros at offset off of f.
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

// Exists reports whether path names a file or directory.
func Exists(fsys vfs.FS, path string) (bool, error) {
	_, err := fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
