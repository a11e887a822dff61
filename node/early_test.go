package node

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/longship-db/longship/election"
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
