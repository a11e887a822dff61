package node

import (
	"context"
	"testing"
	"time"

	"github.com/longship-db/longship/election"
)

// Requests to seal that are late, or absurd, harm nobody, whatever the node is doing; and a promise that
// Raft knows nothing of holds the node up no longer than the next epoch takes to get past it.
func TestSealOutOfTurn(t *testing.T) {
	n := newTestNode(t, "n1")
	n.start()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seal := func(epoch uint64) (uint64, error) {
		a, err := n.node.Seal(ctx, election.SealRequest{Epoch: epoch})
		return a.Promised, err
	}
	for _, epoch := range []uint64{0, 1, 1 << 40} {
		if promised, err := seal(epoch); err == nil {
			t.Errorf("the primary of epoch 1 sealed for %d: it promised %d", epoch, promised)
		}
	}
	n.exec("INSERT INTO kv VALUES ('still', 'here')")

	if promised, err := seal(5); err != nil || promised != 5 {
		t.Fatalf("sealed for 5: promised %d, %v", promised, err)
	}
	// Between the two the coordinator may have named this node for the fifth epoch.
	if promised, err := seal(3); err == nil && promised < 5 {
		t.Errorf("sealed for 3 after 5: promised %d", promised)
	}
	if err := n.out.await(ctx, "epoch 5"); err != nil {
		t.Fatalf("%v: %v", err, n.err)
	}
	n.exec("INSERT INTO kv VALUES ('here', 'again')")
}
