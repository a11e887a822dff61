package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Mutant is a patch that takes one safety rule away.
type Mutant struct {
	Name    string // short, unique
	Rule    string // what is taken away, with the invariant's number if it has one
	File    string // of the product, from the root of the repository
	Package string // of the test that kills it, as go test takes it
	Test    string // what go test -run takes
	Fast    bool   // make test runs it: a second or two
	Hangs   bool   // the test that notices it may do so by never ending
	Old     string // text that is in the file once, whole lines
	New     string // what stands in its place
	Line    int    // in mutants.txt
}

//go:embed mutants.txt
var list string

// Parse reads a list of mutants. They are separated by empty lines; # begins a comment:
//
//	mutant NAME
//	rule   what is taken away
//	file   path/of/file.go
//	killed ./package TestName
//	fast                        (only if it is)
//	hangs                       (only if the test may run into its timeout)
//	 a line of context
//	-a line that goes
//	+a line that comes in its place
func Parse(text string) ([]Mutant, error) {
	var all []Mutant
	var m Mutant
	names := make(map[string]bool)
	end := func() error {
		if m == (Mutant{}) {
			return nil
		}
		if err := m.complete(); err != nil {
			return err
		}
		if names[m.Name] {
			return fmt.Errorf("mutant %s: there are two", m.Name)
		}
		names[m.Name] = true
		all = append(all, m)
		m = Mutant{}
		return nil
	}
	for i, line := range strings.Split(text, "\n") {
		var err error
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "":
			err = end()
		default:
			if m == (Mutant{}) {
				m.Line = i + 1
			}
			err = m.read(line)
		}
		if err != nil {
			return nil, fmt.Errorf("mutants.txt:%d: %w", i+1, err)
		}
	}
	return all, end()
}

// read takes one line of a mutant in.
func (m *Mutant) read(line string) error {
	switch line[0] {
	case ' ':
		m.Old, m.New = m.Old+line[1:]+"\n", m.New+line[1:]+"\n"
		return nil
	case '-':
		m.Old += line[1:] + "\n"
		return nil
	case '+':
		m.New += line[1:] + "\n"
		return nil
	}
	key, value, _ := strings.Cut(line, " ")
	value = strings.TrimSpace(value)
	switch key {
	case "mutant":
		m.Name = value
	case "rule":
		m.Rule = value
	case "file":
		m.File = value
	case "killed":
		m.Package, m.Test, _ = strings.Cut(value, " ")
	case "fast":
		m.Fast = true
	case "hangs":
		m.Hangs = true
	default:
		return fmt.Errorf("%q is no part of a mutant", line)
	}
	return nil
}

func (m *Mutant) complete() error {
	if m.Name == "" || m.Rule == "" || m.File == "" || m.Package == "" || m.Test == "" || m.Old == "" || m.Old == m.New {
		return fmt.Errorf("mutant %q: it wants a name, a rule, a file, who kills it, and lines that change", m.Name)
	}
	return nil
}

// Apply returns the file as the mutant has it. It fails if the text that it changes is not there, or more
// than once: the code has moved on, and so must the mutant.
func (m *Mutant) Apply(root string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return nil, fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	if n := strings.Count(string(b), m.Old); n != 1 {
		return nil, fmt.Errorf("mutant %s: %s has the text that it changes %d times, want once: look for what does it now\n%s",
			m.Name, m.File, n, m.Old)
	}
	return []byte(strings.Replace(string(b), m.Old, m.New, 1)), nil
}
