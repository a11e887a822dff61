package wal

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
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
			now := scanLSN(t, d, "now")
			return fmt.Sprintf("from %d, slots from %d\n", r.KeepFrom(scanLSN(t, d, "redo"), now, scanLSN(t, d, "slots")), r.SlotLimit(now))
		case "recycle":
			var mb int
			d.ScanArgs(t, "estimate", &mb)
			return fmt.Sprintf("to %d\n", r.RecycleTo(scanLSN(t, d, "redo"), float64(mb)*(1<<20)))
		}
		return "unknown command " + d.Cmd
	})
}
