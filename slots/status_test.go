package slots

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/wal"
)

// status has the limits, in MB, and the last removed segment as arguments; restart is the slot's, or
// lost-at for an invalidated one, and used says that someone uses it. Each line of input is a current
// position; each line of output what the slot is then.
func TestWALStatus(t *testing.T) {
	datadriven.RunTest(t, "testdata/status", func(t *testing.T, d *datadriven.TestData) string {
		segment, maxWAL, keep, slotKeep := int64(1), int64(1024), int64(0), int64(-1)
		var restart, lostAt string
		log := Log{}
		d.MaybeScanArgs(t, "segment", &segment)
		d.MaybeScanArgs(t, "max_wal_size", &maxWAL)
		d.MaybeScanArgs(t, "wal_keep_size", &keep)
		d.MaybeScanArgs(t, "max_slot_wal_keep_size", &slotKeep)
		d.MaybeScanArgs(t, "removed", &log.LastRemoved)
		limits := Limits{
			SegmentSize: wal.SegmentSize(segment << 20), MaxWALSize: maxWAL << 20,
			WALKeepSize: keep << 20, MaxSlotWALKeepSize: slotKeep << 20,
		}
		var slot Slot
		if d.MaybeScanArgs(t, "restart", &restart) {
			slot.Restart = parseLSN(t, restart)
		}
		if d.MaybeScanArgs(t, "lost-at", &lostAt) {
			slot.InvalidatedAt = parseLSN(t, lostAt)
		}
		if d.HasArg("used") {
			slot.PID = 42
		}
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			log.Current = parseLSN(t, strings.TrimSpace(line))
			status, safe, ok := WALStatus(slot, log, limits)
			shown := "null"
			if ok {
				shown = fmt.Sprint(safe)
			}
			fmt.Fprintf(&out, "%s: %s %s\n", log.Current, cmp.Or(status, "null"), shown)
		}
		return out.String()
	})
}

func parseLSN(t *testing.T, text string) wal.LSN {
	lsn, err := wal.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}
