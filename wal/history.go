package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// A Switch is one line of a history file: timeline Parent ended at At, for Reason.
type Switch struct {
	Parent TimelineID
	At     LSN // end of the last record that the child shares with Parent
	Reason string
}

// A History is the ancestry of a timeline: the timelines it descends from, oldest first, each with
// the position at which the next one left it (PostgreSQL 15 manual, "Timelines").
type History struct {
	Timeline TimelineID
	Switches []Switch
}

// HistoryFileName is the name of the file that holds the history of tli.
func HistoryFileName(tli TimelineID) string { return fmt.Sprintf("%08X.history", uint32(tli)) }

// ParseHistoryFileName undoes HistoryFileName.
func ParseHistoryFileName(name string) (TimelineID, bool) {
	hex, ok := strings.CutSuffix(name, ".history")
	if !ok || len(hex) != 8 || !isUpperHex(hex) {
		return 0, false
	}
	n, _ := strconv.ParseUint(hex, 16, 32)
	return TimelineID(n), n > 0
}

// ParseHistory reads the history file of timeline tli.
func ParseHistory(tli TimelineID, text []byte) (History, error) {
	h := History{Timeline: tli}
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := parseSwitch(line)
		if err != nil {
			return History{}, fmt.Errorf("history of timeline %d: %w", tli, err)
		}
		if n := len(h.Switches); n > 0 && s.Parent <= h.Switches[n-1].Parent {
			return History{}, fmt.Errorf("history of timeline %d: timeline IDs must be in increasing sequence, but %d follows %d", tli, s.Parent, h.Switches[n-1].Parent)
		}
		if s.Parent >= tli {
			return History{}, fmt.Errorf("history of timeline %d: timeline IDs must be less than child timeline's ID, but it names %d", tli, s.Parent)
		}
		if n := len(h.Switches); n > 0 && s.At < h.Switches[n-1].At {
			return History{}, fmt.Errorf("history of timeline %d: switch points must not decrease, but %s follows %s", tli, s.At, h.Switches[n-1].At)
		}
		h.Switches = append(h.Switches, s)
	}
	return h, nil
}

func parseSwitch(line string) (Switch, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return Switch{}, fmt.Errorf("syntax error in %q: want a timeline ID and a switch point", line)
	}
	parent, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil || parent == 0 {
		return Switch{}, fmt.Errorf("syntax error in %q: want a numeric timeline ID", line)
	}
	at, err := ParseLSN(fields[1])
	if err != nil {
		return Switch{}, err
	}
	_, rest, _ := strings.Cut(line, fields[1])
	return Switch{Parent: TimelineID(parent), At: at, Reason: strings.Trim(rest, " \t\r")}, nil
}

// Format writes the history file. A child's file is the parent's, an empty line, and the child's
// own line, as PostgreSQL writes it.
func (h History) Format() []byte {
	var b []byte
	for i, s := range h.Switches {
		if i > 0 {
			b = append(b, '\n')
		}
		reason := strings.ReplaceAll(s.Reason, "\n", " ") // a line break would begin another switch
		b = fmt.Appendf(b, "%d\t%s\t%s\n", s.Parent, s.At, reason)
	}
	return b
}

// Child is the history of a timeline that leaves h.Timeline at at.
func (h History) Child(tli TimelineID, at LSN, reason string) History {
	switches := append(h.Switches[:len(h.Switches):len(h.Switches)], Switch{Parent: h.Timeline, At: at, Reason: reason})
	return History{Timeline: tli, Switches: switches}
}

// End is where tli ends in this history: ok is false if tli is not an ancestor. The timeline itself
// has no end and reports the highest LSN.
func (h History) End(tli TimelineID) (end LSN, ok bool) {
	if tli == h.Timeline {
		return ^LSN(0), true
	}
	for _, s := range h.Switches {
		if s.Parent == tli {
			return s.At, true
		}
	}
	return 0, false
}

// Begin is where tli begins in this history; the first timeline begins at 0.
func (h History) Begin(tli TimelineID) LSN {
	var begin LSN
	for _, s := range h.Switches {
		if s.Parent == tli {
			return begin
		}
		begin = s.At
	}
	return begin
}

// At is the timeline that the byte at l belongs to.
func (h History) At(l LSN) TimelineID {
	for _, s := range h.Switches {
		if l < s.At {
			return s.Parent
		}
	}
	return h.Timeline
}

// Next is the timeline that follows tli in this history.
func (h History) Next(tli TimelineID) TimelineID {
	for i, s := range h.Switches {
		if s.Parent != tli {
			continue
		}
		if i+1 < len(h.Switches) {
			return h.Switches[i+1].Parent
		}
		return h.Timeline
	}
	return 0
}

// Fork is the last position that two logs share, given the histories of their timelines: the
// earlier end of the last timeline both went through.
func Fork(a, b History) LSN {
	var fork LSN
	for _, tli := range append(a.timelines(), a.Timeline) {
		enda, _ := a.End(tli)
		endb, ok := b.End(tli)
		if !ok || a.Begin(tli) != b.Begin(tli) {
			break
		}
		fork = min(enda, endb)
		if enda != endb {
			break
		}
	}
	return fork
}

func (h History) timelines() []TimelineID {
	var t []TimelineID
	for _, s := range h.Switches {
		t = append(t, s.Parent)
	}
	return t
}

// FileTimeline is the timeline whose file to read for segment segno: the newest one that had begun
// by the segment's end. So the segment in which a switch happened is read from the newer
// timeline's file, which begins as a copy of the older one.
func (h History) FileTimeline(segno uint64, size SegmentSize) TimelineID {
	tli := h.Timeline
	for i := len(h.Switches) - 1; i >= 0; i-- {
		if size.Segno(h.Switches[i].At) <= segno {
			break
		}
		tli = h.Switches[i].Parent
	}
	return tli
}
