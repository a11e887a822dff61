package raftlog

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// A onceListener is closed by who closes it first: as with net's, who comes second is told so, and does not wait.
type onceListener struct {
	net.Listener
	calls   atomic.Int32
	closing chan struct{}
	closed  atomic.Bool
}

func (l *onceListener) Close() error {
	if l.calls.Add(1) > 1 {
		return net.ErrClosed
	}
	close(l.closing)
	l.closed.Store(true)
	return nil
}

// When a stream that was cut has been closed its port is free: the node may be started again at once.
func TestCloseFreesPort(t *testing.T) {
	l := &onceListener{closing: make(chan struct{})}
	s := newStream(l, "n1", nil)
	s.cut()
	<-l.closing
	// It has what the first has been told, so it has waited for that.
	if err := s.Close(); err != nil || !l.closed.Load() {
		t.Errorf("Close() = %v, closed %v", err, l.closed.Load())
	}
}

// The same over real sockets: two nodes, one of them cut off.
func TestLoopback(t *testing.T) {
	nodes := make([]*Node, 2)
	members := make([]Member, 2)
	for i := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "raft")
		id, _, err := LoadID(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		var d net.Dialer
		cfg := Config{
			Dir: dir, ID: id, Listener: l, Advertise: l.Addr().String(), Dial: d.DialContext, Logger: testLogger(t),
			Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, Lease: 100 * time.Millisecond,
			Fatal: func(err error) { t.Error(err) },
		}
		if i == 0 {
			if err := Bootstrap(cfg); err != nil {
				t.Fatal(err)
			}
		}
		if nodes[i], err = Open(cfg); err != nil {
			t.Fatal(err)
		}
		defer nodes[i].Close()
		members[i] = initCommand().Member
		members[i].Name, members[i].ID.Node = "n"+string('1'+rune(i)), uint64(i+1)
		members[i].RaftID, members[i].RaftAddress = id, l.Addr().String()
	}
	n := nodes[0]
	begin := initCommand()
	begin.Member = members[0]
	for _, c := range []Command{begin, &Join{Member: members[1]}, &Ready{ID: members[1].ID, RaftID: members[1].RaftID}} {
		if _, err := n.Propose(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := n.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for {
		s, newer := nodes[1].Watch()
		if len(s.Members) == 2 && s.Members[1].Voter {
			break
		}
		<-newer
	}
	n.Cut()
	for {
		moved := n.WatchLeader()
		if !n.IsLeader() {
			break
		}
		<-moved
	}
	if err := n.ProposeEncoded(t.Context(), nil); err == nil {
		t.Error("nothing is proposed, without an error")
	}
	for _, n := range nodes {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("the second Close() = %v", err)
		}
	}
	if _, err := n.Propose(t.Context(), &Leave{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Propose() on a closed node = %v, want %v", err, ErrClosed)
	}
}

// hashicorp/raft is quiet unless something is wrong here.
func TestRaftLogger(t *testing.T) {
	var b bytes.Buffer
	logger := &raftLogger{to: slog.New(slog.NewTextHandler(&b, nil))}
	logger.Info("entering follower state")
	logger.Warn("heartbeat timeout reached")
	logger.Error("failed to heartbeat to", "peer", "n2", "error", "refused")
	(&raftLogger{to: logger.to, quiet: true}).Error("failed to accept connection", "error", "closed")
	if b.Len() > 0 {
		t.Errorf("logged %s", &b)
	}
	logger.With("node", "n1").Named("snapshot").Error("failed to take snapshot", "error", hclog.Fmt("%d bytes", 7))
	if got := b.String(); !strings.Contains(got, `level=WARN msg="raft: failed to take snapshot" node=n1 error="7 bytes"`) {
		t.Errorf("logged %s", got)
	}
}
