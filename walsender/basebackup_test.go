package walsender

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/wal"
)

// A testBackuper backs up a few files of known content.
type testBackuper struct {
	p       *testPrimary
	files   []BackupFile
	options BackupOptions
	closed  atomic.Bool
}

func memoryFile(path, content string) BackupFile {
	return BackupFile{
		Path: path, Size: int64(len(content)), ModTime: time.Date(2026, 11, 21, 1, 39, 18, 5e8, time.UTC),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
}

// backupOf makes a primary's Config answer BASE_BACKUP.
func backupOf(b *testBackuper) func(*Config) {
	b.files = []BackupFile{
		memoryFile("global/control", "the control file"), // sent last, wherever it is listed
		{Path: "pg_wal/"}, {Path: "global/"}, {Path: "store/"},
		memoryFile("store/000001.sst", strings.Repeat("sstable", 50_000)),
		memoryFile("store/empty", ""),
		memoryFile("node.json", "{}\n"),
	}
	return func(cfg *Config) { cfg.Backup = b }
}

func (b *testBackuper) BeginBackup(_ context.Context, opt BackupOptions) (Backup, error) {
	b.options = opt
	start, _, err := b.p.writer.Insert(wal.Prepare(wal.RmgrLongship, 0, []byte("checkpoint")), 0)
	b.p.flush()
	b.p.redo.Advance(start)
	return &testBackup{testBackuper: b, start: start}, err
}

type testBackup struct {
	*testBackuper
	start wal.LSN
}

func (b *testBackup) Start() BackupPoint {
	return BackupPoint{LSN: b.start, Checkpoint: b.start, Timeline: 1, Time: time.Date(2026, 11, 21, 1, 39, 18, 0, time.UTC)}
}

func (b *testBackup) Files() []BackupFile { return b.files }

func (b *testBackup) End(context.Context) (wal.LSN, wal.TimelineID, error) {
	b.p.insert(200_000)
	end, err := b.p.writer.Switch()
	b.p.flush()
	return end, 1, err
}

func (b *testBackup) Close() error {
	b.closed.Store(true)
	return nil
}

func newBackupPrimary(t *testing.T, fs vfs.FS, path string) (*testPrimary, *testBackuper) {
	b := &testBackuper{}
	b.p = newPrimary(t, fs, path, backupOf(b))
	b.p.insert(100)
	b.p.flush()
	return b.p, b
}

func TestPgBasebackup(t *testing.T) {
	basebackup, verify := tool(t, "pg_basebackup"), tool(t, "pg_verifybackup")
	for _, args := range []string{
		"-X none -Fp", "-X none -Ft", "-X fetch -Fp", "-X fetch -Ft", "-X stream -Fp", "-X stream -Ft",
		"-X stream -Fp -C -S kept", "-X fetch -Ft --compress=server-gzip:3",
		"-X none -Fp --manifest-checksums=SHA256 --manifest-force-encode", "-X none -Fp --no-manifest",
		"-X none -Fp -P --max-rate=1M --checkpoint=fast --label=mine",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			p, b := newBackupPrimary(t, vfs.Default, t.TempDir())
			into := filepath.Join(t.TempDir(), "copy")
			run(t, basebackup, append(strings.Fields(args), "-h", "127.0.0.1", "-p", p.listen(), "-U", "u", "-D", into)...)
			if !b.closed.Load() {
				t.Error("the backup was not closed")
			}
			if strings.Contains(args, "-Fp") {
				checkCopy(t, into, b.files)
				if !strings.Contains(args, "--no-manifest") {
					noWAL := []string{"--no-parse-wal"}
					if !strings.Contains(args, "-X none") {
						noWAL = nil
					}
					run(t, verify, append(noWAL, into)...)
				}
			}
			p.hangUp() // the tool may be gone before its session is, which has the temporary slot
			if got := len(p.slots.List()); got != strings.Count(args, "-S kept") {
				t.Errorf("%d slots left", got)
			}
			if strings.Contains(args, "--label=mine") && b.options != (BackupOptions{Label: "mine", Fast: true}) {
				t.Errorf("options arrived as %+v", b.options)
			}
		})
	}
}

func checkCopy(t *testing.T, into string, files []BackupFile) {
	t.Helper()
	for _, f := range files {
		if f.isDir() {
			continue
		}
		r, _ := f.Open()
		want, _ := io.ReadAll(r)
		if got, err := os.ReadFile(filepath.Join(into, f.Path)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs: %v", f.Path, err)
		}
	}
}

// The messages of BASE_BACKUP come in PostgreSQL's order, and so do the files.
func TestBaseBackupConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newBackupPrimary(t, vfs.NewMem(), "data")
		c := p.connect(nil)
		c.query("BASE_BACKUP (LABEL 'l', PROGRESS, WAL, MANIFEST 'yes')")
		var lines []string
		var archive, manifest []byte
		into := &archive
		for len(lines) == 0 || lines[len(lines)-1] != "Z I" {
			msg, err := c.fe.Receive()
			if err != nil {
				t.Fatal(err)
			}
			line := describe(msg)
			if data, ok := msg.(*pgproto3.CopyData); ok {
				line = fmt.Sprintf("d %c", data.Data[0])
				switch data.Data[0] {
				case 'n':
					line = fmt.Sprintf("d %q", data.Data)
				case 'm':
					into = &manifest
				case 'd':
					*into = append(*into, data.Data[1:]...)
				}
			}
			if len(lines) == 0 || line != lines[len(lines)-1] {
				lines = append(lines, line)
			}
		}
		want := []string{
			"T recptr:25 tli:20", `D "0/1000A8" "1"`, "C SELECT",
			"T spcoid:26 spclocation:25 size:20", `D NULL NULL "346"`, "C SELECT",
			"H", `d "nbase.tar\x00\x00"`, "d d", "d p", "d m", "d d", "c",
			"T recptr:25 tli:20", `D "0/131088" "1"`, "C SELECT",
			"C BASE_BACKUP", "Z I",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("got  %q\nwant %q", lines, want)
		}
		if want := "\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/1000A8\", \"End-LSN\": \"0/131088\" }\n],\n\"Manifest-Checksum\""; !strings.Contains(string(manifest), want) {
			t.Errorf("manifest is %s", manifest)
		}
		checkArchive(t, p, archive)
	})
}

func checkArchive(t *testing.T, p *testPrimary, archive []byte) {
	t.Helper()
	var names []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "pg_wal/000000010000000000000001" {
			want := make([]byte, wal.MinSegmentSize)
			copy(want, p.bytes(segmentStart, 0x131088))
			if !bytes.Equal(content, want) {
				t.Error("the segment is not the log up to the backup's end, and zeros")
			}
		}
	}
	want := []string{
		"backup_label", "pg_wal/", "pg_wal/archive_status/", "global/", "store/", "store/000001.sst", "store/empty",
		"node.json", "global/control",
		"pg_wal/000000010000000000000001", "pg_wal/archive_status/000000010000000000000001.done",
	}
	if !slices.Equal(names, want) {
		t.Errorf("files are %q\nwant %q", names, want)
	}
}
