package status

import (
	"strings"
	"testing"
)

// look shows what a Marker marks, in brackets.
func look(m *Marker, text string) string {
	lines := strings.Split(text, "\n")
	m.Look(lines)
	for i, line := range lines {
		lines[i] = strings.NewReplacer(bold, "[", normal, "]").Replace(m.Mark(i, line))
	}
	return strings.Join(lines, "\n")
}

func TestMarker(t *testing.T) {
	var m Marker
	steps := []struct{ lines, want string }{
		{"10:00:00\nprimary n1  since 1h2m3s\n\nmember  state\nn1  up  0/10  5 ms\nn2  up  0/10  5 ms", ""},
		// Ages alone are no news.
		{"10:00:01\nprimary n1  since 1h2m4s\n\nmember  state\nn1  up  0/10  7 ms\nn2  up  0/10  1m3s", ""},
		{"10:00:02\n! n2 is dówn\nprimary n1  since 1h2m5s\n\nmember  state\nn1  up  0/18  7 ms\nn2  down !  -  -",
			"10:00:02\n[! n2 is dówn]\nprimary n1  since 1h2m5s\n\nmember  state\nn1  up  [0/18]  7 ms\nn2  [down !]  [-]  [-]"},
		// Names are per section; a line that is new is new as a whole.
		{"10:00:03\nprimary n2  since 2s\n\nmember  state\nn1  up  0/18  7 ms\nn2  down !  -  -\n\nslots\n  n1  lost",
			"10:00:03\n[primary n2]  [since 2s]\n\nmember  state\nn1  up  0/18  7 ms\nn2  down !  -  -\n\n[slots]\n  [n1]  [lost]"},
	}
	for i, s := range steps {
		want := s.want
		if want == "" {
			want = s.lines
		}
		if got := look(&m, s.lines); got != want {
			t.Errorf("look %d shows\n%s\nwant\n%s", i, got, want)
		}
	}
	// What was cut off is not marked.
	m.Look([]string{"n1  first"})
	m.Look([]string{"n1  second"})
	if got, want := m.Mark(0, "n1  se"), "n1  "+bold+"se"+normal; got != want {
		t.Errorf("Mark() = %q, want %q", got, want)
	}
	if got := m.Mark(0, "n1"); got != "n1" {
		t.Errorf("Mark() = %q, want n1", got)
	}
}
