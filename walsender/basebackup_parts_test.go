package walsender

import (
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// "CRC32C is printed as the 4 bytes in memory order: 15\n has CRC 0x2247748a, printed 8a744722."
// The whole text is PostgreSQL's, to the byte.
func TestManifest(t *testing.T) {
	m := newManifest(checksumCRC32C, false)
	for path, content := range map[string]string{"PG_VERSION": "15\n"} {
		f := memoryFile(path, content)
		sum := m.checksum.newHash()
		io.WriteString(sum, content)
		m.add(&f, sum)
	}
	odd := memoryFile("a\xff", "")
	m.add(&odd, m.checksum.newHash())
	got := string(m.finish([]walRange{{timeline: 2, start: 0x300, end: 0x400}, {timeline: 1, start: 0x200, end: 0x300}}))
	want := `{ "PostgreSQL-Backup-Manifest-Version": 1,
"Files": [
{ "Path": "PG_VERSION", "Size": 3, "Last-Modified": "2026-11-21 01:39:18 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "8a744722" },
{ "Encoded-Path": "61ff", "Size": 0, "Last-Modified": "2026-11-21 01:39:18 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000000" }
],
"WAL-Ranges": [
{ "Timeline": 2, "Start-LSN": "0/300", "End-LSN": "0/400" },
{ "Timeline": 1, "Start-LSN": "0/200", "End-LSN": "0/300" }
],
"Manifest-Checksum": "`
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\"}\n") || len(got) != len(want)+64+3 {
		t.Errorf("got %s\nwant %s…", got, want)
	}
	plain := newManifest(checksumNone, false)
	plain.add(&odd, plain.checksum.newHash())
	if text := string(plain.finish(nil)); strings.Contains(text, "\"Checksum") {
		t.Errorf("a checksum that nobody wanted: %s", text)
	}
}

func TestManifestChecksums(t *testing.T) {
	for name, length := range map[string]int{"crc32c": 8, "SHA224": 56, "sha256": 64, "SHA384": 96, "SHA512": 128} {
		c, ok := checksumByName(name)
		if !ok || len(sumText(c.newHash())) != length {
			t.Errorf("%s: known %v, %d digits; want %d", name, ok, len(sumText(c.newHash())), length)
		}
	}
	if _, ok := checksumByName("MD5"); ok {
		t.Error("MD5 is known")
	}
}

// A backup that began before a promotion needs the log of both timelines.
func TestWALRanges(t *testing.T) {
	h := wal.History{Timeline: 1}.Child(3, 0x300, "").Child(4, 0x400, "")
	tests := []struct {
		start    wal.LSN
		timeline wal.TimelineID
		want     []walRange
	}{
		{0x450, 4, []walRange{{4, 0x450, 0x500}}},
		{0x350, 3, []walRange{{4, 0x400, 0x500}, {3, 0x350, 0x400}}},
		{0x200, 1, []walRange{{4, 0x400, 0x500}, {3, 0x300, 0x400}, {1, 0x200, 0x300}}},
	}
	for _, tt := range tests {
		b := &baseCopy{log: &Log{System: System{History: h}}, start: BackupPoint{LSN: tt.start, Timeline: tt.timeline}}
		if got := b.walRanges(0x500, 4); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("from %s on %d: got %v, want %v", tt.start, tt.timeline, got, tt.want)
		}
	}
}

// MAX_RATE is kept, and what is not used is not saved up.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		th := throttle{rate: 1024, since: begin}
		send := func() {
			if err := th.wait(t.Context(), 1024); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			send()
		}
		if got := time.Since(begin); got != 4*time.Second {
			t.Errorf("5 kB took %v at 1 kB/s, want 4s: the first goes at once", got)
		}
		time.Sleep(time.Minute)
		begin = time.Now()
		for range 5 {
			send()
		}
		if got := time.Since(begin); got != 4*time.Second {
			t.Errorf("5 kB took %v after a pause, want 4s", got)
		}
	})
}

// A file that is not what it was said to be ends the backup with an error, not with a broken archive.
func TestBackupFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b := newBackupPrimary(t, vfs.NewMem(), "data")
		for _, tt := range []struct {
			file BackupFile
			want string
		}{
			{BackupFile{Path: "store/x", Size: 5, Open: memoryFile("", "four").Open}, "it has 4 bytes, not 5"},
			{memoryFile("store/"+strings.Repeat("x", 94), ""), "file name too long for tar format"},
		} {
			b.files = []BackupFile{tt.file}
			c := p.connect(nil)
			lines := c.do("BASE_BACKUP (MANIFEST 'yes')")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "E ERROR") || !strings.Contains(last, tt.want) {
				t.Errorf("got %q, want an error with %q", last, tt.want)
			}
			if !slices.Contains(c.do("IDENTIFY_SYSTEM"), "C IDENTIFY_SYSTEM") {
				t.Error("the connection is of no use any more")
			}
		}
	})
}
