// Package slow marks the tests that -short leaves out. make test runs all others with the race detector and -short,
// and then these without both.
package slow

import "testing"

// Test leaves a test that breaks one thing after the other, or tries all there is, many thousand times over, to the
// run without the race detector: with it each takes minutes, and finds no other races than the rest. Such a test waits
// for nothing but the processor, so it runs beside others of its package.
func Test(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs without -short")
	}
	t.Parallel()
}
