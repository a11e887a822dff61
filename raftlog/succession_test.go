package raftlog

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
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
			time.Sleep(time.Second) // of the bubble: who has not the entry of the barrier could not be elected
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

// A server that stands for election hears its old leader, whose heartbeat was late, while it stores its term. It is
// behind and cannot win, and lets the one that can.
func TestLateHeartbeatOfTheLeaderBefore(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		leader, behind, other := c.oneBehind()
		c.equal()
		c.kill(leader)
		c.kill(other)
		n := c.open(behind, false)
		late := func() {
			heartbeat := &raft.AppendEntriesRequest{Term: n.raft.CurrentTerm(), RPCHeader: raft.RPCHeader{
				ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.members[leader].RaftID), Addr: []byte(leader),
			}}
			self := raft.ServerID(c.members[behind].RaftID)
			err := n.trans.NetworkTransport.AppendEntries(self, raft.ServerAddress(behind), heartbeat, new(raft.AppendEntriesResponse))
			if address, _ := n.raft.LeaderWithID(); err != nil || string(address) != leader || n.raft.State() != raft.Candidate {
				t.Errorf("%v: a %v that knows leader %q, want a candidate that knows %q", err, n.raft.State(), address, leader)
			}
		}
		c.newTerm.Store(&late)
		n.stand()
		c.open(other, false)
		if next := c.leader(); next != other {
			t.Errorf("%s leads, want %s", next, other)
		}
		if c.newTerm.Load() != nil {
			t.Error("no heartbeat was sent")
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
