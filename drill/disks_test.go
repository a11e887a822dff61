package drill

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// Wherever on its page a log ends, a node that starts tells of the half record behind it.
func TestTornTail(t *testing.T) {
	for _, room := range []int{0, 8, 16, 24, 104, 4096} {
		n := &Node{Dir: filepath.Join(t.TempDir(), "n1")}
		id := startup.Identity{Name: "n1", NodeID: 1, Incarnation: 1, SystemID: 1, SegmentSize: segmentSize, PGVersion: wal.PG15.Major, Founder: true}
		d := startup.DataDir{FS: vfs.Default, Path: n.Dir}
		if _, _, err := d.Open(); err != nil {
			t.Fatal(err)
		}
		if err := d.NewCluster(id); err != nil {
			t.Fatal(err)
		}
		endWithRoom(t, d, id, room)
		at, err := tear(n, func(n int) int { return n / 2 })
		if err != nil || int(-at%wal.PageSize) != room {
			t.Fatalf("torn at %s, %v, want %d bytes before a page's end", at, err, room)
		}
		var b strings.Builder
		if _, err := startup.Recover(d, id, slog.New(slog.NewJSONHandler(&b, nil))); err != nil {
			t.Fatal(err)
		}
		var told bool
		for line := range strings.Lines(b.String()) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatal(err)
			}
			told = told || entry["msg"] == "end of log found" && endsTorn(entry, at)
		}
		if !told {
			t.Errorf("%d bytes before the end of a page a half record goes unnoticed:\n%s", room, &b)
		}
	}
}

// endWithRoom has the log of a new cluster end so many bytes before the end of a page.
func endWithRoom(t *testing.T, d startup.DataDir, id startup.Identity, room int) {
	t.Helper()
	r, err := startup.Recover(d, id, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := wal.NewWriter(r.Dir, r.End, wal.WriterConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for end, n := r.End.LSN, 0; n == 0 || int(-end%wal.PageSize) != room; n++ {
		if n > 2*wal.PageSize/32 {
			t.Fatalf("after %d records the log still does not end %d bytes before a page's end", n, room)
		}
		const header = 24 + 2 // of a record with short data
		size := (int(-end%wal.PageSize) - room + wal.PageSize) % wal.PageSize
		if size < 32 || size > 160 { // the smallest record, and what leaves at least that
			size = 128
		}
		if _, end, err = w.InsertSystem(wal.Prepare(wal.RmgrXLOG, wal.XLOGNoop, make([]byte, size-header))); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
}
