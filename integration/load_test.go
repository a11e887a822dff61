package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A load is clients that insert rows as fast as they can and remember which were acknowledged. Their
// keys begin with the load's name. A client that loses its connection waits for the node to be up
// again; the row it was inserting may or may not be there.
type load struct {
	t    *testing.T
	node *node
	name string

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	acked   []string
	unknown map[string]bool
	failed  int           // errors since the last acknowledgement
	changed chan struct{} // closed at the next acknowledgement
}

func startLoad(n *node, name string, clients int) *load {
	ctx, cancel := testContext(n.t)
	l := &load{t: n.t, node: n, name: name, cancel: cancel, unknown: map[string]bool{}, changed: make(chan struct{})}
	for i := range clients {
		l.wg.Go(func() { l.client(ctx, fmt.Sprintf("%s/%d", name, i)) })
	}
	n.t.Cleanup(l.stop)
	return l
}

// stop ends the load when the statements under way have ended.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// client inserts until ctx ends, in as many sessions as it takes.
func (l *load) client(ctx context.Context, prefix string) {
	for i := 0; ctx.Err() == nil; {
		if err := l.node.awaitUp(ctx); err != nil {
			return
		}
		c, err := pgx.Connect(ctx, l.node.dsn())
		if err != nil {
			l.fail(ctx, err)
			continue
		}
		for ctx.Err() == nil && err == nil {
			i++
			err = l.insert(ctx, c, fmt.Sprintf("%s/%07d", prefix, i))
		}
		if err != nil {
			l.fail(ctx, err)
		}
		c.Close(context.WithoutCancel(ctx))
	}
}

// insert writes one row. It is not interrupted: a test that stops its load wants to know what became
// of every row.
func (l *load) insert(ctx context.Context, c *pgx.Conn, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_, err := c.Exec(ctx, "INSERT INTO kv VALUES ($1, $2)", key, valueOf(key))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.unknown[key] = true
		return err
	}
	l.acked, l.failed = append(l.acked, key), 0
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// valueOf is the value of a key: 4 to 1000 bytes that only this key has.
func valueOf(key string) string {
	n := 0
	for _, c := range key {
		n = (n*31 + int(c)) % 997
	}
	return strings.Repeat(key, 1+n/len(key))[:max(4, n)]
}

// fail notes an error. Too many in a row, from a node that says it is up, are the test's failure.
func (l *load) fail(ctx context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed++; l.failed == 2000 && ctx.Err() == nil {
		l.t.Errorf("load %s: %d errors in a row: %v", l.name, l.failed, err)
	}
}

// await waits for n acknowledgements from now on.
func (l *load) await(n int) {
	l.t.Helper()
	ctx, cancel := testContext(l.t)
	defer cancel()
	for start := -1; ; {
		l.mu.Lock()
		count, changed := len(l.acked), l.changed
		l.mu.Unlock()
		if start < 0 {
			start = count
		}
		if count >= start+n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			l.t.Fatalf("load %s: %d commits acknowledged, want %d more than %d", l.name, count, n, start)
		}
	}
}

// check verifies that a node holds every acknowledged row, and none that nobody wrote.
func (l *load) check(n *node) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := n.rows(l.name+"/", l.name+"0")
	lost := 0
	for _, key := range l.acked {
		r, ok := rows[key]
		switch {
		case !ok:
			lost++
			if lost <= 3 {
				l.t.Errorf("%s: %s was acknowledged and is not there", n.name, key)
			}
		case r.value != valueOf(key):
			l.t.Errorf("%s: %s = %.40q, want %.40q", n.name, key, r.value, valueOf(key))
		}
		delete(rows, key)
	}
	if lost > 0 {
		l.t.Errorf("%s: %d of %d acknowledged commits are lost", n.name, lost, len(l.acked))
	}
	for key := range rows {
		if !l.unknown[key] {
			l.t.Errorf("%s: %s is there and nobody wrote it", n.name, key)
		}
	}
}
