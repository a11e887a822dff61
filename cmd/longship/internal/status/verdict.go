package status

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/longship-db/longship/wal"
)

// What is worth a warning.
const (
	lateness = 500 * time.Millisecond // beyond heartbeat_interval: a member is late
	patience = time.Second            // for which commits may wait
	fullDisk = 10                     // per cent of a disk that should be free
)

// seconds is a column that holds a number of seconds; ok is false if it is NULL or not there.
func (r Row) seconds(name string) (d time.Duration, ok bool) {
	switch v := r.get(name).(type) {
	case json.Number:
		f, err := v.Float64()
		return time.Duration(f * float64(time.Second)), err == nil
	case int64:
		return time.Duration(v) * time.Second, true
	}
	return 0, false
}

// addLate adds late to rows of longship_members: whether a member lacks something of the log for longer
// than heartbeats take. Without heartbeats nobody can say. What is past the horizon nobody can have applied: while
// commits wait that is no fault of those who have flushed it.
func (s *Snapshot) addLate() {
	end, known := logEnd(s.Members)
	horizon, _ := s.Cluster.LSN("horizon")
	interval, _ := s.Cluster.seconds("heartbeat_interval")
	lacks := func(m Row, ageOf, upTo string, end wal.LSN) bool {
		age, ok := m.seconds(ageOf)
		at, known := m.LSN(upTo)
		return ok && known && age > interval+lateness && at < end
	}
	for i, m := range s.Members {
		late := known && (lacks(m, "flush_age", "flush_lsn", end) || m.Text("role") != "witness" && lacks(m, "replay_age", "replay_lsn", min(end, horizon)))
		if !s.Primary() && m.Text("name") == s.Cluster.Text("node") { // it knows of no end but its own
			late = lacks(m, m.holds("age"), m.holds("lsn"), math.MaxUint64)
		}
		s.Members[i] = append(m, Field{"late", late && interval > 0})
	}
}

// warn collects what an operator has to know first, the worst first.
func (s *Snapshot) warn() {
	s.Warnings = []string{}
	add := func(format string, args ...any) { s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...)) }
	if why := s.notWriting(); why != "" {
		add("%s", why)
	}
	if debt := s.debt(); debt != "" {
		add("%s", debt)
	}
	if wanted, other := s.Cluster.get("rule_wanted").(string); other {
		add("RULE NOT IN FORCE: '%s' is to replace '%s', once enough of those it lists stream", wanted, s.Cluster.Text("rule"))
	}
	for _, w := range s.WhatIf {
		if len(w.Lose) == 1 && (!w.Writes || w.LostBytes > 0) {
			add("WOULD NOT SURVIVE the loss of %s: %s", w.Lose[0], brief(w.Then))
		}
	}
	for _, m := range s.Members {
		name := m.Text("name")
		switch age, _ := m.seconds(m.holds("age")); {
		case m.Text("state") == "down", m.Text("state") == "not streaming":
			add("%s is %s%s", name, m.Text("state"), m.missedFor())
		case m.bool("late"):
			add("%s is late: what it has is %s old", name, age.Round(100*time.Millisecond))
		}
		if to, damaged := m.LSN("damaged_lsn"); damaged {
			add("the log of %s is DAMAGED before %s, and no other member could repair it yet (longship_wal_scrub there says more)", name, to)
		}
		free, size := m.disk()
		if size > 0 && free*100 < size*fullDisk {
			add("the disk of %s is nearly full: %s of %s free", name, bytesText(free), bytesText(size))
		}
	}
	for _, slot := range s.Slots {
		if text := slot.Text("warning"); text != "" {
			add("%s", text)
		}
	}
	if len(s.Orphans) > 0 {
		add("%d orphans: what was cut off the log of %s is kept in its folder orphans", len(s.Orphans), s.Cluster.Text("node"))
	}
}

// debt is what is acknowledged, and held by the primary alone; "" if nothing is.
func (s *Snapshot) debt() string {
	c := s.Cluster
	if c.Text("debt_since") == "" {
		return ""
	}
	text := fmt.Sprintf("DURABILITY DEBT since %s: ", c.moment("debt_since"))
	if commits, known := c.int("debt_commits"); known {
		bytes, _ := c.int("debt_bytes")
		what := "commits"
		if commits == 1 {
			what = "commit"
		}
		text += fmt.Sprintf("%d %s, %s, ", commits, what, bytesText(bytes))
	}
	return text + "acknowledged and held by " + orUnknown(c.Text("primary")) + " alone: its disk must not be lost"
}

// brief is the beginning of what would follow; all of it is in the table.
func brief(then string) string {
	then, _, _ = strings.Cut(then, ";")
	if short, _, found := strings.Cut(then, ": "); found && len(then) > 60 {
		return short
	}
	return then
}

// missedFor is how old what a member has is that is not there, as far as its slot tells.
func (r Row) missedFor() string {
	age, ok := r.seconds("flush_age")
	if !ok {
		return ""
	}
	return fmt.Sprintf(", and has missed the last %s", age.Round(time.Second))
}

// disk is what is free on a member's disk, and its size; 0: not known.
func (r Row) disk() (free, size int64) {
	free, _ = r.int("disk_free")
	size, _ = r.int("disk_size")
	return free, size
}

// notWriting says why no commit is acknowledged, as far as the node knows; "" if commits are.
func (s *Snapshot) notWriting() string {
	c := s.Cluster
	switch waiting, known := c.seconds("waiting_age"); {
	case c.Text("waiting") != "":
		return "NOT WRITING: this node waits " + strings.TrimPrefix(c.Text("waiting"), "waiting ")
	case c.Text("phase") != "" && c.Text("phase") != "steady":
		return "NOT WRITING: a primary is being replaced, phase " + c.Text("phase")
	case s.RuleMet != nil && !*s.RuleMet && s.debt() == "":
		return "WRITES WAIT" + since(waiting, known) + " for " + s.waitedFor() + ": the rule is not met"
	case known && waiting > patience:
		return "WRITES WAIT" + since(waiting, known) + " for " + s.waitedFor()
	}
	for _, m := range s.Members {
		if age, _ := m.seconds("replay_age"); m.bool("late") && !s.Primary() && m.Text("name") == c.Text("node") {
			return fmt.Sprintf("NO WORD from the primary for %s", age.Round(100*time.Millisecond))
		}
	}
	return ""
}

func since(d time.Duration, known bool) string {
	if !known {
		return ""
	}
	return ", since " + d.Round(100*time.Millisecond).String() + ","
}

// waitedFor are the members without whose acknowledgement commits wait.
func (s *Snapshot) waitedFor() string {
	var names []string
	for _, m := range s.Members {
		switch state := m.Text("state"); {
		case m.Text("role") == "primary" || !m.bool("counted"):
		case state != "streaming":
			names = append(names, fmt.Sprintf("%s (%s)", m.Text("name"), state))
		case m.bool("late"):
			names = append(names, m.Text("name")+" (late)")
		}
	}
	if len(names) == 0 {
		return "standbys that the rule names"
	}
	return strings.Join(names, ", ")
}

// Verdict is what an operator asks first: is it writing, and would it survive.
func (s *Snapshot) Verdict() []string {
	var lines []string
	for _, w := range s.Warnings {
		lines = append(lines, alarm+w)
	}
	if s.notWriting() == "" && s.Cluster.Text("phase") != "" {
		how := "writing: commits are acknowledged"
		if s.debt() != "" {
			how += ", without the standbys"
		}
		lines = append([]string{how + s.asSeen()}, lines...)
	}
	if s.WhatIfError == nil && len(s.WhatIf) > 1 && !strings.Contains(strings.Join(s.Warnings, "\n"), "WOULD NOT SURVIVE") {
		lines = append(lines, "survives the loss of any one node")
	}
	return lines
}

func (s *Snapshot) asSeen() string {
	if s.Primary() {
		return ""
	}
	return fmt.Sprintf(", as far as %s, a %s, knows", s.Cluster.Text("node"), s.Cluster.Text("role"))
}

// alarm begins a line that is bad news, and alarmed ends a cell that is.
const (
	alarm   = "! "
	alarmed = " !"
)

// Paint makes a line red if it is bad news, for terminals. marked is the line, perhaps with marks.
func Paint(line, marked string) string {
	if strings.HasPrefix(line, alarm) || strings.Contains(line+" ", alarmed+" ") {
		return "\x1b[31m" + marked + "\x1b[0m"
	}
	return marked
}
