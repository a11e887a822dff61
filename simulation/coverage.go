package simulation

import (
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
	{"epoch given up before it was open", []string{"stopping before the epoch was open"}},
	{"deposed", []string{"this node is not the primary any more"}},
	{"tail proved after a crash", []string{"log recovered after an unclean stop"}},
	{"stream interrupted", []string{"replication stream interrupted"}},
	{"disk watchdog", []string{"the disk hangs"}},
	{"failed sync", []string{"has ended", "sync", "input/output error"}},
	{"corruption found at start", []string{"has ended", "Nothing has been cut"}},
	{"handed over by a switchover", []string{"named a primary", "switchover"}},
	{"Raft's leader missed at once", []string{"Raft's leader has ended"}},
}

// others are those that are seen elsewhere.
var others = []string{
	"epoch never steady", "two epochs in a row never steady", "rule change overlaps a failover",
	"unknown result that did commit", "unknown result that did not commit", "corruption repaired from a peer",
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

// A tally counts what happens.
type tally struct {
	mu      sync.Mutex
	counts  Counts
	joint   bool   // a change of the rule is under way
	primary string // whose epoch was opened last
}

func newTally() *tally { return &tally{counts: Counts{}} }

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

// see is told each line of the logs.
func (t *tally) see(who, line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range sights {
		if containsAll(line, s.line) {
			t.counts[s.name]++
		}
	}
	switch {
	case strings.Contains(line, "epoch is open"):
		t.primary = who
		t.counts["epoch opened"]++
	case strings.Contains(line, "*raftlog.RuleBegin"):
		t.joint = true
	case strings.Contains(line, "*raftlog.RuleEnd"), strings.Contains(line, "*raftlog.RuleCancel"):
		t.joint = false
	case strings.Contains(line, "begin a failover") && t.joint:
		t.counts["rule change overlaps a failover"]++
		t.joint = false
	}
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}
