package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A load is clients that insert rows as fast as they can and remember which were acknowledged. Their
// keys begin with the load's name. They know the addresses of all nodes and look for the one that takes
// writes, as any client would; when they lose their connection, the row that was being inserted may or
// may not be there.
type load struct {
	t    *testing.T
	dsn  string
	name string

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	acked   []string
	unknown map[string]bool
	last    time.Time     // of an acknowledgement
	gap     time.Duration // the longest time without one
	err     error         // the last one
	changed chan struct{} // closed at the next acknowledgement
}

func startLoad(c *cluster, name string, clients int) *load {
	ctx, cancel := testContext(c.t)
	l := &load{t: c.t, dsn: c.dsn(), name: name, cancel: cancel, unknown: map[string]bool{}, changed: make(chan struct{})}
	for i := range clients {
		l.wg.Go(func() { l.client(ctx, fmt.Sprintf("%s/%d", name, i)) })
	}
	c.t.Cleanup(l.stop)
	return l
}

// stop ends the load when the statements under way have ended.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// client inserts until ctx ends, in as many sessions as it takes.
func (l *load) client(ctx context.Context, prefix string) {
	for i := 0; ctx.Err() == nil; moment(ctx) {
		c, err := pgx.Connect(ctx, l.dsn)
		if err != nil {
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
			continue
		}
		for ctx.Err() == nil && err == nil {
			i++
			err = l.insert(ctx, c, fmt.Sprintf("%s/%07d", prefix, i))
		}
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		c.Close(closing)
		cancel()
	}
}

// insert writes one row. It is not interrupted: a test that stops its load wants to know what became
// of every row, and a server that says nothing at all is at fault.
func (l *load) insert(ctx context.Context, c *pgx.Conn, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_, err := c.Exec(ctx, "INSERT INTO kv VALUES ($1, $2)", key, valueOf(key))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.err = err
		if !notCommitted(err) {
			l.unknown[key] = true
		}
		if ctx.Err() != nil || !mayFailWith(err) {
			l.t.Errorf("load %s: %s: %v", l.name, key, err)
		}
		return err
	}
	if now := time.Now(); l.last.IsZero() {
		l.last = now
	} else {
		l.gap, l.last = max(l.gap, now.Sub(l.last)), now
	}
	l.acked = append(l.acked, key)
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// mayFailWith reports whether err is one that a client must expect while nodes come and go: the
// connection is lost, the node shuts down or is not the primary any more, the outcome is unknown, or
// nothing was done.
func mayFailWith(err error) bool {
	switch sqlState(err) {
	case "", "57P01", "08007":
		return true
	}
	return notCommitted(err)
}

// notCommitted reports whether err says that nothing was written: by a standby, or by a primary that
// another node takes over from.
func notCommitted(err error) bool {
	switch sqlState(err) {
	case "25006", "40001", "57P02":
		return true
	}
	return false
}

// valueOf is the value of a key: 4 to 1000 bytes that only this key has.
func valueOf(key string) string {
	n := 0
	for _, c := range key {
		n = (n*31 + int(c)) % 997
	}
	return strings.Repeat(key, 1+n/len(key))[:max(4, n)]
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
			l.mu.Lock()
			err := l.err
			l.mu.Unlock()
			l.t.Fatalf("load %s: %d commits acknowledged, want %d more than %d; the last error was %v", l.name, count, n, start, err)
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
