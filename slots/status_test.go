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
		slot, log, limits := readSlot(t, d)
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
