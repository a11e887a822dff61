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

// testTimeout bounds the run of one test. A test that takes longer has noticed nothing, unless its mutant says
// that it hangs.
const testTimeout = 2 * time.Minute

// A Result is what came of a run of tests. Tests are those at the top: subtests are theirs.
type Result struct {
	Passed []string
	Failed []string
	Hung   []string // ran when the time was over
	Why    string   // there is no verdict; "" if there is one
	Output string
	Took   time.Duration
}

// Killed reports whether a test noticed the mutant.
func (r *Result) Killed() bool { return r.Why == "" && len(r.Failed) > 0 }

// Run runs the mutant's test, or all short tests of its package if none is named. Tests that do not pass without it,
// as base has them, say nothing. An error says that it cannot be tried.
func (m *Mutant) Run(root string, base Baseline) (Result, error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(root, dir)
	if err != nil {
		return Result{}, err
	}
	args := []string{"-overlay", overlay}
	if m.Test != "" {
		args = append(args, "-failfast")
	}
	r, err := goTest(root, m.Package, m.Test, testTimeout, args...)
	if err != nil {
		return Result{}, fmt.Errorf("mutant %s: %w", m.Name, err)
	}
	if m.Hangs {
		r.Failed, r.Hung = append(r.Failed, r.Hung...), nil
	}
	r.against(base[m.Package])
	return r, nil
}

// against drops those that failed and do not pass in base either, and says so if none is left.
func (r *Result) against(base Result) {
	failed := r.Failed
	r.Failed = slices.DeleteFunc(slices.Clone(failed), func(test string) bool { return !slices.Contains(base.Passed, test) })
	switch {
	case r.Why != "" || len(r.Failed) > 0:
	case len(r.Hung) > 0:
		r.Why = fmt.Sprintf("%s took longer than %v: if that is how it notices, say so with a line \"hangs\"",
			strings.Join(r.Hung, ", "), testTimeout)
	case len(failed) > 0:
		r.Why = "without it they do not pass either: " + strings.Join(failed, ", ")
	}
}

// goTest runs the tests of a package that match a pattern, or all its short ones if that is empty.
func goTest(root, pkg, pattern string, timeout time.Duration, more ...string) (Result, error) {
	args := append([]string{"test", "-json", "-vet=off", "-count=1", "-timeout", timeout.String()}, more...)
	if pattern == "" {
		args = append(args, "-short")
	} else {
		args = append(args, "-run", pattern)
	}
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "RAPID_NOFAILFILE=1") // what a mutant fails at is no test data
	begin := time.Now()
	out, err := cmd.Output()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		return Result{}, err
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

// judge reads what go test -json says. Only a test that failed has noticed anything: not a compiler, not a pattern
// that no test matches, and not a clock.
func judge(out []byte) (r Result) {
	var b strings.Builder
	var last string // the test that ran when the process died
	passed, ran, broken, late, killed := false, false, false, false, false
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, len(out)+1)
	for s.Scan() {
		var e event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			continue
		}
		b.WriteString(e.Output)
		late = late || strings.HasPrefix(e.Output, "panic: test timed out after") || strings.HasPrefix(e.Output, "*** Test killed")
		killed = killed || strings.HasPrefix(e.Output, "signal: killed")
		test, _, sub := strings.Cut(e.Test, "/")
		switch {
		case e.Action == "run":
			ran, last = true, test
		case e.Action == "fail" && test != "" && late:
			r.Hung = with(r.Hung, test)
		case e.Action == "fail" && test != "":
			r.Failed = with(r.Failed, test)
		case e.Action == "pass" && test != "" && !sub:
			r.Passed = append(r.Passed, test)
		case e.Action == "build-fail":
			broken = true
		case e.Action == "pass" && test == "":
			passed = true
		}
	}
	r.Output = b.String()
	switch {
	case broken:
		r.Failed, r.Why = nil, "it does not compile"
	case len(r.Failed) > 0 || len(r.Hung) > 0:
	case killed && !late:
		r.Why = "somebody killed the test"
	case !ran:
		r.Why = "no test ran"
	case !passed && late:
		r.Hung = []string{last}
	case !passed: // os.Exit, or a process that was killed
		r.Failed = []string{last}
	case len(r.Passed) == 0:
		r.Why = "its tests skip themselves"
	}
	return r
}

// with is the list with a name that it may have already.
func with(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}
