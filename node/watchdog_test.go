package node

import (
	"testing"
	"time"
)

// The time for which a process was stopped is not held against its disk.
func TestWakefulness(t *testing.T) {
	now := time.Now()
	var w wakefulness
	for i, look := range []struct{ after, want time.Duration }{
		{0, 0}, // the first look
		{watchdogInterval, watchdogInterval},
		{3 * watchdogInterval, 4 * watchdogInterval}, // late, but running
		{30 * time.Second, 0},                        // stopped meanwhile
		{watchdogInterval, watchdogInterval},
		{pauseNoticed, watchdogInterval + pauseNoticed},
	} {
		now = now.Add(look.after)
		if got := w.at(now); got != look.want {
			t.Errorf("look %d: awake for %v, want %v", i, got, look.want)
		}
	}
}
