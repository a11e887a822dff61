package walsender

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/wal"
)

// newPromoted is a primary on timeline 2, which left timeline 1 in the middle of a segment, at the
// position returned. The log goes on for a little on timeline 1 and then on timeline 2.
func newPromoted(t *testing.T, fs vfs.FS, path string) (p *testPrimary, fork wal.LSN) {
	t.Helper()
	old := newPrimary(t, fs, path, nil)
	old.fill()
	prev := old.writer.Prev()
	fork = old.log.Flushed.Load()
	old.insert(100) // never shared with timeline 2
	old.flush()

	history := old.log.History.Child(2, fork, "no recovery target specified")
	if err := old.log.Dir.CopyHead(1, 2, fork); err != nil {
		t.Fatal(err)
	}
	if err := old.log.Dir.WriteHistory(history); err != nil {
		t.Fatal(err)
	}
	end := wal.End{LSN: fork, Prev: prev, Timeline: 2}
	p = newPrimaryAt(t, fs, path, end, history, old.log.Format, nil)
	p.insert(1000)
	p.flush()
	return p, fork
}

// "server sends c; client must answer c; then T {next_tli int8, next_tli_startpos text}, D,
// C START_STREAMING, C START_REPLICATION, Z."
func TestEndOfTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, fork := newPromoted(t, vfs.NewMem(), "data")
		c := p.connect(nil)
		c.stream("START_REPLICATION 0/100000 TIMELINE 1")
		if got := c.wal(segmentStart, fork); !bytes.Equal(got, p.bytes(segmentStart, fork)) {
			t.Error("WAL differs")
		}
		if got := c.receive(); got != "c" {
			t.Fatalf("the timeline ends with %q, want c", got)
		}
		synctest.Wait()
		c.tell(&pgproto3.CopyDone{})
		next := []string{
			"T next_tli:20 next_tli_startpos:25", fmt.Sprintf("D \"2\" %q", fork),
			"C START_STREAMING", "C START_REPLICATION",
		}
		if got := c.until("Z"); !slices.Equal(got, append(slices.Clone(next), "Z I")) {
			t.Errorf("got %q", got)
		}
		// Where the timeline has ended there is nothing to stream, and no copy phase.
		if got := c.do("START_REPLICATION " + fork.String() + " TIMELINE 1"); !slices.Equal(got, next) {
			t.Errorf("got %q, want %q", got, next)
		}
		want := fmt.Sprintf("E ERROR XX000 requested starting point %s on timeline 1 is not in this server's history "+
			"DETAIL This server's history forked from timeline 1 at %s.", fork+8, fork)
		if got := c.do("START_REPLICATION " + (fork + 8).String() + " TIMELINE 1"); !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
		// The new timeline may be asked for from before its beginning.
		start := p.log.Format.SegmentSize.SegmentStart(fork)
		end := p.log.Flushed.Load()
		c.stream("START_REPLICATION " + start.String() + " TIMELINE 2")
		if got := c.wal(start, end); !bytes.Equal(got, p.bytes(start, end)) {
			t.Error("WAL of the new timeline differs")
		}
	})
}

// A client may end the stream of an old timeline before its end, which is no end of the timeline. One
// that hangs up there, instead of answering, breaks nothing.
func TestClientEndsOldTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPromoted(t, vfs.NewMem(), "data")
		c := p.connect(nil)
		c.stream("START_REPLICATION 0/100000 TIMELINE 1")
		c.next()
		c.tell(&pgproto3.CopyDone{})
		synctest.Wait()
		got := c.until("Z")
		for strings.HasPrefix(got[0], "d w") {
			got = got[1:]
		}
		if want := []string{"c", "C START_STREAMING", "C START_REPLICATION", "Z I"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		c.stream("START_REPLICATION 0/300000 TIMELINE 1")
		c.until("c")
		c.close()
		if got := p.sender.Stats(); len(got) != 0 {
			t.Errorf("still connected: %+v", got)
		}
	})
}

func TestReadSlotTellsTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, fork := newPromoted(t, vfs.NewMem(), "data")
		c := p.connect(nil)
		for at, want := range map[wal.LSN]string{fork - 8: "1", fork: "2"} {
			if err := p.slots.Create("s"+want, false, at, 99); err != nil {
				t.Fatal(err)
			}
			row := fmt.Sprintf("D %q %q %q", "physical", at, want)
			if got := c.do("READ_REPLICATION_SLOT s" + want); got[1] != row {
				t.Errorf("got %q, want %q", got[1], row)
			}
		}
	})
}

// pg_receivewal follows a promotion: it ends the old timeline where the server does and goes on.
func TestPgReceivewalFollowsTimeline(t *testing.T) {
	receivewal := tool(t, "pg_receivewal")
	p, fork := newPromoted(t, vfs.Default, t.TempDir())
	into := t.TempDir()
	// A segment of timeline 1, so that the tool begins there.
	first := p.bytes(segmentStart, segmentStart+0x100000)
	if err := os.WriteFile(filepath.Join(into, "000000010000000000000001"), first, 0o600); err != nil {
		t.Fatal(err)
	}
	end := p.insert(100)
	p.insert(100)
	p.flush()
	out := run(t, receivewal, "-h", "127.0.0.1", "-p", p.listen(), "-U", "u", "-D", into, "-n", "-v", "--endpos="+end.String())
	if want := "switched to timeline 2 at " + fork.String(); !strings.Contains(out, want) {
		t.Errorf("it says %s, want %q", out, want)
	}
	size := p.log.Format.SegmentSize
	start := size.SegmentStart(fork)
	got := readSegment(t, filepath.Join(into, size.FileName(2, size.Segno(fork))))
	if !bytes.Equal(got[:end-start], p.bytes(start, end)) {
		t.Error("the first segment of timeline 2 differs")
	}
	want, _ := os.ReadFile(filepath.Join(p.log.Dir.Path, "00000002.history"))
	if got, err := os.ReadFile(filepath.Join(into, "00000002.history")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the history file differs: %v", err)
	}
}

// pg_receivewal names the segment that is gone.
func TestPgReceivewalRemovedWAL(t *testing.T) {
	receivewal := tool(t, "pg_receivewal")
	p := newPrimary(t, vfs.Default, t.TempDir(), withoutBuffer)
	if err := p.slots.Create("old", false, segmentStart, 99); err != nil {
		t.Fatal(err)
	}
	p.fill()
	if _, _, err := p.log.Dir.RemoveBefore(2, nothingNeeded, 1, 3, 0); err != nil {
		t.Fatal(err)
	}
	out := fails(t, receivewal, "-h", "127.0.0.1", "-p", p.listen(), "-U", "u", "-D", t.TempDir(), "-n", "--slot=old")
	if want := "requested WAL segment 000000010000000000000001 has already been removed"; !strings.Contains(out, want) {
		t.Errorf("it says %s, want %q", out, want)
	}
}
