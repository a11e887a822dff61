package faults

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS returns a file system that has a data directory, through the table. What reads is left alone: it comes from
// memory, mostly, on a disk that hangs, too.
func (t *Table) FS(fsys vfs.FS, dataDir string) vfs.FS {
	return &diskFS{FS: fsys, table: t, root: filepath.Clean(dataDir)}
}

type diskFS struct {
	vfs.FS
	table *Table
	root  string
}

// Unwrap implements vfs.FS.
func (d *diskFS) Unwrap() vfs.FS { return d.FS }

// folder is the folder of the data directory that a file is in, "." for the data directory itself.
func (d *diskFS) folder(name string) string {
	rel, err := filepath.Rel(d.root, name)
	if err != nil {
		return "."
	}
	if first, _, below := strings.Cut(rel, string(filepath.Separator)); below {
		return first
	}
	if info, err := d.Stat(name); err == nil && info.IsDir() {
		return rel
	}
	return "."
}

// change waits until the names in a folder can be changed.
func (d *diskFS) change(op, name string) error {
	return pathError(op, name, d.table.Write(d.folder(name), false))
}

func (d *diskFS) wrap(f vfs.File, err error, name string) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, name: name, folder: d.folder(name), table: d.table}, nil
}

// Create implements vfs.FS.
func (d *diskFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.change("create", name); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name, c)
	return d.wrap(f, err, name)
}

// OpenReadWrite implements vfs.FS.
func (d *diskFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, opts...)
	return d.wrap(f, err, name)
}

// ReuseForWrite implements vfs.FS.
func (d *diskFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.change("rename", newname); err != nil {
		return nil, err
	}
	f, err := d.FS.ReuseForWrite(oldname, newname, c)
	return d.wrap(f, err, newname)
}

// OpenDir implements vfs.FS.
func (d *diskFS) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.wrap(f, err, name)
}

// Link implements vfs.FS.
func (d *diskFS) Link(oldname, newname string) error {
	if err := d.change("link", newname); err != nil {
		return err
	}
	return d.FS.Link(oldname, newname)
}

// Rename implements vfs.FS.
func (d *diskFS) Rename(oldname, newname string) error {
	if err := d.change("rename", newname); err != nil {
		return err
	}
	return d.FS.Rename(oldname, newname)
}

// Remove implements vfs.FS.
func (d *diskFS) Remove(name string) error {
	if err := d.change("remove", name); err != nil {
		return err
	}
	return d.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (d *diskFS) RemoveAll(name string) error {
	if err := d.change("remove", name); err != nil {
		return err
	}
	return d.FS.RemoveAll(name)
}

// MkdirAll implements vfs.FS.
func (d *diskFS) MkdirAll(dir string, perm os.FileMode) error {
	if err := d.change("mkdir", dir); err != nil {
		return err
	}
	return d.FS.MkdirAll(dir, perm)
}

// GetDiskUsage implements vfs.FS.
func (d *diskFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	u, err := d.FS.GetDiskUsage(path)
	if d.table.isFull() {
		u.UsedBytes, u.AvailBytes = u.TotalBytes, 0
	}
	return u, err
}

// A diskFile is a file that can be written, or a folder that can be synced.
type diskFile struct {
	vfs.File
	name, folder string
	table        *Table
}

// Write implements vfs.File: files that are written like this become longer.
func (f *diskFile) Write(b []byte) (int, error) {
	if err := f.table.Write(f.folder, true); err != nil {
		return 0, pathError("write", f.name, err)
	}
	return f.File.Write(b)
}

// WriteAt implements vfs.File.
func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.table.Write(f.folder, f.growsTo(off+int64(len(b)))); err != nil {
		return 0, pathError("write", f.name, err)
	}
	return f.File.WriteAt(b, off)
}

// Preallocate implements vfs.File.
func (f *diskFile) Preallocate(off, length int64) error {
	if err := f.table.Write(f.folder, f.growsTo(off+length)); err != nil {
		return pathError("fallocate", f.name, err)
	}
	return f.File.Preallocate(off, length)
}

// growsTo reports whether the file is shorter than that, as far as it matters.
func (f *diskFile) growsTo(end int64) bool {
	if !f.table.isFull() {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Size() < end
}

// Sync implements vfs.File.
func (f *diskFile) Sync() error {
	if err := f.table.Sync(f.folder); err != nil {
		return pathError("sync", f.name, err)
	}
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *diskFile) SyncData() error {
	if err := f.table.Sync(f.folder); err != nil {
		return pathError("sync", f.name, err)
	}
	return f.File.SyncData()
}

// SyncTo implements vfs.File.
func (f *diskFile) SyncTo(length int64) (bool, error) {
	if err := f.table.Sync(f.folder); err != nil {
		return false, pathError("sync", f.name, err)
	}
	return f.File.SyncTo(length)
}
