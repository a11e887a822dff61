package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
)

// A node that listens but is nobody yet answers whatever other members ask, and does not fall over.
func TestAskedTooEarly(t *testing.T) {
	n, err := New(newTestNode(t, "n1").cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody is there to answer
	for name, ask := range map[string]func() error{
		"seal":       func() error { _, err := n.Seal(ctx, election.SealRequest{}); return err },
		"fetch":      func() error { _, err := n.Fetch(ctx, election.FetchRequest{}); return err },
		"hold":       func() error { _, err := n.Hold(ctx, election.HoldRequest{}); return err },
		"release":    func() error { _, err := n.Release(ctx, election.ReleaseRequest{}); return err },
		"propose":    func() error { _, err := n.Propose(ctx, election.ProposeRequest{}); return err },
		"join":       func() error { _, err := n.Join(ctx, election.JoinRequest{}); return err },
		"switchover": func() error { _, err := n.Switchover(ctx, election.SwitchoverRequest{}); return err },
		"failover":   func() error { _, err := n.Failover(ctx, election.FailoverRequest{}); return err },
		"explain":    func() error { _, err := n.Explain(ctx, election.ExplainRequest{}); return err },
		"remove":     func() error { _, err := n.Remove(ctx, election.RemoveRequest{}); return err },
	} {
		if err := ask(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if h, err := n.Probe(ctx, election.ProbeRequest{}); err != nil || h.InOffice || h.Role != election.RoleJoining {
		t.Errorf("probe: %+v, %v", h, err)
	}
}

// A part that fails while the node looks for a cluster, or copies its data, ends the process, too: one whose Raft
// store has failed would otherwise wait for ever for news that cannot reach it any more.
func TestFailureWhileJoining(t *testing.T) {
	n := newTestNode(t, "n2", freeAddress(t))
	log := &lines{}
	n.cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	n.launch()
	if err := log.await(n.ended, "waiting for a member that can take this node in"); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is broken")
	n.node.fail(broken)
	select {
	case <-n.ended.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the node goes on")
	}
	n.cancel = nil
	if !IsFatal(n.err) || !errors.Is(n.err, broken) {
		t.Errorf("the node ends with %v, want a fatal error: %v", n.err, broken)
	}
	if err := n.node.leaveCluster(t.Context()); err != nil {
		t.Error(err)
	}
}

// A fresh node was taken in, and before it heard of that from Raft a late request of its process before took its place.
// What Raft tells it, if anything, knows nothing of it. It asks again.
func TestJoinedAndReplacedUnheard(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	var cut atomic.Bool
	cut.Store(true)
	n1.cfg.Machine.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == n2.cfg.RaftListen && cut.Load() {
			return nil, errors.New("it is cut off")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	n1.start()
	n2.launch()
	present := awaitMember(t, n1.node, "n2", func(raftlog.Member) bool { return true })
	before := present
	before.ID.Incarnation, before.RaftID = present.ID.Incarnation+1, "the one before"
	_, err := n1.node.raft.Propose(t.Context(), &raftlog.Join{Member: before, Replaces: present.ID})
	mustBeNil(t, err)
	awaitMember(t, n1.node, "n2", func(m raftlog.Member) bool { return m.ID == before.ID })
	cut.Store(false)
	awaitMember(t, n1.node, "n2", func(m raftlog.Member) bool { return m.ID == present.ID })
	mustBeNil(t, n2.out.await(n2.ended, "ready: "))
}

// A fresh node that another process replaces while it takes its copy has promised nobody anything: it asks again, as
// one that is replaced before. One that an administrator removes then stays removed. Either way what it has copied is
// no member's before the cluster has confirmed that it is one. So it is with a backup that a node is started on.
func TestNoMemberWhileCopying(t *testing.T) {
	for _, test := range []struct {
		name              string
		onBackup, removed bool
		left              startup.State // by who is removed
	}{
		{"replaced", false, false, 0},
		{"removed", false, true, startup.Empty},
		{"replaced, on a backup", true, false, 0},
		{"removed, on a backup", true, true, startup.Copied},
	} {
		t.Run(test.name, func(t *testing.T) {
			n1 := newTestNode(t, "n1")
			n1.start()
			n2 := newTestNode(t, "n2", n1.cfg.Listen)
			if test.onBackup {
				n1.exec("INSERT INTO kv VALUES ('a', '1')")
				n1.stop()
				backUp(t, n1, n2.cfg.DataDir)
				n1.start()
			}
			copying, goOn := holdOnceJoined(t, n1, n2)
			n2.launch()
			select {
			case <-copying:
			case <-n2.ended.Done():
				t.Fatal(n2.err)
			}
			present, _ := n1.node.raft.State().Named("n2")
			if test.removed {
				_, err := n1.node.raft.Propose(t.Context(), &raftlog.Leave{ID: present.ID})
				mustBeNil(t, err)
				goOn()
				n2.refused("has been removed from the cluster")
				if state, _, err := n2.node.dir.Open(); state != test.left || err != nil {
					t.Errorf("its directory is in state %v, %v, want %v", state, err, test.left)
				}
				return
			}
			other := present
			other.ID.Incarnation, other.RaftID = present.ID.Incarnation+1, "another"
			_, err := n1.node.raft.Propose(t.Context(), &raftlog.Join{Member: other, Replaces: present.ID})
			mustBeNil(t, err)
			goOn()
			mustBeNil(t, n2.out.await(n2.ended, "ready: "))
			awaitMember(t, n1.node, "n2", func(m raftlog.Member) bool { return m.ID == present.ID })
		})
	}
}

// holdOnceJoined arranges that the first connection to n1 that n2 opens once it is a member, to take its copy, waits
// until goOn is called.
func holdOnceJoined(t *testing.T, n1, n2 *testNode) (copying <-chan struct{}, goOn func()) {
	begun, release := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	n2.cfg.Machine.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		_, joined := n1.node.raft.State().Named("n2")
		if joined && address == n1.cfg.Listen && held.CompareAndSwap(false, true) {
			close(begun)
			<-release
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	goOn = sync.OnceFunc(func() { close(release) })
	t.Cleanup(goOn)
	return begun, goOn
}

// backUp makes a base backup in dir, of a node that stands still.
func backUp(t *testing.T, n *testNode, dir string) {
	mustBeNil(t, os.CopyFS(dir, os.DirFS(n.cfg.DataDir)))
	for _, own := range []string{"node.json", "raft", startup.PIDFile} {
		mustBeNil(t, os.RemoveAll(filepath.Join(dir, own)))
	}
	mustBeNil(t, os.WriteFile(filepath.Join(dir, "backup_label"), nil, 0o600))
	global := filepath.Join(dir, "global")
	control, err := startup.ReadControl(vfs.Default, global)
	mustBeNil(t, err)
	control.ReignStart = 0
	mustBeNil(t, control.Write(vfs.Default, global))
}

// refused waits until a node has ended because the cluster does not want it.
func (n *testNode) refused(why string) {
	n.t.Helper()
	<-n.ended.Done()
	n.cancel = nil
	if n.err == nil || !strings.Contains(n.err.Error(), why) {
		n.t.Errorf("%s ends with %v, want %q", n.cfg.Name, n.err, why)
	}
}

// Who hears of a cluster in which it is no member takes no copy of it.
func TestNoCopyForNoMember(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	n := &Node{raft: n1.node.raft}
	n.id.Store(&startup.Identity{NodeID: 2, Incarnation: 1})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := n.awaitPrimary(over); err == nil {
		t.Errorf("who is no member may copy %s", m.Name)
	}
	m := raftlog.Member{Name: "n2", ID: n.memberID(), RaftID: "r2", Address: "127.0.0.1:1", RaftAddress: "127.0.0.1:1"}
	_, err := n.raft.Propose(t.Context(), &raftlog.Join{Member: m})
	mustBeNil(t, err)
	if m, err := n.awaitPrimary(over); err != nil || m.Name != "n1" {
		t.Errorf("a member may copy %q, %v, want n1", m.Name, err)
	}
}

// awaitMember waits until a node knows the member of that name to be so.
func awaitMember(t *testing.T, n *Node, name string, so func(raftlog.Member) bool) raftlog.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*joinPatience)
	defer cancel()
	for {
		s, changed := n.raft.Watch()
		if m, ok := s.Named(name); ok && so(m) {
			return m
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s is not as it should be: %+v", name, s.Members)
		}
	}
}
