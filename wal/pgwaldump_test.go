package wal

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// pgWaldump runs the real pg_waldump, or skips the test.
func pgWaldump(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(findPgWaldump(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_waldump %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func findPgWaldump(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/lib/postgresql/15/bin/pg_waldump", "pg_waldump"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("pg_waldump is not installed")
	return ""
}

// PostgreSQL's own reader agrees with us about hundreds of segments of random records: how many of
// each kind there are, where each starts, and how long it is.
func TestPgWaldump(t *testing.T) {
	findPgWaldump(t)
	d := newDir(t, vfs.Default)
	w := start(t, d, emptyLog, WriterConfig{})
	counts, records := writeRandomLog(t, w, 200)
	last := records[len(records)-1]
	must(t, w.stop())

	stats := pgWaldump(t, "--path", d.Path, "--start", records[0].LSN.String(), "--end", last.End.String(), "--stats=record")
	for name, want := range counts {
		if got := statsCount(stats, name); got != want {
			t.Errorf("pg_waldump counts %d of %s, we wrote %d", got, name, want)
		}
	}
	if total := statsCount(stats, "Total"); total != len(records) {
		t.Errorf("pg_waldump counts %d records, we wrote %d\n%s", total, len(records), stats)
	}

	// Some windows in detail.
	rng := rand.New(rand.NewPCG(5, 5))
	for range 4 {
		i := rng.IntN(len(records) - 300)
		window := records[i : i+300]
		out := pgWaldump(t, "--path", d.Path, "--start", window[0].LSN.String(), "--end", window[299].End.String(), "--rmgr", "custom176")
		checkWindow(t, out, window)
	}
}

// writeRandomLog writes records of several kinds until the log has the given number of segments.
func writeRandomLog(t *testing.T, w *running, segments uint64) (counts map[string]int, records []Record) {
	rng := rand.New(rand.NewPCG(4, 4))
	counts = map[string]int{}
	insert := func(name string, rmgr RmgrID, info uint8, data []byte) {
		p := Prepare(rmgr, info, data)
		s, e, err := w.Insert(p, rng.Uint32())
		must(t, err)
		records = append(records, Record{LSN: s, End: e, Rmgr: rmgr, Info: info, TotLen: uint32(p.Size())})
		counts[name]++
	}
	big := make([]byte, 40_000)
	for MinSegmentSize.Segno(w.Inserted().Load()) <= segments {
		switch n := rng.IntN(2000); {
		case n == 0:
			_, err := w.Switch()
			must(t, err)
			records = append(records, Record{LSN: w.Prev(), End: w.Inserted().Load(), TotLen: 24})
			counts["XLOG/SWITCH"]++
		case n < 5:
			insert("custom176/UNKNOWN (f0)", RmgrLongship, 0xF0, make([]byte, 3<<20/2))
		case n < 40:
			c := Checkpoint{Redo: w.Inserted().Load(), Timeline: 1, PrevTimeline: 1}
			p := c.Prepare(XLOGCheckpointOnline)
			insert("XLOG/CHECKPOINT_ONLINE", RmgrXLOG, XLOGCheckpointOnline, p.bytes[recordHeaderSize+2:])
		case n < 80:
			insert("XLOG/NOOP", RmgrXLOG, XLOGNoop, big[:rng.IntN(100)])
		case n < 1000:
			insert("custom176/UNKNOWN (20)", RmgrLongship, 0x20, big[:rng.IntN(300)])
		default:
			insert("custom176/UNKNOWN (10)", RmgrLongship, 0x10, big[:rng.IntN(len(big))])
		}
	}
	return counts, records
}

// statsCount is the count in the row of that name; names are right-aligned in the table.
func statsCount(stats, name string) int {
	for line := range strings.SplitSeq(stats, "\n") {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name+" ")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err == nil {
			return n
		}
	}
	return 0
}

var dumpLine = regexp.MustCompile(`^rmgr: custom176 +len \(rec/tot\): *\d+/ *(\d+), tx: *\d+, lsn: (\S+), prev \S+, desc: UNKNOWN \((..)\)`)

// checkWindow compares pg_waldump's lines with our records of that window.
func checkWindow(t *testing.T, out string, window []Record) {
	t.Helper()
	var got, want []string
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		m := dumpLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("pg_waldump says %q", line)
		}
		l, err := ParseLSN(m[2])
		must(t, err)
		got = append(got, fmt.Sprint(l, " ", m[1], " ", m[3]))
	}
	for _, r := range window {
		if r.Rmgr == RmgrLongship {
			want = append(want, fmt.Sprintf("%s %d %02x", r.LSN, r.TotLen, r.Info))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("pg_waldump shows\n%v, we wrote\n%v", got, want)
	}
}
