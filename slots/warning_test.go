package slots

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/wal"
)

// warn has the arguments of status, and idle-timeout, and idle, for how long nobody has used the slot.
// Each line of input is a current position; each line of output what an operator is told then.
func TestWarning(t *testing.T) {
	datadriven.RunTest(t, "testdata/warning", func(t *testing.T, d *datadriven.TestData) string {
		slot, log, limits := readSlot(t, d)
		slot.Name = "s"
		var idle, timeout string
		if d.MaybeScanArgs(t, "idle", &idle) {
			slot.Idle = parseDuration(t, idle)
			slot.InactiveSince = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		}
		if d.MaybeScanArgs(t, "idle-timeout", &timeout) {
			limits.IdleTimeout = parseDuration(t, timeout)
		}
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			log.Current = parseLSN(t, strings.TrimSpace(line))
			text := Warning(slot, log, limits)
			if text == "" {
				text = "nothing"
			}
			fmt.Fprintf(&out, "%s: %s\n", log.Current, text)
		}
		return out.String()
	})
}

func parseDuration(t *testing.T, text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// readSlot reads the arguments that describe a slot, the log and the limits, in MB.
func readSlot(t *testing.T, d *datadriven.TestData) (slot Slot, log Log, limits Limits) {
	segment, maxWAL, keep, slotKeep := int64(1), int64(1024), int64(0), int64(-1)
	var restart, lostAt string
	d.MaybeScanArgs(t, "segment", &segment)
	d.MaybeScanArgs(t, "max_wal_size", &maxWAL)
	d.MaybeScanArgs(t, "wal_keep_size", &keep)
	d.MaybeScanArgs(t, "max_slot_wal_keep_size", &slotKeep)
	d.MaybeScanArgs(t, "removed", &log.LastRemoved)
	limits = Limits{
		SegmentSize: wal.SegmentSize(segment << 20), MaxWALSize: maxWAL << 20,
		WALKeepSize: keep << 20, MaxSlotWALKeepSize: slotKeep << 20,
	}
	if d.MaybeScanArgs(t, "restart", &restart) {
		slot.Restart = parseLSN(t, restart)
	}
	if d.MaybeScanArgs(t, "lost-at", &lostAt) {
		slot.InvalidatedAt = parseLSN(t, lostAt)
	}
	if d.HasArg("used") {
		slot.PID = 42
	}
	return slot, log, limits
}
