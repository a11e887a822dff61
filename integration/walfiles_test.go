package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// history is the ancestry of the newest timeline in a node's log.
func (n *node) history() wal.History {
	n.t.Helper()
	dir := wal.NewDir(vfs.Default, n.walDir(), wal.Format{SegmentSize: segmentSize})
	known, err := dir.Histories()
	if err != nil {
		n.t.Fatal(err)
	}
	tli := wal.TimelineID(1)
	for _, k := range known {
		tli = max(tli, k)
	}
	h, err := dir.ReadHistory(tli)
	if err != nil {
		n.t.Fatal(err)
	}
	return h
}

func (n *node) walDir() string { return filepath.Join(n.dir, "pg_wal") }

// segment is the content of a segment's file, nil if there is none.
func (n *node) segment(name string) []byte {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.walDir(), name))
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(err)
	}
	return b
}

// checkSameWAL compares the logs of two nodes byte for byte up to end, in all segments that both still
// have. There must be some.
func checkSameWAL(t *testing.T, a, b *node, end wal.LSN) {
	t.Helper()
	h := a.history()
	if other := b.history(); !bytes.Equal(h.Format(), other.Format()) {
		t.Errorf("%s has the history\n%s%s has\n%s", a.name, h.Format(), b.name, other.Format())
		return
	}
	compared := 0
	for at := wal.LSN(segmentSize); at < end; at += wal.LSN(segmentSize) {
		segno := segmentSize.Segno(at)
		name := segmentSize.FileName(h.FileTimeline(segno, segmentSize), segno)
		x, y := a.segment(name), b.segment(name)
		if x == nil || y == nil {
			continue
		}
		upTo := int(min(end-at, wal.LSN(segmentSize)))
		if len(x) != int(segmentSize) || len(y) != int(segmentSize) {
			t.Errorf("%s has %d bytes on %s and %d on %s", name, len(x), a.name, len(y), b.name)
			continue
		}
		if i := firstDifference(x[:upTo], y[:upTo]); i >= 0 {
			t.Errorf("%s differs between %s and %s at offset %d of %d: %x… and %x…", name, a.name, b.name, i, upTo, x[i:min(i+16, upTo)], y[i:min(i+16, upTo)])
		}
		compared++
	}
	if compared == 0 {
		t.Errorf("%s and %s have no segment in common before %s", a.name, b.name, end)
	}
}

// firstDifference is the index of the first byte that differs, -1 if there is none.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// checkSameTable compares all rows of two nodes, their LSNs included.
func checkSameTable(t *testing.T, a, b *node) {
	t.Helper()
	x, y := a.rows("", ""), b.rows("", "")
	for key, row := range x {
		if other, ok := y[key]; !ok || other != row {
			t.Errorf("%s has %q = %.60q, %s has %.60q", a.name, key, row, b.name, other)
			return
		}
	}
	if len(x) != len(y) {
		t.Errorf("%s has %d rows, %s has %d", a.name, len(x), b.name, len(y))
	}
}

// A row is a value and the commit that wrote it.
type row struct{ value, lsn string }

// rows reads the rows with keys from lo to before hi; hi "" is no limit.
func (n *node) rows(lo, hi string) map[string]row {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	c := n.connect()
	defer c.Close(ctx)
	sql, args := "SELECT key, value, lsn::text FROM kv WHERE key >= $1", []any{lo}
	if hi != "" {
		sql, args = sql+" AND key < $2", append(args, hi)
	}
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]row{}
	for rows.Next() {
		var key, value, lsn string
		if err := rows.Scan(&key, &value, &lsn); err != nil {
			n.t.Fatal(err)
		}
		all[key] = row{value, lsn}
	}
	if err := rows.Err(); err != nil {
		n.t.Fatalf("%s: %v", n.name, err)
	}
	return all
}

// endOfLog is where the log of a node that was shut down ends, as its control file says.
func (n *node) endOfLog() wal.LSN {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "global", "control"))
	if err != nil {
		n.t.Fatal(err)
	}
	m := regexp.MustCompile(`"durable": "([0-9A-F/]+)"`).FindSubmatch(b)
	if m == nil {
		n.t.Fatalf("control file of %s:\n%s", n.name, b)
	}
	return parseLSN(n.t, string(m[1]))
}
