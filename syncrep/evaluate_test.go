package syncrep

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/wal"
)

// The first line of an evaluate command is the rule's text, - the empty one, and after each bar what it
// was resolved to: two while a rule changes. FIRST lists those it waits for.
//
//	FIRST 1 (a, b) | 1 of a
//
// Each other line is a stream:
//
//	name member|receiver|superseded state write [flush apply]
//
// One position alone stands for all three. a~2 is another disk of the member a, a:r in a rule the
// receiver of that name, w:w the witness w. A rule with zones is like 2 in 2 zones of a@x b@y: a was in
// zone x.
func TestEvaluate(t *testing.T) {
	datadriven.Walk(t, "testdata/evaluate", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			text, lines, _ := strings.Cut(d.Input, "\n")
			view, rules := parseRules(t, d, text)
			var standbys []Standby
			for line := range strings.Lines(lines) {
				standbys = append(standbys, parseStandby(t, d, line))
			}
			statuses, released := Evaluate(view, rules, standbys)
			var out []string
			for i, s := range standbys {
				out = append(out, fmt.Sprintf("%s: %d %s\n", s.Name, statuses[i].Priority, statuses[i].State))
			}
			slices.Sort(out)
			return strings.Join(out, "") + "released: " + describeReleased(released) + "\n"
		})
	})
}

func parseRules(t testing.TB, d *datadriven.TestData, text string) (Rule, []Resolved) {
	fields := strings.Split(text, "|")
	view, err := ParseRule(strings.TrimPrefix(strings.TrimSpace(fields[0]), "-"))
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	var rules []Resolved
	for _, f := range fields[1:] {
		rules = append(rules, resolved(f))
	}
	return view, rules
}

// resolved reads a rule like: 1 of a b~2 vault:r; or: 2 in 2 zones of a@x b@y.
func resolved(text string) (r Resolved) {
	counts, names, ok := strings.Cut(text, " of")
	f := strings.Fields(counts)
	if len(f) == 4 && f[1] == "in" && f[3] == "zones" {
		r.Zones = number(f[2])
	} else if !ok || len(f) != 1 {
		panic("want: K [in Z zones] of NAMES, got " + text)
	}
	r.K = number(f[0])
	for _, f := range strings.Fields(names) {
		f, zone, _ := strings.Cut(f, "@")
		if name, ok := strings.CutSuffix(f, ":r"); ok {
			r.Listed = append(r.Listed, Listed{Name: name, Zone: zone})
			continue
		}
		f, witness := strings.CutSuffix(f, ":w")
		name, id := disk(f)
		r.Listed = append(r.Listed, Listed{ID: id, Name: name, Zone: zone, Witness: witness})
	}
	return r
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

// disk is a member's name, and its disk: the first one unless the text says name~2.
func disk(text string) (string, ID) {
	name, incarnation, _ := strings.Cut(text, "~")
	h := fnv.New64a()
	h.Write([]byte(name))
	i, err := strconv.ParseUint("0"+incarnation, 10, 64)
	if err != nil {
		panic(err)
	}
	return name, ID{Node: h.Sum64(), Incarnation: max(i, 1)}
}

func parseStandby(t testing.TB, d *datadriven.TestData, line string) Standby {
	f := strings.Fields(line)
	if len(f) != 4 && len(f) != 6 {
		d.Fatalf(t, "want: name kind state write [flush apply], got %q", line)
	}
	at := parsePositions(t, d, f[3:])
	s := Standby{
		Name: f[0], Superseded: f[1] == "superseded", State: parseState(t, d, f[2]),
		Write: at[0], Flush: at[1], Apply: at[2],
	}
	if f[1] != "receiver" {
		s.Name, s.ID = disk(f[0])
	}
	return s
}

// parsePositions reads one position, which stands for all three, or three.
func parsePositions(t testing.TB, d *datadriven.TestData, fields []string) (at positions) {
	for i := range at {
		lsn, err := wal.ParseLSN(fields[min(i, len(fields)-1)])
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		at[i] = lsn
	}
	return at
}

func parseState(t testing.TB, d *datadriven.TestData, name string) State {
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

// A rule lists disks. Receivers, who have none, are listed by name, be it the empty one.
func TestResolvedLists(t *testing.T) {
	r := resolved("1 of a b~2 vault:r :r")
	_, a := disk("a")
	_, b := disk("b")
	_, b2 := disk("b~2")
	if !r.Lists(a) || r.Lists(b) || !r.Lists(b2) || r.Lists(ID{}) {
		t.Errorf("Lists: a %v, b %v, b's new disk %v, nobody %v", r.Lists(a), r.Lists(b), r.Lists(b2), r.Lists(ID{}))
	}
}

// What is sent ahead of the horizon goes to the receivers that the rules name, in any case; not to
// members of that name.
func TestGroupNames(t *testing.T) {
	g := NewGroup()
	g.SetRules(Rule{}, resolved("1 of a"), resolved("1 of a vault:r"))
	for name, want := range map[string]bool{"vault": true, "VAULT": true, "a": false, "pg_receivewal": false} {
		if got := g.Names(name); got != want {
			t.Errorf("Names(%q) = %v, want %v", name, got, want)
		}
	}
}
