package screen

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// terminal returns the lines that a terminal shows after s. It knows what a Screen uses, and that a
// Screen that moves up writes every line below again.
func terminal(t *testing.T, s string) []string {
	t.Helper()
	lines, row := []string{""}, 0
	for s != "" {
		rest, isSequence := strings.CutPrefix(s, "\x1b[")
		if !isSequence {
			if c := s[0]; c == '\n' {
				row++
			} else if c != '\r' {
				lines[row] += string(c)
			}
			s = s[1:]
		} else {
			i := strings.IndexAny(rest, "AJKlh")
			if rest[i] == 'A' {
				up, err := strconv.Atoi(rest[:i])
				if err != nil || up > row {
					t.Fatalf("the cursor leaves the screen: %q", rest[:i+1])
				}
				row -= up
				lines = lines[:row]
			}
			s = rest[i+1:]
		}
		for len(lines) <= row {
			lines = append(lines, "")
		}
	}
	return lines
}

func newTestScreen(out *strings.Builder) *Screen {
	return &Screen{out: out, size: func() (int, int) { return 4, 10 }}
}

func TestDraw(t *testing.T) {
	var out strings.Builder
	s := newTestScreen(&out)
	s.Draw([]string{"one", "two"})
	s.Draw([]string{"a line that is too long", "zwei", "drei", "vier", "fünf"})
	s.Print("news")
	s.Draw([]string{"end"})
	s.Close()
	got := strings.Join(terminal(t, out.String()), "|")
	if want := "news|end|"; got != want {
		t.Errorf("the screen shows %q, want %q", got, want)
	}
	if strings.Contains(out.String(), "too long") || strings.Contains(out.String(), "vier") {
		t.Errorf("what does not fit was drawn: %q", out.String())
	}
	if !strings.HasSuffix(out.String(), showCursor) {
		t.Error("the cursor stays hidden")
	}
}

func TestNotATerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := New(f); ok {
		t.Error("a file was taken for a terminal")
	}
}
