package walreceiver

import (
	"testing"
	"testing/synctest"
	"time"
)

// The upstream's clock is hours off; its messages take 10 ms or longer. Whatever happens the estimate is
// late by as long as the fastest message took, and never by less.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const off, fastest = 5 * time.Hour, 10 * time.Millisecond
		set := time.Duration(0) // how far the upstream's clock has been set
		var c Clock
		if _, ok := c.Now(); ok {
			t.Error("the time is known before the first message")
		}
		receive := func(took time.Duration) {
			c.note(time.Now().Add(off+set-took), time.Now())
		}
		expect := func(what string, late time.Duration) {
			t.Helper()
			now, ok := c.Now()
			if got := time.Now().Add(off + set).Sub(now); !ok || got != late {
				t.Errorf("%s: late by %v, %v, want %v", what, got, ok, late)
			}
		}
		receive(30 * time.Millisecond)
		expect("a slow message", 30*time.Millisecond)
		time.Sleep(time.Second)
		receive(fastest)
		expect("a fast one", fastest)
		time.Sleep(5 * time.Second)
		receive(4 * time.Second)
		expect("one that was held up", fastest)
		time.Sleep(time.Hour)
		expect("silence", fastest)
		receive(fastest)
		set = time.Minute
		receive(fastest)
		expect("set forward", fastest)
		set = 0
		time.Sleep(clockMemory)
		receive(fastest)
		expect("set back, and some time later", fastest)
	})
}
