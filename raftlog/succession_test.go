package raftlog

import (
	"testing"
	"time"
)

// A leader whose process has ended is replaced at once, though most of the voters that are left must
// agree, and not by the primary if there is somebody else.
func TestLeaderEnds(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		c.join("n4")
		c.join("n5")
		c.equal()
		c.kill("n5")
		for range 3 {
			leader := c.leader()
			c.kill(leader)
			begin := time.Now()
			if next := c.leader(); next == "n1" {
				t.Error("the primary leads")
			}
			if took := time.Since(begin); took > 350*time.Millisecond {
				t.Errorf("%s was replaced after %v", leader, took)
			}
			c.open(leader, false)
			c.equal()
		}
	})
}
