package drill

import (
	"fmt"
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

// openWAL opens the log in a data directory up to end.
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
	w.oldest = format.SegmentSize.PrevSegno(end) + 1
	for w.oldest > 0 && slices.ContainsFunc(files, func(f wal.SegmentFile) bool {
		return f.Segno == w.oldest-1 && f.Timeline == w.history.FileTimeline(f.Segno, format.SegmentSize)
	}) {
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

func (w *walFiles) close() error { return w.raw.Close() }
