package drill

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
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
	Seconds float64 `json:"seconds"`

	Rounds []*Round    `json:"rounds"`
	Gap    Percentiles `json:"write_gap"` // over the rounds

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
	GapSeconds float64 `json:"write_gap_seconds"` // the longest time without an acknowledged commit
	Events     []Event `json:"timeline"`
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
	var gaps []float64
	for _, round := range r.Rounds {
		gaps = append(gaps, round.GapSeconds)
	}
	r.Gap = percentiles(gaps)
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

// seconds is a duration to the hundredth of a second.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// Lines is the result for people.
func (r *Result) Lines() []string {
	lines := []string{fmt.Sprintf("%s  %s", r.Drill, r.word())}
	add := func(format string, args ...any) {
		lines = append(lines, strings.TrimRight("  "+fmt.Sprintf(format, args...), " "))
	}
	add("%s", r.Breaks)
	if r.Skipped != "" {
		add("skipped: %s", r.Skipped)
		return lines
	}
	for _, round := range r.Rounds {
		add("")
		add("round %d", round.Number)
		for _, e := range round.Events {
			add("%10s  %-12s %-3s %s", fmt.Sprintf("%+.0f ms", e.At), e.Kind, e.Node, e.What)
		}
	}
	add("")
	add("nodes %d, rounds %d, %.1f s", r.Nodes, len(r.Rounds), r.Seconds)
	add("write gap      p50 %.2f s  p95 %.2f s  max %.2f s", r.Gap.P50, r.Gap.P95, r.Gap.Max)
	add("commits        acknowledged %d  unknown %d  refused %d  lost %s", r.Commits.Acknowledged, r.Commits.Unknown, r.Commits.Refused, r.Commits.lost())
	add("reads checked  %d, of them %d on each node for itself", r.ReadsChecked, r.Looks)
	if r.Registers.Verdict != "" {
		add("registers      %s: %d operations on %d keys (porcupine)", r.Registers.Verdict, r.Registers.Operations, r.Registers.Keys)
		add("transactions   %s: %d on the primary, %d reads elsewhere", r.Transactions.Verdict, r.Transactions.Primary, r.Transactions.Elsewhere)
	}
	add("must hold      %s", r.Holds)
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

func (r *Result) word() string {
	switch {
	case r.Skipped != "":
		return "skipped"
	case r.OK:
		return "ok"
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
	lines = append(lines, fmt.Sprintf("%-24s %-8s %6s %10s %10s %12s %8s %11s %8s", "drill", "", "rounds", "gap p50", "gap max", "acknowledged", "unknown", "lost", "reads"))
	for _, d := range r.Drills {
		lines = append(lines, fmt.Sprintf("%-24s %-8s %6d %8.2f s %8.2f s %12d %8d %11s %8d", d.Drill, d.word(), len(d.Rounds),
			d.Gap.P50, d.Gap.Max, d.Commits.Acknowledged, d.Commits.Unknown, d.Commits.lost(), d.ReadsChecked))
	}
	verdict := "all that was checked holds"
	if !r.OK {
		verdict = "NOT all that was to be checked holds"
	}
	return append(lines, fmt.Sprintf("%s (seed %d, %.0f s)", verdict, r.Seed, r.Seconds))
}
