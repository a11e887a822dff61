// Package screen draws a block of lines that is replaced in place on a terminal.
//
// It uses a handful of ANSI sequences and leaves the terminal as it was: what was drawn last stays,
// with the cursor below it.
package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearDown  = "\x1b[J" // from the cursor to the end of the screen
	clearRight = "\x1b[K"
)

// A Screen is a terminal with a block of lines at its end. It is used by one goroutine.
type Screen struct {
	out   io.Writer
	size  func() (rows, cols int)
	block []string

	Paint func(i int, line string) string // colours the i-th line, which has been cut to size; nil: none
	drawn int                             // lines of the block on the screen
}

// New returns a screen on f, and false if f is not a terminal. Close restores the terminal.
func New(f *os.File) (*Screen, bool) {
	size := func() (rows, cols int) {
		w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil || w.Row == 0 || w.Col == 0 {
			return 24, 80
		}
		return int(w.Row), int(w.Col)
	}
	if !IsTerminal(f) || os.Getenv("TERM") == "dumb" {
		return nil, false
	}
	return &Screen{out: f, size: size}, true
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Draw replaces the block. What does not fit is cut off: a line that wrapped could not be taken back.
func (s *Screen) Draw(lines []string) error {
	s.block = lines
	return s.draw("")
}

// Print prints a line above the block, where it stays.
func (s *Screen) Print(line string) error { return s.draw(line + "\n") }

func (s *Screen) draw(above string) error {
	rows, cols := s.size()
	var b strings.Builder
	b.WriteString(hideCursor)
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\r")
	if above != "" {
		b.WriteString(clearDown + above)
	}
	shown := s.block[:min(len(s.block), rows-1)]
	for i, line := range shown {
		line = clip(line, cols)
		if s.Paint != nil {
			line = s.Paint(i, line)
		}
		b.WriteString(line + clearRight + "\n")
	}
	b.WriteString(clearDown)
	s.drawn = len(shown)
	_, err := io.WriteString(s.out, b.String())
	return err
}

// Release leaves the block where it is: what is drawn or printed next comes below.
func (s *Screen) Release() { s.block, s.drawn = nil, 0 }

// Close shows the cursor again.
func (s *Screen) Close() error {
	_, err := io.WriteString(s.out, showCursor)
	return err
}

// clip cuts a line to n characters.
func clip(line string, n int) string {
	if utf8.RuneCountInString(line) <= n {
		return line
	}
	return string([]rune(line)[:n])
}
