package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// A transport is memberlist's own, which can also be cut: from then on nothing is sent, and nobody
// is connected to.
type transport struct {
	*memberlist.NetTransport
	alive context.Context // ends when the transport is cut
}

// listen opens the TCP and the UDP port of addr. With port 0 the system chooses the number for TCP,
// and it may be taken for UDP: then another one is tried.
func listen(alive context.Context, addr *net.TCPAddr, logger *log.Logger) (*transport, error) {
	const tries = 10
	for try := 1; ; try++ {
		t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{addr.IP.String()}, BindPort: addr.Port, Logger: logger})
		switch {
		case err == nil:
			return &transport{NetTransport: t, alive: alive}, nil
		case addr.Port != 0 || try == tries:
			return nil, fmt.Errorf("gossip: %w", err)
		}
	}
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(t.alive, "tcp", a.Addr)
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
