package simulation

import (
	"slices"
	"testing"
)

// What is demanded of runs is counted, by the same name, and a state that was not reached is told of after so
// many runs.
func TestUnreached(t *testing.T) {
	known := NewCounts()
	all := Counts{}
	for _, d := range demands {
		for _, name := range d.names {
			if _, counted := known[name]; !counted && name != "epoch opened" {
				t.Errorf("%q is demanded, and nothing counts it", name)
			}
			all[name] = 1
		}
	}
	if got := Unreached(all, 1<<20); len(got) > 0 {
		t.Errorf("Unreached() = %q, and all were reached", got)
	}
	delete(all, "tail cut off")
	if got := Unreached(all, 250); !slices.Equal(got, []string{"tail cut off"}) {
		t.Errorf("Unreached() = %q, want the one that was not reached", got)
	}
	if got := Unreached(all, 249); len(got) > 0 {
		t.Errorf("Unreached() = %q after too few runs to demand it", got)
	}
}

// A change of the rule overlaps a failover only while the primary goes by two rules.
func TestTallyOverlap(t *testing.T) {
	const (
		one     = "INFO rules in force component=keeper epoch=1 rules=[{2 ANY 1 (*) {1 0 [{5a/dd n2  false} {7a/e6 n3  false}]} <nil>}]"
		two     = "INFO rules in force component=keeper epoch=1 rules=[{2 ANY 1 (*) {1 0 [{5a/dd n2  false}]} <nil>} {3 ANY 2 (*) {2 0 []} <nil>}]"
		propose = "INFO propose component=keeper epoch=1 command=*raftlog.RuleBegin fields=&{1 1 {0 ANY 1 (*) {1 0 []} <nil>} []}"
		fails   = "WARN begin a failover component=coordinator epoch=1 target=2"
	)
	for _, c := range []struct {
		lines []string
		want  int
	}{
		{[]string{one, propose, fails}, 0},
		{[]string{one, two, one, fails}, 0},
		{[]string{one, two, fails, fails}, 1},
	} {
		tally := newTally()
		for _, line := range c.lines {
			tally.see("n1", line)
		}
		if got := tally.counts["rule change overlaps a failover"]; got != c.want {
			t.Errorf("%d overlaps, want %d, after %q", got, c.want, c.lines)
		}
	}
}

// What a node says of damage is noted unless bits of its own disk were changed.
func TestTallyUnfounded(t *testing.T) {
	const line = "ERROR damaged WAL is repaired component=scrubber from=0/1234"
	tally := newTally()
	tally.flipped("n1")
	tally.see("n1", line)
	if got := tally.unfounded(); len(got) > 0 {
		t.Errorf("noted, and its disk was changed: %q", got)
	}
	tally.see("n2", line)
	if got := tally.unfounded(); !slices.Equal(got, []string{"n2: " + line}) {
		t.Errorf("noted: %q, want what n2 says", got)
	}
}
