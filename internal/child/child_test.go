package child

import (
	"slices"
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

// No node is told to be another one, and those of a drill are told nothing at all.
func TestEnvironment(t *testing.T) {
	for _, name := range []string{"LONGSHIP_NAME", "LONGSHIP_FSYNC", "NOTIFY_SOCKET", "LONGSHIPS"} {
		t.Setenv(name, "x")
	}
	for _, test := range []struct {
		env  []string
		want string
	}{
		{Environment(), "LONGSHIPS=x LONGSHIP_FSYNC=x"},
		{EnvironmentWithoutSettings(), "LONGSHIPS=x"},
	} {
		got := slices.DeleteFunc(test.env, func(v string) bool { return !strings.HasPrefix(v, "LONGSHIP") && !strings.HasPrefix(v, "NOTIFY_") })
		slices.Sort(got)
		if strings.Join(got, " ") != test.want {
			t.Errorf("environment %v, want %s", got, test.want)
		}
	}
}
