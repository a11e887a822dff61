package election

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// Two reigns over a real Raft: what the keeper proposes is what the state machine takes.
func TestKeeperOverRaft(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	node := raftOfOne(t)
	n1 := raftlog.Member{Name: "n1", ID: id(1), RaftID: node.raftID, Address: "n1:1", RaftAddress: node.address}
	n2 := raftlog.Member{Name: "n2", ID: id(2), RaftID: "two", Address: "n2:1", RaftAddress: "n2:2"}
	node.propose(ctx, &raftlog.Init{SystemID: 1, Member: n1, RunID: 7, Text: "ANY MAJORITY (*)", Timeline: 1})
	first := node.reign(ctx, 1, 7, 0)
	node.propose(ctx, &raftlog.Join{Member: n2})
	first.stream(0x100)
	s := node.await(ctx, func(s *raftlog.State) bool { return s.Rule.K == 1 && s.Joint == nil })
	if m, _ := s.Member(id(2)); !m.Counted || !s.Rule.Lists(id(2)) {
		t.Errorf("n2 streams, and does not count: %+v", s)
	}

	node.propose(ctx, &raftlog.Seal{Epoch: 1, Target: 2, Cause: "test", By: "n1", Time: time.Now()})
	if err := <-first.ended; !errors.Is(err, ErrDeposed) {
		t.Errorf("first reign ended with %v", err)
	}
	at := raftlog.Position{Epoch: 1, LSN: 0x100}
	answers := []raftlog.Answer{
		{ID: id(1), Name: "n1", RunID: 8, Promised: 2, Position: at, Priority: 1},
		{ID: id(2), Name: "n2", RunID: 9, Promised: 2, Position: at},
	}
	node.propose(ctx, &raftlog.Promote{
		Epoch: 1, Target: 2, Answers: answers, Winner: id(1), Position: at, Rule: raftlog.Rule{Text: s.Rule.Text, Resolved: s.Rule.Resolved},
		LeaseWait: time.Hour, Cause: "test", By: "n1", Time: time.Now(),
	})
	second := node.reign(ctx, 2, 8, 0x200)
	second.stream(0x200)
	s = node.await(ctx, func(s *raftlog.State) bool { return s.Phase == raftlog.Steady })
	if s.SteadyEpoch != 2 || s.Rule.K != 1 {
		t.Errorf("after the second epoch opened: %+v", s)
	}
	if err := second.group.Horizon().Wait(ctx, 0x200); err != nil {
		t.Error(err)
	}
}

type testNode struct {
	*raftlog.Node
	t               *testing.T
	raftID, address string
}

func raftOfOne(t *testing.T) testNode {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "raft")
	raftID, _, err := raftlog.LoadID(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := raftlog.Config{
		Dir: dir, ID: raftID, Listener: l, Advertise: l.Addr().String(), Dial: (&net.Dialer{}).DialContext,
		Heartbeat: 100 * time.Millisecond, Election: 100 * time.Millisecond, Lease: 100 * time.Millisecond,
		Logger:  slog.New(slog.DiscardHandler),
		Fatal:   func(err error) { t.Error(err) },
		Forward: func(context.Context, raftlog.Member, []byte) error { return raftlog.ErrNotLeader },
	}
	if err := raftlog.Bootstrap(cfg); err != nil {
		t.Fatal(err)
	}
	n, err := raftlog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return testNode{n, t, raftID, l.Addr().String()}
}

func (n testNode) propose(ctx context.Context, c raftlog.Command) {
	n.t.Helper()
	if _, err := n.Propose(ctx, c); err != nil {
		n.t.Fatalf("%T: %v", c, err)
	}
}

func (n testNode) await(ctx context.Context, is func(*raftlog.State) bool) *raftlog.State {
	n.t.Helper()
	for {
		s, changed := n.Watch()
		if is(s) {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			n.t.Fatalf("it did not come to pass: %+v", s)
		}
	}
}

// A reign is n1's, with n2 as the one that streams.
type reign struct {
	group  *syncrep.Group
	keeper *Keeper
	ended  chan error
	member chan syncrep.ID // has one once n2 streams
}

func (n testNode) reign(ctx context.Context, epoch, runID uint64, first wal.LSN) *reign {
	r := &reign{group: syncrep.NewGroup(), ended: make(chan error, 1), member: make(chan syncrep.ID, 1)}
	r.keeper = NewKeeper(KeeperConfig{
		Raft: n.Node, Group: r.group, Epoch: epoch, RunID: runID, Self: id(1), First: first,
		Text: func() string { return "ANY MAJORITY (*)" },
		Streaming: func() []syncrep.ID {
			select {
			case m := <-r.member:
				r.member <- m
				return []syncrep.ID{m}
			default:
				return nil
			}
		},
		Opened: func() {}, Deposed: func(uint64) {},
	})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { r.ended <- r.keeper.Run(ctx); close(done) }()
	n.t.Cleanup(func() { cancel(); <-done })
	return r
}

func (r *reign) stream(lsn wal.LSN) {
	h := r.group.Join("n2", id(2))
	h.SetState(syncrep.Streaming)
	h.Report(lsn, lsn, lsn)
	r.group.LocalFlush(lsn)
	r.member <- id(2)
	r.keeper.Kick()
}
