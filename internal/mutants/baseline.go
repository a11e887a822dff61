package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// baseTimeout bounds the run of all that is asked of a package.
const baseTimeout = 10 * time.Minute

// A Baseline says, for each package, which of the tests that are to kill a mutant pass without one. A test that
// fails anyway notices nothing.
type Baseline map[string]Result

// NewBaseline runs the tests of all those mutants, each package once: it is compiled once, and its tests are run
// together.
func NewBaseline(root string, mutants []Mutant) (Baseline, error) {
	base := make(Baseline)
	for pkg, pattern := range patterns(mutants) {
		r, err := goTest(root, pkg, pattern, baseTimeout)
		if err != nil {
			return nil, fmt.Errorf("%s without a mutant: %w", pkg, err)
		}
		base[pkg] = r
	}
	return base, nil
}

// patterns is, by package, what go test -run takes to run what its mutants want to be run: nothing if one wants all.
func patterns(mutants []Mutant) map[string]string {
	tests := make(map[string][]string)
	for _, m := range mutants {
		tests[m.Package] = with(tests[m.Package], m.Test)
	}
	joined := make(map[string]string)
	for pkg, list := range tests {
		if !slices.Contains(list, "") {
			joined[pkg] = strings.Join(list, "|")
		} else {
			joined[pkg] = ""
		}
	}
	return joined
}
