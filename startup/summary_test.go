package startup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

var someSummary = Summary{
	Epoch:        3,
	Fork:         0x1000100,
	End:          0x1000200,
	Time:         time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	Transactions: 2,
	Operations: OrphanOps{
		{Key: "a\x00\"<é", Kind: "put", LSN: 0x1000180},
		{Key: "b", Kind: "put null", LSN: 0x1000200},
		{Key: "c", Kind: "delete", LSN: 0x1000200},
	},
	Truncated:  true,
	Unreadable: 0x1000200,
}

func TestSummary(t *testing.T) {
	b, err := someSummary.encode()
	must(t, err)
	if got, err := parseSummary(b); err != nil || !reflect.DeepEqual(got, someSummary) {
		t.Errorf("%+v, %v, want %+v", got, err, someSummary)
	}
	for i := range len(b) - 1 {
		if s, err := parseSummary(b[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted as %+v", i, s)
		}
	}
	many := strings.Repeat(`{},`, summaryOps) + `{}`
	for _, text := range []string{
		`{}`,
		`{"fork": "0/0", "end": "0/8"}`,
		`{"fork": "0/8", "end": "0/8"}`,
		`{"fork": "0/8", "end": "0/10", "transactions": -1}`,
		`{"fork": "0/8", "end": "0/10", "operations": {}}`,
		`{"fork": "0/8", "end": "0/10", "operations": 1}`,
		`{"fork": "0/8", "end": "0/10", "operations": [{"lsn": 8}]}`,
		`{"fork": "0/8", "end": "0/10", "operations": [` + many + `]}`,
		`{"fork": "0/8", "end": "0/10"}` + strings.Repeat(" ", summaryLimit),
	} {
		if s, err := parseSummary([]byte(text)); err == nil {
			t.Errorf("%.80s: accepted as %+v", text, s)
		}
	}
	if _, err := parseSummary([]byte(`{"fork": "0/8", "end": "0/10", "operations": [` + many[3:] + `], "future": 1}`)); err != nil {
		t.Error(err)
	}
}

func FuzzSummary(f *testing.F) {
	b, _ := someSummary.encode()
	f.Add(b)
	f.Add([]byte(`{"fork": "0/8", "end": "0/10", "operations": null}`))
	f.Add([]byte(`{"fork": "0/8", "end": "0/10", "operations": [{}, {"key": "\ud800"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSummary(b)
		if err != nil {
			return
		}
		if len(s.Operations) > summaryOps {
			t.Fatalf("%d operations", len(s.Operations))
		}
		again, err := json.Marshal(s)
		if err != nil {
			return // a time that JSON cannot print
		}
		got, err := parseSummary(again)
		if err != nil || !got.Time.Equal(s.Time) || got.Fork != s.Fork || len(got.Operations) != len(s.Operations) {
			t.Fatalf("%+v, %v, want %+v", got, err, s)
		}
	})
}

func FuzzOrphanName(f *testing.F) {
	f.Add("2-0-1000028")
	f.Add("2-16-B374D848-3")
	f.Add("18446744073709551616-0-1")
	f.Add("2-0-1000028.tmp")
	f.Fuzz(func(t *testing.T, name string) {
		epoch, fork, ok := parseOrphanName(name)
		if !ok {
			return
		}
		if e, l, ok := parseOrphanName(orphanName(epoch, fork)); !ok || e != epoch || l != fork {
			t.Fatalf("%q is %d, %s; again %d, %s", name, epoch, fork, e, l)
		}
	})
}

// A summary lists what it has room for, and counts the rest.
func TestSummaryIsBounded(t *testing.T) {
	slow.Test(t)
	tests := []struct {
		name          string
		commits, each int // operations
		key           int // bytes
		listed        int // at least
	}{
		{"all", 2, 5000, 5, 10_000},
		{"one too many", 1, 10_001, 5, 10_000},
		{"long keys", 1, 1000, kv.MaxKeySize, 330}, // of bytes that take six each
	}
	for _, tt := range tests {
		l := newLog(t)
		from := l.w.Flushed().Load()
		for range tt.commits {
			c := kv.Commit{Time: 1}
			for i := range tt.each {
				key := fmt.Sprintf("%05d%s", i, strings.Repeat("\x01", tt.key-5))
				c.Ops = append(c.Ops, kv.Op{Kind: kv.Delete, Key: key})
			}
			l.insert(wal.Prepare(wal.RmgrLongship, kv.InfoCommit, kv.AppendCommit(nil, &c)))
		}
		l.k.stop(t)
		s := recoverDir(t, l.d).summarise(from)
		b, err := s.encode()
		must(t, err)
		if got, err := parseSummary(b); err != nil || len(got.Operations) != len(s.Operations) {
			t.Errorf("%s: %d bytes, %v", tt.name, len(b), err)
		}
		if all := tt.commits * tt.each; s.Transactions != tt.commits || len(s.Operations) < tt.listed || s.Truncated != (len(s.Operations) < all) || s.Unreadable != 0 {
			t.Errorf("%s: %d transactions, %d operations of %d, truncated %v", tt.name, s.Transactions, len(s.Operations), all, s.Truncated)
		}
	}
}

// The list is in order, and has those too of which nothing but the name is known.
func TestOrphans(t *testing.T) {
	d := DataDir{FS: vfs.NewMem(), Path: "/n1"}
	if orphans, err := d.Orphans(); len(orphans) != 0 || err != nil {
		t.Errorf("without a folder: %+v, %v", orphans, err)
	}
	summary, err := someSummary.encode()
	must(t, err)
	for name, content := range map[string]string{
		"10-0-28":      "",
		"9-0-1000100":  string(summary),
		"9-0-28":       "{",
		"9-0-28.tmp":   string(summary),
		"lost+found":   string(summary),
		"3-0-1000100":  string(summary),
		"9-1-0-2":      "",
		"x-0-28":       "",
		"9-0-00000028": strings.Repeat(" ", summaryLimit+1),
	} {
		folder := d.FS.PathJoin(d.orphans(), name)
		must(t, d.FS.MkdirAll(folder, 0o700))
		if content != "" {
			must(t, wal.WriteFileDurably(d.FS, folder, summaryFile, []byte(content)))
		}
	}
	orphans, err := d.Orphans()
	must(t, err)
	var got []string
	for _, o := range orphans {
		got = append(got, fmt.Sprintf("%s %d %s %d %v %v", o.Name, o.Epoch, o.Fork, o.Transactions, o.Err == nil, errors.Is(o.Err, fs.ErrNotExist)))
	}
	want := []string{
		"3-0-1000100 3 0/1000100 2 true false",
		"9-0-1000100 3 0/1000100 2 true false",
		"9-0-00000028 9 0/28 0 false false",
		"9-0-28 9 0/28 0 false false",
		"9-1-0-2 9 1/0 0 false true",
		"10-0-28 10 0/28 0 false true",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
