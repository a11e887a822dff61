package walsender

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A Backuper makes base backups: a copy of the node's data as of a checkpoint, from which recovery
// reaches every later position of the log.
type Backuper interface {
	// BeginBackup makes a checkpoint and a copy that does not change, and keeps the log from the
	// checkpoint's redo position on.
	BeginBackup(ctx context.Context, opt BackupOptions) (Backup, error)
}

// BackupOptions are the client's wishes that concern the node.
type BackupOptions struct {
	Label string
	Fast  bool // make the checkpoint at once

	Log bool // what a recovery of the copy needs of the log comes with it

	// Member says that the copy is for a member of the cluster, which streams the log it needs, from its start or, with
	// Log, from its end on: no segment has to be finished for it.
	Member bool
	Name   string // the member's
	Bare   bool   // a member that keeps no table: the copy is without it
}

// A Backup is a copy being sent.
type Backup interface {
	Start() BackupPoint
	Files() []BackupFile

	// End returns the position up to which a recovery of the copy needs the log, and that position's
	// timeline. The log up to there is durable, and below the horizon unless a member asks.
	End(ctx context.Context) (wal.LSN, wal.TimelineID, error)

	// Close gives up the copy and the log it kept. It is called once, last.
	Close() error
}

// A BackupPoint is where recovery of a backup begins.
type BackupPoint struct {
	LSN         wal.LSN // redo position of the checkpoint
	Checkpoint  wal.LSN // of the checkpoint record
	Timeline    wal.TimelineID
	Time        time.Time
	FromStandby bool
}

// A BackupFile is a file or directory of a backup. A directory comes before what it holds.
type BackupFile struct {
	Path    string // relative, slash-separated, at most 99 bytes; a directory's ends in a slash
	Size    int64  // bytes, exactly
	ModTime time.Time
	Open    func() (io.ReadCloser, error) // nil for a directory
}

func (f *BackupFile) isDir() bool { return strings.HasSuffix(f.Path, "/") }

// controlPath is the file that says where recovery begins. It is sent last, so that a copy cut short
// does not look like one.
const controlPath = "global/control"

// A baseCopy is one run of BASE_BACKUP.
type baseCopy struct {
	session  *Session
	conn     *pgwire.Conn
	log      *Log
	opt      backupOptions
	backup   Backup
	start    BackupPoint
	manifest *manifest // nil if the client wants none
}

// baseBackup answers BASE_BACKUP:
//
//	where it starts | the tablespaces | copy-out: archive, manifest | where it ends
//
// See the PostgreSQL 15 manual, "Streaming Replication Protocol", BASE_BACKUP.
func (s *Session) baseBackup(ctx context.Context, cmd baseBackup) error {
	if s.server.cfg.Backup == nil {
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "this server makes no base backups")
	}
	opt, err := readBackupOptions(cmd.options)
	if err != nil {
		return err
	}
	defer s.unblockWrites(ctx)()
	s.progress.setState(syncrep.Backup)
	s.phase(PhaseCheckpoint)
	if opt.Member = !s.id.IsZero(); opt.Member {
		opt.Name = s.name
	}
	if opt.Bare && !opt.Member {
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "a base backup without the table is for members of the cluster alone")
	}
	backup, err := s.server.cfg.Backup.BeginBackup(ctx, opt.BackupOptions)
	if err != nil {
		return err
	}
	defer func() {
		if err := backup.Close(); err != nil {
			s.log.Error("cannot clean up after a base backup", "err", err)
		}
	}()
	b := &baseCopy{session: s, conn: s.conn, log: s.server.cfg.Log, opt: opt, backup: backup, start: backup.Start()}
	if opt.manifest {
		b.manifest = newManifest(opt.checksum, opt.forceEncode)
	}
	return b.run(ctx)
}

func (b *baseCopy) run(ctx context.Context) error {
	if err := b.sendPosition(b.start.LSN, b.start.Timeline); err != nil {
		return err
	}
	if err := b.sendTablespaces(); err != nil {
		return err
	}
	b.conn.Send(&pgproto3.CopyOutResponse{})
	out := newCopyStream(ctx, b.conn, b.opt.maxRate)
	end, timeline, err := b.sendArchive(ctx, out)
	if err != nil {
		return err
	}
	if b.manifest != nil {
		text := b.manifest.finish(b.walRanges(end, timeline))
		if err := out.manifest(text); err != nil {
			return err
		}
	}
	b.conn.Send(&pgproto3.CopyDone{})
	if err := b.sendPosition(end, timeline); err != nil {
		return err
	}
	b.conn.SendCommandComplete("BASE_BACKUP")
	b.session.log.Info("base backup sent", "start", b.start.LSN, "end", end)
	return nil
}

// sendPosition sends where the backup starts or ends.
func (b *baseCopy) sendPosition(lsn wal.LSN, timeline wal.TimelineID) error {
	return b.session.sendRow("SELECT", []pgwire.Column{text("recptr"), int8("tli")},
		lsnText(lsn), strconv.AppendUint(nil, uint64(timeline), 10))
}

// sendTablespaces sends the list of tablespaces, which is the data directory, and its size in kB if
// the client wants to show progress.
func (b *baseCopy) sendTablespaces() error {
	total := int64(-1)
	var kilobytes []byte
	if b.opt.progress {
		b.session.phase(PhaseEstimating)
		total = estimate(b.backup.Files())
		kilobytes = strconv.AppendInt(nil, total/1024, 10)
	}
	b.session.progress.updateBackup(func(s *BackupStat) { s.Total, s.TablespacesTotal = total, 1 })
	oid := pgwire.Column{Name: "spcoid", Type: oidOID, Size: 4, Mod: -1}
	return b.session.sendRow("SELECT", []pgwire.Column{oid, text("spclocation"), int8("size")}, nil, nil, kilobytes)
}

// estimate is the size of the archive, without WAL.
func estimate(files []BackupFile) int64 {
	total := int64(0)
	for _, f := range files {
		total += tarBlock + (f.Size+tarBlock-1)/tarBlock*tarBlock
	}
	return total
}

// label is the content of backup_label: what a recovery needs to know, and what tells a copy from the
// original.
func (b *baseCopy) label() string {
	size := b.log.Format.SegmentSize
	from := "primary"
	if b.start.FromStandby {
		from = "standby"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "START WAL LOCATION: %s (file %s)\n", b.start.LSN, size.FileName(b.start.Timeline, size.Segno(b.start.LSN)))
	fmt.Fprintf(&text, "CHECKPOINT LOCATION: %s\n", b.start.Checkpoint)
	fmt.Fprintf(&text, "BACKUP METHOD: streamed\n")
	fmt.Fprintf(&text, "BACKUP FROM: %s\n", from)
	fmt.Fprintf(&text, "START TIME: %s\n", b.start.Time.UTC().Format(gmt))
	fmt.Fprintf(&text, "LABEL: %s\n", b.opt.Label)
	fmt.Fprintf(&text, "START TIMELINE: %d\n", b.start.Timeline)
	return text.String()
}

// walRanges is the log that a recovery of the copy needs, timeline by timeline, newest first.
func (b *baseCopy) walRanges(end wal.LSN, timeline wal.TimelineID) []walRange {
	var ranges []walRange
	for h := b.log.History; ; {
		r := walRange{timeline: timeline, start: b.start.LSN, end: end}
		begin := h.Begin(timeline)
		if timeline == b.start.Timeline || begin <= b.start.LSN {
			return append(ranges, r)
		}
		r.start = begin
		ranges = append(ranges, r)
		end, timeline = begin, parent(h, timeline)
	}
}

// parent is the timeline that tli, of history h and not its first, has left.
func parent(h wal.History, tli wal.TimelineID) wal.TimelineID {
	before := h.Switches[0].Parent
	for _, s := range h.Switches {
		if s.Parent >= tli {
			break
		}
		before = s.Parent
	}
	return before
}

func (s *Session) phase(phase BackupPhase) {
	s.progress.updateBackup(func(b *BackupStat) { b.Phase = phase })
}

// unblockWrites arranges that a client that does not read cannot hold up the command for long once
// ctx has ended, and returns what undoes it.
func (s *Session) unblockWrites(ctx context.Context) (undo func()) {
	conn := s.conn.NetConn()
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(fired)
		conn.SetWriteDeadline(time.Now().Add(lastWords))
	})
	return func() {
		if !stop() {
			<-fired
		}
		conn.SetWriteDeadline(time.Time{})
	}
}
