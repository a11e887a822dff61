package simulation

import (
	"slices"
	"strings"
	"sync"
)

// A sight is a rare state that simulations must reach now and then, and how a node's log tells of it.
type sight struct {
	name string
	line []string // all of these are in a line of the log
}

// sights are all of them that are seen in logs.
var sights = []sight{
	{"failover begun", []string{"begin a failover"}},
	{"promotion refused by I4", []string{"nobody is promoted"}},
	{"winner fetches the rest of the log", []string{"fetching the rest of the log"}},
	{"office not taken", []string{"not taking office"}},
	{"rule change called off by a failover", []string{"call off a change of the rule"}},
	{"rule change called off by itself", []string{"propose", "*raftlog.RuleCancel"}},
	{"tail cut off", []string{"following the upstream", "cut=true"}},
	{"followed to another timeline", []string{"following the upstream"}},
	{"new base copy", []string{"taking a new base copy"}},
	{"new base copy in its place", []string{"a base copy has taken the place"}},
	{"new base copy given up", []string{"no base copy was taken"}},
	{"epoch given up before it was open", []string{"stopping before the epoch was open"}},
	{"deposed", []string{"this node is not the primary any more"}},
	{"tail proved after a crash", []string{"log recovered after an unclean stop"}},
	{"stream interrupted", []string{"replication stream interrupted"}},
	{"disk watchdog", []string{"the disk hangs"}},
	{"failed sync", []string{"has ended", "sync", "input/output error"}},
	{"damage found and repaired", []string{"damaged WAL is repaired"}},
	{"damage not repaired at once", []string{"damaged WAL cannot be repaired now"}},
	{"damage repaired at start", []string{"the log was damaged", "and is repaired"}},
	{"new base copy for damage", []string{"taking a new base copy", "damaged"}},
	{"damaged segment ended early", []string{"ending the segment that is being written, since it is damaged"}},
	{"corruption found at start", []string{"has ended", "Nothing has been cut"}},
	{"handed over by a switchover", []string{"named a primary", "switchover"}},
	{"Raft's leader missed at once", []string{"Raft's leader has ended"}},
}

// others are those that are seen elsewhere.
var others = []string{
	"epoch never steady", "two epochs in a row never steady", "forked twice in one epoch", "rule change overlaps a failover",
	"unknown result that did commit", "unknown result that did not commit", "corruption repaired from a peer",
	"removed, and back as another",
}

// NewCounts has all sights, seen or not.
func NewCounts() Counts {
	c := Counts{}
	for _, name := range others {
		c[name] = 0
	}
	for _, s := range sights {
		c[s.name] = 0
	}
	return c
}

// Counts are how often things have happened.
type Counts map[string]int

// Add adds all of o.
func (c Counts) Add(o Counts) {
	for what, n := range o {
		c[what] += n
	}
}

// demands are the states that so many runs must reach, of which three short ones are worth one. Of as many runs as
// could miss one of them by chance once in a billion times, if not less often; the share of the runs, of full ones
// and of short ones, that reach each is in docs/testing.md.
var demands = []struct {
	runs  int
	names []string
}{
	{50, []string{
		"epoch opened", "failover begun", "followed to another timeline", "stream interrupted", "tail proved after a crash",
	}},
	{250, []string{
		"deposed", "tail cut off", "Raft's leader missed at once", "epoch never steady", "forked twice in one epoch",
		"unknown result that did commit", "unknown result that did not commit", "rule change overlaps a failover",
		"handed over by a switchover", "removed, and back as another", "failed sync", "new base copy",
		"new base copy in its place", "damage repaired at start",
	}},
	{600, []string{
		"disk watchdog", "two epochs in a row never steady", "promotion refused by I4", "winner fetches the rest of the log",
		"damage found and repaired", "damage not repaired at once",
	}},
	{1100, []string{"corruption found at start", "corruption repaired from a peer", "damaged segment ended early"}},
}

// Unreached are the states that so many runs ought to have reached, and have not.
func Unreached(c Counts, runs int) []string {
	var list []string
	for _, d := range demands {
		for _, name := range d.names {
			if runs >= d.runs && c[name] == 0 {
				list = append(list, name)
			}
		}
	}
	return list
}

// A tally counts what happens.
type tally struct {
	mu       sync.Mutex
	counts   Counts
	joint    bool   // the primary acknowledges under two rules
	primary  string // whose epoch was opened last
	awaiting []awaited
	rotten   map[string]bool // on whose disks bits were changed
	rumours  []string        // lines that tell of damage on another
}

// An awaited line of a log is told to whoever waits for it.
type awaited struct {
	parts []string
	who   chan string // whose log it was; has room for one
}

func newTally() *tally { return &tally{counts: Counts{}, rotten: map[string]bool{}} }

// flipped notes that a bit of a disk is changed.
func (t *tally) flipped(who string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rotten[who] = true
}

// unfounded are the lines that tell of damage that nobody has made.
func (t *tally) unfounded() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.rumours)
}

// damage is in what a node says of damage to its own log, one of these.
var damage = []string{"the log was damaged", "the log is damaged", "WAL is damaged", "damaged WAL"}

func (t *tally) add(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what]++
}

// leader is the node that has opened the last epoch.
func (t *tally) leader() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.primary
}

// next says whose log is the first to have a line with all of these in it, from now on.
func (t *tally) next(parts ...string) <-chan string {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := awaited{parts, make(chan string, 1)}
	t.awaiting = append(t.awaiting, a)
	return a.who
}

// see is told each line of the logs.
func (t *tally) see(who, line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range sights {
		if containsAll(line, s.line) {
			t.counts[s.name]++
		}
	}
	if !t.rotten[who] && slices.ContainsFunc(damage, func(part string) bool { return strings.Contains(line, part) }) {
		t.rumours = append(t.rumours, who+": "+line)
	}
	t.awaiting = slices.DeleteFunc(t.awaiting, func(a awaited) bool {
		told := containsAll(line, a.parts)
		if told {
			a.who <- who
		}
		return told
	})
	switch {
	case strings.Contains(line, "epoch is open"):
		t.primary = who
		t.counts["epoch opened"]++
	case strings.Contains(line, "rules in force"):
		t.joint = strings.Contains(line, ruleBesideRule)
	case strings.Contains(line, "begin a failover") && t.joint:
		t.counts["rule change overlaps a failover"]++
		t.joint = false
	}
}

// ruleBesideRule is between two rules that are in force, as the keeper logs them.
const ruleBesideRule = "<nil>} {"

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}
