package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/wal"
)

// A testNode is a node of a test's cluster, on a real disk and loopback.
type testNode struct {
	t    *testing.T
	cfg  Config
	node *Node
	out  *lines

	cancel context.CancelFunc
	ended  context.Context // done when the node's Run has returned
	err    error           // what it returned
}

// lines is an output that can be waited for.
type lines struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await returns when the output contains s.
func (l *lines) await(ctx context.Context, s string) error {
	for {
		l.mu.Lock()
		found := strings.Contains(l.text.String(), s)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newTestNode(t *testing.T, name string, join ...string) *testNode {
	t.Helper()
	size := wal.MinSegmentSize
	if len(join) > 0 {
		size = 0
	}
	return &testNode{t: t, cfg: Config{
		DataDir:    t.TempDir(),
		Name:       name,
		Listen:     freeAddress(t),
		RaftListen: freeAddress(t), GossipListen: freeAddress(t),
		FailoverPriority: 1,
		Join:             join,
		SegmentSize:      size,
		Logger:           slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
}

func (n *testNode) start() {
	n.t.Helper()
	n.launch()
	if err := n.out.await(n.ended, "ready: "); err != nil {
		n.t.Fatalf("node %s: %v", n.cfg.Name, n.err)
	}
}

// launch is start without waiting until the node is ready.
func (n *testNode) launch() {
	n.t.Helper()
	n.out = &lines{}
	n.cfg.Out = n.out
	node, err := New(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.node = node
	ctx, cancel := context.WithCancel(context.Background())
	ended, end := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, ended
	go func() {
		defer end()
		n.err = node.Run(ctx)
	}()
	n.t.Cleanup(n.stop)
}

// stop shuts the node down cleanly.
func (n *testNode) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	<-n.ended.Done()
	if n.err != nil {
		n.t.Errorf("node %s: %v", n.cfg.Name, n.err)
	}
}

func (n *testNode) connect() *pgx.Conn {
	n.t.Helper()
	c, err := pgx.Connect(n.t.Context(), fmt.Sprintf("postgres://test@%s/test?sslmode=disable", n.cfg.Listen))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func (n *testNode) exec(sql string, args ...any) {
	n.t.Helper()
	if _, err := n.connect().Exec(n.t.Context(), sql, args...); err != nil {
		n.t.Fatalf("%s: %s: %v", n.cfg.Name, sql, err)
	}
}

func (n *testNode) value(sql string, args ...any) string {
	n.t.Helper()
	var s string
	if err := n.connect().QueryRow(n.t.Context(), sql, args...).Scan(&s); err != nil {
		n.t.Fatalf("%s: %s: %v", n.cfg.Name, sql, err)
	}
	return s
}

func TestWriteSurvivesRestart(t *testing.T) {
	n := newTestNode(t, "n1")
	n.start()
	n.exec("INSERT INTO kv VALUES ('a', '1')")
	n.stop()
	n.start()
	if got := n.value("SELECT value FROM kv WHERE key = 'a'"); got != "1" {
		t.Errorf("after a restart a = %q, want 1", got)
	}
	n.exec("UPDATE kv SET value = '2' WHERE key = 'a'")
	n.stop()
	n.start()
	if got := n.value("SELECT value FROM kv WHERE key = 'a'"); got != "2" {
		t.Errorf("after a second restart a = %q, want 2", got)
	}
}

func TestStandbyFollows(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	n1.exec("INSERT INTO kv VALUES ('before', '1')")
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	n1.exec("INSERT INTO kv VALUES ('after', '2')")
	lsn := n1.value("SELECT pg_current_wal_flush_lsn()::text")
	n2.exec("WAIT FOR LSN '" + lsn + "'")
	for key, want := range map[string]string{"before": "1", "after": "2"} {
		if got := n2.value("SELECT value FROM kv WHERE key = $1", key); got != want {
			t.Errorf("on the standby %s = %q, want %q", key, got, want)
		}
	}
}
