package syncrep

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/wal"
)

// The first line of an evaluate command is the rule, - the empty one; each other line a stream, in array order:
//
//	name member|receiver|superseded state write [flush apply]
//
// One position alone stands for all three.
func TestEvaluate(t *testing.T) {
	datadriven.Walk(t, "testdata/evaluate", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			members := 0
			d.MaybeScanArgs(t, "members", &members)
			text, lines, _ := strings.Cut(d.Input, "\n")
			rule, err := ParseRule(strings.TrimPrefix(text, "-"))
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			var standbys []Standby
			for line := range strings.Lines(lines) {
				standbys = append(standbys, parseStandby(t, d, len(standbys), line))
			}
			statuses, released := Evaluate(rule, members, standbys)
			var out []string
			for i, s := range standbys {
				out = append(out, fmt.Sprintf("%s: %d %s\n", s.Name, statuses[i].Priority, statuses[i].State))
			}
			slices.Sort(out)
			return strings.Join(out, "") + "released: " + describeReleased(released) + "\n"
		})
	})
}

func parseStandby(t *testing.T, d *datadriven.TestData, slot int, line string) Standby {
	f := strings.Fields(line)
	if len(f) != 4 && len(f) != 6 {
		d.Fatalf(t, "want: name kind state write [flush apply], got %q", line)
	}
	at := parsePositions(t, d, f[3:])
	return Standby{
		Slot: slot, Name: f[0], Member: f[1] != "receiver", Superseded: f[1] == "superseded",
		State: parseState(t, d, f[2]), Write: at[0], Flush: at[1], Apply: at[2],
	}
}

// parsePositions reads one position, which stands for all three, or three.
func parsePositions(t *testing.T, d *datadriven.TestData, fields []string) (at positions) {
	for i := range at {
		lsn, err := wal.ParseLSN(fields[min(i, len(fields)-1)])
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		at[i] = lsn
	}
	return at
}

func parseState(t *testing.T, d *datadriven.TestData, name string) State {
	i := slices.Index(stateNames[:], name)
	if i < 0 {
		d.Fatalf(t, "unknown state %q", name)
	}
	return State(i)
}

func describeReleased(r Released) string {
	switch {
	case !r.OK:
		return "nothing"
	case r.Write == Unbounded && r.Flush == Unbounded && r.Apply == Unbounded:
		return "unbounded"
	default:
		return fmt.Sprintf("write %s flush %s apply %s", r.Write, r.Flush, r.Apply)
	}
}
