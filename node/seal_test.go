package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
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

// Who wants a base copy of a node that is sealed, as happens in a failover, asks again: of that node, if it becomes the
// primary.
func TestBaseCopyOfSealedNode(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, epoch := range []uint64{2, 3} { // first as a standby, then as one that waits for the next primary
		if _, err := n2.node.Seal(ctx, election.SealRequest{Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgconn.Connect(ctx, "postgres://test@"+n2.cfg.Listen+"/test?sslmode=disable&replication=true")
	mustBeNil(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "BASE_BACKUP (CHECKPOINT 'fast')").ReadAll()
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !interrupted(&pgwire.Error{Code: refusal.Code}) {
		t.Errorf("BASE_BACKUP of a sealed node: %v, want that it is asked again later", err)
	}
	if _, err := n2.admin().Exec(ctx, "CHECKPOINT"); err == nil || !strings.Contains(err.Error(), pgwire.CodeCannotConnectNow) {
		t.Errorf("CHECKPOINT there: %v", err)
	}
}

// A node whose disk is full cannot promise, and says so. It goes on: when there is room it can.
func TestSealOnFullDisk(t *testing.T) {
	n := newTestNode(t, "n1")
	n.cfg.AllowFaults = true
	n.start()
	n.exec("INSERT INTO kv VALUES ('still', 'here')")
	admin := n.admin()
	if _, err := admin.Exec(t.Context(), "SELECT longship_inject_fault('full')"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // first as the primary, then as one that is none any more
		_, err := n.node.Seal(t.Context(), election.SealRequest{Epoch: 5})
		if e, ok := errors.AsType[*pgwire.Error](err); !ok || e.Code != pgwire.CodeDiskFull {
			t.Fatalf("Seal() on a full disk = %v, want %s", err, pgwire.CodeDiskFull)
		}
	}
	if got := n.value("SELECT value FROM kv WHERE key = 'still'"); got != "here" {
		t.Errorf("a read finds %q", got)
	}
	if _, err := n.admin().Exec(t.Context(), "SELECT longship_heal_fault()"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := n.out.await(ctx, "epoch 2"); err != nil {
		t.Fatalf("%v: %v", err, n.err)
	}
	n.exec("INSERT INTO kv VALUES ('here', 'again')")
}
