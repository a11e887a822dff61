package status

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/longship-db/longship/wal"
)

// shownReigns is how many lines of the history people get to see.
const shownReigns = 5

// Text lays the snapshot out for people. now is the time to which ages refer.
func (s *Snapshot) Text(now time.Time) []string {
	lines := append(s.Verdict(), s.Head(now)...)
	lines = append(lines, section("", MemberTable(s.Members))...)
	for _, part := range []struct {
		title string
		shown bool
		rows  func() [][]string
	}{
		{"what if", len(s.WhatIf) > 0 || s.WhatIfError != nil, s.whatIfTable},
		{"replication", len(s.Replication) > 0, s.replicationTable},
		{"receiving", s.Receiver != nil, s.receiverTable},
		{"slots", len(s.Slots) > 0, func() [][]string { return SlotTable(s.Slots) }},
		{"history", len(s.History) > 0, s.historyTable},
		{"orphans, cut off the log of " + s.Cluster.Text("node"), len(s.Orphans) > 0, s.orphanTable},
	} {
		if part.shown {
			lines = append(lines, section(part.title, part.rows())...)
		}
	}
	return lines
}

// Head is who the cluster is and what holds in it.
func (s *Snapshot) Head(now time.Time) []string {
	c := s.Cluster
	primary := strings.TrimSpace(c.Text("primary") + " " + c.Text("primary_address"))
	rule := c.Text("rule")
	switch {
	case c.Text("phase") == "":
		rule = "unknown" // the node has heard nothing of the cluster yet
	case rule == "":
		rule = "none: commits wait for no standby"
	}
	up := ""
	if started, ok := c.time("started"); ok {
		up = fmt.Sprintf(", up %s", now.Sub(started).Round(time.Second))
	}
	lines := strings.Split("primary "+orUnknown(primary)+s.reign(now), "\n")
	lines = append(lines,
		fmt.Sprintf("rule %s   horizon %s   Raft leader %s", rule, orDash(c.Text("horizon")), orDash(c.Text("raft_leader"))),
		fmt.Sprintf("cluster %s   seen by %s (%s, version %s%s)", c.Text("system_identifier"), c.Text("node"), c.Text("role"), c.Text("version"), up),
	)
	if waiting := c.Text("waiting"); waiting != "" {
		lines = append(lines, "waiting: "+strings.TrimPrefix(waiting, "waiting "))
	}
	return lines
}

// reign is since when and why the primary is that.
func (s *Snapshot) reign(now time.Time) string {
	c := s.Cluster
	text := fmt.Sprintf("   epoch %s   timeline %s   %s", c.Text("epoch"), c.Text("timeline"), orUnknown(c.Text("phase")))
	if len(s.History) == 0 || s.History[0].Text("epoch") != c.Text("epoch") {
		return text
	}
	h := s.History[0]
	if began, ok := h.time("time"); ok {
		text += fmt.Sprintf("\n  since %s (%s): %s", began.Format(time.DateTime), max(0, now.Sub(began)).Round(time.Second), h.Text("cause"))
	}
	return text
}

// memberColumns are those that people get to see of longship_members.
var memberColumns = []string{"member", "role", "state", "address", "lag", "behind", "flushed", "disk free"}

// MemberTable shows rows of longship_members, and below them what is not as usual about some.
func MemberTable(members []Row) [][]string {
	rows, notes := [][]string{memberColumns}, [][]string(nil)
	flushed, known := logEnd(members)
	for _, m := range members {
		state, space := m.Text("state"), "-"
		if state == "down" || state == "not streaming" {
			state += alarmed
		}
		if free, size := m.disk(); size > 0 {
			space = bytesText(free)
		}
		behind, lag := "-", "-"
		if has, ok := m.LSN(m.holds("lsn")); ok && known {
			behind = bytesText(distance(flushed, has))
		}
		if age, ok := m.seconds(m.holds("age")); ok {
			lag = durationText(age)
		}
		if m.bool("late") {
			lag += alarmed
		}
		rows = append(rows, []string{
			m.Text("name"), m.Text("role"), state, orDash(m.Text("address")), lag, behind, orDash(m.Text("flush_lsn")), space,
		})
		if text := memberNotes(m); text != "" {
			notes = append(notes, []string{m.Text("name") + ": " + text})
		}
	}
	return append(rows, notes...)
}

// holds is the column, of those of lsn or age, that says what a member has of the log: what it shows its
// readers, or what it has flushed, if it is a witness, which has none.
func (r Row) holds(what string) string {
	if r.Text("role") == "witness" {
		return "flush_" + what
	}
	return "replay_" + what
}

// memberNotes is what is not as usual about a member.
func memberNotes(m Row) string {
	var notes []string
	if zone := m.Text("zone"); zone != "" {
		notes = append(notes, "zone "+zone)
	}
	priority, ok := m.int("failover_priority")
	switch {
	case !ok || priority == 1:
	case priority == 0:
		notes = append(notes, "never promoted")
	default:
		notes = append(notes, fmt.Sprintf("failover priority %d", priority))
	}
	for _, n := range []struct {
		column string
		usual  bool
		text   string
	}{{"counted", true, "not counted yet"}, {"voter", true, "no vote yet"}, {"leaving", false, "leaving"}} {
		if b, ok := m.get(n.column).(bool); ok && b != n.usual && (n.text == "leaving" || !m.bool("leaving")) {
			notes = append(notes, n.text)
		}
	}
	return strings.Join(notes, ", ")
}

// BriefColumns are the columns of Brief.
var BriefColumns = []string{"role", "state", "sync", "flushed", "behind", "lag"}

// Brief is members and replication in one: the cells of each member's row, by name.
func (s *Snapshot) Brief() map[string][]string {
	sync := map[string]string{}
	for _, r := range s.Replication {
		sync[r.Text("application_name")] = r.Text("sync_state")
	}
	brief := map[string][]string{}
	for _, m := range MemberTable(s.Members)[1 : 1+len(s.Members)] {
		name, role, state, lag, behind, flushed := m[0], m[1], m[2], m[4], m[5], m[6]
		brief[name] = []string{role, state, orDash(sync[name]), flushed, behind, lag}
	}
	return brief
}

// distance is how far behind is behind ahead, in bytes.
func distance(ahead, behind wal.LSN) int64 { return int64(max(ahead, behind) - behind) }

func (s *Snapshot) replicationTable() [][]string {
	rows := [][]string{{"name", "state", "sync", "sent", "flush", "replay", "flush lag", "replay lag"}}
	for _, r := range s.Replication {
		sync := r.Text("sync_state")
		if n, ok := r.int("sync_priority"); ok && n > 0 {
			sync += " " + strconv.FormatInt(n, 10)
		}
		rows = append(rows, []string{
			shortened(r.Text("application_name"), longName), r.Text("state"), sync,
			orDash(r.Text("sent_lsn")), orDash(r.Text("flush_lsn")), orDash(r.Text("replay_lsn")), r.lag("flush_lag"), r.lag("replay_lag"),
		})
	}
	return rows
}

func (s *Snapshot) receiverTable() [][]string {
	r := s.Receiver
	from := "-"
	if r.Text("sender_host") != "" {
		from = r.Text("sender_host") + ":" + r.Text("sender_port")
	}
	return [][]string{
		{"from", "state", "slot", "written", "primary's end", "last message"},
		{from, r.Text("status"), orDash(r.Text("slot_name")), orDash(r.Text("written_lsn")), orDash(r.Text("latest_end_lsn")), r.moment("last_msg_receipt_time")},
	}
}

// SlotWarnings are the lines on slots that may fill a disk, or have lost what they need or are about to.
func SlotWarnings(slots []Row) (lines []string) {
	for _, r := range slots {
		if text := r.Text("warning"); text != "" {
			lines = append(lines, "WARNING: "+text)
		}
	}
	return lines
}

// SlotTable shows rows of longship_slots.
func SlotTable(slots []Row) [][]string {
	rows := [][]string{{"slot", "in use", "status", "restarts at", "pins", "may grow by"}}
	for _, r := range slots {
		active := "no"
		switch {
		case r.bool("active"):
			active = "by " + r.Text("active_pid")
		case r.Text("inactive_since") != "":
			active = "no, since " + r.moment("inactive_since")
		}
		pins, safe := "-", "-"
		if n, ok := r.int("pinned_bytes"); ok {
			pins = bytesText(n)
			safe = "no limit"
		}
		if n, ok := r.int("safe_wal_size"); ok {
			safe = bytesText(n)
		}
		status := orDash(r.Text("wal_status"))
		if reason := r.Text("invalidation_reason"); reason != "" {
			status += " (" + reason + ")"
		}
		rows = append(rows, []string{r.Text("slot_name"), active, status, orDash(r.Text("restart_lsn")), pins, safe})
	}
	return rows
}

func (s *Snapshot) historyTable() [][]string {
	rows := [][]string{{"epoch", "began", "at", "primary", "lost", "cause"}}
	for _, r := range s.History[:min(shownReigns, len(s.History))] {
		cause := r.Text("cause")
		if !r.bool("steady") {
			cause += " (not steady)"
		}
		lost, _ := r.int("lost_bytes")
		rows = append(rows, []string{
			r.Text("epoch"), r.moment("time"), orDash(r.Text("start_lsn")), r.Text("primary"), bytesText(lost), shortened(cause, longCause),
		})
	}
	return rows
}

func (s *Snapshot) orphanTable() [][]string {
	rows := [][]string{{"folder", "from", "to", "cut off", "transactions", "keys"}}
	for _, r := range s.Orphans {
		rows = append(rows, []string{
			r.Text("folder"), orDash(r.Text("start_lsn")), orDash(r.Text("end_lsn")), r.moment("time"),
			orDash(r.Text("transactions")), orDash(shortened(r.Text("keys"), longKeys)),
		})
	}
	return rows
}

// How much of a text is shown in a table, in characters: tables are 100 wide. JSON has all of it.
const (
	longName  = 20
	longCause = 46
	longKeys  = 24
	longThen  = 74
)

// shortened is the beginning of a text that is longer than most.
func shortened(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

func (s *Snapshot) whatIfTable() [][]string {
	if s.WhatIfError != nil {
		return [][]string{{"not known: " + *s.WhatIfError}}
	}
	var rows [][]string
	for _, w := range s.WhatIf {
		dies := " dies:"
		if len(w.Lose) > 1 {
			dies = " die:"
		}
		then := w.Then
		if w.Primary != nil || w.LostBytes > 0 { // else there is nobody with whom something could be lost
			then += ", " + bytesText(w.LostBytes) + " lost"
		}
		first := "if " + strings.Join(w.Lose, " and ") + dies
		for _, line := range wrapped(then, longThen) {
			rows = append(rows, []string{first, line})
			first = ""
		}
	}
	return rows
}

// wrapped is text in lines of at most width characters, as far as its words allow.
func wrapped(text string, width int) (lines []string) {
	for _, word := range strings.Fields(text) {
		last := len(lines) - 1
		if last < 0 || utf8.RuneCountInString(lines[last]+" "+word) > width {
			lines = append(lines, word)
			continue
		}
		lines[last] += " " + word
	}
	return lines
}

// section is an empty line, the title if there is one, and the rows in columns.
func section(title string, rows [][]string) []string {
	lines := []string{""}
	indent := ""
	if title != "" {
		lines, indent = append(lines, title), "  "
	}
	for _, line := range Columns(rows) {
		lines = append(lines, indent+line)
	}
	return lines
}

// Columns aligns the cells of rows.
func Columns(rows [][]string) []string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush() // to memory
	var lines []string
	for line := range strings.Lines(b.String()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return lines
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// lag is a column of type interval for people: three digits and a unit.
func (r Row) lag(name string) string {
	d, ok := r.interval(name)
	if !ok {
		return "-"
	}
	return durationText(d)
}

// durationText is a duration in three digits and a unit, or longer ones to the second.
func durationText(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d us", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", d.Seconds()*1e3)
	case d < time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// moment is a column of type timestamptz to the second, in the server's time zone.
func (r Row) moment(name string) string {
	t, ok := r.time(name)
	if !ok {
		return orDash(r.Text(name))
	}
	return t.Format(time.DateTime)
}

// bytesText is an amount in PostgreSQL's units, 1024 of which make the next.
func bytesText(n int64) string {
	units := []string{"bytes", "kB", "MB", "GB", "TB"}
	f := float64(n)
	i := 0
	for ; f >= 1000 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.3g %s", f, units[i])
}
