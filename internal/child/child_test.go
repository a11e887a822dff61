package child

import (
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	var lines []string
	w := &Lines{Line: func(s string) { lines = append(lines, s) }}
	for _, s := range []string{"one\ntw", "o\rthree", "\r\n", strings.Repeat("x", 2*maxLine), "\nfour\n"} {
		w.Write([]byte(s))
	}
	if got := strings.Join(lines, "|"); got != "one|two|three|four" {
		t.Errorf("lines %s", got)
	}
}

func TestReign(t *testing.T) {
	for said, want := range map[string]uint64{
		"primary n1 127.0.0.1:5433 epoch 12":               12,
		"primary n1 127.0.0.1:5433 epoch x":                0,
		"standby n2 127.0.0.1:5434 follows 127.0.0.1:5433": 0,
		"": 0,
	} {
		if got := Reign(said); got != want {
			t.Errorf("Reign(%q) = %d, want %d", said, got, want)
		}
	}
}
