package raftlog

import (
	"testing"
	"time"
)

// A follower that comes back after a long time hears what it has missed at once: the leader has not
// become slow to try.
func TestFollowerBackAfterLong(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		leader, away := c.leader(), c.follower()
		c.kill(away)
		c.propose(leader, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		time.Sleep(5 * time.Minute)
		if got := c.leader(); got != leader {
			t.Fatalf("%s leads, want %s", got, leader)
		}
		c.open(away, false)
		begin := time.Now()
		c.until(away, func(s *State) bool { return len(s.Slots) == 1 })
		if took := time.Since(begin); took > 200*time.Millisecond {
			t.Errorf("it took %v of the leader's time", took)
		}
	})
}
