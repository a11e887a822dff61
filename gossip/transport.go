package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// A transport is memberlist's own, which can also be cut: from then on nothing is sent, and nobody
// is connected to.
type transport struct {
	*memberlist.NetTransport
	alive   context.Context // ends when the transport is cut
	dial    DialFunc
	packets Packets // nil: nobody stands in the way

	// With packets.
	received chan *memberlist.Packet
	stop     chan struct{}
	stopping sync.Once
	stopped  sync.WaitGroup
}

// DialFunc makes connections, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Packets decide about packets to and from an address, host:port: they call what they are given now, later,
// or never.
type Packets interface {
	Send(addr string, send func())
	Receive(addr string, receive func())
}

// listen opens the TCP and the UDP port of addr. With port 0 the system chooses the number for TCP,
// and it may be taken for UDP: then another one is tried.
func listen(alive context.Context, addr *net.TCPAddr, cfg *Config, logger *log.Logger) (*transport, error) {
	const tries = 10
	for try := 1; ; try++ {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{addr.IP.String()}, BindPort: addr.Port, Logger: logger})
		switch {
		case err == nil:
			return newTransport(alive, t, cfg), nil
		case addr.Port != 0 || try == tries:
			return nil, fmt.Errorf("gossip: %w", err)
		}
	}
}

func newTransport(alive context.Context, n *memberlist.NetTransport, cfg *Config) *transport {
	t := &transport{NetTransport: n, alive: alive, dial: cfg.Dial, packets: cfg.Packets}
	if t.dial == nil {
		t.dial = new(net.Dialer).DialContext
	}
	if t.packets != nil {
		t.received, t.stop = make(chan *memberlist.Packet), make(chan struct{})
		t.stopped.Go(t.receive)
	}
	return t
}

// receive hands on what the packets let through, until the transport is shut down: its own goroutines wait
// for somebody to take what they have read.
func (t *transport) receive() {
	for {
		select {
		case p := <-t.NetTransport.PacketCh():
			t.packets.Receive(p.From.String(), func() {
				select {
				case t.received <- p:
				case <-t.alive.Done():
				}
			})
		case <-t.stop:
			return
		}
	}
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet {
	if t.packets != nil {
		return t.received
	}
	return t.NetTransport.PacketCh()
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.packets == nil {
		return t.NetTransport.WriteToAddress(b, a)
	}
	kept := bytes.Clone(b)
	t.packets.Send(a.Addr, func() {
		if t.alive.Err() == nil {
			_, _ = t.NetTransport.WriteToAddress(kept, a) // a packet may be lost
		}
	})
	return time.Now(), nil
}

// Shutdown implements memberlist.Transport. It may be called more than once.
func (t *transport) Shutdown() error {
	err := t.NetTransport.Shutdown()
	if t.packets != nil {
		t.stopping.Do(func() { close(t.stop) })
		t.stopped.Wait()
	}
	return err
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.alive, timeout)
	defer cancel()
	conn, err := t.dial(ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{conn, context.AfterFunc(t.alive, func() { conn.Close() })}, nil
}

// A cutConn is closed when the transport is cut.
type cutConn struct {
	net.Conn
	stop func() bool
}

func (c *cutConn) Close() error {
	c.stop()
	return c.Conn.Close()
}
