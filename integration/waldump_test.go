package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/longship-db/longship/wal"
)

// pg_waldump reads hundreds of segments of random records, and counts as many as were committed.
func TestWaldump(t *testing.T) {
	t.Parallel()
	waldump := tool(t, "pg_waldump")
	segments := 200
	if long {
		segments = 600
	}
	c := newCluster(t, 1, "--wal-keep-size=4GB", "--max-wal-size=256MB")
	n := c.primary()
	random := rand.New(rand.NewPCG(7, 8))
	_, first := fill(t, n, random, segments/2)
	middle, _ := fill(t, n, random, 0)
	n.value("SELECT pg_switch_wal()")
	end, second := fill(t, n, random, segments/2)
	dir := usedSegments(t, n, end)
	n.stop()

	stats := func(args ...string) (records int, out string) {
		t.Helper()
		out = mustRun(t, waldump, append([]string{"--path=" + dir, "--stats=record"}, args...)...)
		m := regexp.MustCompile(`(?m)^custom1\d\d/UNKNOWN \(\w+\)\s+(\d+) \(`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("pg_waldump %q printed\n%s", args, out)
		}
		records, _ = strconv.Atoi(m[1])
		return records, out
	}
	const from = "--start=0/100028"
	got, out := stats(from, "--end="+end.String())
	if got != first+second {
		t.Errorf("%d records, want %d\n%s", got, first+second, out)
	}
	if !regexp.MustCompile(`XLOG/SWITCH\s+1 `).MatchString(out) {
		t.Errorf("not one SWITCH record:\n%s", out)
	}
	if got, _ := stats(from, "--end="+middle.String()); got != first {
		t.Errorf("%d records before %s, want %d", got, middle, first)
	}
	if got, _ := stats("--start="+middle.String(), "--end="+end.String()); got != second {
		t.Errorf("%d records from %s on, want %d", got, middle, second)
	}

	out = mustRun(t, waldump, "--path="+dir, from, "--end="+end.String(), "--rmgr=XLOG")
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "rmgr: XLOG ") {
			t.Errorf("--rmgr=XLOG prints %q", line)
		}
	}
	out = mustRun(t, waldump, "--path="+dir, "--start="+middle.String(), "--rmgr=custom"+rmgrNumber(t, dir), "--limit=5")
	if got := strings.Count(out, "rmgr: custom"); got != 5 {
		t.Errorf("--rmgr with our id and --limit=5 prints %d records:\n%s", got, out)
	}

	// Without an end it reads to the end of the log, and complains of nothing else.
	out, err := runTool(t, "", waldump, "--quiet", "--path="+dir, from)
	if want := regexp.MustCompile(`^pg_waldump: error: error in WAL record at [0-9A-F/]+: (invalid record length at [0-9A-F/]+: wanted 24, got 0|invalid magic number .*)\n$`); err == nil || !want.MatchString(out) {
		t.Errorf("at the end of the log pg_waldump prints %q (%v)", out, err)
	}
}

func rmgrNumber(t *testing.T, dir string) string {
	t.Helper()
	out, _ := runTool(t, "", tool(t, "pg_waldump"), "--path="+dir, "--start=0/100028", "--limit=50")
	m := regexp.MustCompile(`rmgr: custom(\d+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no record of ours in\n%s", out)
	}
	return fmt.Sprint(m[1])
}

// usedSegments is a folder with the segments of a log that ends at end, and no others. In a folder
// pg_waldump takes any file to learn the segment size, and a preallocated one holds zeros (as in
// PostgreSQL).
func usedSegments(t *testing.T, n *node, end wal.LSN) string {
	t.Helper()
	dir := t.TempDir()
	for segno := uint64(1); segno <= segmentSize.PrevSegno(end); segno++ {
		name := segmentSize.FileName(1, segno)
		if err := os.Symlink(filepath.Join(n.walDir(), name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
