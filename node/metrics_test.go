package node

import (
	"fmt"
	"testing"

	"github.com/longship-db/longship/raftlog"
)

// However many receivers come and go, there are as many labels as connections.
func TestLabelsAreBounded(t *testing.T) {
	n := names{limit: 3}
	seen := map[string]bool{}
	for i := range 100 {
		seen[n.label(fmt.Sprintf("receiver %d", i))] = true
	}
	if len(seen) != 4 || !seen[otherNames] {
		t.Errorf("labels %v, want three names and %s", seen, otherNames)
	}
	if got := n.label("receiver 1"); got != "receiver 1" {
		t.Errorf("a name that was there before: %q", got)
	}
	m := names{limit: 3}
	if got := m.label("\xff\xfe" + string(make([]byte, 1000))); len(got) > maxLabel+1 || got[0] != '?' {
		t.Errorf("bytes that are no text: %q", got)
	}
	if got := m.label(""); got != "(none)" {
		t.Errorf("no name: %q", got)
	}
}

func TestFailoverCauses(t *testing.T) {
	for text, want := range map[string]string{
		"switchover":                         "switchover",
		"failover":                           "by_hand",
		"failover, loss of data accepted":    "loss_accepted",
		"n1: the process is gone":            "gone",
		"n1: the process was started again":  "restarted",
		"n1: no answer for 2s":               "silent",
		"n1: it has left office":             "other",
		"something that a later version has": "other",
	} {
		if got := failoverCause(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// While a member is replaced there are two of its name. Series are the new one's.
func TestOneSeriesForEachName(t *testing.T) {
	got := lastNamed([]raftlog.Member{{Name: "n1"}, {Name: "n2", Leaving: true}, {Name: "n3", Leaving: true}, {Name: "n2"}})
	if len(got) != 3 || got[0].Name != "n1" || got[1].Name != "n3" || got[2].Name != "n2" || got[2].Leaving {
		t.Errorf("%+v", got)
	}
}
