package screen

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// terminal shows what a terminal of so many rows would show of s, without its cursor movements
// beyond those that a Screen uses.
func terminal(t *testing.T, s string) []string {
	lines, row := []string{""}, 0
	put := func(c rune) {
		for len(lines) <= row {
			lines = append(lines, "")
		}
		lines[row] += string(c)
	}
	for s != "" {
		rest, found := strings.CutPrefix(s, "\x1b[")
		if !found {
			c := rune(s[0])
			s = s[1:]
			switch c {
			case '\n':
				row++
			case '\r':
			default:
				if row < len(lines) && strings.HasPrefix(lines[row], "\x00") {
					lines[row] = lines[row][1:]
				}
				put(c)
			}
			continue
		}
		i := strings.IndexAny(rest, "AJKlh")
		arg, cmd := rest[:i], rest[i]
		s = rest[i+1:]
		switch cmd {
		case 'A':
			var n int
			fmt.Sscan(arg, &n)
			row -= n
			for i := row; i < len(lines); i++ {
				lines[i] = "" // a Screen rewrites every line below
			}
		case 'J':
			lines = lines[:min(row, len(lines))]
		}
		if row < 0 {
			t.Fatalf("the cursor left the block at %q", s)
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
	if want := "news|end"; got != want {
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
