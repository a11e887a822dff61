package waldump

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A segment is one file of the log.
type segment struct {
	path     string
	name     string
	timeline wal.TimelineID
	segno    uint64
}

// A chain is a run of consecutive segments, read as one log.
type chain struct {
	format   wal.Format
	segments []segment
	whole    bool // nothing follows: behind the last segment the log does not exist
}

func (c *chain) start() wal.LSN { return c.format.SegmentSize.Start(c.segments[0].segno) }
func (c *chain) end() wal.LSN {
	return c.format.SegmentSize.Start(c.segments[len(c.segments)-1].segno + 1)
}

// chains finds the files to read.
func (cfg *Config) chains() ([]chain, error) {
	if cfg.DataDir != "" {
		c, err := openDataDir(cfg.DataDir, cfg.Timeline)
		if err != nil {
			return nil, err
		}
		c, err = c.from(cfg.From)
		return []chain{c}, err
	}
	var files []string
	for _, path := range cfg.Paths {
		found, from, err := expand(path)
		if err != nil {
			return nil, err
		}
		if cfg.From == 0 && len(cfg.Paths) == 1 {
			cfg.From = from
		}
		files = append(files, found...)
	}
	return openFiles(files)
}

// orphanName is how startup.Cut names the folder of a tail: <epoch>-<LSN>.
var orphanName = regexp.MustCompile(`^[0-9]+-([0-9A-F]{1,8})-([0-9A-F]{1,8})$`)

// expand returns the segment files in a folder, or the file itself. A folder of orphans says in its
// name where the tail begins; what its first segment holds before that is not part of it.
func expand(path string) (files []string, from wal.LSN, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: give the path of a segment file or a folder of them", err)
	}
	if !info.IsDir() {
		return []string{path}, 0, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		if wal.IsSegmentName(plainName(e.Name())) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, 0, fmt.Errorf("%s holds no segment files: for a node's data directory use --data-dir", path)
	}
	if m := orphanName.FindStringSubmatch(filepath.Base(path)); m != nil {
		from, err = wal.ParseLSN(m[1] + "/" + m[2])
	}
	return files, from, err
}

// openFiles groups files into chains: by timeline, consecutive numbers together.
func openFiles(paths []string) ([]chain, error) {
	type file struct {
		segment
		format wal.Format
	}
	var files []file
	for _, path := range paths {
		s, f, err := identify(path)
		if err != nil {
			return nil, err
		}
		files = append(files, file{s, f})
	}
	slices.SortStableFunc(files, func(a, b file) int {
		return cmp.Or(cmp.Compare(a.timeline, b.timeline), cmp.Compare(a.segno, b.segno))
	})
	var chains []chain
	for _, f := range files {
		if n := len(chains); n > 0 && chains[n-1].continues(f.segment, f.format) {
			chains[n-1].segments = append(chains[n-1].segments, f.segment)
			continue
		}
		chains = append(chains, chain{format: f.format, segments: []segment{f.segment}})
	}
	return chains, nil
}

// continues reports whether s comes next in the chain.
func (c *chain) continues(s segment, f wal.Format) bool {
	last := c.segments[len(c.segments)-1]
	sameCluster := c.format.SystemID == f.SystemID || f.SystemID == 0 // 0: never written, so the log's end
	return last.timeline == s.timeline && last.segno+1 == s.segno && c.format.SegmentSize == f.SegmentSize && sameCluster
}

// identify finds out what a file holds: its segment size from its long header, its place in the log
// from its name, or from the header if it has been renamed. A file that was never written has no
// header: then its size is the segment size.
func identify(path string) (segment, wal.Format, error) {
	header, size, err := readHeader(path)
	if err != nil {
		return segment{}, wal.Format{}, err
	}
	name := filepath.Base(path)
	s := segment{path: path, name: name}
	h, headerErr := wal.SegmentHeader(header, wal.PG15)
	format := wal.Format{Version: wal.PG15, SegmentSize: h.SegmentSize, SystemID: h.SystemID}
	if headerErr != nil {
		format.SegmentSize, format.SystemID = wal.SegmentSize(size), 0
	}
	var named bool
	if size <= int64(wal.MaxSegmentSize) && format.SegmentSize.Valid() {
		s.timeline, s.segno, named = format.SegmentSize.ParseFileName(plainName(name))
	}
	switch {
	case named:
		return s, format, nil
	case headerErr != nil:
		return segment{}, wal.Format{}, fmt.Errorf("%s is not a WAL segment: %w", path, headerErr)
	}
	s.timeline, s.segno = h.Timeline, format.SegmentSize.Segno(h.Addr)
	return s, format, nil
}

// plainName undoes what pg_receivewal does to the name of the segment it is filling.
func plainName(name string) string { return strings.TrimSuffix(name, ".partial") }

// readHeader reads the first bytes of a file, fewer if it is short, and its size.
func readHeader(path string) ([]byte, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, 64)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	return b[:n], info.Size(), nil
}

// openDataDir lists the log of one timeline and its ancestors in a node's data directory.
func openDataDir(path string, tli wal.TimelineID) (chain, error) {
	data := startup.DataDir{FS: vfs.Default, Path: path}
	format, err := findFormat(data.WAL())
	if err != nil {
		return chain{}, err
	}
	dir := wal.NewDir(vfs.Default, data.WAL(), format)
	files, err := dir.Segments()
	if err != nil {
		return chain{}, err
	}
	if tli == 0 {
		known, err := dir.Histories()
		if err != nil {
			return chain{}, err
		}
		tli = slices.Max(append(known, 1))
	}
	history, err := dir.ReadHistory(tli)
	if err != nil {
		return chain{}, fmt.Errorf("%w: choose another --timeline", err)
	}
	c := chain{format: format, whole: true}
	for _, f := range files {
		if f.Timeline == history.FileTimeline(f.Segno, format.SegmentSize) {
			c.segments = append(c.segments, segment{filepath.Join(dir.Path, f.Name), f.Name, f.Timeline, f.Segno})
		}
	}
	if len(c.segments) == 0 {
		return chain{}, fmt.Errorf("%s holds no segment of timeline %d: choose another --timeline", dir.Path, tli)
	}
	return c, nil
}

// findFormat reads segment size and system identifier from the first segment that has a header.
func findFormat(folder string) (wal.Format, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return wal.Format{}, fmt.Errorf("%w: --data-dir wants a node's data directory", err)
	}
	for _, e := range entries {
		if !wal.IsSegmentName(e.Name()) {
			continue
		}
		header, _, err := readHeader(filepath.Join(folder, e.Name()))
		if err != nil {
			return wal.Format{}, err
		}
		if h, err := wal.SegmentHeader(header, wal.PG15); err == nil {
			return wal.Format{Version: wal.PG15, SegmentSize: h.SegmentSize, SystemID: h.SystemID}, nil
		}
	}
	return wal.Format{}, fmt.Errorf("%s holds no WAL yet", folder)
}

// from leaves the consecutive segments that begin with the one that holds l; 0 stands for the oldest.
func (c chain) from(l wal.LSN) (chain, error) {
	size := c.format.SegmentSize
	if l == 0 {
		l = c.start()
	}
	i := slices.IndexFunc(c.segments, func(s segment) bool { return s.segno == size.Segno(l) })
	if i < 0 {
		return chain{}, fmt.Errorf("there is no WAL at %s: the log here reaches from %s to %s", l, c.start(), c.end())
	}
	c.segments = c.segments[i:]
	for i, s := range c.segments {
		if s.segno != c.segments[0].segno+uint64(i) {
			c.segments = c.segments[:i]
			break
		}
	}
	return c, nil
}

// ParseTimeline reads a timeline as a decimal number, or as the eight digits of a file name.
func ParseTimeline(s string) (wal.TimelineID, error) {
	base := 10
	if len(s) == 8 {
		base = 16
	}
	n, err := strconv.ParseUint(s, base, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("timeline %q: want a number from 1 on", s)
	}
	return wal.TimelineID(n), nil
}
