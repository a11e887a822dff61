package raftlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/longship-db/longship/syncrep"
)

// bubble runs a test on a cluster in fake time.
func bubble(t *testing.T, test func(*testing.T, *cluster)) {
	synctest.Test(t, func(t *testing.T) { test(t, newCluster(t)) })
}

// three is a cluster of n1, n2 and n3.
func (c *cluster) three() {
	c.t.Helper()
	c.found("n1")
	c.join("n2")
	c.join("n3")
	// Whoever has not yet heard that another one votes does not vote for it (raft.go, requestVote of
	// hashicorp/raft): if the leader dies just then, nobody can be elected until it is back.
	c.equal()
}

// follower is the name of a node that does not lead.
func (c *cluster) follower() string {
	leader := c.leader()
	for _, name := range []string{"n1", "n2", "n3"} {
		if name != leader && c.node(name) != nil {
			return name
		}
	}
	c.t.Fatal("no follower")
	return ""
}

// A follower's proposal is agreed on by all, and applied at the follower when Propose returns. That is
// a matter of messages, not of the next heartbeat.
func TestProposeOnFollower(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		name := c.follower()
		begin := time.Now()
		s := c.propose(name, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		if len(s.Slots) != 1 {
			t.Errorf("the slot is not there when Propose returns")
		}
		if took := time.Since(begin); took > 5*time.Millisecond {
			t.Errorf("a follower's proposal took %v", took)
		}
		_, err := c.node(name).Propose(t.Context(), &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		if !errors.Is(err, ErrSlotExists) {
			t.Errorf("the same slot again: %v, want %v", err, ErrSlotExists)
		}
		_, err = c.node(name).Propose(t.Context(), &Seal{Epoch: 9, Target: 10})
		if _, ok := errors.AsType[*ConflictError](err); !ok {
			t.Errorf("seal of another epoch: %v, want a ConflictError", err)
		}
		c.equal()
	})
}

// A proposal made just after the leader has died is agreed on once there is another one.
func TestLeaderKilled(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		leader, follower := c.leader(), c.follower()
		changed := c.node(follower).WatchLeader()
		c.kill(leader)
		begin := time.Now()
		s := c.propose(follower, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		if len(s.Slots) != 1 {
			t.Errorf("the slot is not there when Propose returns")
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		<-changed
		if m, ok := c.node(follower).Leader(); !ok || m.Name == leader {
			t.Errorf("the leader is %q", m.Name)
		}
		c.open(leader, false)
		c.until(leader, func(s *State) bool { return len(s.Slots) == 1 })
		c.equal()
	})
}

// When the answer to a proposal is lost on its way, it is proposed again, has one effect, and its
// author hears what it did.
func TestAnswerLost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		name := c.follower()
		c.loseAnswers.Store(true)
		// The follower is deaf for a while: it learns of its own command only after several attempts.
		c.network.deafen(name)
		go func() {
			time.Sleep(3 * time.Second) // of the bubble
			c.network.deafen("nobody")
		}()
		s := c.propose(name, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		if len(s.Slots) != 1 {
			t.Errorf("slots are %v, want one", s.Slots)
		}
		if n := c.forwarded.Load(); n < 2 {
			t.Errorf("it was forwarded %d times, want more", n)
		}
		c.loseAnswers.Store(false)
		c.equal()
	})
}

// Without a majority a proposal ends with its context, the outcome unknown.
func TestNoMajority(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		leader, follower := c.leader(), c.follower()
		for _, name := range []string{"n1", "n2", "n3"} {
			if name != leader && name != follower {
				c.kill(name)
			}
		}
		c.network.deafen(leader) // so nobody knows that it has ended
		c.kill(leader)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := c.node(follower).Propose(ctx, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Propose() = %v, want %v", err, ErrUnknown)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		// Once it knows of no leader any more, it knows too that nobody has been asked.
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err = c.node(follower).Propose(ctx, &Reload{}); !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrUnknown) {
			t.Errorf("Propose() without a leader = %v, want %v", err, ErrNotLeader)
		}
		if err := c.node(follower).Reconcile(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Reconcile() = %v, want %v", err, ErrNotLeader)
		}
		if err := c.node(follower).Barrier(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Barrier() = %v, want %v", err, ErrNotLeader)
		}
		// What waits when the node is closed, ends.
		n := c.node(follower)
		go c.kill(follower)
		if _, err := n.Propose(t.Context(), &SlotDrop{Epoch: 1, Name: "vault"}); !errors.Is(err, ErrClosed) {
			t.Errorf("Propose() = %v, want %v", err, ErrClosed)
		}
	})
}

// All nodes go down and come back with what was agreed on.
func TestRestartFromDisk(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		c.propose("n1", &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault", Restart: 0x5000}})
		c.equal()
		names := []string{"n1", "n2", "n3"}
		for _, name := range names {
			c.kill(name)
		}
		for _, name := range names {
			c.open(name, name == "n1") // the founder bootstraps again: nothing comes of it
		}
		c.leader()
		for _, name := range names {
			c.until(name, func(s *State) bool { return len(s.Slots) == 1 && s.Settings["last"] != "" })
		}
		c.equal()
	})
}

// A new node, and one that was away for long, get a snapshot, and then have what the others have.
func TestSnapshotInstalled(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		away := c.follower()
		c.kill(away)
		leader := c.node(c.leader())
		if err := leader.raft.ReloadConfig(raft.ReloadableConfig{
			TrailingLogs: 1, SnapshotInterval: time.Hour, SnapshotThreshold: 1 << 20,
			HeartbeatTimeout: defaultHeartbeat, ElectionTimeout: defaultElection,
		}); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			c.propose(c.leader(), &SlotCreate{Epoch: 1, Slot: Slot{Name: fmt.Sprintf("slot_%d", i)}})
		}
		if err := leader.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		c.open(away, false)
		c.until(away, func(s *State) bool { return len(s.Slots) == 20 })
		c.join("n4")
		if n := len(c.node("n4").State().Slots); n != 20 {
			t.Errorf("the new node has %d slots, want 20", n)
		}
		c.equal()
		// And from the snapshot on its own disk.
		c.kill("n4")
		c.open("n4", false)
		c.until("n4", func(s *State) bool { return len(s.Slots) == 20 })
		c.equal()
	})
}

// A node that starts without the others has no more than its last snapshot, and knows that it knew more.
func TestCaughtUp(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		follower := c.follower()
		if !c.node(follower).CaughtUp() {
			t.Error("not caught up after its first start")
		}
		if err := c.node(follower).raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		c.propose("n1", &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}})
		c.equal()
		names := []string{"n1", "n2", "n3"}
		for _, name := range names {
			c.kill(name)
		}
		n := c.open(follower, false)
		if s := n.State(); !s.Initialised() || len(s.Slots) != 0 || n.CaughtUp() {
			t.Errorf("alone: state %d with slots %v, caught up: %t", s.Index, s.Slots, n.CaughtUp())
		}
		for _, name := range names {
			if name != follower {
				c.open(name, false)
			}
		}
		// With the others there it catches up, perhaps a command later: a leader may have begun and ended meanwhile.
		c.until(follower, func(s *State) bool { return len(s.Slots) == 1 && n.CaughtUp() })
	})
}

// 1 → 3 → 5 → 3 members, each a voter, and the ones that go include the leader.
func TestMembersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		c.join("n4")
		c.join("n5")
		c.voters(5)
		// Two may be down.
		c.kill("n1")
		c.kill(c.follower())
		c.equal()
		for name := range c.members {
			if c.node(name) == nil {
				c.open(name, false)
			}
		}
		// n1 is the primary and stays a member, without a vote, until it is none.
		leader := c.leader()
		if leader == "n1" {
			if err := c.node(leader).Transfer(t.Context(), c.members["n5"].RaftID); err != nil {
				t.Fatal(err)
			}
			leader = c.leader()
		}
		c.propose("n1", &Leave{ID: c.members[leader].ID})
		if err := c.node(leader).Reconcile(t.Context()); err != nil {
			t.Fatalf("a leader that leaves: %v", err)
		}
		next := c.leader()
		if next == leader {
			t.Fatalf("%s leaves, and leads still", leader)
		}
		c.reconcile()
		c.kill(leader)
		for _, name := range []string{"n2", "n3", "n4", "n5"} {
			if name != leader && name != next {
				c.propose("n1", &Leave{ID: c.members[name].ID})
				c.reconcile()
				c.kill(name)
				break
			}
		}
		c.voters(3)
		c.equal()
	})
}

// voters checks that so many servers vote, and that there are no others.
func (c *cluster) voters(want int) {
	c.t.Helper()
	servers := c.node(c.leader()).servers()
	voters := 0
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	if voters != want || len(servers) != want {
		c.t.Errorf("%d of %d servers vote, want %d: %v", voters, len(servers), want, servers)
	}
}

// A node that lost its Raft store, and nothing else, is the same member with another Raft server.
func TestRaftStoreLost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		name := c.follower()
		old := c.members[name]
		c.kill(name)
		if err := os.RemoveAll(filepath.Join(c.dir, name, "raft")); err != nil {
			t.Fatal(err)
		}
		c.join(name)
		if c.members[name].RaftID == old.RaftID {
			t.Error("the new store has the old ID")
		}
		if n := len(c.node(name).State().Members); n != 3 {
			t.Errorf("%d members, want 3", n)
		}
		c.voters(3)
		c.equal()
	})
}

// A dead node is replaced by an empty one of the same name and address.
func TestNodeReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		name := c.follower()
		c.kill(name)
		if err := os.RemoveAll(filepath.Join(c.dir, name)); err != nil {
			t.Fatal(err)
		}
		c.open(name, false)
		m := c.members[name]
		old := m.ID
		m.ID = syncrep.ID{Node: old.Node, Incarnation: 2}
		if _, err := c.node(c.leader()).Propose(t.Context(), &Join{Member: m}); !errors.Is(err, ErrNameTaken) {
			t.Errorf("Join() = %v, want %v", err, ErrNameTaken)
		}
		c.propose(c.leader(), &Join{Member: m, Replaces: old})
		c.reconcile()
		c.until(name, func(s *State) bool { _, ok := s.Member(m.ID); return ok })
		c.propose(name, &Ready{ID: m.ID, RaftID: m.RaftID})
		c.reconcile()
		c.voters(3)
	})
}

// A node that moves is found at its new address, whoever leads.
func TestNodeMoves(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		for _, name := range []string{c.follower(), c.leader()} {
			c.kill(name)
			dir := filepath.Join(c.dir, name)
			moved := "m" + name[1:]
			if err := os.Rename(dir, filepath.Join(c.dir, moved)); err != nil {
				t.Fatal(err)
			}
			delete(c.members, name)
			c.open(moved, false)
			m := c.members[moved]
			c.propose(c.leader(), &Join{Member: m})
			c.reconcile()
			c.voters(3)
			c.equal()
		}
	})
}

// A leader that is cut off is none after its lease, and the others have another one.
func TestCut(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		leader := c.leader()
		n := c.node(leader)
		begin := time.Now()
		n.Cut()
		if took := time.Since(begin); took != 0 {
			t.Errorf("Cut() took %v", took)
		}
		if n.IsLeader() {
			t.Error("a node that is cut off leads")
		}
		for n.raft.State() == raft.Leader {
			<-n.WatchLeader()
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("its Raft led for %v", took)
		}
		if next := c.leader(); next == leader {
			t.Errorf("%s leads again", next)
		}
		n.Cut()
		if _, err := n.stream.Dial("n1", time.Second); !errors.Is(err, errCut) {
			t.Errorf("Dial() = %v, want %v", err, errCut)
		}
	})
}

// A transfer moves leadership to the server asked for.
func TestTransfer(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.three()
		leader, follower := c.leader(), c.follower()
		if err := c.node(follower).Transfer(t.Context(), ""); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Transfer() on a follower = %v, want %v", err, ErrNotLeader)
		}
		if err := c.node(leader).Transfer(t.Context(), "nobody"); err == nil {
			t.Error("Transfer() to nobody succeeds")
		}
		if err := c.node(leader).Transfer(t.Context(), c.members[follower].RaftID); err != nil {
			t.Fatal(err)
		}
		if got := c.leader(); got != follower {
			t.Errorf("the leader is %s, want %s", got, follower)
		}
	})
}
