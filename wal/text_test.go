package wal

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// testdata/text: LSNs, file names, history files and timestamps, as text.
func TestText(t *testing.T) {
	histories := map[string]History{"1": first}
	datadriven.RunTest(t, "testdata/text", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "lsn":
			return eachLine(d.Input, func(line string) string {
				l, err := ParseLSN(line)
				if err != nil {
					return err.Error()
				}
				return fmt.Sprintf("%s = %#x", l, uint64(l))
			})
		case "segment":
			return segmentNames(t, d)
		case "segment-name":
			return eachLine(d.Input, func(line string) string {
				tli, segno, ok := scanSize(t, d).ParseFileName(line)
				return fmt.Sprintf("%d %d %v", tli, segno, ok)
			})
		case "history-name":
			return eachLine(d.Input, func(line string) string {
				tli, ok := ParseHistoryFileName(line)
				return fmt.Sprintf("%d %v", tli, ok)
			})
		case "timestamp":
			return eachLine(d.Input, timestamp)
		}
		return historyCommand(t, d, histories)
	})
}

func eachLine(input string, f func(string) string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimSuffix(input, "\n"), "\n") {
		fmt.Fprintf(&b, "%s\n", f(strings.Trim(line, `"`)))
	}
	return b.String()
}

func scanSize(t *testing.T, d *datadriven.TestData) SegmentSize {
	var mib int
	d.ScanArgs(t, "mib", &mib)
	return SegmentSize(mib << 20)
}

func scanLSN(t *testing.T, d *datadriven.TestData, key string) LSN {
	var s string
	d.ScanArgs(t, key, &s)
	l, err := ParseLSN(s)
	must(t, err)
	return l
}

// segmentNames prints the segment of each position, and of the byte before it, for a segment size.
func segmentNames(t *testing.T, d *datadriven.TestData) string {
	size := scanSize(t, d)
	return eachLine(d.Input, func(line string) string {
		l, err := ParseLSN(line)
		must(t, err)
		name := size.FileName(1, size.Segno(l))
		if tli, segno, ok := size.ParseFileName(name); tli != 1 || segno != size.Segno(l) || !ok {
			t.Errorf("%s is parsed as %d %d %v", name, tli, segno, ok)
		}
		return fmt.Sprintf("%s+%X before %s", name, size.Offset(l), size.FileName(1, size.PrevSegno(l)))
	})
}

func timestamp(line string) string {
	at, err := time.Parse(time.RFC3339Nano, line)
	if err != nil {
		return err.Error()
	}
	ts := TimestampOf(at)
	if back := ts.Time(); back != at.UTC().Truncate(time.Microsecond) {
		return fmt.Sprintf("%d comes back as %s", ts, back)
	}
	return strconv.FormatInt(int64(ts), 10)
}

func historyCommand(t *testing.T, d *datadriven.TestData, histories map[string]History) string {
	var name string
	switch d.Cmd {
	case "parse-history": // what is read, and the file as we would write it, line ends made visible
		var tli int
		d.ScanArgs(t, "tli", &tli)
		h, err := ParseHistory(TimelineID(tli), []byte(strings.ReplaceAll(d.Input, `\n`, "\n")))
		if err != nil {
			return err.Error()
		}
		histories[strconv.Itoa(tli)] = h
		return visible(h)
	case "child":
		var tli int
		d.ScanArgs(t, "of", &name)
		d.ScanArgs(t, "tli", &tli)
		h := histories[name].Child(TimelineID(tli), scanLSN(t, d, "at"), d.Input)
		var as string
		if d.MaybeScanArgs(t, "as", &as); as == "" {
			as = strconv.Itoa(tli)
		}
		histories[as] = h
		return visible(h)
	case "timelines":
		d.ScanArgs(t, "of", &name)
		var b strings.Builder
		h := histories[name]
		for _, tli := range append(h.timelines(), h.Timeline, 99) {
			end, ok := h.End(tli)
			fmt.Fprintf(&b, "%d: begin %s end %s %v next %d\n", tli, h.Begin(tli), end, ok, h.Next(tli))
		}
		return b.String()
	case "fork":
		var a, b string
		d.ScanArgs(t, "a", &a)
		d.ScanArgs(t, "b", &b)
		if x, y := Fork(histories[a], histories[b]), Fork(histories[b], histories[a]); x != y {
			t.Errorf("%s: Fork(a, b) = %s, Fork(b, a) = %s", d.Pos, x, y)
		}
		return Fork(histories[a], histories[b]).String() + "\n"
	case "files":
		var from, to uint64
		d.ScanArgs(t, "of", &name)
		d.ScanArgs(t, "from", &from)
		d.ScanArgs(t, "to", &to)
		size, b := scanSize(t, d), new(strings.Builder)
		for segno := from; segno <= to; segno++ {
			fmt.Fprintln(b, size.FileName(histories[name].FileTimeline(segno, size), segno))
		}
		return b.String()
	}
	return "unknown command " + d.Cmd
}

func visible(h History) string {
	return strings.NewReplacer("\t", `\t`, "\n", "\\n\n").Replace(string(h.Format()))
}

// For every legal segment size names sort as positions do and parse back.
func TestSegmentNamesOfEverySize(t *testing.T) {
	for size := MinSegmentSize; size <= MaxSegmentSize; size *= 2 {
		var last string
		for _, segno := range []uint64{1, 2, size.perID() - 1, size.perID(), size.perID() + 1, 5*size.perID() - 1, size.perID() << 31} {
			name := size.FileName(7, segno)
			tli, back, ok := size.ParseFileName(name)
			if !size.Valid() || tli != 7 || back != segno || !ok || name < last {
				t.Errorf("size %d: segment %d is %s, back %d %d %v", size, segno, name, tli, back, ok)
			}
			last = name
			if at := size.Start(segno); size.Segno(at) != segno || size.Segno(at-1) != segno-1 || size.PrevSegno(at+1) != segno {
				t.Errorf("size %d: segment %d starts at %s", size, segno, at)
			}
		}
	}
	for _, size := range []SegmentSize{0, 1 << 19, 3 << 20, 1<<20 + 1, 1 << 31} {
		if size.Valid() {
			t.Errorf("size %d is valid", size)
		}
	}
}

// History files survive a directory, with a foreign cluster's files beside them.
func TestDirHistories(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	h := first.Child(2, 0x200000, "no recovery target specified").Child(5, 0x300000, "at restore point \"x\"")
	must(t, d.WriteHistory(h))
	must(t, d.WriteHistory(History{Timeline: 2, Switches: h.Switches[:1]}))
	must(t, WriteFileDurably(d.FS, d.Path, "00000000.history", nil))
	must(t, WriteFileDurably(d.FS, d.Path, "0000000a.history", nil))
	tlis, err := d.Histories()
	if err != nil || fmt.Sprint(tlis) != "[2 5]" {
		t.Errorf("histories of %v, %v", tlis, err)
	}
	got, err := d.ReadHistory(5)
	if err != nil || string(got.Format()) != string(h.Format()) {
		t.Errorf("read %+v, %v, want %+v", got, err, h)
	}
	if h, err := d.ReadHistory(1); err != nil || len(h.Switches) != 0 {
		t.Errorf("timeline 1 has the history %+v, %v", h, err)
	}
	if _, err := d.ReadHistory(7); err == nil {
		t.Error("a missing history was read")
	}
}
