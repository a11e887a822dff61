package drill

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Report is what came of all drills. Its JSON form is a contract: names stay, and fields are only added.
type Report struct {
	OK      bool      `json:"ok"` // all that was checked holds
	Seed    uint64    `json:"seed"`
	Seconds float64   `json:"seconds"`
	Drills  []*Result `json:"drills"`
}

// A Result is what came of one drill.
type Result struct {
	Drill   string  `json:"drill"`
	Breaks  string  `json:"breaks"`
	Holds   string  `json:"holds"`
	OK      bool    `json:"ok"`
	Skipped string  `json:"skipped,omitempty"` // why it was not run
	Error   string  `json:"error,omitempty"`   // why it could not be brought to an end
	Nodes   int     `json:"nodes"`
	Network string  `json:"network,omitempty"` // what cuts it: "namespaces"; "": faults inside of the nodes
	Seconds float64 `json:"seconds"`

	Rounds    []*Round    `json:"rounds"`
	Gap       Percentiles `json:"write_gap"`  // over the rounds, as is
	ClientGap Percentiles `json:"client_gap"` // that of the client that waited longest

	Commits      Commits      `json:"commits"`
	ReadsChecked int          `json:"reads_checked"` // all reads of clients whose outcome is known
	Registers    Registers    `json:"registers"`
	Transactions Transactions `json:"transactions"`
	Looks        int          `json:"looks"` // reads on each node, compared with the log

	Violations []Violation `json:"violations"`
	Kept       string      `json:"kept,omitempty"` // where the nodes' folders are
}

// A Round is one time that something was broken.
type Round struct {
	Number     int     `json:"round"`
	GapSeconds float64 `json:"write_gap_seconds"` // the longest time in which no node acknowledged a commit to anybody
	GapFrom    string  `json:"write_gap_from"`    // the node that sent the last acknowledgement before it
	GapTo      string  `json:"write_gap_to"`      // and the one that sent the first after it; "" if none did

	// ClientGapSeconds is the longest time in which one client, that follows the primary, had none acknowledged:
	// longer, if it waited for an answer of a node that gives none.
	ClientGapSeconds float64 `json:"client_gap_seconds"`

	Events []Event `json:"timeline"`
}

// gap says how long the write gap was, and whose.
func (r *Round) gap() string {
	text := fmt.Sprintf("no node acknowledged a commit for %.2f s", r.GapSeconds)
	switch {
	case r.GapTo == "":
		text += ", until the round was given up (the last was " + r.GapFrom + ")"
	case r.GapFrom != r.GapTo:
		text += " (the last was " + r.GapFrom + ")"
	}
	return fmt.Sprintf("%s; the client that waited longest, for %.2f s", text, r.ClientGapSeconds)
}

// An Event is what happened when: fault and mend are the drill's, first commit the clients', the others are
// from the nodes' logs.
type Event struct {
	At   float64 `json:"at_ms"` // since the first fault of the round
	Kind string  `json:"kind"`
	Node string  `json:"node,omitempty"`
	What string  `json:"what,omitempty"`
}

// Percentiles are of durations, in seconds.
type Percentiles struct {
	P50 float64 `json:"p50_seconds"`
	P95 float64 `json:"p95_seconds"`
	Max float64 `json:"max_seconds"`
}

// Commits counts commits by what became of them.
type Commits struct {
	Acknowledged int  `json:"acknowledged"`
	Unknown      int  `json:"unknown"` // they may have happened
	Refused      int  `json:"refused"` // they have not
	Lost         *int `json:"lost"`    // acknowledged, and not there; null if nobody looked
}

// lost is how many commits were lost, for people.
func (c Commits) lost() string {
	if c.Lost == nil {
		return "not checked"
	}
	return strconv.Itoa(*c.Lost)
}

// Registers is what porcupine found.
type Registers struct {
	Operations int    `json:"operations"`
	Keys       int    `json:"keys"`
	Verdict    string `json:"verdict"`
}

// Transactions is what the search for cycles found.
type Transactions struct {
	Primary   int    `json:"primary"`
	Elsewhere int    `json:"elsewhere"` // reads on any node, with the LSN of what the client knew of
	Verdict   string `json:"verdict"`
}

// count fills in what became of the commits, and the gaps. The clients must have ended.
func (r *Result) count(w *work) {
	lost := r.Commits.Lost
	r.Commits = w.counts
	r.Commits.Lost = lost
	var all, client []float64
	for _, round := range r.Rounds {
		all = append(all, round.GapSeconds)
		client = append(client, round.ClientGapSeconds)
	}
	r.Gap, r.ClientGap = percentiles(all), percentiles(client)
}

// percentiles of durations in seconds.
func percentiles(all []float64) Percentiles {
	if len(all) == 0 {
		return Percentiles{}
	}
	slices.Sort(all)
	at := func(p float64) float64 { return all[int(p*float64(len(all)-1)+0.5)] }
	return Percentiles{P50: at(0.5), P95: at(0.95), Max: all[len(all)-1]}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Texts are cut and wrapped for a terminal of this width.
const pageWidth = 110

// short is the beginning of a text, and "…" if there is more.
func short(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// wrap breaks a text between words. The first line begins with one prefix, the others with blanks of its length.
func wrap(prefix, text string) (lines []string) {
	line := prefix
	indent := strings.Repeat(" ", utf8.RuneCountInString(prefix))
	for word := range strings.FieldsSeq(text) {
		if utf8.RuneCountInString(line)+utf8.RuneCountInString(word) > pageWidth && len(line) > len(indent) {
			lines, line = append(lines, strings.TrimRight(line, " ")), indent
		}
		line += word + " "
	}
	return append(lines, strings.TrimRight(line, " "))
}

// Lines is the drill for people: its name, what it breaks, what must hold, and what has to be seen.
func (d *Drill) Lines() []string {
	lines := append([]string{d.Name}, wrap("    breaks  ", d.Breaks)...)
	lines = append(lines, wrap("    holds   ", d.Holds)...)
	return append(lines, wrap("    shown   ", d.Shown)...)
}

// Lines is the result for people.
func (r *Result) Lines() []string {
	lines := []string{fmt.Sprintf("%s  %s", r.Drill, r.word())}
	add := func(format string, args ...any) {
		lines = append(lines, strings.TrimRight("  "+fmt.Sprintf(format, args...), " "))
	}
	lines = append(lines, wrap("  ", r.Breaks)...)
	if r.Skipped != "" {
		add("skipped: %s", r.Skipped)
		return lines
	}
	for _, round := range r.Rounds {
		add("")
		add("round %d", round.Number)
		for _, e := range round.Events {
			lines = append(lines, wrap(fmt.Sprintf("  %10s  %-12s %-3s ", fmt.Sprintf("%+.0f ms", e.At), e.Kind, e.Node), e.What)...)
		}
	}
	add("")
	add("nodes %d%s, rounds %d, %.1f s", r.Nodes, r.where(), len(r.Rounds), r.Seconds)
	add("write gap      p50 %.2f s  p95 %.2f s  max %.2f s: no node acknowledged anything", r.Gap.P50, r.Gap.P95, r.Gap.Max)
	add("client gap     p50 %.2f s  p95 %.2f s  max %.2f s: that of the client that waited longest", r.ClientGap.P50, r.ClientGap.P95, r.ClientGap.Max)
	add("commits        acknowledged %d  unknown %d  refused %d  lost %s", r.Commits.Acknowledged, r.Commits.Unknown, r.Commits.Refused, r.Commits.lost())
	add("reads checked  %d, of them %d on each node for itself", r.ReadsChecked, r.Looks)
	if r.Registers.Verdict != "" {
		add("registers      %s: %d operations on %d keys (porcupine)", r.Registers.Verdict, r.Registers.Operations, r.Registers.Keys)
		add("transactions   %s: %d on the primary, %d reads elsewhere", r.Transactions.Verdict, r.Transactions.Primary, r.Transactions.Elsewhere)
	}
	lines = append(lines, wrap("  must hold      ", r.Holds)...)
	for _, v := range r.Violations {
		add("VIOLATION      %s", strings.ReplaceAll(v.String(), "\n", "\n    "))
	}
	if r.Error != "" {
		add("could not be brought to an end: %s", r.Error)
	}
	if r.Kept != "" {
		add("the nodes' folders and logs are in %s", r.Kept)
	}
	return lines
}

// where says what the nodes are in, if that is not the loopback interface.
func (r *Result) where() string {
	if r.Network == "" {
		return ""
	}
	return " in " + r.Network
}

func (r *Result) word() string {
	switch {
	case r.Skipped != "":
		return "skipped"
	case r.OK:
		return "ok"
	case len(r.Violations) > 0 && !slices.ContainsFunc(r.Violations, func(v Violation) bool { return v.Check != checkShown }):
		return "UNTESTED"
	case len(r.Violations) > 0:
		return "VIOLATED"
	}
	return "FAILED"
}

// Lines is the report for people: each drill, and a table of all.
func (r *Report) Lines() []string {
	var lines []string
	for _, d := range r.Drills {
		lines = append(append(lines, d.Lines()...), "")
	}
	lines = append(lines, fmt.Sprintf("%-27s %-8s %6s %10s %10s %12s %8s %11s %8s", "drill", "", "rounds", "gap p50", "gap max", "acknowledged", "unknown", "lost", "reads"))
	for _, d := range r.Drills {
		lines = append(lines, fmt.Sprintf("%-27s %-8s %6d %8.2f s %8.2f s %12d %8d %11s %8d", d.Drill, d.word(), len(d.Rounds),
			d.Gap.P50, d.Gap.Max, d.Commits.Acknowledged, d.Commits.Unknown, d.Commits.lost(), d.ReadsChecked))
	}
	return append(lines, fmt.Sprintf("%s (seed %d, %.0f s)", r.verdict(), r.Seed, r.Seconds))
}

// verdict is what all of it shows.
func (r *Report) verdict() string {
	switch {
	case r.OK:
		return "all that was checked holds"
	case r.Skipped():
		return "NOTHING was checked: every drill was skipped"
	}
	return "NOT all that was to be checked holds"
}

// Skipped reports whether there were drills, and none of them was run.
func (r *Report) Skipped() bool {
	return len(r.Drills) > 0 && !slices.ContainsFunc(r.Drills, func(d *Result) bool { return d.Skipped == "" })
}
