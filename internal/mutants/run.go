package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// testTimeout bounds the run of one test. A mutant that makes it hang has been noticed, too.
const testTimeout = 2 * time.Minute

// A Result is what came of a mutant.
type Result struct {
	Failed []string // tests that noticed it
	Why    string   // if none did: "" if the tests passed, otherwise why there is no verdict
	Output string
	Took   time.Duration
}

// Killed reports whether a test failed because of it.
func (r Result) Killed() bool { return len(r.Failed) > 0 }

// Run runs the mutant's test, or all short tests of its package if none is named. An error says that it cannot be
// tried.
func (m *Mutant) Run(root string) (Result, error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(root, dir)
	if err != nil {
		return Result{}, err
	}
	args := []string{"test", "-json", "-vet=off", "-count=1", "-timeout", testTimeout.String(), "-overlay", overlay}
	if m.Test == "" {
		args = append(args, "-short")
	} else {
		args = append(args, "-failfast", "-run", m.Test)
	}
	cmd := exec.Command("go", append(args, m.Package)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "RAPID_NOFAILFILE=1") // what a mutant fails at is no test data
	begin := time.Now()
	out, err := cmd.Output()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		return Result{}, fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	r := judge(out)
	if r.Why != "" && exit != nil {
		r.Output += string(exit.Stderr)
	}
	r.Took = time.Since(begin)
	return r, nil
}

// overlay writes the mutant's file into dir, and the list that go test -overlay takes.
func (m *Mutant) overlay(root, dir string) (string, error) {
	b, err := m.Apply(root)
	if err != nil {
		return "", err
	}
	mutated := filepath.Join(dir, filepath.Base(m.File))
	if err := os.WriteFile(mutated, b, 0o600); err != nil {
		return "", err
	}
	file, err := filepath.Abs(filepath.Join(root, m.File))
	if err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutated}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

// An event is a line of go test -json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// judge reads what go test -json says. Only a test that failed has noticed anything: not a compiler, and not a
// pattern that no test matches.
func judge(out []byte) (r Result) {
	var b strings.Builder
	var last string // the test that ran when the process died
	passed, ran, broken := false, false, false
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, len(out)+1)
	for s.Scan() {
		var e event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			continue
		}
		b.WriteString(e.Output)
		switch {
		case e.Action == "run":
			ran, last = true, e.Test
		case e.Action == "fail" && e.Test != "":
			top, _, _ := strings.Cut(e.Test, "/")
			if !slices.Contains(r.Failed, top) {
				r.Failed = append(r.Failed, top)
			}
		case e.Action == "build-fail":
			broken = true
		case e.Action == "pass" && e.Test == "":
			passed = true
		}
	}
	switch {
	case broken:
		r.Failed, r.Why = nil, "it does not compile"
	case len(r.Failed) > 0:
	case !ran:
		r.Why = "no test ran"
	case !passed: // os.Exit, or a process that was killed
		top, _, _ := strings.Cut(last, "/")
		r.Failed = []string{top}
	}
	r.Output = b.String()
	return r
}
