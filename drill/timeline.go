package drill

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A logReader finds in the nodes' logs what the report tells of.
type logReader struct {
	cluster *Cluster
	offsets map[string]int64 // by file: what has been read
}

// skip passes over what there is.
func (l *logReader) skip() {
	for _, n := range l.cluster.Nodes() {
		if info, err := os.Stat(n.LogFile()); err == nil {
			l.offsets[n.LogFile()] = info.Size()
		}
	}
}

// events are those since some time that have not been read yet.
func (l *logReader) events(since time.Time) (all []Event) {
	now := time.Now()
	for _, n := range l.cluster.Nodes() {
		f, err := os.Open(n.LogFile())
		if err != nil {
			continue // it was never started
		}
		f.Seek(l.offsets[n.LogFile()], io.SeekStart)
		seen := map[string]bool{}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			e, at, ok := parseEvent(lines.Bytes())
			if ok {
				at = n.trueTime(at, since, now)
			}
			if !ok || at.Before(since) || (e.Kind == "lost stream" || e.Kind == "damage") && seen[e.Kind] {
				continue // it tries again and again
			}
			seen[e.Kind] = true
			e.At, e.Node = milliseconds(at.Sub(since)), n.Name
			all = append(all, e)
		}
		f.Close()
	}
	l.skip()
	return all
}

// parseEvent reads a line of a log. ok is false for lines of which the report says nothing.
func parseEvent(line []byte) (e Event, at time.Time, ok bool) {
	var entry map[string]any
	if json.Unmarshal(line, &entry) != nil {
		return e, at, false
	}
	text := func(name string) string {
		if v := entry[name]; v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}
	words := func(name string) string { return short(strings.Join(strings.Fields(text(name)), " "), 200) }
	at, err := time.Parse(time.RFC3339Nano, text("time"))
	if err != nil {
		return e, at, false
	}
	switch text("msg") {
	case "replication stream interrupted":
		e = Event{Kind: "lost stream", What: words("error")}
	case "begin a failover":
		e = Event{Kind: "suspicion", What: text("cause")}
	case "sealed":
		e = Event{Kind: "seal", What: fmt.Sprintf("promises epoch %s, has the log up to %s", text("epoch"), text("end"))}
	case "named a primary":
		e = Event{Kind: "promotion", What: fmt.Sprintf("%s for epoch %s: %s", text("primary"), text("epoch"), text("cause"))}
	case "epoch is open":
		e = Event{Kind: "open", What: fmt.Sprintf("epoch %s, timeline %s from %s", text("epoch"), text("timeline"), text("start"))}
	case "following the upstream to another timeline":
		if text("cut") != "true" {
			return e, at, false
		}
		e = Event{Kind: "cut", What: fmt.Sprintf("its log back to %s", text("fork"))}
	case "end of log found":
		e = Event{Kind: "recovered", What: fmt.Sprintf("its log up to %s: %s", text("end"), words("because"))}
	case "WAL is damaged", "the log is damaged: looking for a member to repair it from", "damaged WAL cannot be repaired now: this node is not promoted before it is":
		e = Event{Kind: "damage", What: cmp.Or(words("err"), fmt.Sprintf("%s from %s: %s", text("segment"), text("from"), words("because")))}
	case "the log was damaged, and is repaired", "damaged WAL is repaired":
		e = Event{Kind: "repair", What: fmt.Sprintf("its log from %s on, %s: %s", text("from"), words("detail"), words("because"))}
	case "taking a new base copy":
		e = Event{Kind: "base copy", What: "wants one: " + words("because")}
	case "base backup sent":
		e = Event{Kind: "base copy", What: fmt.Sprintf("sent to %s, of %s", text("client"), text("end"))}
	case "started streaming WAL":
		e = Event{Kind: "rejoin", What: "streams from " + text("start")}
	default:
		return e, at, false
	}
	return e, at, true
}
