package raftlog

import (
	"fmt"
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
		// With two of five away each vote counts: one that comes to nothing costs the election, and the next one may be
		// another's. That does not happen twice.
		var amiss []string
		for range 3 {
			leader := c.leader()
			c.kill(leader)
			begin := time.Now()
			next := c.leader()
			if took := time.Since(begin); next == "n1" || took > 350*time.Millisecond {
				amiss = append(amiss, fmt.Sprintf("%s was replaced by %s after %v", leader, next, took))
			}
			c.open(leader, false)
			c.equal()
		}
		if len(amiss) > 1 {
			t.Error("the primary leads, or it took long:", amiss)
		}
	})
}

// The only voter leads as soon as it is there: no other can be heard of.
func TestOnlyVoter(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		for _, what := range []string{"founded", "started again"} {
			begin := time.Now()
			if what == "founded" {
				c.found("n1")
			} else {
				c.kill("n1")
				c.open("n1", false)
			}
			c.leader()
			if took := time.Since(begin); took > 50*time.Millisecond {
				t.Errorf("%s, it leads after %v", what, took)
			}
		}
	})
}

// Each look whether the leader is gone is a connection that ends there, for which the leader does not look
// after itself.
func TestNobodyLooksForEver(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		for name := range c.members {
			conn, err := c.network.dial(t.Context(), "", name)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		time.Sleep(10 * time.Second)
		leader := c.leader()
		before := c.network.made(leader)
		time.Sleep(time.Minute)
		if more := c.network.made(leader) - before; more > 0 {
			t.Errorf("%d connections to the leader in a minute in which nothing happened", more)
		}
	})
}

// made is how many connections to a listener were made.
func (w *network) made(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.accepted[name])
}
