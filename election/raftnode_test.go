package election

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// lone is the only process that can be reached: it was started again since it was primary.
type lone struct {
	Peers
	address string
	runID   uint64

	mu       sync.Mutex // guards what follows
	promised uint64
	reign    uint64
}

func (l *lone) there(address string) error {
	if address != l.address {
		return &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	return nil
}

func (l *lone) Probe(_ context.Context, address string, _ ProbeRequest) (Health, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Health{ID: id(1), Name: "n1", RunID: l.runID, Epoch: l.reign, InOffice: l.reign != 0, Promised: l.promised}, l.there(address)
}

func (l *lone) Seal(_ context.Context, address string, r SealRequest) (raftlog.Answer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promised = r.Epoch
	return raftlog.Answer{ID: id(1), Name: "n1", RunID: l.runID, Promised: r.Epoch, Position: raftlog.Position{Epoch: 1, LSN: 0x5000}}, l.there(address)
}

func openRaft(t *testing.T) *raftlog.Node {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "raft")
	raftID, _, err := raftlog.LoadID(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := raftlog.Config{
		Dir: dir, ID: raftID, Listener: listener, Advertise: listener.Addr().String(), Dial: new(net.Dialer).DialContext,
		Heartbeat: 100 * time.Millisecond, Election: 100 * time.Millisecond, Lease: 50 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { panic(err) },
	}
	if err := raftlog.Bootstrap(cfg); err != nil {
		t.Fatal(err)
	}
	node, err := raftlog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	m := raftlog.Member{Name: "n1", ID: id(1), RaftID: raftID, Address: "n1:1", RaftAddress: cfg.Advertise, Priority: 100}
	if _, err := node.Propose(t.Context(), &raftlog.Init{
		SystemID: 77, Member: m, RunID: 1, Text: majority, Timeline: 1, Start: 0x1000, Time: time.Now(),
	}); err != nil {
		t.Fatal(err)
	}
	return node
}

// With the real Raft: a primary that was started again is named anew, a member comes and goes.
func TestRealRaft(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	node := openRaft(t)
	peer := &lone{address: "n1:1", runID: 2}
	c := NewCoordinator(CoordinatorConfig{Self: func() syncrep.ID { return id(1) }, Name: "n1", Raft: node, Peers: peer})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { c.Run(ctx) })

	await := func(what string, so func(s *raftlog.State) bool) *raftlog.State {
		t.Helper()
		for {
			s, changed := node.Watch()
			if so(s) {
				return s
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s: epoch %d is %s: %+v", what, s.Epoch, s.Phase, c.Report())
			case <-changed:
			}
		}
	}
	s := await("promotion", func(s *raftlog.State) bool { return s.Phase == raftlog.Opening })
	if s.Epoch != 2 || s.Primary.RunID != 2 || s.Primary.Position.LSN != 0x5000 || s.History[1].DecidedBy != "n1" {
		t.Errorf("%+v", s)
	}
	peer.mu.Lock()
	peer.reign = 2
	peer.mu.Unlock()
	if _, err := node.Propose(ctx, &raftlog.SetSteady{Epoch: 2, RunID: 2, Version: s.Opening.Version}); err != nil {
		t.Fatal(err)
	}

	n2 := raftlog.Member{Name: "n2", ID: id(2), RaftID: "elsewhere", Address: "n2:1", RaftAddress: "127.0.0.1:1", Priority: 100}
	joined, err := c.Join(ctx, JoinRequest{Member: n2, RunID: 9})
	if err != nil || joined.Member.Counted || joined.Primary != "n1" || len(joined.Members) != 2 {
		t.Fatalf("%+v, %v", joined, err)
	}
	replaced := n2
	replaced.ID, replaced.RaftID = id(3), "elsewhere, too"
	if _, err := c.Join(ctx, JoinRequest{Member: replaced, RunID: 10}); err != nil {
		t.Fatal(err)
	}
	if removed, err := c.Remove(ctx, RemoveRequest{Name: "n2"}); err != nil || !removed.Gone {
		t.Errorf("%+v, %v", removed, err)
	}
	if s := node.State(); len(s.Members) != 1 || s.Phase != raftlog.Steady || s.Epoch != 2 {
		t.Errorf("%+v", s)
	}
}
