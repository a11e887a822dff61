package walreceiver

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// Limits on what an archive may contain.
const (
	maxFiles    = 1 << 20
	maxFileSize = 1 << 42 // 4 TiB
	maxName     = 1 << 10
)

// copyCategory labels our writes for Pebble's file system statistics.
const copyCategory vfs.DiskWriteCategory = "base-copy"

// An extractor unpacks an archive below a directory. It makes directories and plain files and replaces
// nothing, so no name that is local to the directory can lead out of it.
type extractor struct {
	fs      vfs.FS
	dest    string
	files   map[string]extracted // by name in the archive
	folders map[string]bool      // existing ones, by name in the archive; "." is dest
	buf     []byte
}

// An extracted file is what has been written of it.
type extracted struct {
	size int64
	crc  uint32 // CRC-32C
}

func newExtractor(fs vfs.FS, dest string) *extractor {
	return &extractor{
		fs:      fs,
		dest:    dest,
		files:   make(map[string]extracted),
		folders: map[string]bool{".": true},
		buf:     make([]byte, 256<<10),
	}
}

// extract unpacks a tar archive; every file is durable, but not yet its name.
func (x *extractor) extract(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := x.entry(h, tr); err != nil {
			return fmt.Errorf("archive member %q: %w", h.Name[:min(len(h.Name), maxName)], err)
		}
	}
	_, err := io.CopyBuffer(io.Discard, r, x.buf) // the padding behind the end mark
	return err
}

func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	name, err := localName(h.Name)
	if err != nil {
		return err
	}
	if len(x.files)+len(x.folders) >= maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errors.New("sparse file") // a few bytes could unpack to any number
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.folder(name)
	case tar.TypeReg:
		return x.file(name, h.Size, r)
	default:
		return fmt.Errorf("neither file nor directory (type %q)", h.Typeflag)
	}
}

// localName checks and cleans a name: relative, below the directory, the same on every system.
func localName(s string) (string, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(s, "./"), "/")
	switch {
	case name == "" || len(name) > maxName:
		return "", errors.New("invalid length of name")
	case strings.ContainsAny(name, "\\\x00:"):
		return "", errors.New("invalid character in name")
	case path.Clean(name) != name || path.IsAbs(name) || !filepath.IsLocal(filepath.FromSlash(name)):
		return "", errors.New("not a clean name below the directory")
	}
	return name, nil
}

func (x *extractor) path(name string) string {
	return x.fs.PathJoin(append([]string{x.dest}, strings.Split(name, "/")...)...)
}

// folder makes a directory, and those above it.
func (x *extractor) folder(name string) error {
	if x.folders[name] {
		return nil
	}
	if _, file := x.files[name]; file {
		return errors.New("is a file already")
	}
	if err := x.folder(path.Dir(name)); err != nil {
		return err
	}
	x.folders[name] = true
	return x.fs.MkdirAll(x.path(name), 0o700)
}

func (x *extractor) file(name string, size int64, r io.Reader) error {
	if _, twice := x.files[name]; twice || x.folders[name] {
		return errors.New("appears twice")
	}
	if size > maxFileSize {
		return fmt.Errorf("%d bytes are more than a file may have", size)
	}
	if err := x.folder(path.Dir(name)); err != nil {
		return err
	}
	if exists, err := wal.Exists(x.fs, x.path(name)); err != nil {
		return err
	} else if exists {
		return errors.New("exists already")
	}
	f, err := x.fs.Create(x.path(name), copyCategory)
	if err != nil {
		return err
	}
	sum, err := x.write(f, r)
	if err == nil && sum.size != size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	x.files[name] = sum
	return errors.Join(err, f.Close())
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (x *extractor) write(f vfs.File, r io.Reader) (extracted, error) {
	var sum extracted
	for {
		n, err := r.Read(x.buf)
		sum.crc = crc32.Update(sum.crc, castagnoli, x.buf[:n]) // before Write, which may scribble on it
		sum.size += int64(n)
		if n > 0 {
			if _, err := f.Write(x.buf[:n]); err != nil {
				return sum, err
			}
		}
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// syncFolders makes the names durable, from the deepest directory up to the one that holds dest.
func (x *extractor) syncFolders() error {
	var names []string
	for name := range x.folders {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return strings.Count(b, "/") - strings.Count(a, "/")
	})
	for _, name := range names {
		if name == "." {
			continue
		}
		if err := wal.SyncDir(x.fs, x.path(name)); err != nil {
			return err
		}
	}
	if err := wal.SyncDir(x.fs, x.dest); err != nil {
		return err
	}
	return wal.SyncDir(x.fs, x.fs.PathDir(x.dest))
}
