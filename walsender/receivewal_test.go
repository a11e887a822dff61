package walsender

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// tool returns the path of one of PostgreSQL 15's programs, or skips the test.
func tool(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("/usr/lib/postgresql/15/bin", name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(name), args, err, out)
	}
	return string(out)
}

// fails is run for a program that has to fail.
func fails(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err == nil {
		t.Fatalf("%s %q did not fail\n%s", filepath.Base(name), args, out)
	}
	return string(out)
}

// fill writes WAL into three segments and flushes it.
func (p *testPrimary) fill() wal.LSN {
	p.t.Helper()
	for range 25 {
		p.insert(100_000)
	}
	return p.flush()
}

// checkSegments compares the segments in dir with the log, from its start to end.
func (p *testPrimary) checkSegments(dir string, end wal.LSN) {
	p.t.Helper()
	size := p.log.Format.SegmentSize
	for at := segmentStart; at < end; at = size.Start(size.Segno(at) + 1) {
		to := min(end, size.Start(size.Segno(at)+1))
		got := readSegment(p.t, filepath.Join(dir, size.FileName(p.log.Timeline, size.Segno(at))))
		if len(got) < int(to-at) || !bytes.Equal(got[:to-at], p.bytes(at, to)) {
			p.t.Errorf("the segment at %s differs", at)
		}
	}
}

// readSegment reads what pg_receivewal made of a segment: complete, partial or compressed.
func readSegment(t testing.TB, path string) []byte {
	t.Helper()
	for _, suffix := range []string{"", ".partial", ".gz", ".gz.partial"} {
		f, err := os.Open(path + suffix)
		if err != nil {
			continue
		}
		defer f.Close()
		var r io.Reader = f
		if strings.HasPrefix(suffix, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				t.Fatal(err)
			}
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Errorf("%s is missing", path)
	return nil
}

func TestPgReceivewal(t *testing.T) {
	receivewal := tool(t, "pg_receivewal")
	for name, args := range map[string][]string{
		"plain":       nil,
		"slot":        {"--slot=s1"},
		"synchronous": {"--slot=s1", "--synchronous"},
		"gzip":        {"--compress=gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPrimary(t, vfs.Default, t.TempDir(), nil)
			port, into := p.listen(), t.TempDir()
			common := []string{"-h", "127.0.0.1", "-p", port, "-U", "u", "-D", into, "-n"}
			run(t, receivewal, append(common, "--create-slot", "--slot=s1")...)

			// The first run starts where the log is, which is its beginning; the second goes on.
			first := p.insert(100)
			p.flush()
			end := p.insert(100)
			p.flush()
			run(t, receivewal, append(append(common, "--endpos="+first.String()), args...)...)
			p.checkSegments(into, end)
			last := p.fill()
			p.insert(100)
			p.flush()
			run(t, receivewal, append(append(common, "--endpos="+last.String()), args...)...)
			p.checkSegments(into, last)
			if name != "gzip" {
				waldump := tool(t, "pg_waldump")
				run(t, waldump, "-p", into, "-s", "0/100028", "-e", "0/200000", "--quiet")
			}
			run(t, receivewal, append(common, "--drop-slot", "--slot=s1")...)
			if got := p.slots.List(); len(got) != 0 {
				t.Errorf("slots left: %v", got)
			}
		})
	}
}
