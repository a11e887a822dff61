package status

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// A Marker finds what has changed between one look and the next, cell by cell: what is set off by two
// spaces, in lines of the same name in the same section. Ages and times of day always change: they
// are left out.
type Marker struct {
	before  map[string][]string // the cells of each line
	changed [][]span            // of each line of the last look
}

// A span is a range of a line, in characters.
type span struct{ from, to int }

var (
	cell    = regexp.MustCompile(`\S+(?: \S+)*`)
	elapsed = regexp.MustCompile(`\d+(?::\d\d){2}|(?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?s\b|\d+(?:\.\d+)?(?:e\+\d+)? (?:us|ms|s)\b`)
)

// Look takes note of lines. At the first look nothing has changed.
func (m *Marker) Look(lines []string) {
	seen := map[string][]string{}
	m.changed = make([][]span, len(lines))
	section := "head"
	for i, line := range lines {
		cells := cell.FindAllString(line, -1)
		if len(cells) == 0 {
			section = ""
			continue
		}
		first := elapsed.ReplaceAllString(cells[0], "")
		name := section + "\x00" + first
		if section == "" {
			section = first
		}
		if _, twice := seen[name]; twice {
			continue
		}
		seen[name] = cells
		if m.before != nil {
			m.changed[i] = differences(line, cells, m.before[name])
		}
	}
	m.before = seen
}

// differences are the cells of line that are not as before, all of them if there was no such line.
func differences(line string, cells, before []string) (spans []span) {
	for i, at := range cell.FindAllStringIndex(line, -1) {
		if i < len(before) && elapsed.ReplaceAllString(cells[i], "") == elapsed.ReplaceAllString(before[i], "") {
			continue
		}
		from := utf8.RuneCountInString(line[:at[0]])
		spans = append(spans, span{from, from + utf8.RuneCountInString(cells[i])})
	}
	return spans
}

// Mark sets what has changed in the i-th line of the last look in bold. The line may have been cut off.
func (m *Marker) Mark(i int, line string) string {
	if i >= len(m.changed) {
		return line
	}
	var b strings.Builder
	text, at := []rune(line), 0
	for _, s := range m.changed[i] {
		if s.from >= len(text) {
			break
		}
		to := min(s.to, len(text))
		b.WriteString(string(text[at:s.from]) + bold + string(text[s.from:to]) + normal)
		at = to
	}
	b.WriteString(string(text[at:]))
	return b.String()
}

const (
	bold   = "\x1b[1m"
	normal = "\x1b[22m"
)
