package kv

import (
	"runtime"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// To write a memtable out, and to merge what was written, takes some hundred milliseconds of a processor every few
// seconds, on all nodes at the same time, since all apply the same. Commits, and what is applied for readers, would
// wait for that. So this work rests for as long as it has worked, whenever that was a little while, unless
// memory fills up meanwhile.
const (
	paceSlice = 200 * time.Microsecond
	paceRest  = 20 * time.Millisecond // at the most
)

// pacer returns a function that is called now and then by work that begins now.
func (s *Store) pacer() (rest func()) {
	began := time.Now()
	return func() {
		worked := time.Since(began)
		switch {
		case worked < paceSlice:
			return
		case s.hurried():
			runtime.Gosched()
		default:
			time.Sleep(min(worked, paceRest))
		}
		began = time.Now()
	}
}

// hurried reports whether what is in memory should have been written out by now.
func (s *Store) hurried() bool { return s.newestMemory().size() >= s.limit }

// pacedFS lets Pebble rest while it writes files of the table.
type pacedFS struct {
	vfs.FS
	pacer func() (rest func())
}

func (fs pacedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	return pacedFile{f, fs.pacer()}, nil
}

// A pacedFile is written by one goroutine.
type pacedFile struct {
	vfs.File
	rest func()
}

func (f pacedFile) Write(p []byte) (n int, err error) {
	n, err = f.File.Write(p)
	f.rest()
	return n, err
}
