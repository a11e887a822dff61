package status

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/longship-db/longship/wal"
)

// Text lays the snapshot out for people. now is the time to which ages refer.
func (s *Snapshot) Text(now time.Time) []string {
	lines := s.Head(now)
	if s.RuleMet != nil && !*s.RuleMet {
		lines = append(lines, "WRITES WAIT: the rule is not met; they go on when enough of the standbys it waits for stream again")
	}
	lines = append(lines, section("", s.memberTable())...)
	if len(s.Replication) > 0 {
		lines = append(lines, section("replication", s.replicationTable())...)
	}
	if s.Receiver != nil {
		lines = append(lines, section("receiving", s.receiverTable())...)
	}
	if len(s.Slots) > 0 {
		lines = append(lines, section("slots", s.slotTable())...)
	}
	var what [][]string
	for _, w := range s.WhatIf {
		what = append(what, []string{"if " + strings.Join(w.Lose, " and ") + " dies:", w.Then + ", " + bytesText(w.LostBytes) + " lost"})
	}
	if !s.Primary() {
		what = [][]string{{"the primary knows: longship status --host HOST --port PORT", ""}}
		if host, port, ok := strings.Cut(s.Cluster.Text("primary_address"), ":"); ok {
			what[0][0] = fmt.Sprintf("the primary knows: longship status --host %s --port %s", host, port)
		}
	}
	return append(lines, section("what if", what)...)
}

// Head is who the cluster is and what holds in it.
func (s *Snapshot) Head(now time.Time) []string {
	c := s.Cluster
	primary := strings.TrimSpace(c.Text("primary") + " " + c.Text("primary_address"))
	if primary == "" {
		primary = "unknown"
	}
	rule := c.Text("rule")
	switch {
	case !s.Primary():
		rule = "known to the primary"
	case rule == "":
		rule = "none: commits wait for no standby"
	}
	up := ""
	if started, ok := c.time("started"); ok {
		up = fmt.Sprintf(", up %s", now.Sub(started).Round(time.Second))
	}
	return []string{
		fmt.Sprintf("cluster %s   primary %s   epoch %s   timeline %s   %s", c.Text("system_identifier"), primary, c.Text("epoch"), c.Text("timeline"), c.Text("phase")),
		fmt.Sprintf("rule %s   horizon %s   seen by %s (%s, version %s%s)", rule, orDash(c.Text("horizon")), c.Text("node"), c.Text("role"), c.Text("version"), up),
	}
}

func (s *Snapshot) memberTable() [][]string {
	end, known := s.self().LSN("flush_lsn")
	rows := [][]string{{"member", "role", "state", "address", "written", "flushed", "replayed", "behind"}}
	for _, m := range s.Members {
		behind := "-"
		if replay, ok := m.LSN("replay_lsn"); ok && known {
			behind = bytesText(distance(end, replay))
		}
		rows = append(rows, []string{
			m.Text("name"), m.Text("role"), m.Text("state"), orDash(m.Text("address")),
			orDash(m.Text("write_lsn")), orDash(m.Text("flush_lsn")), orDash(m.Text("replay_lsn")), behind,
		})
	}
	return rows
}

// BriefColumns are the columns of Brief.
var BriefColumns = []string{"role", "state", "sync", "flushed", "replayed", "behind", "flush lag", "replay lag"}

// Brief is members and replication in one: the cells of each member's row, by name.
func (s *Snapshot) Brief() map[string][]string {
	streams := map[string]Row{}
	for _, r := range s.Replication {
		streams[r.Text("application_name")] = r
	}
	brief := map[string][]string{}
	for _, m := range s.memberTable()[1:] {
		name, role, state, flushed, replayed, behind := m[0], m[1], m[2], m[5], m[6], m[7]
		r := streams[name]
		brief[name] = []string{role, state, orDash(r.Text("sync_state")), flushed, replayed, behind, r.lag("flush_lag"), r.lag("replay_lag")}
	}
	return brief
}

// distance is how far behind is behind ahead, in bytes.
func distance(ahead, behind wal.LSN) int64 { return int64(max(ahead, behind) - behind) }

func (s *Snapshot) replicationTable() [][]string {
	rows := [][]string{{"name", "state", "sync", "sent", "write", "flush", "replay", "write lag", "flush lag", "replay lag"}}
	for _, r := range s.Replication {
		sync := r.Text("sync_state")
		if n, ok := r.int("sync_priority"); ok && n > 0 {
			sync += " " + strconv.FormatInt(n, 10)
		}
		rows = append(rows, []string{
			r.Text("application_name"), r.Text("state"), sync,
			orDash(r.Text("sent_lsn")), orDash(r.Text("write_lsn")), orDash(r.Text("flush_lsn")), orDash(r.Text("replay_lsn")),
			r.lag("write_lag"), r.lag("flush_lag"), r.lag("replay_lag"),
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
	last, _, _ := strings.Cut(r.Text("last_msg_receipt_time"), ".")
	return [][]string{
		{"from", "state", "slot", "timeline", "written", "flushed", "primary's end", "last message"},
		{from, r.Text("status"), orDash(r.Text("slot_name")), orDash(r.Text("received_tli")), orDash(r.Text("written_lsn")), orDash(r.Text("flushed_lsn")), orDash(r.Text("latest_end_lsn")), orDash(last)},
	}
}

func (s *Snapshot) slotTable() [][]string {
	rows := [][]string{{"slot", "in use", "status", "restarts at", "pins", "may grow by"}}
	for _, r := range s.Slots {
		active := "no"
		if r.bool("active") {
			active = "by " + r.Text("active_pid")
		}
		pins, safe := "-", "-"
		if n, ok := r.int("pinned_bytes"); ok {
			pins = bytesText(n)
			safe = "no limit"
		}
		if n, ok := r.int("safe_wal_size"); ok {
			safe = bytesText(n)
		}
		rows = append(rows, []string{r.Text("slot_name"), active, orDash(r.Text("wal_status")), orDash(r.Text("restart_lsn")), pins, safe})
	}
	return rows
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

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// lag is a column of type interval for people: three digits and a unit.
func (r Row) lag(name string) string {
	d, ok := r.interval(name)
	switch {
	case !ok:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%d us", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", d.Seconds()*1e3)
	case d < time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	}
	return d.Round(time.Second).String()
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
