package node

import (
	"context"
	"testing"

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
