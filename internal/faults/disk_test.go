package faults

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// onDisk runs a test on a data directory with a file of 10 bytes in pg_wal.
func onDisk(t *testing.T, test func(w *world, disk vfs.FS, f vfs.File)) {
	inWorld(t, func(w *world) {
		disk := w.table.FS(vfs.NewMem(), "/data/")
		for _, dir := range []string{"/data/pg_wal", "/data/store"} {
			if err := disk.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		f, err := disk.Create("/data/pg_wal/1", vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(make([]byte, 10))
		}
		if err == nil {
			err = f.Close()
		}
		if err == nil {
			f, err = disk.OpenReadWrite("/data/pg_wal/1", vfs.WriteCategoryUnspecified)
		}
		if err != nil {
			t.Fatal(err)
		}
		test(w, disk, f)
	})
}

// changes are the operations that a disk that hangs does not finish, on a file and beside it.
func changes(disk vfs.FS, f vfs.File) map[string]func() error {
	dir, _ := disk.OpenDir("/data/pg_wal")
	return map[string]func() error{
		"write":       func() error { _, err := f.WriteAt([]byte("x"), 0); return err },
		"append":      func() error { _, err := f.Write([]byte("x")); return err },
		"preallocate": func() error { return f.Preallocate(0, 20) },
		"sync":        f.Sync,
		"syncData":    f.SyncData,
		"syncTo":      func() error { _, err := f.SyncTo(1); return err },
		"sync folder": dir.Sync,
		"create":      func() error { _, err := disk.Create("/data/pg_wal/2", vfs.WriteCategoryUnspecified); return err },
		"link":        func() error { return disk.Link("/data/pg_wal/1", "/data/pg_wal/3") },
		"rename":      func() error { return disk.Rename("/data/pg_wal/4", "/data/pg_wal/5") },
		"reuse": func() error {
			_, err := disk.ReuseForWrite("/data/pg_wal/6", "/data/pg_wal/7", vfs.WriteCategoryUnspecified)
			return err
		},
		"remove":     func() error { return disk.Remove("/data/pg_wal/8") },
		"remove all": func() error { return disk.RemoveAll("/data/pg_wal/9") },
		"mkdir":      func() error { return disk.MkdirAll("/data/pg_wal/a", 0o700) },
	}
}

// While the disk stalls nothing is written, and what was to be is done when it goes on. Reads go on.
func TestStall(t *testing.T) {
	for _, fault := range []string{"stall", "stall pg_wal"} {
		onDisk(t, func(w *world, disk vfs.FS, f vfs.File) {
			for name, do := range changes(disk, f) {
				w.inject(fault)
				done := make(chan struct{})
				go func() { do(); close(done) }()
				synctest.Wait()
				select {
				case <-done:
					t.Errorf("%s: %s is done", fault, name)
				default:
				}
				if _, err := f.ReadAt(make([]byte, 1), 0); err != nil {
					t.Errorf("%s: read: %v", fault, err)
				}
				w.hits(1)
				w.table.Heal(0)
				<-done
			}
			if _, err := disk.Stat("/data/pg_wal/2"); err != nil {
				t.Error(err)
			}
		})
	}
}

// One folder may stall alone, and a table that is closed lets nobody wait.
func TestStallElsewhere(t *testing.T) {
	onDisk(t, func(w *world, disk vfs.FS, f vfs.File) {
		w.inject("stall store")
		w.inject("stall global")
		for _, do := range changes(disk, f) {
			do()
		}
		w.hits(0, 0)
		go func() {
			time.Sleep(time.Minute)
			w.table.Close()
		}()
		if _, err := disk.Create("/data/store/1", vfs.WriteCategoryUnspecified); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Create() = %v when the table is closed", err)
		}
	})
}

// On a full disk files can be overwritten, read and removed, but do not grow.
func TestFull(t *testing.T) {
	onDisk(t, func(w *world, disk vfs.FS, f vfs.File) {
		w.inject("full")
		if _, err := f.WriteAt(make([]byte, 10), 0); err != nil {
			t.Errorf("WriteAt() where the file is = %v", err)
		}
		_, past := f.WriteAt(make([]byte, 10), 1)
		_, grown := f.Write([]byte("x"))
		for _, err := range []error{past, grown, f.Preallocate(0, 11), w.table.Write("raft", true)} {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("a file grows: %v", err)
			}
		}
		if _, ok := errors.AsType[*fs.PathError](past); !ok {
			t.Errorf("WriteAt() = %v, which does not say where", past)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 10 {
			t.Errorf("the file has %d bytes, %v, want 10", info.Size(), err)
		}
		if u, err := disk.GetDiskUsage("/data"); err == nil && u.AvailBytes != 0 {
			t.Errorf("GetDiskUsage() = %+v", u)
		}
		if err := errors.Join(f.Sync(), disk.Remove("/data/pg_wal/1")); err != nil {
			t.Error(err)
		}
		w.table.Heal(0)
		if _, err := f.WriteAt(make([]byte, 10), 1); err != nil {
			t.Error(err)
		}
		w.inject("full store")
		if _, err := f.WriteAt(make([]byte, 10), 5); err != nil {
			t.Error(err)
		}
	})
}

// A sync fails as often as it is to, each way there is, and only where.
func TestFailSync(t *testing.T) {
	onDisk(t, func(w *world, disk vfs.FS, f vfs.File) {
		w.inject("fail-sync pg_wal")
		dir, err := disk.OpenDir("/data/pg_wal")
		if err != nil {
			t.Fatal(err)
		}
		_, to := f.SyncTo(1)
		for _, err := range []error{f.Sync(), f.SyncData(), to, dir.Sync()} {
			if e, ok := errors.AsType[*fs.PathError](err); !ok || !errors.Is(err, syscall.EIO) || e.Op != "sync" {
				t.Errorf("sync = %v, want EIO", err)
			}
		}
		w.hits(4)
		if err := w.table.Sync("raft"); err != nil {
			t.Error(err)
		}
		w.table.Heal(0)
		w.inject("fail-sync once")
		if err := f.SyncData(); !errors.Is(err, syscall.EIO) {
			t.Errorf("SyncData() = %v, want EIO", err)
		}
		if err := errors.Join(f.SyncData(), w.table.Sync("raft")); err != nil {
			t.Errorf("after the one that fails, sync = %v", err)
		}
		w.hits(1)
	})
}

func TestSlowSync(t *testing.T) {
	onDisk(t, func(w *world, disk vfs.FS, f vfs.File) {
		w.inject("slow-sync 200ms pg_wal")
		begin := time.Now()
		if _, err := f.WriteAt([]byte("x"), 0); err != nil || time.Since(begin) != 0 {
			t.Errorf("WriteAt() = %v after %v", err, time.Since(begin))
		}
		if err := f.SyncData(); err != nil || time.Since(begin) != 200*time.Millisecond {
			t.Errorf("SyncData() = %v after %v", err, time.Since(begin))
		}
	})
}

// Files are known by the folder they are in, also through a path that is not clean.
func TestFolder(t *testing.T) {
	onDisk(t, func(w *world, disk vfs.FS, f vfs.File) {
		for name, want := range map[string]string{
			"/data/pg_wal/1": "pg_wal", "/data/pg_wal": "pg_wal", "/data/store/a/b": "store", "/data/node.json": ".", "/data": ".", "/data//store/../pg_wal/1": "pg_wal",
		} {
			if got := disk.(*diskFS).folder(name); got != want {
				t.Errorf("folder(%q) = %q, want %q", name, got, want)
			}
		}
		if b, err := io.ReadAll(f); err != nil || len(b) != 10 {
			t.Errorf("ReadAll() = %q, %v", b, err)
		}
	})
}
