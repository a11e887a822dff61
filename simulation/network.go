package simulation

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What the network does when nothing is wrong with it.
const (
	leastDelay   = 50 * time.Microsecond // of a segment on its way
	mostDelay    = 500 * time.Microsecond
	retransmit   = 500 * time.Millisecond // at most, for what was lost in a cut to be sent again
	synRetry     = time.Second            // between two attempts of a connection to be made
	synAttempts  = 20                     // before it is given up
	listenQueue  = 128                    // connections that wait to be accepted
	normalBuffer = 64 << 10               // bytes that a connection holds in each direction
	mostSegment  = 16 << 10               // bytes that travel together
	lateReset    = 2 * time.Second        // at most, for the other end to hear of a reset
)

// A Network connects hosts in memory, by the clock of the bubble that it is used in. Hosts are named by their
// IP addresses. Each connection keeps the order of what it carries; between connections there is none.
//
// It knows what TCP users see: a connection that is cut looks idle, until it is reset; what was written may have
// arrived or not; a host that has lost power says nothing, and resets the connections that it does not know
// any more once it is back.
type Network struct {
	mu     sync.Mutex
	rng    *rand.Rand
	hosts  map[string]*Host
	on     map[string]bool // machines that have power, by IP address
	routes map[[2]string]*route
	links  map[*link]struct{}
	port   uint16 // that the next connection is made from
}

// A route is one direction between two hosts. Network.mu guards it, but for reading cut.
type route struct {
	cut    atomic.Bool
	delay  time.Duration // on top of the usual one
	buffer int           // of connections that are made while it is set, in bytes; 0: normalBuffer
}

// NewNetwork makes a network whose delays a random source decides on.
func NewNetwork(rng *rand.Rand) *Network {
	return &Network{
		rng: rng, hosts: map[string]*Host{}, on: map[string]bool{}, routes: map[[2]string]*route{},
		links: map[*link]struct{}{}, port: 20000,
	}
}

// A Host is a machine from when it is switched on to when it is switched off, or a process that has all of a
// machine to itself. Whoever still uses it afterwards gets errors.
type Host struct {
	network   *Network
	ip        string
	listeners map[netip.AddrPort]*listener
	gone      chan struct{} // closed when it is
}

// Boot makes a host, in the place of the one with that IP address, if there is one: connections that only the
// others still believe in are reset.
func (n *Network) Boot(ip string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &Host{network: n, ip: ip, listeners: map[netip.AddrPort]*listener{}, gone: make(chan struct{})}
	n.hosts[ip], n.on[ip] = h, true
	for l := range n.links {
		for _, end := range l.ends {
			if end.host.ip == ip && end.silent {
				end.peer().reset(n.after(retransmit))
				delete(n.links, l)
			}
		}
	}
	return h
}

// after is a random time up to d. The caller holds mu.
func (n *Network) after(d time.Duration) time.Duration {
	return time.Duration(n.rng.Int64N(int64(d) + 1))
}

// route is the way from one host to another. The caller holds mu.
func (n *Network) route(from, to string) *route {
	key := [2]string{from, to}
	p := n.routes[key]
	if p == nil {
		p = &route{}
		n.routes[key] = p
	}
	return p
}

// Kill ends the host as the end of its process does: the others are told, and new connections are refused.
func (h *Host) Kill() { h.end(false) }

// PowerOff ends the host silently: what it had sent may still arrive.
func (h *Host) PowerOff() { h.end(true) }

func (h *Host) end(silently bool) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	close(h.gone)
	if n.hosts[h.ip] == h {
		delete(n.hosts, h.ip)
		n.on[h.ip] = !silently
	}
	for _, l := range h.listeners {
		l.shut()
	}
	for l := range n.links {
		for _, end := range l.ends {
			if end.host == h {
				end.abandon(silently)
			}
		}
	}
}

// Cut lets nothing through from one host to another. Connections stay, and look idle.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.route(from, to).cut.Store(true)
}

// Heal ends all cuts and delays. What waited in them is sent again.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.routes {
		p.delay, p.buffer = 0, 0
	}
	for key, p := range n.routes {
		if p.cut.Swap(false) {
			n.resend(key)
		}
	}
}

// Mend ends the cuts between two hosts.
func (n *Network) Mend(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range [][2]string{{a, b}, {b, a}} {
		if n.route(key[0], key[1]).cut.Swap(false) {
			n.resend(key)
		}
	}
}

// resend has what is under way on a path arrive later. The caller holds mu.
func (n *Network) resend(key [2]string) {
	for l := range n.links {
		for _, end := range l.ends {
			if end.peer().host.ip == key[0] && end.host.ip == key[1] {
				end.in.delay(n.after(retransmit))
			}
		}
	}
}

// Slow adds to the delay from one host to another.
func (n *Network) Slow(from, to string, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.route(from, to).delay = d
}

// Narrow has connections between two hosts that are made from now on hold so many bytes in each direction.
func (n *Network) Narrow(a, b string, bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.route(a, b).buffer, n.route(b, a).buffer = bytes, bytes
}

// Reset resets some connections between two hosts: one end knows at once, the other one when all that was under
// way to it has arrived, up to two seconds later, when there may be a new connection. It returns how many.
func (n *Network) Reset(a, b string, percent int) (reset int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		x, y := l.ends[0], l.ends[1]
		if x.host.ip == b {
			x, y = y, x
		}
		if x.host.ip != a || y.host.ip != b || n.rng.IntN(100) >= percent {
			continue
		}
		if n.rng.IntN(2) == 0 {
			x, y = y, x
		}
		x.reset(0)
		y.reset(n.after(lateReset))
		delete(n.links, l)
		reset++
	}
	return reset
}

// Reachable reports whether a host is on, and datagrams get there.
func (n *Network) Reachable(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[from] != nil && n.hosts[to] != nil && !n.route(from, to).cut.Load()
}

// Listen is net.Listen on this host. The network is ignored: there is one.
func (h *Host) Listen(_, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || at.Addr().String() != h.ip || at.Port() == 0 {
		return nil, fmt.Errorf("listen on %s: want an address of %s, with a port", address, h.ip)
	}
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.isGone() || h.listeners[at] != nil {
		return nil, opError("listen", at, syscall.EADDRINUSE)
	}
	l := &listener{host: h, at: at, queue: make(chan *conn, listenQueue), closed: make(chan struct{})}
	h.listeners[at] = l
	return l, nil
}

func (h *Host) isGone() bool {
	select {
	case <-h.gone:
		return true
	default:
		return false
	}
}

// Dial is net.Dialer.DialContext from this host.
func (h *Host) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	for range synAttempts {
		c, err := h.connect(to)
		switch {
		case err != nil:
			return nil, opError("dial", to, err)
		case c != nil:
			return c.unless(h.await(ctx, to, 2*c.latency()))
		}
		if err := h.await(ctx, to, synRetry); err != nil {
			return nil, err
		}
	}
	return nil, opError("dial", to, syscall.ETIMEDOUT)
}

// await waits, unless ctx ends or the host does.
func (h *Host) await(ctx context.Context, to netip.AddrPort, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-h.gone:
		return opError("dial", to, syscall.ENETDOWN)
	case <-ctx.Done():
		if ctx.Err() == context.DeadlineExceeded {
			return opError("dial", to, os.ErrDeadlineExceeded)
		}
		return opError("dial", to, ctx.Err())
	}
}

// connect makes a connection. Nil without an error: there is no answer.
func (h *Host) connect(to netip.AddrPort) (*conn, error) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	ip := to.Addr().String()
	there := n.hosts[ip]
	if h.isGone() {
		return nil, syscall.ENETDOWN
	}
	if !n.on[ip] || n.route(h.ip, ip).cut.Load() || n.route(ip, h.ip).cut.Load() {
		return nil, nil
	}
	if there == nil {
		return nil, syscall.ECONNREFUSED
	}
	l := there.listeners[to]
	if l == nil || l.isShut() {
		return nil, syscall.ECONNREFUSED
	}
	n.port++
	from := netip.AddrPortFrom(netip.MustParseAddr(h.ip), max(n.port, 1024))
	ends := newLink(h, there, from, to)
	select {
	case l.queue <- ends[1]:
	default:
		return nil, nil
	}
	n.links[ends[0].link] = struct{}{}
	return ends[0], nil
}

// A listener is a net.Listener. Network.mu is held to close it.
type listener struct {
	host   *Host
	at     netip.AddrPort
	queue  chan *conn
	closed chan struct{}
}

func (l *listener) shut() {
	if !l.isShut() {
		close(l.closed)
		delete(l.host.listeners, l.at)
	}
}

func (l *listener) isShut() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, opError("accept", l.at, net.ErrClosed)
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, opError("accept", l.at, net.ErrClosed)
	}
}

// Close also resets the connections that nobody has accepted.
func (l *listener) Close() error {
	l.host.network.mu.Lock()
	l.shut()
	l.host.network.mu.Unlock()
	for {
		select {
		case c := <-l.queue:
			c.Close()
		default:
			return nil
		}
	}
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

func opError(op string, at netip.AddrPort, err error) error {
	if no, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, no)
	}
	return &net.OpError{Op: op, Net: "tcp", Addr: net.TCPAddrFromAddrPort(at), Err: err}
}

// Hosts are the IP addresses of the hosts that are on.
func (n *Network) Hosts() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.hosts))
}
