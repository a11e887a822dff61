package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walsender"
)

// backups are the base copies being taken from this node, each of which keeps the WAL from its
// start on.
type backups struct {
	mu   sync.Mutex
	open map[*backup]bool
	next int
	over bool // the epoch is being ended: nothing is added to the log any more
}

// A backup is one base copy: hard links to the store's files as of a checkpoint, and a control file
// that makes recovery start there.
type backup struct {
	reign  *reign
	opt    walsender.BackupOptions
	point  walsender.BackupPoint
	folder string
	files  []walsender.BackupFile
}

// backupFolder holds the hard links of base copies while they are taken.
const backupFolder = "backups.tmp"

// BeginBackup implements walsender.Backuper.
func (r *reign) BeginBackup(ctx context.Context, opt walsender.BackupOptions) (walsender.Backup, error) {
	if r.node.cfg.Witness {
		return nil, r.node.errNoTable("a base backup cannot be taken from it")
	}
	b := &backup{reign: r, opt: opt}
	r.backups.mu.Lock()
	r.backups.next++
	b.folder = r.node.dir.FS.PathJoin(r.node.dir.Path, backupFolder, fmt.Sprint(r.backups.next))
	r.backups.mu.Unlock()
	// The checkpoint decides where recovery of the copy starts, so its WAL must be held before it is
	// written: at first everything from the old redo position on.
	b.point = walsender.BackupPoint{LSN: r.checkpointer.Control().Redo}
	r.backups.hold(b)
	if err := b.begin(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *backup) begin(ctx context.Context) error {
	r := b.reign
	if err := r.checkpointer.Request(ctx); err != nil {
		return clientError(err)
	}
	control := r.checkpointer.Control()
	files, err := b.storeFiles(ctx)
	if err != nil {
		return err
	}
	controlFile, err := b.controlFile(control)
	if err != nil {
		return err
	}
	b.files = append(files, controlFile)
	r.backups.mu.Lock()
	defer r.backups.mu.Unlock()
	b.point = walsender.BackupPoint{
		LSN:         r.found.Dir.Format.RecordStart(control.Redo),
		Checkpoint:  control.Checkpoint,
		Timeline:    r.found.End.Timeline,
		Time:        time.Now(),
		FromStandby: r.primary == nil,
	}
	return nil
}

// storeFiles links the store's files into the backup's folder, where they never change, and lists them:
// none for a witness.
func (b *backup) storeFiles(ctx context.Context) ([]walsender.BackupFile, error) {
	if b.opt.Bare {
		return []walsender.BackupFile{{Path: "global/"}}, nil
	}
	fs := b.reign.node.dir.FS
	if err := fs.MkdirAll(fs.PathDir(b.folder), 0o700); err != nil {
		return nil, err
	}
	if err := b.reign.node.store.Checkpoint(ctx, b.folder); err != nil {
		return nil, err
	}
	names, err := fs.List(b.folder)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	files := []walsender.BackupFile{{Path: "pg_wal/"}, {Path: "pg_tblspc/"}, {Path: "global/"}, {Path: "store/"}}
	for _, name := range names {
		path := fs.PathJoin(b.folder, name)
		info, err := fs.Stat(path)
		if err != nil {
			return nil, err
		}
		files = append(files, walsender.BackupFile{
			Path:    "store/" + name,
			Size:    info.Size(),
			ModTime: info.ModTime(),
			Open:    func() (io.ReadCloser, error) { return fs.Open(path) },
		})
	}
	return files, nil
}

// controlFile is the copy's control file: its log is another node's up to where it will begin, and
// nothing of it is on disk yet.
func (b *backup) controlFile(c startup.Control) (walsender.BackupFile, error) {
	c.ReignStart = 0
	c.Durable = b.reign.node.identity().SegmentSize.SegmentStart(c.Redo) // where the copy begins to stream
	c.Clean = false
	c.Damage = nil // of this node's disk
	text, err := c.Encode()
	if err != nil {
		return walsender.BackupFile{}, err
	}
	return walsender.BackupFile{
		Path:    "global/control",
		Size:    int64(len(text)),
		ModTime: c.Time,
		Open:    func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}, nil
}

// Start implements walsender.Backup.
func (b *backup) Start() walsender.BackupPoint { return b.point }

// Files implements walsender.Backup.
func (b *backup) Files() []walsender.BackupFile { return b.files }

// End implements walsender.Backup: the segment is finished, so that an archive has it, and the end is
// within the horizon, so that receivers get it.
func (b *backup) End(ctx context.Context) (wal.LSN, wal.TimelineID, error) {
	r := b.reign
	if r.primary != nil && b.opt.Member && b.opt.Log {
		return r.endForMember(b.opt.Name)
	}
	if r.primary == nil || b.opt.Member {
		// Nothing is applied yet if the rule has never been met.
		return max(r.applied.Load(), b.point.LSN), r.found.End.Timeline, nil
	}
	end, err := r.backups.finishSegment(r.primary.writer)
	if err != nil {
		return 0, 0, clientError(err)
	}
	return end, r.found.End.Timeline, r.horizon.Wait(ctx, end)
}

// endForMember ends a base copy for a member that brings the log with it: all of it. The member's slot, which may have
// been lost, keeps what follows from now on. If it is in use, the member follows already, and does not want the copy.
func (r *reign) endForMember(name string) (wal.LSN, wal.TimelineID, error) {
	r.admitting.Lock()
	defer r.admitting.Unlock()
	end := r.flushed().Load()
	if err := r.slots.Renew(slots.MemberName(name), end, admitter); err != nil {
		return 0, 0, clientError(err)
	}
	return end, r.found.End.Timeline, nil
}

// Close implements walsender.Backup.
func (b *backup) Close() error {
	r := b.reign
	r.backups.mu.Lock()
	delete(r.backups.open, b)
	r.backups.mu.Unlock()
	return r.node.dir.FS.RemoveAll(b.folder)
}

func (s *backups) hold(b *backup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*backup]bool{}
	}
	s.open[b] = true
}

// finishSegment ends a segment for a base copy, unless the epoch is being ended.
func (s *backups) finishSegment(w *wal.Writer) (wal.LSN, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return 0, errShuttingDown()
	}
	return w.Switch()
}

// close keeps base copies from adding to the log: what comes after the record that ends an epoch
// cleanly would be lost, and written again differently.
func (s *backups) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// oldest is the lowest position that a base copy needs, 0 if none is under way.
func (s *backups) oldest() wal.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest wal.LSN
	for b := range s.open {
		if oldest == 0 || b.point.LSN < oldest {
			oldest = b.point.LSN
		}
	}
	return oldest
}

// removeBackups deletes what base copies under way left at a crash.
func removeBackups(d startup.DataDir) error {
	return d.FS.RemoveAll(d.FS.PathJoin(d.Path, backupFolder))
}
