package wal

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// testdata/retention: section 10 of reference/postgres-wal.md as scripts.
func TestRetention(t *testing.T) {
	var r Retention
	datadriven.RunTest(t, "testdata/retention", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "settings": // sizes in MB, as in postgresql.conf
			var seg, minWAL, maxWAL, keep, slot int
			r = Retention{}
			d.ScanArgs(t, "segment", &seg)
			d.ScanArgs(t, "min", &minWAL)
			d.ScanArgs(t, "max", &maxWAL)
			d.ScanArgs(t, "keep", &keep)
			d.ScanArgs(t, "slot", &slot)
			var target string
			d.ScanArgs(t, "target", &target)
			_, err := fmt.Sscan(target, &r.CheckpointCompletion)
			must(t, err)
			r.SegmentSize = SegmentSize(seg << 20)
			r.MinWALSize, r.MaxWALSize, r.KeepSize = int64(minWAL)<<20, int64(maxWAL)<<20, int64(keep)<<20
			if r.MaxSlotKeepSize = -1; slot >= 0 {
				r.MaxSlotKeepSize = int64(slot) << 20
			}
			return ""
		case "due":
			redo := scanLSN(t, d, "redo")
			return eachLine(d.Input, func(line string) string {
				now, err := ParseLSN(strings.TrimSpace(line))
				must(t, err)
				return fmt.Sprint(r.CheckpointDue(redo, now))
			})
		case "keep":
			n := Needs{Redo: scanLSN(t, d, "redo")}
			slots := map[string]LSN{}
			for _, arg := range d.CmdArgs {
				switch lsn := scanLSN(t, d, arg.Key); arg.Key {
				case "redo", "now":
				case "copy":
					n.Copies = lsn
				default:
					slots[arg.Key] = lsn
				}
			}
			return keptAt(r, n, slots, scanLSN(t, d, "now"))
		case "recycle":
			var mb int
			d.ScanArgs(t, "estimate", &mb)
			return fmt.Sprintf("to %d\n", r.RecycleTo(scanLSN(t, d, "redo"), float64(mb)*(1<<20)))
		}
		return "unknown command " + d.Cmd
	})
}

// keptAt is what a checkpoint does: it keeps from one segment on, takes their claim from slots that need
// more, and then perhaps keeps less.
func keptAt(r Retention, n Needs, slots map[string]LSN, now LSN) string {
	slowest := func() (lowest LSN) {
		for _, lsn := range slots {
			if lowest == 0 || lsn < lowest {
				lowest = lsn
			}
		}
		return lowest
	}
	var b strings.Builder
	n.Slots = slowest()
	keep := r.KeepFrom(n, now)
	for _, name := range slices.Sorted(maps.Keys(slots)) {
		if r.SegmentSize.Segno(slots[name]) < keep {
			fmt.Fprintf(&b, "%s is lost\n", name)
			delete(slots, name)
		}
	}
	n.Slots = slowest()
	keep = r.KeepFrom(n, now)
	if oldest := r.Oldest(n); oldest < keep {
		fmt.Fprintf(&b, "segment %d is needed: nothing may be removed\n", oldest)
	}
	fmt.Fprintf(&b, "from %d\n", keep)
	return b.String()
}

// What is needed is not removed, whatever the arithmetic says: nothing goes, and readers find it.
func TestRemoveBeforeRefuses(t *testing.T) {
	d := NewDir(vfs.NewMem(), "pg_wal", Format{SystemID: 1, SegmentSize: MinSegmentSize})
	must(t, d.FS.MkdirAll(d.Path, 0o700))
	for segno := uint64(1); segno <= 4; segno++ {
		must(t, d.Allocate(1, segno))
	}
	announced := uint64(0)
	_, _, err := d.RemoveBefore(3, func() uint64 { announced = d.RemovedBelow(); return 2 }, 1, 4, 4)
	if refused, ok := errors.AsType[*NeededError](err); !ok || *refused != (NeededError{Keep: 3, Needed: 2}) {
		t.Errorf("RemoveBefore = %v", err)
	}
	if files, err := d.Segments(); err != nil || len(files) != 4 || d.RemovedBelow() != 0 {
		t.Errorf("%d segments left, %v, removed below %d", len(files), err, d.RemovedBelow())
	}
	if announced != 3 {
		t.Errorf("what is to go was announced as %d, want 3: who comes to need it meanwhile is not seen", announced)
	}
	removed, _, err := d.RemoveBefore(3, func() uint64 { return 3 }, 1, 4, 4)
	if err != nil || removed != 2 || d.RemovedBelow() != 3 {
		t.Errorf("removed %d, %v, removed below %d", removed, err, d.RemovedBelow())
	}
}
