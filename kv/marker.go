package kv

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// markerFS orders what Pebble leaves to the file system. Pebble makes a new manifest current by
// creating a marker file that names it, and syncs the directory once for the two. A power cut in
// between may keep the marker and lose the manifest, and then the store cannot be opened. So the
// directory is synced before each marker too.
type markerFS struct{ vfs.FS }

func (fs markerFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(fs.PathBase(name), "marker.") {
		if err := wal.SyncDir(fs.FS, fs.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return fs.FS.Create(name, category)
}
