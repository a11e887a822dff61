package raftlog

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// replaceDisk has a node come back with an empty disk: another Raft server, at the same address.
func (c *cluster) replaceDisk(name string) {
	c.t.Helper()
	c.kill(name)
	if err := os.RemoveAll(filepath.Join(c.dir, name)); err != nil {
		c.t.Fatal(err)
	}
	before := c.members[name]
	c.open(name, false)
	if c.members[name].RaftID == before.RaftID {
		c.t.Fatalf("%s is server %s again", name, before.RaftID)
	}
}

// A server with an empty store at the address of one that is in the configuration does not vote in its place:
// that one may have had what was agreed on, and this one would let somebody lead who has not.
func TestEmptyStoreDoesNotVoteForAnother(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		leader, behind, other := c.oneBehind()
		c.kill(leader)
		c.replaceDisk(other)
		c.open(behind, false)
		for range 600 {
			if time.Sleep(100 * time.Millisecond); c.node(behind).IsLeader() {
				t.Fatalf("%s leads, which lacks what %s and %s had agreed on, by the vote of a server without a log", behind, leader, other)
			}
		}
		c.open(leader, false)
		c.until(behind, func(s *State) bool { return len(s.Slots) == 1 })
	})
}

// Nor does it say in its place that it has what is being agreed on.
func TestEmptyStoreDoesNotAcceptForAnother(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		leader, away := c.leader(), c.follower()
		other := c.third(leader, away)
		c.kill(away)
		c.replaceDisk(other)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s, err := c.node(leader).Propose(ctx, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		if err == nil || len(s.Slots) > 0 {
			t.Errorf("agreed on by %s and a server without a log, of three: %+v, %v", leader, s.Slots, err)
		}
	})
}

// third is the member that is neither of two.
func (c *cluster) third(a, b string) string {
	for name := range c.members {
		if name != a && name != b {
			return name
		}
	}
	c.t.Fatal("no third member")
	return ""
}

// oneBehind is a cluster of three of which one is dead, and lacks what the other two have agreed on.
func (c *cluster) oneBehind() (leader, behind, other string) {
	c.t.Helper()
	c.three()
	leader, behind = c.leader(), c.follower()
	other = c.third(leader, behind)
	c.kill(behind)
	c.propose(leader, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
	return leader, behind, other
}
