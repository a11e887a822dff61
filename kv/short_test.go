package kv

import "testing"

// skipShort leaves a test that breaks one thing after the other, many times over, to the run without
// the race detector: with it each takes minutes, and finds no other races than the rest.
func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs without -short")
	}
}
