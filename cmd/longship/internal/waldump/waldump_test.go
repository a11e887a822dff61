package waldump

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

var testTime = time.Date(2026, 3, 14, 15, 9, 26, 535898000, time.UTC)

// A crafted log is a data directory with the log of a node that was primary on timeline 1, lost its
// last commit, and was promoted again on timeline 2.
type crafted struct {
	t    *testing.T
	path string // of the data directory
	dir  *wal.Dir
	w    *wal.Writer
	stop func()
}

func craft(t *testing.T) *crafted {
	t.Helper()
	c := &crafted{t: t, path: t.TempDir()}
	folder := filepath.Join(c.path, "pg_wal")
	c.must(os.Mkdir(folder, 0o700))
	c.dir = wal.NewDir(vfs.Default, folder, wal.Format{Version: wal.PG15, SegmentSize: wal.MinSegmentSize, SystemID: 7})
	c.must(c.dir.Allocate(1, 1))

	c.run(wal.End{LSN: wal.LSN(wal.MinSegmentSize), Timeline: 1})
	c.checkpoint(wal.XLOGCheckpointShutdown, 1, 1)
	c.commit(3, kv.Op{Kind: kv.Put, Key: "demo/a", Value: []byte("hello")}, kv.Op{Kind: kv.Put, Key: "ship", Value: []byte("länge \"quoted\"")})
	c.commit(4, kv.Op{Kind: kv.PutNull, Key: "demo/b"}, kv.Op{Kind: kv.Delete, Key: "ship"}, kv.Op{Kind: kv.Put, Key: "raw", Value: []byte{0xff, 0, 1}})
	c.commit(5, kv.Op{Kind: kv.Put, Key: "demo/long", Value: bytes.Repeat([]byte("0123456789"), 2000)})
	c.commit(6)
	_, err := c.w.Switch()
	c.must(err)
	c.insert(wal.Prepare(wal.RmgrXLOG, wal.XLOGNoop, []byte("nothing")), 0)
	c.insert(wal.Heartbeat(testTime), 0)
	c.insert(wal.Prepare(wal.RmgrXLOG, xlogRestorePoint, restorePoint("before the storm")), 0)
	fork := c.commit(7, kv.Op{Kind: kv.Put, Key: "demo/a", Value: []byte("again")})
	c.commit(8, kv.Op{Kind: kv.Put, Key: "demo/lost", Value: []byte("tail")})
	c.stop()
	c.orphan(1, fork.LSN)

	c.must(c.dir.CopyHead(1, 2, fork.LSN))
	c.must(c.dir.WriteHistory(wal.History{Timeline: 1}.Child(2, fork.LSN, "promoted")))
	fork.Timeline = 2
	c.run(fork)
	c.insert((&wal.EndOfRecovery{Time: testTime, Timeline: 2, PrevTimeline: 1}).Prepare(), 0)
	c.checkpoint(wal.XLOGCheckpointOnline, 2, 2)
	c.insert(wal.Prepare(wal.RmgrLongship, kv.InfoCommit, []byte("\x09not a commit")), 9)
	c.insert(wal.Prepare(wal.RmgrXact, xactCommit, make([]byte, 8)), 10)
	c.stop()
	return c
}

func (c *crafted) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *crafted) run(end wal.End) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w := wal.NewWriter(c.dir, end, wal.WriterConfig{})
	go func() { done <- w.Run(ctx) }()
	c.w = w
	c.stop = func() {
		cancel()
		c.must(<-done)
	}
}

func (c *crafted) insert(p *wal.Prepared, xid uint32) wal.End {
	c.t.Helper()
	start, end, err := c.w.Insert(p, xid)
	c.must(err)
	c.must(c.w.Flush(c.t.Context(), end))
	return wal.End{LSN: end, Prev: start}
}

func (c *crafted) commit(xid uint32, ops ...kv.Op) wal.End {
	at := c.w.Flushed().Load()
	k := kv.Commit{Time: wal.TimestampOf(testTime), Horizon: at - 8, Flushed: at, Ops: ops}
	return c.insert(wal.Prepare(wal.RmgrLongship, kv.InfoCommit, kv.AppendCommit(nil, &k)), xid)
}

func (c *crafted) checkpoint(opcode uint8, tli, prev wal.TimelineID) {
	p := wal.Checkpoint{Redo: c.w.Flushed().Load() + 40, Timeline: tli, PrevTimeline: prev, NextXID: 1<<32 | 3, Time: testTime}
	c.insert(p.Prepare(opcode), 0)
}

// orphan keeps the segment with the tail, as startup.Cut does.
func (c *crafted) orphan(epoch int, at wal.LSN) {
	folder := filepath.Join(c.path, "orphans", fmt.Sprintf("%d-%X-%X", epoch, uint64(at)>>32, uint32(at)))
	c.must(os.MkdirAll(folder, 0o700))
	name := wal.MinSegmentSize.FileName(1, wal.MinSegmentSize.Segno(at))
	c.must(vfs.Copy(vfs.Default, filepath.Join(c.dir.Path, name), filepath.Join(folder, name)))
}

func restorePoint(name string) []byte {
	b := make([]byte, 72)
	copy(b[8:], name)
	return b
}

// dump runs the command and returns what it prints, notices marked with "!".
func dump(cfg Config) string {
	var out, notice bytes.Buffer
	cfg.Out, cfg.Notice = &out, &notice
	err := Run(cfg)
	text := out.String()
	for line := range strings.Lines(notice.String()) {
		text += "! " + line
	}
	if err != nil && !errors.Is(err, ErrEnded) {
		text += fmt.Sprintf("error: %v\n", err)
	}
	if err != nil {
		text += "exit 1\n"
	}
	return text
}

// The scripts know one command, dump, with the options of the command line; files=(…) are relative
// to the crafted data directory.
func TestDump(t *testing.T) {
	c := craft(t)
	datadriven.RunTest(t, "testdata/dump", func(t *testing.T, d *datadriven.TestData) string {
		cfg := configOf(t, d, c.path)
		return strings.ReplaceAll(dump(cfg), c.path, "DIR")
	})
}

func configOf(t *testing.T, d *datadriven.TestData, dir string) Config {
	cfg := Config{DataDir: dir}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "files":
			cfg.DataDir = ""
			for _, f := range arg.Vals {
				found, err := filepath.Glob(filepath.Join(dir, f))
				if err != nil || len(found) == 0 {
					d.Fatalf(t, "no file %s: %v", f, err)
				}
				cfg.Paths = append(cfg.Paths, found...)
			}
		case "from":
			cfg.From = parseLSN(t, d, arg.Vals[0])
		case "to":
			cfg.To = parseLSN(t, d, arg.Vals[0])
		case "timeline":
			var tli int
			d.ScanArgs(t, "timeline", &tli)
			cfg.Timeline = wal.TimelineID(tli)
		case "key":
			cfg.Key = arg.Vals[0]
		case "json":
			cfg.JSON = true
		case "stats":
			cfg.Stats = true
		}
	}
	return cfg
}

func parseLSN(t *testing.T, d *datadriven.TestData, s string) wal.LSN {
	l, err := wal.ParseLSN(s)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return l
}

// A file that has been renamed is placed by its header.
func TestRenamedFile(t *testing.T) {
	c := craft(t)
	src := filepath.Join(c.dir.Path, "000000010000000000000001")
	want := dump(Config{Paths: []string{src}})
	renamed := filepath.Join(t.TempDir(), "evidence.bin")
	c.must(vfs.Copy(vfs.Default, src, renamed))
	if got := dump(Config{Paths: []string{renamed}}); got != want {
		t.Errorf("dump of a renamed segment:\n%s\nwant\n%s", got, want)
	}
}

// A folder that pg_receivewal fills is read to the end of the segment it is filling.
func TestPartialSegment(t *testing.T) {
	c := craft(t)
	folder := t.TempDir()
	c.must(vfs.Copy(vfs.Default, filepath.Join(c.dir.Path, "000000010000000000000001"), filepath.Join(folder, "000000010000000000000001")))
	c.must(vfs.Copy(vfs.Default, filepath.Join(c.dir.Path, "000000010000000000000002"), filepath.Join(folder, "000000010000000000000002.partial")))
	want := dump(Config{DataDir: c.path, Timeline: 1})
	if got := dump(Config{Paths: []string{folder}}); got != want {
		t.Errorf("dump of the folder:\n%s\nwant\n%s", got, want)
	}
}

func TestDamagedFiles(t *testing.T) {
	tests := []struct {
		name   string
		damage func(b []byte) []byte
		want   string
	}{
		{"empty", func(b []byte) []byte { return nil }, "is not a WAL segment: segment header: 0 bytes, want 40"},
		{"not a segment", func(b []byte) []byte { return []byte(strings.Repeat("MZ", 99)) }, "is not a WAL segment"},
		{"never written", func(b []byte) []byte { clear(b); return b }, "could not find a valid record after 0/100000: invalid magic number 0000"},
		{"cut off", func(b []byte) []byte { return b[:8192] }, "is cut off at offset 8192"},
		{"flipped bit", func(b []byte) []byte { b[9000] ^= 1; return b }, "error in WAL record at 0/100108: incorrect resource manager data checksum in record at 0/100160"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := craft(t)
			path := filepath.Join(c.dir.Path, "000000010000000000000001")
			b, err := os.ReadFile(path)
			c.must(err)
			c.must(os.WriteFile(path, test.damage(b), 0o600))
			if got := dump(Config{Paths: []string{path}}); !strings.Contains(got, test.want) || !strings.HasSuffix(got, "exit 1\n") {
				t.Errorf("dump printed\n%s\nwant %q and exit 1", got, test.want)
			}
		})
	}
}

// Every line of --json is an object that holds the record's whole payload.
func TestJSONIsWhole(t *testing.T) {
	c := craft(t)
	var out bytes.Buffer
	err := Run(Config{DataDir: c.path, JSON: true, Out: &out, Notice: t.Output()})
	if !errors.Is(err, ErrEnded) {
		t.Fatalf("Run() = %v", err)
	}
	values := 0
	for line := range strings.Lines(out.String()) {
		var e Entry
		c.must(json.Unmarshal([]byte(line), &e))
		if e.Commit == nil {
			continue
		}
		for _, op := range e.Commit.Ops {
			if op.Value != nil && len(*op.Value) != op.ValueBytes {
				t.Errorf("value of %s has %d bytes, want %d", op.Key, len(*op.Value), op.ValueBytes)
			}
			values += op.ValueBytes
		}
	}
	if want := 20028; values != want {
		t.Errorf("%d bytes of values, want %d", values, want)
	}
}
