package drill

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A walFiles is the log in a node's data directory: the newest timeline and its ancestors.
type walFiles struct {
	dir     *wal.Dir
	history wal.History
	oldest  uint64 // segment, from which on none is missing
	raw     *wal.RawReader
}

// openWAL opens the log in a data directory up to end, 0 for all of it.
func openWAL(path string, end wal.LSN) (*walFiles, error) {
	data := startup.DataDir{FS: vfs.Default, Path: path}
	format := wal.Format{Version: wal.PG15, SegmentSize: segmentSize}
	w := &walFiles{dir: wal.NewDir(vfs.Default, data.WAL(), format)}
	timelines, err := w.dir.Histories()
	if err != nil {
		return nil, err
	}
	if w.history, err = w.dir.ReadHistory(slices.Max(append(timelines, 1))); err != nil {
		return nil, err
	}
	files, err := w.dir.Segments()
	if err != nil {
		return nil, err
	}
	ours := func(f wal.SegmentFile) bool { return f.Timeline == w.history.FileTimeline(f.Segno, format.SegmentSize) }
	files = slices.DeleteFunc(files, func(f wal.SegmentFile) bool { return !ours(f) })
	if end == 0 && len(files) > 0 {
		end = format.SegmentSize.Start(files[len(files)-1].Segno + 1)
	}
	w.oldest = format.SegmentSize.PrevSegno(end) + 1
	for w.oldest > 0 && slices.ContainsFunc(files, func(f wal.SegmentFile) bool { return f.Segno == w.oldest-1 }) {
		w.oldest--
	}
	if w.begin() >= end {
		return nil, fmt.Errorf("%s has no log before %s", path, end)
	}
	w.raw = wal.NewRawReader(w.dir, w.history, nil)
	return w, nil
}

func (w *walFiles) begin() wal.LSN { return w.dir.Format.SegmentSize.Start(w.oldest) }

func (w *walFiles) readAt(p []byte, at wal.LSN) (int, error) { return w.raw.ReadAt(p, at) }

func (w *walFiles) commits(end wal.LSN, each func(at wal.LSN, ops []kv.Op)) error {
	r := wal.NewReader(w.raw, w.begin(), 0)
	var c kv.Commit
	for {
		rec, ok, err := r.Next(end)
		if err != nil || !ok {
			return err
		}
		if rec.Rmgr != wal.RmgrLongship || rec.Info&0xF0 != kv.InfoCommit {
			continue
		}
		if err := c.Decode(rec.Data); err != nil {
			return fmt.Errorf("record at %s: %w", rec.LSN, err)
		}
		for i := range c.Ops { // they are the record's, which is the reader's
			c.Ops[i].Key = strings.Clone(c.Ops[i].Key)
		}
		each(rec.End, c.Ops)
	}
}

// file is the path of the segment that holds at.
func (w *walFiles) file(at wal.LSN) string {
	size := w.dir.Format.SegmentSize
	segno := size.Segno(at)
	return filepath.Join(w.dir.Path, size.FileName(w.history.FileTimeline(segno, size), segno))
}

// last is the last record of the log of a node that does not run.
func (w *walFiles) last() (last wal.Record, err error) {
	r := wal.NewReader(w.raw, w.begin(), 0)
	for {
		rec, ok, err := r.Next(^wal.LSN(0))
		if _, ended := errors.AsType[*wal.InvalidError](err); ended || err == nil && !ok {
			break
		}
		if _, ended := errors.AsType[*wal.RemovedError](err); ended {
			break
		}
		if err != nil {
			return last, err
		}
		last = rec
	}
	if last.LSN == 0 {
		err = fmt.Errorf("there is no record in %s", w.dir.Path)
	}
	return last, err
}

func (w *walFiles) close() error { return w.raw.Close() }
