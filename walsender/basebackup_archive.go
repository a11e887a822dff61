package walsender

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// tarBlock is what headers and contents of a tar archive are padded to.
const tarBlock = 512

// maxTarName is the longest name that pg_basebackup takes: it ignores the prefix field of ustar.
const maxTarName = 99

// An archive is the tar file of a backup. It is plain ustar, which is all pg_basebackup reads: no
// extended headers, times in whole seconds, short names.
type archive struct {
	copy *baseCopy
	tar  *tar.Writer
	gzip *gzip.Writer // nil without compression
	out  *copyStream
	buf  []byte // to read files into
}

// sendArchive sends the only archive there is and returns where the backup ends:
//
//	backup_label | pg_wal/ | directories and files | global/control | [WAL from start to end]
func (b *baseCopy) sendArchive(ctx context.Context, out *copyStream) (end wal.LSN, timeline wal.TimelineID, err error) {
	a, err := b.openArchive(out)
	if err != nil {
		return 0, 0, err
	}
	b.session.phase(PhaseStreaming)
	if err := a.content("backup_label", b.label()); err != nil {
		return 0, 0, err
	}
	if err := a.files(b.backup.Files()); err != nil {
		return 0, 0, err
	}
	b.session.phase(PhaseWaitingArchive)
	end, timeline, err = b.backup.End(ctx)
	if err != nil {
		return 0, 0, err
	}
	if b.opt.Log {
		b.session.phase(PhaseTransferring)
		if err := a.wal(end); err != nil {
			return 0, 0, err
		}
	}
	return end, timeline, a.close()
}

func (b *baseCopy) openArchive(out *copyStream) (*archive, error) {
	a := &archive{copy: b, out: out, buf: make([]byte, 64<<10)}
	name := "base.tar"
	var to io.Writer = out
	if b.opt.gzip {
		name += ".gz"
		var err error
		if a.gzip, err = gzip.NewWriterLevel(out, b.opt.gzipLevel); err != nil {
			return nil, err
		}
		to = a.gzip
	}
	a.tar = tar.NewWriter(io.MultiWriter(counter{b.session, out}, to))
	return a, out.begin(name)
}

// A counter counts the archive's bytes, before compression, for those who watch.
type counter struct {
	session *Session
	out     *copyStream
}

func (c counter) Write(p []byte) (int, error) {
	c.out.done += int64(len(p))
	c.session.progress.updateBackup(func(s *BackupStat) {
		s.Streamed = c.out.done
		if s.Total >= 0 {
			s.Total = max(s.Total, s.Streamed) // as PostgreSQL: it was an estimate
		}
	})
	return len(p), nil
}

// close ends the archive with its two empty blocks.
func (a *archive) close() error {
	if err := a.tar.Close(); err != nil {
		return err
	}
	if a.gzip != nil {
		if err := a.gzip.Close(); err != nil {
			return err
		}
	}
	a.copy.session.progress.updateBackup(func(s *BackupStat) { s.TablespacesStreamed = 1 })
	return a.out.end()
}

// files sends the directories and files of the backup, the control file last. The WAL folder is always
// there, and empty.
func (a *archive) files(files []BackupFile) error {
	now := a.copy.start.Time
	for _, dir := range []string{walFolder, statusFolder} {
		if err := a.add(&BackupFile{Path: dir, ModTime: now}); err != nil {
			return err
		}
	}
	var control *BackupFile
	for i := range files {
		f := &files[i]
		switch {
		case f.Path == controlPath:
			control = f
			continue
		case f.Path == walFolder, f.Path == statusFolder:
			continue
		}
		if err := a.add(f); err != nil {
			return err
		}
	}
	if control == nil {
		return nil
	}
	return a.add(control)
}

// add sends one file or directory, and lists a file in the manifest.
func (a *archive) add(f *BackupFile) error {
	if f.isDir() {
		return a.header(f, tar.TypeDir, 0o700)
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("base backup: open %s: %w", f.Path, err)
	}
	defer r.Close()
	return a.listed(f, r)
}

func (a *archive) listed(f *BackupFile, content io.Reader) error {
	m := a.copy.manifest
	if m == nil {
		return a.file(f, content)
	}
	sum := m.checksum.newHash()
	if sum != nil {
		content = io.TeeReader(content, sum)
	}
	if err := a.file(f, content); err != nil {
		return err
	}
	m.add(f, sum)
	return nil
}

// content sends a small file made here.
func (a *archive) content(path, text string) error {
	f := BackupFile{Path: path, Size: int64(len(text)), ModTime: a.copy.start.Time}
	return a.listed(&f, strings.NewReader(text))
}

// file sends a file, which has exactly the size it is said to have.
func (a *archive) file(f *BackupFile, content io.Reader) error {
	if err := a.header(f, tar.TypeReg, 0o600); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{a.tar}, io.LimitReader(content, f.Size), a.buf)
	if err == nil && n < f.Size {
		err = fmt.Errorf("it has %d bytes, not %d", n, f.Size)
	}
	if err != nil {
		return fmt.Errorf("base backup: send %s: %w", f.Path, err)
	}
	return nil
}

func (a *archive) header(f *BackupFile, typ byte, mode int64) error {
	if len(f.Path) > maxTarName {
		return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "file name too long for tar format: %q", f.Path)
	}
	err := a.tar.WriteHeader(&tar.Header{
		Typeflag: typ,
		Name:     f.Path,
		Size:     f.Size,
		Mode:     mode,
		ModTime:  f.ModTime.Truncate(time.Second),
		Uname:    "postgres",
		Gname:    "postgres",
		Format:   tar.FormatUSTAR,
	})
	if err != nil {
		return fmt.Errorf("base backup: send %s: %w", f.Path, err)
	}
	return nil
}

// Folders of the log, as they are named in every data directory.
const (
	walFolder    = "pg_wal/"
	statusFolder = "pg_wal/archive_status/"
)

// wal sends the log from the backup's start to end: each segment, marked as archived, so that nobody
// archives it again, and the history files. Segments are not in the manifest.
func (a *archive) wal(end wal.LSN) error {
	b := a.copy
	size := b.log.Format.SegmentSize
	for segno := size.Segno(b.start.LSN); segno <= size.PrevSegno(end); segno++ {
		name := size.FileName(b.log.History.FileTimeline(segno, size), segno)
		if err := a.segment(name, segno, end); err != nil {
			return err
		}
		if err := a.content(statusFolder+name+".done", ""); err != nil {
			return err
		}
	}
	return a.histories()
}

// segment sends one segment. What its file holds past the end of the backup is sent as zeros: it may
// lie past the horizon, and a copy must not hold what a failover could take back, but for a member's.
func (a *archive) segment(name string, segno uint64, end wal.LSN) error {
	b := a.copy
	dir, size := b.log.Dir, b.log.Format.SegmentSize
	tli := b.log.History.FileTimeline(segno, size)
	if err := dir.CheckIntact(tli, size.Start(segno), size.Start(segno+1)); err != nil {
		return walError(err)
	}
	f, err := dir.OpenSegment(tli, segno)
	if err != nil {
		return walError(err)
	}
	defer f.Close()
	used := int64(min(end-size.Start(segno), wal.LSN(size)))
	content := io.MultiReader(io.LimitReader(f, used), zeros{})
	file := BackupFile{Path: walFolder + name, Size: int64(size), ModTime: b.start.Time}
	if err := a.file(&file, content); err != nil {
		return err
	}
	if segno < dir.RemovedBelow() {
		return walError(&wal.RemovedError{Segment: name})
	}
	return nil
}

// histories sends the history files of the timelines that the backup's one descends from.
func (a *archive) histories() error {
	dir := a.copy.log.Dir
	timelines := []wal.TimelineID{a.copy.log.Timeline}
	for _, s := range a.copy.log.History.Switches {
		timelines = append(timelines, s.Parent)
	}
	for _, tli := range timelines {
		name := wal.HistoryFileName(tli)
		text, err := wal.ReadFile(dir.FS, dir.FS.PathJoin(dir.Path, name), maxHistorySize)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the first timeline has none
		}
		if err != nil {
			return walError(err)
		}
		if err := a.content(walFolder+name, string(text)); err != nil {
			return err
		}
		if err := a.content(statusFolder+name+".done", ""); err != nil {
			return err
		}
	}
	return nil
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
