package drill

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseEvent(t *testing.T) {
	for _, test := range []struct{ line, kind, what string }{
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"begin a failover","node":"n2","cause":"n1: the process is gone"}`, "suspicion", "n1: the process is gone"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"sealed","node":"n2","epoch":2,"end":"0/50"}`, "seal", "promises epoch 2, has the log up to 0/50"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"named a primary","primary":"n3","epoch":2,"cause":"switchover"}`, "promotion", "n3 for epoch 2: switchover"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"epoch is open","epoch":2,"timeline":2,"start":"0/50"}`, "open", "epoch 2, timeline 2 from 0/50"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"started streaming WAL","start":"0/50"}`, "rejoin", "streams from 0/50"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"following the upstream to another timeline","cut":true,"fork":"0/40"}`, "cut", "its log back to 0/40"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"following the upstream to another timeline","cut":false}`, "", ""},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"end of log found","end":"0/40","because":"a record with a hole"}`, "recovered", "its log up to 0/40: a record with a hole"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"the log was damaged, and is repaired","from":"0/40","because":"bad CRC","detail":"9 bytes are n1's now"}`,
			"repair", "its log from 0/40 on, 9 bytes are n1's now: bad CRC"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"damaged WAL is repaired","segment":"1","from":"0/40","because":"bad CRC","detail":"9 bytes are n1's now"}`,
			"repair", "its log from 0/40 on, 9 bytes are n1's now: bad CRC"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"WAL is damaged","segment":"1","from":"0/40","because":"bad CRC"}`, "damage", "1 from 0/40: bad CRC"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"the log is damaged: looking for a member to repair it from","err":"bad CRC"}`, "damage", "bad CRC"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"base backup sent","client":"n3","end":"0/40"}`, "base copy", "sent to n3, of 0/40"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"taking a new base copy","because":"WAL is gone"}`, "base copy", "wants one: WAL is gone"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"replication stream interrupted","error":"one\ntwo"}`, "lost stream", "one two"},
		{`{"time":"2026-01-02T03:04:05.5Z","msg":"something else"}`, "", ""},
		{`{"time":"yesterday","msg":"sealed"}`, "", ""},
		{`longship: no luck today`, "", ""},
	} {
		e, at, ok := parseEvent([]byte(test.line))
		if e.Kind != test.kind || e.What != test.what || ok != (test.kind != "") {
			t.Errorf("parseEvent(%s) = %+v, %v", test.line, e, ok)
		}
		if want := time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.UTC); ok && !at.Equal(want) {
			t.Errorf("parseEvent(%s) is of %v, want %v", test.line, at, want)
		}
	}
}

func TestPercentiles(t *testing.T) {
	if got, want := percentiles([]float64{3, 1, 2}), (Percentiles{2, 3, 3}); got != want {
		t.Errorf("percentiles() = %v, want %v", got, want)
	}
	if got := percentiles(nil); got != (Percentiles{}) {
		t.Errorf("percentiles of nothing = %v", got)
	}
}

// A report says what was found, and where to look.
func TestReportLines(t *testing.T) {
	r := &Report{Seed: 7, Drills: []*Result{
		{Drill: "good", OK: true, Rounds: []*Round{{Number: 1, Events: []Event{{At: 12, Kind: "seal", Node: "n2", What: "promises"}}}}},
		{Drill: "bad", Violations: []Violation{{Check: checkRows, Node: "n2", What: "k is lost"}}, Kept: "/tmp/x"},
		{Drill: "broken", Error: "no luck"},
		{Drill: "none", OK: true, Skipped: "no pg_receivewal"},
	}}
	text := strings.Join(r.Lines(), "\n")
	for _, want := range []string{
		"+12 ms  seal         n2  promises", "acknowledged writes, n2: k is lost", "/tmp/x", "could not be brought to an end: no luck",
		"skipped: no pg_receivewal", "good                        ok ", "bad                         VIOLATED", "NOT all that was to be checked holds (seed 7",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestFind(t *testing.T) {
	names := map[string]bool{}
	for _, d := range All() {
		if names[d.Name] || d.Breaks == "" || d.Holds == "" || d.Shown == "" || d.Round == nil {
			t.Errorf("drill %q is there twice, or incomplete", d.Name)
		}
		names[d.Name] = true
	}
	if found, err := Find([]string{"kill-all", "kill-primary"}); err != nil || len(found) != 2 || found[0].Name != "kill-all" {
		t.Errorf("Find() = %v, %v", found, err)
	}
	if _, err := Find([]string{"kill"}); err == nil || !strings.Contains(err.Error(), "kill-primary") {
		t.Errorf("Find() of an unknown one = %v, want a list of those there are", err)
	}
}

// The write gap is that of all nodes, and what a client waited for an answer that does not come is its own.
func TestGaps(t *testing.T) {
	synctest.Test(t, testGaps) // where no time passes
}

func testGaps(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	w := &work{began: time.Now().Add(-ms(1000)), acks: []ack{ // a second ago
		{ms(10), "n1", 1}, {ms(20), "n1", 2}, {ms(90), "n1", 0}, // the fault comes at 30
		{ms(400), "n2", 0}, {ms(500), "n2", 2}, {ms(800), "n2", 1}, {ms(900), "n2", 2},
	}}
	before, after, client := w.gaps(ms(30))
	if before != w.acks[2] || after != w.acks[3] {
		t.Errorf("the write gap is from %v to %v", before, after)
	}
	if client != ms(790) {
		t.Errorf("the client that waited longest did so for %v, want 790ms", client)
	}
	if _, after, _ := w.gaps(ms(450)); after != w.acks[5] {
		t.Errorf("later, the write gap ends with %v", after)
	}
	w.acks = w.acks[:5] // client 1 waits still, and so do all
	before, after, client = w.gaps(ms(30))
	if client != ms(970) {
		t.Errorf("the client that still waits has done so for %v, want 970ms", client)
	}
	if before != w.acks[4] || after.on != "" || after.at != ms(1000) {
		t.Errorf("the write gap is from %v to %v, want until now", before, after)
	}
}

func TestWrap(t *testing.T) {
	for _, line := range wrap("  must hold  ", strings.Repeat("ein Wörtchen ", 40)) {
		if n := len([]rune(line)); n > pageWidth || !strings.HasPrefix(line, "  ") {
			t.Errorf("%d: %s", n, line)
		}
	}
	long := strings.Repeat("x", 2*pageWidth)
	if got := wrap("a ", long+" b"); len(got) != 2 || got[0] != "a "+long || got[1] != "  b" {
		t.Errorf("wrap() of a long word = %q", got)
	}
	if got := wrap("a ", ""); len(got) != 1 || got[0] != "a" {
		t.Errorf("wrap() of nothing = %q", got)
	}
	if got := short("ääää", 3); got != "ää…" || short("ääää", 4) != "ääää" {
		t.Errorf("short() = %s", got)
	}
}
