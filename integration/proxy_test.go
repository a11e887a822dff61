package integration

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
)

// A proxy stands before a node, at the address that the node advertises, and lets a limited number of
// bytes through of the streams that the node sends: of the log, and of base copies. What the members ask
// each other besides gets through, so that a primary whose streams stop is still seen to be there.
type proxy struct {
	target   string
	listener net.Listener

	mu      sync.Mutex
	left    int           // bytes of streams that still pass; < 0: all
	reached chan struct{} // closed when none are left
	streams []net.Conn
	conns   []net.Conn // all of them, streams included
}

// newProxy starts a proxy for a node that has not been started yet. It ends with the test.
func newProxy(t *testing.T, n *node) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: n.address(), listener: l, left: -1}
	n.flags = append(n.flags, "--advertise-host="+l.Addr().String())
	var wg sync.WaitGroup
	wg.Go(func() { p.accept(&wg) })
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		closeAll(p.conns)
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

// limit lets n more bytes of streams through, and returns a channel that is closed when they have passed.
func (p *proxy) limit(n int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.reached = n, make(chan struct{})
	if n == 0 {
		close(p.reached)
	}
	return p.reached
}

// open lets everything through again, and cuts the streams, some of which may have been stopped.
func (p *proxy) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = -1
	closeAll(p.streams)
	p.streams = nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

func (p *proxy) accept(wg *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		c := &proxied{proxy: p, client: client, server: server}
		wg.Go(func() {
			defer server.Close()
			c.ask()
		})
		wg.Go(func() {
			defer client.Close()
			c.answer()
		})
	}
}

// proxied is one connection through a proxy.
type proxied struct {
	proxy          *proxy
	client, server net.Conn
	stream         bool // it carries a stream; guarded by the proxy's mu
}

// ask passes on what the client sends, and notes when it asks for a stream.
func (c *proxied) ask() {
	b := make([]byte, 32<<10)
	for {
		n, err := c.client.Read(b)
		if bytes.Contains(b[:n], []byte("START_REPLICATION")) || bytes.Contains(b[:n], []byte("BASE_BACKUP")) {
			c.proxy.mu.Lock()
			c.stream = true
			c.proxy.streams = append(c.proxy.streams, c.client, c.server)
			c.proxy.mu.Unlock()
		}
		if err != nil {
			return
		}
		if _, err := c.server.Write(b[:n]); err != nil {
			return
		}
	}
}

// answer passes on what the node sends, as far as the limit allows; the rest is swallowed, so that the
// client neither gets it nor sees an end.
func (c *proxied) answer() {
	b := make([]byte, 32<<10)
	for whole := true; ; {
		n, err := c.server.Read(b)
		if err != nil {
			return
		}
		if !whole {
			continue // nothing may follow a hole
		}
		passed := c.take(n)
		whole = passed == n
		if _, err := c.client.Write(b[:passed]); err != nil {
			return
		}
	}
}

// take says how many of n bytes may pass.
func (c *proxied) take(n int) int {
	p := c.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left < 0 || !c.stream {
		return n
	}
	n = min(n, p.left)
	if p.left -= n; p.left == 0 {
		select {
		case <-p.reached:
		default:
			close(p.reached)
		}
	}
	return n
}
