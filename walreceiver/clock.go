package walreceiver

import (
	"sync"
	"time"
)

// clockMemory is how long a message counts that came through fast. Clocks drift apart, and may be set.
const clockMemory = 10 * time.Second

// A Clock tells the time of the upstream's clock. Each message says when it was sent; the one that took
// the least time says most. From then on our own monotonic clock goes on, so that neither a message
// that was held up nor one of the two clocks being set makes a lag small that is not.
//
// It is late by the time that the fastest message took: what is measured by it is too small by that.
type Clock struct {
	mu       sync.Mutex
	sent     time.Time // by the upstream's clock
	received time.Time // by ours; zero: nothing has come yet
}

// note takes the times of a message.
func (c *Clock) note(sent, received time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.received.IsZero() && received.Sub(c.received) < clockMemory && sent.Before(c.at(received)) {
		return
	}
	c.sent, c.received = sent, received
}

// Now is the upstream's time; ok is false if no message has come yet.
func (c *Clock) Now() (t time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at(time.Now()), !c.received.IsZero()
}

// at is the upstream's time at a moment of ours. The caller holds mu.
func (c *Clock) at(now time.Time) time.Time { return c.sent.Add(now.Sub(c.received)) }
