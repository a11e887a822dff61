package simulation

import (
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Mount is a Disk as one process sees it: with the time that it takes, and the errors that it gives. It is a
// vfs.FS. Only syncs, and writes while the disk hangs, take time.
type Mount struct {
	disk atomic.Pointer[Disk] // goes with Release

	mu     sync.Mutex
	locks  map[string]bool
	hang   time.Time            // nothing is written before
	moved  chan struct{}        // closed when hang changes
	sync   func() time.Duration // how long a sync takes
	slow   time.Duration        // how much longer under slowIn
	slowIn string
	broken func(op, path string) error
}

// NewMount makes a disk's files usable. A sync takes as long as latency says.
func NewMount(d *Disk, latency func() time.Duration) *Mount {
	m := &Mount{locks: map[string]bool{}, moved: make(chan struct{}), sync: latency}
	m.disk.Store(d)
	return m
}

// Disk is what is mounted.
func (m *Mount) Disk() *Disk { return m.disk.Load() }

// Hang has writes and syncs take until a time, those under way, too.
func (m *Mount) Hang(until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hang = until
	close(m.moved)
	m.moved = make(chan struct{})
}

// answers waits for as long as the disk hangs.
func (m *Mount) answers() {
	for {
		m.mu.Lock()
		wait, moved := time.Until(m.hang), m.moved
		m.mu.Unlock()
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-moved:
			timer.Stop()
		}
	}
}

// Slow has syncs of files whose path begins so take longer.
func (m *Mount) Slow(prefix string, by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slowIn, m.slow = prefix, by
}

// Break has f decide on the errors of writes and syncs, "write" and "sync". Nil: there are none.
func (m *Mount) Break(f func(op, path string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = f
}

// ready waits until the disk answers, and returns the error that it has to give.
func (m *Mount) ready(op, name string) error {
	m.answers()
	m.mu.Lock()
	broken := m.broken
	var latency time.Duration
	if op == "sync" {
		if latency = m.sync(); m.slow > 0 && strings.HasPrefix(name, m.slowIn) {
			latency += m.slow
		}
	}
	m.mu.Unlock()
	if latency > 0 {
		time.Sleep(latency)
	}
	if broken == nil {
		return nil
	}
	if err := broken(op, name); err != nil {
		return pathError(op, name, err)
	}
	return nil
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// change changes names on the disk.
func (m *Mount) change(op, name string, f func(*Disk) error) error {
	if err := m.ready("write", name); err != nil {
		return err
	}
	d := m.Disk()
	d.mu.Lock()
	defer d.mu.Unlock()
	return pathError(op, name, f(d))
}

// Create implements vfs.FS.
func (m *Mount) Create(name string, _ vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = m.change("create", name, func(d *Disk) error {
		folder, base, err := d.place(name)
		if err != nil {
			return err
		}
		if d.full {
			return syscall.ENOSPC
		}
		n := newFile()
		folder.children[base] = n
		f = m.file(name, n, true)
		return nil
	})
	return f, err
}

func (m *Mount) file(name string, n *inode, writable bool) *file {
	return &file{mount: m, name: name, inode: n, writable: writable}
}

// Link implements vfs.FS.
func (m *Mount) Link(oldname, newname string) error {
	return m.change("link", newname, func(d *Disk) error {
		n, err := d.find(oldname)
		if err != nil {
			return err
		}
		folder, base, err := d.place(newname)
		if err == nil && folder.children[base] != nil {
			err = fs.ErrExist
		}
		if err == nil {
			folder.children[base] = n
		}
		return err
	})
}

func (m *Mount) open(name string, writable bool) (vfs.File, error) {
	d := m.Disk()
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return m.file(name, n, writable && !n.folder), nil
}

// Open implements vfs.FS.
func (m *Mount) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := m.open(name, false)
	if err == nil {
		for _, o := range opts {
			o.Apply(f)
		}
	}
	return f, err
}

// OpenReadWrite implements vfs.FS.
func (m *Mount) OpenReadWrite(name string, c vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	f, err := m.open(name, true)
	if os.IsNotExist(err) {
		return m.Create(name, c)
	}
	return f, err
}

// OpenDir implements vfs.FS.
func (m *Mount) OpenDir(name string) (vfs.File, error) { return m.open(name, false) }

// Remove implements vfs.FS.
func (m *Mount) Remove(name string) error {
	return m.change("remove", name, func(d *Disk) error {
		folder, base, err := d.place(name)
		if err != nil {
			return err
		}
		n := folder.children[base]
		if n == nil {
			return fs.ErrNotExist
		}
		if len(n.children) > 0 {
			return syscall.ENOTEMPTY
		}
		delete(folder.children, base)
		return nil
	})
}

// RemoveAll implements vfs.FS.
func (m *Mount) RemoveAll(name string) error {
	err := m.change("remove", name, func(d *Disk) error {
		folder, base, err := d.place(name)
		if err == nil {
			delete(folder.children, base)
		}
		return err
	})
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// Rename implements vfs.FS.
func (m *Mount) Rename(oldname, newname string) error {
	return m.change("rename", oldname, func(d *Disk) error {
		from, oldBase, err := d.place(oldname)
		if err != nil {
			return err
		}
		to, newBase, err := d.place(newname)
		if err != nil {
			return err
		}
		n := from.children[oldBase]
		if n == nil {
			return fs.ErrNotExist
		}
		if there := to.children[newBase]; there != nil && len(there.children) > 0 {
			return syscall.ENOTEMPTY
		}
		delete(from.children, oldBase)
		to.children[newBase] = n
		return nil
	})
}

// ReuseForWrite implements vfs.FS.
func (m *Mount) ReuseForWrite(oldname, newname string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	if err := m.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return m.open(newname, true)
}

// MkdirAll implements vfs.FS.
func (m *Mount) MkdirAll(dir string, _ os.FileMode) error {
	return m.change("mkdir", dir, func(d *Disk) error {
		n := d.root
		for _, name := range names(dir) {
			child := n.children[name]
			if child == nil {
				child = newFolder()
				n.children[name] = child
			}
			if n = child; !n.folder {
				return syscall.ENOTDIR
			}
		}
		return nil
	})
}

// Lock implements vfs.FS.
func (m *Mount) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	held := m.locks[name]
	m.locks[name] = true
	m.mu.Unlock()
	if held {
		return nil, pathError("lock", name, syscall.EAGAIN)
	}
	f, err := m.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		m.unlock(name)
		return nil, err
	}
	return lock{f, func() { m.unlock(name) }}, nil
}

func (m *Mount) unlock(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.locks, name)
}

type lock struct {
	io.Closer
	release func()
}

func (l lock) Close() error { l.release(); return l.Closer.Close() }

// List implements vfs.FS.
func (m *Mount) List(dir string) ([]string, error) {
	d := m.Disk()
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(dir)
	if err == nil && !n.folder {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", dir, err)
	}
	list := make([]string, 0, len(n.children))
	for name := range n.children {
		list = append(list, name)
	}
	return list, nil
}

// Stat implements vfs.FS.
func (m *Mount) Stat(name string) (vfs.FileInfo, error) {
	f, err := m.open(name, false)
	if err != nil {
		return nil, err
	}
	return f.Stat()
}

// The paths are those of Unix.

func (*Mount) PathBase(p string) string       { return path.Base(p) }
func (*Mount) PathJoin(elem ...string) string { return path.Join(elem...) }
func (*Mount) PathDir(p string) string        { return path.Dir(p) }

const diskSize = 1 << 30

// GetDiskUsage implements vfs.FS.
func (m *Mount) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d := m.Disk()
	d.mu.Lock()
	defer d.mu.Unlock()
	u := vfs.DiskUsage{TotalBytes: diskSize, AvailBytes: diskSize}
	if d.full {
		u.AvailBytes = 0
	}
	u.UsedBytes = diskSize - u.AvailBytes
	return u, nil
}

// Unwrap implements vfs.FS.
func (*Mount) Unwrap() vfs.FS { return nil }

// A file is an open file, or directory.
type file struct {
	mount    *Mount
	name     string
	inode    *inode
	writable bool
	at       int64 // where Read and Write go on
}

func (f *file) Close() error { return nil }

func (f *file) Read(b []byte) (int, error) {
	n, err := f.ReadAt(b, f.at)
	f.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	d := f.mount.Disk()
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.inode.folder {
		return 0, pathError("read", f.name, syscall.EISDIR)
	}
	n := f.inode.readAt(b, at)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(b []byte) (int, error) {
	n, err := f.WriteAt(b, f.at)
	f.at += int64(n)
	return n, err
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	if !f.writable {
		return 0, pathError("write", f.name, syscall.EBADF)
	}
	if err := f.mount.ready("write", f.name); err != nil {
		return 0, err
	}
	d := f.mount.Disk()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full && at+int64(len(b)) > f.inode.size && !strings.HasPrefix(f.name, manifests) {
		return 0, pathError("write", f.name, syscall.ENOSPC)
	}
	f.inode.writeAt(b, at)
	return len(b), nil
}

// Sync makes durable what had been written when it was called; what is written meanwhile may be. One that fails has
// tried: the next one does not try that again.
func (f *file) Sync() error {
	err := f.mount.ready("sync", f.name)
	d := f.mount.Disk()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		f.inode.forget()
	} else {
		f.inode.sync()
	}
	return err
}

func (f *file) SyncData() error { return f.Sync() }

// SyncTo promises nothing, as on Linux.
func (f *file) SyncTo(int64) (bool, error)      { return false, nil }
func (f *file) Preallocate(int64, int64) error  { return nil }
func (f *file) Prefetch(_ int64, _ int64) error { return nil }
func (f *file) Fd() uintptr                     { return vfs.InvalidFd }
func (f *file) Stat() (vfs.FileInfo, error) {
	d := f.mount.Disk()
	d.mu.Lock()
	defer d.mu.Unlock()
	return info{path.Base(f.name), f.inode.size, f.inode.modified, f.inode.folder}, nil
}

type info struct {
	name     string
	size     int64
	modified time.Time
	folder   bool
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return i.modified }
func (i info) IsDir() bool        { return i.folder }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.folder {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// DeviceID implements vfs.FileInfo.
func (info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
