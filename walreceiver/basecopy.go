package walreceiver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/wal"
)

// copyTimeout bounds each wait for a message during a base copy; the longest is for the checkpoint
// with which it begins.
const copyTimeout = 5 * time.Minute

// baseBackup asks for everything a standby starts from, and a manifest to check it against: the files, with Log the
// log, which is streamed otherwise, and without the table for a node that keeps none.
func (c *Config) baseBackup() string {
	options := "LABEL 'longship base copy', PROGRESS, CHECKPOINT 'fast', WAIT 0, " +
		"MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C'"
	if c.Log {
		options += ", WAL"
	}
	if c.Bare {
		options += ", TABLE false"
	}
	return "BASE_BACKUP ( " + options + " )"
}

// BaseCopy copies the upstream's data directory into the directory dest and makes it durable, dest's
// own entries included. What dest holds already stays: a copy that has a file of the same name fails.
// With cfg.Bare the copy is without the table. BaseCopy returns where the log of the copy must be
// replayed from, and the timeline there. progress, if not
// nil, is called now and then with the bytes received and the upstream's estimate of how many there
// are, 0 if it gives none.
//
// The copy is complete only when BaseCopy has returned nil: what it leaves in dest otherwise, the
// caller removes. Nothing outside dest is ever touched, whatever the upstream sends.
func BaseCopy(ctx context.Context, cfg Config, fs vfs.FS, dest string, progress func(done, total int64)) (wal.LSN, wal.TimelineID, error) {
	cfg = cfg.withDefaults()
	if err := fs.MkdirAll(dest, 0o700); err != nil {
		return 0, 0, fmt.Errorf("base copy: %w", err)
	}
	c, err := connect(ctx, &cfg)
	if err != nil {
		return 0, 0, causeOf(ctx, err)
	}
	defer c.close()
	b := &baseCopy{c: c, fs: fs, dest: dest, command: cfg.baseBackup(), progress: progress}
	if err := b.run(&cfg); err != nil {
		return 0, 0, fmt.Errorf("base copy from %s: %w", cfg.Primary, causeOf(ctx, err))
	}
	return b.start, b.timeline, nil
}

// A baseCopy is one run of BASE_BACKUP (PostgreSQL 15 manual, "Streaming Replication Protocol").
type baseCopy struct {
	c        *conn
	fs       vfs.FS
	dest     string
	command  string
	progress func(done, total int64)

	start    wal.LSN
	timeline wal.TimelineID
	total    int64 // estimated bytes
}

func (b *baseCopy) run(cfg *Config) error {
	if _, err := b.c.identifySystem(cfg); err != nil {
		return err
	}
	b.c.timeout = func() time.Duration { return copyTimeout }
	if err := b.begin(); err != nil {
		return err
	}
	stream := &copyStream{c: b.c, total: b.total, progress: b.progress}
	if err := stream.open(); err != nil {
		return err
	}
	x := newExtractor(b.fs, b.dest)
	if err := x.extract(stream); err != nil {
		return err
	}
	text, err := stream.manifest()
	if err != nil {
		return err
	}
	if err := x.verify(text); err != nil {
		return fmt.Errorf("check the copy against its manifest: %w", err)
	}
	if err := b.finish(); err != nil {
		return err
	}
	return x.syncFolders()
}

// begin sends the command and reads the two results before the archives: where the backup starts, and
// how large it is.
func (b *baseCopy) begin() error {
	if err := b.c.send(&pgproto3.Query{String: b.command}); err != nil {
		return err
	}
	first, err := b.resultSet()
	if err != nil {
		return err
	}
	if b.start, b.timeline, err = point(first); err != nil {
		return err
	}
	spaces, err := b.resultSet()
	if err != nil {
		return err
	}
	if len(spaces) != 1 || len(spaces[0]) != 3 || spaces[0][1] != nil {
		return errors.New("the upstream has tablespaces: only one data directory can be copied")
	}
	if size := spaces[0][2]; size != nil {
		kb, err := strconv.ParseInt(*size, 10, 64)
		if err != nil || kb < 0 || kb > 1<<52 {
			return fmt.Errorf("invalid size %q", *size)
		}
		b.total = kb << 10
	}
	return nil
}

// finish reads what follows the archives.
func (b *baseCopy) finish() error {
	end, err := b.resultSet()
	if err != nil {
		return err
	}
	if _, _, err := point(end); err != nil {
		return err
	}
	_, err = b.c.result()
	return err
}

// resultSet reads one result of several, up to its CommandComplete.
func (b *baseCopy) resultSet() ([]row, error) {
	var rows []row
	for {
		msg, err := b.c.receive()
		if err != nil {
			return nil, err
		}
		switch msg := msg.(type) {
		case *pgproto3.RowDescription, *pgproto3.ParameterStatus:
		case *pgproto3.DataRow:
			if len(rows) == maxRows {
				return nil, fmt.Errorf("the upstream sent more than %d rows", maxRows)
			}
			rows = append(rows, copyRow(msg))
		case *pgproto3.CommandComplete:
			return rows, nil
		case *pgproto3.ErrorResponse:
			return nil, serverError(msg)
		default:
			return nil, unexpected(msg)
		}
	}
}

// point reads the result that says where a backup starts or ends.
func point(rows []row) (wal.LSN, wal.TimelineID, error) {
	lsn, err1 := text(rows, 0)
	tli, err2 := text(rows, 1)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	at, err := wal.ParseLSN(lsn)
	if err != nil {
		return 0, 0, err
	}
	n, err := strconv.ParseUint(tli, 10, 32)
	if err != nil || n == 0 || at == 0 {
		return 0, 0, fmt.Errorf("invalid backup position %s on timeline %q", at, tli)
	}
	return at, wal.TimelineID(n), nil
}

// Types of the messages inside a base backup's CopyData.
const (
	msgNewArchive = 'n'
	msgManifest   = 'm'
	msgProgress   = 'p'
	msgData       = 'd'
)

// A copyStream reads the CopyData of a base backup: the bytes of the one archive, then, after
// manifest is called, those of the manifest.
type copyStream struct {
	c        *conn
	total    int64
	progress func(done, total int64)

	rest     []byte // of the current message; valid until the next receive
	done     int64
	reported int64
	part     byte // what the bytes are of: msgNewArchive, msgManifest, or 0 when the stream has ended
}

// progressStep is how many bytes pass between two reports.
const progressStep = 1 << 20

// open reads up to the beginning of the archive.
func (s *copyStream) open() error {
	msg, err := s.c.receive()
	if err != nil {
		return err
	}
	switch msg := msg.(type) {
	case *pgproto3.CopyOutResponse:
	case *pgproto3.ErrorResponse:
		return serverError(msg)
	default:
		return unexpected(msg)
	}
	if err := s.next(); err != nil {
		return err
	}
	if s.part != msgNewArchive {
		return errors.New("protocol violation: the base backup does not begin with an archive")
	}
	return nil
}

// Read reads the current part. It returns io.EOF at the part's end.
func (s *copyStream) Read(p []byte) (int, error) {
	for part := s.part; len(s.rest) == 0; {
		if err := s.next(); err != nil {
			return 0, err
		}
		if s.part != part {
			return 0, s.endOfPart(part)
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// next receives one message and sets part or rest.
func (s *copyStream) next() error {
	msg, err := s.c.receive()
	if err != nil {
		return err
	}
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return s.message(msg.Data)
	case *pgproto3.CopyDone:
		s.part = 0
		return nil
	case *pgproto3.ErrorResponse:
		return serverError(msg)
	default:
		return unexpected(msg)
	}
}

func (s *copyStream) message(b []byte) error {
	if len(b) == 0 {
		return errors.New("protocol violation: empty message in a base backup")
	}
	switch typ := b[0]; {
	case typ == msgData && s.part != 0:
		s.rest = b[1:]
		s.done += int64(len(s.rest))
		s.report(false)
	case typ == msgProgress && len(b) == 9: // we count for ourselves
	case typ == msgNewArchive && s.part == 0 && string(b[1:]) == "base.tar\x00\x00":
		s.part = msgNewArchive
	case typ == msgManifest && s.part == msgNewArchive:
		s.part = msgManifest
	default:
		return fmt.Errorf("protocol violation: unexpected message %q of %d bytes in a base backup", typ, len(b))
	}
	return nil
}

func (s *copyStream) report(last bool) {
	if s.progress != nil && (last || s.done-s.reported >= progressStep) {
		s.reported = s.done
		s.progress(s.done, s.total)
	}
}
