package integration

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy stands before a node under another address, 127.0.0.2, and lets a limited number of bytes of
// what the node sends through.
type proxy struct {
	target   string
	listener net.Listener

	mu      sync.Mutex
	left    int           // bytes that still pass; < 0: all
	reached chan struct{} // closed when none are left
	conns   []net.Conn
}

// newProxy starts a proxy for a node whose --advertise-host is 127.0.0.2. It ends with the test.
func newProxy(t *testing.T, n *node) *proxy {
	t.Helper()
	_, port, _ := net.SplitHostPort(n.address())
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", port))
	if err != nil {
		t.Skipf("a second loopback address: %v", err)
	}
	p := &proxy{target: n.address(), listener: l, left: -1}
	var wg sync.WaitGroup
	wg.Go(func() { p.accept(&wg) })
	t.Cleanup(func() {
		l.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// limit lets n more bytes through, and returns a channel that is closed when they have passed.
func (p *proxy) limit(n int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.reached = n, make(chan struct{})
	return p.reached
}

// open lets everything through. Connections that were stopped are cut.
func (p *proxy) open() {
	p.mu.Lock()
	p.left = -1
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
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
		wg.Go(func() {
			defer server.Close()
			io.Copy(server, client)
		})
		wg.Go(func() {
			defer client.Close()
			p.forward(client, server)
		})
	}
}

// forward passes on what the node sends, as far as the limit allows; the rest is swallowed, so that
// the client neither gets it nor sees an end.
func (p *proxy) forward(client, server net.Conn) {
	b := make([]byte, 32<<10)
	for whole := true; ; {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		if !whole {
			continue // nothing may follow a hole
		}
		passed := p.take(n)
		whole = passed == n
		if _, err := client.Write(b[:passed]); err != nil {
			return
		}
	}
}

// take says how many of n bytes may pass.
func (p *proxy) take(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left < 0 {
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
